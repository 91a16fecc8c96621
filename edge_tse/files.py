"""Files that are either whole or not there.

Everything edge-tse writes goes to a temporary name beside its destination, is flushed to the disk, and takes its name last: a full
disk, a crash or Ctrl-C leaves the old file, or none, and never half of one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_tse.errors import EdgeTseError

__all__ = ["check_output", "replacing", "write_bytes"]


def check_output(path: Path, inputs: Iterable[Path] = (), error: type[EdgeTseError] = EdgeTseError) -> None:
    """Refuse a destination that cannot be written, or that is one of ``inputs`` under whatever name (relative, linked).

    Called before the work that makes the content, so that an hour of it is not lost to a typing mistake.
    """
    try:
        if path.is_dir():
            raise error(f"{path} is a folder: give the name of a file in it")
        if path.exists() and not path.is_file():
            raise error(f"{path} is not a regular file: it would be replaced, not written to; choose another name")
        if not path.parent.is_dir():
            raise error(f"{path}: there is no folder {path.parent}; create it first")
        for source in inputs:
            # samefile follows symbolic and hard links; a path that does not exist yet cannot be an input.
            if path.exists() and source.exists() and path.samefile(source):
                raise error(f"{path} is also the input {source}: choose another name for the output")
    except OSError as failure:
        raise error(f"{path} cannot be written: {failure.strerror or failure}; choose another place") from failure


@contextmanager
def replacing(path: Path, error: type[EdgeTseError] = EdgeTseError) -> Iterator[Path]:
    """A temporary path beside ``path``, which becomes ``path`` when the block ends well and vanishes otherwise.

    The suffix is kept, for writers that choose a format by it. An ``OSError`` (full disk, no permission) becomes ``error``.
    """
    check_output(path, error=error)
    target = path.resolve()  # through a symbolic link, not over it
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp{target.suffix}")
    try:
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as failure:
        raise error(
            f"{path} could not be written: {failure.strerror or failure}; nothing was changed there, choose another place"
        ) from failure
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes | memoryview, error: type[EdgeTseError] = EdgeTseError) -> None:
    """Atomic ``Path.write_bytes``."""
    with replacing(path, error) as temporary:
        temporary.write_bytes(content)
