"""The training loop: losses, optimizers and learning rates, teachers and averages, over one process or many."""

from __future__ import annotations

import csv
import ctypes
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from edge_tse.errors import DataError
from edge_tse.nn.baselines import Baseline
from edge_tse.nn.flow_losses import FlowLosses, FlowWeights, flow_losses
from edge_tse.nn.front import TorchFront
from edge_tse.nn.losses import Losses, SoundLosses, Taught, Teaching, Weights, extraction_losses, sound_losses
from edge_tse.nn.mask2flow import Mask2Flow
from edge_tse.nn.moments import keep_moments
from edge_tse.nn.network import Network, voice_size
from edge_tse.nn.student import Student
from quantization.arithmetic import Arithmetic, Muon
from quantization.recipes import Recipe
from quantization.run import TrainingProgress, TrainingRun, Watch

__all__ = ["Averaged", "Log", "Plan", "Teacher", "descend", "fit", "items_of", "launch", "objective_of", "optimizers_of"]

CHECKPOINT_EVERY_S = 120.0
LOG_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Plan of steps and rates: a linear warm-up, then half a cosine to zero, or a constant rate and a straight fall to zero."""

    steps: int
    lr: float
    warmup: int
    falls_from: int | None = None
    """Step from which a constant rate falls, to be zero at ``steps``; None: the cosine."""

    @property
    def ends(self) -> bool:
        """Whether the rate comes down to zero."""
        return self.falls_from is None or self.falls_from < self.steps

    def learning_rate(self, step: int) -> float:
        if self.falls_from is not None and step >= self.falls_from:
            return self.lr * (self.steps - step) / max(1, self.steps - self.falls_from)
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.falls_from is not None:
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


def optimizers_of(objective: nn.Module, lr: float, weight_decay: float, bfloat16: bool) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for matrices, AdamW for the rest: decision 0007 compares.

    ``bfloat16``: whether Muon iterates in it.
    """
    matrices = [m.weight for m in objective.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
    chosen = {id(weight) for weight in matrices}
    rest = [p for p in objective.parameters() if p.requires_grad and id(p) not in chosen]
    return [
        Muon(matrices, lr, weight_decay, bfloat16),
        torch.optim.AdamW(rest, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98)),
    ]


def descend(trained: nn.Module, optimizers: Sequence[torch.optim.Optimizer], lr: float, clip: float) -> None:
    """A step down the gradients that are there, shortened to a norm of ``clip``; none is left."""
    torch.nn.utils.clip_grad_norm_(trained.parameters(), clip)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()


class Teacher(nn.Module):
    """A trained student of any size, or the published system, that a student learns from.

    Its geometry of frames must be the same (the published system says its gains in whatever geometry it was made for).
    """

    def __init__(self, student: Network) -> None:
        """``DataError`` for a baseline."""
        super().__init__()
        if isinstance(student, Baseline):
            raise DataError("a baseline makes no moves of mask and flow to teach: take a student, or the published system")
        self.student, self.front = student.requires_grad_(False), TorchFront(student.config.frame)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Ignore the mode: the moments stay those that the teacher was trained to."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, mixture_BEN: Tensor, voice_BE: Tensor) -> Taught:
        voice_BE = voice_BE[:, : voice_size(self.student.config)]  # who listens to layers may learn from who does not
        if isinstance(self.student, Mask2Flow):
            return Taught(*self.student.band_gains(mixture_BEN, voice_BE))
        moves = self.student.listen(self.front, self.front.analyze(mixture_BEN), voice_BE)
        return Taught(moves.mask, moves.velocity)


class _Objective(nn.Module):
    """Loss as a module, so that distributed wrappers see one forward pass."""

    terms = Losses._fields

    def __init__(self, student: Student, weights: Weights, teacher: Teacher | None, teaching: Teaching) -> None:
        super().__init__()
        self.student, self.front, self.weights = student, TorchFront(student.config.frame), weights
        self.teacher, self.teaching = teacher, teaching

    def forward(self, mixture: Tensor, target: Tensor, voice: Tensor, t: Tensor) -> Losses:
        taught = self.teacher(mixture, voice) if self.teacher else None
        return extraction_losses(self.student, self.front, mixture, target, voice, t, self.weights, taught, self.teaching)


class _FlowObjective(nn.Module):
    """Loss of the published system as a module."""

    terms = FlowLosses._fields

    def __init__(self, system: Mask2Flow, weights: FlowWeights) -> None:
        super().__init__()
        self.system, self.weights = system, weights

    def forward(self, mixture: Tensor, target: Tensor, voice: Tensor, t: Tensor) -> FlowLosses:
        return flow_losses(self.system, mixture, target, voice, t, self.weights)


