"""Report of a live session: one HTML file with its latency, misses, a timeline and a histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.loop import Event
from edge_tse.report import Timing
from edge_tse.web_page import document, rows_table

__all__ = ["live_page"]

Array = NDArray[np.float64]

_WIDE, _HIGH = 860, 220
_LEFT, _BOTTOM = 60, 30


def live_page(
    title: str,
    tables: Mapping[str, Mapping[str, str]],
    timing: Timing | None,
    events: Sequence[Event],
    began_s: float,
    environment: Mapping[str, object],
) -> str:
    """HTML of one session. ``tables`` are headed rows of text; ``began_s`` is its start by the clock of its events."""
    parts = [f"<h1>{escape(title)}</h1>"]
    parts += [_table(heading, rows) for heading, rows in tables.items()]
    if timing is not None:
        parts += ["<h2>Compute per hop over the session</h2>", _timeline(timing)]
        parts += ["<h2>How often each compute time occurred</h2>", _histogram(timing)]
    said = "".join(f"<li>{event.at_s - began_s:.2f} s: {escape(event.what)}</li>" for event in events) or "<li>none</li>"
    parts.append(f"<h2>Events</h2><ul>{said}</ul>")
    parts.append(_table("Measured on", {name: str(value) for name, value in environment.items() if name != "versions"}))
    return document(title, "".join(parts))


def _table(heading: str, rows: Mapping[str, str]) -> str:
    return f"<h2>{escape(heading)}</h2><table>{rows_table(rows)}</table>"


def _timeline(timing: Timing) -> str:
    """Median and maximum of every stretch, against the deadline; time in steps that were timed."""
    ms = timing.hop_s * 1e3
    stretches = [part for part in np.array_split(ms, min(len(ms), 200)) if len(part)]
    high = np.array([part.max() for part in stretches])
    middle = np.array([np.median(part) for part in stretches])
    top = max(float(high.max()), timing.period_s * 1e3) * 1.1
    x = _LEFT + (np.arange(len(stretches)) + 0.5) / len(stretches) * (_WIDE - _LEFT)
    drawn = [_line("max", x, _height(high, top)), _line("p50", x, _height(middle, top)), _due(timing, top)]
    seconds = len(ms) * timing.period_s
    labels = [(_LEFT, _HIGH - 8, "0 s"), (_WIDE - 60, _HIGH - 8, f"{seconds:.0f} s"), (_LEFT + 8, 14, "maximum and median, ms")]
    return _svg("Compute time per hop over time, with the deadline", [*drawn, *_axis(top)], labels)


def _histogram(timing: Timing) -> str:
    """Counts on a logarithmic scale: the few late ones are what matters."""
    ms = np.maximum(timing.hop_s * 1e3, 1e-3)
    top = max(float(ms.max()), timing.period_s * 1e3) * 1.1
    edges = np.geomspace(max(float(ms.min()) * 0.9, 1e-3), top, 61)
    counts, _ = np.histogram(ms, edges)
    span = np.log(edges[-1] / edges[0])

    def across(value: float) -> float:
        return _LEFT + float(np.log(value / edges[0]) / span) * (_WIDE - _LEFT)

    full = np.log10(counts.max() + 1)
    drawn = []
    for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
        tall = np.log10(count + 1) / full * (_HIGH - _BOTTOM - 20)
        box = f'x="{across(low):.1f}" y="{_HIGH - _BOTTOM - tall:.1f}" width="{across(high) - across(low) - 1:.1f}"'
        drawn.append(f'<rect class="bar" {box} height="{tall:.1f}"/>')
    due = across(timing.period_s * 1e3)
    drawn.append(f'<line class="deadline" x1="{due:.1f}" x2="{due:.1f}" y1="10" y2="{_HIGH - _BOTTOM}"/>')
    drawn.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDE}" y1="{_HIGH - _BOTTOM}" y2="{_HIGH - _BOTTOM}"/>')
    labels = [(across(v), _HIGH - 12, f"{v:.3g} ms") for v in np.geomspace(edges[0], edges[-1] * 0.93, 5)]
    labels.append((due - 140, 20, f"deadline {timing.period_s * 1e3:g} ms"))
    return _svg("Histogram of compute times, counts on a logarithmic scale, with the deadline", drawn, labels)


def _height(value: Array, top: float) -> Array:
    return _HIGH - _BOTTOM - value / top * (_HIGH - _BOTTOM - 10)


def _line(kind: str, x: Array, y: Array) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _due(timing: Timing, top: float) -> str:
    y = float(_height(np.array(timing.period_s * 1e3), top))
    return f'<line class="deadline" x1="{_LEFT}" x2="{_WIDE}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _axis(top: float) -> list[str]:
    marks = np.linspace(0, top / 1.1, 4)
    return [f'<text x="8" y="{float(_height(np.array(mark), top)) + 4:.1f}">{mark:.2f}</text>' for mark in marks]


def _svg(what: str, drawn: Sequence[str], labels: Sequence[tuple[float, float, str]]) -> str:
    texts = "".join(f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>' for x, y, text in labels)
    return f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{escape(what)}">{"".join(drawn)}{texts}</svg>'
