"""Checks that look at sound block by block: whether it can be used at all, and how much of it is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError

__all__ = ["SILENT_PEAK", "Check", "ClipCount"]

Float = NDArray[np.float32]

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 768_000
LARGEST_PEAK = 100.0
"""Largest sample taken for sound, 40 dB over full scale: no recording reaches it, but integers stored as floats do."""
SILENT_PEAK = 10 ** (-90 / 20)
"""Peak below which sound is silence: a muted microphone, not a quiet talker."""

_CLIP_LEVEL = np.float32(1 - 2**-15)  # the largest positive int16
_CLIP_RUN = 3  # one or two samples at full scale are how a normalised file looks, three in a row are not


class Check:
    """Whether sound can be used: each of its blocks to :meth:`push`, then :meth:`done`."""

    def __init__(self, rate_hz: int, name: str) -> None:
        self._rate_hz, self._name = rate_hz, name
        self.samples = 0
        """Samples of a channel so far."""
        self.peak = 0.0
        """Largest magnitude so far."""
        self._values = self._bad = self._first_bad = 0

    def push(self, block: Float) -> None:
        """Look at ``[channels, any]``."""
        finite = np.isfinite(block)
        if finite.all():
            self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        else:
            if not self._bad:
                self._first_bad = self.samples + int(np.argmin(finite.all(axis=0)))
            self._bad += int(np.count_nonzero(~finite))
        self.samples += block.shape[1]
        self._values += block.size

    def done(self) -> None:
        """``AudioError`` if what was pushed is unusable."""
        name, rate_hz = self._name, self._rate_hz
        if not self.samples:
            raise AudioError(f"{name} is empty: 0 samples; record it again")
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise AudioError(
                f"{name} has {rate_hz} samples per second, {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} are accepted: resample it first"
            )
        if self._bad:
            raise AudioError(
                f"{name}: {self._bad} of {self._values} samples are NaN or infinite (first at {self._first_bad / rate_hz:.3f} s); "
                "export it again"
            )
        if self.peak > LARGEST_PEAK:
            raise AudioError(
                f"{name} peaks at {self.peak:.4g} where full scale is 1: it holds integers stored as floats, divide it by their "
                "full scale"
            )


class ClipCount:
    """Samples in runs of three or more at full scale; in floats that exceed it, at the largest magnitude, which is known."""

    def __init__(self, channels: int, peak: float) -> None:
        self._full_scale = max(_CLIP_LEVEL, np.float32(peak) * _CLIP_LEVEL)
        self._whole = 0
        self._open = np.zeros((channels, 2), np.int64)  # lengths of runs that the next block may go on with

    def push(self, block: Float) -> None:
        """Look at ``[channels, any]``."""
        edged = np.zeros(block.shape[1] + 2, bool)
        for channel, running in zip(block, self._open, strict=True):
            for side, full in enumerate((channel >= self._full_scale, channel <= -self._full_scale)):
                edged[1:-1] = full
                edges = np.flatnonzero(edged[1:] != edged[:-1])
                runs = edges[1::2] - edges[::2]
                if len(runs) and edges[0] == 0:
                    runs[0] += running[side]
                else:
                    runs = np.append(running[side], runs)
                goes_on = len(edges) and edges[-1] == len(channel)
                running[side] = runs[-1] if goes_on else 0
                self._whole += _clipped(runs[:-1] if goes_on else runs)

    @property
    def total(self) -> int:
        """Samples so far."""
        return self._whole + _clipped(self._open.reshape(-1))


def _clipped(runs: NDArray[np.int64]) -> int:
    return int(runs[runs >= _CLIP_RUN].sum())
