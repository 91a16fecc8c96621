"""Which layer pays for eight bits? One layer at a time is quantized, everything else stays float.

python -m benchmarks.sensitivity --data DIR --checkpoint quantization/checkpoints/small.pt

A layer is its weights and biases together with the tensor that only it writes; a tensor that several layers write (the residual
streams) or that has a fixed range stands for itself. What counts is the error of the final band gain, and SI-SDR. The mixtures are
those of the split on which decisions are taken.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from benchmarks import RESULTS, one_line
from edge_tse import audio
from edge_tse.metrics import si_sdr
from edge_tse.nn.front import TorchFront
from edge_tse.nn.student import Moves, Student
from edge_tse.report import Report, environment
from quantization.checkpoint import Checkpoint, student_of
from quantization.float_listener import enroll
from quantization.qat import Activation, Fixed, QuantDepthwise, QuantPointwise
from quantization.quantize import SCHEMES, calibration_batches, prepare, twin_of
from quantization.trial_list import Trial, read_trials
from quantization.trials import make_trials

__all__ = ["Probe", "chart", "layers", "only", "sensitivity"]

STORED = RESULTS / "sensitivity.json"
DOCS = Path(__file__).parent.parent / "docs"
_CEILING_DB = 100.0

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Item:
    """A mixture ready for the network."""

    mixture: Float
    target: Float
    spectra: Tensor
    voice: Tensor


class Probe:
    """A few mixtures on which students are compared with a float one, without files, engines or listening models."""

    def __init__(self, source: Checkpoint, trials: Sequence[Trial]) -> None:
        self.front = TorchFront(source.recipe.student.frame)
        self._items = [self._item(trial, enroll(source, trial)) for trial in trials if trial.target is not None]
        self._source = student_of(source)

    @torch.no_grad()
    def _item(self, trial: Trial, voice: Tensor) -> _Item:
        frame = self.front.frame
        assert trial.target is not None
        mixture, target = (audio.resample(*audio.read(path), frame.sample_rate_hz) for path in (trial.mixture, trial.target))
        whole = mixture.shape[1] // frame.hop * frame.hop
        spectra = self.front.analyze(torch.from_numpy(mixture[None, :, :whole].copy()))
        return _Item(mixture[:, :whole], target[:, :whole], spectra, voice)

    def __len__(self) -> int:
        return len(self._items)

    @torch.no_grad()
    def moves(self, student: Student) -> list[Moves]:
        """Moves of each mixture."""
        return [student.listen(self.front, item.spectra, item.voice) for item in self._items]

    @cached_property
    def _float_moves(self) -> list[Moves]:
        return self.moves(self._source)

    @cached_property
    def _float_si_sdr(self) -> float:
        return self._si_sdr(self._float_moves)

    def measure(self, student: Student) -> dict[str, float]:
        """Mean over mixtures: signal-to-noise ratio of the gain against the float student's, and SI-SDR lost to it, both in dB."""
        moves = self.moves(student)
        ratios = [
            min(
                _CEILING_DB, 10 * float(torch.log10(exact.gain.square().sum() / ((exact.gain - found.gain).square().sum() + 1e-12)))
            )
            for exact, found in zip(self._float_moves, moves, strict=True)
        ]
        return {"gain_snr_db": float(np.mean(ratios)), "si_sdr_loss_db": self._float_si_sdr - self._si_sdr(moves)}

    @torch.no_grad()
    def _si_sdr(self, moves: Sequence[Moves]) -> float:
        delay = self.front.frame.delay
        found = []
        for item, made in zip(self._items, moves, strict=True):
            estimate = self.front.synthesize(made.apply(self.front, item.spectra))[0].numpy()
            found.append(si_sdr(estimate[:, delay:], item.target[:, :-delay]))
        return float(np.mean(found))


_NAMES = {"entry": "features", "mask_out.1": "mask", "velocity_out.1": "velocity"}


def layers(twin: Student) -> dict[str, list[nn.Module]]:
    """Layers to quantize, in order of execution: name to the modules that do it."""
    out: dict[str, list[nn.Module]] = {}
    for path, module in twin.named_modules():
        if isinstance(module, QuantPointwise | QuantDepthwise | Activation | Fixed):
            owner = path.removesuffix(".owned").replace(".blocks.", ".").replace(".settle", ".stream")
            out.setdefault(_NAMES.get(owner, owner), []).append(module)
    return out


