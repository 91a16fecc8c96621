"""Deletion and insertion: the energy that each stage removes from a mixture and adds, as shares of the mixture's energy.

After the analysis of Mask2Flow-TSE: a stage that turns one spectrogram into another removes energy where its output is lower and
adds energy where it is higher. A mask can only delete; the clean target needs both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.front import features_of, gains
from edge_tse.golden import Network

__all__ = ["STAGES", "FlowStep", "Moves", "moves", "moves_of_gains", "moves_of_steps", "stages", "title"]

Float = NDArray[np.float32]

STAGES = {
    "mask": "stage 1: mixture to masked",
    "flow": "stage 2: one flow step from there",
    "both": "both: mixture to output",
    "target": "what was wanted: mixture to target",
}


@dataclass(frozen=True)
class FlowStep:
    """A point on the way of the flow: after ``step`` of ``steps``. Its text is the name of that stage."""

    solver: str
    steps: int
    step: int

    def __str__(self) -> str:
        return f"{self.solver} {self.step}/{self.steps}"

    @classmethod
    def parse(cls, stage: str) -> FlowStep | None:
        """Inverse of the text; None if ``stage`` is one of :data:`STAGES`."""
        if stage in STAGES:
            return None
        solver, _, place = stage.partition(" ")
        step, _, steps = place.partition("/")
        return cls(solver, int(steps), int(step))


def title(stage: str) -> str:
    """Title of a stage, for people."""
    at = FlowStep.parse(stage)
    if at is None:
        return STAGES[stage]
    return f"mixture to {at.solver.capitalize()} {at.step}/{at.steps}"


@dataclass(frozen=True, kw_only=True)
class Moves:
    """Energy removed and added between two spectrograms, relative to the mixture's."""

    deleted: float
    inserted: float

    @property
    def insertion_share(self) -> float:
        """Added energy as a share of all moved energy; 0 where nothing moved."""
        moved = self.deleted + self.inserted
        return self.inserted / moved if moved else 0.0

    @classmethod
    def mean(cls, several: Iterable[Moves]) -> Moves:
        """Mean over items, each counting the same."""
        rows = np.array([(m.deleted, m.inserted) for m in several])
        deleted, inserted = rows.mean(axis=0)
        return cls(deleted=float(deleted), inserted=float(inserted))


def moves(before: Float, after: Float, mixture: Float) -> Moves:
    """Energy moved between spectrograms ``[frames, bands]``, relative to the ``mixture``'s. ``AudioError`` if that is silent."""
    whole = float(mixture.sum(dtype=np.float64))
    if whole <= 0:
        raise AudioError("the mixture is silent: nothing can be taken from it or added to it")
    change = after.astype(np.float64) - before
    return Moves(deleted=float(-change[change < 0].sum()) / whole, inserted=float(change[change > 0].sum()) / whole)


def stages(artifact: Artifact, network: Network, mixture: Float, target: Float | None = None) -> Mapping[str, Moves]:
    """Moves of each of :data:`STAGES` over a mixture ``[ears, samples]`` at the model's rate; "target" only where it is given.

    ``network`` runs the artifact's graph, a voice folded in; it is reset. Of a model with a beam these are the moves of its gains:
    what the beam takes away beyond them is not of a band but of a direction.
    """
    frame, tensors = artifact.frame, artifact.graph.tensors
    rows = features_of(frame, tensors, mixture, network)
    network.reset()
    outputs = zip(*(tuple(value.copy() for value in network.run(row)) for row in rows), strict=True)
    decided = gains(tensors, *(np.array(output) for output in outputs))
    wanted = None if target is None else _energy(frame, frame.analyze(target))
    return moves_of_gains(_energy(frame, frame.analyze(mixture)), decided.mask, decided.gain, wanted)


def moves_of_gains(energy: Float, mask: Float, out: Float, target: Float | None) -> dict[str, Moves]:
    """Moves of each of :data:`STAGES` from gains on a mixture after stage 1 and at the end.

    All are ``[frames, bands]``; ``energy`` of the mixture, ``target`` of what was wanted, if that is known.
    """
    masked, arrived = mask**2 * energy, out**2 * energy
    found = {
        "mask": moves(energy, masked, energy),
        "flow": moves(masked, arrived, energy),
        "both": moves(energy, arrived, energy),
    }
    if target is not None:
        found["target"] = moves(energy, target, energy)
    return found


def moves_of_steps(energy: Float, gains: Sequence[Float], solver: str) -> dict[str, Moves]:
    """Moves from the mixture to each state of the flow, by :class:`FlowStep`; ``gains`` after each step, ``[frames, bands]``."""
    return {str(FlowStep(solver, len(gains), k)): moves(energy, gain**2 * energy, energy) for k, gain in enumerate(gains, start=1)}


def _energy(frame: FrameSpec, spectra: NDArray[np.complex64]) -> Float:
    """Energy per band, summed over the ears: ``[frames, bands]``."""
    power = (spectra.real**2 + spectra.imag**2).sum(axis=1)
    out: Float = np.add.reduceat(power, frame.band_edges[:-1], axis=-1)
    return out
