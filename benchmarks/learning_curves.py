"""How does a run learn? Its log and its validation, drawn over hours of mixture and over core-hours.

python -m benchmarks.learning_curves RUN [RUN ...] -o curves.svg
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["draw", "read"]

_KINDS = {"validation": "one ear", "two_ears": "two ears", "two_ears_room": "two ears, room"}


def read(path: Path) -> dict[str, list[float]]:
    """Columns of a log; an empty cell is not a number."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name] or "nan") for row in rows] for name in (rows[0] if rows else {})}


def draw(runs: Sequence[Path]) -> Figure:
    """Chart of the output's error in training by hours and by core-hours, and of the gain on unseen talkers by hours."""
    with mpl.rc_context({"svg.hashsalt": "edge-tse"}):
        figure = Figure(figsize=(14, 4), layout="constrained")
        axes = figure.subplots(1, 3)
        for run in runs:
            log = read(run / "log.csv")
            axes[0].plot(log["hours"], log["output_db"], label=run.name, linewidth=1)
            axes[1].plot([s / 3600 for s in log["core_s"]], log["output_db"], label=run.name, linewidth=1)
            if (run / "validation.csv").exists():
                curve = read(run / "validation.csv")
                for kind, title in _KINDS.items():
                    axes[2].plot(curve["hours"], curve[f"{kind}_mean"], marker=".", label=f"{run.name}: {title}")
    for axis, x, y in zip(
        axes,
        ("hours of mixture", "core-hours", "hours of mixture"),
        ("error of the output, dB",) * 2 + ("gain of unseen talkers, dB",),
        strict=True,
    ):
        axis.set(xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
        if axis.has_data():  # the last one has three lines a run, which its legend would hide
            beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)} if axis is axes[-1] else {}
            axis.legend(fontsize="small", **beside)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, made by `edge-tse train`")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="SVG")
    given = parser.parse_args(arguments)
    for run in given.runs:
        if not (run / "log.csv").exists():
            sys.stderr.write(f"learning_curves: {run}: there is no log.csv: name the folder of a run\n")
            return 2
        if missing := {"hours", "core_s"} - set(read(run / "log.csv")):
            sys.stderr.write(f"learning_curves: {run}: its log has no {', '.join(sorted(missing))}: it is an older version's\n")
            return 2
    draw(given.runs).savefig(given.output, metadata={"Date": None} if given.output.suffix == ".svg" else None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
