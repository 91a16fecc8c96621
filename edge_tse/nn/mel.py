"""The log-mel front end of Mask2Flow-TSE, batched and differentiable, and the way back: mel gains on the mixture's own spectrum.

No vocoder: the phase, and with it what tells two ears where a sound is, stays that of the mixture.
``B`` items, ``E`` ears, ``N`` samples, ``T`` frames, ``K`` bins, ``M`` mel bands, ``G`` bands of a student.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.frame import FrameSpec

__all__ = ["MelFront", "MelSpec"]

_SILENCE = 1e-10


@dataclass(frozen=True)
class MelSpec:
    """Geometry of the log-mel front end; the defaults are the paper's."""

    sample_rate_hz: int = 16000
    n_fft: int = 1024
    window: int = 400
    hop: int = 160
    mels: int = 80
    floor_db: float = -50.0
    """Lowest level, relative to the mean energy of the mixture."""

    @property
    def bins(self) -> int:
        """Bins of one spectrum."""
        return self.n_fft // 2 + 1


class MelFront(nn.Module):
    """Sound to levels, gains to sound. Frame ``t`` is centred on sample ``t * hop``; ``N`` samples are ``N // hop + 1`` frames."""

    window: Tensor
    filters: Tensor
    spread: Tensor

    def __init__(self, spec: MelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.hann_window(spec.window), persistent=False)
        bins_hz = torch.linspace(0, spec.sample_rate_hz / 2, spec.bins, dtype=torch.float64)
        self.register_buffer("filters", _triangles(spec, bins_hz).float(), persistent=False)
        self.register_buffer("spread", _interpolation(spec, bins_hz).float(), persistent=False)

    def analyze(self, signal: Tensor) -> Tensor:
        """Spectra of signals, ``[B, E, N] -> complex [B, E, T, K]``; at least half an FFT of samples."""
        spec = self.spec
        spectra = torch.stft(
            signal.flatten(0, 1), spec.n_fft, spec.hop, spec.window, self.window.to(signal.dtype), return_complex=True
        )
        return spectra.transpose(1, 2).unflatten(0, signal.shape[:2])

    def synthesize(self, spectra: Tensor, samples: int) -> Tensor:
        """Signals of spectra, ``complex [B, E, T, K] -> [B, E, samples]``, without delay."""
        spec = self.spec
        flat = spectra.flatten(0, 1).transpose(1, 2)
        out = torch.istft(flat, spec.n_fft, spec.hop, spec.window, self.window, length=samples)
        return out.unflatten(0, spectra.shape[:2])

    def energy(self, spectra: Tensor) -> Tensor:
        """Energy, mean over the ears, ``complex [B, E, T, K] -> [B, T, M]``."""
        return (spectra.real.square() + spectra.imag.square()).mean(dim=1) @ self.filters

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Real part of the cross spectrum, summed like :meth:`energy`: ``2 x [B, E, T, K] -> [B, T, M]``."""
        return (left.real * right.real + left.imag * right.imag).mean(dim=1) @ self.filters

    def level(self, energy_BTM: Tensor, mixture_BTM: Tensor) -> Tensor:
        """Levels in units of 20 dB (log10 of amplitude) relative to the mean energy of the mixture; silence is at the floor.

        How loud a recording is does not reach the network, and a difference of 1 between levels is a gain of 10.
        """
        whole = mixture_BTM.mean(dim=(1, 2), keepdim=True) + _SILENCE
        return (energy_BTM / whole + 10 ** (self.spec.floor_db / 10)).log10() / 2

    def amplify(self, spectra: Tensor, gains_BTM: Tensor) -> Tensor:
        """Apply mel gains, the same on every ear and interpolated between the centres of the bands: ``[B, E, T, K]``."""
        return spectra * (gains_BTM @ self.spread)[:, None]

    def band_gains(self, gains_BTM: Tensor, frame: FrameSpec, hops: int) -> Tensor:
        """Mel gains as gains of the student's bands and hops, ``[B, hops, G]``.

        Mel to bin by the interpolation of :meth:`amplify` at the frequencies of the student's bins, bin to band by their mean. In
        time, linearly between frames: hop ``t`` of a student shapes the sound around sample ``t * frame.hop``.
        """
        bins_hz = torch.arange(frame.bins, dtype=torch.float64) * frame.sample_rate_hz / frame.window
        member = functional.one_hot(torch.from_numpy(frame.band_of_bin.copy()), frame.bands).double()
        to_band = _interpolation(self.spec, bins_hz) @ (member / member.sum(dim=0))
        banded = gains_BTM @ to_band.to(gains_BTM)
        place = torch.arange(hops, device=gains_BTM.device) * (frame.hop / self.spec.hop)
        last = gains_BTM.shape[1] - 1
        before = place.floor().long().clamp(max=last)
        part = (place - before).clamp(0, 1).to(gains_BTM)[:, None]
        return torch.lerp(banded[:, before], banded[:, (before + 1).clamp(max=last)], part)


def _mel(hz: Tensor) -> Tensor:
    """Frequency on O'Shaughnessy's mel scale, as HTK has it."""
    return 2595 * (1 + hz / 700).log10()


def _step_mel(spec: MelSpec) -> float:
    """Distance of neighbouring centres, of the first one from 0 and of the last one from half the rate."""
    return 2595 * math.log10(1 + spec.sample_rate_hz / 2 / 700) / (spec.mels + 1)


def _triangles(spec: MelSpec, bins_hz: Tensor) -> Tensor:
    """Filters ``[K, M]`` that rise and fall linearly in mel, 1 at their centres."""
    return _around_centres(_mel(bins_hz) / _step_mel(spec), spec)


def _interpolation(spec: MelSpec, bins_hz: Tensor) -> Tensor:
    """Interpolation weights ``[M, K]``: the same triangles with both ends held, so that every bin's weights sum to 1."""
    return _around_centres((_mel(bins_hz) / _step_mel(spec)).clamp(1, spec.mels), spec).T


def _around_centres(places_K: Tensor, spec: MelSpec) -> Tensor:
    """Triangle that is 1 at a centre (places are counted in steps) and falls to 0 at its neighbours."""
    return (1 - (places_K[:, None] - torch.arange(1, spec.mels + 1)).abs()).clamp_min(0)
