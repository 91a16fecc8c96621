"""A stage of the student: residual blocks of dilated taps in time and pointwise layers that a voice scales and shifts.

Tensors are ``[B, T, C]`` (channels last, pointwise layers as matrix products).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.nn.moments import Moments

__all__ = ["Block", "Depthwise", "Film", "Modulated", "Stage", "StageConfig", "causal_taps"]


@dataclass(frozen=True)
class StageConfig:
    """One stack of blocks."""

    channels: int
    hidden: int
    dilations: tuple[int, ...]
    """Distance in frames between the depthwise taps of each block."""


class Depthwise(nn.Module):
    """Dilated taps in time, one filter per channel, causal or (``ahead``) around each frame: ``[B, T, C] -> [B, T, C]``."""

    def __init__(self, channels: int, taps: int, dilation: int, ahead: bool = False) -> None:
        super().__init__()
        self.dilation, self.ahead = dilation, ahead
        self.weight = nn.Parameter(torch.randn(taps, channels) / math.sqrt(taps))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x_BTC: Tensor) -> Tensor:
        seen = (len(self.weight) // 2) * self.dilation if self.ahead else 0
        future = functional.pad(x_BTC, (0, 0, 0, seen))
        return causal_taps(future, self.weight, self.dilation, self.bias)[:, seen:]


def causal_taps(x_BTC: Tensor, weight_KC: Tensor, dilation: int, bias_C: Tensor | None = None) -> Tensor:
    """``y[t] = sum_k weight[k] * x[t - (K - 1 - k) * dilation] + bias``.

    Frames ``dilation`` apart become the height of an image and those between its width: the dilation is then 1, whose backward pass
    oneDNN knows how to vectorize (a dilated depthwise ``Conv1d`` takes a hundred times as long).
    """
    taps, t = weight_KC.shape[0], x_BTC.shape[1]
    surplus = -t % dilation
    padded = functional.pad(x_BTC, (0, 0, (taps - 1) * dilation + surplus, 0))
    image_BCHW = padded.unflatten(1, (-1, dilation)).permute(0, 3, 1, 2)
    out = functional.conv2d(image_BCHW, weight_KC.T[:, None, :, None], bias_C, groups=weight_KC.shape[1])
    return out.permute(0, 2, 3, 1).flatten(1, 2)[:, surplus:]


class Modulated(Moments):
    """Pointwise layer, batch normalisation, voice scale and shift, ReLU: ``[B, T, C] -> [B, T, H]``.

    Moments are taken over all processes, so the loss does not depend on how many share a batch.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, hidden, bias=False)
        self.gain = nn.Parameter(torch.ones(hidden))
        self.offset = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("mean", torch.zeros(hidden))
        self.register_buffer("variance", torch.ones(hidden))
        self.eps, self.momentum = 1e-5, 0.02

    def forward(self, x_BTC: Tensor, scale_BH: Tensor, shift_BH: Tensor) -> Tensor:
        h = self._normalize(self.linear(x_BTC))
        return functional.relu(torch.addcmul(shift_BH[:, None].to(h.dtype), h, scale_BH[:, None].to(h.dtype)))

    def _normalize(self, h_BTH: Tensor) -> Tensor:
        if self.training and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            mean, variance = self._share_moments(h_BTH.float())
            gain = self.gain * (variance + self.eps).rsqrt()
            return torch.addcmul((self.offset - mean * gain).to(h_BTH.dtype), h_BTH, gain.to(h_BTH.dtype))
        flat = functional.batch_norm(
            h_BTH.flatten(0, 1), self.mean, self.variance, self.gain, self.offset, self.training, self.momentum, self.eps
        )
        return flat.unflatten(0, h_BTH.shape[:2])

    def _share_moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.stack([h.mean(dim=(0, 1)), h.square().mean(dim=(0, 1))])
        mean, square = _Sum.apply(both) / torch.distributed.get_world_size()
        variance = (square - mean.square()).clamp_min(0)
        with torch.no_grad():
            self.mean.lerp_(mean.detach(), self.momentum)
            self.variance.lerp_(variance.detach(), self.momentum)
        return mean, variance

    @torch.no_grad()
    def fold(self) -> tuple[Tensor, Tensor]:
        """Weight ``[H, C]`` and bias ``[H]`` with the running moments folded in."""
        gain = self.gain * (self.variance + self.eps).rsqrt()
        return self.linear.weight * gain[:, None], self.offset - self.mean * gain


class _Sum(torch.autograd.Function):
    """Sum over processes: values forwards, gradients backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _Sum._over_processes(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum._over_processes(gradient)

    @staticmethod
    def _over_processes(x: Tensor) -> Tensor:
        out = x.clone()
        torch.distributed.all_reduce(out)
        return out


class Block(nn.Module):
    """Residual block ``x + project(relu(film(expand(depthwise(x)))))``."""

    def __init__(self, config: StageConfig, taps: int, dilation: int, ahead: bool = False) -> None:
        super().__init__()
        self.depthwise: nn.Module = Depthwise(config.channels, taps, dilation, ahead)
        self.expand: nn.Module = Modulated(config.channels, config.hidden)
        self.project: nn.Module = nn.Linear(config.hidden, config.channels)
        # Stacks of residual branches train from the identity (Zhang et al., "Fixup initialization", ICLR 2019).
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x_BTC: Tensor, scale_BH: Tensor, shift_BH: Tensor) -> Tensor:
        return self.project(self.expand(self.depthwise(x_BTC), scale_BH, shift_BH))


Film = tuple[Tensor, Tensor]
"""Scale and shift of the channels of a block, ``[B, H]`` each."""


class Stage(nn.Module):
    """Blocks on one residual stream."""

    def __init__(self, config: StageConfig, taps: int, ahead: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, taps, d, ahead) for d in config.dilations)
        self.settle: nn.Module = nn.Identity()
        """What the stream passes through after every addition: its shared quantizer in QAT."""

    def forward(self, x_BTC: Tensor, films: list[Film]) -> Tensor:
        for block, (scale, shift) in zip(self.blocks, films, strict=True):
            x_BTC = self.settle(x_BTC + block(x_BTC, scale, shift))
        return x_BTC
