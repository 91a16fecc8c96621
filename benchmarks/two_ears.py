"""What does the beam do to cues, in a simulated room, to a head that turns, and to ears that are not a pair?

The answer is for a float checkpoint, with talkers and heads that it never heard.

python -m benchmarks.two_ears --checkpoint RUN --data DIR --work WORK

Writes ``benchmarks/results/two_ears.json`` and the chart of a turn, ``docs/head-turn.svg``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import scipy.signal
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import RESULTS, interval, one_line
from benchmarks.simulated_room import Room, head_responses
from edge_tse.errors import DataError
from edge_tse.metrics import si_sdr
from edge_tse.nn.beam import beamform
from edge_tse.nn.front import TorchFront
from edge_tse.nn.student import Moves, Student
from edge_tse.report import Report, environment
from quantization.checkpoint import student_of
from quantization.mixing import Batch, Mixer
from quantization.mixture import Scene
from quantization.quantize import prepare
from quantization.run import TrainingRun

__all__ = ["EARS", "cues", "draw", "shadow", "simulate", "turning", "unequal"]

Float = NDArray[np.float64]
CHART = Path(__file__).parent.parent / "docs" / "head-turn.svg"
_SCENE = Scene(seconds=6.0, sir_db=(-5, 5), noisy=0, talkers=(0, 0, 1, 0), tilt=0, colour_db=0, reverberant=0, binaural_every=1)
_SKIPPED_S = 1.0
"""Time before anything is scored: a beam has to hear somebody before it can point."""


def _ear(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Changes the right ear of ``[B, 2, N]``."""
    return lambda x: torch.stack([x[:, 0], change(x[:, 1])], dim=1)


EARS: dict[str, Callable[[Tensor], Tensor]] = {
    "a pair": lambda x: x,
    "right ear dead": _ear(torch.zeros_like),
    "right ear 20 dB weaker": _ear(lambda x: 0.1 * x),
    "right ear inverted": _ear(torch.neg),
    "right ear 0.5 ms late": _ear(lambda x: x.roll(8, -1)),
    "right ear 1 ms late": _ear(lambda x: x.roll(16, -1)),
    "the same sound twice": lambda x: x[:, :1].expand(-1, 2, -1).contiguous(),
}
"""Kinds of ears that two channels may be; both mixture and talker go through it."""
_CLIPPED = "right ear clipped"


class Scenes(NamedTuple):
    """Mixtures of two talkers around heads."""

    mixture: Tensor
    target: Tensor
    voice: Tensor


def scenes(run: TrainingRun, heads: Sequence[Path], items: int, seed: int = 77) -> Scenes:
    """Unseen talkers around ``heads``, the same ones for the same seed."""
    mixer = Mixer(run.validation, _SCENE, run.recipe.student.frame, seed, hrirs=heads)
    batch = mixer.batch(0, items)
    return Scenes(batch.mixture, batch.target, torch.cat([_voice(run, batch, seed, i) for i in range(items)]))


def _voice(run: TrainingRun, batch: Batch, seed: int, i: int) -> Tensor:
    """Voice ``[1, values]`` of the target of an item."""
    drawn = run.held_out.draw(np.random.default_rng([seed, i]), batch.talker[i], int(batch.utterance[i]))
    return torch.from_numpy(drawn)[None]


def shadow(front: TorchFront, spectra: Tensor, moves: Moves, part: Tensor) -> Tensor:
    """Output of a mixture's time-varying filters for a part of it, all ``complex [B, 2, T, K]``."""
    if moves.beam is None or moves.share is None:
        return front.amplify(part, moves.gain)
    bins = front.over_bins(moves.part)
    free = front.loudness(beamform(spectra, bins, front.unit))
    held = (front.loudness(moves.beam) / (free + 1e-20)).clamp_max(1).sqrt()
    through = front.amplify(beamform(spectra, bins, front.unit, part), held)
    return front.amplify(part, moves.gain - moves.share * moves.mask) + front.amplify(through, moves.share)


def _gains(front: TorchFront, estimate: Tensor, mixture: Tensor, target: Tensor) -> Float:
    """SI-SDR improvements, mean over the ears that hear the talker at all, ``[B]``; estimates are spectra."""
    sound = front.synthesize(estimate)[..., front.frame.delay :]
    skipped, n = round(_SKIPPED_S * front.frame.sample_rate_hz), sound.shape[-1]
    found = []
    for e, m, t in zip(*(x[..., skipped:n].numpy() for x in (sound, mixture, target)), strict=True):
        found.append(np.mean([si_sdr(e[i], t[i]) - si_sdr(m[i], t[i]) for i in (0, 1) if np.any(t[i])]))
    return np.array(found)


