"""Enrollment from recordings: any rate, one or two channels, several clips of one talker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.enrollment.preparation import for_enrollment
from edge_tse.enrollment.quality import CHANGING, ClipQuality, assess, least_alike
from edge_tse.enrollment.scene import in_front
from edge_tse.voice import POOL, Voice, VoiceModel, enroll, speech_levels

__all__ = ["Enrollment", "Judged", "enroll_clips", "enroll_files", "enroll_judged"]

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
        audio.check_ears(len(signal), frame.ears, name)
        ear = audio.better_ear(audio.resample(signal, rate_hz, frame.sample_rate_hz))
        signals.append(for_enrollment(ear, frame.sample_rate_hz))
    created = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    voice = enroll(model, signals, created, ", ".join(Path(name).name for name, _, _ in clips))
    speech_s = sum(len(speech_levels(frame, signal)) for signal in signals) * POOL * frame.period_s
    clipped = tuple(audio.clipped_samples(signal) for _, signal, _ in clips)
    return Enrollment(voice=voice, speech_s=speech_s, clipped_samples=clipped)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An enrollment with the quality of each of its recordings."""

    enrollment: Enrollment
    qualities: Mapping[str, ClipQuality]
    front_share: Mapping[str, float]
    """Share of each recording's sound that came from in front; empty unless it was a scene."""

    clipped_samples: tuple[int, ...]
    """Clipped samples of each recording as it was given, in order."""
    apart: tuple[str, str, float] | None
    """The two recordings whose voices are least alike, and their cosine; None for fewer than two."""

    @property
    def doubt(self) -> str:
        """Warning if two recordings seem to be of two people; empty if not."""
        if self.apart is None or self.apart[2] >= CHANGING:
            return ""
        b, a, alike = self.apart
        return f"{a} and {b} have a similarity of {alike:.2f}, clips of one talker at least {CHANGING:.2f}: enroll one talker"

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        return {
            "speech_s": self.enrollment.speech_s,
            "clipped_samples": sum(self.clipped_samples),
            "front_share": dict(self.front_share) or None,
            "least_alike": None if self.apart is None else self.apart[2],
            "quality": {name: asdict(quality) | {"score": quality.score} for name, quality in self.qualities.items()},
        }

    @property
    def summary(self) -> str:
        """One line for people."""
        best = f"quality {self.score:.2f} of 1" + (" at worst" if len(self.qualities) > 1 else "")
        return f"a voice from {self.enrollment.speech_s:.1f} s of speech in {self.enrollment.voice.source}, {best}"

    @property
    def score(self) -> float:
        """Score of the worst recording."""
        return min(quality.score for quality in self.qualities.values())


def enroll_judged(
    model: VoiceModel,
    recordings: Sequence[tuple[str, Float, int]],
    *,
    scene: bool = False,
    now: datetime | None = None,
    tell: Callable[[str, ClipQuality], None] = lambda name, quality: None,
) -> Judged:
    """Enroll as :func:`enroll_clips` does and judge each recording; in a ``scene``, the talker in front, which takes both ears.

    ``tell`` is given each before too little speech is an error. ``AudioError`` too if nobody is in front.
    """
    clipped = [audio.clipped_samples(signal) for _, signal, _ in recordings]
    shares, heard = {}, []
    for name, signal, rate_hz in recordings:
        if scene:
            front = in_front(model.frame, signal, rate_hz, name)
            heard.append((name, front.signal, model.frame.sample_rate_hz))
            shares[name] = front.share
        else:
            heard.append((name, signal, rate_hz))
    qualities = {
        name: replace(assess(model, signal, rate_hz), clipped_samples=count)
        for (name, signal, rate_hz), count in zip(heard, clipped, strict=True)
    }
    for name, quality in qualities.items():
        tell(name, quality)
    made = enroll_clips(model, heard, now)
    apart = least_alike(model, heard)
    return Judged(enrollment=made, qualities=qualities, front_share=shares, clipped_samples=tuple(clipped), apart=apart)
