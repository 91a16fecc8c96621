"""The journal of a recorded session: small numbers beside its sound, which say what the sound alone does not.

How the device cut the stream into blocks and how much of each the engine had not delivered, which hops were not extracted, what was
changed at which hop. A word is 23 bits at one sample: its kind in the three lowest, and what the kind says in the others.
"""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.live.loop import Fate, Loop
from edge_tse.live.steering import Change
from edge_tse.table import parse_json

__all__ = ["BLOCK", "END", "BlockCode", "Journal", "change_words", "fate_word"]

Int32 = NDArray[np.int32]

BLOCK, _SKIPPED, END, _CHANGE, _TEXT = 1, 2, 5, 6, 7
"""Kinds; from the second on the fates in their order. A change is a hop, and then words of two characters of its text."""
_PAYLOAD = 2**20
_MOST = 2**17 - 1
"""Most samples that a word can say a block was late by; no device has blocks that are longer."""


class BlockCode:
    """How a block is written: by how many samples it was late or, in quarters of a millisecond, early.

    How early is told by what it differs from the usual, rounded down: so that the journal is not heard.
    """

    def __init__(self, loop: Loop, *, reserves: bool = True) -> None:
        """Without ``reserves``, before schema 3, no block is told to be early."""
        self._calm, self._step, self._reserves = loop.calm, max(1, loop.rate_hz // 4000), reserves

    def word(self, shortage: int, flags: int) -> int:
        """Word at the first sample of a block; its shortage is negative if it was early."""
        if shortage > 0:
            said = 2 * min(shortage, _MOST)
        else:
            less = max(-_MOST // 2, min(-((-shortage - self._calm) // self._step), _MOST // 2))
            said = 1 + 2 * (2 * less if less >= 0 else -2 * less - 1)
        return BLOCK + 8 * (flags + 4 * said)

    def read(self, word: int) -> tuple[int, int] | None:
        """Shortage and flags of the block that begins here; None if none does."""
        if word % 8 != BLOCK:
            return None
        said, flags = word // 8 // 4, word // 8 % 4
        if not self._reserves:
            return said, flags
        if said % 2 == 0:
            return said // 2, flags
        less = said // 4 if said // 2 % 2 == 0 else -(said // 4 + 1)
        return min(0, less * self._step - self._calm), flags


def fate_word(hop: int, fate: Fate) -> int:
    """Word for a hop that was not extracted."""
    return _SKIPPED - 1 + fate + 8 * (hop % _PAYLOAD)


def change_words(hop: int, change: Change) -> list[int]:
    """Words for a change and the hop from which it holds."""
    text = json.dumps(change.to_json(), separators=(",", ":"))
    text += " " * (len(text) % 2)
    pairs = np.frombuffer(text.encode("ascii"), "<u2")
    return [_CHANGE + 8 * (hop % _PAYLOAD), *(_TEXT + 8 * int(pair) for pair in pairs)]


class Journal:
    """What the journal of a recording says of the whole of it: :meth:`push` all its words, then :meth:`close`."""

    def __init__(self, path: Path, hops_per_sample: float, code: BlockCode) -> None:
        self.starts, self.shortages, self.flags = array("q"), array("i"), array("b")
        """First sample, shortage and flags of each block."""
        self._code = code
        self.fates: dict[int, Fate] = {}
        self.changes: dict[int, list[Change]] = {}
        """Changes at the beginning of a hop, in their order."""
        self._path, self._hops_per_sample = path, hops_per_sample
        self._at = self._late = 0
        self._last = self._ended = (0, 0, 0)
        self._has_end = False
        self._hop, self._place, self._text = -1, 0, b""

    def push(self, words: Int32) -> None:
        """Read the words of the next samples; ``AudioError`` for what no session writes."""
        if len(words) and int(words.min()) < 0:
            raise self._damage(f"its journal holds {int(words.min())}, which no session writes")
        for i in np.flatnonzero(words % 8):
            place, kind, value = self._at + int(i), int(words[i]) % 8, int(words[i]) // 8
            if kind == BLOCK:
                self._last = (place, len(self.starts), self._late)
                shortage, flags = self._code.read(int(words[i])) or (0, 0)
                self.starts.append(place)
                self.shortages.append(shortage)
                self.flags.append(flags)
                self._late += shortage > 0
            elif kind == _TEXT:
                if value >= 2**16:
                    raise self._damage(f"the change at {self._place} samples holds {value}, which no session writes")
                self._text += value.to_bytes(2, "little")
            else:
                self._finish_change()
                if kind == _CHANGE:
                    self._hop, self._place = self._hop_at(place, value), place
                elif kind == END:
                    self._has_end, self._ended = True, (place, len(self.starts), self._late)
                else:
                    self.fates[self._hop_at(place, value)] = Fate(kind - _SKIPPED + 1)
        self._at += len(words)

    def close(self) -> tuple[int, int, int]:
        """Samples of an ear, blocks, and late ones among them; of a recording that ended before its session, maybe within a block.

        A change whose text the end cuts off never took effect where it could be heard.
        """
        if self._text.rstrip().endswith(b"}"):
            self._finish_change()
        return self._ended if self._has_end else self._last

    def _finish_change(self) -> None:
        if self._hop >= 0:
            where = f"{self._path}: the change at {self._place} samples"
            told = parse_json(self._text, where, AudioError, "the recording is damaged")
            self.changes.setdefault(self._hop, []).append(Change.from_json(told, where))
        self._hop, self._text = -1, b""

    def _hop_at(self, place: int, value: int) -> int:
        """Number of a hop, which is written modulo 2**20, 70 minutes: the one nearest before its place in the stream."""
        near = int(place * self._hops_per_sample) + 1
        return value + max(0, near - value + _PAYLOAD // 2) // _PAYLOAD * _PAYLOAD

    def _damage(self, what: str) -> AudioError:
        return AudioError(f"{self._path}: {what}: it is damaged")
