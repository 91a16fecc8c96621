"""Deletion and insertion of an artifact over a list of trials, by condition. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_tse.analysis import Moves, stages
from edge_tse.artifact import Artifact
from edge_tse.engines import open_network
from edge_tse.enrollment.recordings import enroll_files
from edge_tse.personalization import personalize
from quantization.scores import Float, align, read_at
from quantization.trial_list import Trial, read_trials
from quantization.workers import ALONE, Workers, results

__all__ = ["analyse", "mean_over", "signals"]


class _Analyst:
    """Moves of each stage in one trial."""

    def __init__(self, artifact: Artifact, engine: str) -> None:
        self._artifact, self._engine = artifact, engine

    def __call__(self, trial: Trial) -> dict[str, dict[str, float]]:
        artifact = self._artifact
        own = personalize(artifact, enroll_files(artifact.voice_model, list(trial.enrollment)).voice)
        mixture, target = signals(trial, artifact.frame.sample_rate_hz)
        return {stage: vars(moves) for stage, moves in stages(own, open_network(own, self._engine), mixture, target).items()}

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a file's bytes, without a runtime."""
        return _analyst, (self._artifact.to_bytes(), self._engine)


def _analyst(content: bytes, engine: str) -> _Analyst:
    return _Analyst(Artifact.from_bytes(content), engine)


def analyse(
    trials: Path,
    artifact: Artifact,
    engine: str,
    progress: Callable[[float], None] = lambda fraction: None,
    workers: Workers = ALONE,
) -> dict[str, dict[str, Moves]]:
    """Mean moves of each stage by condition, ``{condition: {stage: moves}}``; errors as :func:`quantization.evaluate.evaluate`."""
    return mean_over(trials, _Analyst(artifact, engine), progress, workers)


def mean_over(
    trials: Path,
    one: Callable[[Trial], dict[str, dict[str, float]]],
    progress: Callable[[float], None],
    workers: Workers = ALONE,
) -> dict[str, dict[str, Moves]]:
    """Means over trials of the moves that ``one`` finds in each, by condition and stage."""
    listed = read_trials(trials)
    found: dict[str, dict[str, list[Moves]]] = {}
    moved = results(one, {trial.id: trial for trial in listed}, workers, progress=progress)
    for trial, by_stage in zip(listed, moved, strict=True):
        for stage, moves in by_stage.items():
            found.setdefault(trial.condition, {}).setdefault(stage, []).append(Moves(**moves))
    return {condition: {stage: Moves.mean(several) for stage, several in by_stage.items()} for condition, by_stage in found.items()}


def signals(trial: Trial, rate_hz: int) -> tuple[Float, Float | None]:
    """Mixture and, where there is one, target, ``[ears, samples]`` each; ``DataError`` names the row of what cannot be used."""
    mixture = read_at(rate_hz, trial, "mixture", trial.mixture)
    if trial.target is None:
        return mixture, None
    return mixture, align(read_at(rate_hz, trial, "target", trial.target), mixture, trial, "target")
