"""The last stage before an ear: whatever comes in, nothing louder than allowed leaves it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Limiter", "scrub"]

Float = NDArray[np.float32]

HOLD_S = 0.02
LARGEST = 16.0
"""Largest input sample, 24 dB over full scale: no arithmetic here is meant to work beyond it."""


class Limiter:
    """Keeps every sample within ``ceiling`` without delay and, unless a sound begins at once, without distortion.

    A hop is there as a whole before it is played, so its peak is known: the gain is down when the peak comes, stays for
    :data:`HOLD_S`, which is a period of the lowest voice, and rises by 6 dB in ``release_s``. Both ears get one gain, which
    leaves the place of a sound as it is. What is left over can only be rounding, and is cut.
    """

    def __init__(self, ceiling: float, hop: int, sample_rate_hz: int, release_s: float = 0.05) -> None:
        if not 0 < ceiling <= 1:
            raise ValueError(f"a ceiling of {ceiling} is not within (0, 1]")
        self.ceiling = np.float32(ceiling)
        if float(self.ceiling) > ceiling:  # float32 may have rounded up
            self.ceiling = np.nextafter(self.ceiling, np.float32(0))
        self._rise = np.float32(2 ** (hop / sample_rate_hz / release_s))
        self._peaks = np.zeros(max(1, math.ceil(HOLD_S * sample_rate_hz / hop)), np.float32)
        self._gain = np.float32(1)
        self._count = np.arange(1, hop + 1, dtype=np.float32)
        self.hops = 0
        """Hops in which it was at work."""

    def __call__(self, hop: Float) -> Float:
        """Limit a hop ``[ears, hop]``: each sample is at most ``ceiling``."""
        clean = scrub(hop)
        envelope = np.abs(clean).max(axis=0)
        peak = int(np.argmax(envelope))
        self._peaks[1:] = self._peaks[:-1].copy()
        self._peaks[0] = envelope[peak]
        wanted = min(self.ceiling / max(self.ceiling, self._peaks.max()), self._gain * self._rise)
        if wanted == self._gain == 1:
            return clean
        # Down by the time of the peak, or up over the whole hop; never above what the samples so far allow.
        over = np.float32(peak + 1 if wanted < self._gain else len(envelope))
        gain = self._gain + (wanted - self._gain) * np.minimum(self._count / over, 1)
        gain = np.minimum(gain, self.ceiling / np.maximum(np.maximum.accumulate(envelope), self.ceiling))
        self._gain = np.float32(wanted)
        self.hops += 1
        out: Float = np.clip(clean * gain, -self.ceiling, self.ceiling)
        return out


def scrub(hop: Float) -> Float:
    """A copy with samples that are not numbers as silence, and too large ones as :data:`LARGEST`."""
    clean: Float = np.clip(np.nan_to_num(hop, nan=0.0, posinf=LARGEST, neginf=-LARGEST), -LARGEST, LARGEST)
    return clean.astype(np.float32, copy=False)
