"""IntegerGraph -> ExecuTorch program, the whole step delegated to one backend: XNNPACK, or an Ethos-U NPU.

Inputs, voice, outputs and states are int8, in the graph's order. By default states are passed: method ``forward`` takes inputs,
voice and histories and gives outputs and histories. With ``state="buffer"`` the program keeps them, and method ``reset`` forgets.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeVar

from edge_tse.errors import EngineError, TargetError
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line

__all__ = ["TosaProgram", "emit", "emit_ethosu", "emit_tosa"]

_T = TypeVar("_T")


def emit(graph: IntegerGraph, *, state: Literal["io", "buffer"] = "io") -> bytes:
    """Emit the program for XNNPACK.

    A voice modulation that is not folded in counts as neutral. ``EngineError`` if ExecuTorch is not installed, ``TargetError`` if
    an operator would be left to the CPU kernels (which ones).
    """
    return _quietly(lambda: _xnnpack(graph, remember=state == "buffer"))


def emit_ethosu(graph: IntegerGraph, accelerator: str, *, system_config: str, memory_mode: str) -> bytes:
    """Emit the program for an NPU, ``accelerator`` as ``ethos-u55-128``, its states passed.

    ``system_config`` and ``memory_mode`` are sections of Arm's ``vela.ini``. ``EngineError`` if ExecuTorch with its Arm backend is
    not installed, ``TargetError`` if an operator would be left to the CPU (which ones).
    """

    def program() -> bytes:
        ethosu = _module("executorch.backends.arm.ethosu")
        spec = ethosu.EthosUCompileSpec(accelerator, system_config=system_config, memory_mode=memory_mode)
        with contextlib.redirect_stdout(io.StringIO()):  # Vela prints its estimate; targets/vela.py is where it is read
            content: bytes = _arm(graph, ethosu.EthosUPartitioner(spec)).to_executorch().buffer
        return content

    return _quietly(program)


class TosaProgram(NamedTuple):
    """A TOSA program, from which an NPU's is compiled: the reference model computes its numbers without the NPU."""

    content: bytes
    """A TOSA flatbuffer. Its inputs and outputs are ``[1, channels]`` for one frame, else ``[1, frames, 1, channels]``."""
    inputs: tuple[str, ...]
    """Names of tensors of the graph, in the program's order."""
    outputs: tuple[str, ...]
    """Names of the output tensors of the graph, in the program's order."""


def emit_tosa(graph: IntegerGraph, extension: Literal["", "u55", "cf"] = "") -> TosaProgram:
    """Emit the step in TOSA, in the subset that the Arm backend lowers to: ``u55`` for Ethos-U55 and U65, ``cf`` for U85.

    Errors as :func:`emit_ethosu`.
    """

    def flatbuffer() -> TosaProgram:
        specification = "+".join(["TOSA-1.0+INT+int16+int4", *([extension] if extension else [])])
        spec = _module("executorch.backends.arm.tosa.compile_spec").TosaCompileSpec(specification)
        partitioner = _module("executorch.backends.arm.tosa.partitioner").TOSAPartitioner(spec)
        program = _arm(graph, partitioner).exported_program().graph_module
        (call,) = [node for node in program.graph.nodes if "call_delegate" in str(node.target)]
        given = [node.name for node in program.graph.nodes if node.op == "placeholder"]
        taken = next(node for node in program.graph.nodes if node.op == "output").args[0]
        position = {node.args[1]: name for node, name in zip(taken, graph.made, strict=True)}
        return TosaProgram(
            getattr(program, call.args[0].name).processed_bytes,
            tuple(graph.given[given.index(node.name)] for node in call.args[1:]),
            tuple(position[i] for i in range(len(graph.made))),
        )

    return _quietly(flatbuffer)


def _xnnpack(graph: IntegerGraph, *, remember: bool) -> bytes:
    exir, torch_graph = _module("executorch.exir"), _module("targets.torch_graph")
    partitioner = _module("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner()
    planning = _module("executorch.exir.passes").MemoryPlanningPass(share_mutable_buffers=remember)
    programs = {"forward": _export(torch_graph.StepModule(graph, integer_bias=False, remember=remember))}
    if remember:
        programs["reset"] = _export(torch_graph.Reset(graph))
    edge = _lower(exir, programs, partitioner)
    _check_delegated(edge.exported_program("forward").graph_module, copies=remember)
    content: bytes = edge.to_executorch(exir.ExecutorchBackendConfig(memory_planning_pass=planning)).buffer
    return content


def _arm(graph: IntegerGraph, partitioner: Any) -> Any:
    exir, torch_graph = _module("executorch.exir"), _module("targets.torch_graph")
    program = _export(torch_graph.StepModule(graph, integer_bias=True, ordered=False))
    mark = _module("executorch.backends.arm.common.annotation_meta").ArmAnnotationInfo
    for node in program.graph.nodes:
        # Its own quantizer leaves this mark, and its partitioner takes nothing without: our q/dq operators need no quantizer.
        if node.op == "call_function" and "quantize" not in str(node.target):
            node.meta.setdefault("custom", {})[mark.CUSTOM_META_KEY] = dict(mark(quantized=True))
    edge = _lower(exir, {"forward": program}, partitioner)
    _check_delegated(edge.exported_program("forward").graph_module, copies=False)
    return edge


def _lower(exir: Any, programs: dict[str, Any], partitioner: Any) -> Any:
    config = exir.EdgeCompileConfig(_check_ir_validity=False)
    return exir.to_edge_transform_and_lower(programs, partitioner=[partitioner], compile_config=config)


def _export(module: Any) -> Any:
    torch = _module("torch")
    with torch.no_grad():
        return torch.export.export(module.eval(), module.example(), strict=False)


def _check_delegated(program: Any, *, copies: bool) -> None:
    """``TargetError`` unless a program is one call of its backend, and copies into its buffers if there are any."""
    calls = [node for node in program.graph.nodes if node.op == "call_function" and "getitem" not in str(node.target)]
    delegates = [node for node in calls if "call_delegate" in str(node.target)]
    left = sorted({str(node.target) for node in calls if node not in delegates and not (copies and "copy" in str(node.target))})
    if left or len(delegates) != 1:
        raise TargetError(f"{len(delegates)} calls of the backend and {left or 'nothing'} beside them, 1 and nothing are wanted")


def _quietly(work: Callable[[], _T]) -> _T:
    with warnings.catch_warnings():
        # Deprecations between torch and executorch, which are pinned to each other.
        warnings.simplefilter("ignore")
        return work()


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise EngineError(f"an ExecuTorch program needs {error.name}: {install_line('executorch')}") from None
