"""A session in one file that can be listened to, and played again to the bit.

A FLAC file of 24 bits: what was heard, what was played, and a last channel of small numbers, the journal: how the device cut the
stream into blocks, how much of each the engine had not delivered, which hops it did not extract. That, the engine, and the head of
the file (settings, voice, artifact) determine the output; everything enters and leaves on the grid that the file can hold.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import ArtifactError, AudioError, ParityError
from edge_tse.files import open_private
from edge_tse.frame import FrameSpec
from edge_tse.live.loop import Fate, Loop
from edge_tse.live.ring import Ring
from edge_tse.live.session import GRID, Session
from edge_tse.live.steering import Change, Steering
from edge_tse.stream import AnyEngine
from edge_tse.table import parse_json, quote, read_table

__all__ = ["Recorder", "Recording", "Replayed", "load_recording", "replay"]

Float = NDArray[np.float32]
Int32 = NDArray[np.int32]

SCHEMA = 2
_HELD_S = 5.0  # what may wait for a disk
_RESERVE_BYTES = 2**20
# Kinds of a word of the journal, in its three lowest bits; from 2 on the fates in their order. A change is a hop and then a text.
_BLOCK, _SKIPPED, _END, _CHANGE, _TEXT = 1, 2, 5, 6, 7
_PAYLOAD = 2**20
_LONGEST_SHORTAGE = _PAYLOAD // 4 - 1


class Recorder:
    """A session's tap: two threads tell it everything, a third writes. Neither of the two ever waits for it.

    Space on the disk is taken before it is needed, so that a full one ends the recording and leaves a whole file.
    """

    def __init__(self, path: Path, head: Mapping[str, object], loop: Loop, frame: FrameSpec, tell: Callable[[str], None]) -> None:
        """``tell`` is given a line if the recording has to end before the session. ``AudioError`` if ``path`` cannot be written."""
        if path.suffix.lower() != ".flac":
            raise AudioError(f"{path}: a session is recorded as FLAC, give a name that ends in .flac")
        self._path, self._tell, self._rate_hz = path, tell, loop.rate_hz
        width = 2 * loop.ears + 1
        self._ears = loop.ears
        self._rows = np.zeros((loop.block, width), np.float32)
        self._ring = Ring(round(_HELD_S * loop.rate_hz) + 2 * loop.block, width)
        self._words: deque[int] = deque(maxlen=2**16)
        self._taken = 0
        self._done = threading.Event()
        self.ended = ""
        """Why it ended before the session did; empty if it did not."""
        self._disk = _Disk(open_private(path, AudioError))
        hop_rate_hz = frame.sample_rate_hz / frame.hop
        description = {"edge_tse_recording": SCHEMA, "loop": asdict(loop), "hop_rate_hz": hop_rate_hz, **head}
        self._file: Any = audio.flac_writer(self._disk, loop.rate_hz, width, json.dumps(description))
        self._thread = threading.Thread(target=self._run, name="edge-tse recorder", daemon=True)
        self._thread.start()

    def block(self, heard: Float, played: Float, shortage: int, flags: int) -> None:
        """Record a block as it passes; called by the device's thread."""
        n, ears = len(heard), self._ears
        if self.ended:
            return
        if self._ring.end + n - self._taken > self._ring.capacity - len(self._rows):
            self.ended = "the disk is too slow"
            return
        rows = self._rows[:n]
        rows[:, :ears] = heard
        rows[:, ears : 2 * ears] = played
        rows[:, -1] = 0
        rows[0, -1] = (_BLOCK + 8 * (flags + 4 * min(shortage, _LONGEST_SHORTAGE))) / GRID
        for i in range(1, min(n, 1 + len(self._words))):
            rows[i, -1] = self._words.popleft() / GRID
        self._ring.write(rows)

    def hop(self, index: int, fate: Fate) -> None:
        """Record a hop that was not extracted; called by the engine's thread."""
        self._words.append(_SKIPPED - 1 + fate + 8 * (index % _PAYLOAD))

    def change(self, index: int, change: Change) -> None:
        """Record a change and the hop from which it holds; called by the engine's thread."""
        text = json.dumps(change.to_json(), separators=(",", ":"))
        text += " " * (len(text) % 2)
        pairs = np.frombuffer(text.encode("ascii"), "<u2")
        self._words.extend([_CHANGE + 8 * (index % _PAYLOAD), *(_TEXT + 8 * int(pair) for pair in pairs)])

    @property
    def seconds(self) -> float:
        """Seconds that have been written."""
        return self._taken / self._rate_hz

    def close(self) -> None:
        """Write the rest; the file is whole after it. Another call does nothing."""
        if self._done.is_set():
            return
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._done.wait(0.05) and not self.ended:
                self._drain()
            self._drain()
            if not self.ended:
                words = [_END, *self._words]
                rows = np.zeros((len(words), self._rows.shape[1]), np.float32)
                rows[:, -1] = np.array(words, np.float32) / GRID
                self._put(rows)
        finally:
            self._file.close()
            self._disk.close()
        if self.ended:
            self._tell(f"the recording {self._path} ended at {self.seconds:.1f} s: {self.ended}; the sound goes on")

    def _drain(self) -> None:
        end = self._ring.end
        while self._taken < end and not (self.ended and self._disk.full):
            rows = np.empty((min(end - self._taken, self._rate_hz), self._rows.shape[1]), np.float32)
            self._ring.read(self._taken, rows)
            if not self._put(rows):
                return
            self._taken += len(rows)

    def _put(self, rows: Float) -> bool:
        """Whether a block found room on the disk: uncompressed, with a megabyte to spare for what the encoder holds."""
        if not self._disk.reserve(rows.nbytes + _RESERVE_BYTES):
            self.ended = f"there is no space ({self._disk.reason})"
            return False
        self._file.write(_to_grid(rows) << 8)  # 24 bits in the upper ones, as libsndfile has them
        return True


