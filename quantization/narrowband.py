"""Pass bands of telephones, codecs and low sampling rates: one way to draw them, for mixtures and for enrollments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["PassBand", "draw_pass_band"]

_UPPER_HZ, _SHARES = (3400.0, 4000.0, 5500.0, 7000.0), (0.5, 0.2, 0.15, 0.15)
"""Upper edges, and how often each is met: mostly telephones."""
_LOWER_HZ = 300.0


class PassBand(NamedTuple):
    """A pass band."""

    low_hz: float
    """Lower edge in Hz; 0: down to nothing."""
    high_hz: float
    walls: bool
    """Whether nothing at all is left outside; else it falls by 24 dB an octave."""


def draw_pass_band(rng: np.random.Generator) -> PassBand:
    """Draw a pass band, a telephone's more often than not; three in ten have soft edges."""
    high = float(rng.choice(_UPPER_HZ, p=_SHARES) * rng.uniform(0.95, 1.05))
    low = float(_LOWER_HZ * rng.uniform(0.8, 1.2)) if high < 4500 and rng.random() < 0.7 else 0.0
    return PassBand(low, high, bool(rng.random() < 0.7))
