"""Cases of the demonstration: the shipped clips or the user's own files, and the outcome of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError
from edge_tse.extraction import Extraction
from edge_tse.transcoding import opened
from edge_tse.voice import Voice, VoiceModel

__all__ = ["Case", "Outcome", "Shown", "Sound", "case_of", "own_case", "shipped_cases"]

Float = NDArray[np.float32]

_VOICES = {
    "slt": "a woman, US English (flite voice slt)",
    "rms": "a man, US English (flite voice rms)",
    "awb": "a man, Scottish English (flite voice awb)",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sound:
    """A signal and where it came from."""

    name: str
    signal: Float
    """``[channels, samples]``"""
    rate_hz: int
    path: Path | None = None
    """The user's file, never to be overwritten."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One mixture to extract from."""

    name: str
    """Fit for a folder."""
    title: str
    talkers: str
    """The talkers that are heard, in words."""
    mixture: Sound
    enrollments: tuple[Sound, ...]
    reference: Sound | None
    """The wanted talker alone; without it there is no SI-SDR."""

    def voice(self, model: VoiceModel) -> Voice:
        """The talker to hear, enrolled."""
        return enroll_clips(model, [(clip.name, clip.signal, clip.rate_hz) for clip in self.enrollments]).voice


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A case, extracted."""

    case: Case
    extraction: Extraction
    artifact: Artifact
    """The personalized model."""
    artifact_bytes: int
    engine: str
    voice_switch_s: float
    """Time from an embedding to a network that is ready to step."""
    si_sdr_db: tuple[float, float] | None
    """SI-SDR of the mixture and of the estimate against the reference, mean over channels."""
    folder: Path
    busy: str | None
    """Remark of :func:`edge_tse.report.busy` during the run."""

    def figures(self) -> dict[str, object]:
        graph, frame = self.artifact.graph, self.artifact.frame
        scores = None
        if self.si_sdr_db is not None:
            before, after = self.si_sdr_db
            scores = {"mixture": before, "estimate": after, "improvement": after - before}
        return {
            "title": self.case.title,
            "folder": self.folder,
            "seconds": self.extraction.signal.shape[1] / self.extraction.rate_hz,
            "si_sdr_db": scores,
            "algorithmic_latency_ms": frame.algorithmic_latency_s * 1e3,
            "compute": self.extraction.timing.figures(),
            "voice_switch_ms": self.voice_switch_s * 1e3,
            "engine": self.engine,
            "model": {
                "artifact_bytes": self.artifact_bytes,
                "weight_bytes": graph.weight_bytes,
                "state_bytes": graph.state_bytes,
                "macs_per_hop": graph.macs,
            },
            "input_clipped_samples": self.extraction.clipped_samples,
            "input_silent": self.extraction.silent,
        }

    def rows(self) -> dict[str, str]:
        """The figures for people, by name."""
        timing, frame, graph = self.extraction.timing, self.artifact.frame, self.artifact.graph
        scores = "not known without the talker alone (--reference)"
        if self.si_sdr_db is not None:
            before, after = self.si_sdr_db
            scores = f"{before:.1f} dB in the mixture, {after:.1f} dB extracted ({after - before:+.1f} dB)"
        rows = {
            "SI-SDR": scores,
            "algorithmic latency": f"{frame.algorithmic_latency_s * 1e3:.1f} ms",
            "compute per hop": f"p50 {timing.percentile_s(50) * 1e3:.3f} ms, p99 {timing.percentile_s(99) * 1e3:.3f} ms "
            f"of the {timing.period_s * 1e3:.1f} ms there are; {timing.misses} of {len(timing.hop_s)} hops were late",
            "real-time factor": f"{timing.real_time_factor:.4f} ({self.engine})",
            "model": f"{graph.weight_bytes:,} bytes of int8 weights in an artifact of {self.artifact_bytes:,} bytes",
            "change of voice": f"{self.voice_switch_s * 1e3:.0f} ms",
        }
        return rows if self.busy is None else {**rows, "note": self.busy}


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """Files that a demonstration wrote."""

    outcomes: tuple[Outcome, ...]
    page: Path

    def figures(self) -> dict[str, object]:
        return {"page": self.page, "cases": [outcome.figures() for outcome in self.outcomes]}


def shipped_cases() -> list[Case]:
    """Two talkers at equal level: of different gender, the same around a head in a room, of the same gender, over a telephone."""
    return [
        _shipped_case("mixed-gender", "A woman and a man", "slt", "rms"),
        _shipped_case("two-ears", "The same two in a room, for two ears", "slt", "rms", _clip("room").signal.reshape(2, 2, -1)),
        _shipped_case("same-gender", "Two men", "rms", "awb"),
        _shipped_case("telephone", "The woman and the man over a telephone", "slt", "rms", telephone=True),
    ]


def own_case(mixture: Path | None, enrollment: Path | None, reference: Path | None = None) -> list[Case]:
    """The user's own files. ``AudioError`` if one is missing or unusable."""
    if mixture is None or enrollment is None:
        raise AudioError("your own demonstration needs both --mix MIXTURE and --enroll CLIP")
    case = case_of(
        "own",
        mixture.name,
        f"Your mixture {mixture.name}; the talker to hear was enrolled from {enrollment.name}.",
        mixture,
        [enrollment],
        reference,
    )
    return [case]


