"""Tools of others that put a program onto a board: their commands, and the proof that each did its work."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edge_tse.errors import DeviceError, TargetError
from firmware_bridge.gdb import flat

__all__ = ["REMOTE", "ToolStep", "run_step", "tool_steps"]

REMOTE = "edge-tse-board"
"""Name of the program on a board that has files."""
_TOOL_TIMEOUT_S = 300.0
"""Timeout of an external tool: one that asks for a password, or waits for a device, has nobody to answer it."""


@dataclass(frozen=True, kw_only=True)
class ToolStep:
    """Command of an external tool."""

    command: tuple[str, ...]
    must_print: str = ""
    """Text that proves that the tool did its work."""
    read_back: Path | None = None
    """A file that it writes, which must equal ``written``."""
    written: Path | None = None


def tool_steps(way: str, program: Path, *, port: str | None = None, chip: str | None = None) -> list[ToolStep]:
    """Commands of external tools that put a program onto a board: ``pyocd``, ``dfu-util``, ``adb``, ``ssh``.

    Where the tool can rename a file, that is the last step, so that an interrupted transfer leaves the old program.
    """
    match way:
        case "pyocd":
            if chip is None:
                raise TargetError("pyOCD needs the chip's name: --chip NAME, see `pyocd list --targets`")
            chosen = ("--no-wait", "--target", chip, *(() if port is None else ("--uid", port)))
            base, content, plain, back = _flat_files(program)
            # pyOCD does not compare what it has written; commander only looks, at a program that runs on.
            return [
                ToolStep(command=("pyocd", "load", *chosen, "--format", "bin", "--base-address", f"{base:#x}", str(plain))),
                ToolStep(
                    command=("pyocd", "commander", *chosen, "--command", "savemem", f"{base:#x}", f"{len(content)}", str(back)),
                    read_back=back,
                    written=plain,
                ),
            ]
        case "dfu-util":
            base, content, plain, back = _flat_files(program)
            dfu = ("dfu-util", *(() if port is None else ("--serial", port)), "--alt", "0")
            return [
                ToolStep(command=(*dfu, "--dfuse-address", f"{base:#x}", "--download", str(plain))),
                ToolStep(
                    command=(*dfu, "--dfuse-address", f"{base:#x}:{len(content)}", "--upload", str(back)),
                    read_back=back,
                    written=plain,
                ),
            ]
        case "adb":
            adb = ("adb", *(() if port is None else ("-s", port)))
            return _replace((*adb, "push", str(program)), "/data/local/tmp/", "", (*adb, "shell"), program)
        case "ssh":
            if port is None:
                raise TargetError("a board behind ssh needs --port USER@HOST")
            quiet = ("-o", "BatchMode=yes")  # no questions
            return _replace(("scp", "-q", *quiet, str(program)), "", f"{port}:", ("ssh", *quiet, port), program)
        case _:
            raise TargetError(f"nothing here drives {way}: start its debug server and give --port gdb://HOST:PORT")


def _flat_files(program: Path) -> tuple[int, bytes, Path, Path]:
    """First address and bytes of a program, the file that holds them, and the one to read them back into."""
    base, content = flat(program.read_bytes())
    plain = program.with_suffix(".bin")
    plain.write_bytes(content)
    return base, content, plain, program.with_suffix(".back")


def _replace(copy: tuple[str, ...], folder: str, host: str, shell: tuple[str, ...], program: Path) -> list[ToolStep]:
    """Commands that copy, compare, and only then rename a program."""
    place = f"{folder}{REMOTE}"
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    return [
        ToolStep(command=(*copy, f"{host}{place}.new")),
        ToolStep(command=(*shell, "sha256sum", f"{place}.new"), must_print=digest),
        ToolStep(command=(*shell, "chmod", "755", f"{place}.new")),
        ToolStep(command=(*shell, "mv", f"{place}.new", place)),
    ]


def run_step(step: ToolStep) -> None:
    """Run a tool to its end. ``TargetError`` if it is missing or fails, ``DeviceError`` if the board holds something else."""
    command = step.command
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", check=False, timeout=_TOOL_TIMEOUT_S
        )
    except FileNotFoundError as failure:
        raise TargetError(f"{command[0]} is not installed, flashing needs it: install it, then flash again") from failure
    except OSError as failure:
        raise TargetError(f"{command[0]} does not start ({failure.strerror}): correct that, then flash again") from failure
    except subprocess.TimeoutExpired as failure:
        raise TargetError(
            f"`{' '.join(command[:3])}` did not end within {_TOOL_TIMEOUT_S:g} s: is the board connected?"
        ) from failure
    lines = [line for text in (done.stdout, done.stderr) for line in text.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "no message"
    if done.returncode:
        raise TargetError(
            f"`{' '.join(command[:3])}` failed with status {done.returncode} ({last}): correct that, then flash again"
        )
    if step.must_print not in done.stdout:
        raise DeviceError(
            f"the board holds {last[:64]} where {step.must_print[:12]} was sent: the old program still runs, try again", 0
        )
    if step.read_back is None or step.written is None:
        return
    if not step.read_back.exists():
        raise TargetError(f"`{' '.join(command[:3])}` read nothing back ({last}): correct that, then flash again")
    if step.read_back.read_bytes() != step.written.read_bytes():
        raise DeviceError(f"{command[0]} reads back something else than was written: flash again, or the board may not start", 0)
