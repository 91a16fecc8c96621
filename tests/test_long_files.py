"""Long recordings cost the memory of short ones, and are cut into blocks without a trace."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.condition import examine, survey
from edge_tse.enrollment.recordings import load_clip
from edge_tse.errors import AudioError
from edge_tse.sound_check import Check, ClipCount
from tests.command import Run
from tests.speech import utterance

pytest.importorskip("ai_edge_litert")

RATE = 48000
ROOT = Path(__file__).parents[1]
SPARE_BYTES = 20 * 2**20


def stored(path: Path, seconds: float) -> Path:
    """Stereo noise, which is made as it is written."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(round(seconds)):
            file.write(rng.normal(0, 0.05, (RATE, 2)).astype(np.float32))
    return path


def peak_bytes(*arguments: object) -> int:
    """Largest resident memory of the command line in a process of its own."""
    program = (
        "import resource, sys\n"
        "from edge_tse.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.stderr.write(f'peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}')\n"
        "sys.exit(code)\n"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rpartition("peak ")[2]) * (1 if sys.platform == "darwin" else 1024)


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edge_tse.cli import main

    path = tmp_path_factory.mktemp("voice") / "a.voice"
    clip = ROOT / "edge_tse" / "assets" / "demo" / "slt-enroll.flac"
    assert main(["enroll", str(clip), "-o", str(path), "--artifact", "nano"]) == 0
    return path


def check_extract(folder: Path, voice: Path, minutes: float) -> None:
    """A recording of so many minutes takes the memory of one of five seconds."""
    peaks = []
    for seconds in (5, minutes * 60):
        mixture = stored(folder / "m.wav", seconds)
        peaks.append(peak_bytes("extract", mixture, "--voice", voice, "-o", folder / "o.wav", "--artifact", "nano"))
        assert soundfile.info(folder / "o.wav").frames == round(seconds) * RATE
    assert peaks[1] < peaks[0] + SPARE_BYTES


class TestMemory:
    def test_extract(self, tmp_path: Path, voice: Path) -> None:
        check_extract(tmp_path, voice, 1)

    @pytest.mark.slow
    def test_extract_an_hour(self, tmp_path: Path, voice: Path) -> None:
        check_extract(tmp_path, voice, 60)


class TestEnroll:
    def test_more_than_a_voice_needs_is_refused(self, tmp_path: Path, run: Run) -> None:
        with soundfile.SoundFile(tmp_path / "long.wav", "w", 4000, 1, "PCM_U8") as file:
            file.write(np.full(4000 * 301, 0.1, np.float32))
        complaint = run("enroll", tmp_path / "long.wav", "-o", tmp_path / "a.voice").complaint
        assert "long.wav lasts 301 s, a voice is made of recordings of at most 300 s: cut out a part" in complaint
        assert not (tmp_path / "a.voice").exists()

    @pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
    def test_a_clip_is_what_a_whole_file_would_be(self, tmp_path: Path, rate_hz: int) -> None:
        speech = np.stack([utterance(1, 0, 5.0, rate_hz), 0.5 * utterance(1, 1, 5.0, rate_hz)])
        audio.write(tmp_path / "a.wav", speech, rate_hz)
        frame = Artifact.shipped("nano").frame
        clip = load_clip(audio.Stored(tmp_path / "a.wav"), frame)
        signal, _ = audio.read(tmp_path / "a.wav")
        assert np.array_equal(clip.signal, audio.resample(signal, rate_hz, frame.sample_rate_hz))
        assert clip.bandwidth_hz == examine(signal, rate_hz).bandwidth_hz

    def test_ears_are_counted_before_anything_is_read(self) -> None:
        with pytest.raises(AudioError, match="3 channels, at most 2"):
            load_clip(audio.Held(np.full((3, 10), np.nan, np.float32), 16000, "a.wav"), Artifact.shipped("nano").frame)


