"""How good an estimate is: energy ratios against the talker alone in decibels, and how often it goes missing. Pure NumPy.

Signals are ``[samples]`` or ``[ears, samples]``; with several ears a ratio is computed for each and the mean of the ratios is
returned, because a listener has both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT_DB", "attenuation_db", "over_suppression", "si_sdr"]

Float64 = NDArray[np.float64]

LIMIT_DB = 100.0
"""Ratios are clipped to ± this, so that a perfect or a silent estimate still has a number and a mean exists."""

_COMPRESSION = 0.3
_OVER_SUPPRESSED = 0.1


def si_sdr(estimate: NDArray[np.floating[Any]], target: NDArray[np.floating[Any]]) -> float:
    """Scale-invariant signal-to-distortion ratio in dB, within ±:data:`LIMIT_DB`.

    Equation 2 of Le Roux et al., "SDR – half-baked or well done?" (ICASSP 2019), as written there: the mean is *not* removed
    first, so an offset in the estimate is an error. A silent estimate is at the lower end. ``ValueError`` where the ratio has no
    meaning: shapes that differ, no samples, a silent target.
    """
    found, wanted = _ears(estimate), _ears(target)
    if found.shape != wanted.shape or not wanted.size:
        raise ValueError(f"estimate {found.shape} and target {wanted.shape} must be of the same shape, with samples")
    power = np.sum(wanted * wanted, axis=-1)
    if not power.all():
        raise ValueError("the target is silent: SI-SDR has no meaning, use attenuation_db")
    scaled = (np.sum(found * wanted, axis=-1) / power)[:, None] * wanted
    return float(np.mean(_ratio_db(np.sum(scaled**2, axis=-1), np.sum((found - scaled) ** 2, axis=-1))))


def attenuation_db(estimate: NDArray[np.floating[Any]], mixture: NDArray[np.floating[Any]]) -> float:
    """How much quieter than the mixture the estimate is, in dB, within ±:data:`LIMIT_DB`: what counts where the talker is absent.

    Energy of all ears together. ``ValueError`` if shapes differ or the mixture is silent.
    """
    found, heard = _ears(estimate), _ears(mixture)
    if found.shape != heard.shape or not heard.any():
        raise ValueError(f"estimate {found.shape} and mixture {heard.shape} must be of the same shape, and the mixture not silent")
    return float(_ratio_db(np.sum(heard**2), np.sum(found**2)))


def over_suppression(estimate: NDArray[np.floating[Any]], target: NDArray[np.floating[Any]], rate_hz: int) -> float:
    """Share of the target's active frames from which too much was taken, in [0, 1]; what was added does not count.

    Target speaker over-suppression (TSOS) after Eskimez et al., "Personalized speech enhancement: new models and comprehensive
    evaluation" (ICASSP 2022): with magnitudes compressed to the power 0.3, a frame counts where the squared shortfall exceeds a
    tenth of the target's own sum. Frames of 25 ms every 10 ms, Hann window; active are those within 40 dB of the loudest. The
    estimate is taken as loud as it is. ``ValueError`` if shapes differ or the target is silent.
    """
    found, wanted = _ears(estimate), _ears(target)
    if found.shape != wanted.shape or not wanted.any():
        raise ValueError(f"estimate {found.shape} and target {wanted.shape} must be of the same shape, and the target not silent")
    length, hop = round(0.025 * rate_hz), round(0.01 * rate_hz)
    window = np.hanning(length)

    def magnitudes(signal: Float64) -> Float64:
        padded = np.pad(signal, ((0, 0), (0, max(0, length - signal.shape[1]))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, length, axis=-1)[:, ::hop]
        out: Float64 = np.abs(np.fft.rfft(frames * window))
        return out

    clean = magnitudes(wanted)
    energy = np.sum(clean**2, axis=-1)
    active = energy > energy.max() * 1e-4
    shortfall = np.maximum(clean**_COMPRESSION - magnitudes(found) ** _COMPRESSION, 0)
    lost = np.sum(shortfall**2, axis=-1) > _OVER_SUPPRESSED * np.sum(clean ** (2 * _COMPRESSION), axis=-1)
    return float(lost[active].mean())


def _ears(signal: NDArray[np.floating[Any]]) -> Float64:
    return np.atleast_2d(np.asarray(signal, np.float64))


def _ratio_db(above: Any, below: Any) -> Float64:
    """``10 log10(above / below)``, clipped.

    0 / 0 is the lower end: silence holds nothing of the target.
    """
    edge = 10 ** (LIMIT_DB / 10)
    # Scaled by the larger one, no ratio overflows and none divides by zero.
    top = np.maximum(np.maximum(above, below), np.finfo(np.float64).tiny)
    ratio = np.maximum(above / top, 1 / edge) / np.where(above > 0, np.maximum(below / top, 1 / edge), 1)
    out: Float64 = 10 * np.log10(ratio)
    return out
