"""A beamformer for two ears, pointed by the network: two microphones remove what a real gain per band cannot.

Per bin, two covariances of the ears: of what the mask keeps (talker, ``S``) and of what it leaves (noise, ``N``). The beam is the
parameterised multichannel Wiener filter at its distortionless end, ``W = N^-1 S / tr(N^-1 S)``, ``y = W^H x`` (Souden, Benesty &
Affes, IEEE TASLP 2010), with covariances from masks (Heymann, Drude & Haeb-Umbach, ICASSP 2016). Each column of ``W`` has another
ear for its reference, so that the talker keeps the cues of each. Filters of a hop are made of the hops before it: what points them
needs the same network as what uses them. That is half the mask and half what was heard: a better beam makes a better talker makes
a better beam (docs/decisions/0037 has what that is worth, and why the mask keeps its half).

Defined to the bit as :mod:`edge_tse.frame` is: the C is ``etse_beam_*`` in ``front_math.h``. Covariances are lifted by
:data:`COVARIANCE_LIFT`, and what is below :data:`COVARIANCE_SILENCE` is zero, so that no product of two is subnormal
(docs/decisions/0018 has why that matters). The loading keeps the determinant above a 250th of the product of the noise's powers,
and its floor keeps that above 2^-42: nothing is divided by zero, and no filter is more than float32 holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tse.frame import SILENCE, FrameSpec
from edge_tse.level import over_ears
from edge_tse.transform import log2

__all__ = ["COVARIANCE_LIFT", "COVARIANCE_LOUDEST", "COVARIANCE_SILENCE", "Beam", "mix"]

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]

TARGET_KEEPS, TARGET_TAKES = np.float32(0.998), np.float32(0.002)
"""The talker's covariance: weight of its past and of the new hop, a time constant of 2 s at 4 ms."""
NOISE_KEEPS, NOISE_TAKES = np.float32(0.997), np.float32(0.003)
"""The noise's covariance: weight of its past and of the new hop, a time constant of 1.3 s."""
COVARIANCE_LIFT = np.float32(2.0**19)
COVARIANCE_SILENCE, COVARIANCE_LOUDEST = np.float32(2.0**-51), np.float32(2.0**60)
"""Bounds of lifted covariances: 210 dB below a full-scale sine is zero, above 123 dB over it a bin is forgotten."""
LOADING, LOADING_FLOOR = np.float32(1e-3), np.float32(1e-12) * COVARIANCE_LIFT
"""Loading of the noise of both ears: it keeps the filters of a bin within 30 dB where one ear is dead or both are equal."""
TRACE_FLOOR = np.float32(1e-10)
FILTER_SILENCE = np.float32(2.0**-64)
RATIO_FLOOR, RATIO_SLOPE = np.float32(1e-12), np.float32(0.2 * np.log(2))
"""Level feature of the beam over the mixture: ``SLOPE * log2(ratio)``; a factor of 148 in energy is 1."""
LOUDEST_RATIO = np.float32(2)
"""Loudest a beam may be over the mixture in a band, as an energy ratio: 3 dB."""
HALF = np.float32(0.5)
"""Weight of the mask, and of what was heard, in what points the beam."""


