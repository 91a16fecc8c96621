"""Quality of an estimate: energy ratios against the talker alone in decibels, and how often the talker goes missing. Pure NumPy.

Signals are ``[samples]`` or ``[ears, samples]``; with several ears a ratio is computed for each and the mean of the ratios is
returned, because a listener has both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LIMIT_DB", "ONSET_S", "PAUSE_S", "attenuation_db", "onset_damping_db", "over_suppression", "si_sdr"]

Float64 = NDArray[np.float64]

LIMIT_DB = 100.0
"""Largest ratio: all are clipped to ± this, so that a perfect or a silent estimate still has a number and a mean exists."""

ONSET_S = 0.15
"""Length of an onset of speech."""
PAUSE_S = 0.2
"""Least pause before an onset; shorter gaps are inside speech."""

_ONSET_LIMIT_DB = 40.0
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
    """Attenuation of the mixture in the estimate, in dB, within ±:data:`LIMIT_DB`: the score where the talker is absent.

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


def onset_damping_db(estimate: NDArray[np.floating[Any]], target: NDArray[np.floating[Any]], rate_hz: int) -> float:
    """Loss of the target at its onsets over the loss later in the same speech, in dB; 0 if both are treated alike.

    The target alone says when its talker speaks: frames of 10 ms within 30 dB of the loud ones (95th percentile), gaps of less than
    :data:`PAUSE_S` closed. Speech that begins after such a pause has an onset, its first :data:`ONSET_S`, and a later part, the
    rest. In each part, over all of them, what is left of the target is the estimate projected on it, ``<e, t> / <t, t>``, so that
    the leakage of others counts for nothing. The result is the ratio of later to onset, clipped to ±40 dB, the mean of the ears.
    ``ValueError`` if shapes differ, they are shorter than a frame, no speech begins after a pause and goes on past its onset, or
    none of the target is left.
    """
    found, wanted = _ears(estimate), _ears(target)
    if found.shape != wanted.shape or not wanted.any():
        raise ValueError(f"estimate {found.shape} and target {wanted.shape} must be of the same shape, and the target not silent")
    frame = round(0.01 * rate_hz)
    whole = wanted.shape[1] // frame * frame
    if not whole:
        raise ValueError(f"{wanted.shape[1]} samples are less than a frame of 10 ms")
    products, energies = ((x * wanted)[:, :whole].reshape(len(wanted), -1, frame).sum(axis=-1) for x in (found, wanted))
    power = energies.sum(axis=0)
    onset, later = _onsets(power > np.percentile(power, 95) * 1e-3, round(PAUSE_S / 0.01), round(ONSET_S / 0.01))
    if not later.any():
        raise ValueError("no speech begins after a pause and goes on")
    left = [np.maximum(products[:, part].sum(axis=1) / energies[:, part].sum(axis=1), 0) for part in (later, onset)]
    if not all(np.any(left, axis=0)):
        raise ValueError("nothing of the target is left")
    return float(np.mean(np.clip(2 * _ratio_db(*left), -_ONSET_LIMIT_DB, _ONSET_LIMIT_DB)))


def _onsets(active: NDArray[np.bool_], pause: int, onset: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Frames ``[frames]`` at the onset of speech that begins after a pause, and later frames of the same speech."""
    first, rest = np.zeros_like(active), np.zeros_like(active)
    at = np.flatnonzero(active)
    breaks = np.flatnonzero(np.diff(at) > pause) + 1
    for part in np.split(at, breaks):
        if len(part) and part[0] >= pause and part[-1] - part[0] >= 2 * onset:
            first[part[0] : part[0] + onset] = True
            rest[part[0] + onset : part[-1] + 1] = True
    return first, rest


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
