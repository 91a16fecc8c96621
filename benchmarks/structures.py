"""Which structure learns most at equal multiply-accumulates? Frequency as channels, weights shared across bands, or a mixture.

python -m benchmarks.structures --data DIR --run RUN --steps 800

All are trained in lockstep: the same seed, the same batches, the same schedule, so whatever else the machine does costs all of them
the same. ``RUN/voices.pt`` (encoder and enrollments) and ``RUN/../cache`` (decoded speech) are made if they are not there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import RESULTS, one_line
from benchmarks.band_students import BandConfig, BandStudent, int8_bytes, macs_per_hop, state_bytes
from edge_tse.nn.front import TorchFront
from edge_tse.nn.losses import extraction_losses
from edge_tse.nn.stage import StageConfig
from edge_tse.nn.student import NANO, Student
from edge_tse.report import Report, environment
from quantization.arithmetic import fastest
from quantization.loop import Plan, descend, optimizers_of
from quantization.mixture import Scene
from quantization.recipes import Recipe, recipe
from quantization.run import TrainingRun
from quantization.validation import validate

__all__ = ["STRUCTURES", "table"]

_DILATIONS = NANO.mask.dilations
_CLIP_S = 2.0
"""Length of mixtures: the students look back 0.6 s."""
_SEEN = 256
"""Mixtures of unseen talkers that a structure is scored on."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """One contender."""

    title: str
    make: Callable[[], Student]


STRUCTURES: dict[str, Structure] = {
    "channels": Structure(title="frequency as channels (`nano_gains`)", make=lambda: Student(NANO)),
    "few channels": Structure(
        title="frequency as channels, as few weights as the next",
        make=lambda: Student(replace(NANO, mask=StageConfig(24, 32, _DILATIONS))),
    ),
    "shared": Structure(
        title="weights shared across 16 groups of 6 bands, 12 channels each",
        make=lambda: BandStudent(NANO, BandConfig(groups=16, channels=12, hidden=26, dilations=_DILATIONS), mixture=False),
    ),
    "mixture": Structure(
        title="two shared blocks, then frequency as channels",
        make=lambda: BandStudent(
            replace(NANO, mask=StageConfig(64, 82, _DILATIONS)),
            BandConfig(groups=16, channels=8, hidden=16, dilations=(1, 2)),
            mixture=True,
        ),
    ),
}


def compare(names: list[str], made: Recipe, data: Path, folder: Path, told: Callable[[str], None]) -> dict[str, dict[str, object]]:
    """Train the named structures for the recipe's steps; figures by name."""
    run = TrainingRun(made, data, folder, lambda progress: None)
    front, plan = TorchFront(made.student.frame), Plan(steps=made.steps, lr=made.lr, warmup=made.warmup)
    students, chosen = {}, {}
    for name in names:
        torch.manual_seed(made.seed)
        student = STRUCTURES[name].make().train()
        arithmetic = fastest("cpu", student)
        student.mixed_precision = arithmetic.layers
        students[name], chosen[name] = student, optimizers_of(student, made.lr, made.weight_decay, arithmetic.steps)
    spent: dict[str, list[float]] = {name: [] for name in names}
    outputs: dict[str, list[float]] = {name: [] for name in names}
    for step in range(made.steps):
        batch = run.tensors(step, made.batch, 0, 1)
        for name, student in students.items():
            began = time.process_time()
            mixture, target, voice, t = batch
            losses = extraction_losses(student, front, mixture, target, voice, t, made.weights)
            losses.total.backward()
            descend(student, chosen[name], plan.learning_rate(step), made.clip)
            spent[name].append(time.process_time() - began)
            outputs[name].append(float(losses.output_db.detach()))
        if step % 25 == 24:
            told(f"{step + 1} of {made.steps}: " + ", ".join(f"{n} {np.mean(o[-25:]):.2f} dB" for n, o in outputs.items()))
    return {
        name: {
            "title": STRUCTURES[name].title,
            "macs_per_hop": macs_per_hop(student),
            "resident_weights": student.resident_weights,
            "int8_bytes": int8_bytes(student),
            "state_bytes": state_bytes(student),
            "cpu_s_per_step": round(float(np.median(spent[name])), 3),
            "training_error_db_last_100": round(float(np.mean(outputs[name][-100:])), 2),
            "si_sdr_i_unseen_db": {key: round(value, 2) for key, value in validate(student, run, _SEEN).items()},
        }
        for name, student in students.items()
    }


def table(rows: Mapping[str, Mapping[str, object]]) -> str:
    """Markdown for the decision record."""
    head = ("MACs", "weights", "int8 kB", "state kB", "CPU s a step", "training error", "unseen SI-SDRi: mean", "median", "p10")
    lines = [" | ".join(("| mask stage", *head)) + " |", "| --- |" + " ---: |" * len(head)]
    for row in rows.values():
        gains = row["si_sdr_i_unseen_db"]
        assert isinstance(gains, dict)
        lines.append(
            f"| {row['title']} | {row['macs_per_hop']:,} | {row['resident_weights']:,} "
            f"| {_kilo(row['int8_bytes'])} | {_kilo(row['state_bytes'])} | {row['cpu_s_per_step']} "
            f"| {row['training_error_db_last_100']} dB | {gains['mean']} dB | {gains['median']} dB | {gains['p10']} dB |"
        )
    return "\n".join(lines)


def _kilo(count: object) -> str:
    assert isinstance(count, int)
    return f"{count / 1000:.1f}"


@one_line
def main() -> None:
    """Train, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--run", type=Path, default=Path("runs/structures"), metavar="DIR")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--only", nargs="+", choices=list(STRUCTURES), default=list(STRUCTURES), metavar="NAME")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    made = replace(recipe("nano_gains"), steps=given.steps, warmup=min(100, given.steps // 4), scene=Scene(seconds=_CLIP_S))
    given.run.mkdir(parents=True, exist_ok=True)
    rows = compare(given.only, made, given.data, given.run, lambda line: print(line, flush=True))
    figures = {"steps": made.steps, "batch": made.batch, "clip_s": _CLIP_S, "seed": made.seed, "structures": rows}
    report = Report(
        question="Which structure learns most at equal multiply-accumulates?", figures=figures, environment=environment()
    )
    report.save(RESULTS / "structures.json")
    print(table(rows))


if __name__ == "__main__":
    sys.exit(main())
