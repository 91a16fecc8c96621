"""GDB remote: against a server of our own that can be made to misbehave, and against QEMU's."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_tse.artifact import verify
from edge_tse.errors import DeviceError, LinkError, TargetError
from firmware_bridge import debug_port
from firmware_bridge.build import build_program
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES
from firmware_bridge.device import Device, DeviceNetwork
from firmware_bridge.flash import FlashProgress
from firmware_bridge.gdb import GdbRemote, flat, load, segments
from firmware_bridge.link import FifoLink, MemoryLink, SocketLink
from tests import graphs

ORIGIN = 0x08000000
EVERY_BYTE = bytes(range(256)) * 9 + b"#$}*" * 5


class Server:
    """A debug server with a stretch of memory, half of it flash: erased by the sector before it is written."""

    def __init__(self, *, knows: str = "mMXv?q") -> None:
        self.memory = bytearray(0x8000)
        self.knows = knows
        self.damage_answers = 0
        self.refuse_packets = 0
        self.map = b""
        self.monitors: dict[str, list[bytes]] = {"reset": [b"O" + b"reset\n".hex().encode(), b"OK"], "what": [b""]}
        self.staged: list[tuple[int, bytes]] = []
        self.packets: list[bytes] = []
        self._pending = b""
        self._last = b""

    def link(self) -> MemoryLink:
        return MemoryLink(self.take, "server")

    def take(self, sent: bytes) -> bytes:
        self._pending += sent
        out = b""
        while self._pending:
            if self._pending[:1] == b"-":
                out += self._passed(self._last)
                self._pending = self._pending[1:]
            elif self._pending[:1] == b"$":
                found = re.match(rb"\$(.*?)#(..)", self._pending, re.DOTALL)
                if found is None:
                    break
                self._pending = self._pending[found.end() :]
                if self.refuse_packets or int(found[2], 16) != sum(found[1]) % 256:
                    self.refuse_packets = max(self.refuse_packets - 1, 0)
                    out += b"-"
                    continue
                self.packets.append(found[1])
                out += b"+" + self._answers(found[1])
            else:
                self._pending = self._pending[1:]
        return out

    def _answers(self, packet: bytes) -> bytes:
        out = b""
        for answer in self.execute(packet):
            self._last = b"$" + answer + b"#%02x" % (sum(answer) % 256)
            out += self._passed(self._last)
        return out

    def _passed(self, packet: bytes) -> bytes:
        if not self.damage_answers:
            return packet
        self.damage_answers -= 1
        return packet[:-1] + b"z"

    def execute(self, packet: bytes) -> list[bytes]:
        if chr(packet[0]) not in self.knows:
            return [b""]
        body = re.sub(rb"}(.)", lambda m: bytes([m[1][0] ^ 0x20]), packet, flags=re.DOTALL)
        if packet[:1] == b"?":
            return [b"T05thread:01;"]
        if packet[:5] == b"qXfer":
            at, most = (int(n, 16) for n in packet.rpartition(b":")[2].split(b","))
            piece = self.map[at : at + min(most, 100)]
            return [(b"m" if at + len(piece) < len(self.map) else b"l") + piece] if self.map else [b""]
        if packet[:5] == b"qRcmd":
            command = bytes.fromhex(packet[6:].decode()).decode()
            return self.monitors.get(command, [b"E22"])
        if packet[:10] == b"vFlashDone":
            assert self.staged, "OpenOCD 0.12 crashes where nothing was written"
            for at, content in self.staged:
                old = self.memory[at : at + len(content)]
                self.memory[at : at + len(content)] = bytes(a & b for a, b in zip(old, content, strict=True))
            self.staged.clear()
            return [b"OK"]
        head, _, rest = body.partition(b":")
        if packet[:1] == b"v":
            head, _, content = rest.partition(b":")
        else:
            head, content = head[1:], rest
        numbers = [int(n, 16) for n in head.split(b",")]
        at = numbers[0] - ORIGIN
        if not 0 <= at < len(self.memory):
            return [b"E14"]
        if packet[:1] == b"m":
            return [self.memory[at : at + numbers[1]].hex().encode()]
        if packet[:11] == b"vFlashErase":
            self.memory[at : at + numbers[1]] = b"\xff" * numbers[1]
        elif packet[:11] == b"vFlashWrite":
            self.staged.append((at, content))
        else:
            content = bytes.fromhex(content.decode()) if packet[:1] == b"M" else content
            assert len(content) == numbers[1]
            self.memory[at : at + len(content)] = content
        return [b"OK"]


@pytest.mark.parametrize("knows", ["mMXv?q", "mMv?q"])
def test_memory_there_and_back(knows: str) -> None:
    server = Server(knows=knows)
    gdb = GdbRemote(server.link())
    gdb.write(ORIGIN + 3, EVERY_BYTE)
    assert server.memory[3 : 3 + len(EVERY_BYTE)] == EVERY_BYTE
    assert gdb.read(ORIGIN + 3, len(EVERY_BYTE)) == EVERY_BYTE
    assert sum(packet[:1] == b"X" for packet in server.packets) == (3 if "X" in knows else 1)


def test_damage_is_mended() -> None:
    server = Server()
    gdb = GdbRemote(server.link())
    server.refuse_packets = 2
    gdb.write(ORIGIN, b"hello")
    server.damage_answers = 2
    assert gdb.read(ORIGIN, 5) == b"hello"
    server.refuse_packets = 3
    with pytest.raises(LinkError, match="server refused a packet 3 times"):
        gdb.read(ORIGIN, 5)
    server.damage_answers = 3
    with pytest.raises(LinkError, match="server answered damaged 3 times"):
        gdb.read(ORIGIN, 5)


def test_escapes_and_run_lengths() -> None:
    answers = iter([b"S05", b'0* f*!"', b"a}\x03b"])

    def answer(sent: bytes) -> bytes:
        if not sent.startswith(b"$"):
            return b""
        content = next(answers)
        return b"+$" + content + b"#%02x" % (sum(content) % 256)

    gdb = GdbRemote(MemoryLink(answer))
    assert gdb.ask(b"x") == b"0000" + b"f" * 5 + b'"'
    assert gdb.ask(b"x") == b"a#b"


class Talkative(MemoryLink):
    """A server that has something to say of a core that runs, and tells only then that it has stopped: as OpenOCD may."""

    def __init__(self) -> None:
        super().__init__(self.take)
        self.stops = b""

    def take(self, sent: bytes) -> bytes:
        if sent == b"\x03":
            self.stops = self.packet(b"T02")
            return self.packet(b"O" + b"halted\n".hex().encode())
        told, self.stops = self.stops, b"" if sent[:1] == b"$" else self.stops
        answer = {b"?": b"S05", b"m": b"68656c6c6f"}.get(sent[1:2])
        return b"" if sent[:1] != b"$" else b"+" if answer is None else b"+" + told + self.packet(answer)

    def packet(self, content: bytes) -> bytes:
        return b"$" + content + b"#%02x" % (sum(content) % 256)

    def read(self, size: int, timeout_s: float) -> bytes:
        told = super().read(size, timeout_s)
        if not told:
            told, self.stops = self.stops, b""
        return told


def test_what_a_server_says_of_a_core_that_runs_is_no_stop() -> None:
    gdb = GdbRemote(Talkative())
    gdb.resume()
    gdb.halt()
    assert gdb.read(ORIGIN, 5) == b"hello"


def test_what_the_server_cannot_do() -> None:
    gdb = GdbRemote(Server().link())
    with pytest.raises(
        DeviceError, match=r"server cannot read 4 bytes at 0x10 \(E14\): is that address of this board\?"
    ) as failure:
        gdb.read(0x10, 4)
    assert failure.value.status == 0x14
    with pytest.raises(DeviceError, match="cannot write 4 bytes at 0x10"):
        gdb.write(0x10, b"1234")
    with pytest.raises(DeviceError, match="cannot do dance"):
        gdb.monitor("dance")
    with pytest.raises(DeviceError, match="does not know the command what"):
        gdb.monitor("what")
    assert gdb.monitor("reset") == "reset\n"
    with pytest.raises(DeviceError, match="cannot erase 256 bytes of flash at 0x8000000: it does not know the command"):
        GdbRemote(Server(knows="mM?").link()).erase_flash(ORIGIN, 256)


def test_silence_and_strangers() -> None:
    ticks = iter(range(1000))
    with pytest.raises(LinkError, match=r"memory: no answer to \? within 5 s: is a debug server there"):
        GdbRemote(MemoryLink(lambda sent: b""), clock=lambda: float(next(ticks)))
    with pytest.raises(LinkError, match="where bytes are due: is it a debug server"):
        GdbRemote(MemoryLink(lambda sent: b"+$hello#14" if sent[:1] == b"$" else b"")).read(0, 4)


# Programs


def elf(*parts: tuple[int, bytes]) -> bytes:
    """A 32-bit ELF with these segments."""
    head = 52 + 32 * len(parts)
    out = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + (2).to_bytes(2, "little") + (40).to_bytes(2, "little")
    out += b"".join(n.to_bytes(4, "little") for n in (1, 0, 52, 0, 0))
    out += b"".join(n.to_bytes(2, "little") for n in (52, 32, len(parts), 0, 0, 0))
    offset = head
    for address, content in parts:
        fields = (1, offset, address ^ 0x100, address, len(content), len(content) + 100, 5, 4)
        out += b"".join(n.to_bytes(4, "little") for n in fields)
        offset += len(content)
    return out + b"".join(content for _, content in parts)


def test_segments_go_where_they_are_loaded() -> None:
    program = elf((ORIGIN + 0x1000, b"data"), (ORIGIN, b"vectors!code"))
    assert [(s.address, s.content) for s in segments(program)] == [(ORIGIN + 0x1000, b"data"), (ORIGIN, b"vectors!code")]
    for cut in (60, len(program) - 1):
        with pytest.raises(TargetError, match="truncated"):
            segments(program[:cut])
    with pytest.raises(TargetError, match="not a 32-bit little-endian ELF"):
        segments(b"\x7fELF\x02" + program[5:])
    # Nothing would be flashed, read back and compared.
    for nothing in (elf(), elf((ORIGIN, b""))):
        with pytest.raises(TargetError, match=rf"has {len(nothing)} bytes, 0 of them to be loaded: link it as a program"):
            flat(nothing)


def test_a_program_is_written_compared_and_made_startable_last() -> None:
    server = Server()
    server.memory[:12] = b"old vectors!"
    told: list[FlashProgress] = []
    code = bytes(range(256)) * 40
    load(GdbRemote(server.link()), elf((ORIGIN + 0x4000, b"data" * 10), (ORIGIN, b"vectors!" + code)), told.append)
    assert server.memory[: 8 + len(code)] == b"vectors!" + code
    assert server.memory[0x4000:0x4028] == b"data" * 10
    assert [told[0].phase, told[-1].phase] == ["write", "mark"]
    writes = [packet for packet in server.packets if packet[:1] == b"X"]
    assert writes[0].startswith(b"X%x,8:" % ORIGIN)
    assert bytes(8) in writes[0]
    assert b"vectors!" in writes[-1]


MAP = b"""<?xml version="1.0"?><!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "gdb-memory-map.dtd">
<memory-map>
  <memory type="flash" start="0x8000000" length="0x4000"><property name="blocksize">0x800</property></memory>
  <memory type="ram" start="0x8004000" length="0x4000"/>