class _Disk:
    """A file for libsndfile's calls into Python, in which nothing may be raised; it owns the space it is about to write."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._reserved = self._end = 0
        self.full = False
        self.reason = ""

    def reserve(self, more: int) -> bool:
        """Whether the next ``more`` bytes will find room."""
        wanted = self._end + more
        if wanted <= self._reserved:
            return True
        try:
            os.posix_fallocate(self._file.fileno(), 0, wanted + _RESERVE_BYTES)
        except OSError as failure:
            self.full, self.reason = True, failure.strerror or str(failure)
            return False
        self._reserved = wanted + _RESERVE_BYTES
        return True

    def write(self, data: bytes) -> int:
        try:
            written = self._file.write(data)
        except OSError as failure:
            self.full, self.reason = True, failure.strerror or str(failure)
            return 0
        self._end = max(self._end, self._file.tell())
        return written

    def seek(self, offset: int, whence: int = 0) -> int:
        # The end is that of what was written, not of what was reserved.
        return self._file.seek(self._end + offset) if whence == os.SEEK_END else self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return b""

    def close(self) -> None:
        self._file.truncate(self._end)
        self._file.close()


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Content of a recorded session."""

    head: Mapping[str, Any]
    loop: Loop
    heard: Float
    """Sound from the microphones, ``[n, ears]``."""
    played: Int32
    """Sound that was played, ``[n, ears]``, in steps of the grid."""
    blocks: tuple[tuple[int, int, int], ...]
    """Position, shortage and flags of each block."""
    fates: Mapping[int, Fate]
    changes: Mapping[int, Sequence[Change]]
    """Changes at the beginning of a hop, in their order."""

    def figures(self) -> dict[str, int]:
        """Figures by name, ready for a report."""
        late = sum(1 for _, shortage, _ in self.blocks if shortage)
        return {"blocks": len(self.blocks), "not_extracted_hops": len(self.fates), "late_blocks": late}


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """Result of a replay."""

    signal: Float
    """Output of the replay, ``[ears, n]``."""
    rate_hz: int
    differing: int
    """Samples of any ear that differ from the recording; 0 on the engine that it was made with."""
    first: int | None
    """Position of the first sample that differs; None if none does."""

    def check(self, source: str, engines: str) -> None:
        """``ParityError`` if anything differs; ``engines`` says what recorded and what replayed."""
        if self.first is not None:
            raise ParityError(
                f"{source}: {self.differing} of {self.signal.shape[1]} samples differ, the first at "
                f"{self.first / self.rate_hz:.4f} s: {engines}"
            )

    def figures(self) -> dict[str, float]:
        """Figures by name, ready for a report."""
        return {"seconds": self.signal.shape[1] / self.rate_hz, "differing_samples": self.differing}


