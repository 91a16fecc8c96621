"""IntegerGraph -> TFLite flatbuffer, written directly.

Time is the height of NHWC tensors ``[1, frames, 1, channels]``; a pointwise layer is a 1x1 CONV_2D, dilated taps are a
DEPTHWISE_CONV_2D of ``[taps, 1]``. Input, voice, outputs and states are int8 and named; signature ``step`` pairs state ``S`` with
``S.next``. Operator versions are the lowest that take int8, so that runtimes of 2020 and later read the file.

Only ``flatbuffers`` is needed, with the field numbers of TensorFlow's ``schema.fbs`` (version 3) written out: the schema module of
ai-edge-litert is not there on a device that has tflite-runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Multiply, Node, Pointwise, Sigmoid, Tail, Tanh, Tensor
from edge_tse.operators import node_inputs

__all__ = ["emit"]

Offset: TypeAlias = int
"""Offset of an object already written to the flatbuffer."""

_INT32, _INT8 = 2, 9  # TensorType
_VALID = 1  # Padding


@dataclass(frozen=True)
class _Operator:
    """BuiltinOperator and its version; BuiltinOptions and the fields set in them, as (slot, type, value)."""

    code: int
    version: int
    options: int
    fields: tuple[tuple[int, str, int], ...] = ()


_CONV_2D = _Operator(3, 3, 1, ((0, "Int8", _VALID), (1, "Int32", 1), (2, "Int32", 1)))
_CONCATENATION = _Operator(2, 2, 10, ((0, "Int32", 1),))
_SLICE = _Operator(65, 2, 48)
_ADD = _Operator(0, 2, 11)
_MUL = _Operator(18, 2, 21)
_LOGISTIC = _Operator(14, 2, 0)
_TANH = _Operator(28, 2, 0)


def _operator(node: Node) -> _Operator:
    match node:
        case Pointwise():
            return _CONV_2D
        case Depthwise():
            strides_multiplier = ((1, "Int32", 1), (2, "Int32", 1), (3, "Int32", 1))
            return _Operator(4, 3, 2, ((0, "Int8", _VALID), *strides_multiplier, (6, "Int32", node.dilation)))
        case Append():
            return _CONCATENATION
        case Tail():
            return _SLICE
        case Add():
            return _ADD
        case Multiply():
            return _MUL
        case Sigmoid():
            return _LOGISTIC
        case Tanh():
            return _TANH


def emit(graph: IntegerGraph, metadata: Mapping[str, str]) -> bytes:
    """Emit the file's content; ``metadata`` goes into it by name. Equal graphs give equal bytes.

    A voice modulation that is not folded in counts as neutral.
    """
    return _Writer(graph).finish(metadata)


class _Writer:
    def __init__(self, graph: IntegerGraph) -> None:
        self._graph = graph
        self._builder = flatbuffers.Builder(graph.weight_bytes + 65536)
        self._buffers: list[Offset] = [self._table(3)]  # buffer 0 is empty: what every activation refers to
        self._tensors: list[Offset] = []
        self._index: dict[str, int] = {}

    def finish(self, metadata: Mapping[str, str]) -> bytes:
        graph, b = self._graph, self._builder
        for tensor in graph.tensors.values():
            self._activation(tensor)
        codes: dict[tuple[int, int], int] = {}
        operators = [self._node(node, codes) for node in graph.nodes]
        subgraph = self._table(
            5,
            (0, "UOffsetTRelative", self._offsets(self._tensors)),
            (1, "UOffsetTRelative", self._ints(self._index[n] for n in graph.given)),
            (2, "UOffsetTRelative", self._ints(self._index[n] for n in graph.made)),
            (3, "UOffsetTRelative", self._offsets(operators)),
            (4, "UOffsetTRelative", b.CreateString("main")),
        )
        # The old field holds codes below 127 for readers that do not know the new one.
        operator_codes = [self._table(4, (0, "Int8", code), (2, "Int32", version), (3, "Int32", code)) for code, version in codes]
        notes = [
            self._table(2, (0, "UOffsetTRelative", b.CreateString(name)), (1, "Uint32", self._buffer(text.encode())))
            for name, text in metadata.items()
        ]
        model = self._table(
            8,
            (0, "Uint32", 3),
            (1, "UOffsetTRelative", self._offsets(operator_codes)),
            (2, "UOffsetTRelative", self._offsets([subgraph])),
            (3, "UOffsetTRelative", b.CreateString("edge-tse")),
            (4, "UOffsetTRelative", self._offsets(self._buffers)),
            (6, "UOffsetTRelative", self._offsets(notes)),
            (7, "UOffsetTRelative", self._offsets([self._signature()])),
        )
        b.Finish(model, file_identifier=b"TFL3")
        return bytes(b.Output())

    def _signature(self) -> Offset:
        graph = self._graph
        inputs = {n: n for n in (*graph.inputs, *graph.voice)} | {s.name: s.input for s in graph.states}
        outputs = {n: n for n in graph.outputs} | {f"{s.name}.next": s.output for s in graph.states}
        maps = [
            self._offsets(
                [
                    self._table(2, (0, "UOffsetTRelative", self._builder.CreateString(k)), (1, "Uint32", self._index[v]))
                    for k, v in names.items()
                ]
            )
            for names in (inputs, outputs)
        ]
        key = self._builder.CreateString("step")
        return self._table(5, *((i, "UOffsetTRelative", offset) for i, offset in enumerate([*maps, key])))

    def _node(self, node: Node, codes: dict[tuple[int, int], int]) -> Offset:
        operator = _operator(node)
        code = codes.setdefault((operator.code, operator.version), len(codes))
        inputs = [self._index[n] for n in node_inputs(node)] + self._constants(node)
        fields = [
            (0, "Uint32", code),
            (1, "UOffsetTRelative", self._ints(inputs)),
            (2, "UOffsetTRelative", self._ints([self._index[node.output]])),
        ]
        if operator.options:
            options = self._table(1 + max((slot for slot, _, _ in operator.fields), default=0), *operator.fields)
            fields += [(3, "Uint8", operator.options), (4, "UOffsetTRelative", options)]
        return self._table(5, *fields)

    def _constants(self, node: Node) -> list[int]:
        """Tensor indices of a node's weights and parameters."""
        match node:
            case Pointwise() | Depthwise():
                source = self._graph.tensors[node.input]
                if isinstance(node, Pointwise):
                    weight, axis = node.weight[:, None, None, :], 0
                else:
                    weight, axis = node.weight[None, :, None, :], 3
                scale = np.float32(source.scale) * node.weight_scale
                return [
                    self._constant(f"{node.name}.weight", weight, _INT8, node.weight_scale, axis),
                    self._constant(f"{node.name}.bias", node.bias, _INT32, scale, 0),
                ]
            case Tail():
                source, out = self._graph.tensors[node.input], self._graph.tensors[node.output]
                begin = np.array([0, source.frames - out.frames, 0, 0], np.int32)
                size = np.array([1, out.frames, 1, out.channels], np.int32)
                return [self._constant(f"{node.name}.begin", begin, _INT32), self._constant(f"{node.name}.size", size, _INT32)]
            case _:
                return []

    def _activation(self, tensor: Tensor) -> None:
        scale = np.array([tensor.scale], np.float32)
        self._tensor(tensor.name, (1, tensor.frames, 1, tensor.channels), _INT8, 0, self._quantization(scale, tensor.zero_point, 0))

    def _constant(
        self, name: str, value: NDArray[np.generic], kind: int, scale: NDArray[np.float32] | None = None, axis: int = 0
    ) -> int:
        quantization = None if scale is None else self._quantization(scale, 0, axis)
        return self._tensor(name, value.shape, kind, self._buffer(np.ascontiguousarray(value).tobytes()), quantization)

    def _tensor(self, name: str, shape: Sequence[int], kind: int, buffer: int, quantization: Offset | None) -> int:
        fields = [
            (0, "UOffsetTRelative", self._ints(shape)),
            (1, "Int8", kind),
            (2, "Uint32", buffer),
            (3, "UOffsetTRelative", self._builder.CreateString(name)),
        ]
        if quantization is not None:
            fields.append((4, "UOffsetTRelative", quantization))
        self._tensors.append(self._table(5, *fields))
        self._index[name] = len(self._tensors) - 1
        return self._index[name]

    def _quantization(self, scale: NDArray[np.float32], zero_point: int, axis: int) -> Offset:
        scales = self._vector(scale.astype("<f4").tobytes(), 4)
        zero_points = self._vector(np.full(len(scale), zero_point, "<i8").tobytes(), 8)
        return self._table(7, (2, "UOffsetTRelative", scales), (3, "UOffsetTRelative", zero_points), (6, "Int32", axis))

    def _buffer(self, content: bytes) -> int:
        self._buffers.append(self._table(3, (0, "UOffsetTRelative", self._vector(content, 1, alignment=16))))
        return len(self._buffers) - 1

    def _table(self, slots: int, *fields: tuple[int, str, int]) -> Offset:
        b = self._builder
        b.StartObject(slots)
        for slot, kind, value in fields:
            # No default equals a value that is set: -1 is none of ours, and zeros may be left out.
            prepend: Callable[[int, int, int], None] = getattr(b, f"Prepend{kind}Slot")
            prepend(slot, value, 0)
        offset: int = b.EndObject()
        return offset

    def _offsets(self, items: Sequence[Offset]) -> Offset:
        b = self._builder
        b.StartVector(4, len(items), 4)
        for item in reversed(items):
            b.PrependUOffsetTRelative(item)
        offset: int = b.EndVector()
        return offset

    def _ints(self, items: Iterable[int]) -> Offset:
        return self._vector(np.array(list(items), "<i4").tobytes(), 4)

    def _vector(self, content: bytes, size: int, alignment: int = 4) -> Offset:
        b = self._builder
        b.StartVector(size, len(content) // size, max(size, alignment))
        b.head = b.head - len(content)
        b.Bytes[b.head : b.head + len(content)] = content
        offset: int = b.EndVector()
        return offset