</memory-map>"""


class Chip(Server):
    """A server that knows which memory is flash, and a flash of words of 32 bytes, each programmed once after it is erased."""

    def __init__(self) -> None:
        super().__init__()
        self.map = MAP
        self.programmed: set[int] = set()
        self.lost_power_after: int | None = None

    def execute(self, packet: bytes) -> list[bytes]:
        if self.lost_power_after is not None and packet[:1] in b"vXM":
            if self.lost_power_after == 0:
                return [b"E01"]
            self.lost_power_after -= 1
        kind, _, rest = packet.partition(b":")
        if kind == b"vFlashErase":
            at, size = (int(n, 16) - base for n, base in zip(rest.split(b","), (ORIGIN, 0), strict=True))
            assert at % 0x800 == size % 0x800 == 0, "whole sectors"
            self.programmed -= set(range(at // 32, (at + size) // 32))
        if kind == b"vFlashDone":
            for at, content in self.staged:
                words = set(range(at // 32, -(-(at + len(content)) // 32)))
                assert at % 32 == 0, "a whole word"
                assert not words & self.programmed, "a word is programmed once"
                self.programmed |= words
        if packet[:1] in b"XM":
            assert int(packet[1:].partition(b",")[0], 16) >= ORIGIN + 0x4000, "flash is not written as memory"
        return super().execute(packet)


def test_flash_that_the_server_knows_is_erased_and_programmed_once() -> None:
    chip, told = Chip(), list[FlashProgress]()
    chip.memory[:0x4000] = b"old" * 5461 + b"!"
    gdb = GdbRemote(chip.link())
    assert [vars(region) for region in gdb.flash_regions()] == [{"origin": ORIGIN, "size_bytes": 0x4000, "sector_bytes": 0x800}]
    code = bytes(range(256)) * 40
    weights = ORIGIN + 8 + len(code) + 8  # in the same word as the end of the code
    load(gdb, elf((ORIGIN + 0x4000, b"data" * 10), (weights, b"weights" * 99), (ORIGIN, b"vectors!" + code)), told.append)
    assert chip.memory[: 8 + len(code)] == b"vectors!" + code
    assert chip.memory[weights - ORIGIN :][:693] == b"weights" * 99
    assert chip.memory[0x4000:0x4028] == b"data" * 10
    assert chip.memory[0x3000:0x4000] == (b"old" * 5461 + b"!")[0x3000:], "sectors that nothing goes to are left alone"
    assert [phase.phase for phase in told if phase.done_bytes == phase.total_bytes] == ["erase", "write", "compare", "mark"]
    last = [packet for packet in chip.packets if packet[:11] == b"vFlashWrite"][-1]
    assert last.startswith(b"vFlashWrite:%x:" % ORIGIN)


def test_interrupted_flash_holds_no_vectors_until_all_is_there() -> None:
    code = bytes(range(1, 251)) * 40
    whole = Chip()
    load(GdbRemote(whole.link()), elf((ORIGIN, b"vectors!" + code)))
    steps = sum(packet[:1] in b"vXM" for packet in whole.packets)
    assert steps > 10
    for after in range(1, steps):
        chip = Chip()
        chip.memory[:8] = b"outdated"
        chip.lost_power_after = after
        with pytest.raises(DeviceError):
            load(GdbRemote(chip.link()), elf((ORIGIN, b"vectors!" + code)))
        assert chip.memory[:8] == b"\xff" * 8
    chip.lost_power_after = None
    chip.staged.clear()
    load(GdbRemote(chip.link()), elf((ORIGIN, b"vectors!" + code)))
    assert chip.memory[: 8 + len(code)] == b"vectors!" + code


class Sparing(Chip):
    """A chip behind pyOCD: nothing is erased until something is written, and what is not written of a sector is kept."""

    def execute(self, packet: bytes) -> list[bytes]:
        if packet[:11] == b"vFlashErase":
            return [b"OK"] if self.lost_power_after is None or self.lost_power_after else [b"E01"]
        if packet == b"vFlashDone" and self.lost_power_after != 0:
            for at, content in self.staged:
                self.memory[at : at + len(content)] = content
            self.staged.clear()
            self.lost_power_after = None if self.lost_power_after is None else self.lost_power_after - 1
            return [b"OK"]
        return super().execute(packet)


def test_old_vectors_do_not_outlive_the_new_code_where_sectors_are_kept() -> None:
    old, new = b"outdated" + b"o" * 8000, b"vectors!" + bytes(range(1, 251)) * 40
    mixed = set()
    for after in range(40):
        chip = Sparing()
        chip.memory[: len(old)] = old
        chip.lost_power_after = after
        with pytest.raises(DeviceError):
            load(GdbRemote(chip.link()), elf((ORIGIN, new)))
        if chip.memory[: len(old)] != old:
            mixed.add(bytes(chip.memory[:8]))
        if chip.memory[1024 : len(new)] == new[1024:]:
            break
    assert mixed == {b"\xff" * 8}
    chip.lost_power_after = None
    load(GdbRemote(chip.link()), elf((ORIGIN, new)))
    assert chip.memory[: len(new)] == new


def test_sectors_of_several_sizes() -> None:
    server = Server()
    sizes = b"".join(
        b'<memory type="flash" start="%#x" length="%#x"><property name="blocksize">%#x</property></memory>' % (ORIGIN + at, n, size)
        for at, n, size in ((0, 0x1000, 0x400), (0x1000, 0x1000, 0x1000), (0x2000, 0x4000, 0x2000))
    )
    server.map = b"<memory-map>" + sizes + b"</memory-map>"
    code = bytes(range(1, 251)) * 64
    assert len(code) < 0x4000
    load(GdbRemote(server.link()), elf((ORIGIN + 0x400, code)))
    erased = [packet.removeprefix(b"vFlashErase:%x" % (ORIGIN >> 16)) for packet in server.packets if packet[:11] == b"vFlashErase"]
    assert erased == [b"0400,400", b"0800,400", b"0c00,400", b"1000,1000", b"2000,2000", b"4000,2000"]
    assert server.memory[0x400 : 0x400 + len(code)] == code


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (b'<memory type="flash" start="0x0"><property name="blocksize">0x800', "flash without a start"),
        (b'<memory type="flash" start="zero" length="0x10"><property name="blocksize">0x800', "flash without a start"),
        (b'<memory type="flash" start="0x0" length="0x10"><property name="blocksize">0', "flash without a start"),
        (b"<" * 2**21, "does not end after"),
    ],
)
def test_a_memory_map_that_is_none_is_said(row: bytes, complaint: str) -> None:
    server = Server()
    server.map = row
    with pytest.raises(LinkError, match=complaint):
        GdbRemote(server.link()).flash_regions()


UNKNOWN = "unrecognized command 'system_reset'"


@pytest.mark.parametrize(
    ("system_reset", "halted"),
    [
        ([b"OK"], None),
        ([b"E01"], [b"OK"]),
        ([b"O" + b'invalid command name "system_reset"\n'.hex().encode(), b"OK"], [b"OK"]),
        ([f"Error: {UNKNOWN}\n".encode().hex().encode()], [b"Successfully halted device on reset\n".hex().encode()]),
    ],
    ids=["QEMU", "OpenOCD 0.12", "OpenOCD 0.11", "pyOCD"],
)
def test_reset_by_the_command_that_each_server_has(
    system_reset: list[bytes], halted: list[bytes] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    server.monitors = {"system_reset": system_reset} | ({} if halted is None else {"reset halt": halted})
    monkeypatch.setattr(debug_port, "SocketLink", lambda host, port: server.link())
    debug_port.flash_program("gdb://here:1", elf((ORIGIN, b"vectors!code")), None, lambda told: None)
    asked = [bytes.fromhex(packet[6:].decode()).decode() for packet in server.packets if packet[:5] == b"qRcmd"]
    assert asked == ["system_reset"] + ([] if halted is None else ["reset halt"])
    assert server.packets[-1] == b"c", "it runs"


def test_a_server_that_cannot_reset() -> None:
    server = Server()
    output = "Transfer failed: no ACK"
    server.monitors = {"reset halt": [output.encode().hex().encode()], "version": [b"0.46".hex().encode()]}
    gdb = GdbRemote(server.link())
    with pytest.raises(DeviceError, match=rf"server cannot do reset halt \({output}\)"):
        gdb.monitor("reset halt")
    assert gdb.monitor("version") == "0.46"


def test_memory_that_does_not_keep_what_is_written() -> None:
    server = Server()
    execute = server.execute
    server.execute = lambda packet: execute(packet) if packet[:1] != b"X" else [b"OK"]  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="does not hold the 4 bytes written"):
        load(GdbRemote(server.link()), elf((ORIGIN, b"vectors!code")))


# QEMU


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Callable[[], GdbRemote]]:
    """An emulated Cortex-M55 without a program, its two pipes in the folder, and a connection to its debug server."""
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    folder = tmp_path
    server = ["-chardev", "socket,id=gdb,path=gdb,server=on,wait=off", "-gdb", "chardev:gdb", "-S"]
    semihosting = ["-semihosting-config", "enable=on,target=native,arg=etse,arg=to_board,arg=from_board"]
    command = ["qemu-system-arm", "-M", "mps3-an547", "-display", "none", "-monitor", "none", "-serial", "none"]
    with subprocess.Popen([*command, *server, *semihosting], cwd=folder, stdin=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + 10
        while not (folder / "gdb").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        opened: list[GdbRemote] = []

        def connect() -> GdbRemote:
            opened.append(GdbRemote(SocketLink(str(folder / "gdb"), None)))
            return opened[-1]

        try:
            yield connect
        finally:
            for gdb in opened:
                gdb.close()
            process.kill()


def test_memory_of_qemu(qemu: Callable[[], GdbRemote]) -> None:
    gdb = qemu()
    gdb.write(0x21000003, EVERY_BYTE)
    assert gdb.read(0x21000003, len(EVERY_BYTE)) == EVERY_BYTE
    with pytest.raises(DeviceError, match="cannot read 4 bytes at 0xfffffff0"):
        gdb.read(0xFFFFFFF0, 4)
    assert "QEMU" in gdb.monitor("info version") or "7." in gdb.monitor("info version")


def test_a_program_loaded_through_qemu_answers(qemu: Callable[[], GdbRemote], tmp_path: Path) -> None:
    """Load, read back, compare, reset, run; then golden frames over the link."""
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for a Cortex-M")
    artifact = graphs.artifact(graphs.TINY)
    image = build_program(
        generate(artifact),
        CORES["qemu-mps3-an547"],
        tmp_path / "image.elf",
        program=("serve_port.c", "serve_core.c", "server.c", "wire.c"),
    )
    link = FifoLink(tmp_path / "from_board", tmp_path / "to_board")
    gdb = qemu()
    load(gdb, image.path.read_bytes())
    gdb.monitor("system_reset")
    gdb.resume()
    device = Device(link, timeout_s=5.0)
    assert device.hello.kernels == "mve"
    assert verify(artifact, DeviceNetwork(device, artifact), 0).worst_lsb == 0
    device.close()
