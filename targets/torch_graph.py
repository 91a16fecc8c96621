"""IntegerGraph as a torch module of quantized float operators, from which ExecuTorch's backends are lowered.

Every operator stands between a dequantization and a quantization with the graph's own scales, weights are int8 constants. Tensors
are ``[1, channels, frames, 1]`` in channels-last memory, so their bytes are ``[frames, channels]`` as in the graph. A single frame
has two readings of that order, and the runtime takes the wrong one: inputs and outputs of one frame are ``[1, channels]`` instead.
"""

from __future__ import annotations

import executorch.exir.passes.dim_order_ops_registry  # registers torch.ops.dim_order_ops
import executorch.kernels.quantized  # noqa: F401  registers torch.ops.quantized_decomposed
import numpy as np
import torch
from torch import Tensor as Values
from torch import nn
from torch.nn import functional

from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Multiply, Node, Pointwise, Sigmoid, Tail, Tanh, Tensor
from edge_tse.quant import INT8_MAX, INT8_MIN

__all__ = ["Reset", "StepModule"]

_q = torch.ops.quantized_decomposed
_CHANNELS_LAST = (0, 2, 3, 1)


class StepModule(nn.Module):
    """One step as a module: inputs, voice and states to outputs and states, in the graph's order.

    ``integer_bias`` keeps the bias int32 and dequantizes it; otherwise it is float, for backends that quantize it themselves.
    ``remember`` keeps the states as buffers instead of passing them. A state is ``[1, channels, frames, 1]`` in channels-last order
    if ``ordered``, which is what XNNPACK computes with; else ``[1, frames, 1, channels]``, for backends without such orders. The
    bytes are the same.
    """

    def __init__(self, graph: IntegerGraph, *, integer_bias: bool, remember: bool = False, ordered: bool = True) -> None:
        super().__init__()
        self._graph = graph
        self._remember = remember
        self._ordered = ordered
        self._integer_bias = integer_bias
        self._slots = {node.name: f"node_{i}" for i, node in enumerate(graph.nodes)}
        self._added = {name for node in graph.nodes if isinstance(node, Add) for name in (node.left, node.right)}
        for node in graph.nodes:
            if isinstance(node, Pointwise | Depthwise):
                self._constants(node)
        self._histories = {s.input: f"state_{i}" for i, s in enumerate(graph.states)}
        if remember:
            _register_states(self, graph)

    def _constants(self, node: Pointwise | Depthwise) -> None:
        weight = node.weight[:, :, None, None] if isinstance(node, Pointwise) else node.weight.T[:, None, :, None]
        grid = np.float32(self._graph.tensors[node.input].scale) * node.weight_scale
        slot = self._slots[node.name]
        self.register_buffer(f"{slot}_weight", torch.from_numpy(np.ascontiguousarray(weight)))
        self.register_buffer(f"{slot}_scale", torch.from_numpy(node.weight_scale.copy()))
        self.register_buffer(f"{slot}_zero", torch.zeros(len(grid), dtype=torch.int64))
        if self._integer_bias:
            self.register_buffer(f"{slot}_bias", torch.from_numpy(node.bias.copy()))
            self.register_buffer(f"{slot}_bias_scale", torch.from_numpy(grid))
        else:
            real = (node.bias * grid.astype(np.float64)).astype(np.float32)
            self.register_parameter(f"{slot}_bias", nn.Parameter(torch.from_numpy(real), requires_grad=False))

    def example(self) -> tuple[Values, ...]:
        """Example inputs of the right shape and memory order, at their zero points."""
        graph = self._graph
        names = (*graph.inputs, *graph.voice) if self._remember else graph.given
        return tuple(resting(graph.tensors[name], ordered=self._ordered) for name in names)

    def forward(self, *values: Values) -> tuple[Values, ...]:
        graph = self._graph
        if self._remember:
            values = (*values, *(getattr(self, slot) for slot in self._histories.values()))
        known = {name: self._inward(graph.tensors[name], value) for name, value in zip(graph.given, values, strict=True)}
        for node in graph.nodes:
            known[node.output] = self._quantize_to(node.output, self._node(node, known))
        remembered = [self._outward(graph.tensors[s.output], known[s.output]) for s in graph.states]
        outputs = [self._outward(graph.tensors[name], known[name]) for name in graph.outputs]
        if not self._remember:
            return (*outputs, *remembered)
        for slot, value in zip(self._histories.values(), remembered, strict=True):
            getattr(self, slot).copy_(value)
        return tuple(outputs)

    def _node(self, node: Node, known: dict[str, Values]) -> Values:
        def real(name: str) -> Values:
            return _dequantize(self._graph.tensors[name], known[name])

        match node:
            case Pointwise():
                total = functional.conv2d(real(node.input), *self._weights(node))
                return self._saturate(node.output, total) if self._integer_bias and node.output in self._added else total
            case Depthwise():
                groups = len(node.bias)
                return functional.conv2d(real(node.input), *self._weights(node), dilation=(node.dilation, 1), groups=groups)
            case Append():
                return torch.cat([real(node.history), real(node.input)], 2)
            case Tail():
                frames = self._graph.tensors[node.output].frames
                start = self._graph.tensors[node.input].frames - frames
                return real(node.input)[:, :, start : start + frames]
            case Add():
                total = real(node.left) + real(node.right)
                return self._saturate(node.output, total) if self._integer_bias else total
            case Multiply():
                return real(node.left) * real(node.right)
            case Sigmoid():
                return torch.sigmoid(real(node.input))
            case Tanh():
                return torch.tanh(real(node.input))

    def _weights(self, node: Pointwise | Depthwise) -> tuple[Values, Values]:
        slot = self._slots[node.name]
        weight, scale, zero, bias = (getattr(self, f"{slot}_{part}") for part in ("weight", "scale", "zero", "bias"))
        if self._integer_bias:
            grid = getattr(self, f"{slot}_bias_scale")
            bias = _q.dequantize_per_channel(bias, grid, zero, 0, -(2**31), 2**31 - 1, torch.int32)
        return _q.dequantize_per_channel(weight, scale, zero, 0, -INT8_MAX, INT8_MAX, torch.int8), bias

    def _saturate(self, name: str, total: Values) -> Values:
        """Clamp a sum to the range that int8 has anyway.

        The Arm backend adds in int32 and leaves the int8 before an addition out, where a sum or a product made it (its
        FuseConsecutiveRescalesPass says so). A clamp of its own keeps it.
        """
        tensor = self._graph.tensors[name]
        values = _dequantize(tensor, _quantize(tensor, total))
        return values.clamp((INT8_MIN - tensor.zero_point) * tensor.scale, (INT8_MAX - tensor.zero_point) * tensor.scale)

    def _quantize_to(self, name: str, real: Values) -> Values:
        return _quantize(self._graph.tensors[name], real)

    def _inward(self, tensor: Tensor, value: Values) -> Values:
        """Move a tensor from a program's form to ``[1, channels, frames, 1]``, by operators that do not round."""
        if tensor.frames == 1:
            value = _quantize(tensor, _dequantize(tensor, value).view(1, 1, 1, tensor.channels))
        if tensor.frames == 1 or not self._ordered:
            value = _quantize(tensor, _dequantize(tensor, value).permute(0, 3, 1, 2))
        return value

    def _outward(self, tensor: Tensor, value: Values) -> Values:
        """Move a tensor back to a program's form."""
        if tensor.frames == 1:
            return _quantize(tensor, _dequantize(tensor, value).reshape(1, tensor.channels))
        if self._ordered:
            copy = torch.ops.dim_order_ops._to_dim_order_copy.default
            return _quantize(tensor, copy(_dequantize(tensor, value), dim_order=_CHANNELS_LAST))
        return _quantize(tensor, _dequantize(tensor, value).permute(0, 2, 3, 1))


