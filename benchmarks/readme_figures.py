"""The table in the README, and ``docs/figures.md``, from the shipped artifacts and ``results/``.

``python -m benchmarks.readme_figures`` writes both. With ``--check`` nothing is written; exit code 1 says that one of them is out
of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from edge_tse.artifact import Artifact, shipped_names

README = Path(__file__).parent.parent / "README.md"
PAGE = README.parent / "docs" / "figures.md"
START, END = "<!-- figures:start -->", "<!-- figures:end -->"

TITLES = {
    "two_talkers": "two talkers",
    "two_talkers_binaural": "two talkers, two ears, room or none",
    "two_talkers_noise": "two talkers and noise",
    "one_talker_noise": "one talker in noise",
    "three_talkers": "three talkers",
    "two_ears": "two ears, no room",
    "two_ears_room": "two ears, measured room",
    "two_ears_room_babble": "two ears, measured room, babble",
    "three_talkers_two_ears": "three talkers, two ears, no room",
    "telephone": "two talkers over a telephone",
    "telephone_enrollment": "two talkers, enrolled over a telephone",
    "quiet": "two talkers, 40 dB quieter",
    "after_silence": "two talkers after a second of silence",
    "target_absent": "talker absent",
    "target_alone": "talker alone",
}


def summary(results: Path, names: Sequence[str]) -> str:
    """Table of the README: the deciding figures, in six rows."""
    artifacts = {name: Artifact.shipped(name) for name in names}
    quality = {name: _read(results, f"quality-{name}")["figures"]["conditions"] for name in names}
    boards = {name: _read(results, f"firmware-{name}")["figures"]["cores"] for name in names}
    speed, npus = _read(results, "realtime"), _read(results, "npu")["figures"]
    default = names[0]

    def gain(name: str, condition: str) -> str:
        found = quality[name][condition]["si_sdr_i"]
        return f"{found['median']:.1f} dB ({found['mean']:.1f})"

    def cost(name: str) -> str:
        core = boards[name]["Cortex-M55, Helium"]
        return f"{core['instructions_per_hop']:,} instructions (emulated), {core['memory_bytes'] / 1000:,.0f} kB of RAM"

    step = f"{speed['figures']['step']['p50_ms']:.3f} ms of 4 (hardware: one core of {speed['environment']['cpu']})"
    npu = f"{npus['ethos-u55-128']['weights in SRAM, 1 hops a call']['us_per_hop'] / 1000:.1f} ms of 4 (estimate of Arm's Vela)"
    rows = [
        ("gain for two ears, median (mean)", *(gain(name, "two_ears") for name in names)),
        ("gain for one ear", *(gain(name, "two_talkers") for name in names)),
        ("algorithmic latency", *(f"{artifacts[name].frame.algorithmic_latency_s * 1e3:.0f} ms" for name in names)),
        ("int8 constants", *(f"{artifacts[name].graph.weight_bytes / 1000:,.0f} kB" for name in names)),
        ("a step on a Cortex-M55", *(cost(name) for name in names)),
        ("a step on a host; on an Ethos-U55-128", *(f"{step}; {npu}" if name == default else "-" for name in names)),
    ]
    return table(("", *names), rows)


_PREFACE = """\
# Figures

Written by `python -m benchmarks.readme_figures` from the shipped models and `benchmarks/results/`; none of it is typed. Each table
says what it was measured on: hardware, an emulator that counts instructions, or an estimate.

