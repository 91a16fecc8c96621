"""Whether the output is the enrolled talker: a confidence for each second, by the enrollment encoder, beside the extraction.

A second is judged with the one before and the one after it. Output and mixture are embedded as enrollments are; how like the output
is to the enrolled voice and to the mixture, and how much quieter than that it is, together give a probability
(:class:`~edge_tse.trust.Calibration`). Where nobody is heard there is none. docs/decisions/0050 has what it catches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.frame import FrameSpec
from edge_tse.stream import AnyEngine, AnyStep
from edge_tse.trust import Calibration, Trust
from edge_tse.voice import POOL, Voice, VoiceModel, active_frames, active_levels, pooled_levels

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact

__all__ = ["Confidence", "DoubtWatch", "Features", "Recognizer"]

Float = NDArray[np.float32]

LEAST_ACTIVE_S = 0.3
"""Speech in the output of a second that is judged."""
LEAST_STRETCH_S = 0.8
"""Speech that is embedded: with less, an embedding depends more on the words than on the talker."""
LASTING = 3
"""Seconds that another talker is probably heard before a session says so: single ones are mostly false alarms."""
LEAST_LEVEL_DB = -25.0
"""Level of the output relative to the mixture below which nobody is heard."""
_QUIETEST = 1e-10


class Features(NamedTuple):
    """What is seen of a second and those around it."""

    voice: float
    """Cosine between output and enrolled voice."""
    change: float
    """Cosine between output and mixture."""
    level_db: float
    """Level of the output relative to the mixture."""


class _Second(NamedTuple):
    """Band levels ``[hops, bands]`` and energies of a second."""

    talker: Float
    heard: Float
    talker_energy: float
    heard_energy: float
    voice: Float


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Confidence in an extraction, second by second."""

    seconds: tuple[float | None, ...]
    """Probability that the output is the enrolled talker; None where nobody is heard."""
    doubtful_below: float

    @property
    def mean(self) -> float | None:
        """Mean over the seconds in which somebody is heard; None if there is none."""
        known = [p for p in self.seconds if p is not None]
        return sum(known) / len(known) if known else None

    @property
    def doubtful(self) -> tuple[tuple[int, int], ...]:
        """Stretches, in seconds from the first up to the last and not including it, that probably are another talker."""
        out: list[tuple[int, int]] = []
        for at, p in enumerate(self.seconds):
            if p is None or p >= self.doubtful_below:
                continue
            if out and out[-1][1] == at:
                out[-1] = (out[-1][0], at + 1)
            else:
                out.append((at, at + 1))
        return tuple(out)

    @property
    def said(self) -> str:
        """One line for people."""
        if self.mean is None:
            return "nobody is heard"
        shown = [f"{a}\N{EN DASH}{b}" for a, b in self.doubtful]
        most = 8
        more = f" and {len(shown) - most} more" if len(shown) > most else ""
        if not shown:
            return f"{self.mean:.2f} on average, nowhere below {self.doubtful_below:.2f}"
        return f"{self.mean:.2f} on average; seconds {', '.join(shown[:most])}{more}: probably another talker"

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        return {
            "seconds": [None if p is None else round(p, 3) for p in self.seconds],
            "mean": self.mean,
            "doubtful_below": self.doubtful_below,
            "doubtful": [list(stretch) for stretch in self.doubtful],
        }


