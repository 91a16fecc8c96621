"""Links: the same bytes through every carrier, an end to every wait, and a line that says what to do."""

from __future__ import annotations

import os
import pty
import socket
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_tse.errors import LinkError
from firmware_bridge import link as links
from firmware_bridge.link import FifoLink, Link, MemoryLink, ProcessLink, SerialLink, SocketLink, open_link

ECHO = "import os\nwhile data := os.read(0, 4096): os.write(1, data)"
EVERY_BYTE = bytes(range(256)) * 20


@pytest.fixture
def echo_server() -> Iterator[int]:
    """A TCP port that sends back what it gets, once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(4096):
                    peer.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.fixture
def echo_terminal() -> Iterator[str]:
    """A pseudo-terminal whose other end sends back what it gets."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    tty.setraw(ours)

    def serve() -> None:
        try:
            while data := os.read(ours, 4096):
                os.write(ours, data)
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    yield os.ttyname(theirs)
    os.close(theirs)


@pytest.fixture
def echo_fifo(tmp_path: Path) -> Iterator[str]:
    """A folder with two named pipes, joined at the other side."""
    board = FifoLink(tmp_path / "to_board", tmp_path / "from_board")
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if data := board.read(4096, 0.05):
                board.write(data)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"fifo:{tmp_path}"
    stop.set()
    thread.join()
    board.close()


def echoed(link: Link, content: bytes) -> bytes:
    """What comes back, read while it is being written so that nobody's buffer must hold it all."""
    got = b""
    for at in range(0, len(content), 512):
        link.write(content[at : at + 512])
        got += link.read(300, 0.2)
    deadline_s = time.monotonic() + 10
    while len(got) < len(content) and time.monotonic() < deadline_s:
        got += link.read(4096, 0.2)
    return got


def check_echo(link: Link) -> None:
    assert echoed(link, EVERY_BYTE) == EVERY_BYTE
    began_s = time.monotonic()
    assert link.read(10, 0.05) == b""
    assert 0.04 < time.monotonic() - began_s < 2
    link.write(b"abcdef")
    time.sleep(0.2)
    assert link.read(4, 1.0) == b"abcd"
    assert link.read(4, 1.0) == b"ef"
    link.close()
    link.close()


def test_a_process() -> None:
    check_echo(ProcessLink([sys.executable, "-c", ECHO]))


def test_a_process_by_name() -> None:
    check_echo(open_link(f"exec:{sys.executable} -c '{ECHO}'"))


def test_a_socket(echo_server: int) -> None:
    check_echo(open_link(f"socket://127.0.0.1:{echo_server}"))


def test_named_pipes(echo_fifo: str) -> None:
    check_echo(open_link(echo_fifo))


def test_a_pseudo_terminal(echo_terminal: str) -> None:
    pytest.importorskip("serial", reason="pyserial is not installed")
    check_echo(open_link(echo_terminal))


def test_memory() -> None:
    link = MemoryLink(lambda sent: sent[::-1])
    link.write(b"abc")
    assert link.read(2, 1.0) == b"cb"
    assert link.read(2, 1.0) == b"a"
    assert link.read(2, 1.0) == b""
    link.write(b"x")
    link.close()
    assert link.read(1, 1.0) == b""


# The other side goes away


def test_a_program_that_ends_says_how() -> None:
    link = ProcessLink([sys.executable, "-c", "import sys; sys.stderr.write('no board\\n\\n'); sys.exit(3)"], name="board")
    with pytest.raises(LinkError, match=r"^board: the program ended with status 3 \(no board\): run it by hand to see why$"):
        link.read(1, 10.0)
    with pytest.raises(LinkError, match="ended with status 3"):
        link.write(b"x" * 10)
    link.close()


def test_a_socket_that_is_closed(echo_server: int) -> None:
    link = SocketLink("127.0.0.1", echo_server)
    link._socket.shutdown(socket.SHUT_WR)
    with pytest.raises(LinkError, match=f"socket://127.0.0.1:{echo_server}: the other side closed the link"):
        link.read(1, 5.0)
    link.close()


def test_a_terminal_that_disappears() -> None:
    pytest.importorskip("serial", reason="pyserial is not installed")
    ours, theirs = pty.openpty()
    link = SerialLink(os.ttyname(theirs))
    os.close(ours)
    os.close(theirs)
    with pytest.raises(LinkError, match="the port is gone"):
        link.read(1, 1.0)
    with pytest.raises(LinkError, match="the port is gone"):
        link.write(b"x")
    link.close()


def test_a_rate_that_no_port_has() -> None:
    pytest.importorskip("serial", reason="pyserial is not installed")
    ours, theirs = pty.openpty()
    with pytest.raises(LinkError, match="does not open"):
        SerialLink(os.ttyname(theirs), baud=2**31)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize("carrier", ["process", "fifo"])
def test_a_board_that_does_not_listen_ends_the_write(carrier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "WRITE_TIMEOUT_S", 0.1)
    makers: dict[str, Callable[[], Link]] = {
        "process": lambda: ProcessLink([sys.executable, "-c", "import time; time.sleep(60)"], name="deaf"),
        "fifo": lambda: FifoLink(tmp_path / "from_board", tmp_path / "to_board"),
    }
    link = makers[carrier]()
    with pytest.raises(LinkError, match=r"of 1000000 bytes were not taken within 0.1 s: the board is not listening"):
        link.write(bytes(1_000_000))
    link.close()


# Ports that do not open


@pytest.mark.parametrize(
    ("port", "line"),
    [
        ("socket://here:²", "names no host and port: write socket://HOST:PORT"),
        ("tcp://192.168..7:9000", "'192.168..7' can be no name of a machine: correct it"),
        ("socket://nowhere", "names no host and port: write socket://HOST:PORT"),
        ("socket://127.0.0.1:99999", "with a port below 65536"),
        ("exec:", "names no program"),
        ("exec:'unfinished", "No closing quotation"),
        ("exec:a-program-nobody-has --now", r"a-program-nobody-has does not start \(No such file"),
        ("fifo:/a folder/nobody has", "No such file or directory: give a folder"),
    ],
)
def test_ports_that_do_not_open(port: str, line: str) -> None:
    with pytest.raises(LinkError, match=line) as failure:
        open_link(port)
    assert "\n" not in str(failure.value)


def test_a_socket_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    with pytest.raises(
        LinkError, match=rf"socket://127.0.0.1:{number}: no connection within 5 s .*start the program that listens there"
    ):
        open_link(f"socket://127.0.0.1:{number}")


def test_a_serial_port_that_is_not_there() -> None:
    pytest.importorskip("serial", reason="pyserial is not installed")
    with pytest.raises(LinkError, match="no-such-port does not open"):
        open_link("no-such-port")


def test_serial_without_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(LinkError, match=r"serial ports need pyserial: .*pip install .*\[firmware\]'"):
        open_link("ttyACM0")


def test_a_datagram_that_is_announced_and_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux does with one whose checksum is wrong: a link that raised anything but LinkError would lose its reader for good."""
    link = open_link(f"udp://127.0.0.1:{free_port()}")
    monkeypatch.setattr(links.select, "select", lambda *ready: ready[:3])
    assert link.read(100, 0.1) == b""
    link.close()
    with pytest.raises(LinkError, match="the other side closed the link"):
        link.read(100, 0.1)


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        link = SocketLink(str(tmp_path / "s"), None)
        peer, _ = server.accept()
        with peer:
            link.write(b"out")
            assert peer.recv(10) == b"out"
            peer.sendall(b"back")
            assert link.read(10, 1.0) == b"back"
        link.close()
