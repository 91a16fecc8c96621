"""The integer graph in the plainest Python there is: whole numbers, loops, one rounding. What the engines are held against."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Node, Pointwise, Sigmoid, Tail, Tanh

Frames = list[list[int]]


def clamp(value: int) -> int:
    return max(-128, min(127, value))


def requantize(acc: int, factor: np.float32, zero_point: int) -> int:
    """``acc`` below 2**24 times a float32 has 48 bits: exact in a double, rounded to float32 once, then to an integer once."""
    assert abs(acc) < 2**24
    product = np.float32(float(acc) * float(factor))
    return clamp(round(Fraction(float(product))) + zero_point)


def step(graph: IntegerGraph, values: dict[str, Frames]) -> dict[str, Frames]:
    """Every tensor's value, given inputs and histories."""
    values = dict(values)
    for node in graph.nodes:
        values[node.output] = evaluate(graph, node, values)
    return values


def run(graph: IntegerGraph, features: NDArray[np.int8]) -> dict[str, NDArray[np.int8]]:
    """Outputs from reset over ``[frames, n]`` features."""
    tensors = graph.tensors
    state = {s.input: [[tensors[s.input].zero_point] * tensors[s.input].channels] * tensors[s.input].frames for s in graph.states}
    outputs: dict[str, list[list[int]]] = {name: [] for name in graph.outputs}
    for row in features:
        values = step(graph, {graph.inputs[0]: [[int(q) for q in row]], **state})
        state = {s.input: values[s.output] for s in graph.states}
        for name in graph.outputs:
            outputs[name].append(values[name][0])
    return {name: np.array(rows, np.int8) for name, rows in outputs.items()}


def evaluate(graph: IntegerGraph, node: Node, values: dict[str, Frames]) -> Frames:
    tensors = graph.tensors
    out = tensors[node.output]
    match node:
        case Append():
            return values[node.history] + values[node.input]
        case Tail():
            return values[node.input][-out.frames :]
        case Add():
            pairs = zip(values[node.left], values[node.right], strict=True)
            return [[clamp(a + b) for a, b in zip(x, y, strict=True)] for x, y in pairs]
        case Sigmoid() | Tanh():
            source = tensors[node.input]
            real = [[source.scale * (q - source.zero_point) for q in row] for row in values[node.input]]
            if isinstance(node, Sigmoid):
                return [[clamp(round(256 / (1 + math.exp(min(-x, 700)))) - 128) for x in row] for row in real]
            return [[clamp(round(128 * math.tanh(x))) for x in row] for row in real]
        case Pointwise() | Depthwise():
            source = tensors[node.input]
            x = [[q - source.zero_point for q in row] for row in values[node.input]]
            rows = []
            for t in range(out.frames):
                row = []
                for o in range(out.channels):
                    if isinstance(node, Pointwise):
                        acc = sum(int(w) * q for w, q in zip(node.weight[o], x[t], strict=True))
                    else:
                        acc = sum(int(node.weight[k, o]) * x[t + k * node.dilation][o] for k in range(len(node.weight)))
                    factor = np.float32(source.scale) * node.weight_scale[o] / np.float32(out.scale)
                    row.append(requantize(acc + int(node.bias[o]), factor, out.zero_point))
                rows.append(row)
            return rows
