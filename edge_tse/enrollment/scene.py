"""The talker whom the wearer looks at, out of a recording with two ears: enrollment where it is never quiet.

Who is looked at stands in the median plane: the sound of that talker reaches both ears at the same time and alike. LookOnceToHear
(Veluri et al., CHI 2024) enrolls by that. Here it takes two steps of arithmetic and no network: each cell of time and frequency is
weighted by how little its interaural phase and level differ from the front's, and the weights give the covariances of the talker
and of everything else, from which a beamformer follows per frequency (mask-based MVDR: Souden, Benesty & Affes, "On optimal
frequency-domain multichannel linear filtering for noise reduction", IEEE TASLP 18(2), 2010; Heymann, Drude & Haeb-Umbach,
ICASSP 2016). The weights themselves are never heard: they would cut holes into the talker. Behind the wearer is the same plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tse.audio import resample
from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec

__all__ = ["LEAST_SHARE", "FrontalSound", "in_front"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]
Values = TypeVar("Values", NDArray[np.float64], NDArray[np.complex128])
Complex = NDArray[np.complex64]

_AVERAGE_S = 0.02
_DELAY_S = 130e-6
"""Interaural delay that still counts as the front: 15 degrees around a head (0.65 ms at 90)."""
_LEVEL_DB = 4.0
"""Interaural level difference that still counts as the front: 45 measured heads differ by it there, and so do two microphones."""
_PHASES = (0.15, 1.0)
"""Least and largest phase in radians that still counts as the front, where the delay would mean less than noise, or more than a
phase tells."""
_LOADING = 1e-3  # of the covariance: a filter may turn up what both ears do not share by at most 30 dB
_ACTIVE = 1e-2  # 20 dB below the loud frames
LEAST_SHARE = 0.45
"""Least share from in front, at the moments when most is, if somebody talks there. Held-out talkers and heads: 0.57 and more with
a talker in front and another up to 5 dB louder aside; 0.3 and less with the one aside alone, but for one of 38 at 30 degrees in
a room."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrontalSound:
    """The sound from in front."""

    signal: Float
    """``[2, n]`` at the geometry's rate, undistorted at either ear as far as the others could be told from it."""
    share: float
    """90th percentile, over active frames, of the energy share from in front: at some moments the others pause, too."""


def in_front(frame: FrameSpec, recording: Float, rate_hz: int, name: str = "the scene") -> FrontalSound:
    """Separate the talker in front from a recording ``[2, n]`` at any rate, during which the head stays as it is.

    ``AudioError`` for one channel, since one ear hears no direction, and where nobody is in front.
    """
    if recording.shape[0] != 2:
        raise AudioError(f"{name} has {recording.shape[0]} channel, a scene needs 2 (left and right ear): record it with both")
    signal = resample(recording, rate_hz, frame.sample_rate_hz)
    n = signal.shape[1]
    spectra = frame.analyze(np.pad(signal, ((0, 0), (0, frame.delay))))
    weights = _frontal(frame, spectra)
    share = _share(spectra, weights)
    if share < LEAST_SHARE:
        raise AudioError(
            f"{name}: at most {share:.0%} of the sound comes from in front, a talker there gives at least {LEAST_SHARE:.0%} at "
            "times: look at the talker and record again"
        )
    heard = frame.synthesize(_beamform(spectra, weights))[:, frame.delay : frame.delay + n]
    return FrontalSound(signal=heard, share=share)


def _share(spectra: Complex, weights: Array) -> float:
    energy = (spectra.real**2 + spectra.imag**2).sum(axis=1, dtype=np.float64)
    of_frame = energy.sum(axis=1)
    active = of_frame > max(np.percentile(of_frame, 95) * _ACTIVE, 1e-9)
    shares = (weights * energy).sum(axis=1)[active] / of_frame[active]
    return float(np.percentile(shares, 90)) if len(shares) else 0.0


def _frontal(frame: FrameSpec, spectra: Complex) -> Array:
    """Weight of each cell as sound from in front, ``[frames, 2, bins] -> [frames, bins]`` in [0, 1]."""
    left, right = spectra[:, 0].astype(np.complex128), spectra[:, 1].astype(np.complex128)
    span = 2 * round(_AVERAGE_S / frame.period_s / 2) + 1
    powers = [_around((ear * ear.conj()).real, span) + 1e-12 for ear in (left, right)]
    cross = _around(left * right.conj(), span)
    hz = np.fft.rfftfreq(frame.window, 1 / frame.sample_rate_hz)
    phase = np.angle(cross) / np.clip(2 * np.pi * hz * _DELAY_S, *_PHASES)
    level = 10 * np.log10(powers[0] / powers[1]) / _LEVEL_DB
    weights: Array = np.exp(-0.5 * (phase**2 + level**2))
    return weights


def _around(x: Values, span: int) -> Values:
    """Mean over ``span`` frames and three bins around each of ``[frames, bins]``, zeros beyond the ends."""
    sums = np.cumsum(np.pad(x, ((span // 2 + 1, span // 2), (1, 1))), axis=0)
    over = sums[span:] - sums[:-span]
    mean: Values = (over[:, :-2] + over[:, 1:-1] + over[:, 2:]) / (3 * span)
    return mean


def _beamform(spectra: Complex, weights: Array) -> Complex:
    """Filter per bin that keeps the weighted cells and passes least of the others, to each ear ``[frames, 2, bins]``."""
    by_bin = np.ascontiguousarray(spectra.transpose(2, 1, 0)).astype(np.complex128)  # [bins, ears, frames]
    talker, rest = (_covariance(by_bin, w) for w in (weights.T, 1 - weights.T))
    rest += (_LOADING * np.trace(rest, axis1=1, axis2=2).real[:, None, None] + 1e-12) * np.eye(2)
    ratio = np.linalg.solve(rest, talker)
    filters = ratio / (np.trace(ratio, axis1=1, axis2=2)[:, None, None] + 1e-9)
    out = filters.conj().transpose(0, 2, 1) @ by_bin
    return np.ascontiguousarray(out.transpose(2, 1, 0)).astype(np.complex64)


def _covariance(by_bin: NDArray[np.complex128], weights: Array) -> NDArray[np.complex128]:
    weighted = by_bin * weights[:, None]
    covariance: NDArray[np.complex128] = weighted @ by_bin.conj().transpose(0, 2, 1)
    covariance /= weights.sum(axis=1)[:, None, None] + 1e-9
    return covariance
