"""GDB's remote protocol as far as a debug probe needs it: reading and writing memory, flash, reset.

QEMU's stub, OpenOCD and pyOCD speak it, so one client loads a program through any of them. Packets, escapes and run lengths: GDB
manual, appendix "Remote Serial Protocol". A packet that arrives damaged is asked for again; silence ends with a ``LinkError``.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edge_tse.errors import DeviceError, LinkError, TargetError
from firmware_bridge.flash import FlashProgress
from firmware_bridge.link import Link

__all__ = ["FlashRegion", "GdbRemote", "Segment", "flat", "load", "segments"]

_ESCAPED = b"#$}*"
_CHUNK_BYTES = 4096
_BLOCK_BYTES = 1024
_ATTEMPTS = 3
_LOADABLE = 1
_LONGEST_BYTES = 2**25
_LONGEST_MAP_BYTES = 2**20
_FLASH_TIMEOUT_S = 60.0
"""Timeout of an answer about flash: servers keep what they are sent, and erase and write it all when asked to finish."""
_INTERRUPT = b"\x03"
_FAILED = (b"Error:", b"Transfer failed:", b"Unexpected error:")
"""First words of pyOCD's answer to a command that failed."""
_VECTORS_BYTES = 8
"""First stack pointer and reset vector: without them nothing starts."""


@dataclass(frozen=True, kw_only=True)
class FlashRegion:
    """Flash of a board, as its debug server knows it."""

    origin: int
    size_bytes: int
    sector_bytes: int

    def __post_init__(self) -> None:
        if self.sector_bytes < 1:
            raise ValueError(f"sectors of {self.sector_bytes} bytes")

    def sectors(self, at: int, size: int) -> range:
        """Addresses of the sectors that these bytes touch."""
        first = self.origin + (at - self.origin) // self.sector_bytes * self.sector_bytes
        return range(first, at + size, self.sector_bytes)


