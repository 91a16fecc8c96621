"""Flash memory, as much of it as a board's images need: in memory for tests, in a file for an emulated board."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edge_tse.errors import TargetError

__all__ = ["ERASED", "FileFlash", "FlashMemory", "MemoryFlash", "memory_copy"]

ERASED = 0xFF
_LOCK_TIMEOUT_S, _LOCK_PAUSE_S = 5.0, 0.02


class FlashMemory(Protocol):
    """Memory that is erased by the sector, to all ones, before it is programmed."""

    size_bytes: int
    sector_bytes: int

    def read(self, at: int, size: int) -> bytes:
        """Content from an address counted from the memory's first byte."""

    def erase(self, at: int) -> None:
        """Erase one sector, to :data:`ERASED`."""

    def program(self, at: int, content: bytes) -> None:
        """Write erased bytes."""


class MemoryFlash:
    """Flash memory in memory, as strict as the real thing: programming can only clear bits."""

    def __init__(self, size_bytes: int, sector_bytes: int, content: bytes = b"") -> None:
        self.size_bytes, self.sector_bytes = size_bytes, sector_bytes
        self.content = bytearray(content.ljust(size_bytes, bytes([ERASED])))

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.content[at : at + size])

    def erase(self, at: int) -> None:
        self.content[at : at + self.sector_bytes] = bytes([ERASED]) * self.sector_bytes

    def program(self, at: int, content: bytes) -> None:
        old = self.content[at : at + len(content)]
        self.content[at : at + len(content)] = bytes(a & b for a, b in zip(old, content, strict=True))


class FileFlash:
    """The flash memory of an emulated board: a file, made when it is first used."""

    def __init__(self, path: Path, size_bytes: int, sector_bytes: int) -> None:
        """``TargetError`` if the file cannot be made, is another memory, or somebody else writes it."""
        self.size_bytes, self.sector_bytes = size_bytes, sector_bytes
        self.path = path
        self._locks = 0
        _require_file(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
            # Made under the lock: two that make it at once would each erase what the other has written.
            if path.stat().st_size < size_bytes:
                with self.lock():
                    self._fill()
            found = path.stat().st_size
        except OSError as failure:
            raise _loss(self.path, failure) from failure
        if found != size_bytes:
            raise _other_memory(path, found, size_bytes)

    def _fill(self) -> None:
        """Fill the file up with erased bytes. A new memory that a full disk cut short is completed; no other file is touched."""
        content = self.path.read_bytes()
        if content.strip(bytes([ERASED])):
            return
        try:
            with self.path.open("r+b") as file:
                file.write(bytes([ERASED]) * self.size_bytes)
        except OSError:
            # Nothing rather than a part of it; if that fails too, the next one completes it.
            os.truncate(self.path, 0)
            raise

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the memory against other programs that lock it. ``TargetError`` if another one keeps it locked."""
        if self._locks:
            self._locks += 1
            try:
                yield
            finally:
                self._locks -= 1
            return
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(self.path.open("rb"))
                _wait_for(file.fileno(), self.path)
            except OSError as failure:
                raise _loss(self.path, failure) from failure
            self._locks = 1
            try:
                yield
            finally:
                self._locks = 0

    def read(self, at: int, size: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(at)
                return file.read(size)
        except OSError as failure:
            raise _loss(self.path, failure) from failure

    def erase(self, at: int) -> None:
        self._write(at, bytes([ERASED]) * self.sector_bytes)

    def program(self, at: int, content: bytes) -> None:
        self._write(at, content)

    def _write(self, at: int, content: bytes) -> None:
        try:
            with self.path.open("r+b") as file:
                file.seek(at)
                file.write(content)
        except OSError as failure:
            raise _loss(self.path, failure) from failure


def memory_copy(path: Path, size_bytes: int, sector_bytes: int) -> MemoryFlash:
    """A copy of the memory in a file, an erased one if there is none. ``TargetError`` for what :class:`FileFlash` does not take."""
    _require_file(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as failure:
        raise _loss(path, failure) from failure
    if len(content) > size_bytes or (len(content) < size_bytes and content.strip(bytes([ERASED]))):
        raise _other_memory(path, len(content), size_bytes)
    return MemoryFlash(size_bytes, sector_bytes, content)


def _require_file(path: Path) -> None:
    """``TargetError`` for a device or a pipe, which would be read, or waited for, without end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise TargetError(f"{path} is no file, the memory of this board is one: give a file, or the target that is at this port")


def _loss(path: Path, failure: OSError) -> TargetError:
    return TargetError(f"{path}: {failure.strerror}: give the board's memory another place")


def _other_memory(path: Path, found: int, size_bytes: int) -> TargetError:
    return TargetError(f"{path} has {found} bytes, the memory of this board {size_bytes}: give another file, or remove it")


def _wait_for(file: int, path: Path) -> None:
    """Wait for an exclusive lock, which ends when the file is closed, or with the program."""
    deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            if time.monotonic() > deadline_s:
                raise TargetError(
                    f"{path} has been in use by another edge-tse for {_LOCK_TIMEOUT_S:g} s: wait until that has ended"
                ) from failure
            time.sleep(_LOCK_PAUSE_S)
        else:
            return
