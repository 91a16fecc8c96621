"""Flashing: a new image goes beside the old one and becomes bootable only when read back: an interrupted update boots the old one.

The memory begins with the boot region (``trust.py``); the rest is divided into two slots. Each begins with a sector for its boot
record, which states the image's length and CRC-32 and is written last; the valid record of the higher generation whose image is
trusted boots (:func:`choose`, and ``c/board/boot.c`` on a board, tested to agree).

A new image is on trial: :func:`start` marks it tried, and starts it no second time, while another can be, unless it was
confirmed in between (:func:`confirm`).
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from edge_tse.errors import DeviceError, TargetError
from firmware_bridge.flash_memory import ERASED, FlashMemory
from firmware_bridge.image import DOMAIN, SCHEMA, ImageHeader, Kind
from firmware_bridge.image import MAGIC as IMAGE_MAGIC
from firmware_bridge.layout import U32, c_constants, pack, size_bytes, unpack
from firmware_bridge.trust import KEYS, TRUST_MAGIC, TrustRecord, newer, read_trust, write_trust

__all__ = [
    "BootRecord",
    "FlashProgress",
    "Slots",
    "boot_record",
    "choose",
    "confirm",
    "header",
    "image_in",
    "install",
    "installed_image",
    "is_confirmed",
    "start",
]

MAGIC = 0x42455445  # "ETEB" as it lies in memory
TRIED_AT, CONFIRMED_AT, MARK_BYTES = 32, 48, 16
"""Marks behind the boot record, in its sector: each is programmed once, and in no unit with anything else."""
TRIED = bytes(MARK_BYTES)
"""Mark of a trial: any bytes that are not erased count as it."""
CONFIRMED = b"etse: confirmed\0"
"""Mark of a confirmed image: only these bytes count as it."""
_BLOCK_BYTES = 4096
"""Bytes that are read, programmed and reported at a time."""


@dataclass(frozen=True, kw_only=True)
class BootRecord:
    """Boot record, which marks a slot bootable."""

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
class FlashProgress:
    """Progress of flashing."""

    phase: str
    """``erase``, ``write``, ``compare`` or ``mark``."""
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Places of the boot region and the two images in a memory."""

    trust_at: tuple[int, int]
    """The two sectors of the boot region."""
    at: tuple[int, int]
    """First byte of each slot: its boot record."""
    slot_bytes: int
    sector_bytes: int

    @classmethod
    def of(cls, memory: FlashMemory) -> Slots:
        """Slots in the two halves of a memory behind its boot region."""
        sector_bytes = memory.sector_bytes
        slot_bytes = (memory.size_bytes // sector_bytes - 2) // 2 * sector_bytes
        first = 2 * sector_bytes
        return cls(trust_at=(0, sector_bytes), at=(first, first + slot_bytes), slot_bytes=slot_bytes, sector_bytes=sector_bytes)

    @property
    def image_bytes(self) -> int:
        """Longest image that fits."""
        return self.slot_bytes - self.sector_bytes


def boot_record(memory: FlashMemory, slots: Slots, slot: int) -> BootRecord | None:
    """The record of a slot whose image is whole, else None. Equal to ``c/board/boot.c``."""
    record = unpack(BootRecord, memory.read(slots.at[slot], RECORD_BYTES))
    if record.magic != MAGIC or record.crc != zlib.crc32(pack(record)[:-4]) or not 0 < record.image_bytes <= slots.image_bytes:
        return None
    crc = 0
    first = slots.at[slot] + slots.sector_bytes
    for at in range(0, record.image_bytes, _BLOCK_BYTES):
        crc = zlib.crc32(memory.read(first + at, min(_BLOCK_BYTES, record.image_bytes - at)), crc)
    return record if crc == record.image_crc else None


def is_confirmed(memory: FlashMemory, slots: Slots, slot: int) -> bool:
    """Whether the image of a slot has been confirmed, by doing what it should."""
    return memory.read(slots.at[slot] + CONFIRMED_AT, MARK_BYTES) == CONFIRMED


def choose(memory: FlashMemory, slots: Slots) -> int | None:
    """The slot that boots, None if neither can: an image whose trial has not failed first, then the newer one.

    Equal to ``etse_boot_choose`` of ``c/board/boot.c``.
    """
    records = {slot: record for slot in (0, 1) if (record := boot_record(memory, slots, slot)) is not None}
    ranked = sorted(records, key=lambda slot: _has_failed(memory, slots, slot))
    if len(records) == 2 and _has_failed(memory, slots, 0) == _has_failed(memory, slots, 1):
        ranked = [1, 0] if newer(records[0].generation, records[1].generation) else [0, 1]
    trust = read_trust(memory, slots.trust_at)
    return next((slot for slot in ranked if trust.accepts(_image(memory, slots, slot, records[slot]))), None)


def installed_image(memory: FlashMemory, slots: Slots) -> bytes | None:
    """The image that boots, None if there is none."""
    slot = choose(memory, slots)
    return None if slot is None else image_in(memory, slots, slot)


def image_in(memory: FlashMemory, slots: Slots, slot: int) -> bytes | None:
    """The image of a slot, trusted or not, None if it has no whole one."""
    record = boot_record(memory, slots, slot)
    return None if record is None else _image(memory, slots, slot, record)


def start(memory: FlashMemory, slots: Slots) -> int | None:
    """Start as a board does: choose a slot, and remember a trial before it begins. Returns the slot, None if none can boot.

    From a confirmed image on, no image with a lower security counter boots. Equal to ``etse_boot_start`` of ``c/board/boot.c``.
    """
    slot = choose(memory, slots)
    if slot is None:
        return None
    if not is_confirmed(memory, slots, slot):
        if not _is_tried(memory, slots, slot):
            memory.program(slots.at[slot] + TRIED_AT, TRIED)
        return slot
    trust = read_trust(memory, slots.trust_at)
    content = image_in(memory, slots, slot)
    if trust.keys is not None and content is not None:
        counter = trust.check(content, "the installed image").counter
        if counter > trust.minimum_counter:
            write_trust(memory, slots.trust_at, trust.keys, counter)
    return slot


def confirm(memory: FlashMemory, slots: Slots, slot: int) -> None:
    """Keep the image that runs from this slot. Equal to ``etse_boot_confirm`` of ``c/board/boot.c``."""
    if not is_confirmed(memory, slots, slot):
        memory.program(slots.at[slot] + CONFIRMED_AT, CONFIRMED)


def _is_tried(memory: FlashMemory, slots: Slots, slot: int) -> bool:
    return memory.read(slots.at[slot] + TRIED_AT, MARK_BYTES) != bytes([ERASED]) * MARK_BYTES


def _has_failed(memory: FlashMemory, slots: Slots, slot: int) -> bool:
    return _is_tried(memory, slots, slot) and not is_confirmed(memory, slots, slot)


def _image(memory: FlashMemory, slots: Slots, slot: int, record: BootRecord) -> bytes:
    return memory.read(slots.at[slot] + slots.sector_bytes, record.image_bytes)


def _slot_to_keep(memory: FlashMemory, slots: Slots) -> int | None:
    """The slot that an update leaves alone: the confirmed one, the newer of two, or the one that boots where none is confirmed."""
    active = choose(memory, slots)
    if active is None or is_confirmed(memory, slots, active):
        return active
    other = 1 - active
    content = image_in(memory, slots, other)
    good = content is not None and is_confirmed(memory, slots, other) and read_trust(memory, slots.trust_at).accepts(content)
    return other if good else active


def install(memory: FlashMemory, slots: Slots, image: bytes, progress: Callable[[FlashProgress], None] = lambda told: None) -> int:
    """Write an image into the slot that does not boot, read it back, compare, and make it bootable last; returns the slot.

    An image on trial is replaced, the confirmed one beside it never. Interrupted anywhere, the board boots the image that it
    keeps, or the new one, which is on trial. ``TargetError`` if the image is empty or too long, ``DeviceError`` if the memory does
    not hold what was written; the old image still boots then.
    """
    if not image:
        raise TargetError("the image has 0 bytes, and nothing would boot: build it again")
    if len(image) > slots.image_bytes:
        raise TargetError(f"the image has {len(image)} bytes, a slot holds {slots.image_bytes}: take a smaller model")
    kept = _slot_to_keep(memory, slots)
    slot = 0 if kept is None else 1 - kept
    old = None if kept is None else boot_record(memory, slots, kept)
    start = slots.at[slot]
    first = start + slots.sector_bytes
    # The record goes first: from here on the slot is not bootable, so half an image in it never boots.
    sectors = [start, *range(first, first + len(image), slots.sector_bytes)]
    for done, at in enumerate(sectors, 1):
        memory.erase(at)
        progress(FlashProgress(phase="erase", done_bytes=done * slots.sector_bytes, total_bytes=len(sectors) * slots.sector_bytes))
    blocks = [(at, image[at : at + _BLOCK_BYTES]) for at in range(0, len(image), _BLOCK_BYTES)]
    for at, block in blocks:
        memory.program(first + at, block)
        progress(FlashProgress(phase="write", done_bytes=at + len(block), total_bytes=len(image)))
    for at, block in blocks:
        _compare(memory, first + at, block)
        progress(FlashProgress(phase="compare", done_bytes=at + len(block), total_bytes=len(image)))
    generation = 0 if old is None else (old.generation + 1) % 2**32
    record = BootRecord(magic=MAGIC, generation=generation, image_bytes=len(image), image_crc=zlib.crc32(image), crc=0)
    content = pack(record)[:-4]
    content += zlib.crc32(content).to_bytes(4, "little")
    memory.program(start, content)
    _compare(memory, start, content)
    progress(FlashProgress(phase="mark", done_bytes=len(content), total_bytes=len(content)))
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
    """Text of ``c/board/boot_record.h``: places of the fields of a boot record, of the boot region and of an image's header."""
    lines = [
        "/* Generated from firmware_bridge/flash.py by `python -m firmware_bridge.flash`; do not edit. */",
        "#ifndef ETSE_BOOT_RECORD_H",
        "#define ETSE_BOOT_RECORD_H",
        "",
        f"#define ETSE_BOOT_MAGIC {MAGIC:#x}u",
        f"#define ETSE_TRUST_MAGIC {TRUST_MAGIC:#x}u",
        f'#define ETSE_BOOT_CONFIRMED "{_c_text(CONFIRMED)}"',
        "",
        f'#define ETSE_IMAGE_MAGIC "{IMAGE_MAGIC}"',
        "/* in front of the digest that is signed, its final zero included */",
        f'#define ETSE_IMAGE_DOMAIN "{_c_text(DOMAIN)}"',
        "",
        "enum {",
        *c_constants(BootRecord),
        f"    ETSE_BOOT_TRIED_AT = {TRIED_AT},",
        f"    ETSE_BOOT_CONFIRMED_AT = {CONFIRMED_AT},",
        f"    ETSE_BOOT_MARK_BYTES = {MARK_BYTES},",
        "};",
        "",
        "enum {",
        *c_constants(TrustRecord),
        f"    ETSE_TRUST_KEYS = {KEYS},",
        "};",
        "",
        "enum {",
        *c_constants(ImageHeader),
        f"    ETSE_IMAGE_SCHEMA = {SCHEMA},",
        f"    ETSE_IMAGE_KINDS = {max(Kind)},",
        "};",
        "",
        "#endif",
        "",
    ]
    return "\n".join(lines)


def _c_text(content: bytes) -> str:
    """Bytes of a text without the zero that C adds."""
    return content.removesuffix(b"\0").decode()


if __name__ == "__main__":
    sys.stdout.write(header())
