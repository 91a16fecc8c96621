"""The one statement of geometry: rate, hop, windows, bands, latency; and the streaming front end built on it.

The window pair is that of Mauler & Martin, "A low delay, variable resolution, perfect reconstruction spectral
analysis-synthesis system for speech enhancement" (EUSIPCO 2007): a long asymmetric analysis window gives frequency resolution,
and only its last ``synthesis`` samples are overlap-added, which sets the delay. Their product is a Hann window of ``synthesis``
samples, so at a hop of half that length the chain reconstructs perfectly.

Shapes are written ``[ears, samples]`` for signals, ``[frames, ears, bins]`` for spectra, ``[frames, features]`` for features.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL_OFFSET", "LEVEL_SLOPE", "POWER_FLOOR", "Analyzer", "FrameSpec", "Synthesizer"]

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]

POWER_FLOOR = np.float32(1e-9)
"""-90 dB relative to a full-scale sine: below any microphone's noise in a 31 Hz band."""
LEVEL_SLOPE, LEVEL_OFFSET = np.float32(0.25), np.float32(1.25)
"""Level of an energy is ``SLOPE * log10(energy) + OFFSET``: -90 dB becomes -1 and -10 dB becomes 1."""


@dataclass(frozen=True)
class FrameSpec:
    """Geometry of the streaming chain.

    Everything else that depends on it is derived here and nowhere else.
    """

    sample_rate_hz: int = 16000
    hop: int = 64
    """Samples per step."""
    window: int = 512
    """Samples of the analysis window, and the FFT length."""
    synthesis: int = 128
    """Samples of the synthesis window: the algorithmic latency."""
    ears: int = 2
    """Largest number of input channels; one channel runs on the same model."""
    bands: int = 96
    """Band energies seen and band gains applied."""
    fine_bands: int = 40
    """How many of the lowest bands are single FFT bins; the rest widen logarithmically."""
    spatial_bands: int = 32
    """Interaural bands, each a group of ``bands // spatial_bands`` neighbours."""

    def __post_init__(self) -> None:
        if self.synthesis != 2 * self.hop:
            raise ValueError(
                f"synthesis window {self.synthesis} must be twice the hop {self.hop}: Hann sums to one only at half overlap"
            )
        if not self.synthesis <= self.window:
            raise ValueError(f"synthesis window {self.synthesis} is longer than the analysis window {self.window}")
        if self.bands % self.spatial_bands:
            raise ValueError(f"{self.bands} bands do not divide into {self.spatial_bands} spatial bands")
        if not self.fine_bands < self.bands <= self.bins:
            raise ValueError(f"{self.bands} bands with {self.fine_bands} single-bin ones do not fit {self.bins} bins")

    @property
    def bins(self) -> int:
        return self.window // 2 + 1

    @property
    def period_s(self) -> float:
        """Seconds between steps: the deadline of one step."""
        return self.hop / self.sample_rate_hz

    @property
    def algorithmic_latency_s(self) -> float:
        """Delay that no faster computer removes: one synthesis window (it includes waiting for the hop to fill)."""
        return self.synthesis / self.sample_rate_hz

    @property
    def delay(self) -> int:
        """Samples by which output hop *t* lags input hop *t*; what alignment of files removes."""
        return self.synthesis - self.hop

    @property
    def features(self) -> int:
        """Network inputs per step: band levels, then interaural level, phase sine and phase deviation."""
        return self.bands + 3 * self.spatial_bands

    @cached_property
    def analysis_window(self) -> Float:
        """``[window]``: slow sqrt-Hann rise, fast sqrt-Hann fall over the last hop."""
        rise, fall = self.window - self.hop, self.hop
        long = np.sqrt(_hann(2 * rise))
        short = np.sqrt(_hann(2 * fall))
        window: Float = np.concatenate([long[:rise], short[fall:]]).astype(np.float32)
        return window

    @cached_property
    def synthesis_window(self) -> Float:
        """``[synthesis]``: what turns the analysis window's tail into a Hann window."""
        return (_hann(self.synthesis) / self.analysis_window[-self.synthesis :].astype(np.float64)).astype(np.float32)

    @cached_property
    def band_edges(self) -> NDArray[np.int64]:
        """``[bands + 1]`` FFT bins: band *b* holds bins ``edges[b]:edges[b + 1]``."""
        wide = self.bands - self.fine_bands
        edges = np.geomspace(self.fine_bands, self.bins, wide + 1)
        # Rounding a slow geometric series repeats bins: push each edge at least one bin past the one before it.
        out = np.rint(edges).astype(np.int64)
        for i in range(1, wide + 1):
            out[i] = max(out[i], out[i - 1] + 1)
        out[-1] = self.bins
        return np.concatenate([np.arange(self.fine_bands), out])

    @cached_property
    def band_of_bin(self) -> NDArray[np.int64]:
        """``[bins]``: which band's gain a bin takes."""
        return np.repeat(np.arange(self.bands), np.diff(self.band_edges))

    @cached_property
    def _spatial_groups(self) -> NDArray[np.int64]:
        """First band of each interaural band."""
        return np.arange(0, self.bands, self.bands // self.spatial_bands)

    @cached_property
    def _spatial_edges(self) -> NDArray[np.int64]:
        """First bin of each interaural band."""
        return self.band_edges[self._spatial_groups]

    @cached_property
    def _band_starts(self) -> NDArray[np.int64]:
        return self.band_edges[:-1]

    @cached_property
    def power_unit(self) -> np.float32:
        """Factor on ``|spectrum|**2`` that makes a full-scale sine 1.0 (0 dB)."""
        return np.float32(4.0 / float(self.analysis_window.sum()) ** 2)

    def _band_energy(self, spectrum: Complex) -> Float:
        real, imaginary = spectrum.real, spectrum.imag
        power = real * real
        power += imaginary * imaginary
        return np.add.reduceat(power, self._band_starts, axis=-1) * self.power_unit

    def band_levels(self, spectrum: Complex) -> Float:
        """Log-compressed band energies, ``[..., ears, bins] -> [..., bands]`` in [-1, 1].

        The mean energy of the ears, from -90 dB (-1) to -10 dB (+1) relative to a full-scale sine.
        """
        energy = _over_ears(self._band_energy(spectrum))
        return _level(energy, np.empty_like(energy))

    def frame_features(self, spectrum: Complex) -> Float:
        """Network inputs, ``[..., ears, bins] -> [..., features]`` in [-1, 1].

        Three interaural groups follow the band levels: level difference (left over right, 20 dB = 1), sine of the phase
        difference, and half of one minus its cosine, the last two weighted by energy within the band. All three are exactly
        zero for one channel and for two equal ones, so a mono model is the binaural model.
        """
        energy = self._band_energy(spectrum)
        out = np.zeros((*spectrum.shape[:-2], self.features), np.float32)
        _level(_over_ears(energy), out[..., : self.bands])
        if spectrum.shape[-2] == 2:
            per_ear = np.add.reduceat(energy, self._spatial_groups, axis=-1)
            per_ear += POWER_FLOOR
            left, right = per_ear[..., 0, :], per_ear[..., 1, :]
            cross = np.add.reduceat(spectrum[..., 0, :] * spectrum[..., 1, :].conj(), self._spatial_edges, axis=-1)
            cross = (cross * self.power_unit + POWER_FLOOR) / np.sqrt(left * right)
            n, spatial = self.spatial_bands, out[..., self.bands :]
            np.multiply(np.log10(left / right), np.float32(0.5), out=spatial[..., :n])
            spatial[..., n : 2 * n] = cross.imag
            np.multiply(1 - cross.real, np.float32(0.5), out=spatial[..., 2 * n :])
            _clip(spatial)
        return out

    def bin_gains(self, band_gains: Float) -> Float:
        """Band gains to bin gains, ``[..., bands] -> [..., bins]``."""
        return band_gains[..., self.band_of_bin]

    def analyze(self, signal: Float) -> Complex:
        """All frames of a signal at once, ``[ears, samples] -> [frames, ears, bins]``.

        The last hop is filled with zeros. Equal to feeding an :class:`Analyzer` hop by hop.
        """
        frames = -(-signal.shape[-1] // self.hop)
        padded = np.zeros((signal.shape[0], self.window - self.hop + frames * self.hop), np.float32)
        start = self.window - self.hop
        padded[:, start : start + signal.shape[-1]] = signal
        view = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=-1)[:, :: self.hop]
        spectra = np.fft.rfft(view * self.analysis_window, axis=-1).astype(np.complex64)
        return np.ascontiguousarray(spectra.transpose(1, 0, 2))

    def synthesize(self, spectra: Complex) -> Float:
        """Overlap-add of all frames, ``[frames, ears, bins] -> [ears, frames * hop]``, delayed by :attr:`delay`."""
        tail = np.fft.irfft(spectra, self.window, axis=-1)[..., -self.synthesis :].astype(np.float32) * self.synthesis_window
        out = tail[..., : self.hop].copy()
        out[1:] += tail[:-1, :, self.hop :]
        return np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(spectra.shape[1], -1)


class Analyzer:
    """Streaming analysis: keeps the last window of samples."""

    def __init__(self, frame: FrameSpec, ears: int) -> None:
        self._frame = frame
        self._history = np.zeros((ears, frame.window), np.float32)
        self._windowed = np.empty_like(self._history)

    def push(self, hop: Float) -> Complex:
        """``[ears, hop] -> [ears, bins]``."""
        n = self._frame.hop
        self._history[:, :-n] = self._history[:, n:]
        self._history[:, -n:] = hop
        np.multiply(self._history, self._frame.analysis_window, out=self._windowed)
        return np.fft.rfft(self._windowed, axis=-1).astype(np.complex64, copy=False)

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._history[:] = 0


class Synthesizer:
    """Streaming overlap-add: keeps the half window that the next hop completes."""

    def __init__(self, frame: FrameSpec, ears: int) -> None:
        self._frame = frame
        self._carry = np.zeros((ears, frame.hop), np.float32)

    def push(self, spectrum: Complex) -> Float:
        """``[ears, bins] -> [ears, hop]``, delayed by ``frame.delay`` samples."""
        frame = self._frame
        tail = np.fft.irfft(spectrum, frame.window, axis=-1)[:, -frame.synthesis :].astype(np.float32, copy=False)
        tail = tail * frame.synthesis_window
        out = tail[:, : frame.hop] + self._carry
        self._carry = tail[:, frame.hop :]
        return out

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._carry = np.zeros_like(self._carry)


def _hann(n: int) -> NDArray[np.float64]:
    """Periodic Hann window sampled at half-integers: no zero sample, and halves still sum to one."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    return window


def _over_ears(energy: Float) -> Float:
    """Mean over the ears, ``[..., ears, bands] -> [..., bands]``; ``mean`` itself costs as much as a Fourier transform."""
    return energy[..., 0, :] if energy.shape[-2] == 1 else np.add.reduce(energy, axis=-2) * np.float32(1 / energy.shape[-2])


def _level(energy: Float, out: Float) -> Float:
    """Energy relative to a full-scale sine -> [-1, 1], linear in dB, into ``out``."""
    np.log10(energy + POWER_FLOOR, out=out)
    out *= LEVEL_SLOPE
    out += LEVEL_OFFSET
    return _clip(out)


def _clip(x: Float) -> Float:
    """To [-1, 1], in place."""
    np.maximum(x, np.float32(-1), out=x)
    return np.minimum(x, np.float32(1), out=x)