class _SoundObjective(nn.Module):
    """Loss of a baseline as a module."""

    terms = SoundLosses._fields

    def __init__(self, baseline: Baseline, weights: Weights) -> None:
        super().__init__()
        self.baseline, self.weights = baseline, weights

    def forward(self, mixture: Tensor, target: Tensor, voice: Tensor, t: Tensor) -> SoundLosses:
        return sound_losses(self.baseline, mixture, target, voice, self.weights)


def objective_of(made: Recipe, network: Network, teacher: Teacher | None = None) -> _Objective | _FlowObjective | _SoundObjective:
    """Losses of a network for mixture, target, voice and flow time, as its recipe weighs them."""
    if isinstance(network, Mask2Flow):
        return _FlowObjective(network, made.flow)
    if isinstance(network, Baseline):
        return _SoundObjective(network, made.weights)
    return _Objective(network, made.weights, teacher, made.teaching)


class Averaged:
    """A running average of a network's weights, with its moments: a run that never ends validates and ships this average.

    Averages of weights stand in for a falling rate (Polyak & Juditsky, 1992). Early on it forgets sooner: ``(1 + n) / (10 + n)``.
    """

    def __init__(self, network: nn.Module, keeps: float, steps: int = 0, state: dict[str, Tensor] | None = None) -> None:
        self._network, self._keeps, self._steps = network, keeps, steps
        self.state = {name: value.detach().clone() for name, value in (state or network.state_dict()).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after a step."""
        self._steps += 1
        keeps = min(self._keeps, (1 + self._steps) / (10 + self._steps))
        current = self._network.state_dict()
        averaged = [name for name, value in self.state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.state[name] for name in averaged], [current[name] for name in averaged], 1 - keeps)
        for name in self.state.keys() - set(averaged):  # counts of batches
            self.state[name].copy_(current[name])

    @contextmanager
    def swap_in(self) -> Iterator[None]:
        """Let the network compute with its average, then go on as it was."""
        own = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._network.load_state_dict(self.state)
        try:
            yield
        finally:
            self._network.load_state_dict(own)


def items_of(made: Recipe, ranks: int) -> int:
    """Items of a step for each of so many processes. ``DataError`` if they do not divide the batch, or would part its pairs."""
    if made.batch % ranks:
        raise DataError(f"{ranks} processes do not divide a batch of {made.batch}: choose a divisor")
    if made.scene.paired and made.batch // ranks % 2:
        raise DataError(f"{ranks} processes do not divide the {made.batch // 2} pairs of a batch: choose a divisor")
    return made.batch // ranks


def fit(
    run: TrainingRun,
    student: Network,
    plan: Plan,
    fabric: Fabric,
    save: Callable[[int, list[dict[str, Any]]], None],
    log: Path,
    *,
    phase: str,
    arithmetic: Arithmetic,
    start: int = 0,
    optimizer_state: list[dict[str, Any]] | None = None,
    stop_at: float | None = None,
    teacher: Teacher | None = None,
    average: Averaged | None = None,
    watch: Watch,
) -> int:
    """Minimise the losses of ``student``, or of the published system, in place; returns the step reached.

    Stops at the plan's steps, when ``time.monotonic()`` passes ``stop_at``, or on Ctrl-C. ``save(step, optimizer state)`` is called
    every two minutes and at the end; ``log`` gets a row a minute (``RUN/log/`` holds it for TensorBoard): seconds of this start,
    core seconds of all of them, hours of mixture, the terms of the loss.
    """
    made, ranks = run.recipe, fabric.world_size
    share, rank = items_of(made, ranks), fabric.global_rank
    objective = objective_of(made, student, teacher)
    model, *optimizers = fabric.setup(objective, *optimizers_of(objective, plan.lr, made.weight_decay, arithmetic.steps))
    for optimizer, state in zip(optimizers, optimizer_state or (), strict=bool(optimizer_state)):
        optimizer.load_state_dict(state)
    minutes = _Minutes(log, objective.terms, plan, made, ranks, append=start > 0) if rank == 0 else None
    saved, at = time.monotonic(), start
    settles_at = None if made.own_moments is None else max(start, made.own_moments)
    model.train()
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(run.tensors, at, share, rank, ranks)
        try:
            late = 0.0
            while at < plan.steps and not late:
                if at == settles_at:
                    keep_moments(model)
                batch = [x.to(fabric.device) for x in pending.result()]
                pending = ahead.submit(run.tensors, at + 1, share, rank, ranks)
                losses = model(*batch)
                fabric.backward(losses.total)
                descend(model, optimizers, plan.learning_rate(at), made.clip)
                if average:
                    average.update()
                at += 1
                now = time.monotonic()
                *means, late = _agree(fabric, losses, stop_at is not None and now >= stop_at)
                _tell(watch, phase, at, plan, {"loss": means[0], objective.terms[1]: means[1]})
                if minutes:
                    minutes.add(at, means, now)
                if rank == 0 and now - saved > CHECKPOINT_EVERY_S:
                    save(at, [optimizer.state_dict() for optimizer in optimizers])
                    saved = now
        except KeyboardInterrupt:
            watch(TrainingProgress(phase="stopped", step=at, steps=plan.steps, figures={}))
    if rank == 0:
        save(at, [optimizer.state_dict() for optimizer in optimizers])
    return at


def _tell(watch: Watch, phase: str, at: int, plan: Plan, figures: dict[str, float]) -> None:
    watch(TrainingProgress(phase=phase, step=at, steps=plan.steps if plan.ends else None, figures=figures))


def _agree(fabric: Fabric, losses: Losses | FlowLosses | SoundLosses, late: bool) -> list[float]:
    """The losses of the whole batch, and whether to stop: every process must take the same decision."""
    shared = torch.stack([x.detach() for x in losses] + [losses.total.new_tensor(late)])
    agreed = fabric.all_reduce(shared) if fabric.world_size > 1 else shared
    assert isinstance(agreed, Tensor)
    values: list[float] = agreed.tolist()
    return values


class _Minutes:
    """Rows of a run's log, one a minute: time spent, and means of the terms of the loss."""

    def __init__(self, log: Path, terms: Sequence[str], plan: Plan, made: Recipe, ranks: int, *, append: bool) -> None:
        self._terms, self._plan, self._made, self._ranks = terms, plan, made, ranks
        self._rows = Log(log, ("seconds", "core_s", "hours", *terms, "lr", "steps_per_s"), append)
        self._busy = time.process_time()
        self._began = self._logged = time.monotonic()
        self._window: list[list[float]] = []

    def add(self, at: int, means: list[float], now: float) -> None:
        """Add the terms of one step, after ``at`` of them."""
        self._window.append(means)
        if now - self._logged <= LOG_EVERY_S and at != self._plan.steps:
            return
        busy_s = (time.process_time() - self._busy) * self._ranks
        spent = {"seconds": now - self._began, "core_s": self._rows.core_s + busy_s}
        terms = dict(zip(self._terms, np.mean(self._window, axis=0), strict=True))
        pace = {"lr": self._plan.learning_rate(at - 1), "steps_per_s": len(self._window) / (now - self._logged)}
        self._rows.row(at, {**spent, "hours": self._made.hours(at), **terms, **pace})
        self._window, self._logged = [], now


def launch() -> Fabric:
    """Start one process, or join as many as ``torchrun`` started: gloo between CPUs, nccl between GPUs."""
    _keep_pages()
    ranks, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    # A batch of one ear leaves the share of the beam without a gradient, one of two the flow's time.
    strategy = DDPStrategy(find_unused_parameters=True) if ranks > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=here, num_nodes=ranks // here, strategy=strategy)
    fabric.launch()
    return fabric


class Log:
    """Log of figures by step, as CSV and for TensorBoard beside it. A log that is appended to keeps its columns."""

    def __init__(self, path: Path, columns: Sequence[str], append: bool) -> None:
        self._path, self._columns = path, ["step", *columns]
        self.core_s = 0.0
        """What the rows before have taken of processors."""
        if append and path.exists():
            with path.open(newline="") as file:
                rows = csv.DictReader(file)
                self._columns = list(rows.fieldnames or ())
                for row in rows:
                    self.core_s = float(row.get("core_s") or 0)
        else:
            self._write("w", self._columns)

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        known = {"step": step, **figures}
        self._write("a", [f"{known[name]:.6g}" if name in known else "" for name in self._columns])
        with SummaryWriter(self._path.with_suffix("")) as board:
            for name, value in figures.items():
                board.add_scalar(name, value, step)

    def _write(self, mode: str, cells: Iterable[str]) -> None:
        with self._path.open(mode, newline="") as file:
            csv.writer(file).writerow(cells)


def _keep_pages() -> None:
    """Let glibc keep freed memory: returning and re-faulting each layer's activations costs a quarter of a step on CPU."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
    except (AttributeError, OSError):
        pass  # another C library: only speed is lost
