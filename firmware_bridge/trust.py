"""Trust: the signers whose images a board starts, and the lowest security counter; both lie in the boot region of its flash memory.

The boot region has two sectors, each with a record of the keys and of the lowest security counter; the valid one of the higher
generation is in force. Both are written, one after the other, so that one is valid whenever power ends, and one may rot.
``c/board/boot.c`` reads the same, checks the same, and is tested to agree.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from edge_tse.errors import ArtifactError, DeviceError, TargetError
from firmware_bridge.flash_memory import FlashMemory
from firmware_bridge.image import Image, parse
from firmware_bridge.layout import U32, Bytes128, pack, size_bytes, unpack

__all__ = ["KEYS", "TRUST_MAGIC", "Trust", "TrustRecord", "check_room", "newer", "read_trust", "write_trust"]

TRUST_MAGIC = 0x53455445  # "ETES" as it lies in memory
KEYS = 4
"""Most keys that a board trusts."""
_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class TrustRecord:
    """A record of the boot region."""

    magic: U32
    generation: U32
    """One more than that of the record it replaces, modulo 2**32."""
    minimum_counter: U32
    """Images with a lower security counter do not boot."""
    key_count: U32
    keys: Bytes128
    """Public keys of 32 bytes, one behind the other."""
    crc: U32
    """CRC-32 of the fields before."""


_RECORD_BYTES = size_bytes(TrustRecord)


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Requirements of a board for an image."""

    keys: tuple[bytes, ...] | None = None
    """Public keys, one of which must have signed the image; None takes any image, an empty list none."""
    minimum_counter: int = 0
    """Lowest security counter, asked for only where a signature is: without one anybody could raise it."""

    def check(self, content: bytes, source: str) -> Image:
        """The image in a file's content. ``ArtifactError`` if it is none, damaged, or not trusted."""
        image = parse(content, source, trusted=self.keys)
        if self.keys is not None and image.counter < self.minimum_counter:
            raise ArtifactError(
                f"{source} has security counter {image.counter}, this board takes {self.minimum_counter} and higher: "
                "it is older than what the board has kept; build and sign a newer one"
            )
        return image

    def accepts(self, content: bytes) -> bool:
        """Whether the boot code starts these bytes: any, where no key is trusted."""
        if self.keys is None:
            return True
        try:
            self.check(content, "the image")
        except ArtifactError:
            return False
        return True


def read_trust(memory: FlashMemory, at: tuple[int, int]) -> Trust:
    """Trust in the boot region whose two sectors begin ``at``.

    A region that has never been completely written trusts everybody; one that is damaged throughout trusts nobody.
    """
    state = _in_force(memory, at)
    if state is not None:
        keys = tuple(state.keys[i * _KEY_BYTES : (i + 1) * _KEY_BYTES] for i in range(state.key_count))
        return Trust(keys=keys, minimum_counter=state.minimum_counter)
    erased = any(memory.read(place, _RECORD_BYTES) == b"\xff" * _RECORD_BYTES for place in at)
    return Trust() if erased else Trust(keys=())


def write_trust(memory: FlashMemory, at: tuple[int, int], keys: Sequence[bytes], minimum_counter: int) -> None:
    """Put keys and counter in force. An interruption at any point leaves the old or the new ones in force.

    ``TargetError`` if there are more keys than room, ``DeviceError`` if the memory does not hold what was written.
    """
    check_room(keys)
    old = _in_force(memory, at)
    state = TrustRecord(
        magic=TRUST_MAGIC,
        generation=0 if old is None else (old.generation + 1) % 2**32,
        minimum_counter=minimum_counter,
        key_count=len(keys),
        keys=b"".join(keys).ljust(KEYS * _KEY_BYTES, b"\0"),
        crc=0,
    )
    content = pack(state)[:-4]
    content += zlib.crc32(content).to_bytes(4, "little")
    first = 1 if old is not None and _state(memory, at[0]) == old else 0
    for place in (at[first], at[1 - first]):
        memory.erase(place)
        memory.program(place, content)
        if memory.read(place, _RECORD_BYTES) != content:
            raise DeviceError(f"the boot region at {place:#x} does not hold the bytes written: the other copy counts", 0)


def check_room(keys: Sequence[bytes]) -> None:
    """``TargetError`` if a boot region has no room for so many keys."""
    if len(keys) > KEYS:
        raise TargetError(f"{len(keys)} keys are to be trusted, there is room for {KEYS}: trust fewer")


def newer(first: int, second: int) -> bool:
    """Whether the second generation follows the first, modulo 2**32."""
    return 0 < (second - first) % 2**32 < 2**31


def _in_force(memory: FlashMemory, at: tuple[int, int]) -> TrustRecord | None:
    first, second = (_state(memory, place) for place in at)
    if first is None or second is None:
        return first or second
    return second if newer(first.generation, second.generation) else first


def _state(memory: FlashMemory, at: int) -> TrustRecord | None:
    state = unpack(TrustRecord, memory.read(at, _RECORD_BYTES))
    whole = state.magic == TRUST_MAGIC and state.key_count <= KEYS and state.crc == zlib.crc32(pack(state)[:-4])
    return state if whole else None