class GdbRemote:
    """A connection to a debug server, whose core is halted by it."""

    def __init__(self, link: Link, *, clock: Callable[[], float] = time.monotonic, timeout_s: float = 5.0) -> None:
        self.name = link.name
        self._link = link
        self._clock = clock
        self._timeout_s = timeout_s
        self._arrived = bytearray()
        self._binary = True
        self._flash_written = False
        self.ask(b"?")

    def ask(self, command: bytes) -> bytes:
        """Send a packet and return the answer's content. ``LinkError`` after silence."""
        self._send(command)
        return self._packet(command)

    def read(self, at: int, size: int) -> bytes:
        """Read memory. ``DeviceError`` if the server cannot read there."""
        content = bytearray()
        while len(content) < size:
            n = min(_BLOCK_BYTES, size - len(content))
            answer = self._sound(b"m%x,%x" % (at + len(content), n), f"read {n} bytes at {at + len(content):#x}")
            content += self._hex(answer)
        return bytes(content[:size])

    def write(self, at: int, content: bytes) -> None:
        """Write memory that is not flash. ``DeviceError`` if the server cannot write there."""
        for offset in range(0, len(content), _BLOCK_BYTES):
            block = content[offset : offset + _BLOCK_BYTES]
            what = f"write {len(block)} bytes at {at + offset:#x}"
            if self._binary:
                answer = self.ask(b"X%x,%x:" % (at + offset, len(block)) + _escape(block))
                if answer:
                    self._check(answer, what)
                    continue
                self._binary = False  # an empty answer: this server does not know the command
            self._confirm(b"M%x,%x:" % (at + offset, len(block)) + block.hex().encode(), what)

    def erase_flash(self, at: int, size: int) -> None:
        """Erase sectors of flash that the server knows."""
        with self._patience():
            self._confirm(b"vFlashErase:%x,%x" % (at, size), f"erase {size} bytes of flash at {at:#x}")

    def write_flash(self, at: int, content: bytes) -> None:
        """Write flash that was erased; the content is in force after :meth:`finish_flash`."""
        for offset in range(0, len(content), _BLOCK_BYTES):
            block = content[offset : offset + _BLOCK_BYTES]
            with self._patience():
                self._confirm(b"vFlashWrite:%x:" % (at + offset) + _escape(block), f"write {len(block)} bytes of flash")
            self._flash_written = True

    def finish_flash(self) -> None:
        """Finish writing flash: everything is in place when it returns."""
        # Asked to finish what was never begun, OpenOCD 0.12 crashes.
        if not self._flash_written:
            return
        with self._patience():
            self._confirm(b"vFlashDone", "finish the flash")
        self._flash_written = False

    def flash_regions(self) -> tuple[FlashRegion, ...]:
        """Flash that the server writes by commands of its own; none where it has no memory map, as QEMU's."""
        text = b""
        while (answer := self.ask(b"qXfer:memory-map:read::%x,%x" % (len(text), _BLOCK_BYTES)))[:1] == b"m":
            text += answer[1:]
            if len(answer) == 1 or len(text) > _LONGEST_MAP_BYTES:
                raise LinkError(f"{self.name}: its memory map does not end after {len(text)} bytes: is it a debug server?")
        text += answer[1:] if answer[:1] == b"l" else b""
        found = re.findall(rb"<memory\s([^>]*type=\"flash\"[^>]*)>\s*<property name=\"blocksize\">\s*(\w+)", text)
        regions = []
        for attributes, sector in found:
            try:
                words = {name: int(value, 0) for name, value in re.findall(rb"(start|length)=\"(\w+)\"", attributes)}
                region = FlashRegion(origin=words[b"start"], size_bytes=words[b"length"], sector_bytes=int(sector, 0))
            except (KeyError, ValueError) as failure:
                row = attributes.decode(errors="replace").strip()[:60]
                raise LinkError(
                    f"{self.name}: its memory map has flash without a start, a length and a sector's size ({row}): correct it there"
                ) from failure
            regions.append(region)
        return tuple(regions)

    def monitor(self, command: str) -> str:
        """Send a command of the server itself (``system_reset`` of QEMU, ``reset halt`` of OpenOCD), and return its output.

        ``DeviceError`` if the server does not know it, or says that it failed.
        """
        self._send(b"qRcmd," + command.encode().hex().encode())
        printed = b""
        while (answer := self._packet(command.encode()))[:1] == b"O" and answer != b"OK":
            printed += self._hex(answer[1:])
        if not answer:
            raise DeviceError(f"{self.name} does not know the command {command}", 0)
        said = b""
        if answer != b"OK":
            # OpenOCD and pyOCD answer with the output itself, and pyOCD with what went wrong, too.
            said = self._hex(answer) if re.fullmatch(rb"([0-9a-fA-F]{2})+", answer) else answer
            if said is answer or said.startswith(_FAILED):
                why = " ".join((printed.strip() or said)[-80:].decode(errors="replace").split())
                raise DeviceError(f"{self.name} cannot do {command} ({why}): correct that there", 0)
        return (printed + said).decode(errors="replace")

    def resume(self) -> None:
        """Let the core run. Until :meth:`halt` nothing else may be asked."""
        self._send(b"c")

    def halt(self) -> None:
        """Stop the core, or hear that it has stopped."""
        self._link.write(_INTERRUPT)
        while self._packet(b"interrupt")[:1] == b"O":  # what the server had to say while the core ran
            pass

    def close(self) -> None:
        """Leave the core as it is, and give the link back."""
        self._link.close()

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Wait longer for an answer than usual."""
        usual, self._timeout_s = self._timeout_s, max(self._timeout_s, _FLASH_TIMEOUT_S)
        try:
            yield
        finally:
            self._timeout_s = usual

    def _hex(self, answer: bytes) -> bytes:
        try:
            return bytes.fromhex(answer.decode("ascii"))
        except ValueError as failure:
            raise LinkError(f"{self.name} answers {answer[:20]!r} where bytes are due: is it a debug server?") from failure

    def _sound(self, command: bytes, what: str) -> bytes:
        answer = self.ask(command)
        if answer[:1] == b"E" and len(answer) == 3:
            self._check(answer, what)
        if not answer:
            raise DeviceError(f"{self.name} cannot {what}: it does not know the command", 0)
        return answer

    def _confirm(self, command: bytes, what: str) -> None:
        self._check(self._sound(command, what), what)

    def _check(self, answer: bytes, what: str) -> None:
        if answer == b"OK":
            return
        status = int(answer[1:3], 16) if re.match(rb"E[0-9a-fA-F]{2}", answer) else 0
        raise DeviceError(
            f"{self.name} cannot {what} ({answer[:20].decode(errors='replace')}): is that address of this board?", status
        )

    def _send(self, content: bytes) -> None:
        packet = b"$" + content + b"#%02x" % (sum(content) % 256)
        for _ in range(_ATTEMPTS):
            self._link.write(packet)
            if self._byte(b"+-", content) == b"+":
                return
        raise LinkError(f"{self.name} refused a packet {_ATTEMPTS} times: the line damages packets; lower its speed")

    def _packet(self, command: bytes) -> bytes:
        for _ in range(_ATTEMPTS):
            self._byte(b"$", command)
            content = bytearray()
            while (byte := self._next(command)) != b"#":
                content += byte
            stated = self._next(command) + self._next(command)
            if stated.lower() == b"%02x" % (sum(content) % 256):
                self._link.write(b"+")
                return _unescape(bytes(content))
            self._link.write(b"-")
        raise LinkError(f"{self.name} answered damaged {_ATTEMPTS} times: lower the speed of the line")

    def _byte(self, wanted: bytes, command: bytes) -> bytes:
        """The next of these bytes; anything before it is noise."""
        while (byte := self._next(command)) not in wanted:
            pass
        return byte

    def _next(self, command: bytes) -> bytes:
        if not self._arrived:
            deadline_s = self._clock() + self._timeout_s
            while not self._arrived:
                if (remaining_s := deadline_s - self._clock()) <= 0:
                    shown = command[:12].decode(errors="replace")
                    raise LinkError(f"{self.name}: no answer to {shown} within {self._timeout_s:g} s: is a debug server there?")
                self._arrived += self._link.read(_CHUNK_BYTES, remaining_s)
        byte = bytes(self._arrived[:1])
        del self._arrived[:1]
        return byte


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A part of a program and its load address."""

    address: int
    content: bytes


