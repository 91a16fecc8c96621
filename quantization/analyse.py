"""Deletion and insertion of an artifact over a list of trials, by condition. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_tse import audio
from edge_tse.analysis import Moves, stages
from edge_tse.artifact import Artifact
from edge_tse.engines import open_network
from edge_tse.enrollment.recordings import enroll_files
from edge_tse.personalization import personalize
from quantization.scores import Float
from quantization.trial_list import Trial, read_trials

__all__ = ["analyse", "mean_over", "signals"]


def analyse(
    trials: Path, artifact: Artifact, engine: str, progress: Callable[[float], None] = lambda fraction: None
) -> dict[str, dict[str, Moves]]:
    """Mean moves of each stage by condition, ``{condition: {stage: moves}}``; errors as :func:`quantization.evaluate.evaluate`."""

    def one(trial: Trial) -> dict[str, Moves]:
        own = personalize(artifact, enroll_files(artifact.voice_model, list(trial.enrollment)).voice)
        mixture, target = signals(trial, artifact.frame.sample_rate_hz)
        return dict(stages(own, open_network(own, engine), mixture, target))

    return mean_over(trials, one, progress)


def mean_over(
    trials: Path, one: Callable[[Trial], dict[str, Moves]], progress: Callable[[float], None]
) -> dict[str, dict[str, Moves]]:
    """Means over trials of the moves that ``one`` finds in each, by condition and stage."""
    listed = read_trials(trials)
    found: dict[str, dict[str, list[Moves]]] = {}
    for done, trial in enumerate(listed):
        by_stage = found.setdefault(trial.condition, {})
        for stage, moved in one(trial).items():
            by_stage.setdefault(stage, []).append(moved)
        progress((done + 1) / len(listed))
    return {condition: {stage: Moves.mean(several) for stage, several in by_stage.items()} for condition, by_stage in found.items()}


def signals(trial: Trial, rate_hz: int) -> tuple[Float, Float | None]:
    """Mixture and, where there is one, target, ``[ears, samples]`` each."""
    mixture = audio.resample(*audio.read(trial.mixture), rate_hz)
    return mixture, None if trial.target is None else audio.resample(*audio.read(trial.target), rate_hz)
