"""Silence for third-party libraries that write to file descriptors, past Python: greetings and remarks that are not for users."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["mute", "quietly"]

# LiteRT's; ExecuTorch's about processors of phones; torchao's and torch's about each other.
_GREETING = re.compile(r"INFO: |\[(cpuinfo_utils|threadpool)\.cpp:|Failed to load .*torchao|W\d{4} .*torch/")


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress greetings of runtimes: their C++ writes them to file descriptor 2 and has no switch for it.

    Every other line that a runtime writes is passed on, afterwards.
    """
    with tempfile.TemporaryFile() as written:
        try:
            with _redirect({2: written.fileno()}):
                yield
        finally:
            written.seek(0)
            for line in written.read().decode(errors="replace").splitlines():
                if not _GREETING.match(line):
                    sys.stderr.write(f"{line}\n")


@contextmanager
def mute() -> Iterator[None]:
    """Suppress everything that a library writes to standard output, where JSON may be due, or to standard error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        with _redirect({1: nowhere, 2: nowhere}):
            yield
    finally:
        os.close(nowhere)


_changing = threading.Lock()
_originals: dict[int, int] = {}
"""Copies of the descriptors that are redirected now."""
_redirected: dict[int, list[int]] = {}
"""Where each descriptor was sent by those who have not ended, the last one last."""


@contextmanager
def _redirect(descriptors: dict[int, int]) -> Iterator[None]:
    """Send descriptors elsewhere. Threads may do so at once and end in any order: the last to end puts back what was there."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    taken: dict[int, int] = {}
    try:
        for number, to in descriptors.items():
            with _changing, suppress(OSError):  # it is closed: nobody would read it
                active = _redirected.setdefault(number, [])
                if not active:
                    _originals[number] = os.dup(number)
                os.dup2(to, number)
                active.append(to)
                taken[number] = to
        yield
    finally:
        with _changing:
            for number, to in taken.items():
                active = _redirected[number]
                active.remove(to)
                os.dup2(active[-1] if active else _originals[number], number)
                if not active:
                    os.close(_originals.pop(number))
