"""A profile of a model on an engine or a target: `edge-tse profile` runs it and writes its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.deployment.compilation import emit, open_here
from edge_tse.deployment.runtime import Emitted, Runtime, runtime_named, runtime_of
from edge_tse.deployment.target import Target, find_target
from edge_tse.engines import Network, open_network
from edge_tse.errors import DataError, TargetError
from edge_tse.files import write_bytes
from edge_tse.graph import IntegerGraph
from edge_tse.personalization import personalize
from edge_tse.profiling.operator_times import OperatorTime
from edge_tse.profiling.page import page
from edge_tse.profiling.profile import compare, profile
from edge_tse.profiling.tracing import write_trace
from edge_tse.reference import ReferenceNetwork
from edge_tse.report import to_json
from edge_tse.voice import load_voice

__all__ = ["Subject", "load", "measure", "save", "subject"]

Quiet = Callable[[], AbstractContextManager[None]]

_SUFFIXES = (".json", ".html")


class Subject(NamedTuple):
    """Model, engine and target of a measurement."""

    engine: str
    target: Target | None


def subject(engine: str | None, target: str | None, to: Path | None) -> Subject:
    """Check the options before any work: at most one of engine and target, a suffix that says what to write."""
    if engine is not None and target is not None:
        raise TargetError(f"--engine {engine} and --target {target}: a target has its engine, give one of them")
    if to is not None and to.suffix not in _SUFFIXES:
        raise DataError(f"{to}: a report ends in {' or '.join(_SUFFIXES)}, not in {to.suffix or 'nothing'}")
    if target is None:
        return Subject(engine or "litert", None)
    board = find_target(target)
    return Subject(runtime_named(board.runtime).engine, board)


def load(artifact: Path | None, voice: Path | None) -> tuple[Artifact, dict[str, float | None]]:
    """The model (the shipped one if None) with a voice folded in if there is one, and the milliseconds that each took."""
    began_s = time.perf_counter()
    model = Artifact.find(artifact)
    loaded_s = time.perf_counter()
    if voice is None:
        return model, {"artifact_load_ms": (loaded_s - began_s) * 1e3, "personalization_ms": None}
    spoken = load_voice(voice)
    known_s = time.perf_counter()
    model = personalize(model, spoken)
    folded_s = time.perf_counter()
    return model, {"artifact_load_ms": (loaded_s - began_s) * 1e3, "personalization_ms": (folded_s - known_s) * 1e3}


def measure(
    model: Artifact,
    what: Subject,
    hops: int,
    ears: int,
    before: Mapping[str, Any] | None = None,
    *,
    content: bytes | None = None,
    quiet: Quiet = nullcontext,
    loading: Mapping[str, float | None] | None = None,
    trace: Path | None = None,
) -> dict[str, Any]:
    """Measure and return the report as JSON, compared with ``before``.

    ``content`` is a file that was compiled from the model before, in place of one emitted now. ``quiet`` surrounds runtimes that
    print greetings. ``loading`` is what :func:`load` measured; ``trace`` is a file for a trace of a second of steps.
    """
    board = what.target if what.target is not None else _target_of(what.engine)
    emitted = None
    with ExitStack() as opened:
        began_s = time.perf_counter()
        if board is None:
            with quiet():
                network = open_network(model, what.engine)
        else:
            with quiet():
                emitted = emit(board, model) if content is None else Emitted(content=content, kind="a file compiled before")
                network = opened.enter_context(open_here(board, model, emitted.content))
        open_ms = (time.perf_counter() - began_s) * 1e3
        made = profile(
            model,
            network,
            time.perf_counter,
            hops=hops,
            ears=ears,
            open_graph=_opener(what.engine),
            trace=_tracer(what.engine, model, emitted, quiet),
            quiet=quiet,
            emitted=emitted,
            arena_bytes=None if board is None else runtime_named(board.runtime).needs_bytes(model)["arena"],
            target=what.target,
            opening={**(loading or {}), "engine_open_ms": open_ms},
        )
        report: dict[str, Any] = json.loads(made.to_json())
        if trace is not None:
            report["figures"]["trace"] = write_trace(trace, model, network, report["figures"], time.perf_counter)
    report["figures"]["counted"] = _count(model, board, ears)
    if before is not None:
        report["figures"]["against"] = compare(before, report)
    return report


def save(report: Mapping[str, Any], before: Mapping[str, Any] | None, to: Path) -> None:
    """Write a report as JSON or as a page, by the suffix."""
    text = page(report, report["figures"].get("against"), before) if to.suffix == ".html" else to_json(report) + "\n"
    write_bytes(to, text.encode())


def _count(model: Artifact, board: Target | None, ears: int) -> dict[str, Any] | None:
    """Instructions of a hop on the board's kind of core, or why they are unavailable; None where the network is not C."""
    count = None if board is None else runtime_named(board.runtime).count
    if board is None or count is None:
        return None
    try:
        return count(model, board, ears)
    except TargetError as failure:
        return {"unavailable": str(failure)}


def _target_of(engine: str) -> Target | None:
    """The target of this machine that has the runtime of ``engine``."""
    name = runtime_of(engine)
    return None if name is None else find_target(name)


def _runtime(engine: str) -> Runtime | None:
    name = runtime_of(engine)
    return None if name is None else runtime_named(name)


def _opener(engine: str) -> Callable[[IntegerGraph], Network] | None:
    """Function that opens any graph on ``engine`` in well under a second; None if there is none."""
    if engine == "reference":
        return ReferenceNetwork
    runtime = _runtime(engine)
    if runtime is None or not runtime.opens_quickly or not runtime.replays:
        return None
    network = runtime.replays[0].load()
    return lambda graph: network(graph, None)


def _tracer(
    engine: str, model: Artifact, emitted: Emitted | None, quiet: Quiet
) -> Callable[[NDArray[np.int8]], list[OperatorTime]] | None:
    """Function that gives the runtime's own times of its operators; None where it keeps none."""
    runtime = _runtime(engine)
    traced = None if runtime is None else runtime.trace
    if traced is None:
        return None

    def trace(features: NDArray[np.int8]) -> list[OperatorTime]:
        with quiet():
            found = traced(model.graph, features, None if emitted is None else emitted.content)
        # It names them `Kind of kernel #number`.
        kinds = [name.rpartition(" #")[0] or name for name, _ in found]
        return [
            OperatorTime(node=name, operator=kind, shape="", macs=0, alone_s=us / 1e6)
            for kind, (name, us) in zip(kinds, found, strict=True)
        ]

    return trace
