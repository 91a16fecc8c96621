"""Mask2Flow-TSE as published: a mask that deletes in the log-mel domain, then a rectified flow that inserts. Not causal.

Moon et al., "Mask2Flow-TSE: two-stage target speaker extraction with masking and flow matching" (arXiv 2603.12837): stage 1 takes
the mixture's log-mel spectrogram ``X`` to the masked one, stage 2 is a diffusion transformer (DiT; Peebles & Xie, ICCV 2023) that
predicts the velocity from there to the talker's: ``X_t = (1 - t) X_masked + t Y`` has the velocity ``Y - X_masked``, and one Euler
step is taken at t = 0.

A mask that multiplies a log-mel level would *raise* whatever is below 0; here the mask is a gain in the log domain, never above 0.
``B`` items, ``E`` ears, ``N`` samples, ``T`` frames, ``M`` mel bands, ``C`` channels, ``D`` dimensions of a voice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.frame import FrameSpec
from edge_tse.nn.mel import MelFront, MelSpec

__all__ = [
    "MAX_GAIN",
    "MINI",
    "PAPER_V1",
    "PAPER_V2",
    "SOLVERS",
    "TINY",
    "FlowConfig",
    "Mask2Flow",
    "Mask2FlowConfig",
    "MaskConfig",
    "Paths",
    "Solver",
    "integrate",
]

Solver = Literal["euler", "heun"]
SOLVERS: tuple[Solver, ...] = ("euler", "heun")

MAX_GAIN = 2.0
"""Largest gain of resynthesis: the student reaches no further, and a wild velocity must not be heard."""


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """Stage 1."""

    kind: Literal["recurrent", "convolutional"]
    """Recurrent: plain convolutions, then two bidirectional LSTM layers (first version of the paper). Convolutional: blocks of
    lightweight convolution (second version)."""
    channels: int
    kernels: tuple[int, ...]
    """Kernel length in frames of each convolutional layer (or block)."""
    hidden: int = 0
    """Units of each direction of the LSTM."""
    heads: int = 8
    """Filters of a lightweight convolution; its channels share them in equal parts."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Stage 2."""

    blocks: int
    width: int
    heads: int
    ratio: int = 2
    """Width of the feed-forward layers, hidden over outer."""


@dataclass(frozen=True, kw_only=True)
class Mask2FlowConfig:
    """Everything that shapes the networks."""

    mask: MaskConfig
    flow: FlowConfig
    mel: MelSpec = field(default_factory=MelSpec)
    frame: FrameSpec = field(default_factory=FrameSpec)
    """Geometry of the student, in which voices are enrolled and gains are taught."""
    embedding: int = 128


_PAPER_FLOW = FlowConfig(blocks=9, width=768, heads=8)
PAPER_V1 = Mask2FlowConfig(
    mask=MaskConfig(kind="recurrent", channels=512, kernels=(5, 5, 5, 5), hidden=416),
    flow=_PAPER_FLOW,
)
PAPER_V2 = Mask2FlowConfig(
    mask=MaskConfig(kind="convolutional", channels=512, kernels=(3, 7, 15, 31)),
    flow=_PAPER_FLOW,
)
MINI = Mask2FlowConfig(
    mask=MaskConfig(kind="convolutional", channels=160, kernels=(3, 7, 15, 31)),
    flow=FlowConfig(blocks=5, width=192, heads=4),
)
TINY = Mask2FlowConfig(
    mask=MaskConfig(kind="recurrent", channels=24, kernels=(3, 3), hidden=16),
    flow=FlowConfig(blocks=2, width=32, heads=2),
)


class _Film(nn.Module):
    """Scale and shift of each channel by the voice, after layer normalisation: ``[B, T, C], [B, D] -> [B, T, C]``."""

    def __init__(self, channels: int, voice: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.modulation = nn.Linear(voice, 2 * channels)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BTC: Tensor, voice_BD: Tensor) -> Tensor:
        scale, shift = self.modulation(voice_BD)[:, None].chunk(2, dim=-1)
        return self.norm(x_BTC) * (1 + scale) + shift


