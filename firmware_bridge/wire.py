"""Wire: messages between a host and a board, and the frames that carry them over any stream of bytes.

A frame is ``code u8, sequence u16, payload, CRC-32 u32``, little-endian, in COBS (``cobs.py``) between two zero bytes: zero occurs
nowhere else, so a reader that lost its place finds it at the next one.

A board answers every request with the sequence number it came with, and executes it once: the same request again gets the same
answer again. So a late answer is not taken for the present one, and a frame sent twice does not advance the network twice.

The messages below are the one table of both sides: ``python -m firmware_bridge.wire`` prints ``c/board/protocol.h``.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar

from firmware_bridge.cobs import LONGEST_RUN, stuff, unstuff
from firmware_bridge.layout import U8, U16, U32, U64, Bytes16, Rest, RestText, Text16, Text32, c_constants, c_name

__all__ = [
    "CHUNK_BYTES",
    "MAX_PAYLOAD_BYTES",
    "MESSAGES",
    "PROTOCOL",
    "Capability",
    "Decoder",
    "EarSound",
    "Error",
    "Frame",
    "Gains",
    "Hello",
    "HelloRequest",
    "Message",
    "NetworkFrame",
    "Reset",
    "ResetDone",
    "SetVoice",
    "SoundFrame",
    "Stats",
    "StatsRequest",
    "Status",
    "Talker",
    "VoiceTaken",
    "encode",
    "header",
]

PROTOCOL = 1
"""Version of the protocol; raised when an older board or host could not understand a newer one."""
MAX_PAYLOAD_BYTES = 1024
"""Longest payload that a board has room for."""
CHUNK_BYTES = 512
"""Bytes of a voice per message: a short frame lost to noise costs less than a long one."""


class Status(IntEnum):
    """Reasons of a board for refusing; the first numbers are ``etse_status`` of ``c/library/etse.h``."""

    EARS_UNSUPPORTED = 1
    VOICE_MALFORMED = 2
    VOICE_FOREIGN = 3
    VOICE_OUT_OF_RANGE = 4
    VOICE_DAMAGED = 5
    VOICE_FOLDED = 6
    """The model has a voice folded in: it takes no patch."""
    UNKNOWN_COMMAND = 16
    WRONG_SIZE = 17
    """A payload of another length than the message has."""
    VOICE_OUT_OF_ORDER = 18
    """A part of a voice that does not follow the part before it."""
    VOICE_INCOMPLETE = 19
    """The number of ears cannot change while a voice is on its way: its old copy is half overwritten."""


class Capability(IntFlag):
    """Abilities of a board besides running the network."""

    SOUND = 1
    """The whole chain: sound to sound."""
    VOICE = 2
    """Takes voices at run time; without it one is built in."""


@dataclass(frozen=True, kw_only=True)
class HelloRequest:
    """Request: who is there?"""

    code: ClassVar[int] = 0x01


@dataclass(frozen=True, kw_only=True)
class Hello:
    """A board and its model."""

    code: ClassVar[int] = 0x81
    protocol: U16
    max_payload_bytes: U16
    capabilities: U32
    """Flags of :class:`Capability`."""
    model: Bytes16
    """First bytes of the artifact's digest."""
    sample_rate_hz: U32
    hop: U16
    window: U16
    synthesis: U16
    features: U16
    bands: U16
    ears: U8
    """Most channels it can take."""
    voice_patch_bytes: U32
    """Size of a voice, 0 if it takes none."""
    kernels: Text16
    core: Text32
    target: Text32


@dataclass(frozen=True, kw_only=True)
class SetVoice:
    """A part of a voice; the first has offset 0, the last one ends at ``size_bytes`` and puts the voice in force."""

    code: ClassVar[int] = 0x02
    offset: U32
    size_bytes: U32
    """Bytes of the whole voice."""
    data: Rest


