"""The packages that the runtime does not depend on, found by name when a verb needs one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rich.table import Table

from edge_tse.errors import EngineError

if TYPE_CHECKING:
    from edge_tse.analysis import Moves
    from edge_tse.artifact import Artifact

__all__ = ["analyse", "analyse_checkpoint", "condition_tables", "evaluate", "quantize", "train"]


def train(
    recipe: str,
    run: Path,
    data: Path,
    minutes: float | None,
    steps: int | None,
    start: Path | None,
    teacher: Path | None,
    embeddings: Path | None,
    resume: bool,
    watch: Callable[[Any], None],
) -> Path:
    """Train ``recipe`` into folder ``run``; returns the checkpoint."""
    checkpoint: Path = _found("quantization.train", "train").train(
        recipe,
        run,
        data,
        minutes=minutes,
        steps=steps,
        start=start,
        teacher=teacher,
        embeddings=embeddings,
        resume=resume,
        watch=watch,
    )
    return checkpoint


def quantize(
    checkpoint: Path, recipe: str, artifact: Path, data: Path, steps: int | None, resume: bool, watch: Callable[[Any], None]
) -> Artifact:
    """Write the artifact of a checkpoint, and return it."""
    made: Artifact = _found("quantization.quantize", "train").quantize(
        checkpoint, recipe, artifact, data, steps=steps, resume=resume, watch=watch
    )
    return made


def evaluate(trials: Path, artifact: Artifact, engine: str, jobs: int, progress: Callable[[float], None]) -> dict[str, Any]:
    """Figures by condition."""
    figures: dict[str, Any] = _found("quantization.evaluate", "eval").evaluate(trials, artifact, engine, progress, jobs=jobs)
    return figures


def analyse(trials: Path, artifact: Artifact, engine: str, progress: Callable[[float], None]) -> dict[str, dict[str, Moves]]:
    """What each stage deletes and inserts, by condition."""
    found: dict[str, dict[str, Moves]] = _found("quantization.analyse", "eval").analyse(trials, artifact, engine, progress)
    return found


def analyse_checkpoint(trials: Path, checkpoint: Path, progress: Callable[[float], None]) -> dict[str, dict[str, Moves]]:
    """The same of a float checkpoint."""
    module = _found("quantization.float_analysis", "train")
    found: dict[str, dict[str, Moves]] = module.analyse_checkpoint(trials, checkpoint, progress)
    return found


def condition_tables(figures: dict[str, Any]) -> list[Table]:
    """One row a condition, in decibels of SI-SDR improvement; the report holds the rest."""
    table = Table(title="SI-SDR improvement, dB", title_justify="left", title_style="bold")
    for heading in ("condition", "n", "mean", "median", "p10", "below 0"):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    for name, condition in figures["conditions"].items():
        scores = condition.get("si_sdr_i")
        cells = [_db(scores[key]) for key in ("mean", "median", "p10")] if scores else ["-"] * 3
        below = f"{scores['below_zero']:.0%}" if scores and scores["below_zero"] is not None else "-"
        table.add_row(name, str(condition["n"]), *cells, below)
    return [table]


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _found(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as failure:
        raise EngineError(f"{failure.name} is not installed, this verb needs it: pip install 'edge-tse[{extra}]'") from failure
