"""Deletion and insertion over a list of trials, by condition."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_tse import audio
from edge_tse.analysis import Moves, stages
from edge_tse.artifact import Artifact
from edge_tse.engines import open_network
from edge_tse.enrollment import enroll_files
from edge_tse.voice import personalize
from quantization.evaluate import read_trials

__all__ = ["analyse"]


def analyse(
    trials: Path, artifact: Artifact, engine: str, progress: Callable[[float], None] = lambda fraction: None
) -> dict[str, dict[str, Moves]]:
    """Mean moves of each stage by condition, ``{condition: {stage: moves}}``; errors as :func:`quantization.evaluate.evaluate`."""
    listed = read_trials(trials)
    found: dict[str, dict[str, list[Moves]]] = {}
    for done, trial in enumerate(listed):
        own = personalize(artifact, enroll_files(artifact.voice_model, list(trial.enrollment)).voice)
        rate_hz = artifact.frame.sample_rate_hz
        mixture, target = (
            None if path is None else audio.resample(*audio.read(path), rate_hz) for path in (trial.mixture, trial.target)
        )
        assert mixture is not None
        by_stage = found.setdefault(trial.condition, {})
        for stage, moved in stages(own, open_network(own, engine), mixture, target).items():
            by_stage.setdefault(stage, []).append(moved)
        progress((done + 1) / len(listed))
    return {condition: {stage: Moves.mean(several) for stage, several in by_stage.items()} for condition, by_stage in found.items()}