class Recognizer:
    """Judges a stream while it is extracted.

    :meth:`push` copies and never computes; :meth:`work` computes, on another thread or on the same one.
    """

    def __init__(self, model: VoiceModel, calibration: Calibration, voice: Voice) -> None:
        """``voice`` is the first that is heard; :meth:`switch_to` changes it."""
        self._model, self._calibration, self._dimension = model, calibration, model.dimension
        self._voice = voice.embedding[: model.dimension]
        self.frame = model.frame
        self._coming: deque[tuple[Float, Float, Float]] = deque()
        self.reset()

    @classmethod
    def of(cls, artifact: Artifact, voice: Voice) -> Recognizer | None:
        """The recognizer of an artifact before a voice was folded in; None if none was measured, as of one that is not shipped."""
        trust = Trust.of(artifact)
        return None if trust is None else cls(artifact.voice_model, trust.confidence, voice)

    def reset(self) -> None:
        """Forget everything: the next piece begins a new stream."""
        self._coming.clear()
        self._parts: list[tuple[Float, Float, Float]] = []
        self._held = 0
        self._before: tuple[Float, Float] | None = None
        self._recent: deque[_Second] = deque(maxlen=3)
        self._features: list[Features | None] = []

    def switch_to(self, voice: Voice) -> None:
        """Compare with another voice from now on; seconds around the change are not judged."""
        self._voice = voice.embedding[: self._dimension]

    def push(self, heard: Float, talker: Float) -> None:
        """Take a piece of the mixture and of what came of it, ``[ears, any]`` each at the model's rate, lined up."""
        self._coming.append((heard.copy(), talker.copy(), self._voice))

    def work(self) -> None:
        """Judge what can be judged of what has been pushed."""
        while self._coming:
            piece = self._coming.popleft()
            self._parts.append(piece)
            self._held += piece[0].shape[1]
            while self._held >= self.frame.sample_rate_hz:
                self._add(self.frame.sample_rate_hz)
                if len(self._recent) > 1:
                    self._judge(len(self._recent) - 2)

    def finish(self) -> tuple[Features | None, ...]:
        """Judge the rest, if it is half a second or more, and tell what each second was judged by; None where nobody is heard.

        The next piece begins a new stream.
        """
        self.work()
        if self._held >= self.frame.sample_rate_hz // 2:
            self._add(self._held)
            if len(self._recent) > 1:
                self._judge(len(self._recent) - 2)
        if self._recent:
            if len(self._recent) == 3:
                self._recent.popleft()
            self._judge(len(self._recent) - 1)
        seen = tuple(self._features)
        self.reset()
        return seen

    def close(self) -> Confidence:
        """As :meth:`finish`: the confidence in each second."""
        return self._told(self.finish())

    @property
    def confidence(self) -> Confidence:
        """Confidence in what has been judged so far: up to the second before the last that is complete."""
        return self._told(tuple(self._features))

    @property
    def last(self) -> float | None:
        """Probability of the second that was judged last; None where nobody is heard, or before the first."""
        seen = self._features[-1] if self._features else None
        return None if seen is None else self._calibration.probability(*seen)

    @property
    def last_doubt(self) -> tuple[int, int] | None:
        """The doubtful stretch that is going on, as in :attr:`Confidence.doubtful`; None if there is none."""
        end = at = len(self._features)
        while at and (seen := self._features[at - 1]) and self._calibration.probability(*seen) < self._calibration.doubtful:
            at -= 1
        return (at, end) if at < end else None

    def told(self, shape: Callable[[Float, Float], Float]) -> Callable[[Float, Float], Float]:
        """The ``shape`` of a session, with this recognizer told of every hop."""

        def tell_and_shape(talker: Float, dry: Float) -> Float:
            self.push(dry, talker)
            return shape(talker, dry)

        return tell_and_shape

    def _told(self, features: tuple[Features | None, ...]) -> Confidence:
        chosen = self._calibration
        seconds = tuple(None if seen is None else chosen.probability(*seen) for seen in features)
        return Confidence(seconds=seconds, doubtful_below=chosen.doubtful)

    def beside(self, engine: AnyEngine) -> AnyEngine:
        """The engine, with this recognizer told of every hop."""
        return _Watched(engine, self)

    def between(self, progress: Callable[[float], None]) -> Callable[[float], None]:
        """The ``progress`` of an extraction, with this recognizer working when it is told: outside of steps, which are timed."""

        def work_and_tell(fraction: float) -> None:
            self.work()
            progress(fraction)

        return work_and_tell

    def _add(self, samples: int) -> None:
        """Take the first ``samples`` of what is held as the next second."""
        heard, talker = self._parts[0][:2]
        if len(self._parts) > 1:
            heard, talker = (np.concatenate([part[i] for part in self._parts], axis=1) for i in (0, 1))
        voice = self._parts[-1][2]
        if any(part[2] is not voice for part in self._parts):
            voice = np.zeros_like(voice)  # of two voices: it equals no other
        rest = (heard[:, samples:], talker[:, samples:], self._parts[-1][2])
        self._parts = [rest] if rest[0].shape[1] else []
        self._held -= samples
        seen = self.frame.window - self.frame.hop
        if self._before is None:
            self._before = np.zeros((len(heard), seen), np.float32), np.zeros((len(heard), seen), np.float32)
        heard, talker = heard[:, :samples], talker[:, :samples]
        energies = np.square(talker, dtype=np.float64).sum(axis=1)
        # One ear, the louder one: the sum of both would be a comb filter.
        ear = int(np.argmax(energies))
        joined = [np.concatenate([before, now], axis=1) for before, now in zip(self._before, (heard, talker), strict=True)]
        self._before = joined[0][:, -seen:], joined[1][:, -seen:]
        levels = [self.frame.band_levels(self.frame.analyze(x[[ear]]))[seen // self.frame.hop :] for x in joined]
        heard_energy = float(np.square(heard[ear], dtype=np.float64).sum())
        self._recent.append(_Second(levels[1], levels[0], float(energies[ear]), heard_energy, voice))

    def _judge(self, at: int) -> None:
        """Judge second ``at`` of the recent ones with those around it."""
        self._features.append(self._seen(at))

    def _seen(self, at: int) -> Features | None:
        second, stretch = self._recent[at], tuple(self._recent)
        if any(each.voice is not second.voice for each in stretch):
            return None
        own = 10 * np.log10((second.talker_energy + _QUIETEST) / (second.heard_energy + _QUIETEST))
        pooled = pooled_levels(np.concatenate([each.talker for each in stretch]))
        begins = sum(len(each.talker) for each in list(stretch)[:at]) // POOL
        spoken = active_frames(pooled)
        frame_s = POOL * self.frame.period_s
        here = spoken[begins : begins + len(second.talker) // POOL].sum() * frame_s
        if own < LEAST_LEVEL_DB or here < LEAST_ACTIVE_S or spoken.sum() * frame_s < LEAST_STRETCH_S:
            return None
        talker, heard = (
            self._model.embed(active_levels(np.concatenate(levels)))
            for levels in ([each.talker for each in stretch], [each.heard for each in stretch])
        )
        ratio = sum(each.talker_energy for each in stretch) / (sum(each.heard_energy for each in stretch) + _QUIETEST)
        return Features(
            voice=float(talker @ second.voice),
            change=float(talker @ heard),
            level_db=float(10 * np.log10(ratio + _QUIETEST)),
        )


class DoubtWatch:
    """Lets a recognizer of a running session work, and says once when it has doubted for :data:`LASTING` seconds on end."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer, self._said = recognizer, -1

    def __call__(self) -> str:
        """Judge what there is; a remark on a doubt that has begun to last, empty if there is none."""
        self._recognizer.work()
        last = self._recognizer.last_doubt
        if last is None or last[1] - last[0] < LASTING or last[0] == self._said:
            return ""
        self._said = last[0]
        return f"confidence: since second {last[0]} probably another talker"


class _Watched:
    """An engine whose steps a recognizer is told of."""

    def __init__(self, engine: AnyEngine, recognizer: Recognizer) -> None:
        self._engine, self._recognizer = engine, recognizer

    @property
    def frame(self) -> FrameSpec:
        return self._engine.frame

    def start(self, ears: int) -> AnyStep:
        self._recognizer.reset()
        return _WatchedStep(self._engine.start(ears), self._recognizer, ears)


class _WatchedStep:
    def __init__(self, step: AnyStep, recognizer: Recognizer, ears: int) -> None:
        self._step, self._recognizer = step, recognizer
        self._late = np.zeros((ears, recognizer.frame.delay), np.float32)

    def __call__(self, hop: Float) -> Float:
        talker = self._step(hop)
        joined = np.concatenate([self._late, hop], axis=1)
        self._recognizer.push(joined[:, : hop.shape[1]], talker)
        self._late = joined[:, hop.shape[1] :]
        return talker

    def reset(self) -> None:
        self._step.reset()
        self._late = np.zeros_like(self._late)
