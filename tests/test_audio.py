"""Every file somebody may hand us: what is accepted, what is refused, and with which words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse import audio
from edge_tse.errors import AudioError, EdgeTseError
from edge_tse.files import check_output, replacing, write_bytes


def tone(seconds: float = 0.5, rate_hz: int = 16000, channels: int = 1, peak: float = 0.5) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return np.stack([peak * np.sin(2 * np.pi * 440 * (c + 1) * t) for c in range(channels)]).astype(np.float32)


def stored(path: Path, signal: np.ndarray, rate_hz: int = 16000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, signal.T, rate_hz, subtype=subtype)
    return path


class TestReading:
    @pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000, 96000])
    @pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW"])
    def test_rates_and_widths(self, tmp_path: Path, rate_hz: int, subtype: str) -> None:
        wanted = tone(0.1, rate_hz, 2)
        signal, found_hz = audio.read(stored(tmp_path / "a.wav", wanted, rate_hz, subtype))
        assert found_hz == rate_hz
        assert signal.dtype == np.float32
        assert signal.shape == wanted.shape
        tolerance = {"PCM_U8": 2**-7, "ULAW": 2**-5, "PCM_16": 2**-15}.get(subtype, 2**-22)
        assert np.abs(signal - wanted).max() <= tolerance

    def test_24_bits_are_exact(self, tmp_path: Path) -> None:
        q = np.array([[0, 1, -1, 2**23 - 1, -(2**23), 1234567]])
        signal, _ = audio.read(stored(tmp_path / "a.wav", q / 2**23, subtype="PCM_24"))
        assert np.array_equal(signal.astype(np.float64) * 2**23, q)

    def test_one_sample(self, tmp_path: Path) -> None:
        signal, _ = audio.read(stored(tmp_path / "a.wav", np.full((1, 1), 0.25)))
        assert signal.shape == (1, 1)

    def test_many_channels_are_read_and_refused_by_ears(self, tmp_path: Path) -> None:
        signal, _ = audio.read(stored(tmp_path / "a.wav", tone(channels=6)))
        audio.check_ears(2, 2, "a.wav")
        with pytest.raises(AudioError, match=r"6 channels, at most 2 .*remix 1 2"):
            audio.check_ears(len(signal), 2, "a.wav")

    def test_empty(self, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match="empty: 0 samples"):
            audio.read(stored(tmp_path / "a.wav", np.zeros((1, 0))))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path: Path, bad: float) -> None:
        signal = tone(channels=2)
        signal[1, 4000:4003] = bad
        with pytest.raises(AudioError, match=r"3 of 16000 samples are NaN or infinite \(first at 0.250 s\)"):
            audio.read(stored(tmp_path / "a.wav", signal, subtype="FLOAT"))

    def test_integers_stored_as_floats(self, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match=r"peaks at 1\.638e\+04 where full scale is 1"):
            audio.read(stored(tmp_path / "a.wav", tone() * 32768, subtype="FLOAT"))

    def test_a_little_over_full_scale_is_accepted(self, tmp_path: Path) -> None:
        signal, _ = audio.read(stored(tmp_path / "a.wav", tone(peak=3.0), subtype="FLOAT"))
        assert signal.max() > 2.9

    @pytest.mark.parametrize("rate_hz", [50, 1_000_000])
    def test_impossible_rate(self, tmp_path: Path, rate_hz: int) -> None:
        with pytest.raises(AudioError, match=f"{rate_hz} samples per second, 4000 to 768000"):
            audio.read(stored(tmp_path / "a.wav", tone(), rate_hz))

    def test_missing_folder_and_nonsense(self, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match="no such file"):
            audio.read(tmp_path / "a.wav")
        with pytest.raises(AudioError, match="is not a file"):
            audio.read(tmp_path)
        (tmp_path / "text.wav").write_text("this is not sound")
        with pytest.raises(AudioError, match="not a readable sound file"):
            audio.read(tmp_path / "text.wav")
        (tmp_path / "nothing.wav").touch()
        with pytest.raises(AudioError, match="is empty, it has 0 bytes"):
            audio.read(tmp_path / "nothing.wav")

    @pytest.mark.parametrize("suffix", [".wav", ".flac"])
    @pytest.mark.parametrize("share", [0.001, 0.1, 0.9])
    def test_truncated(self, tmp_path: Path, suffix: str, share: float) -> None:
        """Refused, or read up to the cut; never a crash and never noise."""
        path = tmp_path / f"a{suffix}"
        wanted = tone(2.0)
        audio.write(path, wanted, 16000)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        try:
            signal, _ = audio.read(path)
        except AudioError:
            return
        assert np.abs(signal - wanted[:, : signal.shape[1]]).max() < 1e-6

    def test_unknown_length(self, tmp_path: Path) -> None:
        path = tmp_path / "a.flac"
        audio.write(path, tone(), 16000)
        content = bytearray(path.read_bytes())
        content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # STREAMINFO's 36 bits of total samples: 0 is unknown
        path.write_bytes(content)
        with pytest.raises(AudioError, match="does not state its length"):
            audio.read(path)

    def test_missing_package_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = stored(tmp_path / "a.wav", tone())
        monkeypatch.setitem(sys.modules, "soundfile", None)
        with pytest.raises(AudioError, match=r"pip install .*\[audio\]'"):
            audio.read(path)


class TestValues:
    def test_clipping_is_counted(self) -> None:
        signal = np.clip(tone(peak=1.5), -1, 1 - 2**-15)
        full = int(np.count_nonzero((signal >= 1 - 2**-15) | (signal <= -1 + 2**-15)))
        assert full > 1000
        assert abs(audio.clipped_samples(signal) - full) <= 4  # the ends, where a run is cut by the file

    def test_a_normalised_recording_is_not_clipped(self) -> None:
        signal = tone(peak=0.9)
        signal[0, [100, 200, 201]] = 1
        assert audio.clipped_samples(signal) == 0

    def test_silence(self) -> None:
        assert audio.is_silent(np.zeros((2, 100), np.float32))
        assert audio.is_silent(np.full((1, 100), 1e-5, np.float32))
        assert not audio.is_silent(tone(peak=1e-3))

    def test_better_ear(self) -> None:
        signal = np.stack([tone(peak=0.1)[0], tone(peak=0.2)[0]])
        assert np.array_equal(audio.better_ear(signal), signal[1])


class TestResampling:
    @pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 44100, 48000, 192000])
    @pytest.mark.parametrize("n", [1, 2, 3, 100, 4801])
    def test_length(self, rate_hz: int, n: int) -> None:
        there = audio.resample(np.ones((2, n), np.float32), rate_hz, 16000)
        assert there.shape == (2, -(-n * 16000 // rate_hz))
        assert audio.resample(there, 16000, rate_hz).shape[1] >= n

    @pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
    def test_nothing_moves_in_time(self, rate_hz: int) -> None:
        """A tone burst keeps its phase: an error of one sample at 16 kHz would be 10 degrees at 440 Hz."""
        n = rate_hz // 2
        envelope = np.hanning(n)
        burst = (envelope * np.sin(2 * np.pi * 440 * np.arange(n) / rate_hz))[None].astype(np.float32)
        got = audio.resample(burst, rate_hz, 16000)[0]
        m = len(got)
        wanted = np.interp(np.arange(m) / 16000, np.arange(n) / rate_hz, envelope) * np.sin(2 * np.pi * 440 * np.arange(m) / 16000)
        assert np.abs(got - wanted).max() < 2e-4

    def test_equal_rates_do_nothing(self) -> None:
        signal = tone()
        assert audio.resample(signal, 16000, 16000) is signal


class TestWriting:
    @settings(max_examples=20, deadline=None)
    @given(
        channels=st.integers(1, 2),
        n=st.integers(1, 3000),
        suffix=st.sampled_from([".wav", ".flac", ".WAV"]),
        seed=st.integers(0, 99),
    )
    def test_round_trip(self, tmp_path_factory: pytest.TempPathFactory, channels: int, n: int, suffix: str, seed: int) -> None:
        path = tmp_path_factory.mktemp("round") / f"a{suffix}"
        signal = np.random.default_rng(seed).uniform(-1, 1, (channels, n)).astype(np.float32)
        assert audio.write(path, signal, 44100) == 0
        found, rate_hz = audio.read(path)
        assert rate_hz == 44100
        assert np.abs(found - signal).max() <= 2**-23
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_over_full_scale_is_clipped_and_counted(self, tmp_path: Path) -> None:
        assert audio.write(tmp_path / "a.wav", np.array([[0, 1.5, -1.5, 1]], np.float32), 16000) == 2
        assert np.abs(audio.read(tmp_path / "a.wav")[0]).max() <= 1

    @pytest.mark.parametrize("rate_hz", [65_537, 96_001, 655_350, 700_000, 768_000])
    def test_a_rate_that_flac_cannot_state(self, tmp_path: Path, rate_hz: int) -> None:
        assert audio.write(tmp_path / "a.wav", tone(), rate_hz) == 0
        if rate_hz == 655_350:
            assert audio.write(tmp_path / "a.flac", tone(), rate_hz) == 0
        else:
            with pytest.raises(AudioError, match=f"FLAC cannot state {rate_hz} samples per second: write a .wav"):
                audio.write(tmp_path / "a.flac", tone(), rate_hz)
            assert not (tmp_path / "a.flac").exists()

    def test_other_suffixes(self, tmp_path: Path) -> None:
        for name in ("a.mp3", "a", "a.etse"):
            with pytest.raises(AudioError, match=r"choose \.wav or \.flac"):
                audio.write(tmp_path / name, tone(), 16000)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("how", ["same", "relative", "symlink", "hard link", "linked folder"])
    def test_never_over_the_input(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        source = stored(tmp_path / "in.wav", tone())
        before = source.read_bytes()
        target = tmp_path / "out.wav"
        match how:
            case "same":
                target = source
            case "relative":
                monkeypatch.chdir(tmp_path)
                (tmp_path / "sub").mkdir()
                target = Path("sub/../in.wav")
            case "symlink":
                target.symlink_to(source)
            case "hard link":
                target.hardlink_to(source)
            case "linked folder":
                (tmp_path / "again").symlink_to(tmp_path)
                target = tmp_path / "again" / "in.wav"
        with pytest.raises(AudioError, match="is also the input"):
            audio.write(target, tone(peak=0.1), 16000, inputs=[source])
        assert source.read_bytes() == before

    def test_impossible_places(self, tmp_path: Path) -> None:
        with pytest.raises(AudioError, match="there is no folder"):
            audio.write(tmp_path / "no" / "a.wav", tone(), 16000)
        (tmp_path / "folder.wav").mkdir()
        with pytest.raises(AudioError, match="is a folder"):
            audio.write(tmp_path / "folder.wav", tone(), 16000)
        os.mkfifo(tmp_path / "pipe.wav")  # as /dev/null is: renaming over it would replace it
        with pytest.raises(AudioError, match="not a regular file"):
            audio.write(tmp_path / "pipe.wav", tone(), 16000)
        with pytest.raises(AudioError, match="cannot be written"):
            audio.write(tmp_path / f"{'x' * 300}.wav", tone(), 16000)

    def test_a_symbolic_link_stays_one(self, tmp_path: Path) -> None:
        (tmp_path / "real.wav").touch()
        (tmp_path / "link.wav").symlink_to(tmp_path / "real.wav")
        audio.write(tmp_path / "link.wav", tone(), 16000)
        assert (tmp_path / "link.wav").is_symlink()
        assert audio.read(tmp_path / "real.wav")[0].size

    def test_permissions_are_those_of_an_ordinary_file(self, tmp_path: Path) -> None:
        (tmp_path / "plain").touch()
        audio.write(tmp_path / "a.wav", tone(), 16000)
        assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode

    @pytest.mark.parametrize("suffix", [".wav", ".flac"])
    @pytest.mark.parametrize("old", [None, b"what was there"])
    @pytest.mark.parametrize("kilobytes", [0, 1, 20, 46])
    def test_full_disk(self, tmp_path: Path, suffix: str, old: bytes | None, kilobytes: int) -> None:
        """The system stops writes at a size, as a full disk does, early, in the middle and just before the end."""
        path = tmp_path / f"a{suffix}"
        if old is not None:
            path.write_bytes(old)
        program = f"""
