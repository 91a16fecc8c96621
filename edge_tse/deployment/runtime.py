"""Runtimes: what executes a graph on a device, which module writes the file it loads, and what can replay that file here.

One table. A new runtime is a line in it, an emitter ``emit(graph, metadata) -> bytes`` and, where it runs on a host, an engine.
Everything is named by strings and found when it is needed, so the vocabulary does not depend on what is built upon it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from typing import TYPE_CHECKING, Any

from edge_tse.deployment.arena import plan
from edge_tse.deployment.emission import Emitted, from_graph, image_or_sources, on_npu, on_tflm, with_metadata
from edge_tse.errors import EngineError

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.deployment.target import Target
    from edge_tse.golden import Network

__all__ = ["OPERATORS", "RUNTIMES", "Replay", "Runtime", "lacking", "runtime_of"]

OPERATORS = frozenset({"Add", "Append", "Depthwise", "Multiply", "Pointwise", "Sigmoid", "Tail", "Tanh"})
"""What every emitter knows. An operator that is new to the graph is added here, or to the runtimes that have it."""


def _planned(artifact: Artifact) -> dict[str, int]:
    graph = artifact.graph
    return {"weights": graph.weight_bytes, "arena": plan(graph).size_bytes, "state": graph.state_bytes}


def _planned_rings(artifact: Artifact) -> dict[str, int]:
    """States are read where they are, so little is left for an arena; a voice that can be changed is in memory too."""
    memory = import_module("firmware_bridge.codegen").plan_memory(artifact)
    return {"weights": memory.weights + memory.tables, "arena": memory.arena + memory.voice, "state": memory.state}


@dataclass(frozen=True, kw_only=True)
class Replay:
    """A network class that runs an emitted file on this machine: ``network(graph, content, **arguments)``."""

    module: str
    network: str
    needs: tuple[str, ...]
    """Modules of others, any one of which is enough."""
    extra: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    reads: bool = True
    """Whether it is given the file; if not, it makes what it runs from the graph as the emitter does."""
    what: str = "the file"
    """What is replayed."""
    emulates: bool = False
    """Whether it runs another processor than this machine's."""

    def load(self) -> Callable[..., Any]:
        """``network`` with its ``arguments`` given: graph, and content if it ``reads``. ``EngineError`` if this build has none."""
        found = None if lacking((self.module,)) else getattr(import_module(self.module), self.network, None)
        if found is None:
            raise EngineError(f"this build has no {self.module}: choose another engine")
        return partial(found, **self.arguments)

    def available(self, target: Target) -> bool:
        """Whether what it needs is installed here, and it is a replay for this target."""
        return not lacking((self.module,)) and len(lacking(self.needs)) < len(self.needs)

    @contextmanager
    def open(self, artifact: Artifact, target: Target, content: bytes) -> Iterator[Network]:
        """The file on its engine."""
        yield self.load()(artifact.graph, *([content] if self.reads else []))


