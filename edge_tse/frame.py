"""The only definition of geometry: rate, hop, windows, bands, latency; and the streaming front end built on it.

The window pair is that of Mauler & Martin, "A low delay, variable resolution, perfect reconstruction spectral
analysis-synthesis system for speech enhancement" (EUSIPCO 2007): a long asymmetric analysis window gives frequency resolution,
and only its last ``synthesis`` samples are overlap-added, which sets the delay. Their product is a Hann window of ``synthesis``
samples, so at a hop of half that length the chain reconstructs perfectly.

Shapes are written ``[ears, samples]`` for signals, ``[frames, ears, bins]`` for spectra, ``[frames, features]`` for features.

All results are defined to the bit: float32, each operation rounded once, sums in the order of the bins, and transform and
logarithm from :mod:`edge_tse.transform`. The C of the firmware does the same operations in the same order (``front_math.h``), so a
board gives the sound that this chain gives. docs/decisions/0018 has the reasons.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edge_tse.level import POWER_FLOOR, clip, level_of, over_ears
from edge_tse.transform import LOG10_2, RealTransform, log2, real_transform

__all__ = [
    "GAIN_LIFT",
    "LIFT",
    "SILENCE",
    "Analyzer",
    "FrameSpec",
    "Synthesizer",
]

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]

SILENCE = np.float32(2.0**-24)
"""Real and imaginary parts of a spectrum smaller than this, 188 dB below those of a full-scale sine, are zero."""
LIFT, GAIN_LIFT = np.float32(2.0**31), np.float32(2.0**70)
"""Powers of two that scale a signal up in its transform, and a spectrum in the inverse one, out of the subnormal range. Some vector
units take subnormal numbers for zero and others do not; 16-bit sound never gives any between :data:`SILENCE` and these
(docs/decisions/0018)."""
_LEAST_WINDOW = 8
_MOST = {
    "sample_rate_hz": 768_000,
    "hop": 2**15,
    "window": 2**16,
    "ears": 8,
    "bands": 2**15,
    "fine_bands": 2**15,
    "spatial_bands": 2**15,
}
"""Largest value of each field: nothing larger is a geometry of sound, and artifacts are read from files."""
_SINCE_FIRST = ("beam", "level_invariant")
_BLOCK = 64  # transforms at a time: what fits a cache


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
    """Bands: energies seen and gains applied."""
    fine_bands: int = 40
    """Number of lowest bands that are single FFT bins; the rest widen logarithmically."""
    spatial_bands: int = 32
    """Interaural bands, each a group of ``bands // spatial_bands`` neighbours."""
    # Voice files name a model by, among the rest, how its frame is written: what came later is left out of that.
    beam: bool = field(default=False, repr=False)
    """Whether two ears are beamformed: features then end with the beam's level in each band, and the network decides its share."""
    level_invariant: bool = field(default=False, repr=False)
    """Whether band energies are taken relative to a slow running level."""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}: 1 to {most} is possible")
        if self.synthesis != 2 * self.hop:
            raise ValueError(
                f"synthesis window {self.synthesis} must be twice the hop {self.hop}: Hann sums to one only at half overlap"
            )
        if self.window & (self.window - 1) or self.window < _LEAST_WINDOW:
            raise ValueError(
                f"analysis window {self.window} must be a power of two, {_LEAST_WINDOW} or more: its transform halves it"
            )
        if not self.synthesis <= self.window:
            raise ValueError(f"synthesis window {self.synthesis} is longer than the analysis window {self.window}")
        if self.bands % self.spatial_bands:
            raise ValueError(f"{self.bands} bands do not divide into {self.spatial_bands} spatial bands")
        if self.beam and self.ears != 2:
            raise ValueError(f"a beam takes two ears, not {self.ears}")
        if not self.fine_bands < self.bands <= self.bins:
            raise ValueError(f"{self.bands} bands with {self.fine_bands} single-bin ones do not fit {self.bins} bins")
        if int(np.diff(self.band_edges).min()) < 1:
            raise ValueError(f"{self.bands} bands with {self.fine_bands} single-bin ones leave one without any of {self.bins} bins")

    def to_json(self) -> dict[str, int | bool]:
        """The fields by name; those that older artifacts lack only where they are set, so that equal content gives equal bytes."""
        return {name: value for name, value in asdict(self).items() if value or name not in _SINCE_FIRST}

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
        """Lag of output hop *t* behind input hop *t* in samples; alignment of files removes it."""
        return self.synthesis - self.hop

    @property
    def features(self) -> int:
        """Network inputs per step: band levels, interaural level, phase sine and phase deviation, then those of the beam."""
        return self.heard + (self.bands if self.beam else 0)

    @property
    def heard(self) -> int:
        """Features that the first stage hears: all but the beam's, which is made with its mask."""
        return self.bands + 3 * self.spatial_bands

    @property
    def moves(self) -> tuple[str, ...]:
        """Decisions of a network for each band, in the order of its outputs; with a beam, also the share of it."""
        return ("mask", "velocity", "share") if self.beam else ("mask", "velocity")

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
        """Synthesis window ``[synthesis]``, whose product with the analysis window's tail is a Hann window."""
        return (_hann(self.synthesis) / self.analysis_window[-self.synthesis :].astype(np.float64)).astype(np.float32)

    @cached_property
    def band_edges(self) -> NDArray[np.int64]:
        """Edges ``[bands + 1]`` in FFT bins: band *b* holds bins ``edges[b]:edges[b + 1]``."""
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
        """Index of the band whose gain a bin takes, ``[bins]``."""
        return np.repeat(np.arange(self.bands), np.diff(self.band_edges))

    @cached_property
    def band_centres_hz(self) -> NDArray[np.float64]:
        """Middle frequency of each band, ``[bands]``."""
        centres: NDArray[np.float64] = (self.band_edges[:-1] + self.band_edges[1:] - 1) / 2 * self.sample_rate_hz / self.window
        return centres

    @cached_property
    def _members(self) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], ...]:
        """Bands that have a member, and its bin, for each position in a band but the first."""
        starts, sizes = self.band_edges[:-1], np.diff(self.band_edges)
        bands = [np.flatnonzero(sizes > i) for i in range(1, sizes.max())]
        return tuple((which, starts[which] + i) for i, which in enumerate(bands, 1))

    @cached_property
    def power_unit(self) -> np.float32:
        """Factor on ``|spectrum|**2`` that makes a full-scale sine 1.0 (0 dB)."""
        return np.float32(4.0 / float(self.analysis_window.sum()) ** 2)

    @cached_property
    def transform(self) -> RealTransform:
        """The transform of a window."""
        return real_transform(self.window)

    @cached_property
    def lifted_window(self) -> Float:
        """The analysis window times :data:`LIFT` and the factor of a half that the transform leaves out."""
        return self.analysis_window * (LIFT / np.float32(2))

    @cached_property
    def lowering_window(self) -> Float:
        """The synthesis window over :data:`GAIN_LIFT` and the length that the inverse transform leaves out."""
        return self.synthesis_window / (GAIN_LIFT * np.float32(self.window))

    def _band_sums(self, values: Float) -> Float:
        """``[..., bins] -> [..., bands]``: each band's bins added one after the other, then :attr:`power_unit`."""
        sums: Float = values[..., self.band_edges[:-1]]
        for bands, bins in self._members:
            sums[..., bands] += values[..., bins]
        sums *= self.power_unit
        return sums

    def band_energy(self, spectrum: Complex) -> Float:
        """Energy of each band, a full-scale sine being 1, ``[..., bins] -> [..., bands]``."""
        real, imaginary = spectrum.real, spectrum.imag
        return self._band_sums(real * real + imaginary * imaginary)

    def _group_sums(self, bands: Float) -> Float:
        """Sums over groups of bands, added one after the other: ``[..., bands] -> [..., spatial_bands]``."""
        groups = bands.reshape(*bands.shape[:-1], self.spatial_bands, -1)
        sums: Float = groups[..., 0].copy()
        for i in range(1, groups.shape[-1]):
            sums += groups[..., i]
        return sums

    def band_levels(self, spectrum: Complex) -> Float:
        """Log-compressed band energies, ``[..., ears, bins] -> [..., bands]`` in [-1, 1].

        The mean energy of the ears, from -90 dB (-1) to -10 dB (+1) relative to a full-scale sine.
        """
        return level_of(over_ears(self.band_energy(spectrum)))

    def frame_features(self, spectrum: Complex, brought: np.float32 | None = None) -> Float:
        """Network inputs but for those of a beam, ``[..., ears, bins] -> [..., heard]`` in [-1, 1].

        Three interaural groups follow the band levels: level difference (left over right, 20 dB = 1), sine of the phase
        difference, and half of one minus its cosine, the last two weighted by energy within the band. All three are exactly
        zero for one channel and for two equal ones, so a mono model is the binaural model. ``brought``: factor on all energies, of
        :class:`~edge_tse.level.RunningLevel`, for a geometry that is :attr:`level_invariant`.
        """
        if self.level_invariant and brought is None:
            raise ValueError("the features of this geometry depend on the hops before: feed a front end hop by hop")
        factor = np.float32(1) if brought is None else brought
        energy = self.band_energy(spectrum) * factor
        out = np.zeros((*spectrum.shape[:-2], self.heard), np.float32)
        out[..., : self.bands] = level_of(over_ears(energy))
        if spectrum.shape[-2] == 2:
            per_ear = self._group_sums(energy)
            per_ear += POWER_FLOOR
            left, right = per_ear[..., 0, :], per_ear[..., 1, :]
            (l_re, r_re), (l_im, r_im) = (np.moveaxis(part, -2, 0) for part in (spectrum.real, spectrum.imag))
            cosine = self._group_sums(self._band_sums(l_re * r_re + l_im * r_im) * factor)
            sine = self._group_sums(self._band_sums(l_im * r_re - l_re * r_im) * factor)
            root = np.sqrt(left * right)
            n, spatial = self.spatial_bands, out[..., self.bands :]
            np.multiply(log2(left / right), np.float32(0.5) * LOG10_2, out=spatial[..., :n])
            np.divide(sine, root, out=spatial[..., n : 2 * n])
            np.multiply(np.float32(1) - (cosine + POWER_FLOOR) / root, np.float32(0.5), out=spatial[..., 2 * n :])
            clip(spatial)
        return out

    def bin_gains(self, band_gains: Float) -> Float:
        """Band gains to bin gains, ``[..., bands] -> [..., bins]``.

        The imaginary part of a real gain is zero, so each component is rounded once, in whatever order NumPy multiplies.
        """
        return band_gains[..., self.band_of_bin]

    def analyze(self, signal: Float) -> Complex:
        """All frames of a signal at once, ``[ears, samples] -> [frames, ears, bins]``.

        The last hop is filled with zeros. Equal to feeding an :class:`Analyzer` hop by hop.
        """
        frames = -(-signal.shape[-1] // self.hop)
        padded = np.zeros((signal.shape[0], self.window - self.hop + frames * self.hop), np.float32)
        start = self.window - self.hop
        padded[:, start : start + signal.shape[-1]] = signal
        view = np.lib.stride_tricks.sliding_window_view(padded, self.window, axis=-1)[:, :: self.hop].transpose(1, 0, 2)
        out = np.empty((frames, signal.shape[0], self.bins), np.complex64)
        for at in range(0, frames, _BLOCK):
            block = view[at : at + _BLOCK]
            out[at : at + _BLOCK] = self._spectra(block.reshape(-1, self.window)).reshape(*block.shape[:2], -1)
        return out

    def synthesize(self, spectra: Complex) -> Float:
        """Overlap-add of all frames, ``[frames, ears, bins] -> [ears, frames * hop]``, delayed by :attr:`delay`."""
        frames, ears = spectra.shape[:2]
        tail = np.empty((frames, ears, self.synthesis), np.float32)
        for at in range(0, frames, _BLOCK):
            block = spectra[at : at + _BLOCK]
            tail[at : at + _BLOCK] = self._tails(block.reshape(-1, self.bins)).reshape(*block.shape[:2], -1)
        out = tail[..., : self.hop].copy()
        out[1:] += tail[:-1, :, self.hop :]
        return np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(ears, -1)

    def _spectra(self, samples: Float) -> Complex:
        """Spectra ``[m, bins]`` of windows ``[m, window]``."""
        lifted = self.transform.forward(samples * self.lifted_window)
        lifted[np.abs(lifted) < SILENCE * LIFT] = 0
        lifted *= 1 / LIFT
        out = np.empty(lifted.shape[1:], np.complex64)
        out.real, out.imag = lifted
        return out

    def _tails(self, spectra: Complex) -> Float:
        """Windowed ends ``[m, synthesis]`` of the signals with spectra ``[m, bins]``."""
        lifted = np.stack([spectra.real, spectra.imag]).astype(np.float32, copy=False)
        lifted *= GAIN_LIFT
        tails: Float = self.transform.inverse(lifted)[:, -self.synthesis :] * self.lowering_window
        return tails


class Analyzer:
    """Streaming analysis: keeps the last window of samples."""

    def __init__(self, frame: FrameSpec, ears: int) -> None:
        self._frame = frame
        self._history = np.zeros((ears, frame.window), np.float32)

    def push(self, hop: Float) -> Complex:
        """``[ears, hop] -> [ears, bins]``."""
        n = self._frame.hop
        self._history[:, :-n] = self._history[:, n:]
        self._history[:, -n:] = hop
        return self._frame._spectra(self._history)

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
        hop, tail = self._frame.hop, self._frame._tails(spectrum)
        out = tail[:, :hop] + self._carry
        self._carry = tail[:, hop:]
        return out

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._carry = np.zeros_like(self._carry)


def _hann(n: int) -> NDArray[np.float64]:
    """Periodic Hann window sampled at half-integers: no zero sample, and halves still sum to one."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
    return window