@contextmanager
def only(twin: Student, chosen: Sequence[nn.Module]) -> Iterator[Student]:
    """``twin`` with nothing but ``chosen`` quantized, computing as in training (reals, no batch statistics)."""
    every = [module for modules in layers(twin).values() for module in modules]
    was_training = twin.training
    try:
        for module in every:
            setattr(module, "exact", not any(module is one for one in chosen))  # noqa: B010
        yield twin.train()
    finally:
        for module in every:
            setattr(module, "exact", False)  # noqa: B010
        twin.train(was_training)


def sensitivity(twin: Student, probe: Probe) -> dict[str, dict[str, float]]:
    """Figures of :meth:`Probe.measure` for each layer alone, ``nothing`` (must lose nothing) and ``everything``."""
    found = {}
    for name, modules in track([("nothing", []), *layers(twin).items()], "layers", transient=True):
        with only(twin, modules) as loosened:
            found[name] = probe.measure(loosened)
    found["everything"] = probe.measure(twin.eval())
    return found


def chart(title: str, found: dict[str, dict[str, float]]) -> str:
    """SVG: noise of the gain that each layer brings, in dB below the gain, the noisiest layer with the longest bar."""
    rows = {name: figures["gain_snr_db"] for name, figures in found.items() if name != "nothing"}
    height, left, width = 15, 210, 480
    worst, best = min(rows.values()), max(rows.values())
    lines = []
    for i, (name, snr_db) in enumerate(rows.items()):
        y = 44 + i * height
        long = width * (best + 2 - snr_db) / (best + 2 - worst)
        colour = "#b3541e" if name == "everything" else "#3a6ea5"
        lines.append(f'<text x="{left - 8}" y="{y + 9}" text-anchor="end">{escape(name)}</text>')
        lines.append(f'<rect x="{left}" y="{y}" width="{long:.1f}" height="{height - 4}" fill="{colour}"/>')
        lines.append(f'<text x="{left + long + 6:.1f}" y="{y + 9}">{snr_db:.1f} dB</text>')
    total = 44 + len(rows) * height + 12
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 780 {total}" font-family="sans-serif" font-size="10">',
            f'<rect width="780" height="{total}" fill="#fff"/>',
            f'<text x="12" y="18" font-size="13">{escape(title)}</text>',
            '<text x="12" y="33">gain over its error, each layer quantized alone: the longer the bar, the more it costs</text>',
            *lines,
            "</svg>\n",
        ]
    )


def drawing(name: str) -> Path:
    """Path of a model's chart."""
    return DOCS / f"sensitivity-{name}.svg"


def render(report: dict[str, Any]) -> None:
    """The charts of a report."""
    for name, model in report["figures"]["models"].items():
        drawing(name).write_text(chart(f"{name}, {model['scheme']}: {model['n']} mixtures", model["layers"]))


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write result and chart; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, required=True, nargs="+", metavar="FILE")
    parser.add_argument("--scheme", default="w8a8-ptq", choices=SCHEMES, help="recipe whose post-training part is measured")
    parser.add_argument("--mixtures", type=int, default=16, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/quantization"), metavar="FOLDER", help="folder for caches and trials"
    )
    given = parser.parse_args(arguments)
    trials = given.work / f"choose-{given.seed}-{given.mixtures}"
    listed = trials / "trials.csv"
    if not listed.exists():
        make_trials(given.data, trials, "choose", given.seed, given.mixtures, conditions=("two_talkers",))
    stored = json.loads(STORED.read_text())["figures"]["models"] if STORED.exists() else {}
    for checkpoint in given.checkpoint:
        source, run, _ = prepare(checkpoint, given.data, given.work / checkpoint.stem)
        twin = twin_of(student_of(source), calibration_batches(run, student_of(source)), SCHEMES[given.scheme])
        probe = Probe(source, read_trials(listed))
        stored[source.recipe.name] = {
            "checkpoint": source.digest,
            "scheme": given.scheme,
            "n": len(probe),
            "layers": sensitivity(twin, probe),
        }
    report = Report(question="Which layer pays for eight bits?", figures={"models": stored}, environment=environment())
    report.save(STORED)
    render(json.loads(STORED.read_text()))
    print(report.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
