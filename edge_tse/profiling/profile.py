"""Profile of a step: time of front end, network, marshalling and each operator, and the memory they take.

Times are of this machine, whatever the target: a target adds what its own figures say, with their evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.deployment.arena import plan
from edge_tse.deployment.fit import fits
from edge_tse.engines import Engine, Network
from edge_tse.errors import DataError
from edge_tse.extraction import Extractor
from edge_tse.files import read_bytes
from edge_tse.front import features_of
from edge_tse.golden import TimedNetwork
from edge_tse.graph import IntegerGraph
from edge_tse.profiling.operator_times import OperatorTime, operator_times
from edge_tse.report import Report, Timing, busy, environment, memory
from edge_tse.table import parse_json, quote

if TYPE_CHECKING:
    from edge_tse.deployment.runtime import Emitted
    from edge_tse.deployment.target import Target

__all__ = ["Steps", "Watched", "compare", "load_profile", "network_parts", "profile", "sound", "steps"]

QUESTION = "Where does a step go?"
"""Question that every profile answers, by which its file is recognised."""
WARM_UP = 250
"""Steps before the first that counts."""
_TRACED = "the runtime's own profiler, scaled to the inference of the whole (it counts whole microseconds, less is lost)"
_ALONE = "each operator alone, copies against copies, scaled to the inference of the whole"
_UNAVAILABLE = "unavailable: this engine runs no graph of a single operator and tells no times of its own"

_MOST_BYTES = 64 * 2**20  # every step of a long measurement is in it

Float = NDArray[np.float32]


class Watched:
    """A network that records the time of each step."""

    def __init__(self, network: Network, clock: Callable[[], float]) -> None:
        self.name = network.name
        self.step_s: list[float] = []
        self._network = network
        self._clock = clock

    def reset(self) -> None:
        """Reset the watched network."""
        self._network.reset()

    def run(self, features: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        """Run the watched network and record the time."""
        began = self._clock()
        outputs = self._network.run(features)
        self.step_s.append(self._clock() - began)
        return outputs


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Times of all steps of a run, and of their two parts."""

    step: Timing
    network: Timing
    """Time of the network, with marshalling to the runtime and back."""
    front_end: Timing
    """Time of the front end: analysis, features, gains, synthesis, the rest of the step."""
    start_s: float
    """Time that beginning a stream took."""
    first_s: float
    """Time of the very first step, before the warm-up."""


def sound(artifact: Artifact, hops: int, ears: int, seed: int = 0) -> Float:
    """``[ears, hops * hop]`` noise at speech level that swells and fades: no operator's time depends on its input."""
    rng = np.random.default_rng(seed)
    n = hops * artifact.frame.hop
    swell = 1 + np.sin(np.arange(n) * (2 * np.pi * 3 / artifact.frame.sample_rate_hz))
    made: Float = (0.05 * swell * rng.normal(size=(ears, n))).astype(np.float32)
    return made


def steps(artifact: Artifact, network: Network, signal: Float, clock: Callable[[], float], warm_up: int = WARM_UP) -> Steps:
    """Time every step over ``signal`` ``[ears, samples]`` after the first ``warm_up``."""
    watched = Watched(network, clock)
    whole: list[float] = []
    began_s = clock()
    live = Extractor(Engine(artifact, watched), len(signal), whole.append, clock)
    start_s = clock() - began_s
    live.push(signal)
    first_s, step_s, network_s = whole[0], np.array(whole[warm_up:]), np.array(watched.step_s[warm_up:])
    step, part, rest = (Timing(hop_s=s, period_s=artifact.frame.period_s) for s in (step_s, network_s, step_s - network_s))
    return Steps(step=step, network=part, front_end=rest, start_s=start_s, first_s=first_s)