@torch.no_grad()
def unequal(student: Student, front: TorchFront, given: Scenes) -> dict[str, dict[str, float]]:
    """Gains in dB for each kind of ears: mask alone, the whole, and the whole over the mask with half its 95 % interval."""
    out = {}
    for name in (*EARS, _CLIPPED):
        change = EARS.get(name, EARS["a pair"])
        mixture, target = change(given.mixture), change(given.target)
        if name == _CLIPPED:
            peak = 0.2 * mixture[:, 1:].abs().amax(dim=-1, keepdim=True)
            mixture = torch.cat([mixture[:, :1], mixture[:, 1:].clamp(-peak, peak)], dim=1)
        spectra = front.analyze(mixture)
        moves = student.listen(front, spectra, given.voice)
        mask, whole = (
            _gains(front, estimate, mixture, target)
            for estimate in (front.amplify(spectra, moves.mask), moves.apply(front, spectra))
        )
        more, half = interval(whole - mask)
        out[name] = {"mask": float(mask.mean()), "whole": float(whole.mean()), "whole_over_mask": more, "half_interval": half}
    return out


@torch.no_grad()
def cues(student: Student, front: TorchFront, given: Scenes) -> dict[str, dict[str, float]]:
    """Medians of how far interaural level (dB) and time (microseconds) of the talker and of the rest are moved.

    Each goes alone through the filters that the mixture brought about. Level of the whole band; time where the ears' correlation is
    largest below 1.5 kHz.
    """
    spectra = front.analyze(given.mixture)
    moves = student.listen(front, spectra, given.voice)
    rate, skipped = front.frame.sample_rate_hz, round(_SKIPPED_S * front.frame.sample_rate_hz)
    out = {}
    for name, part in (("talker", given.target), ("rest", given.mixture - given.target)):
        before = front.synthesize(front.analyze(part))[..., skipped:].numpy()
        after = front.synthesize(shadow(front, spectra, moves, front.analyze(part)))[..., skipped:].numpy()
        level = [abs(_ild_db(a) - _ild_db(b)) for a, b in zip(after, before, strict=True)]
        late = [abs(_itd_us(a, rate) - _itd_us(b, rate)) for a, b in zip(after, before, strict=True)]
        out[name] = {"ild_db": float(np.median(level)), "itd_us": float(np.median(late))}
    return out


def _ild_db(ears: NDArray[np.float32]) -> float:
    left, right = (ears.astype(np.float64) ** 2).sum(axis=1)
    return float(10 * np.log10((left + 1e-12) / (right + 1e-12)))


_FINER, _LARGEST_S, _LOW_HZ = 16, 1e-3, 1500.0


def _itd_us(ears: NDArray[np.float32], rate: int) -> float:
    """Lag of the left ear behind the right, below 1.5 kHz, of at most 1 ms."""
    n = 2 * ears.shape[1]
    left, right = np.fft.rfft(ears.astype(np.float64), n)
    cross = left * right.conj() * (np.fft.rfftfreq(n, 1 / rate) < _LOW_HZ)
    correlation = np.fft.irfft(cross, n * _FINER)
    reach = round(_LARGEST_S * rate * _FINER)
    around = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    return float((int(np.argmax(around)) - reach) / (rate * _FINER) * 1e6)


_TURN_DEG_S, _TURN_S, _BEFORE_S, _AFTER_S, _STEP_S = 60.0, 1.0, 4.0, 4.0, 0.25


