"""Extraction: sound in, the enrolled talker out, always hop by hop through the same step that runs live.

A file is not processed as a whole and in no other way than a microphone would be; what a file allows is only to remove the delay
afterwards, so that input and output line up sample for sample.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.mix import TALKER_ALONE, Mix, Passing
from edge_tse.report import Timing, memory
from edge_tse.stream import AnyEngine, AnyStep, GainStep

__all__ = ["Extraction", "Extractor", "Hops", "Passage", "extract_blocks", "extract_signal"]

Float = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """How an extraction went."""

    channels: int
    samples: int
    """Samples of a channel of the talker."""
    rate_hz: int
    timing: Timing
    clipped_samples: int
    """Samples of the mixture in runs at full scale: sound that was lost there cannot be extracted."""
    silent: bool
    """Whether the mixture was silent, and so is the talker."""

    @property
    def seconds(self) -> float:
        return self.samples / self.rate_hz

    def figures(self, frame: FrameSpec) -> dict[str, object]:
        """Figures by name, ready for a report; ``frame`` is the geometry of the engine that extracted."""
        return {
            "channels": self.channels,
            "rate_hz": self.rate_hz,
            "seconds": self.seconds,
            "algorithmic_latency_ms": frame.algorithmic_latency_s * 1e3,
            "compute": self.timing.figures(),
            "memory": memory(),
            "input_clipped_samples": self.clipped_samples,
            "input_silent": self.silent,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Extraction(Passage):
    """The extracted talker, and how the extraction went."""

    signal: Float
    """``[channels, samples]`` at the mixture's rate; as long as the mixture unless the delay was kept."""
    gains: Float | None
    """Gains ``[hops, bands]``, if asked for and told, which a board does not; hop *t* shapes the samples around ``t * hop`` of the
    trimmed signal."""


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


def extract_signal(
    mixture: Float,
    rate_hz: int,
    engine: AnyEngine,
    *,
    trim: bool = True,
    mix: Mix = TALKER_ALONE,
    keep_gains: bool = False,
    name: str = "the mixture",
    progress: Callable[[float], None] | None = None,
) -> Extraction:
    """Extract the talker that ``engine`` is personalized for from ``[channels, samples]`` at any rate.

    ``trim`` removes the delay; without it the output begins with the algorithmic latency that a live device has, and is longer by
    it. ``mix`` leaves some of the mixture in. ``progress`` is called about once per second of sound with the fraction done.
    ``AudioError`` for more channels than ears and for what :func:`edge_tse.audio.check` refuses.
    """
    sound = audio.Held(mixture, rate_hz, name)
    audio.check_ears(len(mixture), engine.frame.ears, name)
    audio.check(mixture, rate_hz, name)
    hops = Hops(engine.frame, mixture.shape[1], rate_hz, keep_gains, progress)
    blocks = extract_blocks(sound.blocks(), rate_hz, engine, len(mixture), hops, trim=trim, mix=mix)
    signal: Float = np.concatenate(list(blocks), axis=1)
    return Extraction(
        channels=signal.shape[0],
        samples=signal.shape[1],
        rate_hz=rate_hz,
        timing=hops.timing,
        clipped_samples=audio.clipped_samples(mixture),
        silent=audio.is_silent(mixture),
        signal=signal,
        gains=hops.gains,
    )


class Hops:
    """Times, and gains if they are kept, of the hops of an extraction, in order."""

    def __init__(
        self,
        frame: FrameSpec,
        samples: int,
        rate_hz: int,
        keep_gains: bool = False,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Room for the hops of so many samples at a rate; ``progress`` is told the fraction done."""
        count = -(-(_at_rate(frame, samples, rate_hz) + frame.delay) // frame.hop)
        # float32: an hour has a million hops.
        self._seconds, self._period_s = np.zeros(count, np.float32), frame.period_s
        self.gains = np.empty((count, frame.bands), np.float32) if keep_gains else None
        """``[hops, bands]``; None if they are not kept, or the steps do not tell theirs."""
        self.done = 0
        self._progress = progress

    def add(self, seconds: float, step: AnyStep) -> None:
        """Note the time of a step that has just been taken, and its gains."""
        self._seconds[self.done] = seconds
        if self.gains is not None and isinstance(step, GainStep):
            self.gains[self.done] = step.gain
        else:
            self.gains = None
        self.done += 1

    def tell(self) -> None:
        """Tell how far it is."""
        if self._progress is not None:
            self._progress(self.done / len(self._seconds))

    @property
    def timing(self) -> Timing:
        """Compute time of every step."""
        return Timing(hop_s=self._seconds, period_s=self._period_s)


def extract_blocks(
    blocks: Iterable[Float],
    rate_hz: int,
    engine: AnyEngine,
    channels: int,
    hops: Hops | None = None,
    *,
    trim: bool = True,
    mix: Mix = TALKER_ALONE,
) -> Iterator[Float]:
    """:func:`extract_signal` of sound in blocks ``[channels, any]``, checked before: gives the talker in blocks, to the same bits.

    However long it is, a few blocks are held. ``hops`` are of that length, and see every step. ``AudioError`` for a mix that is
    not trimmed: it would not be aligned.
    """
    if not trim and mix != TALKER_ALONE:
        raise AudioError("the latency is kept, and a mix is aligned with the mixture: ask for one of both")
    frame = engine.frame
    passing = Passing(blocks, keep=mix.room != 0)
    extractor = Extractor(engine, channels, None if hops is None else lambda seconds: hops.add(seconds, extractor.step))
    streamed = _streamed(extractor, audio.resampled(passing, rate_hz, frame.sample_rate_hz), channels, hops)
    if not trim:
        # A live device also waits for a hop to fill before it can start: together with the delay, the algorithmic latency.
        waited = np.zeros((channels, frame.synthesis - frame.delay), np.float32)
        yield from audio.resampled(chain([waited], streamed), frame.sample_rate_hz, rate_hz)
        return
    given = 0
    for block in audio.resampled(_without(streamed, frame.delay), frame.sample_rate_hz, rate_hz):
        talker = block[:, : passing.samples - given]  # the last one may be longer, by what resampling rounds up
        given += talker.shape[1]
        if talker.shape[1]:
            yield mix(talker, passing)


def _at_rate(frame: FrameSpec, samples: int, rate_hz: int) -> int:
    """Samples at the geometry's rate, as :func:`edge_tse.audio.resample` has them."""
    return -(-samples * frame.sample_rate_hz // rate_hz)


def _streamed(extractor: Extractor, blocks: Iterable[Float], ears: int, hops: Hops | None) -> Iterator[Float]:
    """The talker in blocks at the geometry's rate: as long as the sound, and its delay longer."""
    frame = extractor.frame
    taken = given = 0
    for block in blocks:
        taken += block.shape[1]
        out = extractor.push(block)
        given += out.shape[1]
        yield out
        if hops is not None:
            hops.tell()
    whole = -(-(taken + frame.delay) // frame.hop) * frame.hop
    yield extractor.push(np.zeros((ears, whole - taken), np.float32))[:, : taken + frame.delay - given]
    if hops is not None:
        hops.tell()


def _without(blocks: Iterable[Float], samples: int) -> Iterator[Float]:
    """A signal in blocks without its first ``samples``."""
    for block in blocks:
        rest = block[:, samples:]
        samples = max(0, samples - block.shape[1])
        if rest.shape[1]:
            yield rest
