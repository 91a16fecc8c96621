"""A causal band-split recurrent network with a complex gain, told of the voice after its first block.

Luo & Yu, "Music source separation with band-split RNN" (TASLP 2023): groups of bins become one vector each, an LSTM runs along time
for every group with the same weights, then one across groups in both directions, several times over. The structure is TF-GridNet's
but for attention. Here the way along time is causal, and the voice scales and shifts each stream (as TF-GridNet does in "Look once
to hear", CHI 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_tse.nn.baselines.baseline import BaselineConfig, CausalNorm, SpectralBaseline, compress

__all__ = ["BAND_SPLIT", "BandSplit", "BandSplitConfig"]


@dataclass(frozen=True, kw_only=True)
class BandSplitConfig(BaselineConfig):
    """Sizes of a band-split network."""

    bands: tuple[int, ...] = (8,) * 8 + (16,) * 6 + (32, 32, 33)
    """Bins of each group, from the lowest: 257 altogether."""
    channels: int = 32
    along: int = 48
    """Units of the LSTM along time."""
    across: int = 24
    """Units of each direction of the LSTM across groups."""
    blocks: int = 3

    def make(self) -> BandSplit:
        return BandSplit(self)


BAND_SPLIT = BandSplitConfig()


class _Block(nn.Module):
    """Along time, then across groups, each on the residual stream ``[B, T, G, C]``."""

    def __init__(self, config: BandSplitConfig) -> None:
        super().__init__()
        self.norm, self.norm_across = CausalNorm(config.channels), CausalNorm(config.channels)
        self.along = nn.LSTM(config.channels, config.along, batch_first=True)
        self.from_along = nn.Linear(config.along, config.channels)
        self.across = nn.LSTM(config.channels, config.across, batch_first=True, bidirectional=True)
        self.from_across = nn.Linear(2 * config.across, config.channels)

    def forward(self, x_BTGC: Tensor) -> Tensor:
        items, _, groups, _ = x_BTGC.shape
        h, _ = self.along(self.norm(x_BTGC).transpose(1, 2).flatten(0, 1))
        x_BTGC = x_BTGC + self.from_along(h).unflatten(0, (items, groups)).transpose(1, 2)
        h, _ = self.across(self.norm_across(x_BTGC).flatten(0, 1))
        return x_BTGC + self.from_across(h).unflatten(0, (items, -1))


class BandSplit(SpectralBaseline):
    """Split into groups, blocks of two recurrences, a gain for each bin of each group."""

    config: BandSplitConfig

    def __init__(self, config: BandSplitConfig) -> None:
        super().__init__(config)
        assert sum(config.bands) == self.bins, f"groups of {sum(config.bands)} bins, {self.bins} are there"
        self.entries = nn.ModuleList(nn.Linear(2 * bins, config.channels) for bins in config.bands)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.film = nn.Linear(config.voice_size, 2 * config.channels)
        self.exits = nn.ModuleList(
            nn.Sequential(nn.Linear(config.channels, 2 * config.channels), nn.Tanh(), nn.Linear(2 * config.channels, 2 * bins))
            for bins in config.bands
        )
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def gains(self, spectra_BTK: Tensor, voice_BV: Tensor) -> Tensor:
        groups = torch.view_as_real(compress(spectra_BTK)).split(self.config.bands, dim=2)
        x_BTGC = torch.stack([entry(g.flatten(2)) for entry, g in zip(self.entries, groups, strict=True)], dim=2)
        scale, shift = self.film(voice_BV * voice_BV.shape[-1] ** 0.5)[:, None, None].chunk(2, dim=-1)
        for i, block in enumerate(self.blocks):
            x_BTGC = block(x_BTGC)
            if i == 0:
                x_BTGC = x_BTGC * (1 + scale) + shift
        gains = [leave(x_BTGC[:, :, i]).unflatten(-1, (-1, 2)) for i, leave in enumerate(self.exits)]
        return torch.view_as_complex(2 * (torch.cat(gains, dim=2).float() / 2).tanh())