class Beam:
    """State of one stream: covariances of its past, ``[4, bins]`` each: left, right, and left times the conjugate of right."""

    def __init__(self, frame: FrameSpec) -> None:
        self._frame = frame
        self._target, self._noise = np.zeros((2, 4, frame.bins), np.float32)
        self._whole = np.full(frame.bands, RATIO_FLOOR)
        self._unit = frame.power_unit * COVARIANCE_LIFT

    def listen(self, spectrum: Complex) -> tuple[Complex, Float]:
        """Form the beam of a hop ``[2, bins]`` as each ear hears it, ``[2, bins]``, and its level features ``[bands]`` in [-1, 1].

        The beam is nowhere more than 3 dB louder than the hop in a band; the features say what it would have been.
        """
        frame = self._frame
        beam = self._filter(spectrum)
        loud, whole = (over_ears(frame.band_energy(x)) + RATIO_FLOOR for x in (beam, spectrum))
        self._whole = whole
        ratio = loud / whole
        held = np.sqrt(np.minimum(LOUDEST_RATIO / ratio, np.float32(1)))
        beam *= frame.bin_gains(held)
        level: Float = np.maximum(np.minimum(log2(ratio) * RATIO_SLOPE, np.float32(1)), np.float32(-1))
        return beam, level

    def learn(self, spectrum: Complex, mask: Float, heard: Complex) -> None:
        """Update the covariances with the hop ``[2, bins]`` that was listened to, as the talker's or as noise.

        The talker's part of a band is the mean of the mask ``[bands]`` and of the amplitude that is left of the band in what is
        ``heard`` of the hop, ``[2, bins]``.
        """
        ratio = (over_ears(self._frame.band_energy(_silence(heard.copy()))) + RATIO_FLOOR) / self._whole
        left = np.sqrt(np.where(ratio < 1, ratio, np.float32(1)))
        kept = np.minimum(np.maximum(mask, np.float32(0)), np.float32(1)) * HALF + left * HALF
        left_out = np.float32(1) - kept
        (l_re, r_re), (l_im, r_im) = spectrum.real, spectrum.imag
        products = np.stack(
            [l_re * l_re + l_im * l_im, r_re * r_re + r_im * r_im, l_re * r_re + l_im * r_im, l_im * r_re - l_re * r_im]
        )
        talker, noise = (TARGET_TAKES * (kept * kept)) * self._unit, (NOISE_TAKES * (left_out * left_out)) * self._unit
        self._target = _bound(TARGET_KEEPS * self._target + self._frame.bin_gains(talker) * products)
        self._noise = _bound(NOISE_KEEPS * self._noise + self._frame.bin_gains(noise) * products)

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._target[:] = self._noise[:] = 0
        self._whole[:] = RATIO_FLOOR

    def _filter(self, spectrum: Complex) -> Complex:
        s1, s2, s_re, s_im = self._target
        n1, n2, n_re, n_im = self._noise
        load = LOADING * (n1 + n2) + LOADING_FLOOR
        n1, n2 = n1 + load, n2 + load
        # B = adj(N) S. Its trace is real and, but for roundings, never negative.
        along, across = n_re * s_re + n_im * s_im, n_im * s_re - n_re * s_im
        b11, b22 = n2 * s1 - along, n1 * s2 - along
        determinant = n1 * n2 - (n_re * n_re + n_im * n_im)
        inverse = np.float32(1) / (np.maximum(b11 + b22, np.float32(0)) + TRACE_FLOOR * determinant)
        # W: the diagonal is w11 - i turn and w22 + i turn.
        w11, w22, turn = _audible(b11 * inverse), _audible(b22 * inverse), _audible(across * inverse)
        w12_re, w12_im = _audible((n2 * s_re - s2 * n_re) * inverse), _audible((n2 * s_im - s2 * n_im) * inverse)
        w21_re, w21_im = _audible((n1 * s_re - s1 * n_re) * inverse), _audible((s1 * n_im - n1 * s_im) * inverse)
        (l_re, r_re), (l_im, r_im) = spectrum.real, spectrum.imag
        out = np.empty(spectrum.shape, np.complex64)
        out.real[0] = (w11 * l_re - turn * l_im) + (w21_re * r_re + w21_im * r_im)
        out.imag[0] = (w11 * l_im + turn * l_re) + (w21_re * r_im - w21_im * r_re)
        out.real[1] = (w12_re * l_re + w12_im * l_im) + (w22 * r_re + turn * r_im)
        out.imag[1] = (w12_re * l_im - w12_im * l_re) + (w22 * r_im - turn * r_re)
        return _silence(out)


def mix(spectrum: Complex, gain: Float, beam: Complex, mask: Float, share: Float) -> Complex:
    """Mix the beam in: ``gain * x + share * (y - mask * x)``, ``[2, bins]`` each and ``[bins]`` the factors."""
    out = np.empty(spectrum.shape, np.complex64)
    for to, x, y in ((out.real, spectrum.real, beam.real), (out.imag, spectrum.imag, beam.imag)):
        more = y - x * mask
        more[np.abs(more) < SILENCE] = 0
        to[:] = x * gain + more * share
    return out


def _silence(spectrum: Complex) -> Complex:
    """Make zero, in place, what is next to nothing in a spectrum; returns it."""
    for part in (spectrum.real, spectrum.imag):
        part[np.abs(part) < SILENCE] = 0
    return spectrum


def _audible(x: Float) -> Float:
    out: Float = np.where(np.abs(x) < FILTER_SILENCE, np.float32(0), x)
    return out


def _bound(x: Float) -> Float:
    """Covariances ``[4, bins]`` with next to nothing set to zero, and all four of a bin where it is beyond sound, or no number."""
    out: Float = np.where((x[0] + x[1] <= COVARIANCE_LOUDEST) & (np.abs(x) >= COVARIANCE_SILENCE), x, np.float32(0))
    return out
