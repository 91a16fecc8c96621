"""Deletion and insertion of a float checkpoint over a list of trials; of the published system also by each step of its flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from edge_tse.analysis import Moves, moves_of_gains, moves_of_steps
from edge_tse.errors import DataError
from edge_tse.nn.baselines import Baseline
from edge_tse.nn.front import TorchFront
from edge_tse.nn.mask2flow import SOLVERS, Mask2Flow
from edge_tse.nn.student import Student
from quantization.analyse import mean_over, signals
from quantization.checkpoint import Checkpoint, load_checkpoint
from quantization.float_listener import enroll
from quantization.scores import Float
from quantization.trial_list import Trial

__all__ = ["STEPS", "analyse_checkpoint"]

STEPS = (1, 2, 4, 8)
"""Lengths of the flows that are compared."""


def analyse_checkpoint(
    trials: Path, checkpoint: Path, progress: Callable[[float], None] = lambda fraction: None
) -> dict[str, dict[str, Moves]]:
    """Mean moves of each stage by condition, ``{condition: {stage: moves}}``.

    For the published system there are also the states of the flow after each step of :data:`STEPS` by each solver, named as
    :class:`edge_tse.analysis.FlowStep`; its bands are mel bands, and its stages those of one Euler step. ``DataError`` for a file
    that is no checkpoint or no list of trials.
    """
    source = load_checkpoint(checkpoint)
    if isinstance(source.student, Baseline):
        raise DataError(f"{checkpoint}: {source.recipe.name!r} is a baseline and makes no moves of mask and flow: take a student")

    @torch.no_grad()
    def one(trial: Trial) -> dict[str, dict[str, float]]:
        voice = enroll(source, trial)
        mixture, target = signals(trial, source.recipe.student.frame.sample_rate_hz)
        of = _analyse_published if isinstance(source.student, Mask2Flow) else _student
        return {stage: vars(moves) for stage, moves in of(source, mixture, target, voice).items()}

    return mean_over(trials, one, progress)


def _student(source: Checkpoint, mixture: Float, target: Float | None, voice: torch.Tensor) -> dict[str, Moves]:
    assert isinstance(source.student, Student)
    front = TorchFront(source.recipe.student.frame)
    whole = mixture.shape[1] // front.frame.hop * front.frame.hop
    spectra = front.analyze(torch.from_numpy(mixture[None, :, :whole].copy()))
    moves = source.student.listen(front, spectra, voice)

    def energy(spectra: torch.Tensor) -> Float:
        summed: Float = front.energy(spectra).sum(dim=1)[0].numpy()
        return summed

    wanted = None if target is None else energy(front.analyze(torch.from_numpy(target[None, :, :whole].copy())))
    return moves_of_gains(energy(spectra), moves.mask[0].numpy(), moves.gain[0].numpy(), wanted)


def _analyse_published(source: Checkpoint, mixture: Float, target: Float | None, voice: torch.Tensor) -> dict[str, Moves]:
    system = source.student
    assert isinstance(system, Mask2Flow)
    spectra = system.front.analyze(torch.from_numpy(mixture)[None])
    wanted = None if target is None else system.front.energy(system.front.analyze(torch.from_numpy(target)[None]))[0].numpy()
    found: dict[str, Moves] = {}
    for solver in SOLVERS:
        for steps in STEPS:
            path = system.paths(spectra, voice, steps, solver)
            energy, gains = path.energy[0].numpy(), [gain[0].numpy() for gain in path.gains]
            if not found:  # one Euler step comes first
                found = moves_of_gains(energy, gains[0], gains[-1], wanted)
            found |= moves_of_steps(energy, gains[1:], solver)
    return found
