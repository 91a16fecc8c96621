"""Sound for what a link has lost: out of the other ear while it is there, else out of the ear's own past.

The other ear hears the same talkers at the same time, so a short filter turns its sound into this ear's: the least squares of the
last 64 ms (Wiener). Without it the last period of the voice is repeated and fades (the idea of ITU-T G.711 Appendix I).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["AROUND", "HISTORY", "Gap"]

Float = NDArray[np.float32]

HISTORY = 1024
"""Samples before a gap that are looked at."""
AROUND = 24
"""Samples of the other ear on either side: the way around a head, and what the clocks do not say."""
FADE_SAMPLES = 32
_LOADING = 1e-3  # of the mean power
_OTHER_HOLDS_S, _OTHER_ENDS_S = 0.2, 0.4
_OWN_HOLDS_S, _OWN_ENDS_S = 0.01, 0.06
_LOWEST_HZ, _HIGHEST_HZ = 66, 400  # of a voice


class Gap:
    """One gap in one ear, from its first lost sample to the first that is there again."""

    def __init__(self, rate_hz: int, own: Float, other: Float | None) -> None:
        """``own [HISTORY]`` before the gap; ``other [HISTORY + 2 * AROUND]`` at the same time; None if it is not there."""
        self._rate_hz = rate_hz
        self._own = own
        self._filter = None if other is None else _fit(own, other)
        self._period = 0  # looked for when it is needed
        self._from_other: bool | None = None
        self._last = float(own[-1])
        self._step, self._stepped_at = 0.0, 0
        self._trend = float(own[-1] - own[-2])

    def more(self, age: int, n: int, other: Float | None) -> Float:
        """``[n]`` samples from ``age`` samples after the beginning; ``other [n + 2 * AROUND]`` at the same time, or None."""
        ages = age + np.arange(n)
        uses_other = False
        if other is not None and self._filter is not None:
            uses_other = True
            made = np.correlate(other, self._filter, mode="valid") * _gain(ages / self._rate_hz, _OTHER_HOLDS_S, _OTHER_ENDS_S)
        else:
            self._period = self._period or _period(self._own, self._rate_hz)
            cycle = self._own[len(self._own) - self._period :]
            made = cycle[ages % self._period] * _gain(ages / self._rate_hz, _OWN_HOLDS_S, _OWN_ENDS_S)
        if uses_other != self._from_other:
            self._from_other = uses_other
            self._step, self._stepped_at = self._last + self._trend - float(made[0]), age
            self._trend = 0.0
        since = ages - self._stepped_at
        out: Float = (made + self._step * np.maximum(0.0, 1 - since / FADE_SAMPLES)).astype(np.float32)
        self._last = float(out[-1])
        return out


def _gain(age_s: NDArray[np.float64], holds_s: float, ends_s: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.clip((ends_s - age_s) / (ends_s - holds_s), 0, 1)
    return found


def _fit(own: Float, other: Float) -> NDArray[np.float64]:
    """``[2 * AROUND + 1]``: the filter that makes ``own`` of ``other`` with the least error; its middle is the same moment."""
    y, x = own.astype(np.float64), other.astype(np.float64)
    crossed = np.correlate(x, y, mode="valid")
    inner = x[AROUND:-AROUND]
    auto = np.correlate(np.concatenate([inner, np.zeros(2 * AROUND)]), inner, mode="valid")
    auto[0] = auto[0] * (1 + _LOADING) + 1e-9
    taps = np.arange(len(crossed))
    solved: NDArray[np.float64] = np.linalg.solve(auto[np.abs(taps[:, None] - taps)], crossed)
    return solved


def _period(own: Float, rate_hz: int) -> int:
    """Period of the voice at the end of ``own``, in samples: where it resembles itself most."""
    shortest, longest = rate_hz // _HIGHEST_HZ, min(rate_hz // _LOWEST_HZ, len(own) // 2)
    x = own[-2 * longest :].astype(np.float64)
    product = np.correlate(x, x[longest:], mode="valid")  # [longest + 1]: lags from the longest to none
    power = np.cumsum(np.concatenate([[0.0], x**2]))
    power = power[longest:] - power[: longest + 1]
    likeness = (product / np.sqrt(power + 1e-9))[: longest - shortest + 1]
    return longest - int(np.argmax(likeness))
