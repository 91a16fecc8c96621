"""What is a teacher worth? The same student, the same mixtures: without one, with its output alone, with all it says.

python -m benchmarks.distillation --data DIR --teacher RUN --run RUN --steps 2600

All are trained in lockstep from the same start, so whatever else the machine does costs all of them the same, and their differences
are taken mixture by mixture. ``RUN/voices.pt`` and ``RUN/../cache`` are made if they are not there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import RESULTS, interval, one_line
from edge_tse.nn.front import TorchFront
from edge_tse.nn.losses import Teaching, extraction_losses
from edge_tse.nn.student import Student, StudentConfig
from edge_tse.report import Report, environment
from quantization.arithmetic import fastest
from quantization.checkpoint import Checkpoint, load_checkpoint
from quantization.loop import Plan, Teacher, descend, optimizers_of
from quantization.recipes import Recipe, recipe
from quantization.run import TrainingRun
from quantization.validation import summarize, unseen_gains

__all__ = ["ARMS", "table"]

_SEEN = 256
"""Mixtures of unseen talkers that a student is scored on."""
_ALL = recipe("nano_gains").teaching
ARMS: dict[str, Teaching] = {"nobody": Teaching(), "its output": Teaching(output=_ALL.output), "mask, velocity and output": _ALL}


def compare(made: Recipe, source: Checkpoint, data: Path, folder: Path, told: Callable[[str], None]) -> dict[str, Any]:
    """Train all arms for the recipe's steps; figures of the teacher and by arm."""
    run = TrainingRun(made, data, folder, lambda progress: None, source.encoder)
    front, plan = TorchFront(made.student.frame), Plan(steps=made.steps, lr=made.lr, warmup=made.warmup)
    teacher = Teacher(source.student)
    config = made.student
    assert isinstance(config, StudentConfig)
    students, chosen = {}, {}
    for name in ARMS:
        torch.manual_seed(made.seed)
        students[name] = Student(config).train()
        arithmetic = fastest("cpu", students[name])
        source.student.mixed_precision = students[name].mixed_precision = arithmetic.layers
        chosen[name] = optimizers_of(students[name], made.lr, made.weight_decay, arithmetic.steps)
    outputs: dict[str, list[float]] = {name: [] for name in ARMS}
    for step in range(made.steps):
        batch = run.tensors(step, made.batch, 0, 1)
        taught = teacher(batch[0], batch[2])
        for name, student in students.items():
            mixture, target, voice, t = batch
            losses = extraction_losses(student, front, mixture, target, voice, t, made.weights, taught, ARMS[name])
            losses.total.backward()
            descend(student, chosen[name], plan.learning_rate(step), made.clip)
            outputs[name].append(float(losses.output_db.detach()))
        if step % 50 == 49:
            told(f"{step + 1} of {made.steps}: " + ", ".join(f"{n} {np.mean(o[-50:]):.2f} dB" for n, o in outputs.items()))
    gains = {name: unseen_gains(student, run, _SEEN) for name, student in students.items()}
    return {
        "teacher": _summary(unseen_gains(source.student, run, _SEEN)),
        "arms": {
            name: {
                **_summary(gains[name]),
                "training_error_db_last_200": round(float(np.mean(outputs[name][-200:])), 2),
                "over_nobody": [round(x, 3) for x in interval(gains[name] - gains["nobody"])],
            }
            for name in ARMS
        },
    }


def _summary(gains: NDArray[np.float64]) -> dict[str, float]:
    return {key: round(value, 2) for key, value in summarize(gains).items()}


def table(figures: Mapping[str, Any]) -> str:
    """Markdown for the decision record."""
    lines = ["| follows | mean | median | p10 | over nobody | training error |", "| --- |" + " ---: |" * 5]
    for name, row in figures["arms"].items():
        more = "" if name == "nobody" else "{:+.2f} ± {:.2f}".format(*row["over_nobody"])
        gains = " | ".join(f"{row[key]:.2f}" for key in ("mean", "median", "p10"))
        lines.append(f"| {name} | {gains} | {more} | {row['training_error_db_last_200']:.2f} |")
    gains = " | ".join(f"{figures['teacher'][key]:.2f}" for key in ("mean", "median", "p10"))
    return "\n".join([*lines, f"| the teacher itself | {gains} | | |"])


@one_line
def main() -> None:
    """Train, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--teacher", type=Path, required=True, metavar="RUN")
    parser.add_argument("--run", type=Path, default=Path("runs/distillation"), metavar="DIR")
    parser.add_argument("--recipe", default="nano_gains", metavar="NAME", help="recipe of the student")
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    source = load_checkpoint(given.teacher)
    made = replace(recipe(given.recipe), steps=given.steps)
    given.run.mkdir(parents=True, exist_ok=True)
    found = compare(made, source, given.data, given.run, lambda line: print(line, flush=True))
    figures = {
        "student": made.name,
        "steps": made.steps,
        "batch": made.batch,
        "seed": made.seed,
        "taught_by": {"recipe": source.recipe.name, "checkpoint": source.digest, "step": source.step},
        **found,
    }
    Report(question="What is a teacher worth?", figures=figures, environment=environment()).save(RESULTS / "distillation.json")
    print(table(figures))


if __name__ == "__main__":
    sys.exit(main())
