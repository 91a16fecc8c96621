"""A causal VoiceFilter: a recurrent network that masks magnitudes, told of the voice at every frame.

Wang et al., "VoiceFilter" (Interspeech 2019), in the causal form of "VoiceFilter-Lite" (Interspeech 2020): no convolutions that see
the future, recurrence in one direction. The mask is real, on the student's spectra, not on mel features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.nn.baselines.baseline import BaselineConfig, SpectralBaseline, compress

__all__ = ["VOICEFILTER", "VoiceFilter", "VoiceFilterConfig"]


@dataclass(frozen=True, kw_only=True)
class VoiceFilterConfig(BaselineConfig):
    """Sizes of a VoiceFilter."""

    channels: int = 192
    layers: int = 2

    def make(self) -> VoiceFilter:
        return VoiceFilter(self)


VOICEFILTER = VoiceFilterConfig()


class VoiceFilter(SpectralBaseline):
    """LSTM layers between two pointwise ones."""

    def __init__(self, config: VoiceFilterConfig) -> None:
        super().__init__(config)
        self.entry = nn.Linear(self.bins, config.channels)
        self.recurrent = nn.LSTM(config.channels + config.voice_size, config.channels, config.layers, batch_first=True)
        self.mask = nn.Linear(config.channels, self.bins)

    def gains(self, spectra_BTK: Tensor, voice_BV: Tensor) -> Tensor:
        x_BTC = functional.relu(self.entry(compress(spectra_BTK).abs()))
        voice_BTV = (voice_BV * voice_BV.shape[-1] ** 0.5)[:, None].expand(-1, x_BTC.shape[1], -1)
        h_BTC, _ = self.recurrent(torch.cat([x_BTC, voice_BTV], dim=-1))
        return self.mask(h_BTC).sigmoid().float()