@dataclass(frozen=True, kw_only=True)
class _OnEmulator(Replay):
    """The image on the emulated board that the target is: its own kernels, its own integers."""

    def available(self, target: Target) -> bool:
        return target.flasher.startswith("qemu-") and which(target.flasher) is not None and super().available(target)

    @contextmanager
    def open(self, artifact: Artifact, target: Target, content: bytes) -> Iterator[Network]:
        board, device = (import_module(f"firmware_bridge.{name}") for name in ("board", "device"))
        program = import_module("firmware_bridge.image").parse(content).payload
        with closing(import_module("firmware_bridge.emulator").start(board.core_of(target), program)) as link:
            network = device.DeviceNetwork(device.Device(link), artifact)
            # The kernels that ran on the board, whose tolerance holds wherever they run.
            network.name = network.name.replace("device/", "native/")
            yield network


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a graph."""

    description: str
    emitter: str
    """Module with ``emit``."""
    needs: tuple[str, ...]
    """Modules of others that the emitter imports."""
    extra: str
    """Extra of edge-tse that installs them."""
    engine: str
    """What ``--engine`` calls it; the timing of this runtime on this machine."""
    replays: tuple[Replay, ...]
    """In order of preference."""
    write: Callable[[Any, Artifact, Target], Emitted] = with_metadata
    """How the emitter is called: module, artifact, target."""
    needs_bytes: Callable[[Artifact], dict[str, int]] = _planned
    """Weights, arena and state that a model takes, before there is a file."""
    tracer: str = ""
    """Module with ``profile(graph, features, content)``, where the runtime tells the times of its operators itself."""
    operators: frozenset[str] = OPERATORS
    """Names of the operators that the emitter knows."""
    opens_quickly: bool = True
    """Whether a graph of one operator is made and opened in well under a second, so that each can be timed alone."""


_LITERT = ("ai_edge_litert", "tflite_runtime")
_XNNPACK = Replay(module="edge_tse.engines.litert", network="LiteRTNetwork", needs=_LITERT, extra="litert")
_BUILTIN = Replay(
    module="edge_tse.engines.litert",
    network="LiteRTNetwork",
    needs=_LITERT,
    extra="litert",
    arguments={"kernels": "builtin_ref"},
)

_BEFORE_VELA = replace(_XNNPACK, reads=False, what="the .tflite that Vela was given; nothing here runs what it made of it")
_TFLM = Replay(
    module="edge_tse.engines.tflm",
    network="TflmNetwork",
    needs=("tflite_micro",),
    extra="tflm",
    # Room for windows of any length: what is needed is measured, not guessed.
    arguments={"arena_bytes": 4 * 2**20},
)

RUNTIMES: Mapping[str, Runtime] = {
    "litert": Runtime(
        description="LiteRT with XNNPACK kernels, from a .tflite",
        emitter="targets.tflite",
        needs=("flatbuffers",),
        extra="litert",
        engine="litert",
        replays=(_XNNPACK,),
    ),
    "tflm": Runtime(
        description="TensorFlow Lite Micro, from a .tflite",
        emitter="targets.tflite",
        needs=("flatbuffers",),
        extra="litert",
        engine="tflm",
        # The reference kernels of LiteRT round as TFLM's do, and are in the same package as its fast ones.
        replays=(_TFLM, _BUILTIN),
        write=on_tflm,
    ),
    "executorch": Runtime(
        description="ExecuTorch with XNNPACK kernels, from a .pte",
        emitter="targets.pte",
        needs=("executorch", "torch"),
        extra="executorch",
        engine="executorch",
        write=from_graph,
        tracer="edge_tse.engines.executorch",
        opens_quickly=False,
        replays=(
            Replay(module="edge_tse.engines.executorch", network="ExecuTorchNetwork", needs=("executorch",), extra="executorch"),
        ),
    ),
    "onnx": Runtime(
        description="ONNX Runtime, from a QDQ .onnx",
        emitter="targets.onnx",
        needs=("onnx",),
        extra="onnx",
        engine="onnx",
        replays=(Replay(module="edge_tse.engines.onnxrt", network="OnnxNetwork", needs=("onnxruntime",), extra="onnx"),),
    ),
    "native-c": Runtime(
        description="C without a runtime, weights and kernels in one image",
        emitter="firmware_bridge.codegen",
        needs=(),
        extra="firmware",
        engine="native",
        opens_quickly=False,
        replays=(
            _OnEmulator(module="firmware_bridge.board", network="", needs=("ziglang",), extra="firmware", emulates=True),
            Replay(
                module="firmware_bridge.native",
                network="NativeNetwork",
                needs=("ziglang",),
                extra="firmware",
                reads=False,
                what="the same sources, compiled for this machine",
            ),
        ),
        write=image_or_sources,
        needs_bytes=_planned_rings,
        operators=OPERATORS - {"Multiply"},
    ),
    "vela": Runtime(
        description="Ethos-U command stream in a .tflite, for TensorFlow Lite Micro",
        emitter="targets.vela",
        needs=("ethosu", "flatbuffers"),
        extra="executorch",
        # No NPU here: the same integers on this machine's kernels, beside Vela's estimate.
        engine="litert",
        replays=(_BEFORE_VELA,),
        write=on_npu,
        opens_quickly=False,
    ),
}


def runtime_of(engine: str) -> str | None:
    """Name of the runtime that ``--engine`` calls so; None for an engine that writes no file."""
    return next((name for name, runtime in RUNTIMES.items() if runtime.engine == engine), None)


def lacking(needs: tuple[str, ...]) -> tuple[str, ...]:
    """The modules among ``needs`` that are not installed here; nothing is imported."""
    return tuple(name for name in needs if not _installed(name))


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a parent that is missing; a module somebody put out of reach
        return False
