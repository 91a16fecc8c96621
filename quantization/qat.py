"""Quantization-aware twin of a trained student: the same modules with Brevitas quantizers on every tensor of the integer graph.

Weights are int8 per output channel, or of fewer bits and held in int8; activation scales are learned, one per tensor; batch
normalisation is folded before the first step; biases and voice shifts are rounded to the accumulator grid in the forward pass,
because that is where the integer graph holds them (measured: without it only 83 % of outputs are equal).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from brevitas import nn as qnn
from brevitas.quant import (
    Int8ActPerTensorFloatMinMaxInit,
    Int8WeightPerChannelFloat,
    Int8WeightPerChannelFloatMSE,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloatMaxInit,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from edge_tse.nn.stage import Block, Depthwise, Modulated, Stage, causal_taps
from edge_tse.nn.student import Student

__all__ = [
    "CALIBRATIONS",
    "Activation",
    "Fixed",
    "QuantDepthwise",
    "QuantModulated",
    "QuantPointwise",
    "WeightFormat",
    "calibrate",
    "quantized_twin",
]


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """Format of a layer's weights: symmetric integers of ``bits`` bits, the lowest one unused."""

    bits: int = 8
    per_channel: bool = True
    """One scale per output channel; else one for the whole matrix."""
    least_error: bool = False
    """Scales that minimise the squared error, learned from there on; else the largest weight of a channel ends its range."""

    @property
    def quantizer(self) -> dict[str, object]:
        """Arguments of a Brevitas layer."""
        if self.least_error and not self.per_channel:
            raise ValueError("least-error scales are per channel")
        kind = Int8WeightPerChannelFloatMSE if self.least_error else Int8WeightPerChannelFloat
        return {"weight_quant": kind if self.per_channel else Int8WeightPerTensorFloat, "weight_bit_width": self.bits}


class Activation(nn.Module):
    """An int8 tensor whose scale is learned, from an initial range.

    ``unsigned`` holds [0, 255 * scale], stored as int8 with zero point -128: ReLU is its lower end.
    """

    def __init__(self, largest: float, unsigned: bool = False) -> None:
        super().__init__()
        self.exact = False
        """Whether training lets values through as they are (a ReLU stays one): what a study of sensitivity compares with."""
        self.zero_point = -128 if unsigned else 0
        if unsigned:
            self.quantizer = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloatMaxInit, max_val=largest)
        else:
            self.quantizer = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloatMinMaxInit, min_val=-largest, max_val=largest)

    @property
    def scale(self) -> Tensor:
        return self.quantizer.act_quant.scale()

    def forward(self, x: Tensor) -> Tensor:
        if self.exact and self.training:
            return functional.relu(x) if self.zero_point else x
        return self.quantizer(x)

    def requantize(self, acc: Tensor, factor: Tensor) -> Tensor:
        """Integer accumulators to the real values of this tensor, as :func:`edge_tse.quant.requantize` rounds."""
        low, high = -128 - self.zero_point, 127 - self.zero_point
        return (acc * factor).round().clamp(low, high) * self.scale


class Fixed(nn.Module):
    """An int8 tensor whose range is known beforehand: features, mask, velocity."""

    def __init__(self, scale: float, zero_point: int = 0) -> None:
        super().__init__()
        self.exact = False
        self.zero_point = zero_point
        self.scale: Tensor
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, x: Tensor) -> Tensor:
        if self.exact and self.training:
            return x
        low, high = -128 - self.zero_point, 127 - self.zero_point
        q = (x / self.scale).round().clamp(low, high) * self.scale
        return x + (q - x).detach()


def _steps(x: Tensor, grid: Tensor) -> Tensor:
    """Number of steps of the grid: whole numbers, exact in float32."""
    return torch.round(x / grid)


def _on_grid(x: Tensor, grid: Tensor) -> Tensor:
    """Nearest multiple of the grid; the gradient passes."""
    return x + (torch.round(x / grid) * grid - x).detach()


