"""Mailbox: a link to a board through rings in its memory, which a debug server reads and writes (``c/board/mailbox.h``).

The layout is that of SEGGER's Real Time Transfer (J-Link User Guide UM08001), so that a server that moves its bytes by itself, as
OpenOCD's ``rtt server``, can be used as a ``socket://`` instead. GDB's protocol reads memory of a halted core alone: the core is
stopped for each look, some milliseconds apart. Its cycle counter stands still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_tse.errors import LinkError
from firmware_bridge.gdb import GdbRemote
from firmware_bridge.layout import U32, Bytes16, size_bytes, unpack

__all__ = ["ID", "MailboxHead", "MailboxLink"]

ID = b"SEGGER RTT".ljust(16, b"\0")
"""First bytes of a mailbox that is open."""
_POLL_S = 0.002
"""Time that the core runs between two looks."""
_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class MailboxHead:
    """Head of a mailbox: two channels, each a ring, and the record of a fault."""

    id: Bytes16
    up_channels: U32
    down_channels: U32
    up_name: U32
    up_ring: U32
    """Address of the ring to the host."""
    up_bytes: U32
    up_written: U32
    up_read: U32
    up_flags: U32
    down_name: U32
    down_ring: U32
    down_bytes: U32
    down_written: U32
    down_read: U32
    down_flags: U32
    faults: U32
    """Faults since the start."""
    pc: U32
    """Instruction that faulted."""
    cfsr: U32
    """Configurable fault status register."""
    hfsr: U32
    address: U32
    """Address that was asked for, where the status says that it is valid."""


_HEAD_BYTES = size_bytes(MailboxHead)
_UP_READ_AT = 24 + 16
_DOWN_WRITTEN_AT = 48 + 12


class MailboxLink:
    """A board behind a debug server."""

    def __init__(
        self,
        gdb: GdbRemote,
        at: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """``at``: address of the mailbox. ``LinkError`` if none is open there within ``timeout_s``; the core runs from now on."""
        self.name = gdb.name
        self._gdb, self._at = gdb, at
        self._clock, self._sleep = clock, sleep
        self._timeout_s = timeout_s
        gdb.resume()
        deadline_s = clock() + timeout_s
        while not self._is_open():
            if clock() >= deadline_s:
                raise LinkError(f"{self.name}: no mailbox at {at:#x}: is this board flashed with a program that has one?")
            sleep(_POLL_S)

    def write(self, content: bytes) -> None:
        """Write all bytes. ``LinkError`` if the board does not take them in time, or has faulted."""
        rest = content
        deadline_s = self._clock() + self._timeout_s
        while rest:
            with self._stopped() as head:
                taken = rest[: _room(head)]
                if taken:
                    self._gdb.write(head.down_ring + head.down_written, taken)
                    self._tell(_DOWN_WRITTEN_AT, (head.down_written + len(taken)) % head.down_bytes)
            rest = rest[len(taken) :]
            if rest and self._clock() >= deadline_s:
                raise LinkError(f"{self.name}: {len(rest)} bytes were not taken: the board is not listening, reset it")
            if rest:
                self._sleep(_POLL_S)

    def read(self, size: int, timeout_s: float) -> bytes:
        """Read at most ``size`` bytes; nothing if none came within ``timeout_s``. ``LinkError`` if the board has faulted."""
        deadline_s = self._clock() + timeout_s
        while True:
            with self._stopped() as head:
                if head.id == ID and head.up_written != head.up_read:
                    end = head.up_written if head.up_written > head.up_read else head.up_bytes
                    content = self._gdb.read(head.up_ring + head.up_read, min(size, end - head.up_read))
                    self._tell(_UP_READ_AT, (head.up_read + len(content)) % head.up_bytes)
                    return content
            if self._clock() >= deadline_s:
                return b""
            self._sleep(_POLL_S)

    def close(self) -> None:
        """Leave the core running, and give the link back."""
        self._gdb.close()

    def _tell(self, offset: int, place: int) -> None:
        self._gdb.write(self._at + offset, place.to_bytes(4, "little"))

    @contextmanager
    def _stopped(self) -> Iterator[MailboxHead]:
        """The mailbox of a core that stands still. ``LinkError`` if it has faulted, or the mailbox is not one."""
        self._gdb.halt()
        try:
            head = unpack(MailboxHead, self._gdb.read(self._at, _HEAD_BYTES))
            if head.id == ID:
                _check(head, self.name)
            yield head
        finally:
            self._gdb.resume()

    def _is_open(self) -> bool:
        with self._stopped() as head:
            return head.id == ID


def _room(head: MailboxHead) -> int:
    """Bytes that the ring from the host takes in one piece: one place stays empty, or full would look like empty."""
    if head.id != ID:
        return 0
    last = head.down_bytes - (head.down_read == 0)
    return (head.down_read - 1 if head.down_read > head.down_written else last) - head.down_written


def _check(head: MailboxHead, name: str) -> None:
    """Places outside of their rings would be read as somebody's memory, and written into it."""
    if head.faults:
        raise LinkError(
            f"{name}: the board faulted at {head.pc:#010x} (CFSR {head.cfsr:#010x}, HFSR {head.hfsr:#010x}, "
            f"address {head.address:#010x}): reset it, or report a fault"
        )
    one = head.up_channels == head.down_channels == 1
    inside = max(head.up_written, head.up_read) < head.up_bytes and max(head.down_written, head.down_read) < head.down_bytes
    if not (one and inside):
        raise LinkError(f"{name}: the mailbox is not this firmware's, or damaged: flash the board again")