@torch.no_grad()
def turning(
    student: Student, front: TorchFront, run: TrainingRun, heads: Sequence[Path], items: int, seed: int = 78
) -> dict[str, Any]:
    """What a head loses that turns by 60 degrees in a second, after four seconds of being still, against one that always was there.

    ``loss_db``: how much larger the error is, mean over mixtures in which somebody else talks just then (``mixtures``). What people
    say differs from second to second, so that the same head before the turn is no measure. ``recovery_s``: after the turn, until
    the loss stays below 1 dB; None if it does not as long as is looked at.
    """
    rng, rate = np.random.default_rng(seed), front.frame.sample_rate_hz
    batch = _dry(run, front, items, seed, _BEFORE_S + _TURN_S + _AFTER_S)
    n = batch.mixture.shape[-1]
    whole_turn_deg = _TURN_DEG_S * _TURN_S
    turned_deg = np.clip((np.arange(n) / rate - _BEFORE_S) * _TURN_DEG_S, 0, whole_turn_deg)
    errors = []
    for i in range(items):
        with np.load(heads[int(rng.integers(len(heads)))]) as file:
            responses, azimuths = file["ir"].astype(np.float32), file["azimuth_deg"]
        first = rng.uniform(-180, 180)
        apart = rng.uniform(40, 140) * rng.choice((-1, 1))
        of_heads = []
        for deg in (turned_deg, np.full(n, whole_turn_deg)):
            target, other = (
                _around(x, responses, azimuths, at + deg) for x, at in zip(_talkers(batch, i), (first, first + apart), strict=True)
            )
            spectra = front.analyze(torch.from_numpy(target + other)[None])
            moves = student.listen(front, spectra, _voice(run, batch, seed, i))
            heard = front.synthesize(moves.apply(front, spectra))[0, :, front.frame.delay :].numpy()
            of_heads.append(_over_time(heard, (target + other)[:, : heard.shape[1]], target[:, : heard.shape[1]], rate))
        errors.append(of_heads)
    loss_db, mixtures = _loss(np.array(errors))
    times = (np.arange(len(loss_db)) + 0.5) * _STEP_S
    return {
        "time_s": times.tolist(),
        "loss_db": loss_db.tolist(),
        "mixtures": mixtures.tolist(),
        "recovery_s": _recovery_s(times, loss_db),
    }


def _loss(errors: Float) -> tuple[Float, Float]:
    """Loss of the first head against the second in each quarter second, dB, and the number of mixtures that tell, up to the last
    quarter in which half of them do.

    ``errors``: ``[mixtures, 2 heads, estimate and mixture, n]``.
    """
    sounds = errors[:, 1, 1] > 1e-3 * errors[:, 1, 1].mean(axis=-1, keepdims=True)
    count = sounds.sum(axis=0)
    last = int(np.flatnonzero(2 * count >= len(errors))[-1]) + 1
    loss_db = 10 * np.log10((errors[:, 0, 0] + 1e-9) / (errors[:, 1, 0] + 1e-9))
    return (loss_db * sounds).sum(axis=0)[:last] / np.maximum(count[:last], 1), count[:last]


def _recovery_s(times: Float, loss_db: Float) -> float | None:
    """Seconds after the turn until the loss stays below 1 dB."""
    end_s = _BEFORE_S + _TURN_S
    lost = times[(times > end_s) & (loss_db >= 1)]
    if not len(lost):
        return 0.0
    return None if lost[-1] == times[-1] else float(lost[-1] + _STEP_S / 2 - end_s)


def draw(turned: Mapping[str, Any]) -> Figure:
    """Chart of what a turn of the head costs over time, of the figures of :func:`turning`."""
    with mpl.rc_context({"svg.hashsalt": "edge-tse"}):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axis = figure.subplots()
        axis.axvspan(_BEFORE_S, _BEFORE_S + _TURN_S, alpha=0.2, label="the head turns by 60 degrees")
        axis.plot(turned["time_s"], turned["loss_db"], marker=".")
        axis.axhline(1, linestyle=":", linewidth=1)
        axis.set(xlabel="seconds", ylabel="loss by the turn, dB")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    return figure


@torch.no_grad()
def simulate(
    student: Student, front: TorchFront, run: TrainingRun, heads: Sequence[Path], items: int, seed: int = 79
) -> dict[str, float]:
    """Gains of the mask alone and of the whole in rooms of image sources, dB: talkers a metre away, 30 degrees apart or more."""
    rng, rate = np.random.default_rng(seed), front.frame.sample_rate_hz
    batch = _dry(run, front, items, seed, _SCENE.seconds)
    gains = []
    for i in range(items):
        with np.load(heads[int(rng.integers(len(heads)))]) as file:
            responses, azimuths = file["ir"].astype(np.float32), file["azimuth_deg"]
        first, apart = rng.uniform(-180, 180), rng.uniform(30, 180) * rng.choice((-1, 1))
        places = [(azimuth, rng.uniform(0.7, 1.5)) for azimuth in (first, first + apart)]
        around = head_responses(Room(t60_s=rng.uniform(0.2, 0.6)), places, responses, azimuths, rate)
        target, other = (
            np.stack([scipy.signal.oaconvolve(x, ear)[: len(x)] for ear in response]).astype(np.float32)
            for x, response in zip(_talkers(batch, i), around, strict=True)
        )
        other *= np.sqrt((target**2).sum() / (other**2).sum()) * 10 ** (rng.uniform(-5, 5) / 20)
        mixture = torch.from_numpy(target + other)[None]
        spectra = front.analyze(mixture)
        moves = student.listen(front, spectra, _voice(run, batch, seed, i))
        estimates = (front.amplify(spectra, moves.mask), moves.apply(front, spectra))
        gains.append([float(_gains(front, x, mixture, torch.from_numpy(target)[None])[0]) for x in estimates])
    mask, whole = np.array(gains).T
    p10, median = np.percentile(whole, (10, 50))
    return {"mask": float(mask.mean()), "whole": float(whole.mean()), "median": float(median), "p10": float(p10)}


