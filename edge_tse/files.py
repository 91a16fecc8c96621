"""Files that are written whole or not at all.

Everything edge-tse writes goes to a temporary name beside its destination, is flushed to the disk, and takes its name last: a full
disk, a crash or Ctrl-C leaves the old file, or none, and never half of one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edge_tse.errors import EdgeTseError

__all__ = ["check_link", "check_output", "check_outputs", "erase", "open_private", "read_bytes", "replacing", "write_bytes"]

_LEFTOVER = ".edge-tse-"
"""Prefix of the names of temporary files."""
_MOST_LINKS = 40


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
        there = path.exists()
    except OSError as failure:
        raise error(f"{path} cannot be written: {failure.strerror or failure}; choose another place") from failure
    for source in inputs if there else ():  # what does not exist yet cannot be an input
        # Follows symbolic and hard links. An input that is not there, or cannot be reached, is for its reader to refuse.
        with suppress(OSError, ValueError):
            if path.samefile(source):
                raise error(f"{path} is also the input {source}: choose another name for the output")


def check_outputs(paths: Sequence[Path], inputs: Iterable[Path] = (), error: type[EdgeTseError] = EdgeTseError) -> None:
    """Refuse destinations as :func:`check_output` does, and two that are one file."""
    known = list(inputs)
    for i, path in enumerate(paths):
        check_output(path, known, error)
        if any(path.absolute() == other.absolute() for other in paths[:i]):
            raise error(f"{path} was given for two different outputs: choose another name for one of them")


@contextmanager
def replacing(path: Path, error: type[EdgeTseError] = EdgeTseError, *, private: bool = False) -> Iterator[Path]:
    """A temporary path beside ``path``, which becomes ``path`` when the block ends well and vanishes otherwise.

    A file that is replaced keeps its mode; a new one is for everybody, or for its owner alone (``private``). The suffix is kept,
    for writers that choose a format by it. An ``OSError`` (full disk, no permission) becomes ``error``. What a killed run left
    behind in that folder is removed on the way.
    """
    check_output(path, error=error)
    check_link(path, error)
    target = path.resolve()  # through a symbolic link, not over it
    temporary: Path | None = None
    descriptor = -1
    try:
        _remove_leftovers(target.parent)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        temporary, descriptor = _own_file(target, 0o666 if mode is None and not private else 0o600)
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as failure:
        raise error(
            f"{path} could not be written: {failure.strerror or failure}; nothing was changed there, choose another place"
        ) from failure
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)


def check_link(path: Path, error: type[EdgeTseError] = EdgeTseError) -> None:
    """Refuse to write through a symbolic link that somebody else has put into a folder where everybody may put one (``/tmp``).

    The rule is that of Linux (``protected_symlinks``): a link is followed if it is ours, or of the folder's owner, or lies in a
    folder that is not shared.
    """
    for _ in range(_MOST_LINKS):
        try:
            if not path.is_symlink():
                return
            owner, folder = path.lstat().st_uid, path.parent.stat()
            shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP)
            if shared and owner not in (os.geteuid(), folder.st_uid):
                raise error(
                    f"{path} is a symbolic link that user {owner} has put there, it leads to {path.readlink()}: "
                    "nothing was written; choose another place"
                )
            path = path.parent / path.readlink()
        except OSError as failure:
            raise error(f"{path} cannot be written: {failure.strerror or failure}; choose another place") from failure


def _own_file(target: Path, mode: int) -> tuple[Path, int]:
    """Create a file beside ``target``, locked for as long as its descriptor is open: an unlocked one is a leftover."""
    while True:
        temporary = target.with_name(f"{_LEFTOVER}{secrets.token_hex(8)}.tmp{target.suffix}")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            # Another run may have taken it for a leftover before it was locked.
            if os.path.samestat(temporary.stat(), os.fstat(descriptor)):
                return temporary, descriptor
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed runs: those with the prefix that nobody locks."""
    for leftover in folder.glob(f"{_LEFTOVER}*.tmp*"):
        try:
            descriptor = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # another user's, or gone
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink(missing_ok=True)
        except OSError:  # at work, or not ours to remove
            pass
        finally:
            os.close(descriptor)


def open_private(path: Path, error: type[EdgeTseError] = EdgeTseError) -> BinaryIO:
    """Open a file to write as it grows: new, for its owner alone; one that is there is emptied and keeps its mode."""
    check_output(path, error=error)
    check_link(path, error)
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb", buffering=0)
    except (OSError, ValueError) as failure:  # ValueError: a zero byte in the name
        raise error(f"{path} cannot be written: {getattr(failure, 'strerror', None) or failure}; choose another place") from failure


def erase(path: Path, error: type[EdgeTseError] = EdgeTseError) -> int:
    """Overwrite a file with noise, then remove it; returns how many bytes it had. ``error`` if that is not possible.

    Copies that a file system, a memory card or a backup keeps are out of reach.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as failure:
        raise error(f"{path} cannot be overwritten: {failure.strerror}; nothing was removed") from failure
    try:
        size = os.fstat(descriptor).st_size
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            left = size
            while left:
                left -= file.write(os.urandom(min(left, 2**20))) or 0
            os.fsync(descriptor)
            file.truncate(0)
            os.fsync(descriptor)
    except OSError as failure:
        raise error(f"{path} could not be overwritten: {failure.strerror}; try again") from failure
    try:
        path.unlink()
    except OSError as failure:
        raise error(f"{path} was overwritten and is empty, but not removed: {failure.strerror}; remove it yourself") from failure
    return size


def write_bytes(
    path: Path, content: bytes | memoryview, error: type[EdgeTseError] = EdgeTseError, *, private: bool = False
) -> None:
    """Atomic ``Path.write_bytes``; ``private`` as for :func:`replacing`."""
    with replacing(path, error, private=private) as temporary:
        temporary.write_bytes(content)


def read_bytes(path: Path, most: int, error: type[EdgeTseError] = EdgeTseError, what: str = "") -> bytes:
    """Read a file or a pipe, at most so many bytes; ``what`` names its content in messages.

    ``error`` if it cannot be read or is longer: then no more than ``most`` were read, of ``/dev/zero`` too.
    """
    name = f"{what} {path}" if what else str(path)
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as failure:  # ValueError: a zero byte in the name
        raise error(f"cannot read {name}: {getattr(failure, 'strerror', None) or failure}") from failure
    if len(content) > most:
        raise error(f"{path} has more than {most:,} bytes, {what or 'what is read here'} has at most that: give another file")
    return content
