"""A flash that touches nothing: the same checks, then what would be done."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from edge_tse.deployment.boards import Rehearsed
from edge_tse.deployment.target import Target
from edge_tse.errors import TargetError
from firmware_bridge.board import (
    BOOT_BYTES,
    HERE,
    MEMORY_BYTES,
    SECTOR_BYTES,
    check_image,
    memory_file,
    require_trust,
    trust_file,
    way_onto,
)
from firmware_bridge.debug_port import server_address
from firmware_bridge.flash import Slots, install
from firmware_bridge.flash_memory import memory_copy
from firmware_bridge.flash_tools import tool_steps

__all__ = ["rehearse"]


def rehearse(
    target: Target,
    content: bytes,
    state: Path,
    *,
    port: str | None = None,
    chip: str | None = None,
    via: str | None = None,
    trusted: Sequence[bytes] | None = None,
) -> Rehearsed:
    """Check an image as :func:`firmware_bridge.board.flash` does, with its arguments and its errors, and say what it would do.

    Memories are read and copied; no tool is run and nothing is connected to.
    """
    image = check_image(target, content, trusted)
    way = way_onto(target, port=port, via=via)
    emulated = target.flasher in HERE
    file = memory_file(target, port if way == "memory" else None, state) if emulated else trust_file(target, state)
    memory = memory_copy(file, MEMORY_BYTES if emulated else BOOT_BYTES, SECTOR_BYTES)
    require_trust(memory, (0, SECTOR_BYTES), file).check(content, "the image")
    size = f"{len(content):,} bytes"
    steps: tuple[str, ...]
    if way == "memory":
        slot = install(memory, Slots.of(memory), content)
        steps = (
            f"write {size} into slot {'AB'[slot]} of {file}",
            "read it back and compare",
            "start it, and replay the golden frames",
        )
        return Rehearsed(flasher="this machine" if target.flasher == "none" else target.flasher, slot=slot, steps=steps)
    if way == "gdb":
        assert port is not None
        (host, number), _ = server_address(port)
        steps = (f"connect to the debug server at {host}:{number}", "load, compare, reset, resume, and replay the golden frames")
        return Rehearsed(flasher="gdb", slot=None, steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "image.elf"
        program.write_bytes(image.payload)
        commands = [step.command for step in tool_steps(way, program, port=port, chip=chip)]
        steps = tuple(" ".join(command).replace(f"{folder}/", "") for command in commands)
    if missing := [command[0] for command in commands if which(command[0]) is None]:
        raise TargetError(f"{missing[0]} is not installed, flashing needs it: install it, then flash again")
    return Rehearsed(flasher=way, slot=None, steps=steps)
