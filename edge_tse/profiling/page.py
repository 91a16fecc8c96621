"""A profile as one HTML file: tables and drawings inside it, nothing fetched from anywhere, no package needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from edge_tse.deployment.fit import count
from edge_tse.web_page import cards, document, fragment

__all__ = ["beginning", "page"]

_WIDTH, _HEIGHT, _LEFT, _BASE, _TOP = 900, 260, 44, 220, 28
_BINS = 72


def page(report: Mapping[str, Any], comparison: Mapping[str, Any] | None = None, before: Mapping[str, Any] | None = None) -> str:
    """HTML of a profile's JSON; with ``comparison`` (:func:`edge_tse.profiling.compare`) and the profile it was made with."""
    figures, here = report["figures"], report["environment"]
    sections = [_jitter(figures, None if before is None else before["figures"]), _parts(figures), _beginning(figures)]
    if comparison is not None:
        sections.append(_comparison(comparison))
    sections += [_operators(figures["operators"]), _sizes(figures)]
    if figures.get("estimate"):
        sections.append(_estimate(figures["estimate"]))
    if figures.get("counted"):
        sections.append(_instructions(figures["counted"]))
    if figures.get("target"):
        sections.append(_fit(figures["target"]))
    versions = ", ".join(f"{name} {number}" for name, number in here["versions"].items())
    remark = f" {figures['remark']}." if figures.get("remark") else ""
    body = fragment("profile", "page.html").substitute(
        subtitle=escape(
            f"{figures['engine']}, model {figures['artifact'][:12]}, {figures['ears']} ear{'s' if figures['ears'] > 1 else ''}, "
            f"{figures['step']['hops']} steps. Every time was measured on this machine ({here['cpu']})."
        ),
        cards=_cards(figures),
        sections="".join(sections),
        footer=escape(f"Measured {here['measured']} on {here['system']}, {here['machine']}.{remark} {versions}."),
    )
    return document("edge-tse: where a step goes", body)


def _cards(figures: Mapping[str, Any]) -> str:
    step = figures["step"]
    shown = [
        (f"{step['p50_ms']:.3f} ms", "compute per step, p50"),
        (f"{step['p99_ms']:.3f} ms", "p99"),
        (f"{step['max_ms']:.2f} ms", f"max; the deadline is {step['hop_period_ms']:g} ms"),
        (f"{step['deadline_misses']}", f"late of {step['hops']}"),
        (f"{step['real_time_factor']:.3f}", "real-time factor, one core"),
    ]
    return cards(shown)


