"""One ear behind a link: its clock, the buffer in which its packets wait, and what stands in for those that do not come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.clocks.clock import Clock
from edge_tse.live.clocks.concealment import AROUND, FADE_SAMPLES, HISTORY, Gap
from edge_tse.live.clocks.packet import LinkHealth, Packet
from edge_tse.live.resampling import REACH, interpolate

__all__ = ["Ear"]

Float = NDArray[np.float32]

_CAPACITY_S = 2.0
_BACKWARDS_S = 0.5  # no packet is overtaken by so much: the sender counts anew
_EARLY_S = 0.25  # no packet comes so early: the same
_LONGEST_WAIT_S = 1.0  # for a turn on the air
_REMEMBERED = 512  # packets


class Ear:
    """Samples of one ear by position: the sender's counter, made to go on where a sender begins to count anew.

    One thread gives packets to :meth:`take`, another takes samples by :meth:`complete` and :meth:`read`. Neither waits: a sample is
    in place before the position that it holds is written beside it.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.clock = Clock(rate_hz)
        capacity = 2 ** int(np.ceil(np.log2(_CAPACITY_S * rate_hz)))
        self._mask = capacity - 1
        self._data = np.zeros(capacity, np.float32)
        self._holds = np.full(capacity, -1, np.int64)
        self._base: int | None = None
        self._ready = 0
        self._gap: Gap | None = None
        self._gap_at = 0
        self._last: tuple[int, int] | None = None  # counter, sequence
        self._first_number = self._highest = self._unique = 0
        self._seen: dict[int, None] = {}
        self._packets = self._lost_before = self._late = self._duplicates = self._reordered = self._concealed = self._restarts = 0

    # The link's thread

    def take(self, packet: Packet) -> None:
        """Take a packet that has arrived."""
        n = len(packet.samples)
        self._packets += 1
        if self._base is None:
            self._base = self._mask + 1 - packet.counter
        position = self._base + packet.counter
        arrived_s = packet.arrived_s - min(max(packet.waited_s, 0.0), _LONGEST_WAIT_S)
        if self._is_anew(packet, arrived_s, position + n):
            position = self._begin_anew(packet, arrived_s)
        if not self._is_new(packet):
            self._duplicates += 1
            return
        self.clock.take(position + n, arrived_s)
        if self.clock.pause_s:
            position = self._begin_anew(packet, arrived_s)
        if position + n <= self._ready:
            self._late += 1
            return
        start = max(position, self._ready)
        places = np.arange(start, position + n) & self._mask
        self._data[places] = packet.samples[start - position :]
        self._holds[places] = np.arange(start, position + n)

    def _is_anew(self, packet: Packet, arrived_s: float, end: int) -> bool:
        """Whether the sender's counter has jumped."""
        if self._last is None or self.clock.line is None:
            return False
        back = self._last[0] - packet.counter > _BACKWARDS_S * self.rate_hz
        return back or self.clock.lateness_s(end, arrived_s) < -_EARLY_S

    def _begin_anew(self, packet: Packet, arrived_s: float) -> int:
        """Position of a packet whose sender counts anew: where the clock says that it belongs."""
        assert self.clock.line is not None
        end = round(self.clock.line.position_at(arrived_s - self.clock.way_s))
        self._base = end - len(packet.samples) - packet.counter
        self.clock.restart()
        self._restarts += 1
        self._lost_before += self._missing
        self._last = None
        return end - len(packet.samples)

    def _is_new(self, packet: Packet) -> bool:
        """Whether a packet comes for the first time; counts what is missing between packets."""
        if self._last is None:
            self._first_number = self._highest = packet.sequence
            self._unique, self._seen = 0, {}
            number = packet.sequence
        else:
            number = self._highest + (packet.sequence - self._highest + 2**15) % 2**16 - 2**15
        if number in self._seen:
            return False
        self._reordered += number < self._highest
        self._highest = max(self._highest, number)
        self._seen[number] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._unique += 1
        self._last = (max(packet.counter, self._last[0]) if self._last else packet.counter, packet.sequence)
        return True

    @property
    def _missing(self) -> int:
        return max(0, self._highest - self._first_number + 1 - self._unique) if self._last else 0

    def counter_at(self, position: float) -> float:
        """The sender's counter at a position, as it counts now."""
        return position - (self._base or 0)

    # The listener's thread

    def begin(self, position: int) -> None:
        """Say that samples are read from ``position`` on."""
        self._ready, self._gap = position, None

    def complete(self, end: int, other: Ear) -> None:
        """Fill what is missing before position ``end``; a packet that comes for it later is late."""
        start, self._ready = self._ready, max(end, self._ready)
        if end <= start:
            return
        positions = np.arange(start, end)
        there = self._holds[positions & self._mask] == positions
        if self._gap is None and there.all():
            return
        edges = np.flatnonzero(np.diff(there)) + 1
        for run in np.split(positions, edges):
            if there[run[0] - start]:
                self._join(run, other)
            else:
                self._conceal(run, other)

    def _conceal(self, run: NDArray[np.int64], other: Ear) -> None:
        if self._gap is None:
            self._gap_at = int(run[0])
            self._shift = self._offset(other, self._gap_at)
            heard = other.window(self._gap_at - HISTORY + self._shift - AROUND, HISTORY + 2 * AROUND)
            self._gap = Gap(self.rate_hz, self._data[np.arange(self._gap_at - HISTORY, self._gap_at) & self._mask], heard)
        self._data[run & self._mask] = self._stand_in(run, other)
        self._holds[run & self._mask] = run
        self._concealed += len(run)

    def _join(self, run: NDArray[np.int64], other: Ear) -> None:
        """Fade from the stand-in to what is there again."""
        if self._gap is None:
            return
        run = run[:FADE_SAMPLES]
        towards = (np.arange(len(run), dtype=np.float32) + 1) / (len(run) + 1)
        places = run & self._mask
        made = self._stand_in(run, other)
        self._data[places] = made + towards * (self._data[places] - made)
        self._gap = None

    def _stand_in(self, run: NDArray[np.int64], other: Ear) -> Float:
        assert self._gap is not None
        around = other.window(int(run[0]) + self._shift - AROUND, len(run) + 2 * AROUND)
        return self._gap.more(int(run[0]) - self._gap_at, len(run), around)

    def _offset(self, other: Ear, position: int) -> int:
        """Positions of the other ear less those of this one, at the same time."""
        if self.clock.line is None or other.clock.line is None:
            return 0
        return round(other.clock.line.position_at(self.clock.line.time_of(position))) - position

    def window(self, start: int, n: int) -> Float | None:
        """``[n]`` samples from ``start``; None if some are not there."""
        positions = np.arange(start, start + n)
        places = positions & self._mask
        return self._data[places] if bool((self._holds[places] == positions).all()) else None

    def read(self, at: NDArray[np.float64]) -> Float:
        """Samples between samples, at positions ``[n]`` that do not descend and that :meth:`complete` has seen."""
        start = int(at[0]) - REACH + 1
        return interpolate(self._data[np.arange(start, int(at[-1]) + REACH + 1) & self._mask], at - start)

    @property
    def health(self) -> LinkHealth:
        """Counters and estimates so far."""
        buffer_s = self.clock.buffer_s
        return LinkHealth(
            packets=self._packets,
            lost=self._lost_before + self._missing,
            late=self._late,
            duplicates=self._duplicates,
            reordered=self._reordered,
            concealed_samples=self._concealed,
            restarts=self._restarts,
            way_changes=self.clock.way_changes,
            drift_ppm=self.clock.drift_ppm,
            error_us=self.clock.error_s * 1e6,
            converged_s=self.clock.converged_s,
            buffer_ms=None if buffer_s is None else buffer_s * 1e3,
        )
