"""Training a float student: enrollment encoder first, then extraction with cached embeddings.

``torchrun`` scales it unchanged (Lightning Fabric): a step's batch is split over processes and every item is a function of (seed,
step, position), so one process and many see the same data and, with moments shared, compute the same loss.
"""

from __future__ import annotations

import csv
import ctypes
import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_tse.errors import DataError
from edge_tse.nn.encoder import Encoder
from edge_tse.nn.front import Front
from edge_tse.nn.losses import Losses, Weights, extraction_losses
from edge_tse.nn.student import Student
from quantization.corpus import Batch, Corpus, Mixer, Scene, Speech, decode, open_corpus
from quantization.enrollment import Enrollments, clip_levels, embed_all, equal_error_rate, train_encoder
from quantization.recipes import Recipe, recipe

__all__ = ["Checkpoint", "Progress", "Run", "load_checkpoint", "train", "validate"]

CHECKPOINT_EVERY_S = 120.0
LOG_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a long run tells whoever watches."""

    phase: str
    step: int
    steps: int
    figures: dict[str, float]


Watch = Callable[[Progress], None]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained or half-trained student with its encoder."""

    recipe: Recipe
    student: Student
    encoder: Encoder
    step: int
    figures: dict[str, Any]
    resume: dict[str, Any]
    """Optimizer state."""


