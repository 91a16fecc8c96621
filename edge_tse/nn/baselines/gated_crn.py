"""A gated convolutional-recurrent network with local and global enrollment, causal, with a complex gain.

Convolutions over time and frequency whose outputs gate themselves (Tan & Wang, "Learning complex spectral mapping with gated
convolutional recurrent networks", TASLP 2020), told of the voice twice, after LGR-TSE: the embedding enters where the network is
narrowest, and each layer of the way down is scaled and shifted by the average of the enrollment encoder's layer that matches it.
One recurrent layer stands for the paper's grouped ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.nn.baselines.baseline import BaselineConfig, SpectralBaseline, compress
from edge_tse.nn.encoder import BLOCKS
from edge_tse.nn.moments import BatchNorm2d

__all__ = ["GATED_CRN", "GatedCrn", "GatedCrnConfig"]


@dataclass(frozen=True, kw_only=True)
class GatedCrnConfig(BaselineConfig):
    """Sizes of a gated convolutional-recurrent network."""

    channels: tuple[int, ...] = (8, 16, 24, 32, 32)
    """Channels of each layer on the way down, each of half as many bins as the one before."""
    hidden: int = 128

    def make(self) -> GatedCrn:
        return GatedCrn(self)


GATED_CRN = GatedCrnConfig(local=True)


class _Gated(nn.Module):
    """Two convolutions, one of which gates the other, normalised: ``[B, C, T, F] -> [B, C', T, F']``, F halved or doubled."""

    def __init__(self, channels: int, out: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.both: nn.Module = (
            nn.ConvTranspose2d(channels, 2 * out, (1, 4), (1, 2), (0, 1))
            if up
            else nn.Conv2d(channels, 2 * out, (2, 3), (1, 2), (0, 1))
        )
        self.norm = BatchNorm2d(out, momentum=0.02)

    def forward(self, x_BCTF: Tensor) -> Tensor:
        # Only the way down looks back, by one frame.
        carried, gate = self.both(x_BCTF if self.up else functional.pad(x_BCTF, (0, 0, 1, 0))).chunk(2, dim=1)
        return self.norm(carried * gate.sigmoid())


class GatedCrn(SpectralBaseline):
    """Down, a recurrent layer, and up again with the layers of the way down beside it."""

    config: GatedCrnConfig

    def __init__(self, config: GatedCrnConfig) -> None:
        super().__init__(config)
        ways = list(pairwise((2, *config.channels)))
        self.down = nn.ModuleList(_Gated(a, b, up=False) for a, b in ways)
        self.up = nn.ModuleList(_Gated(2 * b, 2 * a if a == 2 else a, up=True) for a, b in reversed(ways))
        narrow = config.channels[-1] * ((self.bins - 1) >> len(ways))
        self.recurrent = nn.LSTM(narrow + config.embedding, config.hidden, batch_first=True)
        self.widen = nn.Linear(config.hidden, narrow)
        heard = (config.voice_size - config.embedding) // BLOCKS if config.local else config.embedding
        self.films = nn.ModuleList(nn.Linear(heard, 2 * out) for out in config.channels)
        self.out = nn.Conv2d(4, 2, 1)
        for film in self.films:
            assert isinstance(film, nn.Linear)
            nn.init.zeros_(film.weight)
            nn.init.zeros_(film.bias)

    def gains(self, spectra_BTK: Tensor, voice_BV: Tensor) -> Tensor:
        voice_BE, local_BL = voice_BV.split([self.config.embedding, self.config.voice_size - self.config.embedding], dim=-1)
        voice_BE = voice_BE * voice_BE.shape[-1] ** 0.5
        layers = local_BL.chunk(BLOCKS, dim=-1) if self.config.local else (voice_BE,) * BLOCKS
        x_BCTF = torch.view_as_real(compress(spectra_BTK))[:, :, 1:].permute(0, 3, 1, 2)
        passed = []
        for i, (down, film) in enumerate(zip(self.down, self.films, strict=True)):
            scale, shift = film(layers[i * BLOCKS // len(self.down)])[:, :, None, None].chunk(2, dim=1)
            x_BCTF = functional.elu(down(x_BCTF) * (1 + scale) + shift)
            passed.append(x_BCTF)
        flat_BTC = x_BCTF.transpose(1, 2).flatten(2)
        told_BTE = voice_BE[:, None].expand(-1, flat_BTC.shape[1], -1)
        h_BTC, _ = self.recurrent(torch.cat([flat_BTC, told_BTE], dim=-1))
        x_BCTF = self.widen(h_BTC).unflatten(-1, (x_BCTF.shape[1], x_BCTF.shape[3])).transpose(1, 2)
        for up in self.up:
            x_BCTF = functional.elu(up(torch.cat([x_BCTF, passed.pop()], dim=1)))
        gain = self.out(x_BCTF).permute(0, 2, 3, 1).float().contiguous()
        # Bounded as the student's gains are; the constant of the spectrum, which nobody says, is left out.
        return functional.pad(torch.view_as_complex(2 * (gain / 2).tanh()), (1, 0))
