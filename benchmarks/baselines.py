"""What wins at equal hours of processor? Runs of the baselines and of the student on the same sound, judged by the same trials.

edge-tse train NAME -o RUNS/NAME --data DIR --minutes 60   # of small_one_ear, spex, speakerbeam, voicefilter, gated_crn, band_split
python -m benchmarks.baselines RUNS/* --data DIR

A judgement that was killed goes on where it was (with the same ``--folder``): finished mixtures are kept in each run's folder.
Writes ``benchmarks/results/baselines.json`` and, from it, the table and the plot of ``docs/baselines.md``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import RESULTS, add_workers, mixtures, one_line, readme_figures, workers_of
from benchmarks.learning_curves import read
from edge_tse.errors import DataError
from edge_tse.nn.baselines import Baseline
from edge_tse.nn.front import TorchFront
from edge_tse.nn.network import Network
from edge_tse.nn.stage import Depthwise
from edge_tse.nn.student import Student
from edge_tse.report import Report, environment
from quantization.checkpoint import load_checkpoint
from quantization.float_listener import evaluate_checkpoint
from quantization.recipes import RECIPES
from quantization.trials import make_trials
from quantization.workers import ALONE, Workers

__all__ = ["MARKS", "PAGE", "block", "draw", "judge", "macs_per_s", "table"]

PAGE = Path(__file__).parent.parent / "docs" / "baselines.md"
MARKS = ("<!-- baselines:start -->", "<!-- baselines:end -->")
_KEPT = "scores.journal"
"""Name of the file in a run's folder that keeps scores until all runs are judged."""
_CONDITIONS = {"two_talkers": "Two talkers", "two_talkers_noise": "Two talkers and noise", "three_talkers": "Three talkers"}


@torch.no_grad()
def macs_per_s(network: Network) -> int:
    """Multiply-accumulates of matrices, convolutions and recurrences for a second of one ear's sound, spectra not counted."""
    assert isinstance(network, Student | Baseline)
    counted = 0

    def count(module: nn.Module, given: tuple[Any, ...], found: Any) -> None:
        nonlocal counted
        if isinstance(module, nn.Linear):
            counted += found.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            counted += found.numel() * module.weight[0].numel()
        elif isinstance(module, nn.ConvTranspose2d):
            counted += given[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.LSTM):
            positions = given[0].shape[0] * given[0].shape[1]
            counted += positions * sum(p.numel() for name, p in module.named_parameters() if name.startswith("weight"))
        elif isinstance(module, Depthwise):
            counted += found.numel() * len(module.weight)

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    frame = network.config.frame
    sound, voice = torch.zeros(1, 1, frame.sample_rate_hz), torch.zeros(1, network.config.voice_size)
    if isinstance(network, Student):
        front = TorchFront(frame)
        network(_padded(front.features(front.analyze(sound)), frame.features), voice)
    else:
        network(sound, voice)
    for hook in hooks:
        hook.remove()
    return counted


def _padded(features_BTF: Tensor, size: int) -> Tensor:
    """Features of one ear, the beam's levels zero."""
    return nn.functional.pad(features_BTF, (0, size - features_BTF.shape[-1]))


def judge(run: Path, trials: Path, workers: Workers = ALONE) -> dict[str, Any]:
    """Figures of one run, whose folder keeps the scores of finished mixtures.

    ``DataError`` if it is none, or one of the published system.
    """
    source = load_checkpoint(run)
    network = source.student
    if not isinstance(network, Student | Baseline):
        raise DataError(f"{run}: {source.recipe.name!r} is neither a student nor a baseline: leave it out")
    log = read(run / "log.csv")
    late = network.latency_s if isinstance(network, Baseline) else network.config.frame.algorithmic_latency_s
    scored = evaluate_checkpoint(trials, source, of_mixture=False, workers=workers, journal=run / _KEPT)
    return {
        "title": _title(source.recipe.name),
        "weights": sum(p.numel() for p in network.parameters()),
        "macs_per_s": macs_per_s(network),
        "latency_ms": round(1000 * late, 1),
        "core_h": round(log["core_s"][-1] / 3600, 4),
        "hours": round(log["hours"][-1], 2),
        "step": source.step,
        "curve": {"core_h": [round(s / 3600, 4) for s in log["core_s"]], "output_db": [round(x, 3) for x in log["output_db"]]},
        "conditions": scored["conditions"],
    }


def _title(name: str) -> str:
    """First sentence of a recipe."""
    return str(RECIPES[name].__doc__).removeprefix("Baseline: ").partition(".")[0]


def table(rows: Mapping[str, Mapping[str, Any]], condition: str) -> str:
    """Markdown of one condition, the most gain first."""
    head = (
        "network",
        "weights",
        "MAC/s",
        "latency",
        "core-hours",
        "hours of mixture",
        "SI-SDRi: mean",
        "median",
        "p10",
        "PESQ",
        "ESTOI",
        "TSOS",
    )
    lines = []
    for row in sorted(rows.values(), key=lambda row: -float(row["conditions"][condition]["si_sdr_i"]["mean"])):
        found = row["conditions"][condition]
        gain = found["si_sdr_i"]
        cells = (
            row["title"],
            f"{row['weights'] / 1e6:.2f} M",
            f"{row['macs_per_s'] / 1e6:.0f} M",
            f"{row['latency_ms']:g} ms",
            f"{row['core_h']:.2f}",
            f"{row['hours']:.1f}",
            *(f"{gain[key]:.2f}" for key in ("mean", "median", "p10")),
            *(_or_dash(found[key], digits) for key, digits in (("pesq_wb", 2), ("estoi", 3), ("over_suppression", 3))),
        )
        lines.append(cells)
    return readme_figures.table(head, lines)


def _or_dash(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def draw(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Chart of the training error by core-hours, a line a network."""
    with mpl.rc_context({"svg.hashsalt": "edge-tse"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axis = figure.subplots()
        for name, row in rows.items():
            axis.plot(row["curve"]["core_h"], row["curve"]["output_db"], label=name, linewidth=1)
        axis.set(xlabel="core-hours", ylabel="error of the output in training, dB")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    return figure


def write_page(rows: Mapping[str, Mapping[str, Any]], page: Path = PAGE) -> None:
    """Put the tables between the marks of the page, and the plot beside it."""
    page.write_text(readme_figures.fill(page.read_text(), block(rows), *MARKS))
    draw(rows).savefig(page.with_suffix(".svg"), metadata={"Date": None})


def block(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables, one a condition that all networks have scores of."""
    scored = [name for name in _CONDITIONS if all(name in row["conditions"] for row in rows.values())]
    return "\n\n".join(f"**{_CONDITIONS[name]}**\n\n{table(rows, name)}" for name in scored)


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, print, and write the files; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, made by `edge-tse train`")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--per-condition", type=int, default=60, metavar="N")
    add_workers(parser)
    given = parser.parse_args(arguments)
    workers, rows = workers_of(parser, given), dict[str, dict[str, Any]]()
    with mixtures(given.folder) as folder:
        trials = make_trials(given.data, folder, "report", per_condition=given.per_condition, conditions=list(_CONDITIONS))
        for run in given.runs:
            rows[run.name] = judge(run, trials, workers)
            print(f"{run.name}: {rows[run.name]['conditions']['two_talkers']['si_sdr_i']['mean']:.2f} dB", flush=True)
    figures = {"per_condition": given.per_condition, "networks": rows}
    Report(question="What wins at equal hours of processor?", figures=figures, environment=environment()).save(
        RESULTS / "baselines.json"
    )
    write_page(rows)
    for run in given.runs:
        (run / _KEPT).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
