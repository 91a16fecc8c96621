"""Containers that only ffmpeg opens: where it is installed, and what is said where not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio, transcoding
from edge_tse.errors import AudioError
from edge_tse.transcoding import opened
from tests.speech import utterance

pytest.importorskip("soundfile")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")

RATE = 16000


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    audio.write(tmp_path / "clip.wav", utterance(3, 0, 2.0, RATE)[None], RATE)
    return tmp_path / "clip.wav"


def encoded(clip: Path, suffix: str) -> Path:
    to = clip.with_name(f"-clip of 'a' phone{suffix}")
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", clip, f"file:{to}"], check=True)
    return to


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".webm", ".mka"])
def test_the_sound_of_a_container(clip: Path, suffix: str) -> None:
    path = encoded(clip, suffix)
    with pytest.raises(AudioError, match="not a readable sound file"):
        audio.Stored(path)
    with opened(path) as sound:
        assert sound.name == str(path)
        heard, rate_hz = audio.hold(sound)
        assert Path(sound.path).exists()
    assert not Path(sound.path).exists()
    wanted = audio.resample(audio.read(clip)[0], RATE, rate_hz)
    n = min(heard.shape[1], wanted.shape[1])
    assert n >= 2 * rate_hz - 1
    assert np.corrcoef(heard[0, :n], wanted[0, :n])[0, 1] > 0.9, "aligned"


@needs_ffmpeg
@pytest.mark.parametrize(
    "content",
    [b"#EXTM3U\n#EXTINF:10,\nclip.wav\n#EXT-X-ENDLIST\n", b"ffconcat version 1.0\nfile clip.wav\n", b"nothing"],
    ids=["playlist", "list", "text"],
)
def test_what_leads_elsewhere_is_refused(clip: Path, content: bytes) -> None:
    path = clip.with_name("film.mp4")
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"film\.mp4: ffmpeg finds no sound in it \(.*\): export it again") as error, opened(path):
        pass
    assert "\n" not in str(error.value)


def test_without_ffmpeg_a_line_says_so(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcoding.shutil, "which", lambda name: None)
    path = clip.with_name("film.mp4")
    path.write_bytes(b"\0\0\0\x20ftypisom")
    with pytest.raises(AudioError, match=r"film\.mp4 needs ffmpeg, which is not installed: install it .* -i film\.mp4 film\.wav`"):
        opened(path).__enter__()


def test_what_libsndfile_opens_needs_none(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcoding.shutil, "which", lambda name: None)
    path = clip.rename(clip.with_suffix(".mp4"))  # a WAV by another name
    with opened(path) as sound:
        assert sound.path == path


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"film\.mp4: there is no such file"):
        opened(tmp_path / "film.mp4").__enter__()