def cuts(samples: int, seed: int) -> list[slice]:
    """Pieces of all sizes, one of a single sample among them."""
    rng = np.random.default_rng(seed)
    edges = np.unique(np.concatenate([[0, 1, samples], rng.integers(1, samples, 12)]))
    return [slice(a, b) for a, b in pairwise(edges.tolist())]


class TestBlocks:
    """Whatever is looked at in blocks is found as in one piece."""

    @pytest.mark.parametrize("to_hz", [16000, 44100, 48000])
    @pytest.mark.parametrize("from_hz", [8000, 16000, 44100, 48000])
    def test_resampling(self, from_hz: int, to_hz: int) -> None:
        """To the bits of soxr in one call, with silence at the end for what it would drop."""
        soxr = pytest.importorskip("soxr")
        signal = np.random.default_rng(0).normal(0, 0.1, (2, 30_011)).astype(np.float32)
        pieces = audio.resampled((signal[:, part] for part in cuts(30_011, 1)), from_hz, to_hz)
        if from_hz == to_hz:
            assert np.array_equal(np.concatenate(list(pieces), axis=1), signal)
            return
        padded = np.pad(signal, ((0, 0), (0, -(-from_hz // to_hz))))
        whole = soxr.resample(np.ascontiguousarray(padded.T), from_hz, to_hz, quality="VHQ").T[:, : -(-30_011 * to_hz // from_hz)]
        assert np.array_equal(np.concatenate(list(pieces), axis=1), whole)
        assert np.array_equal(audio.resample(signal, from_hz, to_hz), whole)

    def test_clipping(self) -> None:
        """Runs that a cut divides are whole."""
        rng = np.random.default_rng(0)
        signal = np.clip(np.repeat(rng.normal(0, 1, (2, 4000)), 2, axis=1), -1, 1).astype(np.float32)
        signal[:, -3:] = 1
        clips = ClipCount(2, 1.0)
        for part in cuts(8000, 2):
            clips.push(signal[:, part])
        wanted = 0
        for row in signal:
            text = "".join("+" if x >= 1 else "-" if x <= -1 else " " for x in row)
            wanted += sum(len(run) for run in re.findall(r"\+{3,}|-{3,}", text))
        assert clips.total == audio.clipped_samples(signal) == wanted > 100

    def test_what_is_not_finite_is_counted_over_all_blocks(self) -> None:
        checked = Check(16000, "a.wav")
        for block in (np.zeros((1, 16000)), np.array([[0, np.nan, np.inf]]), np.array([[np.nan]])):
            checked.push(block.astype(np.float32))
        with pytest.raises(AudioError, match=r"3 of 16004 samples are NaN or infinite \(first at 1.000 s\)"):
            checked.done()

    def test_a_recording_is_surveyed_to_its_end(self, tmp_path: Path) -> None:
        """Blocks of a file are not those of an array, and what is wrong at the end of ten minutes is found."""
        rate_hz, rng = 8000, np.random.default_rng(0)
        noise = rng.normal(0, 0.03, (2, rate_hz * 600)).astype(np.float32)
        noise[:, -4:] = 1
        audio.write(tmp_path / "a.wav", noise, rate_hz)
        found = survey(audio.Stored(tmp_path / "a.wav"))
        assert (found.samples, found.clipped_samples) == (rate_hz * 600, 8)
        assert found.peak == pytest.approx(1, abs=1e-6)
        assert found.condition.level_dbfs == pytest.approx(20 * np.log10(0.03), abs=0.5)
        assert found.condition.ears_db == pytest.approx(0, abs=0.1)
        assert found.condition.bandwidth_hz == pytest.approx(rate_hz / 2, abs=200)
        noise[1, rate_hz * 100 :] *= 1e-4  # for five sixths of it, one ear is dead
        audio.write(tmp_path / "a.wav", noise, rate_hz)
        ears_db = survey(audio.Stored(tmp_path / "a.wav")).condition.ears_db
        assert ears_db == pytest.approx(10 * np.log10(6), abs=0.1)
