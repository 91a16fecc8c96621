"""Emulator: a board of a target that QEMU knows, started with an image and addressed as any other."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_tse.errors import LinkError, TargetError
from firmware_bridge.cores import Core
from firmware_bridge.link import FifoLink, Link, ProcessLink

__all__ = ["start"]

_PACKAGES = {"qemu-system-arm": "qemu-system-arm", "qemu-aarch64": "qemu-user"}


_SERVED = ("to_board", "from_board")
"""Words of a program that answers: the pipes that it reads and writes, in the folder where it runs."""


def start(core: Core, program: bytes, words: Sequence[str] = _SERVED) -> Link:
    """An emulated board that runs an ELF program with these words; closing the link ends it.

    ``TargetError`` if nothing emulates the core, ``LinkError`` if the emulator is not installed.
    """
    if not core.emulator:
        raise TargetError(f"{core.name} has no emulator: give the port of a board")
    folder = tempfile.TemporaryDirectory(prefix="etse-board-")
    path = Path(folder.name) / "image.elf"
    path.write_bytes(program)
    path.chmod(0o700)
    try:
        return (_Semihosted if core.regions else _Process)(core, path, folder, words)
    except LinkError:
        folder.cleanup()
        raise


class _Process(ProcessLink):
    """A program of Linux under user emulation: standard input and output are the link."""

    def __init__(self, core: Core, image: Path, folder: tempfile.TemporaryDirectory[str], words: Sequence[str]) -> None:
        self._folder = folder
        more = () if words == _SERVED else words
        super().__init__([*core.emulator, str(image), *more], name=core.name)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


class _Semihosted(FifoLink):
    """A whole machine whose semihosting calls read and write two named pipes (measured: 15 us there and back)."""

    def __init__(self, core: Core, image: Path, folder: tempfile.TemporaryDirectory[str], words: Sequence[str]) -> None:
        self._folder = folder
        directory = Path(folder.name)
        super().__init__(directory / "from_board", directory / "to_board")
        self.name = core.name
        command = [
            *core.emulator,
            str(image),
            "-semihosting-config",
            ",".join(("enable=on,target=native,arg=etse", *(f"arg={word}" for word in words))),
        ]
        self._errors = (directory / "errors").open("w+b")
        try:
            self._process = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors
            )
        except OSError as failure:
            super().close()
            self._errors.close()
            package = _PACKAGES.get(command[0], command[0])
            raise LinkError(f"{core.name} runs on {command[0]}, which does not start: apt-get install {package}") from failure

    def write(self, content: bytes) -> None:
        self._check()
        super().write(content)

    def read(self, size: int, timeout_s: float) -> bytes:
        content = super().read(size, timeout_s)
        if not content:
            self._check()
        return content

    def close(self) -> None:
        super().close()
        if self._errors.closed:
            return
        # Its input has ended, so the program does; an emulator that does not notice is ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._process.kill()
        self._process.wait()
        self._errors.close()
        self._folder.cleanup()

    def _check(self) -> None:
        """Raise if the emulator has ended: its pipes outlive it, so it has to be asked."""
        code = self._process.poll()
        if code is None:
            return
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        # A fault ends in a page of registers, whose first line says what happened.
        why = lines[0].strip() if lines else "it said nothing"
        raise LinkError(f"{self.name}: the emulated board stopped with status {code} ({why}): flash it again, or report a fault")