def segments(program: bytes, source: str = "the program") -> tuple[Segment, ...]:
    """Parts of a 32-bit ELF file that are loaded, at least one. ``TargetError`` if the file is none, or truncated."""
    if program[:7] != b"\x7fELF\x01\x01\x01":
        raise TargetError(f"{source} is not a 32-bit little-endian ELF: it starts with {program[:7]!r}; build it again")
    try:
        (table,) = struct.unpack_from("<I", program, 28)
        size, count = struct.unpack_from("<2H", program, 42)
        rows = [struct.unpack_from("<5I", program, table + i * size) for i in range(count)]
    except struct.error as failure:
        raise TargetError(f"{source} is truncated at {len(program)} bytes: build it again") from failure
    found = []
    for kind, offset, _, physical, stored in rows:
        if kind == _LOADABLE and stored:
            if offset + stored > len(program):
                raise TargetError(f"{source} is truncated: {len(program)} bytes where {offset + stored} are needed; build it again")
            found.append(Segment(address=physical, content=program[offset : offset + stored]))
    if not found:
        raise TargetError(f"{source} has {len(program)} bytes, 0 of them to be loaded: link it as a program")
    return tuple(found)


def flat(program: bytes) -> tuple[int, bytes]:
    """A program as its first address and all bytes from there on, for tools that know no segments.

    ``TargetError`` if it is spread over more than one memory.
    """
    parts = sorted(segments(program), key=lambda part: part.address)
    base = parts[0].address
    end = max(part.address + len(part.content) for part in parts)
    if end - base > _LONGEST_BYTES:
        raise TargetError(f"the program is spread over {end - base} bytes, one memory holds {_LONGEST_BYTES}: use a debug server")
    content = bytearray(b"\xff" * (end - base))
    for part in parts:
        content[part.address - base : part.address - base + len(part.content)] = part.content
    return base, bytes(content)


