"""The golden engine: an IntegerGraph interpreted with NumPy.

Integers are computed with float32 matrix products. That is exact: graph validation bounds every partial sum below 2**24. Weights
are converted once and every buffer is allocated once; a step is a list of NumPy calls into those buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import EngineError
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Multiply, Node, Pointwise, Sigmoid, Tail, Tanh
from edge_tse.operators import activation_table
from edge_tse.quant import INT8_MAX, INT8_MIN, multiplier, requantize

__all__ = ["ReferenceNetwork"]

Int8 = NDArray[np.int8]
Float = NDArray[np.float32]


class ReferenceNetwork:
    """Runs a graph with one input, and keeps its state.

    A voice modulation that is not folded in counts as neutral (scale 1, shift 0).
    """

    name = "reference"

    def __init__(self, graph: IntegerGraph) -> None:
        if len(graph.inputs) != 1:
            raise EngineError(f"a step takes one input, this graph has {len(graph.inputs)}: {list(graph.inputs)}")
        self._graph = graph
        self._values = {name: np.empty((t.frames, t.channels), np.int8) for name, t in graph.tensors.items()}
        self._steps = [self._step(node) for node in graph.nodes]
        self._input = self._values[graph.inputs[0]]
        self._outputs = tuple(self._values[name].reshape(-1) for name in graph.outputs)
        self._states = [(self._values[s.input], self._values[s.output]) for s in graph.states]
        self.set_voice(graph.voice)
        self.reset()

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        for state in self._graph.states:
            self._values[state.input].fill(self._graph.tensors[state.input].zero_point)

    def set_voice(self, voice: Mapping[str, Int8]) -> None:
        """Compute with these voice inputs, ``[channels]`` each by name (:mod:`edge_tse.universal`), from the next step on."""
        for name, value in self._graph.check_voice(voice).items():
            self._values[name].reshape(-1)[:] = value

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """Run one step: int8 features ``[n]`` to the outputs, each ``[channels]``, in graph order and valid until the next step."""
        self._input.reshape(-1)[:] = features
        for step in self._steps:
            step()
        for history, remembered in self._states:
            np.copyto(history, remembered)
        return self._outputs

    def tensor(self, name: str) -> Int8:
        """Value of a tensor ``[frames, channels]`` after the last step, for finding where two engines part."""
        return self._values[name].copy()

    def _step(self, node: Node) -> Callable[[], object]:
        values, tensors = self._values, self._graph.tensors
        match node:
            case Pointwise():
                return self._pointwise(node)
            case Depthwise():
                return self._depthwise(node)
            case Append():
                history, new, out = values[node.history], values[node.input], values[node.output]
                return lambda: np.concatenate((history, new), out=out)
            case Tail():
                out, end = values[node.output], values[node.input][-tensors[node.output].frames :]
                return lambda: np.copyto(out, end)
            case Add():
                left, right, out = values[node.left], values[node.right], values[node.output]
                wide, zero_point = np.empty(out.shape, np.int16), np.int16(tensors[node.output].zero_point)

                def add() -> None:
                    np.add(left, right, out=wide, dtype=np.int16)
                    if zero_point:
                        np.add(wide, zero_point, out=wide)
                    np.maximum(wide, INT8_MIN, out=wide)
                    np.minimum(wide, INT8_MAX, out=wide)
                    np.copyto(out, wide, casting="unsafe")

                return add
            case Multiply():
                return self._multiply(node)
            case Sigmoid() | Tanh():
                table = np.roll(activation_table(node, tensors[node.input]), 128)  # indexed by the byte, not by its value
                index, out = values[node.input].view(np.uint8), values[node.output]
                return lambda: np.take(table, index, out=out, mode="clip")

    def _pointwise(self, node: Pointwise) -> Callable[[], None]:
        source, out = self._values[node.input], self._values[node.output]
        weight = np.ascontiguousarray(node.weight.T, np.float32)
        total = node.weight.sum(axis=1, dtype=np.int64)
        finish, acc = self._requantizer(node, total)
        x = np.empty(source.shape, np.float32)

        def step() -> None:
            np.copyto(x, source)
            np.matmul(x, weight, out=acc)
            finish(out)

        return step

    def _depthwise(self, node: Depthwise) -> Callable[[], None]:
        out = self._values[node.output]
        taps, frames = len(node.weight), len(out)
        weight = node.weight.astype(np.float32)[:, None, :]
        source = self._values[node.input]
        shape, (row, one) = (taps, *out.shape), source.strides
        # [taps, frames, channels]: tap k of output frame t is input frame t + k * dilation
        windows = np.lib.stride_tricks.as_strided(source, shape, (row * node.dilation, row, one), writeable=False)
        finish, acc = self._requantizer(node, node.weight.sum(axis=0, dtype=np.int64))
        products = np.empty((taps, frames, out.shape[1]), np.float32)

        def step() -> None:
            np.multiply(windows, weight, out=products)
            np.add.reduce(products, axis=0, out=acc)
            finish(out)

        return step

    def _multiply(self, node: Multiply) -> Callable[[], None]:
        left, right, target = (self._graph.tensors[name] for name in (node.left, node.right, node.output))
        factor = multiplier(left.scale, np.array(right.scale, np.float32), target.scale)
        a, b, out = (self._values[name] for name in (node.left, node.right, node.output))

        def step() -> None:
            product = (a.astype(np.float32) - np.float32(left.zero_point)) * (b.astype(np.float32) - np.float32(right.zero_point))
            np.copyto(out, requantize(product, factor, target.zero_point))

        return step

    def _requantizer(self, node: Pointwise | Depthwise, total: NDArray[np.int64]) -> tuple[Callable[[Int8], None], Float]:
        """:func:`edge_tse.quant.requantize` in place, on an accumulator ``[frames, channels]`` that it owns."""
        source, target = self._graph.tensors[node.input], self._graph.tensors[node.output]
        factor = multiplier(source.scale, node.weight_scale, target.scale)
        bias = (node.bias - source.zero_point * total).astype(np.float32)
        zero_point = np.float32(target.zero_point)
        low, high = np.float32(INT8_MIN), np.float32(INT8_MAX)
        acc = np.empty((target.frames, target.channels), np.float32)

        def finish(out: Int8) -> None:
            np.add(acc, bias, out=acc)
            np.multiply(acc, factor, out=acc)
            np.rint(acc, out=acc)
            np.add(acc, zero_point, out=acc)
            np.maximum(acc, low, out=acc)
            np.minimum(acc, high, out=acc)
            np.copyto(out, acc, casting="unsafe")

        return finish, acc
