"""Training a float network, a student or the published system: enrollment encoder first, then extraction with cached embeddings.

``torchrun`` scales it unchanged (Lightning Fabric): a step's batch is split over processes and every item is a function of (seed,
step, position), so one process and many see the same data and, with moments shared, compute the same loss.
"""

from __future__ import annotations

import copy
import csv
import ctypes
import dataclasses
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from edge_tse.errors import DataError
from edge_tse.metrics import si_sdr
from edge_tse.nn.encoder import Encoder
from edge_tse.nn.flow_losses import FlowLosses, FlowWeights, flow_losses
from edge_tse.nn.front import Front
from edge_tse.nn.growth import can_grow, grown
from edge_tse.nn.losses import Losses, Taught, Teaching, Weights, extraction_losses
from edge_tse.nn.mask2flow import Mask2Flow, Mask2FlowConfig, Solver
from edge_tse.nn.student import Student, StudentConfig
from edge_tse.table import read_table, shown
from quantization.arithmetic import Muon, fastest
from quantization.corpus import SPEEDS, decode, mono_at, open_corpus
from quantization.enrollment import Enrollments, clip_levels, embed_all, equal_error_rate, noise_levels, train_encoder
from quantization.external import Embeddings, enrollable, open_embeddings
from quantization.mixing import Batch, Mixer, Scene
from quantization.recipes import EncoderRecipe, Recipe, recipe
from quantization.stored import check_finite, load_state, save_state

__all__ = [
    "Averaged",
    "Checkpoint",
    "Plan",
    "Progress",
    "Run",
    "Teacher",
    "Watch",
    "descend",
    "estimated",
    "fit",
    "launch",
    "load_checkpoint",
    "optimizers_of",
    "save_state",
    "summed_up",
    "train",
    "unseen_gains",
    "validate",
]

