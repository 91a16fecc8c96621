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
    from edge_tse.demo.cases import Case
    from edge_tse.hearing.prescription import Audiogram

__all__ = ["analyse", "analyse_checkpoint", "condition_tables", "evaluate", "examples", "quantize", "train"]


def train(
    recipe: str,
    run: Path,
    data: Path,
    minutes: float | None,
    steps: int | None,
    start: Path | None,
    teacher: Path | None,
    embeddings: Path | None,
    cut: float | None,
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
        cut=cut,
        resume=resume,
        watch=watch,
    )
    return checkpoint


def quantize(
    checkpoint: Path,
    recipe: str,
    artifact: Path,
    data: Path,
    steps: int | None,
    teacher: Path | None,
    resume: bool,
    watch: Callable[[Any], None],
) -> Artifact:
    """Write the artifact of a checkpoint, and return it."""
    made: Artifact = _found("quantization.quantize", "train").quantize(
        checkpoint, recipe, artifact, data, steps=steps, teacher=teacher, resume=resume, watch=watch
    )
    return made


def evaluate(
    trials: Path,
    artifact: Artifact,
    engine: str,
    jobs: int,
    progress: Callable[[float], None],
    ears: tuple[Audiogram, Audiogram] | None,
) -> dict[str, Any]:
    """Figures by condition."""
    figures: dict[str, Any] = _found("quantization.evaluate", "eval").evaluate(
        trials, artifact, engine, progress, jobs=jobs, ears=ears
    )
    return figures


def examples(trials: Path, items: list[dict[str, Any]]) -> list[Case]:
    """Scored trials that are worth listening to."""
    found: list[Case] = _found("quantization.examples", "eval").examples(trials, items)
    return found


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
    """One row a condition, in decibels of SI-SDR improvement, and one a kind of hard mixture; the report holds the rest."""
    table = Table(title="SI-SDR improvement, dB", title_justify="left", title_style="bold")
    for heading in ("condition", "n", "mean", "median", "p10", "p5", "below 0", "other talker", "onset"):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    for name, condition in figures["conditions"].items():
        onset = condition.get("onset_damping_db")
        cells = _gain_cells(condition.get("si_sdr_i"), condition.get("wrong_talker"))
        table.add_row(name, str(condition["n"]), *cells, _db(onset["median"] if onset else None))
    tables = [table]
    if figures.get("audiograms"):
        tables.append(_impaired_table(figures["conditions"]))
    for circumstance, classes in figures.get("tails", {}).items():
        table = Table(title=f"The same by {_CIRCUMSTANCES[circumstance]}", title_justify="left", title_style="bold")
        for heading in ("", "n", "mean", "median", "p10", "p5", "below 0", "other talker"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, found in classes.items():
            table.add_row(name, str(found["si_sdr_i"]["n"]), *_gain_cells(found["si_sdr_i"], found["wrong_talker"]))
        tables.append(table)
    return tables


def _impaired_table(conditions: dict[str, Any]) -> Table:
    table = Table(title="To ears with this audiogram, of 1: mixture → extracted", title_justify="left", title_style="bold")
    for heading in ("condition", "HASPI, intelligibility", "HASQI, quality"):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    for name, condition in conditions.items():
        pairs = [(condition.get(f"{index}_mixture"), condition.get(index)) for index in ("haspi", "hasqi")]
        table.add_row(name, *(f"{_db(before)} → {_db(after)}" for before, after in pairs))
    return table


_CIRCUMSTANCES = {
    "sir_db": "ratio of target to interferers, dB",
    "similarity": "likeness of the nearest interferer (cosine)",
    "sex": "sex of target and interferers",
}


def _gain_cells(scores: dict[str, float] | None, wrong_talker: float | None) -> list[str]:
    """Mean, median, p10, p5, share below 0, and share nearer to another talker."""
    gain = [_db((scores or {}).get(key)) for key in ("mean", "median", "p10", "p5")]
    return [*gain, _share((scores or {}).get("below_zero")), _share(wrong_talker)]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _found(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as failure:
        raise EngineError(f"{failure.name} is not installed, this verb needs it: pip install 'edge-tse[{extra}]'") from failure
