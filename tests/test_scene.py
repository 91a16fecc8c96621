"""Enrollment where others talk: who is in front is found, and nobody else is taken for it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.enrollment.scene import LEAST_SHARE, in_front
from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.metrics import si_sdr
from edge_tse.voice import VoiceModel, load_voice, speech_levels

DEMO = Path(__file__).parent.parent / "edge_tse" / "assets" / "demo"
RATE = 16000


@cache
def model() -> VoiceModel:
    return Artifact.shipped().voice_model


def embedding(signal: np.ndarray) -> np.ndarray:
    return model().embed(speech_levels(model().frame, audio.better_ear(signal)))


@cache
def talker(name: str) -> np.ndarray:
    return audio.read(DEMO / f"{name}-enroll.flac")[0][0, :64000]


def aside(signal: np.ndarray, samples: int, db: float) -> np.ndarray:
    """Nearer to the left ear: the right one hears it later and softer, the more so the higher it is."""
    late = np.concatenate([np.zeros(samples, np.float32), signal[: len(signal) - samples]])
    shadowed = np.convolve(late, [0.5, 0.5], "same").astype(np.float32)
    return np.stack([signal, shadowed * np.float32(10 ** (-db / 20))])


def ahead(signal: np.ndarray) -> np.ndarray:
    """In front of two ears that are not quite alike."""
    return np.stack([signal, np.convolve(signal, [0.95, 0.1], "same").astype(np.float32)])


@pytest.fixture(scope="module")
def parts() -> tuple[np.ndarray, np.ndarray]:
    """Who is looked at, and who talks as loud at 60 degrees."""
    front, side = ahead(talker("slt")), aside(talker("rms"), 7, 5)
    return front, side * np.float32(np.sqrt(np.mean(front**2) / np.mean(side**2)))


def test_who_is_in_front_is_separated_and_undistorted(parts: tuple[np.ndarray, np.ndarray]) -> None:
    front, side = parts
    found = in_front(FrameSpec(), front + side, RATE)
    assert found.signal.shape == front.shape
    assert found.share > LEAST_SHARE
    for ear in range(2):
        assert si_sdr(found.signal[[ear]], front[[ear]]) > si_sdr((front + side)[[ear]], front[[ear]]) + 10
    assert np.std(found.signal) == pytest.approx(np.std(front), rel=0.1)


def test_its_voice_is_that_of_the_talker_alone(parts: tuple[np.ndarray, np.ndarray]) -> None:
    front, side = parts
    wanted = embedding(front)
    naive, separated = (float(embedding(x) @ wanted) for x in (front + side, in_front(FrameSpec(), front + side, RATE).signal))
    assert separated > 0.75
    assert separated > naive + 0.1, naive


def test_alone_in_front_nothing_is_changed_much(parts: tuple[np.ndarray, np.ndarray]) -> None:
    front, _ = parts
    assert si_sdr(in_front(FrameSpec(), front, RATE).signal[[0]], front[[0]]) > 20


@pytest.mark.parametrize("geometry", [(32, 256), (128, 512)])
def test_any_geometry_and_rate(parts: tuple[np.ndarray, np.ndarray], geometry: tuple[int, int]) -> None:
    hop, window = geometry
    frame = FrameSpec(hop=hop, window=window, synthesis=2 * hop)
    front, side = parts
    recording = audio.resample(front + side, RATE, 48000)
    found = in_front(frame, recording, 48000)
    assert found.signal.shape == front.shape
    assert si_sdr(found.signal[[0]], front[[0]]) > 8


def test_nobody_in_front_is_said(parts: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(AudioError, match="of the sound comes from in front, a talker there gives at least 45% at times"):
        in_front(FrameSpec(), parts[1], RATE)
    with pytest.raises(AudioError, match="at most 0% of the sound"):
        in_front(FrameSpec(), np.zeros((2, RATE), np.float32), RATE)


def test_one_ear_hears_no_direction() -> None:
    with pytest.raises(AudioError, match=r"a\.wav has 1 channel, a scene needs 2"):
        in_front(FrameSpec(), np.zeros((1, RATE), np.float32), RATE, "a.wav")


def test_the_verb(parts: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, voice = tmp_path / "scene.wav", tmp_path / "a.voice"
    audio.write(scene, (parts[0] + parts[1]) * np.float32(0.5), RATE)
    assert main(["enroll", str(scene), "--scene", "-o", str(voice), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["front_share"][str(scene)] > LEAST_SHARE
    assert float(load_voice(voice).embedding @ embedding(parts[0])) > 0.75
    audio.write(scene, parts[1] * np.float32(0.5), RATE)
    voice.unlink()
    assert main(["enroll", str(scene), "--scene", "-o", str(voice)]) == 2
    assert "look at the talker and record again" in capsys.readouterr().err
    assert not voice.exists()
