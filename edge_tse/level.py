"""Levels of a frame: energies in decibels as features hold them, and the slow level that they may be taken relative to.

Defined to the bit, as :mod:`edge_tse.frame` is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tse.transform import LOG10_2, log2

__all__ = [
    "LEVEL_ATTACK",
    "LEVEL_OFFSET",
    "LEVEL_QUIETEST",
    "LEVEL_REFERENCE",
    "LEVEL_RELEASE",
    "LEVEL_SLOPE",
    "POWER_FLOOR",
    "RunningLevel",
    "clip",
    "level_of",
    "over_ears",
]

Float = NDArray[np.float32]

POWER_FLOOR = np.float32(1e-9)
"""Power taken for silence, -90 dB relative to a full-scale sine: below any microphone's noise in a 31 Hz band."""
LEVEL_SLOPE, LEVEL_OFFSET = np.float32(0.25), np.float32(1.25)
"""Level of an energy is ``SLOPE * log10(energy) + OFFSET``: -90 dB becomes -1 and -10 dB becomes 1."""
LEVEL_ATTACK, LEVEL_RELEASE = np.float32(0.1), np.float32(0.002)
"""Share of the way to a hop's energy by which the running level moves: 40 ms to rise, 2 s to fall at 4 ms."""
LEVEL_REFERENCE, LEVEL_QUIETEST = np.float32(1e-2), np.float32(1e-8)
"""Level that features bring the running level to (-20 dB), and the least running level."""
_LEVEL_SILENCE = np.float32(1e-20)
"""A running level below this is zero: hours of silence never make it subnormal."""


class RunningLevel:
    """Slow level of a stream, which makes features equal for quiet and loud recordings: fast to rise, slow to fall."""

    def __init__(self) -> None:
        self._level = np.float32(0)

    def push(self, energy: Float) -> np.float32:
        """Update with the band energies ``[bands]`` of this hop, and return the factor that brings the running level to -20 dB."""
        # One after the other: a sum of NumPy's is of pairs.
        now = np.add.accumulate(energy)[-1]
        rate = LEVEL_ATTACK if now > self._level else LEVEL_RELEASE
        level = self._level + rate * (now - self._level)
        self._level = level if level >= _LEVEL_SILENCE else np.float32(0)
        return LEVEL_REFERENCE / max(self._level, LEVEL_QUIETEST)

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._level = np.float32(0)


def over_ears(energy: Float) -> Float:
    """Mean over the ears, ``[..., ears, bands] -> [..., bands]``."""
    ears = energy.shape[-2]
    total: Float = energy[..., 0, :]
    for ear in range(1, ears):
        total = total + energy[..., ear, :]
    return total if ears == 1 else total * np.float32(1 / ears)


def level_of(energy: Float) -> Float:
    """Level of an energy relative to a full-scale sine: [-1, 1], linear in dB."""
    out = log2(energy + POWER_FLOOR)
    out *= LEVEL_SLOPE * LOG10_2
    out += LEVEL_OFFSET
    return clip(out)


def clip(x: Float) -> Float:
    """Clip to [-1, 1], in place."""
    np.maximum(x, np.float32(-1), out=x)
    return np.minimum(x, np.float32(1), out=x)