@dataclass(frozen=True, kw_only=True)
class VoiceTaken:
    """Progress of a voice that is being sent."""

    code: ClassVar[int] = 0x82
    taken_bytes: U32
    in_force: U8
    """1 once the voice is whole and heard from the next frame on."""


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Forget the past, keep the voice."""

    code: ClassVar[int] = 0x03
    ears: U8
    """Channels from now on; 0 leaves them."""


@dataclass(frozen=True, kw_only=True)
class ResetDone:
    """The next frame is the first."""

    code: ClassVar[int] = 0x83
    ears: U8


@dataclass(frozen=True, kw_only=True)
class NetworkFrame:
    """One step of the network alone."""

    code: ClassVar[int] = 0x04
    features: Rest
    """int8 ``[features]``"""


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Outputs of the network for a frame."""

    code: ClassVar[int] = 0x84
    moves: Rest
    """int8 ``[outputs, bands]``: mask, velocity and, of a model with a beam, share."""


@dataclass(frozen=True, kw_only=True)
class SoundFrame:
    """One step of the whole chain."""

    code: ClassVar[int] = 0x05
    samples: Rest
    """int16 ``[ears, hop]``"""


@dataclass(frozen=True, kw_only=True)
class Talker:
    """The enrolled talker."""

    code: ClassVar[int] = 0x85
    samples: Rest
    """int16 ``[ears, hop]``"""


@dataclass(frozen=True, kw_only=True)
class StatsRequest:
    """Request: how is it going?"""

    code: ClassVar[int] = 0x06


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Statistics since the last start, as seen from the board."""

    code: ClassVar[int] = 0x86
    counter: Text16
    """Unit of the counts: ``cycles``, ``instructions``, ``nanoseconds``; empty where nothing counts and they mean nothing."""
    last_count: U64
    """Count of the last frame."""
    worst_count: U64
    total_count: U64
    counts_per_s: U32
    """0 where the counter does not follow time, and deadlines cannot be missed."""
    frames: U32
    deadline_misses: U32
    damaged_frames: U32
    """Frames of the link that were dropped."""
    stack_bytes: U32
    """Room for the stack, 0 if unknown."""
    stack_high_water_bytes: U32
    """Deepest use of it, 0 if unknown."""
    arena_bytes: U32
    state_bytes: U32
    weight_bytes: U32


@dataclass(frozen=True, kw_only=True)
class EarSound:
    """Sound of one ear, which an earbud sends unasked, packet after packet; the frame's sequence number counts the packets."""

    code: ClassVar[int] = 0xC0
    counter: U64
    """Samples that its converter has counted before the first of these."""
    rate_hz: U32
    """Nominal rate of the converter."""
    waited_us: U32
    """Time between the last sample and the first attempt to send it, by the earbud's own clock."""
    ear: U8
    """0 left, 1 right, 255 where the earbud does not know."""
    channels: U8
    """1: an ear has one microphone signal."""
    samples: Rest
    """int16 ``[n]``"""


@dataclass(frozen=True, kw_only=True)
class Error:
    """Answer: the request was refused; nothing changed."""

    code: ClassVar[int] = 0xFF
    status: U16
    """One of :class:`Status`."""
    text: RestText


Message = (
    HelloRequest
    | Hello
    | SetVoice
    | VoiceTaken
    | Reset
    | ResetDone
    | NetworkFrame
    | Gains
    | SoundFrame
    | Talker
    | StatsRequest
    | Stats
    | EarSound
    | Error
)

MESSAGES: Mapping[int, type[Message]] = {kind.code: kind for kind in Message.__args__}
"""Messages by code: an answer is its request with the highest bit set; an ear's sound answers nothing."""


@dataclass(frozen=True)
class Frame:
    """A message on its way."""

    code: int
    sequence: int
    payload: bytes


_HEAD = struct.Struct("<BH")
_CRC = struct.Struct("<I")
_MAX_RAW_BYTES = _HEAD.size + MAX_PAYLOAD_BYTES + _CRC.size
_MAX_STUFFED_BYTES = _MAX_RAW_BYTES + _MAX_RAW_BYTES // LONGEST_RUN + 1


