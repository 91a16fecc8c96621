"""Other mask stages for the student, to be compared with its own: weights shared across bands, and a mixture of both.

The student takes frequency as channels: every pointwise weight belongs to one pair of channels and is used once a hop. Here the
stream is ``K`` groups of bands with ``C`` channels each, flattened to ``[B, T, K * C]``, and pointwise weights are shared by the
groups: used ``K`` times a hop. The voice scales and shifts each channel of each group directly after the taps in time, which have a
filter per channel and group, so it folds into their requantization like any other modulation.

Only :mod:`benchmarks.structures` builds these; no recipe does. ``B`` items, ``T`` frames, ``F`` features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edge_tse.frame import FrameSpec
from edge_tse.nn.stage import Depthwise, Film, Modulated, Stage, StageConfig
from edge_tse.nn.student import Student, StudentConfig

__all__ = ["BandConfig", "BandStage", "BandStem", "BandStudent", "SharedLinear", "int8_bytes", "macs_per_hop", "state_bytes"]


@dataclass(frozen=True, kw_only=True)
class BandConfig:
    """A stack of band-shared blocks."""

    groups: int
    """Neighbouring bands in a group: ``bands / groups``; must divide the spatial bands too."""
    channels: int
    hidden: int
    dilations: tuple[int, ...]


class SharedLinear(nn.Linear):
    """A matrix applied ``uses`` times a hop, to the last axis."""

    def __init__(self, inputs: int, outputs: int, uses: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.uses = uses


class BandStem(nn.Module):
    """Features by group through one shared matrix: ``[B, T, F] -> [B, T, K * C]``."""

    order: Tensor

    def __init__(self, frame: FrameSpec, groups: int, channels: int) -> None:
        super().__init__()
        if frame.bands % groups or frame.spatial_bands % groups:
            raise ValueError(f"{groups} groups do not divide {frame.bands} bands and {frame.spatial_bands} spatial bands")
        self.groups = groups
        blocks = torch.arange(frame.features).split([frame.bands, *[frame.spatial_bands] * 3])
        self.register_buffer("order", torch.cat([b.unflatten(0, (groups, -1)) for b in blocks], dim=1).flatten(), persistent=False)
        self.linear = SharedLinear(frame.features // groups, channels, groups)

    def forward(self, features_BTF: Tensor) -> Tensor:
        return self.linear(features_BTF[..., self.order].unflatten(-1, (self.groups, -1))).flatten(-2)


class BandHead(nn.Module):
    """One shared matrix from a group's channels to its bands: ``[B, T, K * C] -> [B, T, G]``."""

    def __init__(self, frame: FrameSpec, groups: int, channels: int) -> None:
        super().__init__()
        self.groups = groups
        self.linear = SharedLinear(channels, frame.bands // groups, groups)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.linear(x_BTC.unflatten(-1, (self.groups, -1))).flatten(-2)


class BandBlock(nn.Module):
    """``x + project(relu(norm(expand(mix(film(depthwise(x)))))))``; ``mix`` is across groups, expand and project within one."""

    one: Tensor
    zero: Tensor

    def __init__(self, config: BandConfig, taps: int, dilation: int) -> None:
        super().__init__()
        k, c, h = config.groups, config.channels, config.hidden
        self.groups = k
        self.depthwise = Depthwise(k * c, taps, dilation)
        self.mix = SharedLinear(k, k, c, bias=False)
        self.expand = Modulated(c, h)
        self.expand.linear = SharedLinear(c, h, k, bias=False)
        self.project = SharedLinear(h, c, k)
        self.register_buffer("one", torch.ones(1, h), persistent=False)
        self.register_buffer("zero", torch.zeros(1, h), persistent=False)
        with torch.no_grad():
            self.mix.weight.mul_(0.3).add_(torch.eye(k))
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x_BTC: Tensor, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
        h = self.depthwise(x_BTC)
        h = torch.addcmul(shift_BC[:, None].to(h.dtype), h, scale_BC[:, None].to(h.dtype)).unflatten(-1, (self.groups, -1))
        h = self.mix(h.transpose(-1, -2)).transpose(-1, -2)
        # Groups take the place of time: moments are per hidden channel, over all groups.
        h = self.expand(h.flatten(0, 1), self.one, self.zero)
        return self.project(h).unflatten(0, x_BTC.shape[:2]).flatten(-2)


class BandStage(nn.Module):
    """Band-shared blocks on one residual stream and, in a mixture, a stage of the usual kind after them."""

    def __init__(self, config: BandConfig, taps: int, then: StageConfig | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(BandBlock(config, taps, d) for d in config.dilations)
        self.enter = None if then is None else nn.Linear(config.groups * config.channels, then.channels)
        self.then = None if then is None else Stage(then, taps)

    def forward(self, x_BTC: Tensor, films: list[Film]) -> Tensor:
        for block, (scale, shift) in zip(self.blocks, films, strict=False):
            x_BTC = x_BTC + block(x_BTC, scale, shift)
        if self.enter is None or self.then is None:
            return x_BTC
        return self.then(self.enter(x_BTC), films[len(self.blocks) :])


class BandStudent(Student):
    """A student whose mask stage starts band-shared. ``mixture``: its own stage follows; else band-shared throughout."""

    def __init__(self, config: StudentConfig, bands: BandConfig, mixture: bool) -> None:
        width = bands.groups * bands.channels
        hidden = [width] * len(bands.dilations) + [config.mask.hidden] * len(config.mask.dilations) * mixture
        later = config.refine
        super().__init__(config if mixture else replace(config, mask=StageConfig(width, width, bands.dilations)))
        self.config = config
        frame = config.frame
        self.stem = BandStem(frame, bands.groups, bands.channels)
        self.mask: nn.Module = BandStage(bands, config.taps, config.mask if mixture else None)  # type: ignore[assignment]
        if not mixture:
            self.mask_head = BandHead(frame, bands.groups, bands.channels)
        films = {f"mask_{i}": nn.Linear(config.code, 2 * n) for i, n in enumerate(hidden)}
        films |= {f"refine_{i}": nn.Linear(config.code, 2 * later.hidden) for i in range(len(later.dilations))}
        self.films = nn.ModuleDict(films)


def _on_device(student: Student) -> Iterator[nn.Linear | Depthwise]:
    """The layers of a personalised device: modulation heads run once a voice, elsewhere."""
    once = {id(m) for part in (student.code, student.films, student.time) for m in part.modules()}
    for module in student.modules():
        if isinstance(module, nn.Linear | Depthwise) and id(module) not in once:
            yield module


def macs_per_hop(student: Student) -> int:
    """Multiply-accumulates of one hop on a personalised device."""
    return sum(layer.weight.numel() * int(getattr(layer, "uses", 1)) for layer in _on_device(student))


def int8_bytes(student: Student) -> int:
    """Constants of a personalised device: int8 weights, and a bias (int32) and a scale (float32) for every output channel."""
    outputs = (layer.weight.shape[1 if isinstance(layer, Depthwise) else 0] for layer in _on_device(student))
    return sum(layer.weight.numel() for layer in _on_device(student)) + 8 * sum(outputs)


def state_bytes(student: Student) -> int:
    """int8 frames that the taps of a personalised device look back on."""
    taps = (layer for layer in _on_device(student) if isinstance(layer, Depthwise))
    return sum((layer.weight.shape[0] - 1) * layer.dilation * layer.weight.shape[1] for layer in taps)