SI-SDR is scale-invariant and per ear; a gain is its improvement over the mixture. How trials are made and scored:
`quantization/trials.py`, `quantization/evaluate.py`."""


def page(results: Path, names: Sequence[str]) -> str:
    """All of ``docs/figures.md``."""
    return f"{_PREFACE}\n\n{block(results, names)}\n"


def block(results: Path, names: Sequence[str]) -> str:
    """Every table, for the shipped models ``names``, or of a single one for its card."""
    speeds = [_read(results, name) for name in ("realtime", *sorted(p.stem for p in results.glob("realtime-*.json")))]
    parts = [
        _sizes({name: Artifact.shipped(name) for name in names}),
        *(_quality(name, _read(results, f"quality-{name}")) for name in names),
        _speed(speeds),
        _parity(results, names),
        _boards(results, names),
        _npus(results),
    ]
    return "\n\n".join(part for part in parts if part)


def shipped_models() -> list[str]:
    """Names of the shipped models, the default first."""
    return sorted(shipped_names(), key=lambda name: Artifact.shipped(name).digest != Artifact.shipped().digest)


def _sizes(artifacts: Mapping[str, Artifact]) -> str:
    def row(title: str, cell: Callable[[Artifact], str]) -> tuple[str, ...]:
        return (title, *(cell(artifact) for artifact in artifacts.values()))

    rows = [
        row("int8 weights", lambda a: f"{a.graph.weights:,}"),
        row("constants with scales and biases", lambda a: f"{a.graph.weight_bytes / 1000:,.0f} kB"),
        row("state between steps", lambda a: f"{a.graph.state_bytes / 1000:,.1f} kB"),
        row("multiply-accumulates per step", lambda a: f"{a.graph.macs:,}"),
        row("step", lambda a: f"{a.frame.period_s * 1e3:.0f} ms"),
        row("algorithmic latency", lambda a: f"{a.frame.algorithmic_latency_s * 1e3:.0f} ms"),
    ]
    title = "**The models** (counted by `python -m benchmarks.readme_figures`)"
    return f"{title}\n\n" + table(("", *artifacts), rows)


def _speed(reports: list[dict[str, Any]]) -> str:
    rows = []
    for figures in (report["figures"] for report in reports):
        step, network = figures["step"], figures["network"]
        rows.append(
            (
                figures["engine"],
                f"{step['p50_ms']:.3f} ms",
                f"{step['p99_ms']:.3f} ms",
                f"{network['p50_ms']:.3f} ms",
                f"{figures['extract_real_time_factor_wall']:.3f}",
            )
        )
    first = reports[0]
    where = f"hardware: one core of {first['environment']['cpu']}, {first['figures']['ears']} ears"
    title = f"**Compute per step of 4 ms**, front end included ({where}; `python -m benchmarks.realtime`)"
    return f"{title}\n\n" + table(("engine", "p50", "p99", "of it the network, p50", "real-time factor"), rows)


def _parity(results: Path, names: Sequence[str]) -> str:
    figures = _read(results, "parity")["figures"]
    rows = []
    for row in (row for row in figures["rows"] if row["model"] in names):
        sound = row["si_sdr_difference"]
        rows.append(
            (
                f"{row['model']}, {row['form']}, {row['engine']} ({row['runs_on']})",
                str(row["worst_lsb"]),
                f"{row['mismatch_rate']:.1%}",
                "0" if sound is None else f"{sound['mean_db']:.3f}, {sound['worst_db']:.2f}",
                f"{row['voice_change_ms']:.1f}",
            )
        )
    frames = figures["rows"][0]["frames"]
    title = (
        f"**The same integers everywhere**: against the reference over {frames:,} frames with state and a voice, folded "
        "in or given while it runs (`python -m benchmarks.parity --data DIR`)"
    )
    head = ("engine", "worst LSB", "values that differ", "change of SI-SDR, dB: mean, largest", "a voice change, ms")
    between = "".join(
        f"\n\nThe universal form of `{name}` against its personalized one, SI-SDR over {found['trials']} trials: "
        f"{found['mean_db']:+.3f} dB on average, at most {found['worst_db']:.2f} dB either way."
        for name, found in figures["universal_against_personalized"].items()
        if name in names
    )
    return f"{title}\n\n" + table(head, rows) + between


def _boards(results: Path, names: Sequence[str]) -> str:
    found = {name: _read(results, f"firmware-{name}")["figures"] for name in names}
    rows = []
    for model, name, core in ((model, *core) for model, figures in found.items() for core in figures["cores"].items()):
        if core["kernels"] == "c99":
            continue
        memory = core.get("memory_bytes")
        rows.append(
            (
                f"{model}, {name} ({core['kernels']})",
                f"{core['instructions_per_hop']:,}",
                f"{core['instructions_network']:,}",
                f"{core['instructions_per_mac_pointwise']:.2f}",
                f"{core['million_instructions_per_second']:.0f} M",
                f"{core['image_bytes'] / 1000:,.0f} kB",
                "-" if memory is None else f"{memory / 1000:,.0f} kB",
            )
        )
    title = (
        f"**In C on a device**: a whole hop of sound, front end and network, {found[names[0]]['ears']} ears "
        "(emulated: instructions counted by QEMU, not time; `python -m benchmarks.firmware`)"
    )
    head = ("", "instructions a hop", "of it the network", "per MAC, pointwise", "instructions a second", "image", "RAM")
    return f"{title}\n\n" + table(head, rows)


def _npus(results: Path) -> str:
    figures = _read(results, "npu")["figures"]
    rows = []
    for name, found in figures.items():
        if isinstance(found, dict):
            rows += [(f"{name}, {how}", f"{_us_a_hop(how, npu):,.0f}", f"{npu['cycles']:,}") for how, npu in found.items()]
    what = "the network of the default model (estimate of Arm's Vela at its default clocks, nothing was run"
    title = f"**On an NPU**: {what}; `python -m benchmarks.npu`)"
    return f"{title}\n\n" + table(("", "µs a hop", "cycles a call"), [row for row in rows if "2 hops" not in row[0]])


def _us_a_hop(how: str, npu: dict[str, Any]) -> float:
    hops = int(how.rpartition(", ")[2].split()[0])
    return float(npu["inference_s"]) * 1e6 / hops


def _quality(model: str, report: dict[str, Any]) -> str:
    conditions = report["figures"]["conditions"]
    rows = []
    for name, c in conditions.items():
        gain = c["si_sdr_i"]
        if gain:
            rows.append(
                (
                    TITLES.get(name, name),
                    str(c["n"]),
                    _pair(c["si_sdr_mixture"], c["si_sdr"]["mean"], 1),
                    f"{gain['median']:.1f}",
                    f"{gain['p10']:.1f}",
                    f"{gain['below_zero']:.0%}",
                    _pair(c["pesq_wb_mixture"], c["pesq_wb"], 2),
                    _pair(c["estoi_mixture"], c["estoi"], 2),
                    _share(c.get("over_suppression")),
                )
            )
    trials = report["figures"]["trials"]
    title = (
        f"**Quality of {model} on talkers it never heard** (real speech, split `{trials['split']}`, seed {trials['seed']}; "
        f"`python -m benchmarks.quality --data DIR --artifact {model} --per-condition {trials['per_condition']}`)"
    )
    head = ("condition", "n", "SI-SDR, dB", "gain: median", "p10", "below 0", "PESQ-WB", "ESTOI", "over-suppressed")
    text = f"{title}\n\n{table(head, rows)}"
    rest = []
    if (confused := conditions.get("two_talkers", {}).get("wrong_talker")) is not None:
        rest.append(f"In {confused:.0%} of the mixtures of two talkers the output is nearer to the other talker.")
    if absent := conditions.get("target_absent", {}).get("attenuation_db"):
        quieter = f"{absent['median']:.1f} dB quieter than the mixture (median; p10 {absent['p10']:.1f} dB)"
        rest.append(f"When the enrolled talker says nothing, the output is {quieter}.")
    if alone := conditions.get("target_alone", {}).get("si_sdr"):
        rest.append(f"Alone, the talker comes through with an SI-SDR of {alone['median']:.1f} dB (median).")
    if moves := report["figures"].get("moves", {}).get("two_talkers"):
        rest.append(moves_table(moves))
    return "\n\n".join([text, " ".join(rest)] if rest else [text])


def moves_table(stages: Mapping[str, Mapping[str, float]]) -> str:
    """Table of each stage's deletion and insertion; which of both is more is read from the figures."""
    mask, flow, target = stages["mask"], stages["flow"], stages["target"]
    share = flow["inserted"] / (flow["inserted"] + flow["deleted"] or 1.0)
    most = "mostly inserts" if share > 0.5 else "deletes more than it inserts"
    first = f"Of the energy of two talkers the mask deletes {mask['deleted']:.0%} and inserts {mask['inserted']:.0%}"
    second = f"the second stage {most}: {flow['deleted']:.1%} deleted, {flow['inserted']:.1%} inserted"
    return f"{first}; {second} (the target itself: {target['deleted']:.0%} and {target['inserted']:.1%}; `edge-tse analyse`)."


def _read(results: Path, name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((results / f"{name}.json").read_text())
    return report


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _pair(before: float | None, after: float | None, digits: int) -> str:
    return "-" if before is None or after is None else f"{before:.{digits}f} → {after:.{digits}f}"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Markdown, numbers to the right."""
    lines = [head, tuple("---" if i == 0 else "---:" for i in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def fill(text: str, figures: str, first: str = START, last: str = END) -> str:
    """``text`` with the part between the marks replaced."""
    before, start, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not start or not end:
        raise SystemExit(f"the page has no {first} ... {last}")
    return f"{before}{first}\n{figures}\n{last}{after}"


def renew(page: Path, text: str) -> int:
    """Write a page; with ``--check`` only tell, as an exit code, whether it is out of date. It takes no other argument."""
    parser = argparse.ArgumentParser(description=f"Write {page.name} from the results on file.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 says that the page is out of date")
    if parser.parse_args().check:
        return int(not page.exists() or page.read_text() != text)
    page.write_text(text)
    return 0


def main() -> int:
    """Write, or check."""
    names = shipped_models()
    return max(renew(README, fill(README.read_text(), summary(RESULTS, names))), renew(PAGE, page(RESULTS, names)))


if __name__ == "__main__":
    sys.exit(main())