def _opening(channels: int, mels: int) -> nn.Linear:
    """Last layer of a mask that begins by taking about 6 dB."""
    head = nn.Linear(channels, mels)
    nn.init.constant_(head.bias, -1.0)
    return head


class _RecurrentMask(nn.Module):
    """Plain convolutions with the voice as scale and shift, the voice beside their output into a bidirectional LSTM."""

    def __init__(self, config: MaskConfig, mels: int, voice: int) -> None:
        super().__init__()
        widths = [mels, *[config.channels] * len(config.kernels)]
        self.layers = nn.ModuleList(
            nn.Conv1d(a, b, k, padding=k // 2) for a, b, k in zip(widths, widths[1:], config.kernels, strict=False)
        )
        self.films = nn.ModuleList(_Film(config.channels, voice) for _ in config.kernels)
        self.recurrent = nn.LSTM(config.channels + voice, config.hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.settle = nn.Linear(2 * config.hidden, config.channels)
        self.head = _opening(config.channels, mels)

    def forward(self, level_BTM: Tensor, voice_BD: Tensor) -> Tensor:
        x = level_BTM
        for layer, film in zip(self.layers, self.films, strict=True):
            x = functional.silu(film(layer(x.transpose(1, 2)).transpose(1, 2), voice_BD))
        x = torch.cat([x, voice_BD[:, None].expand(-1, x.shape[1], -1).to(x.dtype)], dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # cells sum over time: in bfloat16 they forget
            x, _ = self.recurrent(x.float())
        return self.head(functional.silu(self.settle(x)))


class _LightweightBlock(nn.Module):
    """Gated input, a filter shared by all channels of a head (softmax over its taps), feed-forward; each on the residual stream.

    Wu et al., "Pay less attention with lightweight and dynamic convolutions" (ICLR 2019).
    """

    def __init__(self, channels: int, kernel: int, heads: int, voice: int) -> None:
        super().__init__()
        self.before = _Film(channels, voice)
        self.gate = nn.Linear(channels, 2 * channels)
        self.taps = nn.Parameter(torch.randn(heads, kernel) * 0.1)
        self.mix = nn.Linear(channels, channels)
        self.between = _Film(channels, voice)
        self.expand = nn.Linear(channels, 4 * channels)
        self.contract = nn.Linear(4 * channels, channels)
        for last in (self.mix, self.contract):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x_BTC: Tensor, voice_BD: Tensor) -> Tensor:
        h = functional.glu(self.gate(self.before(x_BTC, voice_BD)), dim=-1)
        x_BTC = x_BTC + self.mix(self._filter(h))
        return x_BTC + self.contract(functional.silu(self.expand(self.between(x_BTC, voice_BD))))

    def _filter(self, h_BTC: Tensor) -> Tensor:
        heads, kernel = self.taps.shape
        taps = self.taps.softmax(dim=-1).repeat_interleave(h_BTC.shape[-1] // heads, dim=0)
        image = h_BTC.transpose(1, 2)[..., None]  # an image of width 1: fast forwards and backwards on CPU
        out = functional.conv2d(image, taps[:, None, :, None].to(h_BTC.dtype), padding=(kernel // 2, 0), groups=len(taps))
        return out[..., 0].transpose(1, 2)


class _ConvolutionalMask(nn.Module):
    """Blocks of lightweight convolution, the voice as scale and shift before each layer."""

    def __init__(self, config: MaskConfig, mels: int, voice: int) -> None:
        super().__init__()
        self.stem = nn.Linear(mels, config.channels)
        self.blocks = nn.ModuleList(_LightweightBlock(config.channels, k, config.heads, voice) for k in config.kernels)
        self.film = _Film(config.channels, voice)
        self.head = _opening(config.channels, mels)

    def forward(self, level_BTM: Tensor, voice_BD: Tensor) -> Tensor:
        x = self.stem(level_BTM)
        for block in self.blocks:
            x = block(x, voice_BD)
        return self.head(self.film(x, voice_BD))


def rotate(x_BHTC: Tensor) -> Tensor:
    """Rotary position embedding: pairs of channels turn with the frame number, so that products depend on distance alone.

    Su et al., "RoFormer" (2021); channel ``i`` pairs with channel ``i + C / 2``.
    """
    frames, channels = x_BHTC.shape[-2:]
    rate = 10000 ** (-torch.arange(0, channels, 2, device=x_BHTC.device, dtype=torch.float32) / channels)
    angle = torch.arange(frames, device=x_BHTC.device, dtype=torch.float32)[:, None] * rate
    cosine, sine = angle.cos().to(x_BHTC.dtype), angle.sin().to(x_BHTC.dtype)
    first, second = x_BHTC.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class DiTBlock(nn.Module):
    """Attention and feed-forward under AdaLN-Zero: the condition scales, shifts and gates each, and starts with gates of zero."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.expand = nn.Linear(width, ratio * width)
        self.contract = nn.Linear(ratio * width, width)

    def forward(self, x_BTC: Tensor, condition_BC: Tensor) -> Tensor:
        modulation = self.modulation(functional.silu(condition_BC))[:, None]
        shift, scale, gate, later_shift, later_scale, later_gate = modulation.chunk(6, dim=-1)
        h = self.norm(x_BTC) * (1 + scale) + shift
        query, key, value = self.query_key_value(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(rotate(query), rotate(key), value)
        x_BTC = x_BTC + gate * self.attended(mixed.transpose(1, 2).flatten(2))
        h = self.norm(x_BTC) * (1 + later_scale) + later_shift
        return x_BTC + later_gate * self.contract(functional.gelu(self.expand(h), approximate="tanh"))


class VelocityNetwork(nn.Module):
    """Stage 2: state and mixture side by side, ``2 x [B, T, M] -> [B, T, M]``, conditioned on time and voice."""

    _PHASES = 256

    def __init__(self, config: FlowConfig, mels: int, voice: int) -> None:
        super().__init__()
        width = config.width
        self.stem = nn.Linear(2 * mels, width)
        self.time = nn.Sequential(nn.Linear(self._PHASES, width), nn.SiLU(), nn.Linear(width, width))
        self.voice = nn.Linear(voice, width)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads, config.ratio) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, mels)
        for last in (self.modulation, self.head):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, state_BTM: Tensor, level_BTM: Tensor, voice_BD: Tensor, t_B: Tensor) -> Tensor:
        condition = self.time(self._phases(t_B)) + self.voice(voice_BD)
        x = self.stem(torch.cat([state_BTM, level_BTM], dim=-1))
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(functional.silu(condition))[:, None].chunk(2, dim=-1)
        return self.head(self.norm(x) * (1 + scale) + shift)

    @classmethod
    def _phases(cls, t_B: Tensor) -> Tensor:
        """Time in [0, 1] as sines and cosines, from one turn in 6 units to 160 turns in one."""
        half = cls._PHASES // 2
        rate = 1000 * torch.exp(-math.log(1000) * torch.arange(half, device=t_B.device) / half)
        angle = t_B[:, None] * rate
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


Field = Callable[[Tensor, Tensor], Tensor]
"""Function that gives the velocity at a state ``[B, ...]`` and times ``[B]``."""


def integrate(field: Field, start: Tensor, steps: int, solver: Solver = "euler") -> list[Tensor]:
    """States after each of ``steps`` equal steps from t = 0 to t = 1, beginning with ``start``.

    Euler takes one velocity a step. Heun (the explicit trapezoidal rule, second order) takes a second one where Euler would arrive
    and goes with their mean. ``ValueError`` if there are no steps.
    """
    if steps < 1:
        raise ValueError(f"{steps} steps: at least 1 is needed")
    states = [start]
    for k in range(steps):
        x = states[-1]
        now, then = (x.new_full((len(x),), at / steps) for at in (k, k + 1))
        velocity = field(x, now)
        if solver == "heun":
            velocity = (velocity + field(x + velocity / steps, then)) / 2
        states.append(x + velocity / steps)
    return states


class Paths(NamedTuple):
    """Stages of an extraction, all ``[B, T, M]``."""

    energy: Tensor
    """Energy of the mixture."""
    gains: list[Tensor]
    """Gains of the masked spectrogram, then after each step; the last one is the output's. At most :data:`MAX_GAIN`."""


class Mask2Flow(nn.Module):
    """Both stages and their front end. A voice is a unit vector ``[B, D]``."""

    def __init__(self, config: Mask2FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.mixed_precision = False
        """Whether matrices are multiplied in bfloat16 (levels, sums and losses stay float32)."""
        self.front = MelFront(config.mel)
        kinds = {"recurrent": _RecurrentMask, "convolutional": _ConvolutionalMask}
        self.mask: nn.Module = kinds[config.mask.kind](config.mask, config.mel.mels, config.embedding)
        self.flow = VelocityNetwork(config.flow, config.mel.mels, config.embedding)

    def apply_mask(self, level_BTM: Tensor, voice_BD: Tensor) -> Tensor:
        """Stage 1: levels of the masked spectrogram, nowhere above those of the mixture."""
        with self._precision(level_BTM.device):
            depth = self.mask(level_BTM, self._voice(voice_BD))
        return level_BTM - functional.softplus(depth.float())

    def velocity(self, state_BTM: Tensor, level_BTM: Tensor, voice_BD: Tensor, t_B: Tensor) -> Tensor:
        """Stage 2: velocity of the state at times ``t``, given the mixture's levels."""
        with self._precision(level_BTM.device):
            velocity = self.flow(state_BTM, level_BTM, self._voice(voice_BD), t_B)
        return velocity.float()

    def states(self, level_BTM: Tensor, voice_BD: Tensor, steps: int = 1, solver: Solver = "euler") -> list[Tensor]:
        """Levels after stage 1 and after each step of the flow."""

        def field(state: Tensor, t: Tensor) -> Tensor:
            return self.velocity(state, level_BTM, voice_BD, t)

        return integrate(field, self.apply_mask(level_BTM, voice_BD), steps, solver)

    def paths(self, spectra: Tensor, voice_BD: Tensor, steps: int = 1, solver: Solver = "euler") -> Paths:
        """Masked spectrogram and states of the flow as gains on the mixture ``[B, E, T, K]``."""
        energy = self.front.energy(spectra)
        level = self.front.level(energy, energy)
        states = self.states(level, voice_BD, steps, solver)
        return Paths(energy, [(10 ** (state - level)).clamp(max=MAX_GAIN) for state in states])

    def forward(self, mixture_BEN: Tensor, voice_BD: Tensor, steps: int = 1, solver: Solver = "euler") -> Tensor:
        """Extract the talker, ``[B, E, N] -> [B, E, N]``, without delay."""
        spectra = self.front.analyze(mixture_BEN)
        gains = self.paths(spectra, voice_BD, steps, solver).gains[-1]
        return self.front.synthesize(self.front.amplify(spectra, gains), mixture_BEN.shape[-1])

    def band_gains(self, mixture_BEN: Tensor, voice_BD: Tensor, steps: int = 1, solver: Solver = "euler") -> tuple[Tensor, Tensor]:
        """Targets for a student: mask in [0, 1] and velocity in [-1, 1] of its own bands and hops, ``[B, hops, G]`` each.

        The student's gain ``relu(mask + velocity)`` is then that of this network's output. ``N`` must be whole hops of ``frame``.
        """
        frame = self.config.frame
        gains = self.paths(self.front.analyze(mixture_BEN), voice_BD, steps, solver).gains
        hops = mixture_BEN.shape[-1] // frame.hop
        mask, out = (self.front.band_gains(g, frame, hops) for g in (gains[0], gains[-1]))
        return mask, (out - mask).clamp(-1, 1)

    def _voice(self, voice_BD: Tensor) -> Tensor:
        """Unit vector scaled so that its entries are of the order of 1."""
        return voice_BD * math.sqrt(voice_BD.shape[-1])

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.mixed_precision)