def network_parts(artifact: Artifact, network: Network, signal: Float, clock: Callable[[], float]) -> tuple[Timing, Timing] | None:
    """(marshalling, inference) of every step over ``signal``, one after the other with nothing in between that takes the cache.

    None for a network that does not tell them apart.
    """
    if not isinstance(network, TimedNetwork):
        return None
    rows = features_of(artifact.frame, artifact.graph.tensors, signal, network)
    network.reset()
    timed = (network.run_timed(row, clock) for row in rows)
    marshalling, inference = np.array([(taken.marshalling_s, taken.inference_s) for taken in timed]).T
    period_s = artifact.frame.period_s
    return Timing(hop_s=marshalling, period_s=period_s), Timing(hop_s=inference, period_s=period_s)


def profile(
    artifact: Artifact,
    network: Network,
    clock: Callable[[], float],
    *,
    hops: int = 2500,
    ears: int = 2,
    open_graph: Callable[[IntegerGraph], Network] | None = None,
    trace: Callable[[NDArray[np.int8]], Sequence[OperatorTime]] | None = None,
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
    emitted: Emitted | None = None,
    arena_bytes: int | None = None,
    target: Target | None = None,
    opening: Mapping[str, float | None] | None = None,
) -> Report:
    """Measure ``network``, which runs the artifact's graph, by ``clock`` over ``hops`` steps.

    Times of operators come from ``trace``, the runtime's own profiler over features ``[steps, n]``, else from ``open_graph``, which
    opens other graphs on the same engine; without either they are unavailable.
    ``emitted`` is the file that the engine loads, ``arena_bytes`` what its runtime plans for activations, if not
    what :mod:`edge_tse.deployment.arena` does. ``target`` adds its fit. ``opening`` has the milliseconds of what came before.
    """
    signal = sound(artifact, WARM_UP + hops, ears)
    taken = steps(artifact, network, signal, clock)
    parts = network_parts(artifact, network, signal[:, WARM_UP * artifact.frame.hop :], clock)
    inference = taken.network if parts is None else parts[1]
    used = memory()
    graph = artifact.graph
    if trace is not None:
        times = trace(features_of(artifact.frame, graph.tensors, signal[:, : WARM_UP * artifact.frame.hop], network))
        method = _TRACED
    else:
        times = () if open_graph is None else operator_times(graph, open_graph, clock, quiet=quiet)
        method = _UNAVAILABLE if open_graph is None else _ALONE
    figures: dict[str, object] = {
        "engine": network.name,
        "evidence": "hardware: this machine",
        "artifact": artifact.digest,
        "personalized": artifact.personalized,
        "ears": ears,
        "algorithmic_latency_ms": artifact.frame.algorithmic_latency_s * 1e3,
        "initialisation": {
            **(opening or {}),
            "stream_start_ms": taken.start_s * 1e3,
            "first_hop_ms": taken.first_s * 1e3,
        },
        "step": taken.step.figures(),
        "front_end": taken.front_end.figures(),
        "network": taken.network.figures(),
        "marshalling": None if parts is None else parts[0].figures(),
        "inference": None if parts is None else parts[1].figures(),
        "operators": _operators(times, method, inference.percentile_s(50)),
        "memory": {**used, **_arena(graph, network, emitted, arena_bytes), "state_bytes": graph.state_bytes},
        "model": {
            "file_bytes": None if emitted is None else len(emitted.content),
            "weight_bytes": graph.weight_bytes,
            "macs_per_hop": graph.macs,
        },
        "target": None if target is None else fits(target, artifact, emitted).figures(),
        "estimate": None if emitted is None else emitted.estimate,
        "remark": busy(),
        # Tenths of a microsecond: what a clock tells, in a file that stays small.
        "step_us": np.round(taken.step.hop_s * 1e6, 1),
        "network_us": np.round(taken.network.hop_s * 1e6, 1),
    }
    return Report(question=QUESTION, figures=figures, environment=environment())


