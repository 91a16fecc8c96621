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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import ArtifactError, AudioError, ParityError
from edge_tse.files import open_private
from edge_tse.frame import FrameSpec
from edge_tse.live.arrivals import Asked
from edge_tse.live.journal import BLOCK, END, BlockCode, Journal, change_words, fate_word
from edge_tse.live.loop import Fate, Loop
from edge_tse.live.ring import Ring
from edge_tse.live.session import GRID, Session
from edge_tse.live.steering import Change, Steering
from edge_tse.stream import AnyEngine
from edge_tse.table import parse_json, quote, read_table

__all__ = ["Recorder", "Recording", "Replayed", "load_recording", "replay"]

Float = NDArray[np.float32]
Int32 = NDArray[np.int32]

SCHEMA = 3
_RESERVES = 3
"""Schema from which on a recording tells by how much a block was early."""
_LEAST_BLOCK = 2  # a word tells of a block, the samples behind it of all else
_HELD_S = 5.0  # what may wait for a disk
_RESERVE_BYTES = 2**20


class Recorder:
    """A session's tap: two threads tell it everything, a third writes. Neither of the two ever waits for it.

    Space on the disk is taken before it is needed, so that a full one ends the recording and leaves a whole file.
    """

    def __init__(self, path: Path, head: Mapping[str, object], loop: Loop, frame: FrameSpec, tell: Callable[[str], None]) -> None:
        """``tell`` is given a line if the recording has to end before the session. ``AudioError`` if ``path`` cannot be written."""
        if path.suffix.lower() != ".flac":
            raise AudioError(f"{path}: a session is recorded as FLAC, give a name that ends in .flac")
        if loop.block < _LEAST_BLOCK:
            raise AudioError(
                f"blocks of {loop.block} sample leave a recording no room for what it tells: choose at least {_LEAST_BLOCK}"
            )
        self._path, self._tell, self._rate_hz, self._code = path, tell, loop.rate_hz, BlockCode(loop)
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
        """Record a block as it passes; called by the device's thread. The shortage is negative where output was early."""
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
        rows[0, -1] = self._code.word(shortage, flags) / GRID
        for i in range(1, min(n, 1 + len(self._words))):
            rows[i, -1] = self._words.popleft() / GRID
        self._ring.write(rows)

    def hop(self, index: int, fate: Fate) -> None:
        """Record a hop that was not extracted; called by the engine's thread."""
        self._words.append(fate_word(index, fate))

    def change(self, index: int, change: Change) -> None:
        """Record a change and the hop from which it holds; called by the engine's thread."""
        self._words.extend(change_words(index, change))

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
                words = [END, *self._words]
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


class Stretch(NamedTuple):
    """Samples of a recorded session: a block of the device, or what lies between two of them."""

    heard: Float
    """Sound from the microphones, ``[n, ears]``."""
    played: Int32
    """Sound that was played, ``[n, ears]``, in steps of the grid."""
    block: tuple[int, int] | None
    """Shortage and flags of the block; None between blocks, where a damaged journal has lost them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """A recorded session: its sound stays in the file, and is read as it is needed."""

    head: Mapping[str, Any]
    loop: Loop
    samples: int
    """Samples of an ear."""
    blocks: int
    late: int
    """Blocks in which the engine's output was not there in time."""
    fates: Mapping[int, Fate]
    changes: Mapping[int, Sequence[Change]]
    """Changes at the beginning of a hop, in their order."""
    asked: Asked
    """Blocks as the device asked for them; at the times that their places in the sound have."""
    code: BlockCode
    tells_reserves: bool
    """Whether it tells by how much the engine's output was early; earlier recordings tell only by how much it was late."""
    sound: audio.StoredIntegers

    def figures(self) -> dict[str, int]:
        """Figures by name, ready for a report."""
        return {"blocks": self.blocks, "not_extracted_hops": len(self.fates), "late_blocks": self.late}

    def stretches(self) -> Iterator[Stretch]:
        """Everything that was heard and played, in order."""
        rest, left = np.zeros((0, self.sound.channels), np.int32), self.samples
        for more in self.sound.blocks():
            rows = np.concatenate([rest, more[:left]])
            left -= min(left, len(more))
            cuts = list(self._cuts(rows, last=not left))
            yield from (self._stretch(rows[at:stop]) for at, stop in cuts)
            rest = rows[cuts[-1][1] if cuts else 0 :]
            if not left:
                return

    def _cuts(self, rows: Int32, last: bool) -> Iterator[tuple[int, int]]:
        """First and one past the last row of each stretch that is wholly in ``rows``."""
        marks = np.flatnonzero(rows[:, -1] % 8 == BLOCK)
        at = 0
        while at < len(rows):
            ahead = int(np.searchsorted(marks, at))
            is_block = ahead < len(marks) and marks[ahead] == at
            if is_block and len(rows) - at < self.loop.block and not last:
                return  # its end may be among the rows that follow
            following = ahead + is_block
            stop = int(marks[following]) if following < len(marks) else len(rows)
            if is_block:
                stop = min(stop, at + self.loop.block)
            yield at, stop
            at = stop

    def _stretch(self, rows: Int32) -> Stretch:
        word, ears = int(rows[0, -1]), self.loop.ears
        heard = (rows[:, :ears] / GRID).astype(np.float32)
        return Stretch(heard, rows[:, ears : 2 * ears], self.code.read(word))


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed:
    """Result of a replay."""

    samples: int
    """Samples of an ear."""
    rate_hz: int
    differing: int
    """Samples of any ear that differ from the recording; 0 on the engine that it was made with."""
    first: int | None
    """Position of the first sample that differs; None if none does."""

    def check(self, source: str, engines: str) -> None:
        """``ParityError`` if anything differs; ``engines`` says what recorded and what replayed."""
        if self.first is not None:
            raise ParityError(
                f"{source}: {self.differing} of {self.samples} samples differ, the first at "
                f"{self.first / self.rate_hz:.4f} s: {engines}"
            )

    def figures(self) -> dict[str, float]:
        """Figures by name, ready for a report."""
        return {"seconds": self.samples / self.rate_hz, "differing_samples": self.differing}


