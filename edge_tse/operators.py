"""The closed set of operators an IntegerGraph is made of, and what each of them requires.

Every tensor is ``[frames, channels]`` int8 with one scale and zero point; weights are int8 with one scale per output channel and
zero point 0; biases are int32 on the accumulator grid ``input scale * weight scale``. Each engine and emitter implements exactly
these operators, with the one rounding of :mod:`edge_tse.quant`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import ArtifactError
from edge_tse.quant import INT8_MAX, INT8_MIN, multiplier

__all__ = [
    "ACCUMULATOR_LIMIT",
    "Add",
    "Append",
    "Depthwise",
    "Multiply",
    "Node",
    "Pointwise",
    "Sigmoid",
    "Tail",
    "Tanh",
    "Tensor",
    "accumulator_bound",
    "activation_table",
    "check_node",
    "check_tensor",
    "form",
    "node_inputs",
]

ACCUMULATOR_LIMIT = 2**24
"""Limit of accumulators and their partial sums, below which float32 holds each of them exactly."""
MOST_VALUES = 2**24
"""Most values of all tensors of a graph together: 16 MB of activations, where the largest model here has 0.1."""
_MULTIPLIER_RANGE = (2.0**-32, 2.0**8)  # what XNNPACK accepts; below 1 for any trained layer
_PRODUCT_RANGE = (2.0**-16, 2.0**8)  # likewise, of a Multiply


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An int8 activation."""

    name: str
    frames: int
    channels: int
    scale: float
    """Rounded to float32 on construction: every engine computes with that value."""
    zero_point: int = 0

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):  # an infinite one is refused where graphs are checked
            object.__setattr__(self, "scale", float(np.float32(self.scale)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pointwise:
    """``output[t, o] = requantize(sum_i weight[o, i] * (input[t, i] - zero_point) + bias[o])``: a 1x1 convolution."""

    name: str
    input: str
    output: str
    weight: NDArray[np.int8]
    """``[out, in]``"""
    weight_scale: NDArray[np.float32]
    """``[out]``"""
    bias: NDArray[np.int32]
    """``[out]``"""
    film: str | None = None
    """Name of the voice modulation still to be folded in; None once it is, or where there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Depthwise:
    """``output[t, c] = requantize(sum_k weight[k, c] * (input[t + k * dilation, c] - zero_point) + bias[c])``.

    Taps in time, oldest first.
    """

    name: str
    input: str
    output: str
    weight: NDArray[np.int8]
    """``[taps, channels]``"""
    weight_scale: NDArray[np.float32]
    """``[channels]``"""
    bias: NDArray[np.int32]
    """``[channels]``"""
    dilation: int


@dataclass(frozen=True, kw_only=True)
class Append:
    """``output = concatenate(history, input)`` along time; the three share one scale."""

    name: str
    history: str
    input: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Tail:
    """``output = input[-frames:]``: the frames of a window that the next step remembers."""

    name: str
    input: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Add:
    """``output = clamp(left + right)`` on one shared scale: exact on every engine.

    The operands have zero point 0, the sum has that or -128, which is a ReLU.
    """

    name: str
    left: str
    right: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Multiply:
    """``output = requantize((left - zero_point) * (right - zero_point))``, element by element."""

    name: str
    left: str
    right: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """Logistic function; the output has scale 1/256 and zero point -128."""

    name: str
    input: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Tanh:
    """Hyperbolic tangent; the output has scale 1/128 and zero point 0."""

    name: str
    input: str
    output: str


Node: TypeAlias = Pointwise | Depthwise | Append | Tail | Add | Multiply | Sigmoid | Tanh


def node_inputs(node: Node) -> tuple[str, ...]:
    """Names of the tensors a node reads."""
    match node:
        case Append():
            return node.history, node.input
        case Add() | Multiply():
            return node.left, node.right
        case _:
            return (node.input,)


def accumulator_bound(node: Pointwise | Depthwise, input_zero_point: int) -> NDArray[np.int64]:
    """Largest magnitude any partial sum can take, per output channel."""
    reach = max(INT8_MAX - input_zero_point, input_zero_point - INT8_MIN)
    axis = 1 if isinstance(node, Pointwise) else 0
    magnitude = np.abs(node.weight, dtype=np.int16).sum(axis=axis, dtype=np.int64)
    bound: NDArray[np.int64] = magnitude * reach + np.abs(node.bias.astype(np.int64))
    return bound


def activation_table(node: Sigmoid | Tanh, source: Tensor) -> NDArray[np.int8]:
    """Output for every input, ``[256]`` from -128 to 127, rounded half to even."""
    real = (np.arange(INT8_MIN, INT8_MAX + 1) - source.zero_point) * np.float64(np.float32(source.scale))
    # 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2, which cannot overflow
    q = np.rint(128 * (1 + np.tanh(real / 2))) - 128 if isinstance(node, Sigmoid) else np.rint(128 * np.tanh(real))
    table: NDArray[np.int8] = np.clip(q, INT8_MIN, INT8_MAX).astype(np.int8)
    return table


def check_tensor(name: str, tensor: Tensor) -> None:
    """``ArtifactError`` unless the tensor is well formed and filed under its own name."""
    if name != tensor.name:
        raise ArtifactError(f"tensor {tensor.name} is filed under {name}")
    if tensor.frames < 1 or tensor.channels < 1:
        raise ArtifactError(f"tensor {name}: shape [{tensor.frames}, {tensor.channels}] is empty")
    if tensor.frames * tensor.channels > MOST_VALUES:
        raise ArtifactError(f"tensor {name}: [{tensor.frames}, {tensor.channels}] values, at most {MOST_VALUES} are possible")
    if not (isfinite(tensor.scale) and tensor.scale > 0):
        raise ArtifactError(f"tensor {name}: scale {tensor.scale} is not positive and finite")
    if not INT8_MIN <= tensor.zero_point <= INT8_MAX:
        raise ArtifactError(f"tensor {name}: zero point {tensor.zero_point} is not an int8")


def check_node(node: Node, tensors: Mapping[str, Tensor]) -> None:
    """``ArtifactError`` unless shapes, shared scales, types and accumulators are as the operator requires."""
    ins = [tensors[name] for name in node_inputs(node)]
    out = tensors[node.output]
    match node:
        case Pointwise() | Depthwise():
            _check_shape(node, ins[0], out)
            _check_constants(node, ins[0], out)
        case Append():
            _check(node, "history and input", out.frames == ins[0].frames + ins[1].frames, ins, out)
            _check(node, "one scale", len({(t.scale, t.zero_point, t.channels) for t in (*ins, out)}) == 1, ins, out)
        case Tail():
            _check(node, "the end of its input", out.frames <= ins[0].frames, ins, out)
            _check(node, "one scale", len({(t.scale, t.zero_point, t.channels) for t in (*ins, out)}) == 1, ins, out)
        case Add():
            _check(node, "one form", len({(t.frames, t.channels, t.scale) for t in (*ins, out)}) == 1, ins, out)
            _check(node, "zero points 0", not any(t.zero_point for t in ins) and out.zero_point in (0, INT8_MIN), ins, out)
        case Multiply():
            _check(node, "one shape", len({(t.frames, t.channels) for t in (*ins, out)}) == 1, ins, out)
            _check_factor(node, ins[0].scale, np.array([ins[1].scale], np.float32), out.scale, _PRODUCT_RANGE)
        case Sigmoid() | Tanh():
            fixed = (2.0**-8, -128) if isinstance(node, Sigmoid) else (2.0**-7, 0)
            _check(node, f"scale and zero point {fixed}", (out.scale, out.zero_point) == fixed, ins, out)
            _check(node, "its input's shape", (out.frames, out.channels) == (ins[0].frames, ins[0].channels), ins, out)


def _check_shape(node: Pointwise | Depthwise, source: Tensor, out: Tensor) -> None:
    shapes = (node.weight.shape, node.weight_scale.shape, node.bias.shape)
    types = (node.weight.dtype, node.weight_scale.dtype, node.bias.dtype)
    if types != (np.dtype(np.int8), np.dtype(np.float32), np.dtype(np.int32)):
        raise ArtifactError(f"node {node.name}: weight, scale and bias are {[str(t) for t in types]}, not int8, float32, int32")
    if any(len(shape) != dimensions for shape, dimensions in zip(shapes, (2, 1, 1), strict=True)) or not node.weight.size:
        raise ArtifactError(f"node {node.name}: weight, scale and bias have shapes {shapes}, not a matrix and two vectors")
    if isinstance(node, Pointwise):
        wanted: tuple[int, ...] = (out.channels, source.channels)
        frames = source.frames
    else:
        if node.dilation < 1:
            raise ArtifactError(f"node {node.name}: dilation {node.dilation} is less than 1")
        wanted = (*node.weight.shape[:1], source.channels)
        frames = source.frames - (len(node.weight) - 1) * node.dilation
        if source.channels != out.channels:
            raise ArtifactError(f"node {node.name}: {source.channels} channels in, {out.channels} out")
    if shapes != (wanted, wanted[:1] if isinstance(node, Pointwise) else wanted[1:], (out.channels,)):
        raise ArtifactError(f"node {node.name}: weight, scale and bias have shapes {shapes}, the weight needs {wanted}")
    if out.frames != frames:
        raise ArtifactError(f"node {node.name}: makes {frames} frames, {out.name} has {out.frames}")


def _check_constants(node: Pointwise | Depthwise, source: Tensor, out: Tensor) -> None:
    if node.weight.size and node.weight.min() < -INT8_MAX:
        raise ArtifactError(f"node {node.name}: weight -128 is outside the symmetric range [-127, 127]")
    _check_factor(node, source.scale, node.weight_scale, out.scale, _MULTIPLIER_RANGE)
    bound = int(accumulator_bound(node, source.zero_point).max())
    if bound >= ACCUMULATOR_LIMIT:
        raise ArtifactError(f"node {node.name}: accumulators reach {bound}, at most {ACCUMULATOR_LIMIT - 1} stays exact")


def _check_factor(
    node: Node, source_scale: float, other_scale: NDArray[np.float32], out_scale: float, wanted: tuple[float, float]
) -> None:
    low, high = wanted
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite or not a number, signalling ones too, is refused below
        factor = multiplier(source_scale, other_scale, out_scale)
    if not ((factor >= low) & (factor < high)).all():
        raise ArtifactError(f"node {node.name}: requantization factors {factor.min()}..{factor.max()} leave [{low}, {high})")


def _check(node: Node, what: str, holds: bool, ins: list[Tensor], out: Tensor) -> None:
    if not holds:
        raise ArtifactError(f"node {node.name}: needs {what}: {', '.join(map(form, ins))} -> {form(out)}")


def form(tensor: Tensor) -> str:
    """Name, shape, scale and zero point, for messages."""
    return f"{tensor.name} [{tensor.frames}, {tensor.channels}] scale {tensor.scale:.9g} zero point {tensor.zero_point}"
