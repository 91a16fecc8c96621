"""A ring of samples that one thread writes and another reads without waiting, by position in the stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ring"]

Float = NDArray[np.float32]


class Ring:
    """The last ``capacity`` samples of a stream, one writer and any number of readers.

    ``end`` counts the samples ever written and is raised after they are in place: a reader that takes ``end`` first sees only whole
    samples. Reading does not remove; positions before the beginning and those that were overwritten are the reader's concern.
    """

    def __init__(self, capacity: int, channels: int, end: int = 0) -> None:
        self.capacity = capacity
        self.end = end
        """Position after the last sample."""
        self._data = np.zeros((capacity, channels), np.float32)

    def write(self, samples: Float) -> None:
        """Write ``[n, channels]`` after the last sample; ``n`` at most the capacity. Allocates nothing that stays."""
        n = len(samples)
        at = self.end % self.capacity
        first = min(n, self.capacity - at)
        self._data[at : at + first] = samples[:first]
        if first < n:
            self._data[: n - first] = samples[first:]
        self.end += n

    def skip(self, end: int) -> None:
        """Continue at a later position; the samples between keep whatever was there."""
        self.end = end

    def read(self, start: int, out: Float) -> None:
        """Fill ``out [n, channels]`` from position ``start``; silence before the stream began."""
        n = len(out)
        if start < 0:
            silent = min(n, -start)
            out[:silent] = 0
            if silent < n:
                self.read(0, out[silent:])
            return
        at = start % self.capacity
        first = min(n, self.capacity - at)
        out[:first] = self._data[at : at + first]
        if first < n:
            out[first:] = self._data[: n - first]