def _dry(run: TrainingRun, front: TorchFront, items: int, seed: int, seconds: float) -> Batch:
    """Mixtures of two unseen talkers at -5 to 5 dB, without head or room."""
    scene = dataclasses.replace(_SCENE, seconds=seconds, binaural_every=0)
    return Mixer(run.validation, scene, front.frame, seed).batch(0, items)


def _talkers(batch: Batch, i: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Target and interferer ``[N]`` of a mixture of two: never one person twice."""
    target = batch.target[i, 0]
    return target.numpy(), (batch.mixture[i, 0] - target).numpy()


def _around(x: NDArray[np.float32], responses: NDArray[np.float32], azimuths: Float, deg: Float) -> NDArray[np.float32]:
    """``[n]`` heard by two ears from a direction that changes: the two nearest responses, one faded into the other, ``[2, n]``."""
    order = np.argsort(azimuths)
    sorted_deg = azimuths[order]
    wrapped = (deg - sorted_deg[0]) % 360 + sorted_deg[0]
    above = np.searchsorted(sorted_deg, wrapped, side="right") % len(order)
    below = (above - 1) % len(order)
    gap = (sorted_deg[above] - sorted_deg[below]) % 360
    towards = np.where(gap > 0, ((wrapped - sorted_deg[below]) % 360) / np.maximum(gap, 1e-9), 0)
    out = np.zeros((2, len(x)), np.float32)
    for place, direction in enumerate(order):
        weight = np.where(below == place, 1 - towards, 0) + np.where(above == place, towards, 0)
        if weight.any():
            heard = np.stack([np.convolve(x, responses[direction, ear])[: len(x)] for ear in (0, 1)])
            out += (heard * weight).astype(np.float32)
    return out


def _over_time(estimate: NDArray[np.float32], mixture: NDArray[np.float32], target: NDArray[np.float32], rate: int) -> Float:
    """Error of the estimate and of the mixture in each quarter second, over the talker's power, ``[2, n]``."""
    step = round(_STEP_S * rate)
    whole = target.shape[1] // step * step
    power = (target.astype(np.float64) ** 2).mean()
    wrong = np.stack([(x[:, :whole].astype(np.float64) - target[:, :whole]) ** 2 for x in (estimate, mixture)])
    found: Float = wrong.sum(axis=1).reshape(2, -1, step).mean(axis=-1) / power
    return found


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, and write the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder for decoded speech and enrollments")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--name", default="two_ears", help="name of the result")
    given = parser.parse_args(arguments)
    source, run, _ = prepare(given.checkpoint, given.data, given.work)
    if not source.recipe.student.frame.beam:
        raise DataError(f"{given.checkpoint}: a student of recipe {source.recipe.name!r} has no beam: give one with a beam")
    heads = [path for path in run.corpus.hrirs_validation if "room" not in path.stem.lower()]
    if not heads:
        raise DataError(f"{given.data}: no held-out head is there, 1 is needed")
    student, front = student_of(source).eval(), TorchFront(source.recipe.student.frame)
    around = scenes(run, heads, given.items)
    figures = {
        "checkpoint": {"recipe": source.recipe.name, "step": source.step, "sha256": source.digest},
        "items": given.items,
        "unequal": unequal(student, front, around),
        "cues": cues(student, front, around),
        "simulated_room": simulate(student, front, run, heads, given.items),
        "turning": turning(student, front, run, heads, given.items),
    }
    question = "What does the beam do to cues, in a simulated room, to a head that turns, and to ears that are not a pair?"
    Report(question=question, figures=figures, environment=environment()).save(RESULTS / f"{given.name}.json")
    if given.name == "two_ears":
        draw(figures["turning"]).savefig(CHART, metadata={"Date": None})
    table = Table("ears", "mask, dB", "whole, dB", "whole over mask, dB", title="SI-SDR gain", title_justify="left")
    for name, row in figures["unequal"].items():
        over = f"{row['whole_over_mask']:+.2f} ± {row['half_interval']:.2f}"
        table.add_row(name, f"{row['mask']:.2f}", f"{row['whole']:.2f}", over)
    console = Console(width=110)
    console.print(table)
    console.print(figures["cues"], figures["simulated_room"], {"recovery_s": figures["turning"]["recovery_s"]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
