"""Clips that are good to enroll from, and what is wrong with the others."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.enrollment import quality
from edge_tse.enrollment.quality import assess, least_alike
from edge_tse.voice import VoiceModel

DEMO = Path(__file__).parent.parent / "edge_tse" / "assets" / "demo"


@cache
def model() -> VoiceModel:
    return Artifact.shipped().voice_model


@cache
def clip(name: str) -> np.ndarray:
    return audio.read(DEMO / f"{name}.flac")[0]


@pytest.mark.parametrize("name", ["slt-enroll", "rms-enroll"])
def test_good_clips_pass(name: str) -> None:
    found = assess(model(), clip(name), 16000)
    assert found.remarks == ()
    assert found.score > 0.5
    assert found.speech_s > 4


def test_resampled_and_in_one_of_two_channels() -> None:
    signal = clip("rms-enroll")
    stereo = audio.resample(np.concatenate([np.zeros_like(signal), signal]), 16000, 48000)
    found, plain = assess(model(), stereo, 48000), assess(model(), signal, 16000)
    assert found.remarks == ()
    assert found.level_dbfs == pytest.approx(plain.level_dbfs, abs=0.5)


def test_one_recording_is_not_analysed_to_be_compared_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (("a", clip("slt-enroll"), 16000), ("b", clip("rms-enroll"), 16000))
    assert least_alike(model(), [one, other]) is not None
    monkeypatch.setattr(quality, "speech_levels", lambda *_: pytest.fail("it was analysed"))
    assert least_alike(model(), [one]) is None


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda x: x * 0.002, "the recording is quiet"),
        (lambda x: np.clip(x * 30, -1, 1), "samples are clipped"),
        (lambda x: x[:, :16000], "are needed: talk for longer"),
        (lambda x: np.zeros_like(x), "0.0 s of speech"),
        (lambda x: x + np.random.default_rng(0).normal(0, 0.05, x.shape).astype(np.float32), "the recording is noisy"),
        (lambda x: np.concatenate([x[:, :64000], clip("rms-enroll")[:, :64000]], axis=1), "two people seem to talk"),
    ],
    ids=["quiet", "clipped", "short", "silent", "noisy", "two people"],
)
def test_what_is_wrong_is_said(spoil: object, complaint: str) -> None:
    found = assess(model(), spoil(clip("slt-enroll")), 16000)  # type: ignore[operator]
    assert any(complaint in remark for remark in found.remarks), found
    assert found.score < assess(model(), clip("slt-enroll"), 16000).score