class Reset(nn.Module):
    """Module that sets every history of a remembering :class:`StepModule` to its zero point."""

    def __init__(self, graph: IntegerGraph) -> None:
        super().__init__()
        self._tensors = [graph.tensors[s.input] for s in graph.states]
        _register_states(self, graph)

    def example(self) -> tuple[Values, ...]:
        """No inputs."""
        return ()

    def forward(self) -> tuple[Values, ...]:
        for i, tensor in enumerate(self._tensors):
            getattr(self, f"state_{i}").copy_(resting(tensor))  # there is no kernel that fills a channels-last tensor
        return ()


def resting(tensor: Tensor, *, ordered: bool = True) -> Values:
    """Zero points in int8, in the form that a program takes, see :class:`StepModule`."""
    if tensor.frames == 1:
        return torch.full((1, tensor.channels), tensor.zero_point, dtype=torch.int8)
    if not ordered:
        return torch.full((1, tensor.frames, 1, tensor.channels), tensor.zero_point, dtype=torch.int8)
    shape = (1, tensor.channels, tensor.frames, 1)
    return torch.full(shape, tensor.zero_point, dtype=torch.int8).to(memory_format=torch.channels_last)


def _register_states(module: nn.Module, graph: IntegerGraph) -> None:
    for i, state in enumerate(graph.states):
        module.register_buffer(f"state_{i}", resting(graph.tensors[state.input]))


def _dequantize(tensor: Tensor, values: Values) -> Values:
    real: Values = _q.dequantize_per_tensor(values, tensor.scale, tensor.zero_point, INT8_MIN, INT8_MAX, torch.int8)
    return real


def _quantize(tensor: Tensor, real: Values) -> Values:
    values: Values = _q.quantize_per_tensor(real, tensor.scale, tensor.zero_point, INT8_MIN, INT8_MAX, torch.int8)
    return values
