"""How much of what two ears gain hangs on who points the beam? Hop by hop, as a device runs, in float, all mixtures at once.

python -m benchmarks.pointing --data DIR [--checkpoint RUN] [--memory TALKER_S NOISE_S]

Training makes all frames of a mixture at once, and points the beam by what was heard in a round before (``Student.listen``): this
loop is the one that a device has. Writes ``benchmarks/results/pointing.json``.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from benchmarks import RESULTS, mixtures, one_line
from edge_tse.beam import NOISE_KEEPS, RATIO_FLOOR, TARGET_KEEPS
from edge_tse.errors import AudioError, DataError
from edge_tse.metrics import si_sdr
from edge_tse.nn.beam import HopBeam
from edge_tse.nn.front import TorchFront
from edge_tse.nn.stage import Block, Depthwise
from edge_tse.nn.student import Moves, Student
from edge_tse.report import Report, environment
from quantization.checkpoint import load_checkpoint, student_of
from quantization.float_listener import enroll
from quantization.trial_list import Trial, read_sound, read_trials
from quantization.trials import SPLITS, make_trials

__all__ = ["POINTERS", "Pointer", "hear", "ideal_mask"]

CHECKPOINT = Path(__file__).parent.parent / "quantization" / "checkpoints" / "small.pt"
CONDITIONS = ("two_ears", "two_ears_room", "three_talkers_two_ears")


class Pointer(NamedTuple):
    """What points the beam."""

    mask: float = 0.5
    """Share of the mask; the rest is the amplitude that was left of each band in what was heard."""
    ideal: bool = False
    """The ideal mask instead of both."""
    first_stage: bool = False
    """The ideal mask instead of the first stage's, too."""


POINTERS = {
    "the mask and what was heard": Pointer(),
    "the mask alone": Pointer(mask=1.0),
    "what was heard alone": Pointer(mask=0.0),
    "an ideal mask": Pointer(ideal=True),
    "an ideal mask, also the first stage's": Pointer(ideal=True, first_stage=True),
}


