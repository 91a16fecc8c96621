"""Quantization-aware twin of a trained student: the same modules with Brevitas quantizers on every tensor of the integer graph.

Weights are int8 per output channel; activation scales are learned, one per tensor; batch normalisation is folded before the first
step; biases and voice shifts are rounded to the accumulator grid in the forward pass, because that is where the integer graph
holds them (measured: without it only 83 % of outputs are equal).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

import torch
from brevitas import nn as qnn
from brevitas.quant import Int8ActPerTensorFloatMinMaxInit, Int8WeightPerChannelFloat, Uint8ActPerTensorFloatMaxInit
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.nn.student import Depthwise, Modulated, Stage, Student, causal_taps

__all__ = ["Activation", "Fixed", "QuantDepthwise", "QuantModulated", "QuantPointwise", "calibrate", "quantized_twin"]


class Activation(nn.Module):
    """An int8 tensor whose scale is learned, from an initial range.

    ``unsigned`` holds [0, 255 * scale], stored as int8 with zero point -128: ReLU is its lower end.
    """

    def __init__(self, largest: float, unsigned: bool = False) -> None:
        super().__init__()
        self.zero_point = -128 if unsigned else 0
        if unsigned:
            self.quantizer = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloatMaxInit, max_val=largest)
        else:
            self.quantizer = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloatMinMaxInit, min_val=-largest, max_val=largest)

    @property
    def scale(self) -> Tensor:
        return self.quantizer.act_quant.scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.quantizer(x)

    def requantize(self, acc: Tensor, factor: Tensor) -> Tensor:
        """Integer accumulators to the real values of this tensor, as :func:`edge_tse.quant.requantize` rounds."""
        low, high = -128 - self.zero_point, 127 - self.zero_point
        return (acc * factor).round().clamp(low, high) * self.scale


class Fixed(nn.Module):
    """An int8 tensor whose range is known beforehand: features, mask, velocity."""

    def __init__(self, scale: float, zero_point: int = 0) -> None:
        super().__init__()
        self.zero_point = zero_point
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        low, high = -128 - self.zero_point, 127 - self.zero_point
        q = (x / self.scale).round().clamp(low, high) * self.scale
        return x + (q - x).detach()


def _steps(x: Tensor, grid: Tensor) -> Tensor:
    """How many steps of the grid: whole numbers, exact in float32."""
    return torch.round(x / grid)


def _on_grid(x: Tensor, grid: Tensor) -> Tensor:
    """Nearest multiple of the grid; the gradient passes."""
    return x + (torch.round(x / grid) * grid - x).detach()


class QuantPointwise(nn.Module):
    """``nn.Linear`` with int8 weights and an int8 output."""

    def __init__(self, weight: Tensor, bias: Tensor | None, source: Activation | Fixed, output: Activation) -> None:
        super().__init__()
        self.holder = qnn.QuantLinear(weight.shape[1], weight.shape[0], bias=False, weight_quant=Int8WeightPerChannelFloat)
        self.holder.weight.data.copy_(weight)
        self.bias = nn.Parameter(torch.zeros(weight.shape[0]) if bias is None else bias.detach().clone())
        self.source, self.output = (_Shared(source), _Shared(output))

    def weight_and_grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fake-quantized weight, its scale per output channel, and the accumulator grid."""
        q = self.holder.quant_weight()
        scale = q.scale.flatten()
        return q.value, scale, self.source.module.scale * scale

    def forward(self, x: Tensor) -> Tensor:
        weight, scale, grid = self.weight_and_grid()
        if not self.training:
            acc = functional.linear(_steps(x, self.source.module.scale), _steps(weight, scale[:, None]), _steps(self.bias, grid))
            return self.output.module.requantize(acc, grid / self.output.module.scale)
        return self.output.module(functional.linear(x, weight, _on_grid(self.bias, grid)))


class QuantModulated(QuantPointwise):
    """:class:`~edge_tse.nn.student.Modulated`, folded: voice scale and shift act on the accumulator."""

    def forward(self, x: Tensor, scale_BH: Tensor, shift_BH: Tensor) -> Tensor:  # type: ignore[override]
        weight, scale, grid = self.weight_and_grid()
        if not self.training:
            source, output = self.source.module.scale, self.output.module
            folded_BH = scale * scale_BH
            bias_BH = _steps(self.bias, grid) + _steps(shift_BH.double(), source.double() * folded_BH.double()).float()
            acc = functional.linear(_steps(x, source), _steps(weight, scale[:, None])) + bias_BH[:, None]
            return output.requantize(acc, (source * folded_BH / output.scale)[:, None])
        shift = _on_grid(shift_BH, grid * scale_BH)
        accumulated = functional.linear(x, weight, _on_grid(self.bias, grid))
        return self.output.module(torch.addcmul(shift[:, None], accumulated, scale_BH[:, None]))


