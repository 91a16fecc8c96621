"""IntegerGraph -> ONNX in QDQ form: float operators between DequantizeLinear and QuantizeLinear, which runtimes fuse.

Tensors are ``[frames, channels]`` as in the graph. A pointwise layer is a Gemm with its bias on the int32 grid, dilated taps are a
grouped Conv over time; histories are appended, cut and remembered as bytes, where nothing can be rounded.

Input, voice and outputs are int8. Everything between them, states and weights included, is the same numbers as uint8, 128 higher
with the zero point 128 higher: ONNX Runtime on x86 fuses nothing else without being told to, and its kernels for signed weights add
pairs in 16 bits that saturate on processors without VNNI. All names stay; metadata ``edge_tse.io`` says the scale and zero point of
each, which output becomes which input, and which inputs a voice sets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import EngineError
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Multiply, Node, Pointwise, Sigmoid, Tail, Tanh
from edge_tse.install_line import install_line

__all__ = ["IR_VERSION", "OPSET", "emit"]

OPSET = 13
"""The lowest that dequantizes per channel, so that runtimes of 2020 and later read the file."""
IR_VERSION = 7
"""IR version that came with opset 13."""

_OFFSET = 128


def emit(graph: IntegerGraph, metadata: Mapping[str, str]) -> bytes:
    """Emit the file's content; ``metadata`` goes into it by name. Equal graphs give equal bytes.

    A voice modulation that is not folded in counts as neutral. ``EngineError`` if the package ``onnx`` is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise EngineError(f"an ONNX file needs onnx to be written: {install_line('onnx')}") from None
    writer = _Writer(graph, onnx.helper, onnx.numpy_helper)
    for name in (*graph.inputs, *graph.voice):
        writer.convert(name, inward=True)
    for node in graph.nodes:
        writer.node(node)
    for name in graph.outputs:
        writer.convert(name, inward=False)

    def describe(names: tuple[str, ...], states: list[str]) -> list[Any]:
        kinds = [*((name, onnx.TensorProto.INT8) for name in names), *((name, onnx.TensorProto.UINT8) for name in states)]
        shapes = {name: (graph.tensors[name].frames, graph.tensors[name].channels) for name, _ in kinds}
        return [onnx.helper.make_tensor_value_info(name, kind, shapes[name]) for name, kind in kinds]

    inputs = describe((*graph.inputs, *graph.voice), [s.input for s in graph.states])
    outputs = describe(graph.outputs, [s.output for s in graph.states])
    body = onnx.helper.make_graph(writer.nodes, "step", inputs, outputs, list(writer.constants.values()))
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edge-tse")
    onnx.helper.set_model_props(model, {**metadata, "edge_tse.io": _io(graph)})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _io(graph: IntegerGraph) -> str:
    """Metadata of scales and state pairs, for which an ONNX signature has no place."""
    offsets = dict.fromkeys((*graph.inputs, *graph.voice, *graph.outputs), 0)
    offsets |= dict.fromkeys((name for s in graph.states for name in (s.input, s.output)), _OFFSET)
    tensors = {
        name: {"scale": graph.tensors[name].scale, "zero_point": graph.tensors[name].zero_point + offset}
        for name, offset in offsets.items()
    }
    states = {s.name: [s.input, s.output] for s in graph.states}
    return json.dumps({"tensors": tensors, "states": states, "voice": list(graph.voice)})