def load(gdb: GdbRemote, program: bytes, progress: Callable[[FlashProgress], None] = lambda told: None) -> None:
    """Write a program into a board's memory, read it back and compare; its vectors come last.

    Until then a reset finds no program, and after it a whole one. Flash that the server knows is erased and written by its own
    commands, all else as memory. ``DeviceError`` if what is read is not what was written.
    """
    known = gdb.flash_regions()
    parts = _joined(segments(program), known)
    vectors = parts[-1]
    # Flash is programmed in words of up to 32 bytes, each once after it is erased: what comes last is a whole block.
    last_bytes = _BLOCK_BYTES if _flash_of(known, vectors.address) else _VECTORS_BYTES
    if not _flash_of(known, vectors.address):
        gdb.write(vectors.address, bytes(_VECTORS_BYTES))
    _erase(gdb, known, parts, progress)
    total = sum(len(part.content) for part in parts)
    head = vectors.content[:last_bytes]
    # pyOCD erases only what it then writes, and keeps the rest of its sector: the old vectors would outlive the new code.
    if _flash_of(known, vectors.address) and len(set(gdb.read(vectors.address, len(head)))) > 1:
        gdb.write_flash(vectors.address, b"\xff" * len(head))
        gdb.finish_flash()
    for phase in ("write", "compare"):
        done = 0
        for part in parts:
            skipped = len(head) if part is vectors else 0
            for offset in range(0, len(part.content), _CHUNK_BYTES):
                begin, block = max(offset, skipped), part.content[max(offset, skipped) : offset + _CHUNK_BYTES]
                if phase == "write":
                    _put(gdb, known, part.address + begin, block)
                else:
                    _compare(gdb, part.address + begin, block)
                done += min(_CHUNK_BYTES, len(part.content) - offset)
                progress(FlashProgress(phase=phase, done_bytes=done, total_bytes=total))
        if phase == "write":
            gdb.finish_flash()
    _put(gdb, known, vectors.address, head)
    gdb.finish_flash()
    _compare(gdb, vectors.address, head)
    progress(FlashProgress(phase="mark", done_bytes=len(head), total_bytes=len(head)))


def _joined(parts: Sequence[Segment], known: Sequence[FlashRegion]) -> list[Segment]:
    """Parts, the last one first; those that follow each other in one flash as one: two may share a word of it."""
    joined: list[Segment] = []
    for part in sorted(parts, key=lambda part: part.address):
        region = _flash_of(known, part.address)
        before = joined[-1] if joined else None
        if region is not None and before is not None and _flash_of(known, before.address) == region:
            gap = part.address - before.address - len(before.content)
            if 0 <= gap < region.sector_bytes:
                joined[-1] = Segment(address=before.address, content=before.content + b"\xff" * gap + part.content)
                continue
        joined.append(part)
    return joined[::-1]


def _flash_of(known: Sequence[FlashRegion], at: int) -> FlashRegion | None:
    return next((region for region in known if region.origin <= at < region.origin + region.size_bytes), None)


def _erase(
    gdb: GdbRemote, known: Sequence[FlashRegion], parts: Sequence[Segment], progress: Callable[[FlashProgress], None]
) -> None:
    """Erase the sectors of flash that the parts touch, one after the other; the vectors' first."""
    touched: dict[int, int] = {}
    for part in parts:
        end = part.address + len(part.content)
        # One program may lie in sectors of several sizes, as on an STM32F4: a region for each.
        for region in known:
            begin, stop = max(part.address, region.origin), min(end, region.origin + region.size_bytes)
            if begin < stop:
                touched |= dict.fromkeys(region.sectors(begin, stop - begin), region.sector_bytes)
    for done, (sector, size) in enumerate(sorted(touched.items()), 1):
        gdb.erase_flash(sector, size)
        progress(FlashProgress(phase="erase", done_bytes=done, total_bytes=len(touched)))


def _put(gdb: GdbRemote, known: Sequence[FlashRegion], at: int, content: bytes) -> None:
    if _flash_of(known, at) is None:
        gdb.write(at, content)
    else:
        gdb.write_flash(at, content)


def _compare(gdb: GdbRemote, at: int, wanted: bytes) -> None:
    if gdb.read(at, len(wanted)) != wanted:
        raise DeviceError(f"{gdb.name}: memory at {at:#x} does not hold the {len(wanted)} bytes written: is it memory at all?", 0)


def _escape(content: bytes) -> bytes:
    return b"".join(b"}" + bytes([byte ^ 0x20]) if byte in _ESCAPED else bytes([byte]) for byte in content)


def _unescape(content: bytes) -> bytes:
    """Content without escapes and run lengths: ``0*"`` is four zeros."""
    out = bytearray()
    at = 0
    while at < len(content):
        byte = content[at : at + 1]
        if byte == b"}" and at + 1 < len(content):
            out.append(content[at + 1] ^ 0x20)
            at += 2
        elif byte == b"*" and out and at + 1 < len(content):
            out += out[-1:] * (content[at + 1] - 29)
            at += 2
        else:
            out += byte
            at += 1
    return bytes(out)
