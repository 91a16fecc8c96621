"""Extractors in the time domain: a causal SpEx+, and a causal time-domain SpeakerBeam.

Both are Conv-TasNet (Luo & Mesgarani, TASLP 2019) with a voice: a learned filter bank, stacks of dilated convolutions, a mask on
the filter bank's output. SpEx+ (Ge et al., Interspeech 2020) hears three lengths of filters and is told the voice at the start of
each stack, beside the stream; time-domain SpeakerBeam (Delcroix et al., ICASSP 2020) hears one and multiplies the stream by it
once, after the first stack. What differs from the papers: filters and normalisation look into the past only, there is no second
network for the enrollment (the project's encoder enrolls), and SpEx+'s longer filters serve hearing alone, not resynthesis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.nn.baselines.baseline import Baseline, BaselineConfig, CausalNorm
from edge_tse.nn.stage import Depthwise

__all__ = ["SPEAKERBEAM", "SPEX", "TimeDomain", "TimeDomainConfig"]


@dataclass(frozen=True, kw_only=True)
class TimeDomainConfig(BaselineConfig):
    """Sizes of a time-domain extractor."""

    windows: tuple[int, ...]
    """Lengths of filters in samples; the first, of two hops, is the one that sound is made of again."""
    told: Literal["beside", "multiplied"]
    """How the voice enters: beside the stream at the start of each stack, or multiplied into it after the first."""
    filters: int = 128
    channels: int = 128
    hidden: int = 176
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    stacks: int = 2

    def make(self) -> TimeDomain:
        return TimeDomain(self)


SPEX = TimeDomainConfig(windows=(64, 160, 320), told="beside")
SPEAKERBEAM = TimeDomainConfig(windows=(64,), told="multiplied")


class _Block(nn.Module):
    """Pointwise, dilated taps, pointwise, on a residual stream ``[B, T, C]``; ``beside`` more channels are heard beside it."""

    def __init__(self, channels: int, hidden: int, dilation: int, beside: int = 0) -> None:
        super().__init__()
        self.expand = nn.Linear(channels + beside, hidden, bias=False)
        self.norm = CausalNorm(hidden)
        self.taps = Depthwise(hidden, 3, dilation)
        self.norm_after = CausalNorm(hidden)
        self.bend, self.bend_after = nn.PReLU(), nn.PReLU()
        self.project = nn.Linear(hidden, channels)
        nn.init.zeros_(self.project.weight)  # begins as the identity, as the student's blocks do
        nn.init.zeros_(self.project.bias)

    def forward(self, x_BTC: Tensor, beside_BV: Tensor | None = None) -> Tensor:
        heard = x_BTC
        if beside_BV is not None:
            heard = torch.cat([x_BTC, beside_BV[:, None].expand(-1, x_BTC.shape[1], -1)], dim=-1)
        h = self.norm(self.bend(self.expand(heard)))
        return x_BTC + self.project(self.norm_after(self.bend_after(self.taps(h))))


class TimeDomain(Baseline):
    """A learned filter bank, stacks of convolutions told of a voice, and a mask."""

    config: TimeDomainConfig

    def __init__(self, config: TimeDomainConfig) -> None:
        hop = config.windows[0] // 2
        super().__init__(config, hop=hop, delay=hop)
        self.analysis = nn.ModuleList(nn.Linear(window, config.filters, bias=False) for window in config.windows)
        self.entry = nn.Linear(len(config.windows) * config.filters, config.channels)
        beside = config.voice_size if config.told == "beside" else 0
        self.stacks = nn.ModuleList(
            nn.ModuleList(_Block(config.channels, config.hidden, d, 0 if i else beside) for i, d in enumerate(config.dilations))
            for _ in range(config.stacks)
        )
        self.factor = nn.Linear(config.voice_size, config.channels) if config.told == "multiplied" else None
        self.mask = nn.Linear(config.channels, config.filters)
        self.synthesis = nn.Linear(config.filters, config.windows[0], bias=False)

    def extract(self, mixture_BN: Tensor, voice_BV: Tensor) -> Tensor:
        voice_BV = voice_BV * voice_BV.shape[-1] ** 0.5
        windows = [self._windows(mixture_BN, window) for window in self.config.windows]
        level = self.steady(2 * windows[0].square().mean(dim=-1))
        banks = [functional.relu(filters(w)) for filters, w in zip(self.analysis, windows, strict=True)]
        x_BTC = self.entry(torch.cat(banks, dim=-1) * level)
        for i, stack in enumerate(self.stacks):
            if i == 1 and self.factor is not None:
                x_BTC = x_BTC * self.factor(voice_BV)[:, None]
            assert isinstance(stack, nn.ModuleList)
            for j, block in enumerate(stack):
                x_BTC = block(x_BTC, voice_BV if self.factor is None and not j else None)
        pieces = self.synthesis(banks[0] * self.mask(x_BTC).sigmoid())
        first, second = pieces.split(self.hop, dim=-1)
        return (first + functional.pad(second[:, :-1], (0, 0, 1, 0))).flatten(1)

    def _windows(self, mixture_BN: Tensor, window: int) -> Tensor:
        """Stretches of ``window`` samples that end with each hop, ``[B, T, window]``."""
        return functional.pad(mixture_BN, (window - self.hop, 0)).unfold(-1, window, self.hop)
