"""A board for tests: the firmware's own C server, compiled for this machine and spoken to over its standard input and output."""

from __future__ import annotations

import atexit
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from edge_tse.artifact import Artifact
from edge_tse.deployment.target import find_target
from firmware_bridge.build import INCLUDES, SOURCES, c_source
from firmware_bridge.codegen import generate
from firmware_bridge.link import Link, ProcessLink

SERVER = ("server.c", "wire.c", "serve_stdio.c", "port_stdio.c")

_programs: dict[str, Path] = {}


FLAGS = "EDGE_TSE_TEST_CFLAGS"
"""Environment variable with more flags for all C that tests compile for this machine: sanitizers, in tests/test_sanitizers.py."""


@cache
def compiler() -> tuple[str, ...]:
    """A C compiler of this machine, and the flags that the environment asks for."""
    found = next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
    if found is not None:
        return (found, *os.environ.get(FLAGS, "").split())
    pytest.importorskip("ziglang", reason="no C compiler here: neither gcc nor clang nor ziglang")
    from firmware_bridge.build import zig

    return zig()


def program(artifact: Artifact) -> Path:
    """The server with this model in it; compiled once a session."""
    if artifact.digest not in _programs:
        folder = Path(tempfile.mkdtemp(prefix="etse-board-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        path = folder / hashlib.sha256(artifact.digest.encode()).hexdigest()[:8]
        for name, text in generate(artifact).items():
            (folder / name).write_text(text)
        sources = [*folder.glob("*.c"), *(c_source(name) for name in (*SOURCES, *SERVER))]
        flags = (
            "-std=c11",
            "-O2",
            "-ffp-contract=off",
            "-fno-math-errno",
            "-Wall",
            "-Wextra",
            "-Werror",
            '-DETSE_TARGET="host"',
            f'-DETSE_CORE="{find_target("host").core}"',
        )
        command = [*compiler(), *flags, f"-I{folder}", *INCLUDES, *map(str, sources), "-lm", "-o", str(path)]
        subprocess.run(command, check=True)
        _programs[artifact.digest] = path
    return _programs[artifact.digest]


def board(artifact: Artifact) -> Link:
    """A link to a board that has just started with this model."""
    return ProcessLink([str(program(artifact))], name="board")


def port(artifact: Artifact) -> str:
    """The same as ``--port`` names it."""
    return f"exec:{shlex.quote(str(program(artifact)))}"


def sealed(patch: bytes) -> bytes:
    """A voice patch whose CRC-32 is right for what it now holds, so that what else is wrong with it is what is found."""
    return patch[:-4] + zlib.crc32(patch[:-4]).to_bytes(4, "little")


class Noisy:
    """A link that loses, damages, repeats or delays what passes; ``on_write`` and ``on_read`` say how."""

    def __init__(
        self, link: Link, on_write: Callable[[bytes], bytes] = lambda b: b, on_read: Callable[[bytes], bytes] = lambda b: b
    ) -> None:
        self.name = link.name
        self._link, self._on_write, self._on_read = link, on_write, on_read

    def write(self, content: bytes) -> None:
        if passed := self._on_write(content):
            self._link.write(passed)

    def read(self, size: int, timeout_s: float) -> bytes:
        return self._on_read(self._link.read(size, timeout_s))

    def close(self) -> None:
        self._link.close()
