"""Debug port: a board behind ``gdb://HOST:PORT``, without another cable: its program is loaded, started and talked to there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from edge_tse.errors import DeviceError, LinkError
from firmware_bridge.cores import Core
from firmware_bridge.flash import FlashProgress
from firmware_bridge.gdb import GdbRemote, load
from firmware_bridge.link import SocketLink
from firmware_bridge.mailbox import ID, MailboxLink

__all__ = ["SCHEME", "flash_program", "open_mailbox", "server_address"]

SCHEME = "gdb://"


def flash_program(port: str, program: bytes, core: Core | None, progress: Callable[[FlashProgress], None]) -> None:
    """Load an ELF program, reset the board and let it run. ``core``: the core it is for, where it is one of this build's."""
    with closing(_connect(server_address(port)[0])) as gdb:
        load(gdb, program, progress)
        _reset(gdb)
        if core is not None and core.mailbox_at is not None:
            gdb.write(core.mailbox_at, bytes(len(ID)))  # memory outlives a reset: the mailbox there is of the program before
        gdb.resume()


def open_mailbox(port: str, core: Core | None) -> MailboxLink:
    """The link to a running program through its mailbox, at the address in ``gdb://HOST:PORT/ADDRESS`` or where ``core`` has it.

    ``LinkError`` if no debug server is there, the program has no mailbox or nobody says where it is.
    """
    server, at = server_address(port)
    if at is None and core is not None:
        at = core.mailbox_at
    if at is None:
        raise LinkError(f"{port}: nobody here knows where that board has its mailbox: write {SCHEME}HOST:PORT/ADDRESS")
    gdb = _connect(server)
    try:
        return MailboxLink(gdb, at)
    except BaseException:
        gdb.close()
        raise


def server_address(port: str) -> tuple[tuple[str, int], int | None]:
    """Host and port of the server, and the address behind them if there is one."""
    server, _, at = port.removeprefix(SCHEME).partition("/")
    host, _, number = server.rpartition(":")
    if not host or not number.isdecimal() or not 0 < int(number) < 2**16:
        raise LinkError(f"{port} names no debug server: write {SCHEME}HOST:PORT, with a port below 65536")
    try:
        address = int(at, 0) if at else None
    except ValueError:
        address = -1
    if address is not None and not 0 <= address < 2**32:
        raise LinkError(f"{port}: {at} is no address of 32 bits: write {SCHEME}HOST:PORT/ADDRESS, with one such as 0x20000000")
    return (host, int(number)), address


def _connect(server: tuple[str, int]) -> GdbRemote:
    link = SocketLink(*server)
    try:
        return GdbRemote(link)
    except BaseException:
        link.close()
        raise


def _reset(gdb: GdbRemote) -> None:
    """Reset with the command of QEMU, then with that of OpenOCD and pyOCD."""
    refusal: DeviceError | None = None
    for command in ("system_reset", "reset halt"):
        try:
            printed = gdb.monitor(command)
        except DeviceError as failure:
            refusal = failure
            continue
        if "nknown command" not in printed and "invalid command name" not in printed:  # QEMU and OpenOCD 0.11 say so and go on
            return
    raise DeviceError(f"{gdb.name} resets with neither system_reset nor reset halt: reset the board by hand", 0) from refusal
