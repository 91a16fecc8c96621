"""A trace of a profiled model: a second of steps after the timed ones, whose figures it leaves alone, and one step by operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, Network
from edge_tse.extraction import Extractor
from edge_tse.profiling.profile import sound
from edge_tse.trace import ENGINE, Event, Tape, TracedEngine, save_trace, slices, span

__all__ = ["write_trace"]

_STEPS = 250
_OPERATORS = 2


def write_trace(
    to: Path, model: Artifact, network: Network, figures: Mapping[str, Any], clock: Callable[[], float]
) -> dict[str, object]:
    """Trace steps of ``network``, write them and say what noting cost; ``figures`` are the profile's, measured without."""
    tape = Tape(clock, _STEPS)
    running = Extractor(TracedEngine(Engine(model, network), tape), figures["ears"], clock=clock)
    running.push(sound(model, 2 * _STEPS, figures["ears"]))
    times = tape.read()
    origin_s, steps = float(times[0, 0]), times[:, -1] - times[:, 0]
    told: dict[str, object] = {
        "steps": len(times),
        "step_p50_us": float(np.percentile(steps, 50, method="inverted_cdf")) * 1e6,
        "untraced_step_p50_us": figures["step"]["p50_ms"] * 1e3,
    }
    about = {key: figures[key] for key in ("engine", "artifact", "evidence")}
    about |= {"operators": figures["operators"]["method"], **told}
    last_s = float(np.nan_to_num(times[-1, 2], nan=times[-1, 0]))
    events = slices(times, origin_s) + _operators(figures["operators"]["nodes"], last_s, origin_s)
    tracks = {ENGINE: "steps", _OPERATORS: f"one inference by operator: {figures['operators']['method']}"}
    save_trace(to, events, tracks, about)
    return told


def _operators(nodes: Sequence[Mapping[str, Any]], at_s: float, origin_s: float) -> list[Event]:
    """Operators one after the other, as long as they took by the profile's own measurement, in a slice that is all of them."""
    ends_s = at_s + np.cumsum([node["scaled_us"] / 1e6 for node in nodes])
    if not len(ends_s):
        return []
    begins_s = [at_s, *ends_s[:-1]]
    whole = span("inference, median", at_s, float(ends_s[-1]), origin_s, _OPERATORS)
    return [
        whole,
        *(
            span(node["node"], float(began), float(ended), origin_s, _OPERATORS, operator=node["operator"], macs=node["macs"])
            for node, began, ended in zip(nodes, begins_s, ends_s, strict=True)
        ),
    ]
