"""What do more steps of the flow buy? One checkpoint of the published system, its flow integrated in other ways, the same trials.

python -m benchmarks.flow_steps --checkpoint RUN --data DIR
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import RESULTS, one_line
from edge_tse.errors import DataError
from edge_tse.nn.mask2flow import SOLVERS, Mask2Flow
from edge_tse.report import Report, environment
from quantization.checkpoint import load_checkpoint
from quantization.float_analysis import STEPS
from quantization.float_listener import evaluate_checkpoint
from quantization.trials import SPLITS, make_trials

_RATIOS = {"si_sdr_i": "SI-SDR gain", "si_sdr": "SI-SDR", "attenuation_db": "attenuation"}
"""Scores in dB; a condition is shown by the first one that it has."""
_KEPT = ("n", *_RATIOS, "pesq_wb", "estoi", "over_suppression", "wrong_talker", "failed")


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=20)
    parser.add_argument("--name", default="flow_steps", help="name of the result")
    given = parser.parse_args(arguments)
    source = load_checkpoint(given.checkpoint)
    if not isinstance(source.student, Mask2Flow):
        raise DataError(
            f"{given.checkpoint}: a student of recipe {source.recipe.name!r} takes one step: give a mask2flow checkpoint"
        )
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        trials = make_trials(given.data, Path(folder), given.split, given.seed, given.per_condition)
        settings = [(solver, steps) for solver in SOLVERS for steps in STEPS]
        for solver, steps in track(settings, console=Console(stderr=True), description="scoring"):
            found = evaluate_checkpoint(trials, source, steps, solver, of_mixture=False)
            rows[f"{solver} {steps}"] = {
                name: {key: figures[key] for key in _KEPT} for name, figures in found["conditions"].items()
            }
    figures = {
        "checkpoint": found["checkpoint"],
        "rows": rows,
        "trials": {"split": given.split, "seed": given.seed, "per_condition": given.per_condition, **found["trials"]},
    }
    question = "What do more steps of the flow buy?"
    Report(question=question, figures=figures, environment=environment()).save(RESULTS / f"{given.name}.json")
    for condition in next(iter(rows.values())):
        Console(width=110).print(_table(condition, {name: row[condition] for name, row in rows.items()}))
    return 0


def _table(condition: str, rows: dict[str, dict[str, Any]]) -> Table:
    ratio = next((name for name in _RATIOS if next(iter(rows.values()))[name]), "si_sdr")
    table = Table(title=condition, title_justify="left", title_style="bold")
    for heading in (
        "flow",
        "evaluations",
        f"{_RATIOS[ratio]}, dB: mean",
        "median",
        "p10",
        "PESQ-WB",
        "ESTOI",
        "over-suppressed",
        "wrong talker",
    ):
        table.add_column(heading, justify="left" if heading == "flow" else "right")
    for name, row in rows.items():
        solver, steps = name.split()
        cells = [row[ratio][key] if row[ratio] else None for key in ("mean", "median", "p10")]
        cells += [row[key] for key in ("pesq_wb", "estoi", "over_suppression", "wrong_talker")]
        evaluations = int(steps) * (2 if solver == "heun" else 1)
        table.add_row(f"{solver}, {steps}", str(evaluations), *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    return table


if __name__ == "__main__":
    sys.exit(main())
