"""Flash: a new image beside the old one, and bootable only when it has been read back: an interrupted update boots the old image.

The memory is divided into two slots. Each begins with a sector for its boot record, which states the image's length and CRC-32 and
is written last; the valid record of the higher generation boots (:func:`choose`, and ``boot.c`` on a board, tested to agree).
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_tse.errors import DeviceError, TargetError
from firmware_bridge.layout import U32, c_constants, pack, size_bytes, unpack

__all__ = [
    "BootRecord",
    "FileFlash",
    "FlashMemory",
    "MemoryFlash",
    "Progress",
    "Slots",
    "boot_record",
    "choose",
    "header",
    "install",
    "installed",
]

MAGIC = 0x42455445  # "ETEB" as it lies in memory
ERASED = 0xFF
_BLOCK_BYTES = 4096
"""Read, programmed and reported at a time."""


@dataclass(frozen=True, kw_only=True)
class BootRecord:
    """Marks a slot bootable."""

    magic: U32
    generation: U32
    """One more than that of the slot it replaces, modulo 2**32."""
    image_bytes: U32
    image_crc: U32
    """CRC-32 of the image."""
    crc: U32
    """CRC-32 of the fields before."""


RECORD_BYTES = size_bytes(BootRecord)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a flashing is."""

    phase: str
    """``erase``, ``write``, ``compare`` or ``mark``."""
    done_bytes: int
    total_bytes: int


class FlashMemory(Protocol):
    """Memory that is erased by the sector, to all ones, before it is programmed."""

    size_bytes: int
    sector_bytes: int

    def read(self, at: int, size: int) -> bytes:
        """Content from an address counted from the memory's first byte."""

    def erase(self, at: int) -> None:
        """One sector, to :data:`ERASED`."""

    def program(self, at: int, content: bytes) -> None:
        """Write erased bytes."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Where the two images of a memory are."""

    at: tuple[int, int]
    """First byte of each slot: its boot record."""
    slot_bytes: int
    sector_bytes: int

    @classmethod
    def of(cls, memory: FlashMemory) -> Slots:
        """Halves of a memory."""
        sectors = memory.size_bytes // memory.sector_bytes // 2
        return cls(
            at=(0, sectors * memory.sector_bytes), slot_bytes=sectors * memory.sector_bytes, sector_bytes=memory.sector_bytes
        )

    @property
    def image_bytes(self) -> int:
        """Longest image that fits."""
        return self.slot_bytes - self.sector_bytes


class MemoryFlash:
    """Flash memory in memory, as strict as the real thing: programming can only clear bits."""

    def __init__(self, size_bytes: int, sector_bytes: int, content: bytes = b"") -> None:
        self.size_bytes, self.sector_bytes = size_bytes, sector_bytes
        self.content = bytearray(content.ljust(size_bytes, bytes([ERASED])))

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.content[at : at + size])

    def erase(self, at: int) -> None:
        self.content[at : at + self.sector_bytes] = bytes([ERASED]) * self.sector_bytes

    def program(self, at: int, content: bytes) -> None:
        old = self.content[at : at + len(content)]
        self.content[at : at + len(content)] = bytes(a & b for a, b in zip(old, content, strict=True))


