"""Runtimes whose files are emitted here: the emitter of each, and its replays on this machine.

An emitter is imported when it is called, since it needs packages that not everybody installs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec

from edge_tse.artifact import Artifact
from edge_tse.deployment.runtime import Emitted, HostEngine, Replay, Runtime
from edge_tse.deployment.target import Target
from edge_tse.engines import executorch, tflm
from edge_tse.engines.litert import LiteRTNetwork
from edge_tse.engines.onnxrt import OnnxNetwork
from edge_tse.errors import TargetError
from edge_tse.golden import Network
from edge_tse.graph import IntegerGraph

__all__ = ["RUNTIMES"]


def _tflite_file(graph: IntegerGraph, metadata: Mapping[str, str] | None = None) -> bytes:
    from targets.tflite import emit

    return emit(graph, metadata or {})


def _onnx_file(graph: IntegerGraph, metadata: Mapping[str, str] | None = None) -> bytes:
    from targets.onnx import emit

    return emit(graph, metadata or {})


def _pte_file(graph: IntegerGraph) -> bytes:
    from targets.pte import emit

    return emit(graph)


def _tflite(artifact: Artifact, target: Target) -> Emitted:
    return _store(_tflite_file(artifact.graph, {"artifact": artifact.digest}), target)


def _onnx(artifact: Artifact, target: Target) -> Emitted:
    return _store(_onnx_file(artifact.graph, {"artifact": artifact.digest}), target)


def _pte(artifact: Artifact, target: Target) -> Emitted:
    return _store(_pte_file(artifact.graph), target)


def _on_npu(artifact: Artifact, target: Target) -> Emitted:
    """Emit with Vela for the NPU and memory that the target states. ``TargetError`` if it states none."""
    if target.vela is None:
        raise TargetError(f"target {target.name} states no NPU: choose one with a [vela] table, for instance ethos-u55-128")
    from targets import vela

    made = vela.emit(artifact.graph, {"artifact": artifact.digest}, **asdict(target.vela))
    found = made.estimate
    figures = {key: value for key, value in asdict(found).items() if key != "layers"}
    # At the board's clock, which need not be that of the system Vela knows.
    spent_s = found.inference_s if target.clock_hz is None else found.cycles / target.clock_hz
    layers = [{**asdict(layer), "node": layer.name, "share": layer.cycles / max(1, found.cycles)} for layer in found.layers]
    return Emitted(
        content=made.content,
        kind=f".tflite for {target.vela.accelerator}",
        needs_bytes={"weights": len(made.content), "arena": found.sram_bytes},
        estimate={"tool": "Vela", "inference_ms": spent_s * 1e3, **figures, "layers": layers},
    )


def _on_tflm(artifact: Artifact, target: Target) -> Emitted:
    """Emit the ``.tflite``; where TFLite Micro is installed, with the arena that its allocator takes on this host."""
    emitted = _tflite(artifact, target)
    if find_spec("tflite_micro") is None:
        return emitted
    return replace(emitted, needs_bytes={**emitted.needs_bytes, "arena": tflm.arena(emitted.content).total_bytes})


def _store(content: bytes, target: Target) -> Emitted:
    """Emitted form of a file that the device stores as it is."""
    return Emitted(content=content, kind=f"file for {target.runtime}", needs_bytes={"weights": len(content)})


def _replay_without_vela(graph: IntegerGraph, content: bytes | None) -> Network:
    """Replay of the graph that Vela was given: nothing here runs Vela's output."""
    return LiteRTNetwork(graph)


def _open_tflm(graph: IntegerGraph, *, kernels: str, threads: int) -> Network:
    return tflm.TflmNetwork(graph)


def _open_onnx(graph: IntegerGraph, *, kernels: str, threads: int) -> Network:
    return OnnxNetwork(graph, threads=threads)


def _open_executorch(graph: IntegerGraph, *, kernels: str, threads: int) -> Network:
    return executorch.ExecuTorchNetwork(graph, threads=threads)


_LITERT = ("ai_edge_litert", "tflite_runtime")
_XNNPACK = Replay(module="edge_tse.engines.litert", network=LiteRTNetwork, needs=_LITERT, extra="litert")
_BUILTIN = replace(_XNNPACK, network=partial(LiteRTNetwork, kernels="builtin_ref"))
_BEFORE_VELA = replace(
    _XNNPACK, network=_replay_without_vela, what="the .tflite that Vela was given; nothing here runs what it made of it"
)
_TFLM = Replay(
    module="edge_tse.engines.tflm",
    # Room for windows of any length: what is needed is measured, not guessed.
    network=partial(tflm.TflmNetwork, arena_bytes=4 * 2**20),
    needs=("tflite_micro",),
    extra="tflm",
)

RUNTIMES: Mapping[str, Runtime] = {
    "litert": Runtime(
        description="LiteRT with XNNPACK kernels, from a .tflite",
        suffixes=lambda target: (".tflite",),
        emitter="targets.tflite",
        needs=("flatbuffers",),
        extra="litert",
        engine="litert",
        replays=(_XNNPACK,),
        write=_tflite,
        file=_tflite_file,
        host=HostEngine(
            description="LiteRT (ai-edge-litert, else tflite-runtime) with XNNPACK kernels", extra="litert", open=LiteRTNetwork
        ),
    ),
    "tflm": Runtime(
        description="TensorFlow Lite Micro, from a .tflite",
        suffixes=lambda target: (".tflite",),
        emitter="targets.tflite",
        needs=("flatbuffers",),
        extra="litert",
        engine="tflm",
        # The reference kernels of LiteRT round as TFLM's do, and are in the same package as its fast ones.
        replays=(_TFLM, _BUILTIN),
        write=_on_tflm,
        file=_tflite_file,
        host=HostEngine(description="TFLite Micro with its reference kernels, on the host", extra="tflm", open=_open_tflm),
    ),
    "executorch": Runtime(
        description="ExecuTorch with XNNPACK kernels, from a .pte",
        suffixes=lambda target: (".pte",),
        emitter="targets.pte",
        needs=("executorch", "torch"),
        extra="executorch",
        engine="executorch",
        write=_pte,
        file=_pte_file,
        host=HostEngine(description="ExecuTorch with its XNNPACK backend", extra="executorch", open=_open_executorch),
        trace=executorch.profile,
        opens_quickly=False,
        replays=(
            Replay(
                module="edge_tse.engines.executorch",
                network=executorch.ExecuTorchNetwork,
                needs=("executorch",),
                extra="executorch",
            ),
        ),
    ),
    "onnx": Runtime(
        description="ONNX Runtime, from a QDQ .onnx",
        suffixes=lambda target: (".onnx",),
        emitter="targets.onnx",
        needs=("onnx",),
        extra="onnx",
        engine="onnx",
        write=_onnx,
        file=_onnx_file,
        host=HostEngine(description="ONNX Runtime with the integer kernels of its CPU provider", extra="onnx", open=_open_onnx),
        replays=(Replay(module="edge_tse.engines.onnxrt", network=OnnxNetwork, needs=("onnxruntime",), extra="onnx"),),
    ),
    "vela": Runtime(
        description="Ethos-U command stream in a .tflite, for TensorFlow Lite Micro",
        suffixes=lambda target: (".tflite",),
        emitter="targets.vela",
        needs=("ethosu", "flatbuffers"),
        extra="executorch",
        # No NPU here: the same integers on this machine's kernels, beside Vela's estimate.
        engine="litert",
        replays=(_BEFORE_VELA,),
        write=_on_npu,
        opens_quickly=False,
    ),
}
