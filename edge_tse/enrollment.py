"""Enrollment from recordings: any rate, one or two channels, several clips of one talker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.condition import for_enrollment
from edge_tse.voice import POOL, Voice, VoiceModel, enroll, speech_levels

__all__ = ["Enrollment", "enroll_clips", "enroll_files"]

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Enrollment:
    """A voice and how good its clips were."""

    voice: Voice
    speech_s: float
    """Seconds of active speech the voice rests on."""
    clipped_samples: tuple[int, ...]
    """Per clip, samples in runs at full scale."""


def enroll_files(model: VoiceModel, clips: Sequence[Path], now: datetime | None = None) -> Enrollment:
    """Read, check and enroll. ``AudioError`` for unusable files, more than two channels, or too little speech."""
    recordings = []
    for path in clips:
        signal, rate_hz = audio.read(path)
        recordings.append((str(path), signal, rate_hz))
    return enroll_clips(model, recordings, now)


def enroll_clips(model: VoiceModel, clips: Sequence[tuple[str, Float, int]], now: datetime | None = None) -> Enrollment:
    """Enroll recordings given as name, ``[channels, samples]`` and rate in Hz; errors as :func:`enroll_files`."""
    frame = model.frame
    signals = []
    for name, signal, rate_hz in clips:
        audio.check_ears(signal, frame.ears, name)
        ear = audio.better_ear(audio.resample(signal, rate_hz, frame.sample_rate_hz))
        signals.append(for_enrollment(ear, frame.sample_rate_hz))
    created = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    voice = enroll(model, signals, created, ", ".join(Path(name).name for name, _, _ in clips))
    speech_s = sum(len(speech_levels(frame, signal)) for signal in signals) * POOL * frame.period_s
    clipped = tuple(audio.clipped_samples(signal) for _, signal, _ in clips)
    return Enrollment(voice=voice, speech_s=speech_s, clipped_samples=clipped)