def load_recording(path: Path) -> Recording:
    """Open a recorded session and read its journal. ``AudioError`` if the file is none, ``ArtifactError`` if a later edge-tse
    made it.
    """
    sound = audio.StoredIntegers(path)
    rate_hz = sound.rate_hz
    wanted = "make one with `edge-tse live --record`"
    head = parse_json(sound.comment, f"{path} is no recorded session: its comment", AudioError, wanted)
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
    if sound.channels != 2 * loop.ears + 1 or rate_hz != loop.rate_hz:
        raise AudioError(
            f"{path} has {sound.channels} channels at {rate_hz} Hz, a session of {loop.ears} ears {2 * loop.ears + 1} at "
            f"{loop.rate_hz} Hz: {wanted}"
        )
    if type(from_hop := head.get("from_hop", 0)) is not int or from_hop < 0:
        raise AudioError(f"{path}: it begins at hop {quote(from_hop)}, which cannot be: {wanted}")
    code = BlockCode(loop, reserves=schema >= _RESERVES)
    journal = Journal(path, hop_rate_hz / rate_hz, code)
    for rows in sound.blocks():
        journal.push(rows[:, -1])
    samples, blocks, late = journal.close()
    return Recording(
        head=head,
        loop=loop,
        samples=samples,
        blocks=blocks,
        late=late,
        fates=journal.fates,
        changes=journal.changes,
        asked=_asked(journal, loop, blocks),
        code=code,
        tells_reserves=schema >= _RESERVES,
        sound=sound,
    )


def _asked(journal: Journal, loop: Loop, blocks: int) -> Asked:
    starts = np.array(journal.starts[:blocks], np.int64)
    ends = np.minimum(np.append(starts[1:], 2**62), starts + loop.block)
    shortages, flags = (np.array(each[:blocks], np.int64) for each in (journal.shortages, journal.flags))
    return Asked(starts / loop.rate_hz, ends, shortages, flags)


def replay(
    recording: Recording,
    engine: AnyEngine,
    shape: Callable[[Float, Float], Float] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    write: Callable[[Float], None] = lambda played: None,
    steering: Steering | None = None,
) -> Replayed:
    """Run the same blocks through the same session; lateness, failures and changes come from the journal instead of happening.

    ``write`` is given the output in blocks ``[ears, any]``. ``AudioError`` for a recording that begins within its session: what
    came before is not in it.
    """
    if from_hop := recording.head.get("from_hop", 0):
        raise AudioError(
            f"the recording begins at hop {from_hop} of its session, a replay needs one from hop 0: make it with `live --record`, "
            "or listen to this one with any player"
        )
    session = Session(engine, recording.loop, shape=shape, steering=steering, fates=recording.fates, changes=recording.changes)
    at = differing = 0
    first: int | None = None
    gathered: list[Float] = []
    told = 0
    for heard, played, block in recording.stretches():
        out = np.zeros_like(heard)
        if block is not None:
            shortage, flags = block
            session.exchange(heard, out, flags, recording.loop.fade - shortage)
            session.work()
        differ = (_to_grid(out) != played).any(axis=1)
        if first is None and differ.any():
            first = at + int(np.argmax(differ))
        differing += int(np.count_nonzero(differ))
        at += len(heard)
        gathered.append(out)
        if at - told >= recording.loop.rate_hz:
            write(np.concatenate(gathered).T)
            gathered, told = [], at
            progress(at / recording.samples)
    if gathered:
        write(np.concatenate(gathered).T)
    return Replayed(samples=at, rate_hz=recording.loop.rate_hz, differing=differing, first=first)


def _to_grid(samples: Float) -> Int32:
    steps: Int32 = np.clip(np.rint(samples.astype(np.float64) * GRID), -GRID, GRID - 1).astype(np.int32)
    return steps
