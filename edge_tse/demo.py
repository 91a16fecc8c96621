"""The demonstration: enroll a talker, extract that talker from a mixture hop by hop, and show it.

The shipped clips are synthetic voices that no model here was trained on (edge_tse/assets/README.md). Their mixtures are made here
from clips of one talker each, so that the wanted signal is known and an SI-SDR can be stated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, Network
from edge_tse.enrollment import enroll_clips
from edge_tse.errors import AudioError
from edge_tse.extract import Extraction, extract
from edge_tse.files import check_output, write_bytes
from edge_tse.metrics import si_sdr
from edge_tse.report import Report, busy, environment, memory
from edge_tse.voice import Voice, VoiceModel, personalize, save_voice

__all__ = ["Case", "Outcome", "Shown", "Sound", "case_of", "own_case", "run", "shipped_cases"]

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
    """Who is heard, in words."""
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
    """Personalized."""
    artifact_bytes: int
    engine: str
    voice_switch_s: float
    """From an embedding to a network that is ready to step."""
    si_sdr_db: tuple[float, float] | None
    """Of the mixture and of the estimate against the reference, mean over channels."""
    folder: Path
    busy: str | None
    """What :func:`edge_tse.report.busy` said during the run."""

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
    """What a demonstration left behind."""

    outcomes: tuple[Outcome, ...]
    page: Path

    def figures(self) -> dict[str, object]:
        return {"page": self.page, "cases": [outcome.figures() for outcome in self.outcomes]}


def shipped_cases() -> list[Case]:
    """Two talkers at equal level: of different gender, the same two around a head in a room, and of the same gender."""
    return [
        _shipped_case("mixed-gender", "A woman and a man", "slt", "rms"),
        _shipped_case("two-ears", "The same two in a room, for two ears", "slt", "rms", _clip("room").signal.reshape(2, 2, -1)),
        _shipped_case("same-gender", "Two men", "rms", "awb"),
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
    """A case out of files. ``AudioError`` if one is missing or unusable, or the reference does not fit the mixture."""
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
    signal, rate_hz = audio.read(path)
    return Sound(name=path.name, signal=signal, rate_hz=rate_hz, path=path)


def run(
    cases: Sequence[Case],
    artifact: Artifact,
    opened: Callable[[Artifact], Network],
    out: Path,
    progress: Callable[[float], None] = lambda fraction: None,
    *,
    heading: str = "One talker out of two",
) -> Shown:
    """Extract every case; write sound, pictures, ``figures.json`` and ``index.html`` to ``out``, later cases to folders in it.

    ``opened`` puts a personalized artifact on a runtime, for instance :func:`edge_tse.engines.open_network`.
    """
    from edge_tse.page import page
    from edge_tse.picture import picture

    artifact_bytes = len(artifact.to_bytes())
    folders = [out if i == 0 else out / case.name for i, case in enumerate(cases)]
    inputs = [s.path for c in cases for s in (c.mixture, *c.enrollments, c.reference) if s is not None and s.path is not None]
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as failure:
            raise AudioError(f"{folder} cannot be made: {failure.strerror}; choose another folder with --out") from failure
        for name in ("mixture.wav", "estimate.wav", "reference.wav", "picture.png", "talker.voice"):
            check_output(folder / name, inputs, AudioError)

    def part(i: int) -> Callable[[float], None]:
        return lambda fraction: progress((i + fraction) / len(cases))

    opened(artifact)  # loads the runtime, so that a change of voice is measured and not an import
    outcomes, pictures = [], []
    for i, (case, folder) in enumerate(zip(cases, folders, strict=True)):
        voice = case.voice(artifact.voice_model)
        began = time.perf_counter()
        personal = personalize(artifact, voice)
        network = opened(personal)
        engine = Engine(personal, network)
        voice_switch_s = time.perf_counter() - began
        mixture = case.mixture
        got = extract(
            mixture.signal,
            mixture.rate_hz,
            engine,
            keep_gains=True,
            name=mixture.name,
            progress=part(i),
        )
        outcome = Outcome(
            case=case,
            extraction=got,
            artifact=personal,
            artifact_bytes=artifact_bytes,
            engine=network.name,
            voice_switch_s=voice_switch_s,
            si_sdr_db=_scores(case, got),
            folder=folder,
            busy=busy(),
        )
        audio.write(folder / "mixture.wav", mixture.signal, mixture.rate_hz, inputs)
        audio.write(folder / "estimate.wav", got.signal, got.rate_hz, inputs)
        if case.reference is not None:
            audio.write(folder / "reference.wav", case.reference.signal, case.reference.rate_hz, inputs)
        save_voice(voice, folder / "talker.voice")
        light, dark = picture(outcome), picture(outcome, dark=True)
        write_bytes(folder / "picture.png", light)
        outcomes.append(outcome)
        pictures.append((light, dark))

    shown = Shown(outcomes=tuple(outcomes), page=out / "index.html")
    circumstances = environment()
    write_bytes(shown.page, page(heading, outcomes, pictures, circumstances).encode())
    figures = {**shown.figures(), "memory": memory()}
    Report(question="what does the demonstration extract, and how fast?", figures=figures, environment=circumstances).save(
        out / "figures.json"
    )
    return shown


def _shipped_case(name: str, title: str, target: str, interferer: str, room: Float | None = None) -> Case:
    """``room``: responses of the talkers at two ears, ``[2, 2, samples]``."""
    wanted, other = _clip(f"{target}-speech"), _clip(f"{interferer}-speech")
    n = max(wanted.signal.shape[1], other.signal.shape[1])
    alone, disturbing = (np.pad(s.signal, ((0, 0), (0, n - s.signal.shape[1]))) for s in (wanted, other))
    where = ""
    if room is not None:
        where = " She talks on the left, he on the right, both about a metre away: use headphones."
        alone, disturbing = (_around(x, responses) for x, responses in zip((alone, disturbing), room, strict=True))
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
    """``[1, n]`` at the ears of a head whose responses are ``[2, samples]``, at the level that it had, ``[2, n]``."""
    n = mono.shape[1]
    heard = np.stack([np.convolve(mono[0], response)[:n] for response in responses])
    placed: Float = (heard * np.sqrt(np.mean(mono**2) / np.mean(heard**2))).astype(np.float32)
    return placed


def _clip(name: str) -> Sound:
    with resources.as_file(resources.files("edge_tse") / "assets" / "demo" / f"{name}.flac") as path:
        signal, rate_hz = audio.read(path)
    return Sound(name=name, signal=signal, rate_hz=rate_hz)


def _scores(case: Case, got: Extraction) -> tuple[float, float] | None:
    """SI-SDR in dB of the mixture and of the estimate."""
    if case.reference is None:
        return None
    target = case.reference.signal
    return si_sdr(case.mixture.signal, target), si_sdr(got.signal, target)
