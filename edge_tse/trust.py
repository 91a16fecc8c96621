"""How far the output of a model can be trusted, as it was measured: what likeness of voices costs, what a confidence rests on.

The figures of shipped models are those of ``assets/trust.json``, by the digest of the artifact. ``python -m benchmarks.likeness``
measures and writes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from edge_tse.errors import ArtifactError
from edge_tse.table import parse_json, read_table

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact

__all__ = ["ASSET", "Calibration", "LikenessCost", "Trust", "read_trust"]

ASSET = "trust.json"
"""File in ``assets/``: a :class:`Trust` by the digest of each model."""


@dataclass(frozen=True, kw_only=True)
class LikenessCost:
    """Gain of SI-SDR over the likeness of the two voices in a mixture: a line through measured trials."""

    typical: float
    """Median likeness of two talkers."""
    gain_db: float
    """Gain at that likeness."""
    slope_db: float
    """Change of gain for a likeness that is greater by 1."""
    most: float
    """Greatest likeness that was measured: nothing is known beyond, and the line ends there."""

    def expected_db(self, likeness: float) -> float:
        """Gain to expect of a mixture of two voices that are so alike."""
        return self.gain_db + self.slope_db * (min(likeness, self.most) - self.typical)

    def loss_db(self, likeness: float) -> float:
        """Gain that is lost against two voices of typical likeness; 0 if they are less alike."""
        return max(0.0, self.gain_db - self.expected_db(likeness))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Logistic regression from what a stretch of sound resembles to the probability that the output is the enrolled talker."""

    voice: float
    """Weight of the cosine between output and enrolled voice."""
    change: float
    """Weight of the cosine between output and mixture."""
    level: float
    """Weight of the level of the output relative to the mixture, per 10 dB."""
    bias: float
    doubtful: float
    """Probability below which another talker is reported: exceeded by 95 % of the seconds of the right one."""

    def probability(self, voice: float, change: float, level_db: float) -> float:
        """Probability in [0, 1]."""
        z = self.bias + self.voice * voice + self.change * change + self.level * level_db / 10
        return 1 / (1 + math.exp(-min(max(z, -50.0), 50.0)))


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What was measured of one model."""

    model: str
    """Name of the model, for people."""
    one_ear: LikenessCost
    two_ears: LikenessCost
    confidence: Calibration

    @classmethod
    def of(cls, artifact: Artifact) -> Trust | None:
        """What was measured of an artifact before a voice was folded in; None if nothing was, as of a model that is not shipped."""
        return read_trust((resources.files("edge_tse") / "assets" / ASSET).read_bytes()).get(artifact.digest)


def read_trust(content: bytes) -> Mapping[str, Trust]:
    """The content of :data:`ASSET`; ``ArtifactError`` if it is something else."""
    again = "install edge-tse again"
    found = parse_json(content, ASSET, ArtifactError, again)
    return {digest: read_table(Trust, entry, f"{ASSET}: {digest[:12]}", ArtifactError) for digest, entry in found.items()}
