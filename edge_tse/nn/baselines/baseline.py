"""What all baselines share: sound in, sound out, each ear by itself, as late as they say.

``B`` items, ``E`` ears, ``N`` samples, ``T`` frames, ``K`` bins, ``C`` channels, ``V`` values of a voice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edge_tse.frame import FrameSpec
from edge_tse.nn.encoder import BLOCKS, CHANNELS
from edge_tse.nn.front import TorchFront
from edge_tse.nn.moments import BatchNorm1d

__all__ = ["Baseline", "BaselineConfig", "CausalNorm", "SpectralBaseline", "compress"]

COMPRESSION = 0.3
"""Exponent of magnitudes that a spectral network hears."""


@dataclass(frozen=True, kw_only=True)
class BaselineConfig(ABC):
    """Sizes of a baseline, beside what it shares with the students."""

    frame: FrameSpec = field(default_factory=lambda: FrameSpec(level_invariant=True))
    """Geometry in which voices are enrolled, and in which spectral baselines hear."""
    embedding: int = 128
    local: bool = False
    """Whether the averages of the enrollment encoder's layers are heard too."""

    @property
    def voice_size(self) -> int:
        """Values that describe a talker: the embedding, then the averages of each layer."""
        return self.embedding + (BLOCKS * CHANNELS if self.local else 0)

    @abstractmethod
    def make(self) -> Baseline:
        """A network of these sizes with random weights."""


class Baseline(nn.Module, ABC):
    """An extractor of another structure than the student's, to be trained on the same sound and judged by the same scores."""

    def __init__(self, config: BaselineConfig, *, hop: int, delay: int) -> None:
        super().__init__()
        self.config, self.hop, self.delay = config, hop, delay
        self.front = TorchFront(config.frame)
        self.mixed_precision = False
        """Whether matrices are multiplied in bfloat16."""

    @property
    def latency_s(self) -> float:
        """Algorithmic latency in seconds: what the output lags, and the hop that must be there first."""
        return (self.delay + self.hop) / self.config.frame.sample_rate_hz

    def forward(self, mixture_BEN: Tensor, voice_BV: Tensor) -> Tensor:
        """The talker, ``[B, E, N]``, ``delay`` samples late; ``N`` must be whole hops of the config's frame."""
        if voice_BV.shape[-1] != self.config.voice_size:
            raise ValueError(f"a voice of {voice_BV.shape[-1]} values, this baseline takes {self.config.voice_size}")
        ears = mixture_BEN.shape[1]
        with torch.autocast(mixture_BEN.device.type, torch.bfloat16, enabled=self.mixed_precision):
            found = self.extract(mixture_BEN.flatten(0, 1), voice_BV.repeat_interleave(ears, dim=0))
        return found.float().unflatten(0, (-1, ears))

    @abstractmethod
    def extract(self, mixture_BN: Tensor, voice_BV: Tensor) -> Tensor:
        """The talker in one ear's sound, ``[B, N]``, ``delay`` samples late."""

    def steady(self, energy_BT: Tensor) -> Tensor:
        """Amplitude ``[B, T, 1]`` by which a slow running level of energies (of a full-scale sine: 1) comes to -20 dB."""
        return self.front.running_level(energy_BT[..., None]).sqrt()


class SpectralBaseline(Baseline):
    """A baseline that multiplies the student's own spectra, so that its latency is the student's."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__(config, hop=config.frame.hop, delay=config.frame.delay)
        self.bins = config.frame.window // 2 + 1

    def extract(self, mixture_BN: Tensor, voice_BV: Tensor) -> Tensor:
        spectra_BTK = self.front.analyze(mixture_BN[:, None])[:, 0]
        level = self.steady(self.front.energy(spectra_BTK).sum(dim=-1)) * self.front.unit**0.5
        return self.front.synthesize(spectra_BTK * self.gains(spectra_BTK * level, voice_BV))

    @abstractmethod
    def gains(self, spectra_BTK: Tensor, voice_BV: Tensor) -> Tensor:
        """Real or complex gains ``[B, T, K]`` for spectra at a steady level."""


class CausalNorm(nn.Module):
    """Batch normalisation of the last dimension: a constant scale and shift once trained, so nothing of the future is heard."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = BatchNorm1d(channels, momentum=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def compress(spectra_BTK: Tensor) -> Tensor:
    """Complex spectra with magnitudes to the power of 0.3, phases kept."""
    return spectra_BTK * (spectra_BTK.abs().square() + 1e-8).pow((COMPRESSION - 1) / 2)
