"""When hops arrive and when the device asks for them: logs of a session in memory that is there before it begins.

Each log is written by one thread alone, a row at a time and over what lies there: nothing is allocated and nothing waits. They are
read when the session is over.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrivals", "Arrived", "Asked", "Garbage", "Requests"]

Array = NDArray[np.float64]
Int = NDArray[np.int64]

KEPT = 2**19
"""Rows that a log keeps: 35 minutes of hops of 4 ms, in 13 MB; of a longer session the last."""
_NOTED_S = 0.0005


class Asked(NamedTuple):
    """Blocks that a device asked for, in order."""

    at_s: Array
    """Time at which each was asked for."""
    end: Int
    """Position after its last sample."""
    shortage: Int
    """Samples by which the engine's output, the fade included, did not reach its end; negative where it reached further."""
    flags: Int


class Requests:
    """Log of the device's thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self.count = 0
        self._at_s = np.full(kept, np.nan)
        self._end, self._shortage = np.full(kept, -1, np.int64), np.full(kept, -1, np.int32)
        self._flags = np.full(kept, -1, np.int8)

    def add(self, at_s: float, end: int, shortage: int, flags: int) -> None:
        """Note a block. Called by the device's thread: allocates nothing that stays."""
        row = self.count % len(self._at_s)
        self._at_s[row] = at_s
        self._end[row] = end
        self._shortage[row] = shortage
        self._flags[row] = flags
        self.count += 1

    def read(self) -> Asked:
        """The blocks that are kept."""
        rows = _rows(self.count, len(self._at_s))
        return Asked(self._at_s[rows], self._end[rows], self._shortage[rows].astype(np.int64), self._flags[rows].astype(np.int64))


class Arrived(NamedTuple):
    """Hops as the engine's output came, in order."""

    at_s: Array
    """Time at which each was there."""
    start: Int
    """Position of its first sample in the output."""
    step_s: Array
    """Compute time; not a number where the engine was not asked."""
    cpu_s: Array
    """Time of the processor that the engine's thread took for it; the rest it waited."""


class Arrivals:
    """Log of the engine's thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self.count = 0
        self._at_s, self._start = np.full(kept, np.nan), np.full(kept, -1, np.int64)
        self._step_s, self._cpu_s = np.full(kept, np.nan, np.float32), np.full(kept, np.nan, np.float32)

    def add(self, at_s: float, start: int, step_s: float, cpu_s: float) -> None:
        """Note a hop."""
        row = self.count % len(self._at_s)
        self._at_s[row], self._start[row] = at_s, start
        self._step_s[row], self._cpu_s[row] = step_s, cpu_s
        self.count += 1

    def read(self) -> Arrived:
        """The hops that are kept."""
        rows = _rows(self.count, len(self._at_s))
        return Arrived(
            self._at_s[rows], self._start[rows], self._step_s[rows].astype(np.float64), self._cpu_s[rows].astype(np.float64)
        )


class Garbage:
    """Log of the pauses that Python's garbage collector made, of half a millisecond and more, in whatever thread it ran."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, kept: int = 4096) -> None:
        self._clock, self._began, self._count = clock, 0.0, 0
        self._spans = np.full((kept, 2), np.nan)

    def __call__(self, phase: str, info: object) -> None:
        """Called by the collector at its start and its end. The thread may be the device's: nothing is allocated that stays."""
        now = self._clock()
        if phase == "start":
            self._began = now
        elif now - self._began >= _NOTED_S:
            row = self._count % len(self._spans)
            self._spans[row, 0] = self._began
            self._spans[row, 1] = now
            self._count += 1

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note pauses until the end of the block."""
        gc.callbacks.append(self)
        try:
            yield
        finally:
            gc.callbacks.remove(self)

    @property
    def spans(self) -> Array:
        """Begin and end of each pause, ``[pauses, 2]``."""
        return self._spans[_rows(self._count, len(self._spans))]


def _rows(count: int, kept: int) -> Int:
    """Rows of a log in their order."""
    return np.arange(max(0, count - kept), count) % kept