class _Refiner:
    """The second stage a hop at a time."""

    def __init__(self, student: Student, voice_BE: Tensor) -> None:
        self._student = student
        self._films = student.modulations("refine", student.encode(voice_BE))
        channels, taps = student.config.refine.channels, student.config.taps
        spans = [(taps - 1) * dilation + 1 for dilation in student.config.refine.dilations]
        self._past = [torch.zeros(len(voice_BE), span, channels) for span in spans]
        self._hop = 0

    def __call__(self, entering_BC: Tensor, features_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity and share of the beam, ``[B, G]`` each."""
        x = entering_BC + self._student.from_features(features_BF)
        for block, (scale, shift), past in zip(self._student.refine.blocks, self._films, self._past, strict=True):
            layers = cast(Block, block)
            tapped = self._tap(cast(Depthwise, layers.depthwise), past, x)
            x = x + layers.project(layers.expand(tapped[:, None], scale, shift))[:, 0]
        self._hop += 1
        return (
            self._student.velocity_out(self._student.velocity_head(x)),
            self._student.share_out(self._student.share_head(x)),
        )

    def _tap(self, depthwise: Depthwise, past_BSC: Tensor, x_BC: Tensor) -> Tensor:
        """Taps of a hop; ``past`` is a ring."""
        span, taps = past_BSC.shape[1], len(depthwise.weight)
        past_BSC[:, self._hop % span] = x_BC
        reach = [(self._hop - (taps - 1 - tap) * depthwise.dilation) % span for tap in range(taps)]
        return depthwise.bias + sum(depthwise.weight[tap] * past_BSC[:, at] for tap, at in enumerate(reach))


def ideal_mask(front: TorchFront, target: Tensor, rest: Tensor) -> Tensor:
    """Amplitude ratio of the talker in each band of both ears, ``2 x complex [B, 2, T, K] -> [B, T, G]``."""
    talker, others = (front.loudness(x) for x in (target, rest))
    return (talker / (talker + others + float(RATIO_FLOOR))).sqrt()


@torch.no_grad()
def hear(
    student: Student,
    front: TorchFront,
    spectra: Tensor,
    voice_BE: Tensor,
    pointer: Pointer,
    ideal_BTG: Tensor | None = None,
    keeps: tuple[float, float] = (float(TARGET_KEEPS), float(NOISE_KEEPS)),
) -> Tensor:
    """What a device hears of ``complex [B, 2, T, K]``, in float; ``ideal_BTG`` for pointers that are ideal."""
    features = front.features(spectra)
    hidden, mask = student.predict_mask(features, voice_BE)
    if pointer.first_stage and ideal_BTG is not None:
        mask = ideal_BTG
    entering = student.from_hidden(hidden) + student.from_gain(mask)
    beam, refine = HopBeam(len(spectra), spectra.shape[-1], front.unit, keeps), _Refiner(student, voice_BE)
    part, out = mask[:, :1], []
    for t, now in enumerate(spectra.split(1, dim=2)):
        loudness = front.loudness(now)
        towards, levels = front.hold(beam.filter(now), loudness)
        whole = torch.cat([features[:, t], levels[:, 0]], dim=-1)
        moved, shared = refine(entering[:, t], whole)
        here = mask[:, t : t + 1]
        moves = Moves(here, moved[:, None], shared[:, None], towards, hidden[:, t : t + 1], whole[:, None], part)
        heard = moves.apply(front, now)
        out.append(heard)
        if pointer.ideal and ideal_BTG is not None:
            part = ideal_BTG[:, t : t + 1]
        else:
            part = pointer.mask * here + (1 - pointer.mask) * front.remaining(heard, loudness)
        beam.learn(now, front.over_bins(part))
    return torch.cat(out, dim=2)


class Mixtures(NamedTuple):
    """Trials of one condition, as long as the longest."""

    mixture: Tensor
    target: Tensor
    lengths: list[int]
    voice: Tensor


def _read(trials: Sequence[Trial], voices: Sequence[Tensor], hop: int, delay: int) -> Mixtures:
    sounds = [(read_sound(t, "mixture", t.mixture)[0], read_sound(t, "target", cast(Path, t.target))[0]) for t in trials]
    lengths = [mixture.shape[1] for mixture, _ in sounds]
    n = -(-(max(lengths) + delay) // hop) * hop
    both = torch.zeros(2, len(sounds), 2, n)
    for i, pair in enumerate(sounds):
        for kind, sound in enumerate(pair):
            both[kind, i, :, : lengths[i]] = torch.from_numpy(sound)
    return Mixtures(both[0], both[1], lengths, torch.cat(list(voices)))


def gains(
    student: Student, front: TorchFront, given: Mixtures, pointer: Pointer, keeps: tuple[float, float]
) -> NDArray[np.float64]:
    """SI-SDR improvements, ``[B]``."""
    spectra, target = front.analyze(given.mixture), front.analyze(given.target)
    heard = hear(student, front, spectra, given.voice, pointer, ideal_mask(front, target, spectra - target), keeps)
    sound = front.synthesize(heard)[..., front.frame.delay :].numpy()
    found = []
    for i, n in enumerate(given.lengths):
        mixture, talker = given.mixture[i, :, :n].numpy(), given.target[i, :, :n].numpy()
        found.append(si_sdr(sound[i, :, :n], talker) - si_sdr(mixture, talker))
    return np.array(found)


def _keeps(seconds: float, hop_s: float) -> float:
    """Weight of the past in a memory of so many seconds."""
    return math.exp(-hop_s / seconds)


def _table(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Table:
    names = list(next(iter(figures.values())))
    table = Table("who points", *names, title="SI-SDR gain in dB: mean / median (10th percentile)", title_justify="left")
    for name, row in figures.items():
        table.add_row(name, *(f"{x['mean']:.2f} / {x['median']:.2f} ({x['p10']:.1f})" for x in row.values()))
    return table


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, and write the file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pointing", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, metavar="RUN", help="float model; the one of small if left out"
    )
    parser.add_argument("--memory", type=float, nargs=2, metavar="SECONDS", help="of talker and noise, instead of the beam's own")
    parser.add_argument("--split", choices=SPLITS, default="choose")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=40)
    parser.add_argument("--folder", type=Path, metavar="DIR", help="folder for the mixtures; a temporary one if left out")
    parser.add_argument("--name", default="pointing", help="name of the result")
    given = parser.parse_args(arguments)
    if given.memory and not all(s > 0 for s in given.memory):
        parser.error(f"argument --memory: {given.memory[0]:g} and {given.memory[1]:g} s, more than 0 is needed")
    source = load_checkpoint(given.checkpoint)
    if not source.recipe.student.frame.beam:
        raise DataError(f"{given.checkpoint}: a student of recipe {source.recipe.name!r} has no beam: give one with a beam")
    student, front = student_of(source).eval(), TorchFront(source.recipe.student.frame)
    hop_s = front.frame.hop / front.frame.sample_rate_hz
    keeps = tuple(_keeps(s, hop_s) for s in given.memory) if given.memory else (float(TARGET_KEEPS), float(NOISE_KEEPS))
    figures: dict[str, dict[str, dict[str, float]]] = {name: {} for name in POINTERS}
    with mixtures(given.folder) as folder:
        trials = read_trials(make_trials(given.data, folder, given.split, given.seed, given.per_condition, conditions=CONDITIONS))
        for condition in CONDITIONS:
            voices = {}
            for trial in trials:
                if trial.condition == condition:
                    try:
                        voices[trial] = enroll(source, trial)
                    except AudioError as failure:
                        Console(stderr=True).print(f"{trial.id}: left out: {failure}", markup=False)
            read = _read(list(voices), list(voices.values()), front.frame.hop, front.frame.delay)
            for name, pointer in track(POINTERS.items(), condition, transient=True):
                found = gains(student, front, read, pointer, cast(tuple[float, float], keeps))
                p10, median = np.percentile(found, (10, 50))
                figures[name][condition] = {
                    "mean": float(found.mean()),
                    "median": float(median),
                    "p10": float(p10),
                    "n": len(found),
                }
    question = "How much of what two ears gain hangs on who points the beam?"
    of = {
        "checkpoint": {"recipe": source.recipe.name, "step": source.step, "sha256": source.digest},
        "trials": {"split": given.split, "seed": given.seed, "per_condition": given.per_condition},
        "keeps": list(keeps),
        "pointers": figures,
    }
    Report(question=question, figures=of, environment=environment()).save(RESULTS / f"{given.name}.json")
    Console(width=130).print(_table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
