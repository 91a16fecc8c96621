"""Links: bytes to a board and back, over any carrier.

A link knows nothing of messages. Reading and writing end after a stated time, whatever the other side does; a link that has ended
says so with a ``LinkError`` that names the port.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edge_tse.errors import LinkError
from edge_tse.install_line import install_line
from edge_tse.table import quote

__all__ = ["Confirming", "DatagramLink", "FifoLink", "Link", "MemoryLink", "ProcessLink", "SerialLink", "SocketLink", "open_link"]

WRITE_TIMEOUT_S = 5.0
"""Timeout of a write: a board that does not take a frame within it is not listening."""
BAUD = 115200
"""Symbols per second of a serial port, as the boards' programs set it (docs/boards.md)."""
_CHUNK_BYTES = 4096


class Link(Protocol):
    """A stream of bytes in both directions."""

    name: str
    """Name of the port, for messages."""

    def write(self, content: bytes) -> None:
        """Write all bytes. ``LinkError`` if the other side is gone or does not take them in time."""

    def read(self, size: int, timeout_s: float) -> bytes:
        """Read at most ``size`` bytes; waits up to ``timeout_s`` for the first, then returns nothing.

        ``LinkError`` if the other side is gone.
        """

    def close(self) -> None:
        """Give the port back. May be called twice."""


@runtime_checkable
class Confirming(Protocol):
    """A link to a board that may have its image on trial."""

    def confirm(self) -> None:
        """Keep the image: it works."""


class _Descriptors:
    """Reading and writing file descriptors that do not block."""

    def __init__(self, name: str, incoming: int, outgoing: int) -> None:
        self.name = name
        self._incoming, self._outgoing = incoming, outgoing
        for descriptor in (incoming, outgoing):
            os.set_blocking(descriptor, False)

    def write(self, content: bytes) -> None:
        rest = memoryview(content)
        deadline_s = time.monotonic() + WRITE_TIMEOUT_S
        while rest:
            _, ready, _ = select.select([], [self._outgoing], [], max(deadline_s - time.monotonic(), 0))
            if not ready:
                raise LinkError(
                    f"{self.name}: {len(rest)} of {len(content)} bytes were not taken within {WRITE_TIMEOUT_S:g} s: "
                    "the board is not listening, reset it"
                )
            try:
                rest = rest[os.write(self._outgoing, rest) :]
            except BlockingIOError:
                continue
            except OSError as failure:
                raise self._loss(failure.strerror or "") from failure

    def read(self, size: int, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._incoming], [], [], max(timeout_s, 0))
        if not ready:
            return b""
        try:
            content = os.read(self._incoming, size)
        except BlockingIOError:
            return b""
        except OSError as failure:
            raise self._loss(failure.strerror or "") from failure
        if not content:
            raise self._loss("")
        return content

    def _loss(self, why: str) -> LinkError:
        return LinkError(
            f"{self.name}: the other side closed the link{f' ({why})' if why else ''}: restart the board and try again"
        )


class SocketLink(_Descriptors):
    """A TCP connection, or a Unix one if ``port`` is None: an emulator, a debug server, a serial port lent over the network."""

    def __init__(self, host: str, port: int | None, *, timeout_s: float = 5.0) -> None:
        name = host if port is None else f"socket://{host}:{port}"
        try:
            if port is None:
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(timeout_s)
                self._socket.connect(host)
            else:
                self._socket = socket.create_connection((host, port), timeout_s)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as failure:
            raise LinkError(
                f"{name}: no connection within {timeout_s:g} s ({failure.strerror or failure}): "
                "start the program that listens there"
            ) from failure
        except UnicodeError as failure:  # of the name's encoding, before anybody is asked for it
            raise LinkError(f"{name}: {quote(host)} can be no name of a machine: correct it") from failure
        super().__init__(name, self._socket.fileno(), self._socket.fileno())

    def close(self) -> None:
        self._socket.close()


class DatagramLink(_Descriptors):
    """Datagrams (UDP) that arrive at a port of this machine; what is written goes to whoever sent the last one."""

    def __init__(self, host: str, port: int) -> None:
        name = f"udp://{host}:{port}"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sender: tuple[str, int] | None = None
        try:
            self._socket.bind((host, port))
        except OSError as failure:
            self._socket.close()
            raise LinkError(
                f"{name} is no port to listen at ({failure.strerror or failure}): give a free one of this machine"
            ) from failure
        super().__init__(name, self._socket.fileno(), self._socket.fileno())

    def write(self, content: bytes) -> None:
        if self._sender is None:
            raise LinkError(f"{self.name}: nobody has sent anything yet, so there is nobody to answer: wait for the first datagram")
        try:
            self._socket.sendto(content, self._sender)
        except OSError as failure:
            raise self._loss(failure.strerror or "") from failure

    def read(self, size: int, timeout_s: float) -> bytes:
        """As of :class:`Link`, a datagram at a time; what is longer than ``size`` is lost."""
        ready, _, _ = select.select([self._incoming], [], [], max(timeout_s, 0))
        if not ready:
            return b""
        try:
            content, self._sender = self._socket.recvfrom(size)
        except BlockingIOError:  # a datagram that arrived damaged is announced, and then is not there (select(2))
            return b""
        except OSError as failure:
            raise self._loss(failure.strerror or "") from failure
        return content

    def close(self) -> None:
        self._socket.close()


