"""Sound through standard input and output, as ``-``: kept in a file of its own meanwhile, because it is read more than once."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_tse.audio import Stored
from edge_tse.errors import AudioError
from edge_tse.transcoding import opened

__all__ = ["STANDARD", "incoming", "outgoing"]

STANDARD = Path("-")
"""Name of standard input and output."""
_MOST_BYTES = 2**32  # a WAV file has at most that
_CHUNK_BYTES = 2**20


@contextmanager
def incoming(path: Path) -> Iterator[Stored]:
    """The sound of a file, or of standard input. ``AudioError`` if it is none, or a terminal."""
    if path != STANDARD:
        with opened(path) as sound:
            yield sound
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError("standard input is a terminal: pipe a WAV file into it, or give the name of a file")
    with tempfile.NamedTemporaryFile(prefix="edge-tse-", suffix=".wav") as kept:
        size = 0
        try:
            while chunk := sys.stdin.buffer.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > _MOST_BYTES:
                    raise AudioError(f"standard input holds more than {_MOST_BYTES:,} bytes: give the name of a file")
                kept.write(chunk)
            kept.flush()
        except OSError as failure:
            raise AudioError(
                f"standard input could not be kept: {failure.strerror or failure}; set TMPDIR to another place"
            ) from failure
        yield Stored(Path(kept.name), "standard input")


@contextmanager
def outgoing(path: Path, as_json: bool) -> Iterator[Path]:
    """Where a sound file is to be written: itself, or a WAV that goes to standard output when the block ends well."""
    if path != STANDARD:
        yield path
        return
    if as_json:
        raise AudioError("-o - and --json both write to standard output: give the name of a file")
    if sys.stdout.isatty():
        raise AudioError("standard output is a terminal: pipe it into a file or a program, or give the name of a file")
    with tempfile.TemporaryDirectory(prefix="edge-tse-") as folder:
        written = Path(folder) / "standard-output.wav"
        yield written
        try:
            with written.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK_BYTES)
            sys.stdout.buffer.flush()
        except OSError as failure:
            raise AudioError(f"standard output could not be written: {failure.strerror or failure}") from failure
