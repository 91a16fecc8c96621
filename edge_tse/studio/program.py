"""The command line as the studio uses it: each verb a process of its own, and the socket of the one that is live.

The studio decides nothing about sound: what it does, anybody can do with ``edge-tse enroll``, ``live`` and a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_tse.errors import AudioError

__all__ = ["Program", "Sitting"]

_START_S, _ANSWER_S, _END_S = 60.0, 10.0, 20.0


class Program:
    """Runs verbs in a folder and reads what they print."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "edge_tse"),
    ) -> None:
        self.folder = folder
        self._environment, self._command = {**os.environ, **(environment or {})}, command
        self._begun: list[asyncio.subprocess.Process] = []

    async def run(self, *arguments: str) -> dict[str, Any]:
        """Figures of a verb, and under ``remarks`` what it said besides. ``AudioError`` with its line if it refuses."""
        process = await self.begin(*arguments)
        out, err = await process.communicate()
        lines = [line for line in err.decode(errors="replace").splitlines() if line]
        if process.returncode:
            raise AudioError(
                lines[-1].removeprefix("edge-tse: ") if lines else f"edge-tse {arguments[0]} ended with {process.returncode}"
            )
        figures: dict[str, Any] = json.loads(out)
        return {**figures, "remarks": [line.removeprefix("edge-tse: ").removeprefix("warning: ") for line in lines]}

    async def begin(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a verb with ``--json``. ``AudioError`` if it cannot be."""
        pipe = asyncio.subprocess.PIPE
        command = (*self._command, *arguments, "--json")
        try:
            process = await asyncio.create_subprocess_exec(
                *command, cwd=self.folder, env=self._environment, stdout=pipe, stderr=pipe
            )
        except (OSError, ValueError) as failure:  # ValueError: a zero byte, or half a character
            why = getattr(failure, "strerror", None) or failure
            raise AudioError(
                f"{arguments[0]} cannot be started in {self.folder}: {why}; start the studio in a folder that is there"
            ) from failure
        self._begun = [*(each for each in self._begun if each.returncode is None), process]
        return process

    def terminate(self) -> None:
        """Ask every verb that still runs to end, and wait for none."""
        for process in self._begun:
            _end(process)


class Sitting:
    """A live session, from its start to its figures: one process, and a connection to its socket."""

    def __init__(self, program: Program, options: Sequence[str]) -> None:
        self._program, self._options = program, options
        self._folder = tempfile.TemporaryDirectory(prefix="edge-tse-studio-")
        self._at = str(Path(self._folder.name) / "control")
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._listening: list[asyncio.Task[None]] = []
        self._printed = b""
        self.lines: list[str] = []
        """What the session said, a line each."""

    async def start(self) -> None:
        """Start the session and wait until it answers. ``AudioError`` with its own line if it does not begin."""
        try:
            self._process = await self._program.begin("live", *self._options, "--control", self._at)
        except AudioError:
            self._folder.cleanup()
            raise
        printed, errors = self._process.stdout, self._process.stderr
        assert printed is not None, "it was started with pipes"
        assert errors is not None, "it was started with pipes"
        self._listening = [asyncio.create_task(self._hear_errors(errors)), asyncio.create_task(self._hear_figures(printed))]
        for _ in range(round(_START_S / 0.05)):
            if self._process.returncode is not None:
                break
            with suppress(OSError):
                self._reader, self._writer = await asyncio.open_unix_connection(self._at)
                return
            await asyncio.sleep(0.05)
        await self.stop()
        raise AudioError(self.lines[-1] if self.lines else f"the session did not answer within {_START_S:.0f} s")

    @property
    def running(self) -> bool:
        """Whether the session goes on."""
        return self._process is not None and self._process.returncode is None

    async def do(self, command: Mapping[str, object]) -> dict[str, Any]:
        """Carry out a command of :mod:`edge_tse.live.console` and return its answer. ``AudioError`` if the session is over."""
        if not self.running:
            raise AudioError(self.lines[-1] if self.lines else "no session is running: start one")
        async with self._turn:
            try:
                if self._reader is None or self._writer is None:
                    self._reader, self._writer = await asyncio.open_unix_connection(self._at)
                self._writer.write(json.dumps(command).encode() + b"\n")
                await self._writer.drain()
                line = await asyncio.wait_for(self._reader.readline(), _ANSWER_S)
            except (OSError, TimeoutError) as failure:
                if self._writer is not None:  # an answer that comes now would be taken for that to the next command
                    self._writer.close()
                self._reader = self._writer = None
                raise AudioError(f"the session does not answer: {str(failure) or 'no line came'}") from failure
        if not line:
            raise AudioError(self.lines[-1] if self.lines else "the session has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def stop(self) -> dict[str, Any]:
        """End the session and return its figures; empty if it left none."""
        process = self._process
        if process is None:
            return {}
        with suppress(AudioError):
            await self.do({"end": True})
        try:
            await asyncio.wait_for(process.wait(), _END_S)
        except TimeoutError:
            self.terminate()
            await process.wait()
        await asyncio.gather(*self._listening)
        if self._writer is not None:
            self._writer.close()
        self._folder.cleanup()
        with suppress(ValueError):
            figures: dict[str, Any] = json.loads(self._printed)
            return figures
        return {}

    def terminate(self) -> None:
        """Ask the process to end and wait for nothing; more than once, or once it has ended, does no harm."""
        if self._process is not None:
            _end(self._process)

    async def _hear_errors(self, errors: asyncio.StreamReader) -> None:
        async for line in errors:
            self.lines.append(line.decode(errors="replace").strip().removeprefix("edge-tse: "))

    async def _hear_figures(self, printed: asyncio.StreamReader) -> None:
        self._printed = await printed.read()


def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