class FifoLink(_Descriptors):
    """Two named pipes of this machine, written and read by an emulated board. They are made if they are not there."""

    def __init__(self, from_board: Path, to_board: Path) -> None:
        name = f"fifo:{to_board.parent}"
        opened: list[int] = []
        try:
            for path in (from_board, to_board):
                if not path.exists():
                    os.mkfifo(path)
                # Both ways, so that opening waits for nobody; Linux defines it.
                opened.append(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        except OSError as failure:
            for descriptor in opened:
                os.close(descriptor)
            raise LinkError(f"{name}: {failure.strerror}: give a folder that you may write to") from failure
        self._open = opened
        super().__init__(name, *opened)

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


class ProcessLink(_Descriptors):
    """The standard input and output of a program that is started here: ``adb shell``, ``ssh``, an emulator, a board's twin."""

    def __init__(self, command: Sequence[str], *, name: str = "") -> None:
        name = name or f"exec:{shlex.join(command)}"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0)
        except OSError as failure:
            self._errors.close()
            raise LinkError(f"{name}: {command[0]} does not start ({failure.strerror}): install it, or correct it") from failure
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        super().__init__(name, self._process.stdout.fileno(), self._process.stdin.fileno())

    def close(self) -> None:
        if self._errors.closed:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _loss(self, why: str) -> LinkError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), why or "it said nothing")
        code = self._process.poll()
        state = "closed its output" if code is None else f"ended with status {code}"
        return LinkError(f"{self.name}: the program {state} ({last}): run it by hand to see why")


class MemoryLink:
    """A board that is a function of this process: it turns bytes sent into bytes answered, at once."""

    def __init__(self, answer: Callable[[bytes], bytes], name: str = "memory") -> None:
        self.name = name
        self._answer = answer
        self._arrived = bytearray()

    def write(self, content: bytes) -> None:
        self._arrived += self._answer(content)

    def read(self, size: int, timeout_s: float) -> bytes:
        taken = bytes(self._arrived[:size])
        del self._arrived[:size]
        return taken

    def close(self) -> None:
        self._arrived.clear()


class SerialLink:
    """A serial port through pyserial: a device file, a pseudo-terminal, or one of pyserial's URLs."""

    def __init__(self, port: str, *, baud: int = BAUD) -> None:
        try:
            import serial
        except ImportError as failure:
            raise LinkError(f"{port}: serial ports need pyserial: {install_line('firmware')}") from failure
        self.name = port
        self._error: type[Exception] = serial.SerialException
        self._timed_out: type[Exception] = serial.SerialTimeoutException
        try:
            self._port: Any = serial.serial_for_url(port, baudrate=baud, timeout=0, write_timeout=WRITE_TIMEOUT_S)
        except (serial.SerialException, ValueError, OverflowError) as failure:  # the last for a baud of more than 31 bits
            raise LinkError(f"{port} does not open ({failure}): is the board plugged in, and may you use the port?") from failure

    def write(self, content: bytes) -> None:
        try:
            self._port.write(content)
        except self._timed_out as failure:
            raise LinkError(
                f"{self.name}: {len(content)} bytes were not taken within {WRITE_TIMEOUT_S:g} s: "
                "the board is not listening, reset it"
            ) from failure
        except (self._error, OSError) as failure:
            raise self._loss(failure) from failure

    def read(self, size: int, timeout_s: float) -> bytes:
        try:
            self._port.timeout = max(timeout_s, 0)
            first: bytes = self._port.read(1)
            if not first or size == 1:
                return first
            waiting: bytes = self._port.read(min(size - 1, self._port.in_waiting))
        except (self._error, OSError) as failure:
            raise self._loss(failure) from failure
        return first + waiting

    def close(self) -> None:
        self._port.close()

    def _loss(self, failure: Exception) -> LinkError:
        return LinkError(f"{self.name}: the port is gone ({failure}): plug the board in again, then try again")


def open_link(port: str, *, baud: int | None = None) -> Link:
    """Open the link that a ``--port`` names; ``baud`` is that of a serial port, :data:`BAUD` if None.

    ``/dev/ttyACM0`` (or any device file), ``socket://HOST:PORT`` or ``tcp://HOST:PORT``, ``udp://HOST:PORT`` (of this machine),
    ``fifo:FOLDER`` (with ``from_board`` and ``to_board`` in it),
    ``exec:COMMAND`` (its standard input and output). ``LinkError`` if it does not open.
    """
    kind, separator, rest = port.partition(":")
    openers: dict[str, Callable[[str], Link]] = {
        "fifo": _open_fifo,
        "exec": _open_process,
        "socket": lambda address: SocketLink(*_host_and_port("socket", address)),
        "tcp": lambda address: SocketLink(*_host_and_port("tcp", address)),
        "udp": lambda address: DatagramLink(*_host_and_port("udp", address)),
    }
    if separator and kind in openers:
        if baud is not None:
            raise LinkError(f"{port} is no serial port, it has no {baud} baud: leave --baud out")
        return openers[kind](rest)
    return SerialLink(port, baud=BAUD if baud is None else baud)


def _open_fifo(folder: str) -> Link:
    return FifoLink(Path(folder) / "from_board", Path(folder) / "to_board")


def _open_process(command: str) -> Link:
    try:
        words = shlex.split(command)
    except ValueError as failure:
        raise LinkError(f"exec:{command}: {failure}: quote it as a shell would need it") from failure
    if not words:
        raise LinkError("exec: names no program: write exec:COMMAND")
    return ProcessLink(words)


def _host_and_port(kind: str, address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("//").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise LinkError(f"{kind}:{address} names no host and port: write {kind}://HOST:PORT, with a port below 65536")
    return host, int(port)