class _Writer:
    def __init__(self, graph: IntegerGraph, helper: Any, numpy_helper: Any) -> None:
        self._graph = graph
        self._helper = helper
        self._numpy_helper = numpy_helper
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def convert(self, name: str, *, inward: bool) -> None:
        """Convert int8 from outside to uint8, or back: exact, because the scale is the same."""
        inside = self._inside(name)
        source, target = (name, inside) if inward else (inside, name)
        self._op("DequantizeLinear", [source, *self._scale(name, signed=inward)], f"{source}:converted")
        self._op("QuantizeLinear", [f"{source}:converted", *self._scale(name, signed=not inward)], target)

    def node(self, node: Node) -> None:
        tensors = self._graph.tensors
        match node:
            case Pointwise():
                real = self._real(node.input)
                self._op("Gemm", [real, *self._weights(node, node.weight.T, 1)], f"{node.name}:real")
                self._quantize(node, node.output)
            case Depthwise():
                self._depthwise(node)
            case Append():
                self._op("Concat", [self._inside(node.history), self._inside(node.input)], self._inside(node.output), axis=0)
            case Tail():
                end, frames = tensors[node.input].frames, tensors[node.output].frames
                self._slice(self._inside(node.input), self._inside(node.output), end - frames, end, 1)
            case Add() | Multiply():
                self._op(
                    "Add" if isinstance(node, Add) else "Mul", [self._real(node.left), self._real(node.right)], f"{node.name}:real"
                )
                self._quantize(node, node.output)
            case Sigmoid() | Tanh():
                self._op(type(node).__name__, [self._real(node.input)], f"{node.name}:real")
                self._quantize(node, node.output)

    def _depthwise(self, node: Depthwise) -> None:
        """Emit taps as a Conv, which is ``[1, channels, time]``: the frames it reads are transposed, and its output back."""
        source, out = self._graph.tensors[node.input], self._graph.tensors[node.output]
        window, dilation = self._inside(node.input), node.dilation
        if out.frames == 1 and dilation > 1:
            # Only one frame in `dilation` is read: cut those out, and turn few bytes instead of the history.
            self._slice(window, f"{node.name}:read", 0, source.frames, dilation)
            window, dilation = f"{node.name}:read", 1
        self._op("Transpose", [window], f"{node.name}:turned", perm=[1, 0])
        self._reshape(f"{node.name}:turned", f"{node.name}:in", [1, source.channels, -1])
        real = self._real(node.input, f"{node.name}:in")
        attributes = {"dilations": [dilation], "kernel_shape": [len(node.weight)], "group": source.channels}
        self._op("Conv", [real, *self._weights(node, node.weight.T[:, None, :], 0)], f"{node.name}:real", **attributes)
        self._quantize(node, node.output, f"{node.name}:out")
        self._reshape(f"{node.name}:out", f"{node.name}:back", [out.channels, out.frames])
        self._op("Transpose", [f"{node.name}:back"], self._inside(node.output), perm=[1, 0])

    def _inside(self, name: str) -> str:
        """Name of the tensor as uint8: its own name, unless it is int8 outside."""
        return f"{name}:unsigned" if name in (*self._graph.inputs, *self._graph.voice, *self._graph.outputs) else name

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(self._helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))

    def _slice(self, source: str, output: str, start: int, end: int, step: int) -> None:
        bounds = {"start": start, "end": end, "axis": 0, "step": step}
        inputs = [self._constant(f"{output}:{k}", np.array([v], np.int64)) for k, v in bounds.items()]
        self._op("Slice", [source, *inputs], output)

    def _reshape(self, source: str, output: str, shape: list[int]) -> None:
        self._op("Reshape", [source, self._constant(f"{output}:shape", np.array(shape, np.int64))], output)

    def _real(self, name: str, values: str | None = None) -> str:
        """Emit a DequantizeLinear for each reader of a tensor, or of ``values`` on its scale: runtimes fuse that form."""
        source = values or self._inside(name)
        output = f"{source}:real.{len(self.nodes)}"
        self._op("DequantizeLinear", [source, *self._scale(name, signed=False)], output)
        return output

    def _quantize(self, node: Node, name: str, values: str | None = None) -> None:
        self._op("QuantizeLinear", [f"{node.name}:real", *self._scale(name, signed=False)], values or self._inside(name))

    def _scale(self, name: str, *, signed: bool) -> list[str]:
        tensor = self._graph.tensors[name]
        zero_point = np.array(tensor.zero_point, np.int8) if signed else np.array(tensor.zero_point + _OFFSET, np.uint8)
        return [
            self._constant(f"{name}:scale", np.array(tensor.scale, np.float32)),
            self._constant(f"{name}:zero_point.{zero_point.dtype}", zero_point),
        ]

    def _weights(self, node: Pointwise | Depthwise, weight: NDArray[np.int8], axis: int) -> list[str]:
        """Dequantized weight and bias, the bias on the grid ``input scale * weight scale``."""
        unsigned = self._to_unsigned(weight)
        grid = np.float32(self._graph.tensors[node.input].scale) * node.weight_scale
        names = []
        for part, value, scale, zero, along in (
            ("weight", unsigned, node.weight_scale, _OFFSET, axis),
            ("bias", node.bias, grid, 0, 0),
        ):
            inputs = [
                self._constant(f"{node.name}:{part}", value),
                self._constant(f"{node.name}:{part}.scale", scale),
                self._constant(f"{node.name}:{part}.zero_point", np.full(len(scale), zero, value.dtype)),
            ]
            names.append(f"{node.name}:{part}.dequantized")
            self._op("DequantizeLinear", inputs, names[-1], axis=along)
        return names

    @staticmethod
    def _to_unsigned(weight: NDArray[np.int8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(weight.astype(np.int16) + _OFFSET).astype(np.uint8)

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = self._numpy_helper.from_array(value, name)
        return name