def load_checkpoint(path: Path) -> Checkpoint:
    """Read ``last.pt`` (or any checkpoint) of a run. ``DataError`` if it is not one."""
    path = Path(path)
    if path.is_dir():
        path = path / "last.pt"
    if not path.exists():
        raise DataError(f"{path}: no such checkpoint: train one with `edge-tse train RECIPE -o RUN --data DIR`")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        made = dataclasses.replace(recipe(state["recipe"]), steps=state["steps"])
        student = Student(made.student)
        student.load_state_dict(state["student"])
        encoder = Encoder(bands=made.student.frame.bands)
        encoder.load_state_dict(state["encoder"])
    except (KeyError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a checkpoint of this version ({str(error).splitlines()[0][:120]})") from error
    return Checkpoint(
        recipe=made,
        student=student.eval(),
        encoder=encoder.eval(),
        step=state["step"],
        figures=state["figures"],
        resume=state["resume"],
    )


class Run:
    """The data side of a run: decoded corpus, encoder, cached enrollments, mixtures by step."""

    def __init__(self, made: Recipe, data: Path, folder: Path, watch: Watch) -> None:
        self.recipe = made
        self.corpus = open_corpus(data)
        frame = made.student.frame

        def tell(phase: str) -> Callable[[int, int], None]:
            return lambda done, of: watch(Progress(phase=phase, step=done, steps=of, figures={}))

        cache = folder.parent / "cache"
        self.speech = _decode(self.corpus, self.corpus.train_speakers, frame.sample_rate_hz, None, cache, tell("decode"))
        self.validation = _decode(self.corpus, self.corpus.validation_speakers, frame.sample_rate_hz, (1.0,), cache, tell("decode"))
        self.encoder, self.enrollments, self.held_out = _enrollments(self, folder, watch)
        self.eer = equal_error_rate(self.held_out)
        self.mixer = Mixer(self.speech, made.scene, frame, made.seed, self.corpus.noises_train, self.corpus.hrirs_train)

    def tensors(self, step: int, size: int, rank: int, ranks: int) -> tuple[Tensor, ...]:
        """Mixture, target, voice and flow time of this process's part of a step."""
        return _tensors(self.mixer.batch(step, size, rank, ranks), self.enrollments, self.recipe.seed, step, rank)


def _decode(corpus: Corpus, speakers: list[str], rate: int, speeds: tuple[float, ...] | None, cache: Path, progress: Callable[[int, int], None]) -> Speech:
    options = {} if speeds is None else {"speeds": speeds}
    return decode(corpus, speakers, rate, cache=cache, progress=progress, **options)


def _enrollments(run: Run, folder: Path, watch: Watch) -> tuple[Encoder, Enrollments, Enrollments]:
    """Encoder and embeddings of training and validation talkers; ``folder/voices.pt`` keeps them between runs."""
    made, stored = run.recipe, folder / "voices.pt"
    frame = made.student.frame
    encoder = Encoder(bands=frame.bands)
    if stored.exists():
        state = torch.load(stored, map_location="cpu", weights_only=True)
        encoder.load_state_dict(state["encoder"])
        trained, held_out = (Enrollments({t: [v.numpy() for v in vs] for t, vs in state[k].items()}) for k in ("train", "validation"))
        return encoder.eval(), trained, held_out
    levels = clip_levels(run.speech, frame, [t for t in run.speech.spans if t.rpartition("@")[0] not in run.corpus.unlabelled])
    encoder = train_encoder(
        levels,
        made.encoder,
        made.seed,
        torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        lambda step, loss: watch(Progress(phase="encoder", step=step + 1, steps=made.encoder.steps, figures={"loss": loss})),
    )
    trained = embed_all(encoder, levels, made.encoder, made.seed)
    held_out = embed_all(encoder, clip_levels(run.validation, frame), made.encoder, made.seed)
    tensors = [{t: [torch.from_numpy(v) for v in vs] for t, vs in e.by_talker.items()} for e in (trained, held_out)]
    _save(stored, {"encoder": encoder.cpu().state_dict(), "train": tensors[0], "validation": tensors[1]})
    return encoder, trained, held_out


def _tensors(batch: Batch, enrollments: Enrollments, seed: int, step: int, rank: int) -> tuple[Tensor, ...]:
    voices, times = [], []
    for i, (talker, utterance) in enumerate(zip(batch.talker, batch.utterance, strict=True)):
        rng = np.random.default_rng([seed, step, rank * len(batch.talker) + i, 13])
        voices.append(enrollments.draw(rng, talker, int(utterance)))
        times.append(rng.random())
    return (
        torch.from_numpy(batch.mixture),
        torch.from_numpy(batch.target),
        torch.from_numpy(np.stack(voices)),
        torch.tensor(times, dtype=torch.float32),
    )


class _Objective(nn.Module):
    """Loss as a module, so that distributed wrappers see one forward pass."""

    def __init__(self, student: Student, weights: Weights) -> None:
        super().__init__()
        self.student, self.front, self.weights = student, Front(student.config.frame), weights

    def forward(self, mixture: Tensor, target: Tensor, voice: Tensor, t: Tensor) -> Losses:
        return extraction_losses(self.student, self.front, mixture, target, voice, t, self.weights)


def weights_of(made: Recipe) -> Weights:
    """Loss weights of a recipe."""
    return Weights(mask=made.mask_weight, flow=made.flow_weight, magnitude=made.magnitude_weight)


def learning_rate(made: Recipe, step: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < made.warmup:
        return made.lr * (step + 1) / made.warmup
    return made.lr * 0.5 * (1 + np.cos(np.pi * (step - made.warmup) / max(1, made.steps - made.warmup)))


def train(
    name: str,
    folder: Path,
    data: Path,
    *,
    minutes: float | None = None,
    resume: bool = False,
    steps: int | None = None,
    watch: Watch = lambda progress: None,
) -> Path:
    """Train a recipe into ``folder``; returns the checkpoint. Stops cleanly at its steps, after ``minutes``, or on Ctrl-C.

    ``resume`` continues bit for bit where the last checkpoint of the same recipe was written; ``steps`` overrides the recipe's.
    """
    from lightning_fabric import Fabric

    _keep_pages()
    folder = Path(folder)
    last = folder / "last.pt"
    if last.exists() and not resume:
        raise DataError(f"{last} exists: continue it with --resume, or choose another folder")
    made = recipe(name)
    if steps is not None:
        made = dataclasses.replace(made, steps=steps)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # Environment set by torchrun decides how many processes there are; gloo serves CPUs, nccl GPUs.
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(accelerator="auto", devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")), strategy="ddp" if world > 1 else "auto")
    fabric.launch()
    if made.batch % fabric.world_size:
        raise DataError(f"{fabric.world_size} processes do not divide a batch of {made.batch}: choose a divisor")

    torch.manual_seed(made.seed)
    previous = load_checkpoint(last) if resume and last.exists() else None
    run = Run(made, data, folder, watch)
    torch.manual_seed(made.seed)
    student = previous.student.train() if previous else Student(made.student)
    objective = _Objective(student, weights_of(made))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=made.lr, weight_decay=made.weight_decay, betas=(0.9, 0.98))
    model, optimizer = fabric.setup(objective, optimizer)
    at = 0
    if previous:
        optimizer.load_state_dict(previous.resume)
        at = previous.step
    share = made.batch // fabric.world_size
    log = _Log(folder / "log.csv", append=previous is not None) if fabric.global_rank == 0 else None

    def save(step: int, figures: dict[str, Any]) -> None:
        if fabric.global_rank == 0:
            _save(
                last,
                {
                    "recipe": made.name,
                    "steps": made.steps,
                    "step": step,
                    "student": student.state_dict(),
                    "encoder": run.encoder.state_dict(),
                    "resume": optimizer.state_dict(),
                    "figures": {"encoder_eer": run.eer, **figures},
                },
            )

    saved = logged = time.monotonic()
    window: list[list[float]] = []
    figures: dict[str, Any] = {}
    model.train()
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(run.tensors, at, share, fabric.global_rank, fabric.world_size)
        try:
            while at < made.steps and (minutes is None or time.monotonic() - started < minutes * 60):
                batch = [x.to(fabric.device) for x in pending.result()]
                pending = ahead.submit(run.tensors, at + 1, share, fabric.global_rank, fabric.world_size)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(made, at)
                losses = model(*batch)
                fabric.backward(losses.total)
                fabric.clip_gradients(model, optimizer, max_norm=made.clip)
                optimizer.step()
                optimizer.zero_grad()
                at += 1
                window.append([float(x.detach()) for x in (losses.total, losses.output_db, losses.mask_db, losses.flow, losses.magnitude)])
                now = time.monotonic()
                watch(Progress(phase="extraction", step=at, steps=made.steps, figures={"loss": window[-1][0], "output_db": window[-1][1]}))
                if log and (now - logged > LOG_EVERY_S or at == made.steps):
                    means = np.mean(window, axis=0)
                    log.row(at, now - started, *means, learning_rate(made, at - 1), len(window) / (now - logged))
                    window, logged = [], now
                if now - saved > CHECKPOINT_EVERY_S:
                    save(at, figures)
                    saved = now
        except KeyboardInterrupt:
            watch(Progress(phase="stopped", step=at, steps=made.steps, figures={}))
    if fabric.global_rank == 0:
        figures = {"validation": validate(student, run, items=64 if made.steps > 100 else 4)}
        watch(Progress(phase="validated", step=at, steps=made.steps, figures=figures["validation"]))
    save(at, figures)
    return last


@torch.no_grad()
def validate(student: nn.Module, run: Run, items: int = 64, seed: int = 99) -> dict[str, float]:
    """SI-SDR improvement on unseen talkers: two talkers, mono, -5 to 5 dB, no noise. A compass, not the figure to report."""
    from edge_tse.metrics import si_sdr

    was_training = student.training
    student.eval()
    frame = run.recipe.student.frame
    scene = Scene(
        seconds=run.recipe.scene.seconds, sir_db=(-5, 5), noisy=0, talkers=(0, 0, 1, 0), tilt=0, reverberant=0, binaural_every=0
    )
    mixer = Mixer(run.validation, scene, frame, seed)
    front = Front(frame)
    gains = []
    for start in range(0, items, 8):
        mixture, target, voice, _ = _tensors(mixer.batch(start, min(8, items - start)), run.held_out, seed, start, 0)
        spectra = front.analyze(mixture)
        mask, velocity = student(front.features(spectra), voice)
        estimate = front.synthesize(front.amplify(spectra, (mask + velocity).relu()))
        d = frame.delay
        for m, t, e in zip(mixture.numpy(), target.numpy(), estimate.numpy(), strict=True):
            gains.append(si_sdr(e[0, d:], t[0, :-d]) - si_sdr(m[0], t[0]))
    student.train(was_training)
    g = np.array(gains)
    return {"n": len(g), "mean": float(g.mean()), "median": float(np.median(g)), "p10": float(np.percentile(g, 10))}


class _Log:
    """One CSV row a minute."""

    def __init__(self, path: Path, append: bool) -> None:
        self._file = path.open("a" if append else "w", newline="", buffering=1)
        self._writer = csv.writer(self._file)
        if not append:
            self._writer.writerow(["step", "seconds", "loss", "output_db", "mask_db", "flow", "magnitude", "lr", "steps_per_s"])

    def row(self, *values: float) -> None:
        self._writer.writerow([f"{v:.6g}" for v in values])


def _save(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def _keep_pages() -> None:
    """Let glibc keep freed memory: returning and re-faulting each layer's activations costs a quarter of a step on CPU."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
    except (AttributeError, OSError):
        pass  # another C library: only speed is lost
