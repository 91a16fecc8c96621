"""A sender's clock as seen from here: a line through the arrivals of its packets that only their shortest ways touch.

A packet is never early, so of each quarter second only the promptest packet counts (the clock filter of NTP: Mills et al., RFC
5905, section 10), corrected for what even that one waited (Robson & Whitlock, Biometrika 51, 1964: the end of a distribution is
estimated by twice its smallest sample less the second smallest). These minima go through a Kalman filter with the state of an
oscillator: time, and a rate that wanders (Zucca & Tavella, IEEE Trans. UFFC 52, 2005). A clock cannot jump and a link can: once it
has settled, minima that lie elsewhere for three quarters of a second are a change of the way, and the line goes on as it was.

What no arrival can tell is the way itself: two links with unlike shortest ways put their ears apart by the difference.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np

__all__ = ["Clock", "Line"]

STRETCH_S = 0.25
"""Time of which the promptest packet counts."""
CONVERGED_S = 20e-6
_FIRST_TIME_S, _FIRST_RATE = 5e-3, 200e-6  # standard errors before anything is known
_KNOWN_RATE = 1e-6  # the same of the rate, of a clock that was heard before
_WANDER = 0.3e-6  # of the rate, per square root of a second: 20 ppm within a minute are followed
_FLOOR_S = 5e-6  # no minimum is trusted further: time stamps of an operating system
_SETTLED = 16  # stretches
_GATE_S, _GATE_SIGMAS = 200e-6, 6.0
_PATIENCE = 3  # stretches that must agree before the way is said to have changed
_AGREE_S = 1e-3
_LONGEST_STEP_S = 0.02  # a way that is longer by more than this is a counter that paused
_FASTEST = 1000e-6
_REMEMBERED = 4096  # arrivals


class Line(NamedTuple):
    """Arrival of sample positions: ``at_s + (position - start) * pace_s``."""

    start: float
    at_s: float
    pace_s: float

    def time_of(self, position: float) -> float:
        """Time at which a packet that ends before ``position`` arrives at the earliest."""
        return self.at_s + (position - self.start) * self.pace_s

    def position_at(self, time_s: float) -> float:
        """Inverse of :meth:`time_of`."""
        return self.start + (time_s - self.at_s) / self.pace_s


class Clock:
    """Estimate of one clock. One thread gives it arrivals; any may read :attr:`line`, which is replaced as a whole."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.line: Line | None = None
        """The estimate; None before the first arrival."""
        self.way_s = 0.0
        """Time by which the shortest way has become longer since the start."""
        self.way_changes = 0
        self.pause_s = 0.0
        """Time by which the sender's counter is found to have paused, until :meth:`restart`."""
        self.converged_s: float | None = None
        """Time until the standard error was first below 20 us."""
        self._late_s, self._arrivals = np.zeros(_REMEMBERED), 0
        self._stretch: list[tuple[float, float]] = []
        self._began = self._first = 0.0
        self._spacings_s: deque[float] = deque(maxlen=_SETTLED)
        self._suspects: deque[float] = deque(maxlen=_PATIENCE)
        self._taken = 0
        self._rate = 0.0
        self._known = (0.0, _FIRST_RATE**2)  # rate and its variance, before the first packet or a restart
        self._p = (_FIRST_TIME_S**2, 0.0, self._known[1])

    def take(self, position: float, arrived_s: float) -> None:
        """Take the arrival of a packet that ends before sample ``position`` of the sender."""
        if self.line is None:
            self.line = Line(position, arrived_s, 1 / self.rate_hz)
            self._first = position
        late_s = self.lateness_s(position, arrived_s)
        if late_s < 0 and self._taken == 0:  # nothing is known yet but this: it cannot have come early
            self.line = self.line._replace(at_s=self.line.at_s + late_s)
            self._stretch = [(at, each_s - late_s) for at, each_s in self._stretch]
            late_s = 0.0
        if not self._stretch:
            self._began = position
        self._stretch.append((position, late_s))
        self._late_s[self._arrivals % _REMEMBERED] = late_s
        self._arrivals += 1
        if position - self._began >= STRETCH_S * self.rate_hz and len(self._stretch) > 1:
            self._close()

    def lateness_s(self, position: float, arrived_s: float) -> float:
        """Time by which a packet that ends before ``position`` came after the earliest that it could."""
        assert self.line is not None
        return arrived_s - self.line.time_of(position) - self.way_s

    def restart(self) -> None:
        """Keep the rate and doubt the time: the sender counts anew."""
        self._stretch, self.pause_s = [], 0.0
        self._known = (self._rate, max(self._p[2], _KNOWN_RATE**2))
        self._begin()

    def _begin(self) -> None:
        """Doubt the time as before the first packet, and the rate as before this beginning."""
        self._taken = self._arrivals = 0
        self._suspects.clear()
        self._spacings_s.clear()
        self._p = (_FIRST_TIME_S**2, 0.0, self._known[1])

    def follow(self) -> None:
        """Take what was found of the way, or of a pause, for the clock itself: a listener's stops when nobody asks."""
        moved_s = self.way_s + self.pause_s
        if self.line is not None and moved_s:
            self.line = self.line._replace(at_s=self.line.at_s + moved_s)
            self.way_s = self.pause_s = 0.0

    @property
    def drift_ppm(self) -> float:
        """Rate of the clock against the receiver's: positive, it is fast."""
        return -self._rate / (1 + self._rate) * 1e6

    @property
    def error_s(self) -> float:
        """Standard error of the line where it was last corrected."""
        return math.sqrt(self._p[0])

    @property
    def buffer_s(self) -> float | None:
        """Lateness that 99.9 % of the last packets kept below."""
        known = min(self._arrivals, _REMEMBERED)
        return float(np.percentile(self._late_s[:known], 99.9)) if known else None

    def _close(self) -> None:
        """Correct the line by the promptest packet of the stretch."""
        assert self.line is not None
        ordered = sorted(self._stretch, key=lambda each: each[1])
        self._stretch = []
        (position, least_s), spacing_s = ordered[0], ordered[1][1] - ordered[0][1]
        self._spacings_s.append(spacing_s)
        # The mean of an exponential, by its median: a few packets that came in a heap do not move it.
        mean_s = sorted(self._spacings_s)[len(self._spacings_s) // 2] / math.log(2)
        found_s = least_s - mean_s
        p = self._predict((position - self.line.start) / self.rate_hz)
        noise = _FLOOR_S**2 + max(spacing_s, mean_s) ** 2
        gate_s = max(_GATE_S, _GATE_SIGMAS * math.sqrt(p[0] + noise))
        if (self._taken > 0 and found_s > gate_s) or (self._taken >= _SETTLED and found_s < -gate_s):
            self._p = p
            self.line = Line(position, self.line.time_of(position), self.line.pace_s)
            self._suspect(found_s)
            return
        self._suspects.clear()
        if found_s < -gate_s:
            # None is early: those before it were late, as packets are that waited for somebody to listen. Begin again.
            self._rate = self._known[0]
            self.line = Line(position, self.line.time_of(position) + least_s, (1 + self._rate) / self.rate_hz)
            self._begin()
            return
        total = p[0] + noise
        gains = p[0] / total, p[1] / total
        at_s = self.line.time_of(position) + gains[0] * found_s
        self._rate = min(max(self._rate + gains[1] * found_s, -_FASTEST), _FASTEST)
        self._p = (p[0] * (1 - gains[0]), p[1] * (1 - gains[0]), p[2] - gains[1] * p[1])
        self.line = Line(position, at_s, (1 + self._rate) / self.rate_hz)
        self._taken += 1
        if self.converged_s is None and self._taken >= _SETTLED and self.error_s < CONVERGED_S:
            self.converged_s = (position - self._first) / self.rate_hz

    def _predict(self, step_s: float) -> tuple[float, float, float]:
        """Covariance after ``step_s``, which is negative where a stretch's promptest packet lies before the last one's."""
        step = max(step_s, 0.0)
        p00, p01, p11 = self._p
        wander = _WANDER**2
        return (
            p00 + 2 * step * p01 + step**2 * p11 + wander * step**3 / 3,
            p01 + step * p11 + wander * step**2 / 2,
            p11 + wander * step,
        )

    def _suspect(self, found_s: float) -> None:
        """Count a stretch that lies elsewhere; once enough of them agree, say why."""
        self._suspects.append(found_s)
        if len(self._suspects) < _PATIENCE or max(self._suspects) - min(self._suspects) > _AGREE_S:
            return
        middle_s = sorted(self._suspects)[_PATIENCE // 2]
        if abs(middle_s) > _LONGEST_STEP_S:
            self.pause_s = middle_s
        else:
            self.way_s += middle_s
            self.way_changes += 1
        self._suspects.clear()