class FileFlash:
    """The flash memory of an emulated board: a file, made when it is first used."""

    def __init__(self, path: Path, size_bytes: int, sector_bytes: int) -> None:
        """``TargetError`` if the file cannot be made, or is another memory."""
        self.size_bytes, self.sector_bytes = size_bytes, sector_bytes
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                if file.tell() == 0:
                    file.write(bytes([ERASED]) * size_bytes)
            found = path.stat().st_size
        except OSError as failure:
            raise self._lost(failure) from failure
        if found != size_bytes:
            raise TargetError(f"{path} has {found} bytes, the memory of this board {size_bytes}: give another file, or remove it")

    def read(self, at: int, size: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(at)
                return file.read(size)
        except OSError as failure:
            raise self._lost(failure) from failure

    def erase(self, at: int) -> None:
        self._write(at, bytes([ERASED]) * self.sector_bytes)

    def program(self, at: int, content: bytes) -> None:
        self._write(at, content)

    def _write(self, at: int, content: bytes) -> None:
        try:
            with self._path.open("r+b") as file:
                file.seek(at)
                file.write(content)
        except OSError as failure:
            raise self._lost(failure) from failure

    def _lost(self, failure: OSError) -> TargetError:
        return TargetError(f"{self._path}: {failure.strerror}: give the board's memory another place")


def boot_record(memory: FlashMemory, slots: Slots, slot: int) -> BootRecord | None:
    """The record of a slot whose image is whole, else None. Equal to ``c/board/boot.c``."""
    record = unpack(BootRecord, memory.read(slots.at[slot], RECORD_BYTES))
    if record.magic != MAGIC or record.crc != zlib.crc32(pack(record)[:-4]) or record.image_bytes > slots.image_bytes:
        return None
    crc = 0
    first = slots.at[slot] + slots.sector_bytes
    for at in range(0, record.image_bytes, _BLOCK_BYTES):
        crc = zlib.crc32(memory.read(first + at, min(_BLOCK_BYTES, record.image_bytes - at)), crc)
    return record if crc == record.image_crc else None


def choose(memory: FlashMemory, slots: Slots) -> int | None:
    """The slot that boots, None if neither can. Equal to ``c/board/boot.c``."""
    first, second = (boot_record(memory, slots, slot) for slot in (0, 1))
    if first is None or second is None:
        return 0 if first is not None else 1 if second is not None else None
    newer = (second.generation - first.generation) % 2**32
    return 1 if 0 < newer < 2**31 else 0


def installed(memory: FlashMemory, slots: Slots) -> bytes | None:
    """The image that boots, None if there is none."""
    slot = choose(memory, slots)
    if slot is None:
        return None
    record = boot_record(memory, slots, slot)
    assert record is not None
    return memory.read(slots.at[slot] + slots.sector_bytes, record.image_bytes)


def install(memory: FlashMemory, slots: Slots, image: bytes, progress: Callable[[Progress], None] = lambda told: None) -> int:
    """Write an image into the slot that does not boot, read it back, compare, and make it bootable last; returns the slot.

    Interrupted anywhere, the board boots what it booted before, or the new image. ``TargetError`` if the image is too long,
    ``DeviceError`` if the memory does not hold what was written; the old image still boots then.
    """
    if len(image) > slots.image_bytes:
        raise TargetError(f"the image has {len(image)} bytes, a slot holds {slots.image_bytes}: take a smaller model")
    active = choose(memory, slots)
    slot = 0 if active is None else 1 - active
    old = None if active is None else boot_record(memory, slots, active)
    start = slots.at[slot]
    first = start + slots.sector_bytes
    # The record goes first: from here on the slot is not bootable, so half an image in it never boots.
    sectors = [start, *range(first, first + len(image), slots.sector_bytes)]
    for done, at in enumerate(sectors, 1):
        memory.erase(at)
        progress(Progress(phase="erase", done_bytes=done * slots.sector_bytes, total_bytes=len(sectors) * slots.sector_bytes))
    blocks = [(at, image[at : at + _BLOCK_BYTES]) for at in range(0, len(image), _BLOCK_BYTES)]
    for at, block in blocks:
        memory.program(first + at, block)
        progress(Progress(phase="write", done_bytes=at + len(block), total_bytes=len(image)))
    for at, block in blocks:
        _compare(memory, first + at, block)
        progress(Progress(phase="compare", done_bytes=at + len(block), total_bytes=len(image)))
    generation = 0 if old is None else (old.generation + 1) % 2**32
    record = BootRecord(magic=MAGIC, generation=generation, image_bytes=len(image), image_crc=zlib.crc32(image), crc=0)
    content = pack(record)[:-4]
    content += zlib.crc32(content).to_bytes(4, "little")
    memory.program(start, content)
    _compare(memory, start, content)
    progress(Progress(phase="mark", done_bytes=len(content), total_bytes=len(content)))
    return slot


def _compare(memory: FlashMemory, at: int, wanted: bytes) -> None:
    found = memory.read(at, len(wanted))
    if found == wanted:
        return
    where = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    value = f"{found[where]:#04x}" if where < len(found) else "nothing"
    raise DeviceError(
        f"flash at {at + where:#x} reads {value} where {wanted[where]:#04x} was written: the old image still boots; "
        "try again, and replace the board if it stays so",
        0,
    )


def header() -> str:
    """``c/board/boot_record.h``: where each field of a boot record lies."""
    lines = [
        "/* Generated from firmware_bridge/flash.py by `python -m firmware_bridge.flash`; do not edit. */",
        "#ifndef ETSE_BOOT_RECORD_H",
        "#define ETSE_BOOT_RECORD_H",
        "",
        f"#define ETSE_BOOT_MAGIC {MAGIC:#x}u",
        "",
        "enum {",
        *c_constants(BootRecord),
        "};",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(header())