class QuantDepthwise(nn.Module):
    """:class:`~edge_tse.nn.student.Depthwise` with int8 taps and an int8 output."""

    def __init__(self, original: Depthwise, source: Activation | Fixed, output: Activation) -> None:
        super().__init__()
        taps, channels = original.weight.shape
        self.dilation = original.dilation
        # Held as a convolution for its per-channel quantizer only: its kernel is never run (oneDNN's backward is pathological).
        self.holder = qnn.QuantConv1d(channels, channels, taps, groups=channels, bias=False, weight_quant=Int8WeightPerChannelFloat)
        self.holder.weight.data.copy_(original.weight.T[:, None])
        self.bias = nn.Parameter(original.bias.detach().clone())
        self.source, self.output = (_Shared(source), _Shared(output))

    def weight_and_grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fake-quantized taps ``[K, C]``, scale per channel, accumulator grid."""
        q = self.holder.quant_weight()
        scale = q.scale.flatten()
        return q.value[:, 0].T, scale, self.source.module.scale * scale

    def forward(self, x: Tensor) -> Tensor:
        weight, scale, grid = self.weight_and_grid()
        if not self.training:
            acc = causal_taps(_steps(x, self.source.module.scale), _steps(weight, scale), self.dilation) + _steps(self.bias, grid)
            return self.output.module.requantize(acc, grid / self.output.module.scale)
        return self.output.module(causal_taps(x, weight, self.dilation) + _on_grid(self.bias, grid))


class _Shared:
    """A reference to a quantizer that belongs to another module (a plain attribute would register it twice)."""

    def __init__(self, module: Activation | Fixed) -> None:
        self.module = module


@torch.no_grad()
def calibrate(student: Student, batches: Iterable[tuple[Tensor, Tensor]], percentile: float = 100.0) -> dict[str, float]:
    """Largest magnitude (or a percentile of it) of every tensor the graph quantizes, over ``(features, voice)`` batches.

    Keys name the quantizer: ``mask.stream``, ``mask.0.depthwise``, ``mask.0.expand``, ``mask.logits`` and so on.
    """
    largest: dict[str, list[float]] = {}

    def note(key: str) -> object:
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            magnitude = output.abs().flatten()
            if percentile < 100:
                # kthvalue, not quantile: that one refuses more than 16 M elements.
                value = magnitude.kthvalue(max(1, math.ceil(len(magnitude) * percentile / 100))).values
            else:
                value = magnitude.max()
            largest.setdefault(key, []).append(float(value))

        return hook

    handles = []
    for name in ("mask", "refine"):
        stage: Stage = getattr(student, name)
        handles.append(stage.settle.register_forward_hook(note(f"{name}.stream")))
        for i, block in enumerate(stage.blocks):
            handles += [
                block.depthwise.register_forward_hook(note(f"{name}.{i}.depthwise")),
                block.expand.register_forward_hook(note(f"{name}.{i}.expand")),
                block.project.register_forward_hook(note(f"{name}.stream")),
            ]
    handles += [
        student.stem.register_forward_hook(note("mask.stream")),
        student.from_hidden.register_forward_hook(note("refine.stream")),
        student.from_gain.register_forward_hook(note("refine.stream")),
        student.mask_head.register_forward_hook(note("mask.logits")),
        student.velocity_head.register_forward_hook(note("refine.logits")),
    ]
    student.eval()
    for features, voice in batches:
        student(features, voice)
    for handle in handles:
        handle.remove()  # type: ignore[attr-defined]
    if percentile < 100:
        return {key: sum(values) / len(values) for key, values in largest.items()}
    return {key: max(values) for key, values in largest.items()}


def quantized_twin(student: Student, ranges: dict[str, float]) -> Student:
    """A copy of ``student`` whose every tensor of the integer graph is fake-quantized, from calibrated ranges."""
    twin = copy.deepcopy(student)
    features, mask, velocity = Fixed(1 / 127), Fixed(1 / 256, -128), Fixed(1 / 128)

    def activation(key: str, unsigned: bool = False) -> Activation:
        return Activation(max(ranges[key], 1e-3), unsigned)

    def pointwise(layer: nn.Module, source: Activation | Fixed, output: Activation) -> QuantPointwise:
        assert isinstance(layer, nn.Linear)
        return QuantPointwise(layer.weight, layer.bias, source, output)

    def stage(name: str, stream: Activation) -> None:
        original: Stage = getattr(twin, name)
        original.settle = stream
        for i, block in enumerate(original.blocks):
            assert isinstance(block.depthwise, Depthwise)
            assert isinstance(block.expand, Modulated)
            tapped, hidden = activation(f"{name}.{i}.depthwise"), activation(f"{name}.{i}.expand", unsigned=True)
            weight, bias = block.expand.folded()
            block.depthwise = _owning(QuantDepthwise(block.depthwise, stream, tapped), tapped)
            block.expand = _owning(QuantModulated(weight, bias, tapped, hidden), hidden)
            block.project = pointwise(block.project, hidden, stream)

    stream, later = activation("mask.stream"), activation("refine.stream")
    twin.entry = features
    twin.stem = pointwise(twin.stem, features, stream)
    stage("mask", stream)
    logits = activation("mask.logits")
    twin.mask_head = _owning(pointwise(twin.mask_head, stream, logits), logits)
    twin.mask_out = nn.Sequential(nn.Sigmoid(), mask)
    twin.from_hidden = pointwise(twin.from_hidden, stream, later)
    twin.from_gain = pointwise(twin.from_gain, mask, later)
    stage("refine", later)
    logits = activation("refine.logits")
    twin.velocity_head = _owning(pointwise(twin.velocity_head, later, logits), logits)
    twin.velocity_out = nn.Sequential(nn.Tanh(), velocity)
    return twin


def _owning(layer: QuantPointwise | QuantDepthwise, output: Activation) -> nn.Module:
    """Register the output quantizer with the one layer that writes it, so that its scale is trained."""
    layer.add_module("owned", output)
    return layer
