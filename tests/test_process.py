"""The process around the command line: Ctrl-C whenever it comes, what libraries write past Python, what a terminal would obey."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.engines import open_network
from edge_tse.errors import EdgeTseError
from edge_tse.quiet import mute, quietly
from tests.command import Run
from tests.speech import utterance

ROOT = Path(__file__).parents[1]


def _interrupted_after(seconds: float, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "edge_tse", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        time.sleep(seconds)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
        return running.returncode, told


class TestInterrupt:
    @pytest.mark.slow
    @pytest.mark.parametrize("after_s", np.linspace(0.15, 1.5, 16).tolist())
    def test_at_any_moment_of_a_start(self, after_s: float) -> None:
        code, told = _interrupted_after(after_s, "doctor")
        # Python ends some ways by the signal itself; before Python has started, nobody can write a line.
        assert code in (0, 130, -signal.SIGINT), told
        assert "edge_tse/cli" not in told

    @pytest.mark.parametrize("raised", [ImportError("numpy failed"), EdgeTseError("no link")])
    def test_what_came_of_it_is_no_failure_of_its_own(
        self, raised: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def imported(name: str) -> None:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                raise raised from None

        monkeypatch.setattr("edge_tse.cli.import_module", imported)
        assert main(["doctor"]) == 130
        assert capsys.readouterr().err == "edge-tse: interrupted\n"

    def test_a_failure_of_ours_still_shows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def imported(name: str) -> None:
            raise ImportError("ours")

        monkeypatch.setattr("edge_tse.cli.import_module", imported)
        with pytest.raises(ImportError, match="ours"):
            main(["doctor"])

    def test_one_that_fell_into_a_destructor_is_pressed_again(self) -> None:
        code = (
            "import signal, edge_tse.cli, edge_tse.__main__ as m\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # what runs in the background is born deaf to it
            "class Falls:\n    def __del__(self): raise KeyboardInterrupt\n"
            "def main():\n    Falls()\n    import time; time.sleep(20); return 0\n"
            "edge_tse.cli.main = main\nm.run()\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=15, check=False)
        assert (done.returncode in (130, -signal.SIGINT), done.stderr) == (True, "edge-tse: interrupted\n")


class TestPastPython:
    def test_a_decoder_that_talks_leaves_json_alone(self, run: Run, tmp_path: Path) -> None:
        """libmpg123 has two dozen lines to say about sound without a header that it takes for MPEG."""
        noise = np.random.default_rng(0)
        raw = b"\xff\xfd\x10\x04" + (3000 * noise.normal(size=60000)).astype("<i2").tobytes()
        (tmp_path / "take.mp3").write_bytes(raw)
        done = run("enroll", tmp_path / "take.mp3", "-o", tmp_path / "v", "--json")
        assert done.complaint.startswith(f"edge-tse: {tmp_path / 'take.mp3'} ")

    def test_muted_and_quietly(self, capfd: pytest.CaptureFixture[str]) -> None:
        with mute():
            os.write(1, b"to stdout\n")
            os.write(2, b"to stderr\n")
        with quietly():
            os.write(1, b"kept\n")
            os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nremark\n")
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("kept\n", "remark\n")

    def test_litert_does_not_greet_who_opens_it_from_python(self, capfd: pytest.CaptureFixture[str]) -> None:
        pytest.importorskip("ai_edge_litert", reason="needs LiteRT")
        open_network(Artifact.shipped("nano"), "litert")
        captured = capfd.readouterr()
        assert (captured.out, captured.err) == ("", "")

    def test_names_do_not_work_on_a_terminal(self, run: Run, tmp_path: Path) -> None:
        complaint = run("extract", tmp_path / "a\x1b[2Jb.wav", "--voice", "v", "-o", tmp_path / "o.wav").complaint
        assert "\x1b" not in complaint
        assert "a\\x1b[2Jb.wav" in complaint

    @pytest.mark.parametrize(
        "verb",
        [
            ["extract", "NAME", "--voice", "v", "-o", "o.wav"],
            ["enroll", "NAME", "-o", "v"],
            ["enroll", "--list", "NAME"],
            ["voice", "NAME", "--delete"],
            ["profile", "NAME"],
            ["verify", "NAME"],
            ["replay", "NAME"],
        ],
    )
    def test_a_name_that_no_file_can_have(self, run: Run, verb: list[str]) -> None:
        assert "File name too long; give another" in run(*("n" * 300 if word == "NAME" else word for word in verb)).complaint

    def test_a_folder_that_may_not_be_entered(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stat = os.stat

        def refused(path: str | Path, **options: bool) -> os.stat_result:
            if Path(path).parent.name == "hers":
                raise PermissionError(13, "Permission denied", str(path))
            return stat(path, **options)

        monkeypatch.setattr(os, "stat", refused)  # for root, who runs the tests of some, no folder is closed
        assert "hers/a.wav cannot be read: Permission denied" in run("enroll", tmp_path / "hers/a.wav", "-o", "v").complaint
        assert "hers/m cannot be reached: Permission denied" in run("verify", tmp_path / "hers/m").complaint
        (tmp_path / "r.json").touch()
        assert "trials" in run("evaluate", "--trials", tmp_path / "hers/t.csv", "-o", tmp_path / "r.json").complaint

    def test_a_line_stays_one(self) -> None:
        line = str(EdgeTseError("begin " + "x" * 50_000 + " end"))
        assert len(line) < 1100
        assert line.startswith("begin x")
        assert line.endswith("x end")


class TestWhereNothingCanBeTold:
    def told(self, arguments: list[object], shell: str = "", **environment: str) -> tuple[int, str]:
        line = [sys.executable, "-m", "edge_tse", *map(str, arguments)]
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *line]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, errors="replace", check=False
        )
        return done.returncode, done.stderr if shell else done.stdout

    @pytest.mark.parametrize("arguments", [["targets"], ["targets", "--json"], ["--help"], ["train", "--help"]])
    def test_a_full_disk_behind_standard_output(self, arguments: list[object]) -> None:
        code, err = self.told(arguments, "> /dev/full")
        assert (code, err) == (
            2,
            "edge-tse: standard output could not be written: No space left on device; give it another place\n",
        )

    def test_a_closed_standard_output(self) -> None:
        assert self.told(["targets", "--json"], ">&-") == (0, "")

    def test_a_name_that_the_terminal_has_no_letters_for(self, tmp_path: Path) -> None:
        name = os.fsencode(tmp_path) + b"/\xff\xc5\x82.wav"
        soundfile.write(name, utterance(3, 0, 3.0), 16000)
        code, out = self.told(["enroll", os.fsdecode(name), "-o", tmp_path / "a.voice"], PYTHONIOENCODING="latin-1")
        assert (code, "\\udcff\\u0142.wav" in out) == (0, True), out


class TestSoundThatIsNotWhatItSays:
    @pytest.fixture
    def wav(self, tmp_path: Path) -> Path:
        samples = (0.3 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", samples, 16000)
        return tmp_path / "a.wav"

    def complaint(self, run: Run, path: Path) -> str:
        return run("extract", path, "--voice", "none", "-o", path.with_name("o.wav")).complaint

    @pytest.mark.parametrize("cut", [45, 60, 100, 1000, 16001, 32042])
    def test_a_wav_cut_short_anywhere(self, run: Run, wav: Path, cut: int) -> None:
        wav.write_bytes(wav.read_bytes()[:cut])
        complaint = self.complaint(run, wav)
        assert f"states 32000 bytes of sound and {cut - 44} are there" in complaint
        assert "copy it again" in complaint

    def test_a_recorder_that_lost_power(self, run: Run, wav: Path) -> None:
        content = bytearray(wav.read_bytes())
        content[4:8], content[40:44] = (36).to_bytes(4, "little"), bytes(4)
        wav.write_bytes(content)
        complaint = self.complaint(run, wav)
        assert "states 0 bytes of sound and 32000 are there" in complaint
        assert "sox --ignore-length a.wav repaired.wav" in complaint

    def test_a_stream_that_did_not_know_its_length_is_read(self, wav: Path) -> None:
        from edge_tse import audio

        content = bytearray(wav.read_bytes())
        for unknown in (b"\xff\xff\xff\xff", b"\x00\xf0\xff\x7f"):
            content[4:8] = content[40:44] = unknown
            wav.write_bytes(content)
            assert audio.read(wav)[0].shape == (1, 16000)

    @pytest.mark.parametrize("name", ["take.raw", "take.pcm"])
    def test_headerless_sound_is_told_how_to_get_a_header(self, run: Run, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes((3000 * np.random.default_rng(0).normal(size=40000)).astype("<i2").tobytes())
        complaint = self.complaint(run, tmp_path / name)
        assert "has no header that states its rate and format: convert it with `sox -t raw -r 16000" in complaint
        assert not (tmp_path / "o.wav").exists()

    @pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_32"])
    def test_codecs_of_voice_mail(self, tmp_path: Path, subtype: str) -> None:
        """They cannot seek, and are read to their end."""
        from edge_tse import audio

        samples = (0.3 * np.sin(np.arange(8000) * 0.2)).astype(np.float32)
        soundfile.write(tmp_path / "a.wav", samples, 8000, subtype=subtype)
        signal, rate_hz = audio.read(tmp_path / "a.wav")
        assert rate_hz == 8000
        assert 8000 <= signal.shape[1] < 8400  # they end on a whole frame
        heard = signal[0, 100:7900]
        assert max(np.corrcoef(heard, samples[100 - lag : 7900 - lag])[0, 1] for lag in range(60)) > 0.98

    def test_a_header_that_announces_more_than_memory_holds(self, run: Run, tmp_path: Path) -> None:
        soundfile.write(tmp_path / "a.au", np.zeros(100, np.float32), 16000, format="AU", subtype="PCM_16")
        content = bytearray((tmp_path / "a.au").read_bytes())
        content[8:12] = (2**31 - 1).to_bytes(4, "big")
        (tmp_path / "a.au").write_bytes(content)
        assert "a.au" in run("enroll", tmp_path / "a.au", "-o", tmp_path / "a.voice", "--artifact", "nano").complaint