CHECKPOINT_EVERY_S = 120.0
LOG_EVERY_S = 60.0
VALIDATE_EVERY_S = 900.0
"""Of a run without a planned end, whose curve is in ``RUN/validation.csv``; others are validated when they stop."""
_KINDS, _SUMMARY = ("validation", "two_ears", "two_ears_room"), ("mean", "median", "p10", "alike", "unlike")
_CURVE = ("hours", *(f"{kind}_{key}" for kind in _KINDS for key in _SUMMARY))


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a long run tells whoever watches."""

    phase: str
    step: int
    steps: int | None
    """None: there is no planned end."""
    figures: dict[str, float]


Watch = Callable[[Progress], None]
_PARTS: dict[str, Any] = {
    "recipe": str,
    "steps": int | None,
    "step": int,
    "figures": dict,
    "resume": list,
    "student": dict,
    "encoder": dict | None,
    "current": dict | None,
    "falls_from": int | None,
}
"""Of a checkpoint, and what each is."""
_LARGEST_EMBEDDING = 2**16


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained or half-trained network with its encoder."""

    recipe: Recipe
    student: Student | Mask2Flow
    encoder: Encoder | None
    """None: it listens to embeddings of another model."""
    step: int
    figures: dict[str, Any]
    resume: list[dict[str, Any]]
    """States of the optimizers; empty in a checkpoint that is only to start from."""
    current: dict[str, Tensor] | None = None
    """Weights as they are trained, where ``student`` holds their average."""
    falls_from: int | None = None
    """Step from which the rate of a cut falls."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights alone: states of optimizers may have been taken out of the file."""
        h = hashlib.sha256()
        for module in (self.student, self.encoder):
            for name, value in sorted(module.state_dict().items()) if module else ():
                h.update(f"{name} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        return h.hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read ``last.pt`` (or any checkpoint) of a run. ``DataError`` if it is not one."""
    path = Path(path)
    if path.is_dir():
        path = path / "last.pt"
    if not path.exists():
        raise DataError(f"{path}: no such checkpoint: train one with `edge-tse train RECIPE -o RUN --data DIR`")
    state = load_state(path, "checkpoint")
    again = "train again, or use the version that wrote it"
    for name, kind in _PARTS.items():
        found = state.get(name)
        if not isinstance(found, kind) or isinstance(found, bool):
            raise DataError(f"{path}: not a checkpoint of this version: its {name} is {shown(found)}: {again}")
    check_finite(path, state, ("student", "encoder", "current"))
    try:
        made = dataclasses.replace(recipe(state["recipe"]), steps=state["steps"])
        if "teaching" in state:
            made = dataclasses.replace(made, teaching=read_table(Teaching, state["teaching"], f"{path}: teaching", DataError))
        if state["encoder"] is None:
            if type(size := state.get("embedding")) is not int or not 1 <= size <= _LARGEST_EMBEDDING:
                raise DataError(f"{path}: its embedding is {shown(size)}, 1 to {_LARGEST_EMBEDDING} values are possible: {again}")
            made = _of_external_size(made, size)
        student = _network(made.student)
        student.load_state_dict(state["student"])
        encoder = None if state["encoder"] is None else _encoder(made, state["encoder"])
    except (KeyError, RuntimeError, ValueError, TypeError) as error:  # names and shapes of weights that are another network's
        first = next(iter(str(error).splitlines()), "")
        raise DataError(f"{path}: not a checkpoint of this version ({type(error).__name__}: {first}): {again}") from error
    return Checkpoint(
        recipe=made,
        student=student.eval(),
        encoder=encoder,
        step=state["step"],
        figures=state["figures"],
        resume=state["resume"],
        current=state.get("current"),
        falls_from=state.get("falls_from"),
    )


def _voice_size(config: StudentConfig | Mask2FlowConfig) -> int:
    return config.voice_size if isinstance(config, StudentConfig) else config.embedding


def _network(config: StudentConfig | Mask2FlowConfig) -> Student | Mask2Flow:
    return Mask2Flow(config) if isinstance(config, Mask2FlowConfig) else Student(config)


def _may_go_on(begun: Checkpoint, config: StudentConfig | Mask2FlowConfig) -> bool:
    """Whether a network of ``config`` can begin with what a checkpoint has learned."""
    own = begun.recipe.student
    return own == config or (isinstance(own, StudentConfig) and isinstance(config, StudentConfig) and can_grow(own, config))


def _going_on(source: Checkpoint | None, run: Run, config: StudentConfig | Mask2FlowConfig) -> Student | Mask2Flow:
    """The network to train: that of ``source``, grown where it is smaller, or a new one."""
    if source and source.recipe.student == config:
        network = copy.deepcopy(source.student)
        if source.current is not None:
            network.load_state_dict(source.current)
        return network.train()
    network = grown(source.student, config) if source and isinstance(source.student, Student) else _network(config)
    if isinstance(network, Student) and network.config.local:
        network.standardize(torch.from_numpy(run.enrollments.every))
    return network


def _encoder(made: Recipe, state: dict[str, Any]) -> Encoder:
    encoder = Encoder(bands=made.student.frame.bands)
    encoder.load_state_dict(state)
    return encoder.eval()


def _of_external_size(made: Recipe, size: int) -> Recipe:
    """The recipe for embeddings of another model. ``DataError`` if it listens to more of its own encoder than that."""
    if isinstance(made.student, StudentConfig) and made.student.local:
        raise DataError(f"{made.name!r} listens to the layers of its own encoder, embeddings have none: choose another recipe")
    return dataclasses.replace(made, encoder=None, student=dataclasses.replace(made.student, embedding=size))


class Run:
    """The data side of a run: decoded corpus, encoder, cached enrollments, mixtures by step."""

    def __init__(
        self,
        made: Recipe,
        data: Path,
        folder: Path,
        watch: Watch,
        encoder: Encoder | None = None,
        embeddings: Embeddings | None = None,
        device: torch.device | str = "cpu",
        *,
        refine: bool = False,
    ) -> None:
        """``refine``: the encoder is where the recipe's own training of one begins, else it is used as it is."""
        self.recipe = made
        self.corpus = open_corpus(data)
        held = len(self.corpus.validation_speakers)
        if held < 2:
            raise DataError(f"{data}: {held} named talkers are left for validation, 2 are needed: add talkers")
        frame = made.student.frame

        cache = folder.parent / "cache"
        stored = folder / "voices.pt"
        speeds = embeddings.speeds if embeddings else _speeds(stored) if made.encoder is None else SPEEDS
        self.speech = decode(
            self.corpus, self.corpus.train_speakers, frame.sample_rate_hz, speeds, cache=cache, progress=_teller(watch, "decode")
        )
        self.validation = decode(
            self.corpus,
            self.corpus.validation_speakers,
            frame.sample_rate_hz,
            (1.0,),
            cache=cache,
            progress=_teller(watch, "decode"),
        )
        self.encoder, self.enrollments, self.held_out = _enrollments(self, stored, watch, encoder, embeddings, refine)
        if made.encoder is None:
            self.speech = enrollable(self.speech, self.enrollments, "training")
            self.validation = enrollable(self.validation, self.held_out, "validation")
        self.eer = equal_error_rate(self.held_out)
        noises, heads = self.corpus.noises_train, self.corpus.hrirs_train
        self.mixer = Mixer(self.speech, made.scene, frame, made.seed, noises, heads, device, self.enrollments.centres)

    def tensors(self, step: int, size: int, rank: int, ranks: int) -> tuple[Tensor, ...]:
        """Mixture, target, voice and flow time of this process's part of a step."""
        batch = self.mixer.batch(step, size, rank, ranks)
        return _tensors(batch, self.enrollments, self.recipe.seed, step, rank, self.recipe.blur)


def _teller(watch: Watch, phase: str) -> Callable[[int, int], None]:
    return lambda done, of: watch(Progress(phase=phase, step=done, steps=of, figures={}))


def _enrollments(
    run: Run, stored: Path, watch: Watch, encoder: Encoder | None, embeddings: Embeddings | None, refine: bool
) -> tuple[Encoder | None, Enrollments, Enrollments]:
    """Encoder (trained now unless given) and voices of all talkers; the file ``stored`` keeps them between runs."""
    made = run.recipe
    how = dataclasses.asdict(made.encoder) if made.encoder else {}
    how.pop("goes_on", None)  # says with what it began, not how
    how = how or None
    if stored.exists() and embeddings is None:
        state = load_state(stored, "file of voices")
        check_finite(stored, state, ("encoder", "train", "validation"))
        if missing := {"encoder", "train", "validation"} - state.keys():
            raise DataError(f"{stored}: there is no {', '.join(sorted(missing))} in it: delete the file, it is made again")
        if state.get("how") != how:
            raise DataError(
                f"{stored}: its enrollments are not made as {made.name!r} makes them: choose another folder, or delete the file"
            )
        encoder = None if state["encoder"] is None else _encoder(made, state["encoder"])
        trained, held_out = (
            Enrollments({t: [v.numpy() for v in vs] for t, vs in state[k].items()}, made.student.embedding)
            for k in ("train", "validation")
        )
        if trained.size == _voice_size(made.student):
            return encoder, trained, held_out
    if embeddings is not None:
        encoder, trained, held_out = None, embeddings.of(run.corpus, run.speech), embeddings.of(run.corpus, run.validation)
    elif made.encoder is None:
        raise DataError(f"{stored.parent}: its embeddings of {made.student.embedding} values are not there: give --embeddings DIR")
    else:
        encoder, trained, held_out = _encoded(run, made.encoder, watch, encoder, refine)
    tensors = [{t: [torch.from_numpy(v) for v in vs] for t, vs in e.by_talker.items()} for e in (trained, held_out)]
    state = {"how": how, "encoder": encoder.state_dict() if encoder else None, "train": tensors[0], "validation": tensors[1]}
    save_state(stored, state)
    return encoder, trained, held_out


def _encoded(
    run: Run, how: EncoderRecipe, watch: Watch, encoder: Encoder | None, refine: bool
) -> tuple[Encoder, Enrollments, Enrollments]:
    """What the encoder, trained now unless given, makes of all talkers."""
    made, frame = run.recipe, run.recipe.student.frame
    noises = noise_levels([mono_at(path, frame.sample_rate_hz) for path in run.corpus.noises_train], frame)
    known = [t for t in run.speech.spans if t.rpartition("@")[0] not in run.corpus.unlabelled]
    levels = clip_levels(run.speech, frame, known, _teller(watch, "levels"))
    if encoder is None or refine:
        encoder = train_encoder(
            levels,
            how,
            made.seed,
            torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            lambda step, loss: watch(Progress(phase="encoder", step=step + 1, steps=how.steps, figures={"loss": loss})),
            noises,
            encoder,
        )
    local = _voice_size(made.student) > made.student.embedding
    trained = embed_all(encoder, levels, frame, how, made.seed, noises=noises, local=local, told=_teller(watch, "enroll"))
    held_out = embed_all(encoder, clip_levels(run.validation, frame), frame, how, made.seed, noises=noises, local=local)
    return encoder.cpu(), trained, held_out


def _speeds(stored: Path) -> tuple[float, ...]:
    """Speeds of the talkers that a file of voices holds."""
    if not stored.exists():
        return SPEEDS
    there = {name.rpartition("@")[2] for name in load_state(stored, "file of voices").get("train", {})}
    return tuple(speed for speed in SPEEDS if f"{speed:g}" in there)


def _tensors(batch: Batch, enrollments: Enrollments, seed: int, step: int, rank: int, blur: float = 0.0) -> tuple[Tensor, ...]:
    voices, times = [], []
    for i, (talker, utterance) in enumerate(zip(batch.talker, batch.utterance, strict=True)):
        rng = np.random.default_rng([seed, step, rank * len(batch.talker) + i, 13])
        voices.append(enrollments.draw(rng, talker, int(utterance), blur))
        times.append(rng.random())
    return (
        batch.mixture,
        batch.target,
        torch.from_numpy(np.stack(voices)),
        torch.tensor(times, dtype=torch.float32),
    )


def optimizers_of(
    objective: nn.Module, lr: float, weight_decay: float, bfloat16: bool | None = None
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for matrices, AdamW for the rest: decision 0007 compares.

    ``bfloat16``: what Muon iterates in; whichever is faster where it is left out.
    """
    matrices = [m.weight for m in objective.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad]
    chosen = {id(weight) for weight in matrices}
    rest = [p for p in objective.parameters() if p.requires_grad and id(p) not in chosen]
    return [
        Muon(matrices, lr, weight_decay, fastest(matrices[0].device.type).steps if bfloat16 is None else bfloat16),
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
    """A trained student of whatever size, or the published system, that a student listens to.

    Its geometry of frames must be the same (the published system says its gains in whatever geometry it was made for).
    """

    def __init__(self, student: Student | Mask2Flow) -> None:
        super().__init__()
        self.student, self.front = student.requires_grad_(False), Front(student.config.frame)
        self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Stays as it is: its moments are those that it was trained to."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, mixture_BEN: Tensor, voice_BE: Tensor) -> Taught:
        voice_BE = voice_BE[:, : _voice_size(self.student.config)]  # who listens to layers may learn from who does not
        if isinstance(self.student, Mask2Flow):
            return Taught(*self.student.band_gains(mixture_BEN, voice_BE))
        moves = self.student.listen(self.front, self.front.analyze(mixture_BEN), voice_BE)
        return Taught(moves.mask, moves.velocity)


class _Objective(nn.Module):
    """Loss as a module, so that distributed wrappers see one forward pass."""

    terms = Losses._fields

    def __init__(self, student: Student, weights: Weights, teacher: Teacher | None, teaching: Teaching) -> None:
        super().__init__()
        self.student, self.front, self.weights = student, Front(student.config.frame), weights
        self.teacher, self.teaching = teacher, teaching

    def forward(self, mixture: Tensor, target: Tensor, voice: Tensor, t: Tensor) -> Losses:
        taught = self.teacher(mixture, voice) if self.teacher else None
        return extraction_losses(self.student, self.front, mixture, target, voice, t, self.weights, taught, self.teaching)


class Averaged:
    """A running average of a network's weights, with the moments it has: what is validated and shipped of a run that never ends.

    Averages of weights stand in for a falling rate (Polyak & Juditsky, 1992). Early on it forgets sooner: ``(1 + n) / (10 + n)``.
    """

    def __init__(self, network: nn.Module, keeps: float, steps: int = 0, state: dict[str, Tensor] | None = None) -> None:
        self._network, self._keeps, self._steps = network, keeps, steps
        self.state = {name: value.detach().clone() for name, value in (state or network.state_dict()).items()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step."""
        self._steps += 1
        keeps = min(self._keeps, (1 + self._steps) / (10 + self._steps))
        current = self._network.state_dict()
        torch._foreach_lerp_(list(self.state.values()), [current[name] for name in self.state], 1 - keeps)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network computes with its average, then goes on as it was."""
        own = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        self._network.load_state_dict(self.state)
        try:
            yield
        finally:
            self._network.load_state_dict(own)


class _FlowObjective(nn.Module):
    """That of the published system."""

    terms = FlowLosses._fields

    def __init__(self, system: Mask2Flow, weights: FlowWeights) -> None:
        super().__init__()
        self.system, self.weights = system, weights

    def forward(self, mixture: Tensor, target: Tensor, voice: Tensor, t: Tensor) -> FlowLosses:
        return flow_losses(self.system, mixture, target, voice, t, self.weights)


def _objective(made: Recipe, network: Student | Mask2Flow, teacher: Teacher | None) -> _Objective | _FlowObjective:
    if isinstance(network, Mask2Flow):
        return _FlowObjective(network, made.flow)
    return _Objective(network, made.weights, teacher, made.teaching)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast: a linear warm-up, then half a cosine to zero, or a constant rate and a straight fall to zero."""

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


def fit(
    run: Run,
    student: Student | Mask2Flow,
    plan: Plan,
    fabric: Fabric,
    save: Callable[[int, list[dict[str, Any]]], None],
    log: Path,
    *,
    phase: str,
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
    made = run.recipe
    if made.batch % fabric.world_size:
        raise DataError(f"{fabric.world_size} processes do not divide a batch of {made.batch}: choose a divisor")
    objective = _objective(made, student, teacher)
    quick = fabric.broadcast(fastest(fabric.device.type).steps)
    model, *optimizers = fabric.setup(objective, *optimizers_of(objective, plan.lr, made.weight_decay, quick))
    for optimizer, state in zip(optimizers, optimizer_state or (), strict=bool(optimizer_state)):
        optimizer.load_state_dict(state)
    share, rank, ranks = made.batch // fabric.world_size, fabric.global_rank, fabric.world_size
    columns = ("seconds", "core_s", "hours", *objective.terms, "lr", "steps_per_s")
    rows = _Log(log, columns, append=start > 0) if rank == 0 else None
    busy = time.process_time()
    began = saved = logged = time.monotonic()
    window: list[list[float]] = []
    at = start
    model.train()
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(run.tensors, at, share, rank, ranks)
        try:
            late = 0.0
            while at < plan.steps and not late:
                batch = [x.to(fabric.device) for x in pending.result()]
                pending = ahead.submit(run.tensors, at + 1, share, rank, ranks)
                losses = model(*batch)
                fabric.backward(losses.total)
                descend(model, optimizers, plan.learning_rate(at), made.clip)
                if average:
                    average.update()
                at += 1
                now = time.monotonic()
                # Every process must take the same decision to stop, and the loss is that of the whole batch.
                shared = torch.stack(
                    [x.detach() for x in losses] + [losses.total.new_tensor(stop_at is not None and now >= stop_at)]
                )
                *means, late = (fabric.all_reduce(shared) if ranks > 1 else shared).tolist()
                window.append(means)
                told = {"loss": means[0], objective.terms[1]: means[1]}
                watch(Progress(phase=phase, step=at, steps=plan.steps if plan.ends else None, figures=told))
                if rows and (now - logged > LOG_EVERY_S or at == plan.steps):
                    spent = {"seconds": now - began, "core_s": rows.core_s + (time.process_time() - busy) * ranks}
                    terms = dict(zip(objective.terms, np.mean(window, axis=0), strict=True))
                    pace = {"lr": plan.learning_rate(at - 1), "steps_per_s": len(window) / (now - logged)}
                    rows.row(at, {**spent, "hours": made.hours(at), **terms, **pace})
                    window, logged = [], now
                if rank == 0 and now - saved > CHECKPOINT_EVERY_S:
                    save(at, [optimizer.state_dict() for optimizer in optimizers])
                    saved = now
        except KeyboardInterrupt:
            watch(Progress(phase="stopped", step=at, steps=plan.steps, figures={}))
    if rank == 0:
        save(at, [optimizer.state_dict() for optimizer in optimizers])
    return at


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
    embeddings: Path | None = None,
    cut: float | None = None,
    watch: Watch = lambda progress: None,
) -> Path:
    """Train a recipe into ``folder``; returns the checkpoint. Stops cleanly at its steps, after ``minutes``, or on Ctrl-C.

    ``resume`` continues bit for bit where the last checkpoint of the same recipe was written. ``start`` names a checkpoint whose
    student and encoder a new run begins with (its optimizer and schedule are the new run's own); a smaller student is grown.
    ``teacher`` names a checkpoint to distil, its encoder the one that enrolls; ``teaching`` says how much of it, and ``steps`` how
    long, instead of the recipe's.
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
        made = _of_external_size(made, external.size)
    elif previous and previous.encoder is None:
        made = _of_external_size(made, previous.recipe.student.embedding)
    fabric = launch()
    folder.mkdir(parents=True, exist_ok=True)
    begun = load_checkpoint(start) if start and not previous else None
    if begun and (begun.encoder is None) != (made.encoder is None):
        raise DataError(f"{start}: one of it and the new run listens to embeddings of another model: both must, or neither")
    if begun and not _may_go_on(begun, made.student):
        raise DataError(
            f"{start}: {made.name!r} cannot hold a student of {begun.recipe.name!r}: start from one of its own, or none"
        )
    falls_from = previous.falls_from if previous else None
    if cut is not None and not previous:
        if begun is None or begun.current is None or begun.recipe.student != made.student or not made.constant:
            raise DataError(f"--cut branches off a run of {made.name!r} at a constant rate: name its folder with --start")
        falls_from = begun.step
        made = dataclasses.replace(made, steps=begun.step + max(1, round(cut * 60 * _steps_per_s(start))))
    if previous and falls_from is not None and steps is None:
        made = previous.recipe
    if previous and previous.recipe != made:
        raise DataError(
            f"{last} was made by {previous.recipe.name!r} over {previous.recipe.steps} steps, not {made.name!r} over {made.steps}"
        )
    if teacher and isinstance(made.student, Mask2FlowConfig):
        raise DataError(f"{made.name!r} learns from the target alone and has no use for a teacher: leave it out")
    teaches = load_checkpoint(teacher) if teacher else None
    if teaches and teaches.recipe.student.frame != made.student.frame:
        raise DataError(f"{teacher}: its frames are not those of {made.name!r}: choose a teacher of the same rate, hop and bands")
    with fabric.rank_zero_first():  # the first process decodes and enrolls, the others read what it stored
        known = begun or teaches
        refine = bool(begun and made.encoder and made.encoder.goes_on and begun.recipe.encoder != made.encoder)
        run = Run(made, data, folder, watch, known.encoder if known else None, external, fabric.device, refine=refine)
    torch.manual_seed(made.seed)
    student = _going_on(previous or begun, run, made.student)
    arithmetic = fabric.broadcast(fastest(fabric.device.type))
    watch(Progress(phase=f"arithmetic: {arithmetic}", step=1, steps=1, figures=arithmetic.times_ms))
    student.mixed_precision = arithmetic.layers
    goes_on = previous or (begun if falls_from is not None else None)
    average = None
    if made.average:
        average = Averaged(student, made.average)
        if goes_on and goes_on.current is not None:
            average = Averaged(student, made.average, goes_on.step, goes_on.student.state_dict())
    if teaches:
        teaches.student.mixed_precision = student.mixed_precision

    curve = (
        _Log(folder / "validation.csv", _CURVE, append=goes_on is not None) if made.constant and not fabric.global_rank else None
    )
    judged = time.monotonic()

    def save(step: int, optimizers: list[dict[str, Any]]) -> None:
        nonlocal judged
        figures: dict[str, Any] = {"encoder_eer": run.eer}
        ends = step == made.steps or (stop_at is not None and time.monotonic() >= stop_at)
        if ends or (curve and time.monotonic() - judged > VALIDATE_EVERY_S):
            with average.applied() if average else nullcontext():
                figures["validation"] = validate(student, run)
                figures |= {name: validate(student, run, 32, heads=heads) for name, heads in _two_ears(run).items()}
            if curve:
                found = {f"{kind}_{key}": figures[kind][key] for kind in _KINDS if kind in figures for key in _SUMMARY}
                curve.row(step, {"hours": made.hours(step), **found})
            watch(Progress(phase="validated", step=step, steps=made.steps, figures=figures["validation"]))
            judged = time.monotonic()
        state = {"recipe": made.name, "steps": made.steps, "step": step, "resume": optimizers, "figures": figures}
        state |= {"teaching": dataclasses.asdict(made.teaching), "falls_from": falls_from}
        weights = average.state if average else student.state_dict()
        state |= {"current": student.state_dict()} if average else {}
        encoder = {"encoder": run.encoder.state_dict() if run.encoder else None, "embedding": made.student.embedding}
        save_state(last, {**state, **encoder, "student": weights})

    fit(
        run,
        student,
        Plan(
            steps=made.steps,
            lr=made.lr,
            warmup=made.warmup,
            falls_from=made.steps if made.constant and falls_from is None else falls_from,
        ),
        fabric,
        save,
        folder / "log.csv",
        phase="extraction",
        start=goes_on.step if goes_on else 0,
        optimizer_state=(goes_on.resume or None) if goes_on else None,
        stop_at=stop_at,
        teacher=Teacher(teaches.student) if teaches else None,
        average=average,
        watch=watch,
    )
    return last


def _steps_per_s(run: Path) -> float:
    """How fast a run went, by the last row of its log."""
    path = (run if run.is_dir() else run.parent) / "log.csv"
    try:
        with path.open() as file:
            return float([row["steps_per_s"] for row in csv.DictReader(file)][-1])
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise DataError(f"{path}: no log that says how fast the run goes: --cut needs one of at least a minute") from error


def _two_ears(run: Run) -> dict[str, list[Path]]:
    """Held-out heads and a room, by what is measured with them; nothing where a student has no beam or the data no heads."""
    if not getattr(run.recipe.student.frame, "beam", False):
        return {}
    heads = run.corpus.hrirs_validation
    rooms = [path for path in heads if "room" in path.stem.lower()]
    kinds = {"two_ears": [path for path in heads if path not in rooms], "two_ears_room": rooms}
    return {name: paths for name, paths in kinds.items() if paths}


def launch() -> Fabric:
    """One process, or as many as ``torchrun`` started: gloo between CPUs, nccl between GPUs."""
    _keep_pages()
    many = int(os.environ.get("WORLD_SIZE", "1")) > 1
    fabric = Fabric(accelerator="auto", devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")), strategy="ddp" if many else "auto")
    fabric.launch()
    return fabric


def validate(
    student: Student | Mask2Flow, run: Run, items: int = 96, seed: int = 99, heads: Sequence[Path] = ()
) -> dict[str, float]:
    """What :func:`unseen_gains` come to, and the means of the thirds whose voices are the most ``alike`` and the most ``unlike``.

    A compass, not the figure to report.
    """
    gains, likeness = _unseen(student, run, items, seed, heads=heads)
    order, third = np.argsort(likeness), max(1, len(gains) // 3)
    return {**summed_up(gains), "alike": float(gains[order[-third:]].mean()), "unlike": float(gains[order[:third]].mean())}


def summed_up(gains: NDArray[np.float64]) -> dict[str, float]:
    """Number, mean, median and 10th percentile."""
    found = {"mean": gains.mean(), "median": np.median(gains), "p10": np.percentile(gains, 10)}
    return {"n": len(gains), **{key: float(value) for key, value in found.items()}}


_PLAIN = Scene(sir_db=(-5, 5), noisy=0, talkers=(0, 0, 1, 0), tilt=0, colour_db=0, reverberant=0, binaural_every=0)
"""Two talkers, one ear, nothing else: what a validation item is unless said."""


def unseen_gains(
    student: Student | Mask2Flow, run: Run, items: int, seed: int = 99, *, heads: Sequence[Path] = ()
) -> NDArray[np.float64]:
    """SI-SDR improvements on mixtures of two unseen talkers, mono, -5 to 5 dB, no noise: the same mixtures for the same seed.

    ``heads`` put them on two ears: the gain is then the mean of both, after the first second.
    """
    return _unseen(student, run, items, seed, heads=heads)[0]


@torch.no_grad()
def _unseen(
    student: Student | Mask2Flow, run: Run, items: int, seed: int, *, heads: Sequence[Path]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The gains, and how alike (cosine) the two voices of each mixture are."""
    was_training, precision = student.training, student.mixed_precision
    student.eval()
    student.mixed_precision = False
    frame = run.recipe.student.frame
    scene = dataclasses.replace(_PLAIN, binaural_every=1, seconds=6.0) if heads else _PLAIN
    device = next(student.parameters()).device
    mixer = Mixer(run.validation, scene, frame, seed, hrirs=heads, device=device)
    skipped = frame.sample_rate_hz if heads else 0
    gains, likeness, centres = [], [], run.held_out.centres
    for start in range(0, items, 8):
        batch = mixer.batch(start, min(8, items - start))
        likeness += [float(centres[a] @ centres[others[0]]) for a, others in zip(batch.talker, batch.others, strict=True)]
        mixture, target, voice, _ = _tensors(batch, run.held_out, seed, start, 0)
        estimate = estimated(student, mixture, voice.to(device))
        for m, t, e in zip(*(x.numpy(force=True) for x in (mixture, target, estimate)), strict=True):
            ears = [(m[i, skipped:], t[i, skipped : e.shape[1]], e[i, skipped:]) for i in range(len(m))]
            gains.append(np.mean([si_sdr(c, b) - si_sdr(a[: len(b)], b) for a, b, c in ears]))
    student.train(was_training)
    student.mixed_precision = precision
    return np.array(gains), np.array(likeness)


def estimated(
    network: Student | Mask2Flow, mixture_BEN: Tensor, voice_BE: Tensor, steps: int = 1, solver: Solver = "euler"
) -> Tensor:
    """The talker by a float network, aligned with the mixture; ``N`` whole hops, of which a student's delay is missing at the end.

    ``steps`` and ``solver`` are those of the published system's flow; a student takes its one step.
    """
    if isinstance(network, Mask2Flow):
        return network(mixture_BEN, voice_BE, steps, solver)
    front = Front(network.config.frame).to(mixture_BEN.device)
    spectra = front.analyze(mixture_BEN)
    return front.synthesize(network.listen(front, spectra, voice_BE).applied(front, spectra))[..., front.frame.delay :]


class _Log:
    """Rows of figures by step, as CSV and for TensorBoard beside it. What is appended to keeps the columns that it has."""

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