import resource, signal, sys
from pathlib import Path
import numpy as np, soundfile
from edge_tse import audio, errors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024, {kilobytes} * 1024))
noise = np.random.default_rng(0).uniform(-1, 1, (1, 16000)).astype(np.float32)
try:
    audio.write(Path({str(path)!r}), noise, 16000)
except errors.AudioError as failure:
    print(failure)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert "could not be written" in done.stdout
        assert [p.name for p in tmp_path.iterdir()] == ([] if old is None else [path.name])
        assert old is None or path.read_bytes() == old


class TestReplacing:
    def test_interrupted(self, tmp_path: Path) -> None:
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")

        def stop() -> None:
            with replacing(path) as temporary:
                temporary.write_bytes(b"half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stop()
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_full_disk(self, tmp_path: Path) -> None:
        def fill() -> None:
            with replacing(tmp_path / "a.bin") as temporary:
                temporary.write_bytes(b"half")
                raise OSError(28, "No space left on device")

        with pytest.raises(EdgeTseError, match="No space left"):
            fill()
        assert not list(tmp_path.iterdir())

    def test_whole(self, tmp_path: Path) -> None:
        write_bytes(tmp_path / "a.bin", b"new")
        write_bytes(tmp_path / "a.bin", b"newer")
        assert (tmp_path / "a.bin").read_bytes() == b"newer"

    def test_an_output_that_does_not_exist_is_no_input(self, tmp_path: Path) -> None:
        check_output(tmp_path / "new", [tmp_path / "missing"])
