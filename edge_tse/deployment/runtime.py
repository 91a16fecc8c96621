"""Runtimes: the executor of a graph on a device, the emitter of the file it loads, and the engines that replay that file here.

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
from edge_tse.deployment.offers import lacking, load_offers
from edge_tse.deployment.target import Target
from edge_tse.errors import EngineError
from edge_tse.golden import Network
from edge_tse.graph import IntegerGraph
from edge_tse.voice import Voice

__all__ = ["OPERATORS", "Emitted", "HostEngine", "Replay", "Runtime", "file_of", "host_engines", "runtime_named", "runtime_of"]

Int8 = NDArray[np.int8]

OPERATORS = frozenset({"Add", "Append", "Depthwise", "Multiply", "Pointwise", "Sigmoid", "Tail", "Tanh"})
"""Operators that every emitter knows. One that is new to the graph is added here, or to the runtimes that have it."""


THE_FILE = "the file"


@dataclass(frozen=True, kw_only=True)
class Emitted:
    """A file that a target loads."""

    content: bytes
    kind: str
    """Description for people."""
    needs_bytes: Mapping[str, int] = field(default_factory=dict)
    """Sizes known from the file and better than planned, by content (:data:`edge_tse.deployment.target.CONTENTS`)."""
    estimate: Mapping[str, Any] | None = None
    """A vendor's estimate, as JSON: ``tool``, ``inference_ms``, ``layers`` with ``node``, ``operator``, ``cycles``, and more."""
    bill: str | None = None
    """What it is made of, as CycloneDX in JSON, where that is listed."""


def _plan(artifact: Artifact) -> dict[str, int]:
    graph = artifact.graph
    return {"weights": graph.weight_bytes, "arena": plan(graph).size_bytes, "state": graph.state_bytes}


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A way to run an emitted file on this machine."""

    module: str
    """Module of this project that has the network."""
    network: Callable[[IntegerGraph, bytes | None], Network] | None
    """Makes a network from graph and file; without a file it emits one from the graph. None where only :meth:`open` works."""
    needs: tuple[str, ...]
    """Third-party modules, any one of which is enough."""
    extra: str
    what: str = THE_FILE
    """Thing that is replayed, in words."""
    emulates: bool = False
    """Whether it runs another processor than this machine's."""

    @property
    def of_file(self) -> bool:
        """Whether it runs the file itself, and not what the file was made of."""
        return self.what == THE_FILE

    def load(self) -> Callable[[IntegerGraph, bytes | None], Network]:
        """The network factory. ``EngineError`` if this build has none."""
        if self.network is None or lacking((self.module,)):
            raise EngineError(f"this build has no {self.module}: choose another engine")
        return self.network

    def available(self, target: Target) -> bool:
        """Whether its packages are installed here, and it is a replay for this target."""
        return not lacking((self.module,)) and len(lacking(self.needs)) < len(self.needs)

    @contextmanager
    def open(self, artifact: Artifact, target: Target, content: bytes) -> Iterator[Network]:
        """Open the file on its engine."""
        yield self.load()(artifact.graph, content)


class OpensGraph(Protocol):
    """A function that opens a graph on an engine of this machine."""

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
    """Module of this project that makes the file."""
    needs: tuple[str, ...]
    """Third-party modules that the emitter imports."""
    extra: str
    """Extra of edge-tse that installs them."""
    engine: str
    """Name that ``--engine`` takes, which times this runtime on this machine."""
    replays: tuple[Replay, ...]
    """Replays in order of preference."""
    write: Callable[[Artifact, Target], Emitted]
    """Emits the file that a target loads."""
    suffixes: Callable[[Target], tuple[str, ...]] = lambda target: ()
    """Suffixes of the file that a target loads, the usual one first; empty where it has none of its own."""
    file: Callable[[IntegerGraph], bytes] | None = None
    """Emits the file of a graph alone, where an engine of this machine loads it. ``ImportError`` if one of ``needs`` is missing."""
    host: HostEngine | None = None
    """The engine of this machine with this name; None where there is none."""
    needs_bytes: Callable[[Artifact], dict[str, int]] = _plan
    """Bytes of weights, arena and state that a model takes, estimated before there is a file."""
    trace: Callable[[IntegerGraph, Int8, bytes | None], Sequence[tuple[str, float]]] | None = None
    """Name and microseconds of each operator over features ``[steps, n]``, from graph and file, where the runtime measures them."""
    count: Callable[[Artifact, Target, int], dict[str, Any]] | None = None
    """Instructions of a step with so many ears on the target's kind of core, where they can be counted. ``TargetError`` if not."""
    patch: Callable[[Artifact, Voice], bytes] | None = None
    """Makes the patch that gives a running model without a voice this one, where the runtime has patches."""
    operators: frozenset[str] = OPERATORS
    """Names of the operators that the emitter knows."""
    opens_quickly: bool = True
    """Whether a graph of one operator is made and opened in well under a second, so that each can be timed alone."""


def runtime_named(name: str) -> Runtime:
    """The runtime that a target names."""
    found = load_offers()[name]
    assert isinstance(found, Runtime), name
    return found


def runtime_of(engine: str) -> str | None:
    """Name of the runtime that has this ``--engine`` name; None for an engine that writes no file."""
    return next((name for name in load_offers() if runtime_named(name).engine == engine), None)


def host_engines() -> dict[str, HostEngine]:
    """Runtimes that are engines of this machine, by the name of the engine."""
    every = map(runtime_named, load_offers())
    return {runtime.engine: runtime.host for runtime in every if runtime.host is not None}


def file_of(name: str, graph: IntegerGraph) -> bytes:
    """The file that runtime ``name`` loads for a graph. ``ImportError`` if a package that makes it is missing."""
    file = runtime_named(name).file
    assert file is not None, name
    return file(graph)
