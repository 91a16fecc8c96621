"""Extraction: sound in, the enrolled talker out, always hop by hop through the same step that runs live.

A file is not processed as a whole and in no other way than a microphone would be; what a file allows is only to remove the delay
afterwards, so that input and output line up sample for sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.condition import Condition, examine, full_scale_gain
from edge_tse.frame import FrameSpec
from edge_tse.report import Timing, memory
from edge_tse.stream import AnyEngine, GainStep

__all__ = ["Examined", "Extraction", "Extractor", "extract", "extract_examined"]

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Extraction:
    """The extracted talker, and how the extraction went."""

    signal: Float
    """``[channels, samples]`` at the mixture's rate; as long as the mixture unless the delay was kept."""
    rate_hz: int
    timing: Timing
    gains: Float | None
    """Gains ``[hops, bands]``, if asked for; hop *t* shapes the samples around ``t * hop`` of the trimmed signal."""
    clipped_samples: int
    """Samples of the mixture in runs at full scale: sound that was lost there cannot be extracted."""
    silent: bool
    """Whether the mixture was silent, and so is the output."""

    def figures(self, frame: FrameSpec) -> dict[str, object]:
        """Figures by name, ready for a report; ``frame`` is the geometry of the engine that extracted."""
        return {
            "channels": self.signal.shape[0],
            "rate_hz": self.rate_hz,
            "seconds": self.signal.shape[1] / self.rate_hz,
            "algorithmic_latency_ms": frame.algorithmic_latency_s * 1e3,
            "compute": self.timing.figures(),
            "memory": memory(),
            "input_clipped_samples": self.clipped_samples,
            "input_silent": self.silent,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Examined:
    """An extraction, the condition of its mixture, and the corrections that were applied."""

    extraction: Extraction
    """Extraction; where one ear is dead, that of the other on both channels."""
    condition: Condition
    gain: float
    """Factor applied to the mixture first: below 1 if its floats were above full scale."""

    def figures(self, frame: FrameSpec) -> dict[str, object]:
        """Figures by name, ready for a report; ``frame`` as for :meth:`Extraction.figures`."""
        found = self.condition
        condition = {**asdict(found), "dead_ear": found.dead_ear, "inverted": found.inverted}
        return {**self.extraction.figures(frame), "input_gain": self.gain, "input_condition": condition}

    def remarks(self, level_invariant: bool = False) -> tuple[str, ...]:
        """One line for each thing that is wrong with the mixture, and for what was done about it."""
        out = () if self.extraction.silent else self.condition.remarks(level_invariant)
        if self.condition.dead_ear is not None:
            out += ("taken as mono, and the talker is written to both ears",)
        if self.gain < 1:
            louder_db = -20 * np.log10(self.gain)
            remark = f"the samples reach {1 / self.gain:.2f}, {louder_db:.1f} dB over full scale; nothing is lost, they are taken,"
            out += (f"{remark} and the talker written, {louder_db:.1f} dB quieter",)
        return out


class Extractor:
    """A running extraction that takes chunks of any size.

    Output appears in whole hops and lags the input by ``frame.delay`` samples. However a signal is cut into chunks, the
    concatenated output is the same to the last bit.
    """

    def __init__(
        self,
        engine: AnyEngine,
        ears: int,
        observe: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``observe`` is told the seconds that each step took by ``clock``, after the step."""
        self.frame = engine.frame
        self.step = engine.start(ears)
        self._pending = np.zeros((ears, 0), np.float32)
        self._observe = observe
        self._clock = clock

    def push(self, chunk: Float) -> Float:
        """Take samples and give the whole hops that are complete, ``[ears, any] -> [ears, whole hops]``."""
        hop = self.frame.hop
        data = np.concatenate([self._pending, chunk], axis=1)
        whole = data.shape[1] // hop * hop
        out = np.empty((data.shape[0], whole), np.float32)
        for at in range(0, whole, hop):
            began = self._clock()
            out[:, at : at + hop] = self.step(data[:, at : at + hop])
            if self._observe is not None:
                self._observe(self._clock() - began)
        self._pending = data[:, whole:].copy()  # a copy, not a view that keeps the whole chunk alive
        return out

    def flush(self) -> Float:
        """The rest of the output, ``[ears, whole hops]``, by feeding silence; the next signal starts afresh."""
        hop = self.frame.hop
        n = self._pending.shape[1] + self.frame.delay
        silence = np.zeros((self._pending.shape[0], -(-n // hop) * hop - self._pending.shape[1]), np.float32)
        out = self.push(silence)
        self.reset()
        return out

    def reset(self) -> None:
        """Forget the past: the next sample is the first."""
        self._pending = self._pending[:, :0]
        self.step.reset()


def extract(
    mixture: Float,
    rate_hz: int,
    engine: AnyEngine,
    *,
    trim: bool = True,
    keep_gains: bool = False,
    name: str = "the mixture",
    progress: Callable[[float], None] | None = None,
) -> Extraction:
    """Extract the talker that ``engine`` is personalized for from ``[channels, samples]`` at any rate.

    ``trim`` removes the delay; without it the output begins with the algorithmic latency that a live device has, and is longer by
    it. ``progress`` is called about once per second of sound with the fraction done. ``AudioError`` for more channels
    than ears and for what :func:`edge_tse.audio.check` refuses.
    """
    frame = engine.frame
    audio.check_ears(mixture, frame.ears, name)
    audio.check(mixture, rate_hz, name)
    inner = audio.resample(mixture, rate_hz, frame.sample_rate_hz)
    ears, n = inner.shape
    hops = -(-(n + frame.delay) // frame.hop)
    padded = np.zeros((ears, hops * frame.hop), np.float32)
    padded[:, :n] = inner

    hop_s = np.empty(hops)
    gains = np.empty((hops, frame.bands), np.float32) if keep_gains else None
    done = 0

    def observe(seconds: float) -> None:
        nonlocal done
        hop_s[done] = seconds
        if gains is not None and isinstance(extractor.step, GainStep):
            gains[done] = extractor.step.gain
        done += 1

    extractor = Extractor(engine, ears, observe)
    stream = np.empty_like(padded)
    block = frame.sample_rate_hz // frame.hop * frame.hop
    for at in range(0, padded.shape[1], block):
        stream[:, at : at + block] = extractor.push(padded[:, at : at + block])
        if progress is not None:
            progress(done / hops)

    if trim:
        out = stream[:, frame.delay : frame.delay + n]
    else:
        # A live device also waits for a hop to fill before it can start: together with the delay, the algorithmic latency.
        out = np.concatenate([np.zeros((ears, frame.synthesis - frame.delay), np.float32), stream[:, : n + frame.delay]], axis=1)
    out = audio.resample(out, frame.sample_rate_hz, rate_hz)
    if trim:
        out = out[:, : mixture.shape[1]]
    return Extraction(
        signal=out,
        rate_hz=rate_hz,
        timing=Timing(hop_s=hop_s, period_s=frame.period_s),
        gains=gains,
        clipped_samples=audio.clipped_samples(mixture),
        silent=audio.is_silent(mixture),
    )


def extract_examined(
    mixture: Float,
    rate_hz: int,
    engine: AnyEngine,
    *,
    trim: bool = True,
    name: str = "the mixture",
    progress: Callable[[float], None] | None = None,
) -> Examined:
    """Examine a recording and :func:`extract` from it: mono where one ear is dead, within full scale.

    A dead ear is no second one: its noise would be taken for where sound comes from.
    """
    audio.check_ears(mixture, engine.frame.ears, name)
    condition, gain = examine(mixture, rate_hz), full_scale_gain(mixture)
    heard = mixture if condition.dead_ear is None else mixture[[1 - condition.dead_ear]]
    got = extract(heard * np.float32(gain), rate_hz, engine, trim=trim, name=name, progress=progress)
    whole = np.repeat(got.signal, len(mixture) // len(heard), axis=0)
    return Examined(extraction=replace(got, signal=whole), condition=condition, gain=gain)
