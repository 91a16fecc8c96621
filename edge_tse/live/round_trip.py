"""Measurement of a device's round trip: a maximum-length sequence is played, and found again in what is recorded.

Rife & Vanderkooy, "Transfer-function measurement with maximum-length sequences", JAES 37(6), 1989: the circular correlation of such
a sequence with itself is one sample, so noise, echo and the quiet of a bad loopback average out over its length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError

__all__ = ["RoundTrip", "round_trip", "sequence"]

Float = NDArray[np.float32]

_TAPS = {13: (13, 12, 11, 8), 14: (14, 13, 12, 2), 15: (15, 14), 16: (16, 15, 13, 4)}
"""Taps of the shift register's feedback by its length: primitive polynomials."""
LEAST_QUALITY_DB = 20.0
"""Peak over the rest of the correlation: silence or foreign sound gives 13 to 15 dB by chance."""


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """Round trip from the block in which a sample was given to the device to the one in which it came back."""

    samples: tuple[float, ...]
    """Round trip in samples, once per period, to a fraction of a sample."""
    rate_hz: int
    quality_db: float
    """Quality of the worst period: peak of the correlation over its effective value."""
    inverted: bool
    """Whether the sign comes back inverted."""

    @property
    def seconds(self) -> float:
        """Median round trip in seconds."""
        return float(np.median(self.samples)) / self.rate_hz

    @property
    def spread_s(self) -> float:
        """Largest minus smallest: 0 within a sample where nothing was lost on the way."""
        return (max(self.samples) - min(self.samples)) / self.rate_hz

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        return {
            "round_trip_ms": self.seconds * 1e3,
            "spread_ms": self.spread_s * 1e3,
            "quality_db": self.quality_db,
            "inverted": self.inverted,
        }


def sequence(order: int = 15, level: float = 0.1) -> Float:
    """``[2**order - 1]``, each sample ``level`` or ``-level``."""
    register = np.ones(order, bool)
    out = np.empty(2**order - 1, np.float32)
    taps = [tap - 1 for tap in _TAPS[order]]
    for i in range(len(out)):
        out[i] = level if register[-1] else -level
        new = bool(np.logical_xor.reduce(register[taps]))
        register[1:] = register[:-1].copy()
        register[0] = new
    return out


def round_trip(played: Float, heard: Float, rate_hz: int) -> RoundTrip:
    """Find the sequence in ``heard [n]``, recorded while ``played [p]`` was repeated from its first sample on.

    Round trips up to one period are told apart. ``AudioError`` if the sequence is not in what was heard.
    """
    period = len(played)
    periods = len(heard) // period - 1
    if periods < 1:
        raise AudioError(f"{len(heard) / rate_hz:.1f} s were recorded, {2 * period / rate_hz:.1f} s are needed: measure for longer")
    spectrum = np.conj(np.fft.rfft(played.astype(np.float64)))
    lags, qualities, signs = [], [], []
    for i in range(1, periods + 1):
        part = heard[i * period : (i + 1) * period].astype(np.float64)
        found = np.fft.irfft(np.fft.rfft(part - part.mean()) * spectrum, period)
        at = int(np.argmax(np.abs(found)))
        effective = float(np.sqrt(np.mean(found**2)))
        qualities.append(20 * np.log10(abs(found[at]) / effective) if effective > 0 else 0.0)
        before, peak, after = np.abs(found[[at - 1, at, (at + 1) % period]])
        bend = before - 2 * peak + after
        lags.append(at + (0.5 * float(before - after) / float(bend) if bend else 0.0))
        signs.append(found[at] < 0)
    quality = float(min(qualities))
    if quality < LEAST_QUALITY_DB:
        raise AudioError(
            f"the sequence did not come back ({quality:.0f} dB above chance, at least {LEAST_QUALITY_DB:.0f} is needed): connect "
            "the output to the input, or hold the microphone to the earphone, and turn both up"
        )
    return RoundTrip(samples=tuple(lags), rate_hz=rate_hz, quality_db=quality, inverted=bool(np.mean(signs) > 0.5))
