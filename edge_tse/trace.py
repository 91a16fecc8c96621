"""Traces of a run: when each part of each step began and ended, as Chrome trace events for Perfetto or chrome://tracing.

Format: "Trace Event Format", Google, the JSON object form. Times are noted in memory that is there before the run, and written when
it is over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.engines import Engine
from edge_tse.files import write_bytes
from edge_tse.frame import FrameSpec
from edge_tse.golden import Network, TimedNetwork, TimedStep
from edge_tse.stream import AnyEngine, AnyStep

__all__ = ["ENGINE", "Tape", "TracedEngine", "counter", "instant", "named", "noting_us", "save_trace", "slices", "span", "traced"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]
Int8 = NDArray[np.int8]
Event = dict[str, Any]

ENGINE = 1
"""Number of the track of the engine's thread."""
_PROCESS = 1
_KEPT = 2**14
"""Steps that a tape holds, the last ones: 65 s of hops of 4 ms, a file of some 15 MB."""
_BEGAN, _GIVEN, _CALLED, _RETURNED, _MADE, _ENDED = range(6)


class Tape:
    """Times of the last steps, noted by the thread that takes them."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, kept: int = _KEPT) -> None:
        self.clock = clock
        self.count = 0
        """Steps noted."""
        self._times = np.full((kept, 6), np.nan)
        self._row = self._times[0]

    def begin(self) -> None:
        """Note the beginning of a step."""
        self._row = self._times[self.count % len(self._times)]
        self._row[:] = np.nan
        self._row[_BEGAN] = self.clock()

    def note_network(self, *times: float) -> None:
        """Note when the network was given its input, called, returned and had its output; not numbers where it does not say."""
        self._row[_GIVEN:_ENDED] = times

    def end(self) -> None:
        """Note the end of a step."""
        self._row[_ENDED] = self.clock()
        self.count += 1

    def read(self) -> Array:
        """Times ``[steps, 6]`` of the last steps: began, network given, called, returned, made, ended."""
        kept = len(self._times)
        times: Array = self._times[np.arange(max(0, self.count - kept), self.count) % kept]
        # One that failed has no end, and stands where the oldest stood.
        ended: Array = times[np.isfinite(times[:, _ENDED])]
        return ended


class TracedEngine:
    """An engine whose steps are noted on a tape; parts of a step only where the network is on this machine."""

    def __init__(self, engine: AnyEngine, tape: Tape) -> None:
        self._tape = tape
        self._engine = Engine(engine.artifact, _TracedNetwork(engine.network, tape)) if isinstance(engine, Engine) else engine

    @property
    def frame(self) -> FrameSpec:
        """Geometry of a step."""
        return self._engine.frame

    def start(self, ears: int) -> AnyStep:
        """Begin a stream whose steps are noted."""
        return _TracedStep(self._engine.start(ears), self._tape)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class _TracedStep:
    def __init__(self, step: AnyStep, tape: Tape) -> None:
        self._step, self._tape = step, tape

    def __call__(self, hop: Float, /) -> Float:
        self._tape.begin()
        made = self._step(hop)
        self._tape.end()
        return made

    def reset(self) -> None:
        self._step.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)


class _TracedNetwork:
    def __init__(self, network: Network, tape: Tape) -> None:
        self.name = network.name
        self._network, self._tape = network, tape
        self.run = self._run_timed if isinstance(network, TimedNetwork) else self._run

    def _run_timed(self, features: Int8) -> tuple[Int8, ...]:
        taken = self._network.run_timed(features, self._tape.clock)  # type: ignore[attr-defined]
        self._tape.note_network(taken.began_s, taken.called_s, taken.returned_s, taken.ended_s)
        outputs: tuple[Int8, ...] = taken.outputs
        return outputs

    def _run(self, features: Int8) -> tuple[Int8, ...]:
        began_s = self._tape.clock()
        outputs = self._network.run(features)
        self._tape.note_network(began_s, np.nan, np.nan, self._tape.clock())
        return outputs

    def reset(self) -> None:
        self._network.reset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


@contextmanager
def traced(engine: AnyEngine, to: Path | None, about: Mapping[str, object]) -> Iterator[AnyEngine]:
    """The engine itself or, with a file to trace it to, one whose last steps are written there at the end of the block."""
    if to is None:
        yield engine
        return
    tape = Tape()
    yield TracedEngine(engine, tape)
    times = tape.read()
    told = {**about, "steps": len(times), "of": tape.count, "noting_us_per_step": noting_us()}
    save_trace(to, slices(times, float(times[0, 0])) if len(times) else [], {ENGINE: "steps"}, told)


def noting_us(steps: int = 2000) -> float:
    """Microseconds that noting adds to a step on this machine: the median of so many in which nothing happens."""
    tape, nothing = Tape(kept=steps), _Nothing()
    step, network = _TracedStep(nothing, tape), _TracedNetwork(nothing, tape)
    hop, features = np.zeros((1, 1), np.float32), np.zeros(1, np.int8)
    taken = np.empty(steps)
    for i in range(steps):
        began_s = tape.clock()
        step(hop)
        network.run(features)
        taken[i] = tape.clock() - began_s
    return float(np.median(taken) * 1e6)


class _Nothing:
    """A step and a network that do nothing."""

    name = "nothing"

    def __call__(self, hop: Float, /) -> Float:
        return hop

    def run(self, features: Int8) -> tuple[Int8, ...]:
        return (features,)

    def run_timed(self, features: Int8, clock: Callable[[], float]) -> TimedStep:
        return TimedStep((features,), clock(), clock(), clock(), clock())

    def reset(self) -> None: ...


def slices(times: Array, origin_s: float) -> list[Event]:
    """Events of steps ``[steps, 6]``: each step and, within it, analysis, network, marshalling, inference and synthesis."""
    events = []
    for began, given, called, returned, made, ended in times:
        events.append(span("step", began, ended, origin_s))
        if np.isnan(given):
            continue
        parts = [("front end: analysis", began, given), ("network", given, made)]
        if not np.isnan(called):
            parts += [("marshalling in", given, called), ("inference", called, returned), ("marshalling out", returned, made)]
        events += [span(name, start, stop, origin_s) for name, start, stop in (*parts, ("front end: synthesis", made, ended))]
    return events


def span(name: str, began_s: float, ended_s: float, origin_s: float, track: int = ENGINE, **facts: object) -> Event:
    """A slice of a track."""
    began, ended = _ns(began_s - origin_s), _ns(ended_s - origin_s)
    return _event("X", name, began, track, facts) | {"dur": (ended - began) / 1e3}


def instant(name: str, at_s: float, origin_s: float, track: int = ENGINE, **facts: object) -> Event:
    """Something that happened on a track at one time."""
    return _event("i", name, _ns(at_s - origin_s), track, facts) | {"s": "t"}


def counter(name: str, at_s: float, origin_s: float, value: float) -> Event:
    """Value of a figure from that time on."""
    return _event("C", name, _ns(at_s - origin_s), ENGINE, {name: value})


def named(tracks: Mapping[int, str]) -> list[Event]:
    """Names of tracks by number, and of the process."""
    told = [("process_name", 0, "edge-tse"), *(("thread_name", track, name) for track, name in tracks.items())]
    return [{"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": {"name": name}} for kind, track, name in told]


def save_trace(path: Path, events: Iterable[Event], tracks: Mapping[int, str], about: Mapping[str, object]) -> None:
    """Write events in the order of their time, the longer first where two begin together; ``about`` are facts of the whole."""
    ordered: Sequence[Event] = sorted(events, key=lambda event: (event["ts"], -event.get("dur", 0)))
    told = {"traceEvents": [*named(tracks), *ordered], "displayTimeUnit": "ms", "otherData": dict(about)}
    write_bytes(path, json.dumps(told, separators=(",", ":"), allow_nan=False).encode())


def _event(kind: str, name: str, at_ns: int, track: int, facts: Mapping[str, object]) -> Event:
    event: Event = {"ph": kind, "name": name, "pid": _PROCESS, "tid": track, "ts": at_ns / 1e3}
    return {**event, "args": dict(facts)} if facts else event


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
