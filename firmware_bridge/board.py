"""Board: the image for a target, the way onto the board, and the link to the program that then runs there.

An emulated board is a file for its flash memory and an emulator for the rest; it keeps its images, and whom it trusts, between runs
as a real one does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_tse.deployment.fit import require_fit
from edge_tse.errors import ArtifactError, DeviceError, LinkError, TargetError
from firmware_bridge import emulator
from firmware_bridge.build import build_program
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES, Core
from firmware_bridge.debug_port import SCHEME, flash_program, open_mailbox
from firmware_bridge.flash import (
    BootRecord,
    FlashProgress,
    Slots,
    boot_record,
    choose,
    confirm,
    image_in,
    install,
    is_confirmed,
    start,
)
from firmware_bridge.flash_memory import FileFlash, FlashMemory
from firmware_bridge.flash_tools import REMOTE, run_step, tool_steps
from firmware_bridge.image import Image, check_for, make, parse
from firmware_bridge.link import Link, open_link
from firmware_bridge.trust import Trust, check_room, read_trust, write_trust

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.deployment.target import Target

__all__ = [
    "EmulatedBoard",
    "Flashed",
    "core_of",
    "flash",
    "has_core",
    "image_for",
    "open_board",
    "program_of",
]

SERVER = ("server.c", "wire.c")
MEMORY_BYTES = 8 * 2**20
SECTOR_BYTES = 4096
BOOT_BYTES = 2 * SECTOR_BYTES
"""Memory in which this machine keeps what a board trusts that it does not stand in for."""
HERE = ("qemu-system-arm", "qemu-aarch64", "none")
"""Flashers of boards that this machine stands in for: it emulates their core, or has it."""

Tell = Callable[[FlashProgress], None]


def has_core(target: Target) -> bool:
    """Whether this build has start-up code for the target, so that there is an image and not C sources alone."""
    return target.name in CORES or _runs_linux(target)


def _runs_linux(target: Target) -> bool:
    return target.toolchain is not None and target.toolchain.triple.startswith("aarch64-linux")


def core_of(target: Target) -> Core:
    """The core that an image for the target is compiled for. ``TargetError`` if this build has no start-up code for it."""
    if target.name in CORES:
        return CORES[target.name]
    if _runs_linux(target):
        return CORES["aarch64-linux"]
    able = ", ".join(name for name in CORES if not name.endswith("-without-dot-product"))
    raise TargetError(
        f"target {target.name}: this build has no start-up code for it, only for {able}: flash an image made elsewhere"
    )


def program_of(core: Core) -> tuple[str, ...]:
    """Sources of the program that answers the host on this core."""
    if not core.regions:
        return ("serve_stdio.c", *SERVER)
    return (*(("serve_mailbox.c", "mailbox.c") if core.mailbox else ("serve_port.c",)), "serve_core.c", *SERVER)


def image_for(artifact: Artifact, target: Target) -> Image:
    """Compile the artifact and the server around it. ``TargetError`` if it does not fit, or the compiler is missing or refuses."""
    core = core_of(target)
    require_fit(target, artifact)
    # The clock of an emulated program is that of this machine: it says nothing about the core.
    emulated = ("-DETSE_NO_CLOCK",) if target.evidence == "emulated" else ()
    names = (f'-DETSE_TARGET="{target.name}"', f'-DETSE_CORE="{target.core}"')
    clock_hz = core.clock_hz or target.clock_hz
    clock = () if clock_hz is None else (f"-DETSE_CLOCK_HZ={int(clock_hz)}u",)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.elf"
        build_program(generate(artifact), core, path, program=program_of(core), flags=(*names, *emulated, *clock, "-Wl,-s"))
        payload = path.read_bytes()
    return make(payload, target=target.name, core=target.core, artifact_digest=artifact.digest)


class EmulatedBoard:
    """A board of a target that QEMU knows; its flash memory, boot region included, is a file."""

    def __init__(self, target: Target, memory: Path) -> None:
        self._target = target
        self._core = core_of(target)
        self.memory = FileFlash(memory, MEMORY_BYTES, SECTOR_BYTES)
        self.slots = Slots.of(self.memory)

    @property
    def trusted(self) -> Trust:
        """Requirements that the boot region sets for an image."""
        return read_trust(self.memory, self.slots.trust_at)

    def trust(self, keys: Sequence[bytes]) -> None:
        """Take and start only images signed by one of these from now on."""
        with self.memory.lock():
            write_trust(self.memory, self.slots.trust_at, keys, self.trusted.minimum_counter)

    def install(self, content: bytes, progress: Tell = lambda told: None) -> int:
        """Put an image file into the slot that does not boot, and make it bootable; returns the slot. Untrusted images are refused.

        The image is on trial: once started, it is kept only if the link to it is confirmed.
        """
        with self.memory.lock():
            self._check(content, "the image")
            return install(self.memory, self.slots, content, progress)

    def start(self) -> Link:
        """Boot the installed image. ``DeviceError`` if there is none, ``ArtifactError`` if none is trusted."""
        with self.memory.lock():
            require_trust(self.memory, self.slots.trust_at, self.memory.path)
            slot = choose(self.memory, self.slots)
            record = None if slot is None else boot_record(self.memory, self.slots, slot)
            if slot is None or record is None:
                raise self._nothing_boots()
            image = self._check(image_in(self.memory, self.slots, slot) or b"", "the installed image")
            # An emulator that is not installed is no failed trial.
            link = emulator.start(self._core, image.payload)
            try:
                start(self.memory, self.slots)
            except BaseException:
                link.close()
                raise
        return _Booted(link, self, slot, record)

    def confirm(self, slot: int, started: BootRecord | None = None) -> None:
        """Keep the image that runs from this slot. ``DeviceError`` if the slot holds another image than was ``started``."""
        found = boot_record(self.memory, self.slots, slot)
        if started is not None and found == started and is_confirmed(self.memory, self.slots, slot):
            return
        with self.memory.lock():
            if started is not None and started != boot_record(self.memory, self.slots, slot):
                raise DeviceError(
                    f"{self.memory.path}: slot {'AB'[slot]} holds another image than the one that runs: flash the one you mean", 0
                )
            confirm(self.memory, self.slots, slot)
            # Nothing older boots from now on, not only from the next start on.
            if choose(self.memory, self.slots) == slot:
                start(self.memory, self.slots)

    def _nothing_boots(self) -> DeviceError | ArtifactError:
        """Error for a board that cannot boot: there is no image, or none is trusted."""
        name = self._target.name
        records = {slot: record for slot in (0, 1) if (record := boot_record(self.memory, self.slots, slot)) is not None}
        for slot in sorted(records, key=lambda slot: records[slot].generation, reverse=True):
            try:
                self.trusted.check(image_in(self.memory, self.slots, slot) or b"", "the installed image")
            except ArtifactError as refusal:
                return refusal
        return DeviceError(f"{name} has no image: `edge-tse flash --target {name}` first", 0)

    def _check(self, content: bytes, source: str) -> Image:
        image = require_trust(self.memory, self.slots.trust_at, self.memory.path).check(content, source)
        check_for(image, target=self._target.name, core=self._target.core, source=source)
        return image


class _Booted:
    """The link to an emulated board that has started from a slot."""

    def __init__(self, link: Link, board: EmulatedBoard, slot: int, record: BootRecord) -> None:
        self.name = link.name
        self._link, self._board, self._slot, self._record = link, board, slot, record

    def write(self, content: bytes) -> None:
        self._link.write(content)

    def read(self, size: int, timeout_s: float) -> bytes:
        return self._link.read(size, timeout_s)

    def close(self) -> None:
        self._link.close()

    def confirm(self) -> None:
        """Confirm the image for the board: nobody but the host can write the memory of an emulated board."""
        self._board.confirm(self._slot, self._record)


def open_board(target: Target, port: str | None, state: Path, baud: int | None = None) -> Link:
    """The link to a board that has been flashed: at ``port``, or the emulated one whose memory is in folder ``state``.

    Through a debug server (``gdb://``) it is the mailbox of the board's program.

    ``baud``: symbols per second of a serial port, :data:`.link.BAUD` if None.
    """
    if port is not None and port.startswith(SCHEME):
        return open_mailbox(port, CORES.get(target.name))
    if target.flasher in HERE and (port is None or ":" not in port):
        return EmulatedBoard(target, memory_file(target, port, state)).start()
    if port is not None:
        return open_link(port, baud=baud)
    if target.flasher == "adb":
        return open_link(f"exec:adb shell -T /data/local/tmp/{REMOTE}")
    raise LinkError(f"target {target.name} is reached through a port: give it with --port, for instance --port /dev/ttyACM0")


@dataclass(frozen=True, kw_only=True)
class Flashed:
    """Result of flashing."""

    way: str
    """Tool or link that put it there."""
    slot: int | None
    """Slot it was put into, on a board that has two."""


def flash(
    target: Target,
    content: bytes,
    state: Path,
    *,
    port: str | None = None,
    chip: str | None = None,
    via: str | None = None,
    trusted: Sequence[bytes] | None = None,
    progress: Tell = lambda told: None,
    prove: Callable[[Link], None] | None = None,
) -> Flashed:
    """Put an image file onto a board, read it back and compare.

    ``port``: ``gdb://HOST:PORT`` of a debug server, a file for the memory of an emulated board, or what the tool takes;
    ``chip``: what pyOCD calls it; ``via``: another tool than the target's (:func:`tool_steps`); ``trusted``: keys that the board is
    to accept from now on; ``prove``: what is done with the link to a board that this machine stands in for, once it has started
    with the new image, while nobody else can write its memory. ``TargetError`` if the image is for another target or core,
    ``ArtifactError`` if it is damaged or not signed as it must be.
    """
    image = check_image(target, content, trusted)
    way = way_onto(target, port=port, via=via)
    if way == "memory":
        board = EmulatedBoard(target, memory_file(target, port, state))
        with board.memory.lock():
            slot = board.install(content, progress)
            if trusted is not None:
                board.trust(trusted)
            if prove is not None:
                prove(board.start())
        return Flashed(way="this machine" if target.flasher == "none" else target.flasher, slot=slot)
    memory, at = _boot_region(target, state)
    with memory.lock():
        # Nothing on the way of a tool asks: this machine does, as the board's own boot code would.
        asked = require_trust(memory, at, memory.path)
        asked.check(content, "the image")
        if way == "gdb":
            assert port is not None
            flash_program(port, image.payload, CORES.get(target.name), progress)
        else:
            with tempfile.TemporaryDirectory() as folder:
                program = Path(folder) / "image.elf"
                program.write_bytes(image.payload)
                for step in tool_steps(way, program, port=port, chip=chip):
                    run_step(step)
        keys = asked.keys if trusted is None else tuple(trusted)
        # In place and without a second slot: there is no image to go back to, and no trial.
        if keys is not None and (keys, image.counter) != (asked.keys, asked.minimum_counter):
            write_trust(memory, at, keys, max(image.counter, asked.minimum_counter))
    return Flashed(way=way, slot=None)


def way_onto(target: Target, *, port: str | None, via: str | None) -> str:
    """Way onto a board: ``gdb`` through a debug server at ``port``, ``memory`` if this machine stands in for the board, or a tool.

    ``TargetError`` for a tool beside a debug server.
    """
    if port is not None and port.startswith(SCHEME):
        if via is not None:
            raise TargetError(f"{port} is a debug server, which needs no {via}: leave out --via, or give the --port of {via}")
        return "gdb"
    if via is None and target.flasher in HERE:
        return "memory"
    return via or target.flasher


def check_image(target: Target, content: bytes, trusted: Sequence[bytes] | None) -> Image:
    """The image in a file, if it is whole, for the target, and signed by one of ``trusted`` where keys are given.

    Errors as of :func:`flash`.
    """
    image = parse(content, "the image", trusted=trusted)
    check_for(image, target=target.name, core=target.core)
    check_room(trusted or ())
    return image


def require_trust(memory: FlashMemory, at: tuple[int, int], file: Path) -> Trust:
    """Requirements of a boot region. ``ArtifactError`` if it is damaged throughout, and no image would ever satisfy it."""
    trust = read_trust(memory, at)
    if trust.keys == ():
        raise ArtifactError(
            f"{file}: its boot region is damaged in both places, or written by an older edge-tse, so that no image is "
            "trusted: remove the file to begin anew"
        )
    return trust


def _boot_region(target: Target, state: Path) -> tuple[FileFlash, tuple[int, int]]:
    """Requirements for images that go onto a board by other ways than through its memory.

    For a board that this machine stands in for, they are in its own boot region; for any other, this machine remembers them.
    """
    if target.flasher in HERE:
        board = EmulatedBoard(target, memory_file(target, None, state))
        return board.memory, board.slots.trust_at
    memory = FileFlash(trust_file(target, state), BOOT_BYTES, SECTOR_BYTES)
    return memory, (0, SECTOR_BYTES)


def memory_file(target: Target, port: str | None, state: Path) -> Path:
    """File that is the memory of an emulated board."""
    return state / "boards" / f"{target.name}.flash" if port is None else Path(port)


def trust_file(target: Target, state: Path) -> Path:
    """File in which this machine remembers what a board trusts that it does not stand in for."""
    return state / "boards" / f"{target.name}.trust"