class QuantPointwise(nn.Module):
    """Pointwise layer (``nn.Linear``) with integer weights and an int8 output."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        source: Activation | Fixed,
        output: Activation,
        form: WeightFormat = WeightFormat(),
    ) -> None:
        super().__init__()
        self.form = form
        self.exact = False
        self.holder = qnn.QuantLinear(weight.shape[1], weight.shape[0], bias=False, **form.quantizer)
        self.holder.weight.data.copy_(weight)
        self.bias = nn.Parameter(torch.zeros(weight.shape[0]) if bias is None else bias.detach().clone())
        self.source: _Shared[Activation | Fixed] = _Shared(source)
        self.output: _Shared[Activation] = _Shared(output)

    def weight_and_grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fake-quantized weight, its scale per output channel, and the accumulator grid."""
        q = self.holder.quant_weight()
        scale = q.scale.flatten().expand(len(q.value))
        return q.value, scale, self.source.module.scale * scale

    def accumulate(self, x: Tensor, weight: Tensor, grid: Tensor) -> Tensor:
        """Accumulator as training sees it, in reals."""
        if self.exact:
            return functional.linear(x, self.holder.weight, self.bias)
        return functional.linear(x, weight, _on_grid(self.bias, grid))

    def forward(self, x: Tensor) -> Tensor:
        weight, scale, grid = self.weight_and_grid()
        if self.training:
            return self.output.module(self.accumulate(x, weight, grid))
        acc = functional.linear(_steps(x, self.source.module.scale), _steps(weight, scale[:, None]), _steps(self.bias, grid))
        return self.output.module.requantize(acc, grid / self.output.module.scale)


class QuantModulated(QuantPointwise):
    """:class:`~edge_tse.nn.stage.Modulated`, folded: voice scale and shift act on the accumulator."""

    def forward(self, x: Tensor, scale_BH: Tensor, shift_BH: Tensor) -> Tensor:  # type: ignore[override]
        weight, scale, grid = self.weight_and_grid()
        if self.training:
            shift = shift_BH if self.exact else _on_grid(shift_BH, grid * scale_BH)
            return self.output.module(torch.addcmul(shift[:, None], self.accumulate(x, weight, grid), scale_BH[:, None]))
        source, output = self.source.module.scale, self.output.module
        folded_BH = scale * scale_BH
        bias_BH = _steps(self.bias, grid) + _steps(shift_BH.double(), source.double() * folded_BH.double()).float()
        acc = functional.linear(_steps(x, source), _steps(weight, scale[:, None])) + bias_BH[:, None]
        return output.requantize(acc, (source * folded_BH / output.scale)[:, None])


