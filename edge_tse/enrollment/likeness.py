"""Likeness of enrolled voices, and what it costs: for two that are alike the output may be the other talker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from edge_tse.trust import LikenessCost, Trust
from edge_tse.voice import Voice, VoiceModel

__all__ = ["Pair", "likeness", "pairs"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two voices and their likeness."""

    first: str
    second: str
    likeness: float
    """Cosine of their embeddings."""
    trust: Trust | None
    """What was measured of their model; None if nothing was."""

    @property
    def loss_db(self) -> float | None:
        """Gain of SI-SDR to be expected less with one ear than of a mixture of two voices of typical likeness; None if unknown."""
        return None if self.trust is None else self.trust.one_ear.loss_db(self.likeness)

    @property
    def loss_two_ears_db(self) -> float | None:
        """The same with two ears."""
        return None if self.trust is None else self.trust.two_ears.loss_db(self.likeness)

    @property
    def costly(self) -> bool:
        """Whether it should be said before anybody listens: a decibel or more with one ear."""
        return self.loss_db is not None and self.loss_db >= 1

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        return {
            "voices": [self.first, self.second],
            "likeness": self.likeness,
            "expected_loss_db": {"one_ear": self.loss_db, "two_ears": self.loss_two_ears_db},
            "most_measured": None
            if self.trust is None
            else {"one_ear": self.trust.one_ear.most, "two_ears": self.trust.two_ears.most},
        }

    @property
    def said(self) -> str:
        """One line for people."""
        alike = f"{self.first} and {self.second} are {self.likeness:.2f} alike"
        if self.trust is None:
            return f"{alike}: what that costs was not measured for this model"
        if self.likeness <= self.trust.one_ear.typical:
            return f"{alike}: no more than most voices"
        one, two = (_loss(cost, self.likeness) for cost in (self.trust.one_ear, self.trust.two_ears))
        return f"{alike}: expect {one} less with one ear, {two} with two"


def _loss(cost: LikenessCost, likeness: float) -> str:
    return f"{'at least ' if likeness > cost.most else ''}{cost.loss_db(likeness):.1f} dB"


def likeness(model: VoiceModel, first: Voice, second: Voice) -> float:
    """Cosine of the embeddings of two voices of this model, in [-1, 1]."""
    return float(first.embedding[: model.dimension] @ second.embedding[: model.dimension])


def pairs(model: VoiceModel, voices: Mapping[str, Voice], trust: Trust | None) -> list[Pair]:
    """Every two of these voices by name, the most alike first; ``trust`` tells what it costs."""
    found = [
        Pair(first=a, second=b, likeness=likeness(model, first, second), trust=trust)
        for (a, first), (b, second) in combinations(voices.items(), 2)
    ]
    return sorted(found, key=lambda pair: -pair.likeness)
