"""The front end of :mod:`edge_tse.frame` in torch, batched and differentiable; a test holds the two equal."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_tse.beam import LOUDEST_RATIO, RATIO_FLOOR, RATIO_SLOPE
from edge_tse.frame import FrameSpec
from edge_tse.level import LEVEL_ATTACK, LEVEL_OFFSET, LEVEL_QUIETEST, LEVEL_REFERENCE, LEVEL_RELEASE, LEVEL_SLOPE, POWER_FLOOR
from edge_tse.nn.beam import beamform

__all__ = ["TorchFront"]

_FLOOR = float(POWER_FLOOR)
_ATTACK, _RELEASE = float(LEVEL_ATTACK), float(LEVEL_RELEASE)
_QUIETEST, _REFERENCE = float(LEVEL_QUIETEST), float(LEVEL_REFERENCE)
_RATIO_FLOOR, _LOUDEST_RATIO = float(RATIO_FLOOR), float(LOUDEST_RATIO)


class TorchFront(nn.Module):
    """``B`` items, ``E`` ears, ``N`` samples, ``T`` frames, ``K`` bins, ``G`` bands."""

    analysis: Tensor
    synthesis: Tensor
    band_sum: Tensor
    part_sum: Tensor

    def __init__(self, frame: FrameSpec) -> None:
        super().__init__()
        self.frame = frame
        self.register_buffer("analysis", torch.from_numpy(frame.analysis_window.copy()), persistent=False)
        self.register_buffer("synthesis", torch.from_numpy(frame.synthesis_window.copy()), persistent=False)
        band = torch.from_numpy(frame.band_of_bin.copy())
        self.register_buffer("band_sum", functional.one_hot(band, frame.bands).float(), persistent=False)
        self.register_buffer("part_sum", self.band_sum.repeat_interleave(2, dim=0), persistent=False)
        self.unit = float(frame.power_unit)

    def analyze(self, signal: Tensor) -> Tensor:
        """Spectra of signals, ``[B, E, N] -> complex [B, E, T, K]``; ``N`` must be whole hops."""
        padded = functional.pad(signal, (self.frame.window - self.frame.hop, 0))
        return torch.fft.rfft(padded.unfold(-1, self.frame.window, self.frame.hop) * self.analysis)

    def synthesize(self, spectra: Tensor) -> Tensor:
        """Signals of spectra, ``complex [B, E, T, K] -> [B, E, N]``, delayed by ``frame.delay``."""
        hop = self.frame.hop
        tail = torch.fft.irfft(spectra, self.frame.window)[..., -2 * hop :] * self.synthesis
        out = tail[..., :hop] + functional.pad(tail[..., :-1, hop:], (0, 0, 1, 0))
        return out.flatten(-2)

    def energy(self, spectra: Tensor) -> Tensor:
        """Band energies relative to a full-scale sine, ``[B, E, T, K] -> [B, E, T, G]``."""
        return _parts(spectra).square() @ self.part_sum * self.unit

    def loudness(self, spectra: Tensor) -> Tensor:
        """Mean of both ears' band energies, ``[B, E, T, K] -> [B, T, G]``, for the price of one: ears are added before bins."""
        return _parts(spectra).square().mean(dim=1) @ self.part_sum * self.unit

    def running_level(self, energy_BTG: Tensor) -> Tensor:
        """Factor ``[B, T, 1]`` that brings a slow running level of the sum over bands to -20 dB: fast to rise, 2 s to fall."""
        total_BT = energy_BTG.detach().sum(dim=-1)
        running, out = torch.zeros_like(total_BT[:, 0]), []
        for now in total_BT.unbind(dim=1):
            running = running + torch.where(now > running, _ATTACK, _RELEASE) * (now - running)
            out.append(running)
        return (_REFERENCE / torch.stack(out, dim=1).clamp_min(_QUIETEST))[..., None]

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """Real part of the band-summed cross spectrum, mean of both ears, ``2 x [B, E, T, K] -> [B, T, G]``."""
        return (_parts(left) * _parts(right)).mean(dim=1) @ self.part_sum * self.unit

    def features(self, spectra: Tensor) -> Tensor:
        """Features ``[B, E, T, K] -> [B, T, heard]`` in [-1, 1]: all but the beam's, which takes a mask."""
        frame = self.frame
        energy = self.energy(spectra)
        unit: float | Tensor = self.unit
        if frame.level_invariant:
            brought = self.running_level(energy.mean(dim=1))
            energy, unit = energy * brought[:, None], unit * brought
        levels = self.level(energy.mean(dim=1))
        if spectra.shape[1] == 1:
            return functional.pad(levels, (0, 3 * frame.spatial_bands))
        group = frame.bands // frame.spatial_bands
        per_ear = energy.unflatten(-1, (frame.spatial_bands, group)).sum(-1) + _FLOOR
        left, right = per_ear[:, 0], per_ear[:, 1]
        cross = spectra[:, 0] * spectra[:, 1].conj() * unit
        weight = (left * right).rsqrt()

        def sum_groups(x: Tensor) -> Tensor:
            return (x @ self.band_sum).unflatten(-1, (frame.spatial_bands, group)).sum(-1)

        level = (left / right).log10() * 0.5
        sine = sum_groups(cross.imag) * weight
        deviation = (1 - (sum_groups(cross.real) + _FLOOR) * weight) * 0.5
        return torch.cat([levels, torch.cat([level, sine, deviation], dim=-1).clamp(-1, 1)], dim=-1)

    def beam(self, spectra: Tensor, part_BTG: Tensor, loudness_BTG: Tensor) -> tuple[Tensor, Tensor]:
        """Beam pointed by the talker's part of each band, as two ears hear it, ``complex [B, 2, T, K]``, and its level features
        ``[B, T, G]``.

        Nowhere more than 3 dB louder than the mixture in a band, whose loudness is given.
        """
        return self.hold(beamform(spectra, self.over_bins(part_BTG), self.unit), loudness_BTG)

    def hold(self, beam: Tensor, loudness_BTG: Tensor) -> tuple[Tensor, Tensor]:
        """The beam, nowhere more than 3 dB louder than the mixture in a band, and its level features ``[B, T, G]``."""
        ratio = (self.loudness(beam) + _RATIO_FLOOR) / (loudness_BTG + _RATIO_FLOOR)
        held = (_LOUDEST_RATIO / ratio.detach()).clamp_max(1).sqrt()
        return self.amplify(beam, held), (ratio.log2() * float(RATIO_SLOPE)).clamp(-1, 1)

    def remaining(self, heard: Tensor, loudness_BTG: Tensor) -> Tensor:
        """Amplitude left of each band in what both ears hear of a mixture, ``complex [B, 2, T, K] -> [B, T, G]`` in [0, 1]."""
        return ((self.loudness(heard) + _RATIO_FLOOR) / (loudness_BTG + _RATIO_FLOOR)).clamp_max(1).sqrt()

    @staticmethod
    def level(energy: Tensor) -> Tensor:
        """Energy relative to a full-scale sine to [-1, 1], linear in dB from -90 to -10."""
        return ((energy + _FLOOR).log() * (float(LEVEL_SLOPE) / math.log(10)) + float(LEVEL_OFFSET)).clamp(-1, 1)

    def over_bins(self, of_bands: Tensor) -> Tensor:
        """Values of bands at their bins, ``[..., G] -> [..., K]``: a product, whose gradient is far cheaper than an index's."""
        return of_bands @ self.band_sum.T

    def amplify(self, spectra: Tensor, band_gains: Tensor) -> Tensor:
        """Shared band gains on every ear, ``[B, E, T, K], [B, T, G] -> [B, E, T, K]``."""
        amplified = _parts(spectra) * (band_gains @ self.part_sum.T)[:, None]
        return torch.view_as_complex(amplified.unflatten(-1, (-1, 2)))


def _parts(spectra: Tensor) -> Tensor:
    """Real and imaginary parts side by side, ``complex [..., K] -> [..., 2 K]``: real numbers multiply several times as fast."""
    return torch.view_as_real(spectra).flatten(-2)