class QuantDepthwise(nn.Module):
    """:class:`~edge_tse.nn.stage.Depthwise` with integer taps and an int8 output."""

    def __init__(
        self,
        original: Depthwise,
        source: Activation | Fixed,
        output: Activation,
        form: WeightFormat = WeightFormat(),
    ) -> None:
        super().__init__()
        self.form = form
        self.exact = False
        taps, channels = original.weight.shape
        self.dilation = original.dilation
        # Held as a convolution for its per-channel quantizer only: its kernel is never run (oneDNN's backward is pathological).
        self.holder = qnn.QuantConv1d(channels, channels, taps, groups=channels, bias=False, **form.quantizer)
        self.holder.weight.data.copy_(original.weight.T[:, None])
        self.bias = nn.Parameter(original.bias.detach().clone())
        self.source: _Shared[Activation | Fixed] = _Shared(source)
        self.output: _Shared[Activation] = _Shared(output)

    def weight_and_grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Fake-quantized taps ``[K, C]``, scale per channel, accumulator grid."""
        q = self.holder.quant_weight()
        scale = q.scale.flatten().expand(len(q.value))
        return q.value[:, 0].T, scale, self.source.module.scale * scale

    def forward(self, x: Tensor) -> Tensor:
        weight, scale, grid = self.weight_and_grid()
        if self.training:
            taps, bias = (self.holder.weight[:, 0].T, self.bias) if self.exact else (weight, _on_grid(self.bias, grid))
            return self.output.module(causal_taps(x, taps, self.dilation) + bias)
        acc = causal_taps(_steps(x, self.source.module.scale), _steps(weight, scale), self.dilation) + _steps(self.bias, grid)
        return self.output.module.requantize(acc, grid / self.output.module.scale)


_Q = TypeVar("_Q", bound=Activation | Fixed)


class _Shared(Generic[_Q]):
    """A reference to a quantizer that belongs to another module (a plain attribute would register it twice)."""

    def __init__(self, module: _Q) -> None:
        self.module = module


@dataclass(frozen=True, kw_only=True)
class _Calibration:
    """Choice of the largest value of a tensor."""

    of_batch: Callable[[Tensor, int], float]
    """Function of magnitudes and of the number of steps that the tensor has above zero."""
    over_batches: Callable[[list[float]], float]


def _percentile(percent: float, magnitudes: Tensor, _steps: int) -> float:
    # kthvalue, not quantile: that one refuses more than 16 M elements.
    return float(magnitudes.kthvalue(max(1, math.ceil(len(magnitudes) * percent / 100))).values)


def _least_error(magnitudes: Tensor, steps: int) -> float:
    """The range whose rounding and clipping together have the least squared error, of forty up to the largest magnitude."""
    sample = magnitudes[:: max(1, len(magnitudes) // 50_000)]
    ranges = magnitudes.max() * torch.linspace(0.025, 1, 40)
    scales = (ranges / steps).clamp_min(1e-9)[:, None]
    errors = (torch.round(sample / scales).clamp_max(steps) * scales - sample).square().mean(dim=1)
    return float(ranges[errors.argmin()])


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


CALIBRATIONS = {
    "min-max": _Calibration(of_batch=lambda magnitudes, _steps: float(magnitudes.max()), over_batches=max),
    "percentile-99.99": _Calibration(of_batch=partial(_percentile, 99.99), over_batches=_mean),
    "percentile-99.9": _Calibration(of_batch=partial(_percentile, 99.9), over_batches=_mean),
    "least-error": _Calibration(of_batch=_least_error, over_batches=_mean),
}
"""Ways to choose the range of a tensor, by name."""


@torch.no_grad()
def calibrate(student: Student, batches: Iterable[tuple[Tensor, Tensor]], calibration: str = "min-max") -> dict[str, float]:
    """Largest magnitude to represent of every tensor that the graph quantizes, over ``(features, voice)`` batches.

    ``calibration`` is one of :data:`CALIBRATIONS`. Keys name the quantizer: ``mask.stream``, ``mask.0.depthwise``,
    ``mask.0.expand``, ``mask.logits`` and so on.
    """
    chosen = CALIBRATIONS[calibration]
    found: dict[str, list[float]] = {}

    def note(key: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        steps = 255 if key.endswith("expand") else 127

        def hook(_module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
            found.setdefault(key, []).append(chosen.of_batch(output.abs().flatten(), steps))

        return hook

    handles: list[RemovableHandle] = []
    for name in ("mask", "refine"):
        stage: Stage = getattr(student, name)
        handles.append(stage.settle.register_forward_hook(note(f"{name}.stream")))
        for i, block in enumerate(stage.blocks):
            assert isinstance(block, Block)
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
    if student.config.frame.beam:
        handles += [
            student.from_features.register_forward_hook(note("refine.stream")),
            student.share_head.register_forward_hook(note("share.logits")),
        ]
    student.eval()
    for features, voice in batches:
        student(features, voice)
    for handle in handles:
        handle.remove()
    return {key: chosen.over_batches(values) for key, values in found.items()}


def quantized_twin(
    student: Student,
    ranges: dict[str, float],
    pointwise_format: WeightFormat = WeightFormat(),
    depthwise_format: WeightFormat = WeightFormat(),
) -> Student:
    """A copy of ``student`` whose every tensor of the integer graph is fake-quantized, from calibrated ranges."""
    twin = copy.deepcopy(student)
    features, mask, velocity = Fixed(1 / 127), Fixed(1 / 256, -128), Fixed(1 / 128)

    def activation(key: str, unsigned: bool = False) -> Activation:
        return Activation(max(ranges[key], 1e-3), unsigned)

    def pointwise(layer: nn.Module, source: Activation | Fixed, output: Activation) -> QuantPointwise:
        assert isinstance(layer, nn.Linear)
        return QuantPointwise(layer.weight, layer.bias, source, output, pointwise_format)

    def stage(name: str, stream: Activation) -> None:
        original: Stage = getattr(twin, name)
        original.settle = stream
        for i, block in enumerate(original.blocks):
            assert isinstance(block, Block)
            assert isinstance(block.depthwise, Depthwise)
            assert isinstance(block.expand, Modulated)
            tapped, hidden = activation(f"{name}.{i}.depthwise"), activation(f"{name}.{i}.expand", unsigned=True)
            weight, bias = block.expand.fold()
            block.depthwise = _owning(QuantDepthwise(block.depthwise, stream, tapped, depthwise_format), tapped)
            block.expand = _owning(QuantModulated(weight, bias, tapped, hidden, pointwise_format), hidden)
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
    if twin.config.frame.beam:
        twin.from_features = pointwise(twin.from_features, features, later)
        logits = activation("share.logits")
        twin.share_head = _owning(pointwise(twin.share_head, later, logits), logits)
        twin.share_out = nn.Sequential(nn.Sigmoid(), Fixed(1 / 256, -128))
    logits = activation("refine.logits")
    twin.velocity_head = _owning(pointwise(twin.velocity_head, later, logits), logits)
    twin.velocity_out = nn.Sequential(nn.Tanh(), velocity)
    return twin


def _owning(layer: QuantPointwise | QuantDepthwise, output: Activation) -> nn.Module:
    """Register the output quantizer with the one layer that writes it, so that its scale is trained."""
    layer.add_module("owned", output)
    return layer
