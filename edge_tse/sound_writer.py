"""Sound files written in blocks, by an encoder that knows nothing of full disks and of Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["SoundWriter"]

Value = TypeVar("Value")

_SUBTYPE = "PCM_24"  # holds everything a recording does, and every player opens it, which is not so for float WAV


class SoundWriter:
    """A sound file of 24 bits that takes blocks; samples over full scale are clipped, and counted."""

    def __init__(self, soundfile: ModuleType, file: BinaryIO, rate_hz: int, channels: int, container: str) -> None:
        """``container`` is libsndfile's name of a format; ``file`` can be read and written, is empty, and stays open."""
        self.clipped = 0
        """Samples that were over full scale."""
        self._disk = _Disk(file)
        # The encoder calls back into Python, where Ctrl-C would be swallowed; it is raised in the main thread alone.
        self._thread = ThreadPoolExecutor(1, "edge-tse writer")
        self._file: Any = self._there(lambda: soundfile.SoundFile(self._disk, "w", rate_hz, channels, _SUBTYPE, format=container))

    def write(self, block: NDArray[np.float32]) -> None:
        """Append ``[channels, any]``. ``OSError`` if the disk is full."""
        self.clipped += int(np.count_nonzero(np.abs(block) > 1))
        self._there(lambda: self._file.write(np.ascontiguousarray(block.T)))
        self.check()

    def close(self) -> None:
        """End the file: its length is written. :meth:`check` says whether there was room for it."""
        self._there(self._file.close)
        self._thread.shutdown()
        self._disk.flush()

    def check(self) -> None:
        """``OSError`` if anything so far could not be written."""
        if self._disk.failure is not None:
            raise self._disk.failure

    def _there(self, work: Callable[[], Value]) -> Value:
        return self._thread.submit(work).result()


class _Disk:
    """A file for libsndfile's calls into Python, in which nothing may be raised: the first failure is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.failure is None:
            try:
                return self._file.write(data)
            except OSError as failure:
                self.failure = failure
        return len(data)  # it would not be told why

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as failure:
            self.failure = self.failure or failure

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as failure:  # what was buffered did not reach the disk
            self.failure = self.failure or failure
            return offset

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)
