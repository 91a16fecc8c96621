"""Talker and mixture, each at its level, aligned sample for sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.hearing.chain import LEVELS_DB

__all__ = ["TALKER_ALONE", "Mix", "Passing"]

Float = NDArray[np.float32]


class Passing:
    """Blocks ``[channels, any]`` on their way to an extraction, of which the talker's share comes out later."""

    def __init__(self, blocks: Iterable[Float], keep: bool) -> None:
        """``keep`` holds what passed until it is taken."""
        self._blocks, self._keep = blocks, keep
        self._kept: deque[Float] = deque()
        self.samples = 0
        """Samples of a channel that have passed."""

    def __iter__(self) -> Iterator[Float]:
        for block in self._blocks:
            self.samples += block.shape[1]
            if self._keep:
                self._kept.append(block)
            yield block

    def take(self, samples: int) -> Float:
        """The next ``[channels, samples]`` of what has passed."""
        parts = []
        while samples:
            block = self._kept.popleft()
            parts.append(block[:, :samples])
            if block.shape[1] > samples:
                self._kept.appendleft(block[:, samples:])
            samples -= parts[-1].shape[1]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Mix:
    """Amplitudes of the talker and of the mixture, the room in which the talker still is."""

    talker: float
    room: float

    @classmethod
    def of_strength(cls, strength: float) -> Mix:
        """From the mixture (0) to the talker alone (1): the talker keeps its level, the rest falls to ``1 - strength``.

        ``AudioError`` outside of 0 to 1.
        """
        if not 0 <= strength <= 1:
            raise AudioError(f"strength {strength:g} is not within 0 (the mixture) and 1 (the talker alone)")
        return cls(strength, 1 - strength)

    @classmethod
    def of_ambient(cls, ambient_db: float) -> Mix:
        """The talker, and beside it the room at a level in dB, as a live session mixes them. ``AudioError`` for another level."""
        low, high = LEVELS_DB["ambient_db"]
        if not low <= ambient_db <= high:
            raise AudioError(f"ambient {ambient_db:g} dB is not within {low:g} to {high:g} dB")
        return cls(1.0, 10 ** (ambient_db / 20))

    def __call__(self, talker: Float, room: Passing) -> Float:
        """The mix ``[channels, n]`` of a block of the talker and of the same samples of the room, which are taken."""
        if not self.room:
            return talker
        return talker * np.float32(self.talker) + room.take(talker.shape[1]) * np.float32(self.room)


TALKER_ALONE = Mix(1.0, 0.0)