def _jitter(figures: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """Histogram of step times over a logarithmic axis, the deadline drawn in."""
    deadline_us = figures["step"]["hop_period_ms"] * 1e3
    series = [("step", "step", figures["step_us"]), ("network", "network", figures["network_us"])]
    if before is not None and before.get("step_us"):
        series.append(("before", "step before", before["step_us"]))
    everything = [t for _, _, times in series for t in times if t > 0]
    low, high = min(everything) / 1.15, max(*everything, deadline_us) * 1.25
    span = math.log(high / low)

    def x(us: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * math.log(max(us, low) / low) / span

    counts = {name: _histogram(times, low, span) for name, _, times in series}
    most = max(max(each) for each in counts.values())

    def y(count: float) -> float:
        # Logarithmic too: one late step in thousands is what the picture is for.
        return _BASE - (_BASE - _TOP) * math.log1p(count) / math.log1p(most)

    width = (_WIDTH - _LEFT - 12) / _BINS
    drawn = [
        f'<rect class="step" x="{_LEFT + i * width:.1f}" y="{y(n):.1f}" width="{width - 1:.1f}" height="{_BASE - y(n):.1f}"/>'
        for i, n in enumerate(counts["step"])
        if n
    ]
    for name in [name for name in counts if name != "step"]:
        points = " ".join(
            f"{_LEFT + i * width:.1f},{y(n):.1f} {_LEFT + (i + 1) * width:.1f},{y(n):.1f}" for i, n in enumerate(counts[name])
        )
        drawn.append(f'<polyline class="{name}" points="{points}"/>')
    ticks = [m * 10.0**e for e in range(-1, 8) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    drawn += [f'<text x="{x(t):.1f}" y="{_BASE + 18}" text-anchor="middle">{_duration(t)}</text>' for t in ticks]
    drawn += [
        f'<text x="{_LEFT - 6}" y="{y(n) + 4:.1f}" text-anchor="end">{n}</text>' for n in (10**e for e in range(9)) if n <= most
    ]
    at = x(deadline_us)
    drawn += [
        f'<line class="axis" x1="{_LEFT}" y1="{_BASE}" x2="{_WIDTH - 12}" y2="{_BASE}"/>',
        f'<line class="deadline" x1="{at:.1f}" y1="{_TOP - 8}" x2="{at:.1f}" y2="{_BASE}"/>',
        f'<text class="late" x="{at - 6:.1f}" y="{_TOP + 4}" text-anchor="end">deadline {_duration(deadline_us)}</text>',
    ]
    legend = "Filled: whole step. Line: the network in it." + (" Dashed: the whole step before." if len(series) > 2 else "")
    label = f"Histogram of the time of {figures['step']['hops']} steps; deadline {_duration(deadline_us)}"
    return (
        f"<h2>Jitter</h2><p>Steps by the time they took. {escape(legend)} Both axes are logarithmic.</p>"
        f'<figure class="scroll"><svg role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {_HEIGHT}">'
        f"{''.join(drawn)}</svg></figure>"
    )


def _histogram(times: Iterable[float], low: float, span: float) -> list[int]:
    counts = [0] * _BINS
    for t in times:
        counts[min(_BINS - 1, max(0, int(math.log(max(t, low) / low) / span * _BINS)))] += 1
    return counts


def _parts(figures: Mapping[str, Any]) -> str:
    names = {
        "step": "whole step",
        "front_end": "front end",
        "network": "network, as part of the step",
        "marshalling": "marshalling, back to back",
        "inference": "inference, back to back",
    }
    rows = []
    for key, name in names.items():
        part = figures[key]
        cells = ["unavailable"] * 4 if part is None else [f"{part[k] * 1e3:.1f}" for k in ("p50_ms", "p90_ms", "p99_ms", "max_ms")]
        rows.append([name, *cells])
    return f"<h2>Parts, in microseconds</h2>{_table(['', 'p50', 'p90', 'p99', 'max'], rows)}"


def beginning(times: Mapping[str, float | None]) -> dict[str, float | None]:
    """Names and milliseconds of what comes before the first steady step, in order."""
    names = {
        "artifact_load_ms": "artifact, read and checked",
        "personalization_ms": "voice, folded in",
        "engine_open_ms": "engine, its file written and opened",
        "stream_start_ms": "stream, begun",
        "first_hop_ms": "first hop",
    }
    return {name: times[key] for key, name in names.items() if key in times}


def _beginning(figures: Mapping[str, Any]) -> str:
    told = beginning(figures.get("initialisation") or {})
    rows = [[name, "not asked for" if ms is None else f"{ms:.2f}"] for name, ms in told.items()]
    note = "<p>Once, in this process and with the files in the system's cache; the packages had been imported.</p>"
    return f"<h2>Before the first steady step, in milliseconds</h2>{note}{_table(['', 'ms'], rows)}" if rows else ""


def _operators(operators: Mapping[str, Any]) -> str:
    text = f"<h2>Operators</h2><p>{escape(operators['method'].capitalize())}.</p>"
    if not operators["nodes"]:
        return text
    by = [_operator_row(entry, [entry["operator"], f"{entry['nodes']}"]) for entry in operators["by_operator"]]
    dearest = sorted(operators["nodes"], key=lambda entry: -entry["scaled_us"])
    most = dearest[0]["share"] or 1.0
    each = [_operator_row(entry, [entry["node"], entry["operator"], entry["shape"]], most) for entry in dearest]
    heading = ["MAC", "alone, us", "scaled, us", "share"]
    return (
        f"{text}{_table(['operator', 'nodes', *heading, ''], by, bar=True)}<details><summary>Every node</summary>"
        f"{_table(['node', 'operator', 'output', *heading, ''], each, bar=True)}</details>"
    )


def _operator_row(entry: Mapping[str, Any], first: list[str], most: float = 1.0) -> list[str]:
    cells = [f"{entry['macs']:,}", f"{entry['alone_us']:.2f}", f"{entry['scaled_us']:.2f}", f"{entry['share']:.1%}"]
    return [*first, *cells, f"{100 * entry['share'] / most:.1f}"]


def _sizes(figures: Mapping[str, Any]) -> str:
    memory, model = figures["memory"], figures["model"]
    rows = [
        ["model file", _bytes(model["file_bytes"])],
        ["constants", _bytes(model["weight_bytes"])],
        ["multiply-accumulates per step", f"{model['macs_per_hop']:,}"],
        ["state", _bytes(memory["state_bytes"])],
        ["arena, planned", _bytes(memory["arena_planned_bytes"])],
        ["arena, as the runtime reports", _bytes(memory["arena_reported_bytes"])],
        ["resident memory of the process", _bytes(memory.get("rss_bytes"))],
        ["its peak", _bytes(memory.get("peak_rss_bytes"))],
    ]
    return f"<h2>Sizes</h2>{_table(['', ''], rows)}"


def _fit(fit: Mapping[str, Any]) -> str:
    rows, wrong = [], set()
    for i, row in enumerate(fit["rows"]):
        have = "not stated" if row["have"] is None else f"{count(row['have'])} {row['unit']}"
        verdict = {True: "fits", False: "does not fit", None: "not checked"}[row["fits"]]
        rows.append([row["what"], f"{count(row['need'])} {row['unit']}", have, verdict, row["detail"]])
        if row["fits"] is False:
            wrong.add(i)
    return (
        f"<h2>On {escape(fit['target'])}</h2><p>What the target states, evidence: {escape(fit['evidence'])}. The times above are "
        f"not its times.</p>{_table(['', 'need', 'have', '', ''], rows, wrong)}"
    )


def _estimate(estimate: Mapping[str, Any]) -> str:
    """Tables of a vendor's estimate, layer by layer: nothing of it was run."""
    plain = [[key.replace("_", " "), _plain(value)] for key, value in estimate.items() if key not in ("tool", "layers")]
    dearest = sorted(estimate["layers"], key=lambda layer: -layer["cycles"])
    most = dearest[0]["share"] or 1.0 if dearest else 1.0
    rows = [
        [
            layer["node"],
            layer["operator"],
            f"{layer['macs']:,}",
            f"{layer['cycles']:,}",
            f"{layer['share']:.1%}",
            f"{100 * layer['share'] / most:.1f}",
        ]
        for layer in dearest
    ]
    layers = _table(["layer", "operator", "MAC", "cycles", "share", ""], rows, bar=True)
    return (
        f"<h2>Estimate of {escape(estimate['tool'])}</h2><p>Of its performance model, not of a chip.</p>{_table(['', ''], plain)}"
        f"<details open><summary>Layers, dearest first</summary>{layers}</details>"
    )


def _instructions(counted: Mapping[str, Any]) -> str:
    """Functions of a hop on an emulated core, and whether they fit into it."""
    if "unavailable" in counted:
        return f"<h2>Instructions</h2><p>Unavailable: {escape(counted['unavailable'])}.</p>"
    whole, functions = counted["instructions_per_hop"], counted["functions"]
    most = max(functions.values())
    rows = [[name, f"{mean:,}", f"{mean / whole:.1%}", f"{100 * mean / most:.1f}"] for name, mean in functions.items()]
    deadline = counted["deadline"]
    room = (
        "The target states no clock."
        if deadline is None
        else f"That is {deadline['share']:.0%} of the {deadline['cycles_per_hop']:,.0f} cycles of a hop ({deadline['evidence']})."
    )
    return (
        f"<h2>Instructions of a hop</h2><p>{whole:,} on {escape(counted['core'])}, {counted['instructions_network']:,} of them the "
        f"network; {escape(counted['evidence'])}, so no time. {escape(room)}</p>"
        f"{_table(['function', 'instructions', 'share', ''], rows, bar=True)}"
    )


def _comparison(comparison: Mapping[str, Any]) -> str:
    rows = [
        [row["what"], f"{row['before']:,.4g}", f"{row['after']:,.4g}", "" if row["ratio"] is None else f"{row['ratio']:.2f}"]
        for row in comparison["rows"]
    ]
    different = "".join(f"<li>{escape(line)}</li>" for line in comparison["different"])
    note = f"<p>Not the same in both:</p><ul>{different}</ul>" if different else ""
    return f"<h2>Against an earlier profile</h2>{note}{_table(['', 'before', 'now', 'ratio'], rows)}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]], wrong: Iterable[int] = (), bar: bool = False) -> str:
    """Columns that begin with a digit are set to the right; with ``bar`` the last is a percentage, drawn."""
    columns = len(heading) - bar
    numbers = [any(cells[i][:1].isdigit() for cells in rows) for i in range(columns)]

    def row(cells: Sequence[str], i: int) -> str:
        kind = ' class="no"' if i in wrong else ""
        drawn = f'<td class="bar"><span style="width:{cells[-1]}%"></span></td>' if bar else ""
        return f"<tr{kind}>{''.join(_cell('td', *pair) for pair in zip(cells, numbers, strict=False))}{drawn}</tr>"

    head = "".join(_cell("th", *pair) for pair in zip(heading, [*numbers, False], strict=False))
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(row(cells, i) for i, cells in enumerate(rows))}</table></div>'


def _cell(tag: str, text: str, number: bool) -> str:
    return f"<{tag}{' class=n' if number else ''}>{escape(text)}</{tag}>"


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if isinstance(value, float) else str(value)


def _bytes(count: int | None) -> str:
    return "unavailable" if count is None else f"{count:,} B"


def _duration(us: float) -> str:
    return f"{us / 1e3:g} ms" if us >= 1000 else f"{us:g} us"
