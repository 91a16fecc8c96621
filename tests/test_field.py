"""Situations that people met: each ends in one line that says what to do, and nothing is lost."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse import audio
from edge_tse.cli import main
from tests.command import Run
from tests.speech import RATE, write_plain

pytest.importorskip("ai_edge_litert")

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "edge_tse" / "assets" / "demo"


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("voice") / "a.voice"
    assert main(["enroll", str(DEMO / "slt-enroll.flac"), "-o", str(path), "--artifact", "nano"]) == 0
    return path


def edge_tse(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, with standard streams."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "edge_tse", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, check=False, env=environment)


class TestStandardStreams:
    def test_sound_in_and_out(self, tmp_path: Path, voice: Path) -> None:
        """The same samples as through files; a stream that does not know its length is read to its end."""
        signal, rate_hz = audio.read(DEMO / "slt-speech.flac")
        audio.write(tmp_path / "m.wav", signal[:, :16000], rate_hz)
        content = bytearray((tmp_path / "m.wav").read_bytes())
        at = content.index(b"data") + 4
        content[4:8] = content[at : at + 4] = b"\xff" * 4  # as ffmpeg writes into a pipe
        done = edge_tse("extract", "-", "--voice", voice, "-o", "-", "--artifact", "nano", given=bytes(content))
        assert (done.returncode, done.stderr) == (0, b"")
        assert (
            main(["extract", str(tmp_path / "m.wav"), "--voice", str(voice), "-o", str(tmp_path / "o.wav"), "--artifact", "nano"])
            == 0
        )
        heard, _ = soundfile.read(io.BytesIO(done.stdout), always_2d=True)
        assert np.array_equal(heard, soundfile.read(tmp_path / "o.wav", always_2d=True)[0])

    def test_a_clip(self, tmp_path: Path, voice: Path) -> None:
        given = (DEMO / "slt-enroll.flac").read_bytes()
        done = edge_tse("enroll", "-", "-o", tmp_path / "b.voice", "--artifact", "nano", given=given)
        assert done.returncode == 0, done.stderr
        one, other = (json.loads(path.read_text()) for path in (voice, tmp_path / "b.voice"))
        assert one["embedding"] == other["embedding"]
        assert other["source"] == "standard input"

    def test_what_is_no_sound(self, tmp_path: Path, voice: Path) -> None:
        done = edge_tse("extract", "-", "--voice", voice, "-o", "-", given=b"nothing that is sound")
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.startswith(b"edge-tse: standard input is not a readable sound file")
        assert edge_tse("extract", "-", "--voice", voice, "-o", "-").stderr.startswith(b"edge-tse: standard input is empty")

    def test_two_things_on_one_stream(self, run: Run, voice: Path) -> None:
        complaint = run("extract", DEMO / "slt-speech.flac", "--voice", voice, "-o", "-", "--json").complaint
        assert "-o - and --json both write to standard output" in complaint


class TestSound:
    @pytest.mark.parametrize("suffix", [".m4a", ".webm", ".mp4", ".aac", ".WMA"])
    def test_what_ffmpeg_reads(self, tmp_path: Path, run: Run, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / f"take{suffix}"
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
        monkeypatch.setattr("edge_tse.transcoding.shutil.which", lambda program: None)
        complaint = run("enroll", path, "-o", tmp_path / "a.voice").complaint
        assert "needs ffmpeg, which is not installed" in complaint
        assert f"`ffmpeg -i take{suffix} take.wav`" in complaint

    @pytest.mark.parametrize("suffix", [".flac", ".wav", ".m4a"])
    def test_an_empty_file(self, tmp_path: Path, run: Run, suffix: str) -> None:
        (tmp_path / f"take{suffix}").touch()
        assert (
            "is empty, it has 0 bytes: copy it again"
            in run("enroll", tmp_path / f"take{suffix}", "-o", tmp_path / "a.voice").complaint
        )

    def test_a_broken_flac_is_not_told_to_become_one(self, tmp_path: Path, run: Run) -> None:
        content = bytearray((DEMO / "slt-enroll.flac").read_bytes())
        content[:4] = b"fLaX"
        (tmp_path / "a.flac").write_bytes(content)
        complaint = run("enroll", tmp_path / "a.flac", "-o", tmp_path / "a.voice").complaint
        assert "it is damaged, or of another format than its name says: copy it again" in complaint
        assert "convert" not in complaint

    def test_a_name_that_reads_as_an_option(self, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "-take 1.wav").write_bytes(b"")
        complaint = run("enroll", "-take 1.wav", "-o", "a.voice").complaint
        assert "-take 1.wav is also a file: write ./-take 1.wav if you mean it" in complaint
        assert "is also a file" not in run("enroll", "-other.wav", "-o", "a.voice").complaint

    def test_a_chord_is_no_voice(self, tmp_path: Path, run: Run) -> None:
        t = np.arange(4 * RATE) / RATE
        audio.write(
            tmp_path / "a.wav", 0.1 * sum(np.sin(2 * np.pi * f * t) for f in (220, 277, 330))[None].astype(np.float32), RATE
        )
        assert "no speech found" in run("enroll", tmp_path / "a.wav", "-o", tmp_path / "a.voice", "--artifact", "nano").complaint


class TestDeployment:
    @pytest.mark.parametrize(("target", "name", "due"), [("litert", "m.onnx", "m.tflite"), ("onnx", "m.tflite", "m.onnx")])
    def test_a_name_of_another_format(self, tmp_path: Path, run: Run, target: str, name: str, due: str) -> None:
        complaint = run("compile", "nano", "--target", target, "-o", tmp_path / name).complaint
        assert f"target {target} loads {Path(due).suffix}: name it {due}" in complaint
        assert not list(tmp_path.iterdir())

    def test_a_block_of_two_seconds(self) -> None:
        from edge_tse.errors import AudioError
        from edge_tse.live.loop import Loop

        with pytest.raises(AudioError, match=r"100000 samples at 48000 Hz is heard 2.1 s later: choose one of at most 0.5 s"):
            Loop(rate_hz=48000, ears=2, block=100_000)

    def test_a_rate_belongs_to_a_serial_port(self) -> None:
        from edge_tse.errors import LinkError
        from firmware_bridge.link import open_link

        with pytest.raises(LinkError, match="exec:cat is no serial port, it has no 9600 baud: leave --baud out"):
            open_link("exec:cat", baud=9600)

    def test_the_rate_of_a_serial_port(self) -> None:
        from firmware_bridge.link import open_link

        pytest.importorskip("serial")
        leader, follower = os.openpty()
        try:
            for asked, due in ((None, 115200), (9600, 9600)):
                link = open_link(os.ttyname(follower), baud=asked)
                assert link._port.baudrate == due  # type: ignore[attr-defined]
                link.close()
        finally:
            os.close(leader)
            os.close(follower)


class TestModelsOfOthers:
    @pytest.mark.parametrize("verb", ["profile", "verify"])
    def test_a_file_without_its_description(self, tmp_path: Path, run: Run, verb: str) -> None:
        (tmp_path / "net.onnx").write_bytes(b"any")
        assert "describe it in net.toml: `edge-tse profile " in run(verb, tmp_path / "net.onnx").complaint
        (tmp_path / "net.toml").touch()
        assert f"give {tmp_path / 'net.toml'}" in run(verb, tmp_path / "net.onnx").complaint

    def test_a_first_description(self, tmp_path: Path, run: Run) -> None:
        """States are found by their names; the description is one that can be read, and is never written over."""
        onnx = pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
        from edge_tse.engines.foreign import load_foreign, steadiness

        helper = onnx.helper
        names = (["x", "conv_cache", "inter_cache"], ["enh", "inter_cache_out", "conv_cache_out"])
        inputs, outputs = ([helper.make_tensor_value_info(name, 1, [1, 16]) for name in each] for each in names)
        nodes = [
            helper.make_node("Add", ["x", "conv_cache"], ["enh"]),
            helper.make_node("Add", ["x", "inter_cache"], ["conv_cache_out"]),
            helper.make_node("Identity", ["conv_cache"], ["inter_cache_out"]),
        ]
        model = helper.make_model(helper.make_graph(nodes, "n", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.save(model, tmp_path / "net.onnx")
        done = run("profile", tmp_path / "net.onnx", "--describe")
        assert done.code == 0, done.err
        assert "net.toml: 2 states by their names; correct it" in done.out
        found = load_foreign(tmp_path / "net.toml")
        assert set(found.stages[0].states) == {("conv_cache", "conv_cache_out"), ("inter_cache", "inter_cache_out")}
        assert steadiness(found, frames=3).remembers
        kept = (tmp_path / "net.toml").read_bytes()
        assert "is there already" in run("profile", tmp_path / "net.onnx", "--describe").complaint
        assert (tmp_path / "net.toml").read_bytes() == kept


def test_a_corpus_in_which_nobody_speaks(tmp_path: Path, run: Run) -> None:
    data = write_plain(tmp_path / "data", talkers=12, utterances=2)
    for path in data.glob("*/*.wav"):
        soundfile.write(path, np.zeros(3 * RATE), RATE)
    done = run("train", "nano", "--data", data, "-o", tmp_path / "run", "--steps", 2)
    complaint = done.err.splitlines()[-1]  # after the progress of decoding
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "talkers have enough speech to train on: the most that one has is 0.0 s, each of at least 2 needs " in complaint


def test_the_same_id_twice(tmp_path: Path) -> None:
    from edge_tse.errors import DataError
    from quantization.evaluate import read_trials

    for name in ("m.wav", "e.wav"):
        (tmp_path / name).touch()
    rows = "".join(f"{number},m.wav,e.wav,,,quiet\n" for number in (1, 2, 3, 2))
    (tmp_path / "trials.csv").write_text(f"id,mixture,enrollment,target,interferer,condition\n{rows}")
    with pytest.raises(DataError, match=r"trials\.csv: row 5 has the id 2 of row 3: it would count twice, rename it"):
        read_trials(tmp_path / "trials.csv")
