"""Lengths that WAV files state, against what is there: libsndfile reads whatever there is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edge_tse.errors import AudioError

__all__ = ["check_stated_length"]

_UNKNOWN_LENGTH = 0x7FFF0000  # bytes: from here on, what streams write who do not know


def check_stated_length(path: Path, name: str) -> None:
    """``AudioError`` with both numbers if a WAV file states another length than it holds: libsndfile reads whatever is there.

    A length that says that nobody knew it, as streams have, is none.
    """
    with suppress(OSError), path.open("rb") as file:  # what cannot be read is said by who opens it
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        end, at, frame_bytes = path.stat().st_size, 12, 1
        while len(head := file.read(8)) == 8:
            at += 8
            chunk, size = head[:4], int.from_bytes(head[4:], "little")
            if chunk == b"data":
                _compare_lengths(path, name, size, end - at, frame_bytes, file.read(4))
                return
            if chunk == b"fmt ":
                frame_bytes = max(1, int.from_bytes(file.read(16)[12:14], "little"))
            at += size + size % 2
            if at > end:
                return
            file.seek(at)


def _compare_lengths(path: Path, name: str, stated: int, there: int, frame_bytes: int, first: bytes) -> None:
    repair = f"repair it with `sox --ignore-length {path.name} repaired.wav`"
    if stated == 0 and there >= max(frame_bytes, 4) and not first.isalpha():  # letters: the name of another chunk
        raise AudioError(
            f"{name} states 0 bytes of sound and {there} are there: its recorder was stopped before it wrote the length; {repair}"
        )
    if there + frame_bytes <= stated < _UNKNOWN_LENGTH:
        raise AudioError(
            f"{name} is cut short: it states {stated} bytes of sound and {there} are there; copy it again, or {repair}"
        )
