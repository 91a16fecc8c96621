"""Training a float network, a student or the published system: enrollment encoder first, then extraction with cached embeddings.

``torchrun`` scales it unchanged (Lightning Fabric): a step's batch is split over processes and every item is a function of (seed,
step, position), so one process and many see the same data and, with moments shared, compute the same loss.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from edge_tse.errors import DataError
from edge_tse.nn.beam import COMPILED
from edge_tse.nn.growth import grow
from edge_tse.nn.losses import Teaching
from edge_tse.nn.network import Network, NetworkConfig, network_of
from edge_tse.nn.student import Student, StudentConfig
from quantization.arithmetic import Arithmetic, fastest
from quantization.checkpoint import Checkpoint, check_teacher, load_checkpoint, may_go_on, of_external_size
from quantization.external import Embeddings, open_embeddings
from quantization.loop import Averaged, Log, Plan, Teacher, fit, launch
from quantization.recipes import Recipe, recipe
from quantization.run import TrainingProgress, TrainingRun, Watch
from quantization.stored import save_state
from quantization.validation import CURVE, KINDS, SUMMARY, two_ears, unseen_errors, validate

__all__ = ["train"]

VALIDATE_EVERY_S = 900.0
"""Interval of validation in a run without a planned end (curve: ``RUN/validation.csv``); others are validated when they stop."""
_GROWN_MOMENTS = 120
"""Steps after which a network that was grown keeps its moments: only those of what is new are not known when it begins."""


def train(
    name: str,
    folder: Path,
    data: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    start: Path | None = None,
    teacher: Path | None = None,
    teaching: Teaching | None = None,
    steps: int | None = None,
    rate: float | None = None,
    embeddings: Path | None = None,
    cut: float | None = None,
    watch: Watch = lambda progress: None,
) -> Path:
    """Train a recipe into ``folder``; returns the checkpoint. Stops cleanly at its steps, after ``minutes``, or on Ctrl-C.

    ``resume`` continues bit for bit where the last checkpoint of the same recipe was written. ``start`` names a checkpoint whose
    student and encoder a new run begins with (its optimizer and schedule are the new run's own); a smaller student is grown.
    ``teacher`` names a checkpoint to distil, its encoder the one that enrolls; ``teaching`` says how much of it, ``steps`` how
    long and ``rate`` the learning rate, instead of the recipe's; a run that goes on keeps its rate unless it is given another.
    ``cut`` branches off a run at a constant rate (``start``, of the same recipe): its weights and its optimizer's state go on, and
    the rate falls to zero within so many minutes' worth of the run's steps.
    ``embeddings`` names a folder of another model's embeddings (:mod:`quantization.external`) to listen to instead of an encoder's.
    """
    stop_at = None if minutes is None else time.monotonic() + minutes * 60
    folder = Path(folder)
    last = folder / "last.pt"
    if last.exists() and not resume:
        raise DataError(f"{last} exists: continue it with --resume, or choose another folder")
    made = recipe(name)
    if steps is not None:
        made = dataclasses.replace(made, steps=steps)
    if teaching is not None:
        made = dataclasses.replace(made, teaching=teaching)
    previous = load_checkpoint(last) if resume and last.exists() else None
    external = open_embeddings(embeddings) if embeddings else None
    if external:
        made = of_external_size(made, external.size)
    elif previous and previous.encoder is None:
        made = of_external_size(made, previous.recipe.student.embedding)
    fabric = launch()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise DataError(f"the folder {folder} cannot be made: {failure.strerror or failure}; choose another place") from failure
    begins = _beginning(made, last, previous, start, teacher, cut, rate, keeps_steps=steps is None)
    _train(begins, folder, data, external, fabric, stop_at, watch)
    return last


@dataclass(frozen=True, kw_only=True)
class _Beginning:
    """Beginning of a run, checked against the recipe."""

    made: Recipe
    previous: Checkpoint | None
    """The run itself, to be continued."""
    begun: Checkpoint | None
    """Another run, with whose weights a new one begins."""
    teaches: Checkpoint | None
    falls_from: int | None
    """Step from which the rate of a cut falls."""

    @property
    def goes_on(self) -> Checkpoint | None:
        """The run whose optimizers and average go on: itself, or the one that a cut branches off."""
        return self.previous or (self.begun if self.falls_from is not None else None)

    @property
    def learned(self) -> bool:
        """Whether the run begins, or began, with the weights of another."""
        return self.begun is not None or (self.previous is not None and self.previous.begun)

    @property
    def heard(self) -> int:
        """Steps of earlier runs, after whose mixtures this one's come."""
        if self.goes_on is not None:
            return self.goes_on.heard
        return self.begun.heard + self.begun.step if self.begun else 0

    @property
    def plan(self) -> Plan:
        """Plan of steps and rates."""
        made = self.made
        falls_from = made.steps if made.constant and self.falls_from is None else self.falls_from
        return Plan(steps=made.steps, lr=made.lr, warmup=made.warmup, falls_from=falls_from)


def _beginning(
    made: Recipe,
    last: Path,
    previous: Checkpoint | None,
    start: Path | None,
    teacher: Path | None,
    cut: float | None,
    rate: float | None,
    *,
    keeps_steps: bool,
) -> _Beginning:
    """Find the run's beginning. ``DataError`` if the recipe cannot go on from it, or learn from the teacher."""
    begun = load_checkpoint(start) if start and not previous else None
    made = _at_rate(made, rate, previous or (begun if cut is not None else None))
    if begun and (begun.encoder is None) != (made.encoder is None):
        raise DataError(
            f"{start}: this run or the new one alone listens to embeddings of another model: give --embeddings for both or neither"
        )
    if begun and not may_go_on(begun, made.student):
        raise DataError(
            f"{start}: {made.name!r} cannot hold a student of {begun.recipe.name!r}: start from one of its own, or none"
        )
    if begun or (previous and previous.begun):
        made = made.without_easy_start
    if previous:
        made = dataclasses.replace(made, own_moments=previous.recipe.own_moments)
    elif begun and made.own_moments is not None:
        grown = begun.recipe.student != made.student
        made = dataclasses.replace(made, own_moments=min(made.own_moments, _GROWN_MOMENTS) if grown else 0)
    if cut is not None and not 0 <= cut < math.inf:
        raise DataError(f"a cut of {cut:g} minutes: a number of them is needed")
    if cut is not None and previous and previous.falls_from is None:
        raise DataError(f"{last} is no cut of another run, so that none goes on there: choose another folder")
    falls_from = previous.falls_from if previous else None
    if cut is not None and not previous:
        if begun is None or begun.current is None or begun.recipe.student != made.student or not made.constant:
            raise DataError(f"--cut branches off a run of {made.name!r} at a constant rate: name its folder with --start")
        assert start is not None, "a run begins with what was started from"
        falls_from = begun.step
        made = dataclasses.replace(made, steps=begun.step + max(1, round(cut * 60 * _steps_per_s(start))))
    if previous and falls_from is not None and keeps_steps:
        made = dataclasses.replace(previous.recipe, lr=made.lr)
    if previous and dataclasses.replace(previous.recipe, lr=made.lr) != made:
        raise DataError(
            f"{last} was made by {previous.recipe.name!r} over {previous.recipe.steps} steps, not {made.name!r} over {made.steps}"
        )
    if teacher and not isinstance(made.student, StudentConfig):
        raise DataError(f"{made.name!r} learns from the target alone and has no use for a teacher: leave it out")
    teaches = load_checkpoint(teacher) if teacher else None
    if teacher and teaches:
        check_teacher(teacher, teaches, made.student, repr(made.name))
    known = previous.teacher if previous else ""
    if known != "" and known != (teaches.digest if teaches else None):
        learns = f"the teacher {known[:12]}" if known else "no teacher"
        raise DataError(f"{last} learns from {learns}: give the same --teacher to go on, or choose another folder")
    return _Beginning(made=made, previous=previous, begun=begun, teaches=teaches, falls_from=falls_from)


def _train(
    begins: _Beginning,
    folder: Path,
    data: Path,
    external: Embeddings | None,
    fabric: Fabric,
    stop_at: float | None,
    watch: Watch,
) -> None:
    made, begun, teaches, goes_on = begins.made, begins.begun, begins.teaches, begins.goes_on
    with fabric.rank_zero_first():  # the first process decodes and enrolls, the others read what it stored
        known = begun or teaches
        refine = bool(begun and made.encoder and made.encoder.goes_on and begun.recipe.encoder != made.encoder)
        encoder = known.encoder if known else None
        run = TrainingRun(made, data, folder, watch, encoder, external, fabric.device, refine=refine, heard=begins.heard)
    torch.manual_seed(made.seed)
    student = _going_on(begins.previous or begun, run, made.student)
    begun_in = begins.previous.arithmetic if begins.previous else None
    arithmetic = fabric.broadcast(fastest(fabric.device.type, student, begun_in))
    chosen = f"arithmetic: {arithmetic}"
    if made.student.frame.beam:
        chosen += ", beam compiled" if COMPILED and arithmetic.device == "cpu" else ", beam in torch"
    watch(TrainingProgress(phase=chosen, step=1, steps=1, figures=arithmetic.times_ms))
    student.mixed_precision = arithmetic.layers
    average = None
    if made.average:
        average = Averaged(student, made.average)
        if goes_on and goes_on.current is not None:
            average = Averaged(student, made.average, goes_on.step, goes_on.student.state_dict())
    if teaches:
        teaches.student.mixed_precision = student.mixed_precision
    keeper = _Keeper(
        begins, run, student, average, arithmetic, folder, stop_at, watch, curve=made.constant and not fabric.global_rank
    )
    fit(
        run,
        student,
        begins.plan,
        fabric,
        keeper.save,
        folder / "log.csv",
        phase="extraction",
        arithmetic=arithmetic,
        start=goes_on.step if goes_on else 0,
        optimizer_state=(goes_on.resume or None) if goes_on else None,
        stop_at=stop_at,
        teacher=Teacher(teaches.student) if teaches else None,
        average=average,
        watch=watch,
    )


class _Keeper:
    """Writes the checkpoint of a run; validates it when it ends, and a run at a constant rate now and then (its curve)."""

    def __init__(
        self,
        begins: _Beginning,
        run: TrainingRun,
        student: Network,
        average: Averaged | None,
        arithmetic: Arithmetic,
        folder: Path,
        stop_at: float | None,
        watch: Watch,
        *,
        curve: bool,
    ) -> None:
        self._begins, self._run, self._student, self._average, self._arithmetic = begins, run, student, average, arithmetic
        self._last, self._stop_at, self._watch = folder / "last.pt", stop_at, watch
        self._curve = Log(folder / "validation.csv", CURVE, append=begins.goes_on is not None) if curve else None
        self._judged = time.monotonic()

    def save(self, step: int, optimizers: list[dict[str, Any]]) -> None:
        """The weights after ``step`` steps, with the states of the optimizers."""
        made, run, student, average = self._begins.made, self._run, self._student, self._average
        figures: dict[str, Any] = {"encoder_eer": run.eer}
        ends = step == made.steps or (self._stop_at is not None and time.monotonic() >= self._stop_at)
        if ends or (self._curve and time.monotonic() - self._judged > VALIDATE_EVERY_S):
            figures |= self._validate(step)
        state = {"recipe": made.name, "steps": made.steps, "rate": made.lr, "step": step, "resume": optimizers, "figures": figures}
        state |= {
            "teaching": dataclasses.asdict(made.teaching),
            "falls_from": self._begins.falls_from,
            "begun": self._begins.learned,
            "heard": self._begins.heard,
            "own_moments": made.own_moments,
            "arithmetic": dataclasses.asdict(self._arithmetic),
            "teacher": self._begins.teaches.digest if self._begins.teaches else None,
        }
        weights = average.state if average else student.state_dict()
        state |= {"current": student.state_dict()} if average else {}
        encoder = {"encoder": run.encoder.state_dict() if run.encoder else None, "embedding": made.student.embedding}
        save_state(self._last, {**state, **encoder, "student": weights})

    def _validate(self, step: int) -> dict[str, Any]:
        made, run, student = self._begins.made, self._run, self._student
        with self._average.swap_in() if self._average else nullcontext():
            figures = {"validation": validate(student, run, made.validation)}
            figures |= {name: validate(student, run, made.validation // 3, heads=heads) for name, heads in two_ears(run).items()}
            if self._curve:
                figures["errors"] = unseen_errors(student, run, 2 * made.validation)
        if self._curve:
            found = {f"{kind}_{key}": figures[kind][key] for kind in KINDS if kind in figures for key in SUMMARY}
            self._curve.row(step, {"hours": made.hours(step), **found, **figures["errors"]})
        self._watch(TrainingProgress(phase="validated", step=step, steps=made.steps, figures=figures["validation"]))
        self._judged = time.monotonic()
        return figures


def _going_on(source: Checkpoint | None, run: TrainingRun, config: NetworkConfig) -> Network:
    """The network to train: that of ``source``, grown where it is smaller, or a new one."""
    if source and source.recipe.student == config:
        same = copy.deepcopy(source.student)
        if source.current is not None:
            same.load_state_dict(source.current)
        return same.train()
    begun = source.student if source else None
    if isinstance(begun, Student) and isinstance(config, StudentConfig):
        network: Network = grow(begun, config)
    else:
        network = network_of(config)
    if isinstance(network, Student) and network.config.local:
        network.standardize(torch.from_numpy(run.enrollments.every))
    return network


def _at_rate(made: Recipe, rate: float | None, goes_on: Checkpoint | None) -> Recipe:
    """The recipe at the rate asked for, else at that of the run that goes on or is cut."""
    if rate is not None and not 0 < rate <= 1:
        raise DataError(f"a learning rate of {rate:g}: above 0 and at most 1")
    if rate is None:
        rate = goes_on.recipe.lr if goes_on else made.lr
    return dataclasses.replace(made, lr=rate)


def _steps_per_s(run: Path) -> float:
    """Speed of a run: the median of the last ten minutes of its log, of which the very last may have been interrupted."""
    path = (run if run.is_dir() else run.parent) / "log.csv"
    try:
        with path.open() as file:
            return statistics.median([float(row["steps_per_s"]) for row in csv.DictReader(file)][-10:])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: no log that says how fast the run goes: --cut needs one of at least a minute") from error