def load_recording(path: Path) -> Recording:
    """Read a recorded session. ``AudioError`` if the file is none, ``ArtifactError`` if a later edge-tse made it."""
    rows, rate_hz, comment = audio.read_integers(path)
    wanted = "make one with `edge-tse live --record`"
    head = parse_json(comment, f"{path} is no recorded session: its comment", AudioError, wanted)
    if "edge_tse_recording" not in head or "loop" not in head:
        raise AudioError(f"{path} is no recorded session: its comment does not say so: {wanted}")
    schema, hop_rate_hz = head["edge_tse_recording"], head.get("hop_rate_hz")
    if type(schema) is not int or schema > SCHEMA:
        raise ArtifactError(f"{path} has schema {quote(schema)}, this edge-tse reads up to {SCHEMA}: upgrade edge-tse")
    try:
        loop = read_table(Loop, head["loop"], f"{path}: loop", AudioError)
    except ValueError as failure:
        raise AudioError(f"{path}: loop: {failure}: {wanted}") from failure
    if not isinstance(hop_rate_hz, int | float) or not 0 < hop_rate_hz <= rate_hz:
        raise AudioError(f"{path}: {quote(hop_rate_hz)} hops a second at {rate_hz} Hz cannot be: {wanted}")
    if rows.shape[1] != 2 * loop.ears + 1 or rate_hz != loop.rate_hz:
        raise AudioError(
            f"{path} has {rows.shape[1]} channels at {rate_hz} Hz, a session of {loop.ears} ears {2 * loop.ears + 1} at "
            f"{loop.rate_hz} Hz: {wanted}"
        )
    journal = rows[:, -1]
    if len(journal) and int(journal.min()) < 0:
        raise AudioError(f"{path}: its journal holds {int(journal.min())}, which no session writes: it is damaged")
    at = np.flatnonzero(journal % 8 == _BLOCK)
    blocks = tuple((int(i), int(journal[i]) // 8 // 4, int(journal[i]) // 8 % 4) for i in at)
    fates = {
        _hop_at(int(i), int(journal[i]), hop_rate_hz / rate_hz): Fate(int(journal[i]) % 8 - _SKIPPED + 1)
        for i in np.flatnonzero((journal % 8 >= _SKIPPED) & (journal % 8 < _END))
    }
    changes = _changes(path, journal, hop_rate_hz / rate_hz)
    if type(from_hop := head.get("from_hop", 0)) is not int or from_hop < 0:
        raise AudioError(f"{path}: it begins at hop {quote(from_hop)}, which cannot be: {wanted}")
    last = np.flatnonzero(journal % 8 == _END)
    if len(last):
        n = int(last[-1])
    else:  # it ended before the session, maybe within a block
        blocks, n = blocks[:-1], blocks[-1][0] if blocks else 0
    heard = (rows[:n, : loop.ears] / GRID).astype(np.float32)
    played = rows[:n, loop.ears : 2 * loop.ears]
    return Recording(head=head, loop=loop, heard=heard, played=played, blocks=blocks, fates=fates, changes=changes)


def _hop_at(place: int, word: int, hops_per_sample: float) -> int:
    """Number of the hop that a word of the journal names.

    It is written modulo 2**20, 70 minutes, and is the one nearest before its place in the stream.
    """
    low, near = word // 8, int(place * hops_per_sample) + 1
    return low + max(0, near - low + _PAYLOAD // 2) // _PAYLOAD * _PAYLOAD


def _changes(path: Path, journal: Int32, hops_per_sample: float) -> dict[int, list[Change]]:
    """Changes by hop. A text that the end of the file cuts off never took effect where it could be heard."""
    found: dict[int, list[Change]] = {}
    words = [(int(i), int(journal[i])) for i in np.flatnonzero(journal % 8 >= _SKIPPED)]
    starts = [n for n, (_, word) in enumerate(words) if word % 8 == _CHANGE]
    for start in starts:
        pairs = [word // 8 for _, word in takewhile(lambda placed: placed[1] % 8 == _TEXT, words[start + 1 :])]
        where = f"{path}: the change at {words[start][0]} samples"
        try:
            text = b"".join(pair.to_bytes(2, "little") for pair in pairs)
        except OverflowError as failure:
            raise AudioError(f"{where} holds {max(pairs)}, which no session writes: it is damaged") from failure
        if start + 1 + len(pairs) == len(words) and not text.rstrip().endswith(b"}"):
            break
        told = parse_json(text, where, AudioError, "the recording is damaged")
        found.setdefault(_hop_at(*words[start], hops_per_sample), []).append(Change.from_json(told, where))
    return found


def replay(
    recording: Recording,
    engine: AnyEngine,
    shape: Callable[[Float, Float], Float] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    steering: Steering | None = None,
) -> Replayed:
    """Run the same blocks through the same session; lateness, failures and changes come from the journal instead of happening.

    ``AudioError`` for a recording that begins within its session: what came before is not in it.
    """
    if from_hop := recording.head.get("from_hop", 0):
        raise AudioError(
            f"the recording begins at hop {from_hop} of its session, a replay needs one from hop 0: make it with `live --record`, "
            "or listen to this one with any player"
        )
    session = Session(engine, recording.loop, shape=shape, steering=steering, fates=recording.fates, changes=recording.changes)
    n = len(recording.heard)
    out = np.zeros_like(recording.heard)
    fade = max(1, round(recording.loop.fade_s * recording.loop.rate_hz))
    ends = [at for at, _, _ in recording.blocks[1:]] + [n]  # one more than blocks where there is none
    for number, ((at, shortage, flags), end) in enumerate(zip(recording.blocks, ends, strict=False)):
        stop = min(end, at + recording.loop.block)
        session.exchange(recording.heard[at:stop], out[at:stop], flags, fade - shortage)
        session.work()
        if number % 1000 == 0:
            progress(at / n)
    differ = (_to_grid(out) != recording.played).any(axis=1)
    return Replayed(
        signal=np.ascontiguousarray(out.T),
        rate_hz=recording.loop.rate_hz,
        differing=int(np.count_nonzero(differ)),
        first=int(np.argmax(differ)) if differ.any() else None,
    )


def _to_grid(samples: Float) -> Int32:
    steps: Int32 = np.clip(np.rint(samples.astype(np.float64) * GRID), -GRID, GRID - 1).astype(np.int32)
    return steps