def case_of(name: str, title: str, talkers: str, mixture: Path, enrollments: Sequence[Path], reference: Path | None) -> Case:
    """A case made of files. ``AudioError`` if one is missing or unusable, or the reference does not fit the mixture."""
    mixed = _file(mixture)
    alone = None if reference is None else _file(reference)
    if alone is not None:
        if (alone.rate_hz, alone.signal.shape) != (mixed.rate_hz, mixed.signal.shape):
            raise AudioError(
                f"{reference} is {alone.signal.shape[0]} ch, {alone.signal.shape[1]} samples at {alone.rate_hz} Hz, the mixture "
                f"{mixed.signal.shape[0]} ch, {mixed.signal.shape[1]} at {mixed.rate_hz} Hz: an SI-SDR needs them aligned sample "
                "for sample"
            )
        if not alone.signal.any(axis=1).all():
            raise AudioError(f"{reference} has a silent channel: an SI-SDR against silence has no meaning, leave --reference out")
    clips = tuple(_file(path) for path in enrollments)
    return Case(name=name, title=title, talkers=talkers, mixture=mixed, enrollments=clips, reference=alone)


def _file(path: Path) -> Sound:
    with opened(path) as sound:
        signal, rate_hz = audio.hold(sound)
    return Sound(name=path.name, signal=signal, rate_hz=rate_hz, path=path)


def _shipped_case(
    name: str, title: str, target: str, interferer: str, room: Float | None = None, *, telephone: bool = False
) -> Case:
    """A shipped case; ``room`` holds responses of the talkers at two ears, ``[2, 2, samples]``. Enrollments are near and whole."""
    wanted, other = _clip(f"{target}-speech"), _clip(f"{interferer}-speech")
    n = max(wanted.signal.shape[1], other.signal.shape[1])
    alone, disturbing = (np.pad(s.signal, ((0, 0), (0, n - s.signal.shape[1]))) for s in (wanted, other))
    where = ""
    if room is not None:
        where = " She talks on the left, he on the right, both about a metre away: use headphones."
        alone, disturbing = (_around(x, responses) for x, responses in zip((alone, disturbing), room, strict=True))
    if telephone:
        where = " Both are on the line; she was enrolled in a quiet room."
        alone, disturbing = (_over_telephone(x, wanted.rate_hz) for x in (alone, disturbing))
    # 0 dB: equal energy over the whole mixture.
    disturbing = disturbing * np.float32(np.sqrt(np.sum(alone**2) / np.sum(disturbing**2)))
    return Case(
        name=name,
        title=title,
        talkers=f"To be heard: {_VOICES[target]}. To be removed: {_VOICES[interferer]}, just as loud.{where}",
        mixture=Sound(name=f"{target} + {interferer}", signal=alone + disturbing, rate_hz=wanted.rate_hz),
        enrollments=(_clip(f"{target}-enroll"),),
        reference=Sound(name=wanted.name, signal=alone, rate_hz=wanted.rate_hz),
    )


def _around(mono: Float, responses: Float) -> Float:
    """Sound ``[1, n]`` at the ears ``[2, n]`` of a head with responses ``[2, samples]``, at its former level."""
    n = mono.shape[1]
    heard = np.stack([np.convolve(mono[0], response)[:n] for response in responses])
    placed: Float = (heard * np.sqrt(np.mean(mono**2) / np.mean(heard**2))).astype(np.float32)
    return placed


def _over_telephone(x: Float, rate_hz: int) -> Float:
    """Sound ``[1, n]`` between 300 and 3,400 Hz, and nothing else: the band of a telephone (ITU-T G.712)."""
    spectrum, hz = np.fft.rfft(x), np.fft.rfftfreq(x.shape[-1], 1 / rate_hz)
    narrow: Float = np.fft.irfft(np.where((hz >= 300) & (hz <= 3400), spectrum, 0), x.shape[-1]).astype(np.float32)
    return narrow


def _clip(name: str) -> Sound:
    with resources.as_file(resources.files("edge_tse") / "assets" / "demo" / f"{name}.flac") as path:
        signal, rate_hz = audio.read(path)
    return Sound(name=name, signal=signal, rate_hz=rate_hz)