def encode(frame: Frame) -> bytes:
    """A frame as it goes over the link. ``ValueError`` if its payload is too long.

    The zero in front ends whatever noise the line may have carried before.
    """
    if len(frame.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload has at most {MAX_PAYLOAD_BYTES} bytes, not {len(frame.payload)}")
    raw = _HEAD.pack(frame.code, frame.sequence) + frame.payload
    return b"\0" + stuff(raw + _CRC.pack(zlib.crc32(raw))) + b"\0"


_QUOTED_BYTES = 48


class Decoder:
    """Frames out of bytes as they come, however they are cut. What is no frame is dropped and counted."""

    def __init__(self) -> None:
        self.damaged = 0
        """Stretches between two zeros that were no frame."""
        self.foreign_bytes = 0
        """Bytes that belonged to no frame, those of a frame that is not whole yet among them."""
        self.foreign_last = b""
        """The last few of them."""
        self._pending = bytearray()
        self._overlong = False

    def push(self, received: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        self.foreign_bytes += len(received)
        self.foreign_last = (self.foreign_last + received)[-_QUOTED_BYTES:]
        *ended, rest = received.split(b"\0")
        frames = []
        for stretch in ended:
            self._collect(stretch)
            if (frame := self._end()) is not None:
                frames.append(frame)
                self.foreign_bytes, self.foreign_last = 0, b""
        self._collect(rest)
        return frames

    def _collect(self, stretch: bytes) -> None:
        # A line that never carries a zero must not fill the memory.
        self._overlong |= len(self._pending) + len(stretch) > _MAX_STUFFED_BYTES
        if self._overlong:
            self._pending.clear()
        else:
            self._pending += stretch

    def _end(self) -> Frame | None:
        stuffed, overlong = bytes(self._pending), self._overlong
        self._pending.clear()
        self._overlong = False
        if not stuffed and not overlong:
            return None
        raw = None if overlong else unstuff(stuffed)
        if raw is None or not _HEAD.size + _CRC.size <= len(raw) <= _MAX_RAW_BYTES or _crc(raw) != zlib.crc32(raw[: -_CRC.size]):
            self.damaged += 1
            return None
        code, sequence = _HEAD.unpack_from(raw)
        return Frame(code, sequence, raw[_HEAD.size : -_CRC.size])


def _crc(raw: bytes) -> int:
    crc: int = _CRC.unpack(raw[-_CRC.size :])[0]
    return crc


def header() -> str:
    """Text of ``c/board/protocol.h``: codes, statuses, capabilities, and the place of each field in its payload."""
    lines = [
        "/* Generated from the messages of firmware_bridge/wire.py by `python -m firmware_bridge.wire`; do not edit. */",
        "#ifndef ETSE_PROTOCOL_H",
        "#define ETSE_PROTOCOL_H",
        "",
        "enum {",
        f"    ETSE_PROTOCOL = {PROTOCOL},",
        f"    ETSE_MAX_PAYLOAD_BYTES = {MAX_PAYLOAD_BYTES},",
        "};",
    ]
    for title, prefix, members in (("Capabilities", "ETSE_CAN", tuple(Capability)), ("Statuses", "ETSE_STATUS", tuple(Status))):
        lines += ["", f"/* {title} */", "enum {", *(f"    {prefix}_{member.name} = {member.value}," for member in members), "};"]
    for kind in MESSAGES.values():
        first_line = (kind.__doc__ or "").splitlines()[0]
        code = f"    ETSE_MESSAGE_{c_name(kind.__name__)} = 0x{kind.code:02x},"
        lines += ["", f"/* {first_line} */", "enum {", code, *c_constants(kind), "};"]
    return "\n".join([*lines, "", "#endif", ""])


if __name__ == "__main__":
    sys.stdout.write(header())
