"""Validation of a float network while it trains: gains on mixtures of talkers whom it never heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tse.errors import DataError
from edge_tse.metrics import si_sdr
from edge_tse.nn.baselines import Baseline
from edge_tse.nn.front import TorchFront
from edge_tse.nn.mask2flow import Mask2Flow, Solver
from edge_tse.nn.network import Network
from quantization.loop import objective_of
from quantization.mixing import Mixer
from quantization.mixture import Scene
from quantization.run import TrainingRun, tensors_of

__all__ = ["CURVE", "KINDS", "SUMMARY", "estimate", "summarize", "two_ears", "unseen_errors", "unseen_gains", "validate"]

KINDS, SUMMARY = ("validation", "two_ears", "two_ears_room"), ("mean", "median", "p10", "alike", "unlike")
CURVE = ("hours", *(f"{kind}_{key}" for kind in KINDS for key in SUMMARY), "error_one_ear", "error_two_ears")
_PLAIN = Scene(sir_db=(-5, 5), noisy=0, talkers=(0, 0, 1, 0), tilt=0, colour_db=0, reverberant=0, binaural_every=0)
"""A validation item unless said otherwise: two talkers, one ear, nothing else."""


def validate(student: Network, run: TrainingRun, items: int, seed: int = 99, heads: Sequence[Path] = ()) -> dict[str, float]:
    """Summary of :func:`unseen_gains`, and the means of the thirds whose voices are the most ``alike`` and the most ``unlike``.

    A compass, not the figure to report.
    """
    gains, likeness = _unseen(student, run, items, seed, heads=heads)
    order, third = np.argsort(likeness), max(1, len(gains) // 3)
    return {**summarize(gains), "alike": float(gains[order[-third:]].mean()), "unlike": float(gains[order[:third]].mean())}


def summarize(gains: NDArray[np.float64]) -> dict[str, float]:
    """Number, mean, median and 10th percentile."""
    found = {"mean": gains.mean(), "median": np.median(gains), "p10": np.percentile(gains, 10)}
    return {"n": len(gains), **{key: float(value) for key, value in found.items()}}


def unseen_gains(
    student: Network, run: TrainingRun, items: int, seed: int = 99, *, heads: Sequence[Path] = ()
) -> NDArray[np.float64]:
    """SI-SDR improvements on mixtures of two unseen talkers, mono, -5 to 5 dB, no noise: the same mixtures for the same seed.

    ``heads`` put them on two ears: the gain is then the mean of both, after the first second.
    """
    return _unseen(student, run, items, seed, heads=heads)[0]


@torch.no_grad()
def _unseen(
    student: Network, run: TrainingRun, items: int, seed: int, *, heads: Sequence[Path]
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
        mixture, target, voice, _ = tensors_of(batch, run.held_out, seed, start)
        found = estimate(student, mixture, voice.to(device))
        for m, t, e in zip(*(x.numpy(force=True) for x in (mixture, target, found)), strict=True):
            ears = [(m[i, skipped:], t[i, skipped : e.shape[1]], e[i, skipped:]) for i in range(len(m))]
            gains.append(np.mean([si_sdr(c, b) - si_sdr(a[: len(b)], b) for a, b, c in ears]))
    student.train(was_training)
    student.mixed_precision = precision
    return np.array(gains), np.array(likeness)


@torch.no_grad()
def unseen_errors(network: Network, run: TrainingRun, items: int, seed: int = 99) -> dict[str, float]:
    """Error of the output in dB on mixtures as the recipe makes them, of unseen talkers, noises and heads: what training lowers.

    Computed as on a device, by the running moments. The mean of all items that one ear hears, and of those that two hear; nothing
    where fewer talkers are held out than such mixtures have.
    """
    made, corpus, was_training = run.recipe, run.corpus, network.training
    device = next(network.parameters()).device
    scene, noises, heads = made.without_easy_start.scene, corpus.noises_validation, corpus.hrirs_validation
    try:
        mixer = Mixer(run.validation, scene, made.student.frame, seed, noises, heads, device, run.held_out.centres)
    except DataError:
        return {}
    objective = objective_of(made, network).to(device).eval()
    found: dict[int, list[float]] = {}
    for step in range(-(-items // made.batch)):
        mixture, *rest = tensors_of(mixer.batch(step, made.batch), run.held_out, seed, step)
        losses = objective(mixture, *(x.to(device) for x in rest))
        found.setdefault(mixture.shape[1], []).append(float(losses.output_db))
    network.train(was_training)
    return {name: float(np.mean(found[ears])) for ears, name in ((1, "error_one_ear"), (2, "error_two_ears")) if ears in found}


def estimate(network: Network, mixture_BEN: Tensor, voice_BE: Tensor, steps: int = 1, solver: Solver = "euler") -> Tensor:
    """The talker by a float network, aligned with the mixture; ``N`` whole hops, of which a student's delay is missing at the end.

    ``steps`` and ``solver`` are those of the published system's flow; a student takes its one step.
    """
    if isinstance(network, Mask2Flow):
        return network(mixture_BEN, voice_BE, steps, solver)
    if isinstance(network, Baseline):
        return network(mixture_BEN, voice_BE)[..., network.delay :]
    front = TorchFront(network.config.frame).to(mixture_BEN.device)
    spectra = front.analyze(mixture_BEN)
    return front.synthesize(network.listen(front, spectra, voice_BE).apply(front, spectra))[..., front.frame.delay :]


def two_ears(run: TrainingRun) -> dict[str, list[Path]]:
    """Held-out heads by the validation that uses them (with or without a room); empty where a student has no beam or the data
    no heads."""
    if not getattr(run.recipe.student.frame, "beam", False):
        return {}
    heads = run.corpus.hrirs_validation
    rooms = [path for path in heads if "room" in path.stem.lower()]
    kinds = {"two_ears": [path for path in heads if path not in rooms], "two_ears_room": rooms}
    return {name: paths for name, paths in kinds.items() if paths}