def _arena(graph: IntegerGraph, network: Network, emitted: Emitted | None, planned_bytes: int | None) -> dict[str, int | None]:
    """Arena as planned, and as stated by the runtime or the tool that made the file; None where neither states one."""
    told: int | None = getattr(network, "arena_bytes", None)
    if told is None and emitted is not None:
        told = emitted.needs_bytes.get("arena")
    planned = plan(graph).size_bytes if planned_bytes is None else planned_bytes
    return {"arena_planned_bytes": planned, "arena_reported_bytes": told}


def _operators(times: Sequence[OperatorTime], method: str, inference_s: float) -> dict[str, object]:
    total = sum(t.alone_s for t in times)
    if not total:
        return {"method": method, "nodes": [], "by_operator": [], "scale": None}
    scale = inference_s / total

    def costs(of: Sequence[OperatorTime]) -> dict[str, float | int]:
        alone = sum(t.alone_s for t in of)
        return {"macs": sum(t.macs for t in of), "alone_us": alone * 1e6, "share": alone / total, "scaled_us": alone * scale * 1e6}

    nodes = [{"node": t.node, "operator": t.operator, "shape": t.shape, **costs([t])} for t in times]
    kinds = {t.operator: [other for other in times if other.operator == t.operator] for t in times}
    dearest = sorted(kinds, key=lambda kind: -sum(t.alone_s for t in kinds[kind]))
    sums = [{"operator": kind, "nodes": len(kinds[kind]), **costs(kinds[kind])} for kind in dearest]
    return {"method": method, "nodes": nodes, "by_operator": sums, "scale": scale}


def load_profile(path: Path) -> dict[str, Any]:
    """The JSON of an earlier profile. ``DataError`` if it cannot be read or is something else."""
    wanted = "give what `edge-tse profile -o NAME.json` wrote"
    found = parse_json(read_bytes(path, _MOST_BYTES, DataError), str(path), DataError, wanted)
    parts = [found.get("figures"), found.get("environment")]
    if found.get("question") != QUESTION or not all(isinstance(part, dict) for part in parts):
        raise DataError(f"{path} is no profile: {wanted}")
    for part, key in _COMPARED:
        value = found["figures"].get(part)
        if value is not None and not isinstance(value, dict):
            raise DataError(f"{path}: {part} is {quote(value)}, not a table: {wanted}")
        figure = (value or {}).get(key)
        if figure is not None and (type(figure) not in (int, float) or not abs(figure) < 2**63):
            raise DataError(f"{path}: {part} {key} is {quote(figure)}, not a number: {wanted}")
    return found


_COMPARED = (
    *((part, f"{name}_ms") for part in ("step", "front_end", "network") for name in ("p50", "p90", "p99", "max")),
    *(
        ("initialisation", f"{name}_ms")
        for name in ("artifact_load", "personalization", "engine_open", "stream_start", "first_hop")
    ),
    ("marshalling", "p50_ms"),
    ("inference", "p50_ms"),
    ("memory", "peak_rss_bytes"),
    ("memory", "arena_planned_bytes"),
    ("memory", "state_bytes"),
    ("model", "file_bytes"),
    ("model", "macs_per_hop"),
)


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, object]:
    """Compare two profiles: figures that both have, by name, with before, after and ratio; and other differences."""
    rows = []
    for part, key in _COMPARED:
        old, new = ((report["figures"].get(part) or {}).get(key) for report in (before, after))
        if old is not None and new is not None:
            rows.append({"what": f"{part} {key}", "before": old, "after": new, "ratio": new / old if old else None})
    different = [
        f"{what}: {old} before, {new} now"
        for what, old, new in (
            *((k, before["figures"].get(k), after["figures"].get(k)) for k in ("engine", "artifact", "ears")),
            *((k, before["environment"].get(k), after["environment"].get(k)) for k in ("cpu", "machine", "python")),
        )
        if old != new
    ]
    return {"rows": rows, "different": different}
