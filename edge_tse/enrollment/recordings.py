"""Enrollment from recordings: any rate, one or two channels, several clips of one talker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.condition import survey
from edge_tse.enrollment.preparation import for_enrollment
from edge_tse.enrollment.quality import CHANGING, ClipQuality, assess, least_alike
from edge_tse.enrollment.scene import in_front
from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.transcoding import opened
from edge_tse.voice import Voice, VoiceModel, enroll_signals

__all__ = ["LONGEST_S", "Clip", "Enrollment", "Judged", "enroll_clips", "enroll_files", "enroll_judged", "load_clip"]

Float = NDArray[np.float32]

LONGEST_S = 300.0
"""Longest recording that a voice is made of: it is held as a whole, and more than 15 s make none better (docs/enrollment.md)."""


@dataclass(frozen=True, kw_only=True)
class Enrollment:
    """A voice and how good its clips were."""

    voice: Voice
    clipped_samples: tuple[int, ...]
    """Per clip, samples in runs at full scale."""

    @property
    def speech_s(self) -> float:
        """Seconds of active speech the voice rests on."""
        assert self.voice.speech_s is not None, "a voice of embeddings has no recordings"
        return self.voice.speech_s


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A recording to enroll from, brought to the rate of a model."""

    name: str
    signal: Float
    """``[channels, samples]``"""
    rate_hz: int
    clipped_samples: int
    """Samples in runs at full scale, of the recording as it was given."""
    bandwidth_hz: float | None
    """Highest frequency of the recording as it was given; None if there is too little to tell."""


def load_clip(sound: audio.Sound, frame: FrameSpec) -> Clip:
    """Check a recording and read it in blocks. ``AudioError`` if it cannot be used, has more than two channels, or is longer than
    :data:`LONGEST_S`.
    """
    audio.check_ears(sound.channels, frame.ears, sound.name)
    found = survey(sound)
    if found.samples > LONGEST_S * sound.rate_hz:
        raise AudioError(
            f"{sound.name} lasts {found.samples / sound.rate_hz:.0f} s, a voice is made of recordings of at most "
            f"{LONGEST_S:.0f} s: cut out a part in which the talker talks alone, 15 s are enough"
        )
    blocks = audio.resampled(sound.blocks(), sound.rate_hz, frame.sample_rate_hz)
    return Clip(
        name=sound.name,
        signal=np.concatenate(list(blocks), axis=1),
        rate_hz=frame.sample_rate_hz,
        clipped_samples=found.clipped_samples,
        bandwidth_hz=found.condition.bandwidth_hz,
    )


def enroll_files(model: VoiceModel, clips: Sequence[Path], now: datetime | None = None) -> Enrollment:
    """Read, check and enroll. ``AudioError`` as of :func:`load_clip`, or for too little speech."""
    loaded = [_load_file(path, model.frame) for path in clips]
    made = enroll_clips(model, [(clip.name, clip.signal, clip.rate_hz) for clip in loaded], now)
    return replace(made, clipped_samples=tuple(clip.clipped_samples for clip in loaded))


def _load_file(path: Path, frame: FrameSpec) -> Clip:
    with opened(path) as sound:
        return load_clip(sound, frame)


def enroll_clips(model: VoiceModel, clips: Sequence[tuple[str, Float, int]], now: datetime | None = None) -> Enrollment:
    """Enroll recordings given as name, ``[channels, samples]`` and rate in Hz. ``AudioError`` for too little speech."""
    frame = model.frame
    signals = []
    for name, signal, rate_hz in clips:
        audio.check_ears(len(signal), frame.ears, name)
        ear = audio.better_ear(audio.resample(signal, rate_hz, frame.sample_rate_hz))
        signals.append(for_enrollment(ear, frame.sample_rate_hz))
    created = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    voice = enroll_signals(model, signals, created, ", ".join(Path(name).name for name, _, _ in clips))
    clipped = tuple(audio.clipped_samples(signal) for _, signal, _ in clips)
    return Enrollment(voice=voice, clipped_samples=clipped)


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
    clips: Sequence[Clip],
    *,
    scene: bool = False,
    now: datetime | None = None,
    tell: Callable[[str, ClipQuality], None] = lambda name, quality: None,
) -> Judged:
    """Enroll as :func:`enroll_clips` does and judge each recording; in a ``scene``, the talker in front, which takes both ears.

    ``tell`` is given each before too little speech is an error. ``AudioError`` too if nobody is in front.
    """
    shares, heard, qualities = {}, [], {}
    for clip in clips:
        signal = clip.signal
        if scene:
            front = in_front(model.frame, signal, clip.rate_hz, clip.name)
            signal, shares[clip.name] = front.signal, front.share
        heard.append((clip.name, signal, clip.rate_hz))
    for clip, (name, signal, rate_hz) in zip(clips, heard, strict=True):
        found = replace(assess(model, signal, rate_hz), clipped_samples=clip.clipped_samples)
        qualities[name] = found if scene else replace(found, bandwidth_hz=clip.bandwidth_hz)
    for name, quality in qualities.items():
        tell(name, quality)
    made = enroll_clips(model, heard, now)
    apart = least_alike(model, heard)
    clipped = tuple(clip.clipped_samples for clip in clips)
    return Judged(enrollment=made, qualities=qualities, front_share=shares, clipped_samples=clipped, apart=apart)
