"""Report of a session, live or recorded: one HTML file that says when hops arrived against the margin, and why blocks were late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.lateness import Late, Lateness
from edge_tse.live.loop import Event
from edge_tse.report import Timing
from edge_tse.web_page import cards, document, rows_table

__all__ = ["live_page"]

Array = NDArray[np.float64]

_WIDE, _HIGH, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 250, 56, 16, 34, 34
_STRETCHES = 200
_SHOWN, _FOLDED = 10, 200


def live_page(
    title: str,
    tables: Mapping[str, Mapping[str, str]],
    lateness: Lateness,
    environment: Mapping[str, object],
    *,
    timing: Timing | None = None,
    events: Sequence[Event] = (),
    began_s: float = 0.0,
) -> str:
    """HTML of one session. ``tables`` are headed rows of text; ``began_s`` is its start by the clock of its ``events``."""
    parts = [f'<h1>{escape(title)}</h1><div class="cards">{cards(_cards(lateness))}</div>', _arrivals(lateness), _late(lateness)]
    parts += [_table(heading, rows) for heading, rows in tables.items()]
    if timing is not None:
        parts += ["<h2>How often each compute time occurred</h2>", _histogram(timing)]
    said = "".join(f"<li>{event.at_s - began_s:.2f} s: {escape(event.what)}</li>" for event in events)
    if timing is not None:
        parts.append(f"<h2>Events</h2><ul>{said or '<li>none</li>'}</ul>")
    parts.append(_table("Measured on", {name: str(value) for name, value in environment.items() if name != "versions"}))
    return document(title, "".join(parts))


def _cards(lateness: Lateness) -> list[tuple[str, str]]:
    names = {"99": "99 % of hops", "99.9": "99.9 %", "100": "all of them"}
    enough = [(f"{ms:.1f} ms", f"margin for {names[p]}") for p, ms in lateness.sufficient_ms.items()]
    return [(f"{lateness.late_blocks:,}", f"late of {lateness.blocks:,} blocks, at {lateness.margin_ms:g} ms"), *enough]


def _table(heading: str, rows: Mapping[str, str]) -> str:
    return f"<h2>{escape(heading[:1].upper() + heading[1:])}</h2><table>{rows_table(rows)}</table>"


def _arrivals(lateness: Lateness) -> str:
    """Median and maximum of every stretch, the moment at which hops were due, and the late events, over the session."""
    heading = "<h2>When each hop arrived, against its margin</h2>"
    if not len(lateness.at_s):
        return f"{heading}<p>No hop came.</p>"
    stretches = np.array_split(np.arange(len(lateness.at_s)), min(len(lateness.at_s), _STRETCHES))
    at = np.array([lateness.at_s[part].mean() for part in stretches])
    high = np.array([lateness.late_ms[part].max() for part in stretches])
    middle = np.array([np.median(lateness.late_ms[part]) for part in stretches])
    low, top = min(-1.0, float(middle.min())) * 1.1, max(float(high.max()), 0.5) * 1.1
    seconds = max(float(lateness.at_s[-1]), 1e-3)

    def across(value: Array) -> Array:
        return _LEFT + value / seconds * (_WIDE - _LEFT - _RIGHT)

    def height(value: Array) -> Array:
        return _HIGH - _BOTTOM - (value - low) / (top - low) * (_HIGH - _BOTTOM - _TOP)

    drawn = [_line("max", across(at), height(high)), _line("p50", across(at), height(middle))]
    due = float(height(np.array(0.0)))
    drawn.append(f'<line class="deadline" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{due:.1f}" y2="{due:.1f}"/>')
    for late in lateness.late[:_STRETCHES]:
        x = float(across(np.array(late.at_s)))
        drawn.append(f'<circle class="late" cx="{x:.1f}" cy="{due:.1f}" r="4"><title>{escape(_said(late))}</title></circle>')
    for mark in _marks(low, top):
        drawn.append(_text(_LEFT - 8, float(height(np.array(mark))) + 4, f"{mark:g}", "end"))
    drawn += [_text(_LEFT, _HIGH - 10, "0 s"), _text(_WIDE - _RIGHT, _HIGH - 10, f"{seconds:.0f} s", "end")]
    drawn += [
        _text(8, 16, "ms after a hop was due, negative where it was early: highest and, below it, median"),
        _text(_WIDE - _RIGHT, max(due - 7, 30), f"due, with a margin of {lateness.margin_ms:g} ms", "end", "late"),
    ]
    unknown = f" Not known: {lateness.unknown}." if lateness.unknown else ""
    legend = escape(("Dots are late blocks." if lateness.late else "No block was late.") + unknown)
    return (
        f"{heading}<p>{legend}</p>{_svg('Time of arrival of hops over the session, with the time at which they were due', drawn)}"
    )


def _marks(low: float, top: float) -> list[float]:
    """Round numbers along an axis, at most six, 0 among them."""
    steps = (m * 10.0**e for e in range(-2, 6) for m in (1, 2, 5))
    step = next(step for step in steps if (top - low) / step <= 6)
    return [step * i for i in range(int(np.ceil(low / step)), int(np.floor(top / step)) + 1)]


def _late(lateness: Lateness) -> str:
    """Table of late events, the worst first."""
    if not lateness.late:
        return "<h2>Late blocks</h2><p>None.</p>"
    worst = sorted(lateness.late, key=lambda each: -each.worst_ms)
    causes = "; ".join(f"{cause} {times} time{'s' * (times > 1)}" for cause, times in lateness.causes.items())
    shown, folded = worst[:_SHOWN], worst[_SHOWN:_FOLDED]
    more = f"<details><summary>{len(folded)} more, less late</summary>{_late_table(folded)}</details>" if folded else ""
    rest = "<p>The rest stands in the JSON of the session.</p>" if len(worst) > _FOLDED else ""
    said = f"<p>{escape(causes.capitalize())}. Those that were most late first:</p>"
    return f"<h2>Late blocks, and why</h2>{said}{_late_table(shown)}{more}{rest}"


def _late_table(late: Sequence[Late]) -> str:
    rows = "".join(
        f"<tr><td class=n>{each.at_s:.2f} s</td><td class=n>{each.blocks}</td><td class=n>{each.worst_ms:.1f} ms</td>"
        f"<td>{escape(each.cause)}</td><td>{escape(each.detail)}</td></tr>"
        for each in late
    )
    heads = "<tr><th class=n>at</th><th class=n>blocks</th><th class=n>late by</th><th>why</th><th></th></tr>"
    return f'<div class="scroll"><table>{heads}{rows}</table></div>'


def _said(late: Late) -> str:
    return f"{late.at_s:.2f} s: {late.blocks} blocks, {late.worst_ms:.1f} ms: {late.cause}"


def _histogram(timing: Timing) -> str:
    """Counts on a logarithmic scale: the few late ones are what matters."""
    ms = np.maximum(timing.hop_s * 1e3, 1e-3)
    top = max(float(ms.max()), timing.period_s * 1e3) * 1.1
    edges = np.geomspace(max(float(ms.min()) * 0.9, 1e-3), top, 61)
    counts, _ = np.histogram(ms, edges)
    span = np.log(edges[-1] / edges[0])

    def across(value: float) -> float:
        return _LEFT + float(np.log(value / edges[0]) / span) * (_WIDE - _LEFT - _RIGHT)

    full = np.log10(counts.max() + 1)
    drawn = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        tall = np.log10(count + 1) / full * (_HIGH - _BOTTOM - _TOP)
        box = f'x="{across(low):.1f}" y="{_HIGH - _BOTTOM - tall:.1f}" width="{across(high) - across(low) - 1:.1f}"'
        drawn.append(f'<rect class="bar" {box} height="{tall:.1f}"/>')
    due = across(timing.period_s * 1e3)
    drawn.append(f'<line class="deadline" x1="{due:.1f}" x2="{due:.1f}" y1="10" y2="{_HIGH - _BOTTOM}"/>')
    drawn.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{_HIGH - _BOTTOM}" y2="{_HIGH - _BOTTOM}"/>')
    ticks = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5) if edges[0] <= m * 10.0**e <= edges[-1]]
    drawn += [_text(across(tick), _HIGH - 12, f"{tick:g} ms", "middle") for tick in ticks]
    drawn += [
        _text(_LEFT - 8, _HIGH - _BOTTOM - np.log10(n + 1) / full * (_HIGH - _BOTTOM - _TOP) + 4, f"{n}", "end")
        for n in (1, 10, 100, 1000, 10_000, 100_000)
        if n <= counts.max()
    ]
    drawn.append(_text(due - 8, 20, f"a hop, {timing.period_s * 1e3:g} ms", "end", "late"))
    return _svg("Histogram of compute times, both axes logarithmic, with the length of a hop", drawn)


def _line(kind: str, x: Array, y: Array) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(text)}</text>'


def _svg(what: str, drawn: Sequence[str]) -> str:
    size = f'viewBox="0 0 {_WIDE} {_HIGH}"'
    return f'<figure class="scroll"><svg {size} role="img" aria-label="{escape(what)}">{"".join(drawn)}</svg></figure>'
