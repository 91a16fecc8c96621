"""Runtimes: what executes a graph on a device, how the file it loads is made, and what can replay that file here.

Here is what a runtime is. Which there are is stated by the packages that make their files, ``targets.runtimes`` and
``firmware_bridge.runtime``: a new runtime is an entry there, an emitter beside it and, where it runs on a host, a network class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.deployment.arena import plan
from edge_tse.deployment.offers import lacking, offered
from edge_tse.deployment.target import Target
from edge_tse.errors import EngineError
from edge_tse.golden import Network
from edge_tse.graph import IntegerGraph

__all__ = ["OPERATORS", "Emitted", "HostEngine", "Replay", "Runtime", "file_of", "host_engines", "runtime_named", "runtime_of"]

Int8 = NDArray[np.int8]

OPERATORS = frozenset({"Add", "Append", "Depthwise", "Multiply", "Pointwise", "Sigmoid", "Tail", "Tanh"})
"""What every emitter knows. An operator that is new to the graph is added here, or to the runtimes that have it."""


@dataclass(frozen=True, kw_only=True)
class Emitted:
    """What a target loads."""

    content: bytes
    kind: str
    """What it is, for people."""
    needs_bytes: Mapping[str, int] = field(default_factory=dict)
    """What is known better than planned, now that there is a file, by content (:data:`edge_tse.deployment.target.CONTENTS`)."""
    estimate: Mapping[str, Any] | None = None
    """Of a vendor's tool, as JSON: ``tool``, ``inference_ms``, ``layers`` with ``node``, ``operator``, ``cycles``, and more."""


def _planned(artifact: Artifact) -> dict[str, int]:
    graph = artifact.graph
    return {"weights": graph.weight_bytes, "arena": plan(graph).size_bytes, "state": graph.state_bytes}


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A network that runs an emitted file on this machine."""

    module: str
    """Ours that has the network."""
    network: Callable[[IntegerGraph, bytes | None], Network] | None
    """Graph and file to a network; without the file it makes what it runs from the graph. None where only :meth:`open` will do."""
    needs: tuple[str, ...]
    """Modules of others, any one of which is enough."""
    extra: str
    what: str = "the file"
    """What is replayed."""
    emulates: bool = False
    """Whether it runs another processor than this machine's."""

    def load(self) -> Callable[[IntegerGraph, bytes | None], Network]:
        """``network``. ``EngineError`` if this build has none."""
        if self.network is None or lacking((self.module,)):
            raise EngineError(f"this build has no {self.module}: choose another engine")
        return self.network

    def available(self, target: Target) -> bool:
        """Whether what it needs is installed here, and it is a replay for this target."""
        return not lacking((self.module,)) and len(lacking(self.needs)) < len(self.needs)

    @contextmanager
    def open(self, artifact: Artifact, target: Target, content: bytes) -> Iterator[Network]:
        """The file on its engine."""
        yield self.load()(artifact.graph, content)


class OpensGraph(Protocol):
    """What puts a graph on an engine of this machine."""

    def __call__(self, graph: IntegerGraph, *, kernels: str, threads: int) -> Network: ...


@dataclass(frozen=True, kw_only=True)
class HostEngine:
    """A runtime as an engine of this machine."""

    description: str
    extra: str
    """Extra of edge-tse that installs it."""
    open: OpensGraph


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a graph."""

    description: str
    emitter: str
    """Module of ours that makes the file."""
    needs: tuple[str, ...]
    """Modules of others that the emitter imports."""
    extra: str
    """Extra of edge-tse that installs them."""
    engine: str
    """What ``--engine`` calls it; the timing of this runtime on this machine."""
    replays: tuple[Replay, ...]
    """In order of preference."""
    write: Callable[[Artifact, Target], Emitted]
    """What a target loads."""
    file: Callable[[IntegerGraph], bytes] | None = None
    """The file of a graph alone, where an engine of this machine loads it. ``ImportError`` if one of ``needs`` is missing."""
    host: HostEngine | None = None
    """None where no engine of this machine has this name."""
    needs_bytes: Callable[[Artifact], dict[str, int]] = _planned
    """Weights, arena and state that a model takes, before there is a file."""
    trace: Callable[[IntegerGraph, Int8, bytes | None], Sequence[tuple[str, float]]] | None = None
    """Name and microseconds of each operator over features ``[steps, n]``, where the runtime itself tells them; graph and file."""
    count: Callable[[Artifact, Target, int], dict[str, Any]] | None = None
    """Instructions of a step with so many ears on the target's kind of core, where they can be counted. ``TargetError`` if not."""
    operators: frozenset[str] = OPERATORS
    """Names of the operators that the emitter knows."""
    opens_quickly: bool = True
    """Whether a graph of one operator is made and opened in well under a second, so that each can be timed alone."""


def runtime_named(name: str) -> Runtime:
    """The runtime that a target names."""
    found = offered()[name]
    assert isinstance(found, Runtime), name
    return found


def runtime_of(engine: str) -> str | None:
    """Name of the runtime that ``--engine`` calls so; None for an engine that writes no file."""
    return next((name for name in offered() if runtime_named(name).engine == engine), None)


def host_engines() -> dict[str, HostEngine]:
    """Runtimes that are engines of this machine, by the name of the engine."""
    every = map(runtime_named, offered())
    return {runtime.engine: runtime.host for runtime in every if runtime.host is not None}


def file_of(name: str, graph: IntegerGraph) -> bytes:
    """What runtime ``name`` loads of a graph. ``ImportError`` if a package that makes it is missing."""
    file = runtime_named(name).file
    assert file is not None, name
    return file(graph)
