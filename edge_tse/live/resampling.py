"""Sample rates of devices, converted as the sound arrives: a short polyphase filter whose delay is known before it runs.

soxr, which converts files, holds 20 to 77 ms back each way when it is fed in small chunks (measured, docs/decisions/0015): four
times what a wearer tolerates. This is the classical alternative: a Kaiser-windowed sinc (Oppenheim & Schafer, Discrete-Time Signal
Processing, section 7.5) of 32 samples of the lower rate, so 1 ms of delay at 16 kHz.
"""

from __future__ import annotations

from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

__all__ = ["REACH", "Resampler", "interpolate"]

Float = NDArray[np.float32]

REACH = 16
"""Zero crossings of the sinc on either side, in samples of the lower rate: the delay."""
_BETA = 6.0  # Kaiser: side lobes at -63 dB, below the noise of a microphone


class Resampler:
    """``[n, channels]`` in, the samples that are complete out; output sample *j* belongs to input time ``j * from / to``.

    Nothing moves in time: :attr:`delay_s` is how much later a sample can be given than it belongs.
    """

    def __init__(self, from_hz: int, to_hz: int, channels: int) -> None:
        shared = gcd(from_hz, to_hz)
        self._up, self._down = to_hz // shared, from_hz // shared
        self._same = from_hz == to_hz
        lower = min(from_hz, to_hz)
        self._reach = 0 if self._same else -(-REACH * from_hz // lower)
        self.delay_s = 0.0 if self._same else (self._reach + 1) / from_hz
        """Longest wait for a sample after the time that it belongs to."""
        self._filters = _filters(self._up, self._reach, lower / from_hz)
        self._taps = 2 * self._reach
        self._history = np.zeros((self._taps, channels), np.float32)
        self._first = -self._taps  # input index of the first row of the history
        self._next = 0  # output index

    def push(self, chunk: Float) -> Float:
        """``[any, channels] -> [any, channels]``."""
        if self._same:
            return chunk
        data = np.concatenate([self._history, chunk])
        end = self._first + len(data)
        # Output j needs inputs up to floor(j * down / up) + reach.
        last = -(-(end - self._reach) * self._up // self._down)
        if last <= self._next:
            self._history, kept = data, 0
        else:
            j = np.arange(self._next, last)
            at = j * self._down // self._up
            rows = (at - self._reach + 1 - self._first)[:, None] + np.arange(self._taps)
            out: Float = np.matmul(self._filters[j * self._down % self._up][:, None], data[rows])[:, 0]
            self._next = last
            kept = max(0, int(last * self._down // self._up) - self._reach + 1 - self._first)
            self._history = data[kept:].copy()
            self._first += kept
            return out
        return np.zeros((0, data.shape[1]), np.float32)


def _filters(up: int, reach: int, cutoff: float) -> Float:
    """``[up, 2 * reach]``: the filter for each position of an output sample between two input samples; each sums to one."""
    if not reach:
        return np.ones((up, 0), np.float32)
    offset = np.arange(up)[:, None] / up + (reach - 1) - np.arange(2 * reach)  # input samples from the tap to the output
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1 - (offset / reach) ** 2))) / np.i0(_BETA)
    taps = window * cutoff * np.sinc(cutoff * offset)
    filters: Float = (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
    return filters


_PHASES = 512  # between two of them filters are interpolated: -106 dB


def interpolate(window: Float, at: NDArray[np.float64]) -> Float:
    """Values ``[m]`` between the samples ``[n]`` of a window, at positions with :data:`REACH` samples on either side."""
    whole = at.astype(np.int64)
    phase = (at - whole) * _PHASES
    below = phase.astype(np.int64)
    towards = (phase - below).astype(np.float32)[:, None]
    filters = _phases()
    taps = filters[below] + towards * (filters[below + 1] - filters[below])
    rows = window[(whole - REACH + 1)[:, None] + np.arange(2 * REACH)]
    out: Float = np.einsum("mt,mt->m", rows, taps)
    return out


@cache
def _phases() -> Float:
    """``[_PHASES + 1, 2 * REACH]``: filters from one sample to the next."""
    filters = _filters(_PHASES, REACH, 1.0)
    return np.concatenate([filters, np.roll(filters[:1], 1, axis=1)])
