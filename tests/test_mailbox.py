"""Mailbox: against a board of our own that can be made to misbehave, and complete images through QEMU's debug server."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_tse.artifact import Artifact
from edge_tse.deployment.target import find_target
from edge_tse.errors import LinkError
from firmware_bridge import cores, debug_port
from firmware_bridge.board import image_for, program_of
from firmware_bridge.build import build_program
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES, LinkerRegion
from firmware_bridge.elf import read_sections
from firmware_bridge.gdb import GdbRemote, segments
from firmware_bridge.layout import pack
from firmware_bridge.link import MemoryLink, SocketLink
from firmware_bridge.mailbox import ID, MailboxHead, MailboxLink
from tests import graphs
from tests.command import Run
from tests.test_gdb import ORIGIN, Server

RING = 16
_HEAD_BYTES = 92
OPEN = MailboxHead(
    id=ID,
    up_channels=1,
    down_channels=1,
    up_name=0,
    up_ring=ORIGIN + 0x100,
    up_bytes=RING,
    up_written=0,
    up_read=0,
    up_flags=2,
    down_name=0,
    down_ring=ORIGIN + 0x200,
    down_bytes=RING,
    down_written=0,
    down_read=0,
    down_flags=2,
    faults=0,
    pc=0,
    cfsr=0,
    hfsr=0,
    address=0,
)


class Halting(Server):
    """A debug server whose memory is out of reach while the core runs; the core sends back what it is sent, a few bytes a run."""

    def __init__(self, head: MailboxHead | None, most: int = 5) -> None:
        super().__init__()
        self.runs = False
        self.looks = 0
        self.echoed = b""
        self._most = most
        if head is not None:
            self.memory[:_HEAD_BYTES] = pack(head)

    def take(self, sent: bytes) -> bytes:
        if sent == b"\x03":
            assert self.runs, "the core was stopped twice"
            self.runs = False
            self.looks += 1
            self.step()
            return b"$T02thread:01;#%02x" % (sum(b"T02thread:01;") % 256)
        return super().take(sent)

    def execute(self, packet: bytes) -> list[bytes]:
        assert not self.runs, f"{packet!r} while the core runs"
        if packet == b"c":
            self.runs = True
            return []
        return super().execute(packet)

    def step(self) -> None:
        """The program: what comes in goes out, in order, as far as there is room."""
        for _ in range(self._most):
            written, read = self.word(0x3C), self.word(0x40)
            out, taken = self.word(0x24), self.word(0x28)
            if self.memory[:16] != ID or read == written or (out + 1) % RING == taken:
                return
            byte = self.memory[0x200 + read]
            self.echoed += bytes([byte])
            self.memory[0x100 + out] = byte
            self.put(0x40, (read + 1) % RING)
            self.put(0x24, (out + 1) % RING)

    def word(self, at: int) -> int:
        return int.from_bytes(self.memory[at : at + 4], "little")

    def put(self, at: int, value: int) -> None:
        self.memory[at : at + 4] = value.to_bytes(4, "little")


class Ticks:
    """A clock that moves when somebody sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def opened(server: Halting) -> MailboxLink:
    clock = Ticks()
    return MailboxLink(GdbRemote(server.link()), ORIGIN, clock=clock, sleep=clock.sleep, timeout_s=0.2)


@pytest.mark.parametrize("most", [1, 5, 100])
def test_bytes_there_and_back_many_times_around_the_rings(most: int) -> None:
    server = Halting(OPEN, most)
    link = opened(server)
    sent, heard = bytes(range(256)), b""
    for offset in range(0, len(sent), 11):
        link.write(sent[offset : offset + 11])
        while len(heard) < min(offset + 11, len(sent)):
            arrived = link.read(7, 1.0)
            assert 0 < len(arrived) <= 7
            heard += arrived
    assert server.echoed == heard == sent
    assert server.runs, "the core is left running"
    assert link.read(100, 0.01) == b""


def test_more_than_the_ring_holds_is_written_as_the_board_reads() -> None:
    server = Halting(OPEN)
    link = opened(server)
    sent = bytes(range(40))
    with pytest.raises(LinkError, match="bytes were not taken: the board is not listening"):
        link.write(sent)  # it echoes, and nobody takes what it says
    assert server.echoed == sent[: len(server.echoed)]
    assert len(server.echoed) == RING - 1


def test_a_board_that_has_not_begun() -> None:
    server = Halting(None)
    with pytest.raises(LinkError, match=f"no mailbox at {ORIGIN:#x}: is this board flashed with a program that has one"):
        opened(server)
    assert server.runs
    server = Halting(None)
    late = server.step

    def step() -> None:
        if server.looks == 3:
            server.memory[:_HEAD_BYTES] = pack(OPEN)
        late()

    server.step = step  # type: ignore[method-assign]
    opened(server).write(b"hello")
    assert server.looks >= 4


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (replace(OPEN, up_channels=3, down_channels=3), "not this firmware's"),
        (replace(OPEN, down_written=RING), "damaged"),
        (replace(OPEN, up_read=2**31), "damaged"),
        (replace(OPEN, faults=1, pc=0x08001234, cfsr=0x8200, address=0xDEAD0000), "faulted at 0x08001234 .*CFSR 0x00008200"),
    ],
)
def test_what_is_no_working_board(head: MailboxHead, line: str) -> None:
    server = Halting(head)
    with pytest.raises(LinkError, match=line):
        opened(server)
    assert server.runs, "the core is left running"


def test_ports() -> None:
    for port in ("gdb://here", "gdb://:1", "gdb://here:0", "gdb://here:70000"):
        with pytest.raises(LinkError, match="names no debug server"):
            debug_port.open_mailbox(port, None)
    for address in ("zero", "-5", "0x100000000"):
        with pytest.raises(LinkError, match=f"{address} is no address of 32 bits: write gdb://HOST:PORT/ADDRESS"):
            debug_port.open_mailbox(f"gdb://here:1/{address}", None)
    with pytest.raises(LinkError, match="write gdb://HOST:PORT/ADDRESS"):
        debug_port.open_mailbox("gdb://here:3333", CORES["qemu-mps2-an500"])


def test_a_server_that_is_no_debug_server_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(MemoryLink):
        closed = False

        def close(self) -> None:
            self.closed = True

    deaf = Deaf(lambda sent: b"+$hello#14" if sent[:1] == b"$" else b"")
    monkeypatch.setattr(debug_port, "SocketLink", lambda host, port: deaf)
    with pytest.raises(LinkError):
        debug_port.open_mailbox("gdb://here:3333/0x20000000", None)
    assert deaf.closed


# Images


TWINS = {
    # Cortex-M7 whose flash begins at 0, and whose second memory lies behind the first: nothing here has RAM where an H743 has it.
    "stm32h743": {
        "FLASH": LinkerRegion(name="FLASH", origin=0, size_bytes=4 * 2**20),
        "AXI": LinkerRegion(name="AXI", origin=0x20200000, size_bytes=2**19),
    },
    "alif-e7-hp": {},
}
"""Regions that an emulated board has elsewhere; all others are where the chip has them."""
MACHINES = {"stm32h743": "mps2-an500", "alif-e7-hp": "mps3-an547"}
# The enclave's part: take stack pointer and program counter from the vectors at the start of MRAM.
#     ldr r0, =0x80000000; ldr r1, [r0]; mov sp, r1; ldr r0, [r0, #4]; bx r0
ENCLAVE = struct.pack("<6I", 0x20000400, 9, 0x68014802, 0x6840468D, 0xBF004700, 0x80000000)

UNDEFINED = b"\x00\xde"
"""An instruction that every core refuses."""


@pytest.fixture(scope="module")
def model() -> Artifact:
    return graphs.artifact(graphs.TINY)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for a Cortex-M")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, elsewhere in TWINS.items():
        core = CORES[name]
        twin = replace(core, regions=tuple(elsewhere.get(region.name, region) for region in core.regions))
        monkeypatch.setitem(cores.CORES, name, twin)  # type: ignore[arg-type]


@contextmanager
def debug_server(name: str, folder: Path) -> Iterator[str]:
    """The address of an emulated board's debug server; the board is halted and has no program."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    (folder / "enclave").write_bytes(ENCLAVE)
    enclave = ["-device", f"loader,file={folder / 'enclave'},addr=0,force-raw=on"] if name == "alif-e7-hp" else []
    machine = ["qemu-system-arm", "-M", MACHINES[name], "-display", "none", "-monitor", "none", "-serial", "none"]
    command = [*machine, "-S", "-gdb", f"tcp:127.0.0.1:{number}", *enclave]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", number)) == 0:
                        break
                time.sleep(0.05)
            yield f"gdb://127.0.0.1:{number}"
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("name", TWINS)
def test_flash_verify_and_profile_through_the_debug_port_alone(run: Run, name: str, model: Artifact, tmp_path: Path) -> None:
    model.save(tmp_path / "model.etse")
    with debug_server(name, tmp_path) as port:
        done = run("flash", tmp_path / "model.etse", "--target", name, "--port", port, "--json").json
        assert (done["flasher"], done["evidence"]) == ("gdb", "untested")
        assert (done["replayed"]["frames"], done["replayed"]["worst_lsb"]) == (40, 0)
        assert done["replayed"]["engine"] == {"stm32h743": "native/dsp", "alif-e7-hp": "native/mve"}[name]
        asked = run("board", tmp_path / "model.etse", "--target", name, "--port", port, "--json").json
        assert asked["replayed"]["worst_lsb"] == 0
        assert (asked["board"]["target"], asked["link"]) == (name, {"repeated": 0, "damaged": 0})
        assert asked["stats"]["frames"] == 80
        # QEMU has no cycle counter.
        assert asked["stats"]["counts_per_frame"] == asked["stats"]["deadline_misses"] == "unavailable"
        assert 0 < asked["stats"]["stack_high_water_bytes"] < 4096
        again = run("flash", tmp_path / "model.etse", "--target", name, "--port", port, "--json").json
        assert again["replayed"]["worst_lsb"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("name", TWINS)
def test_a_fault_leaves_a_record(name: str, model: Artifact, tmp_path: Path) -> None:
    payload = image_for(model, find_target(name)).payload
    with debug_server(name, tmp_path) as port:
        debug_port.flash_program(port, payload, cores.CORES[name], lambda told: None)
        with closing(debug_port.open_mailbox(port, cores.CORES[name])):
            pass
        host, _, number = port.removeprefix("gdb://").rpartition(":")
        with closing(GdbRemote(SocketLink(host, int(number)))) as gdb:
            place = int.from_bytes(bytes.fromhex(gdb.ask(b"g").decode())[60:64], "little")  # r15, the next instruction
            gdb.write(place, UNDEFINED)
            gdb.resume()
            time.sleep(0.2)
        with pytest.raises(LinkError, match=f"faulted at {place:#010x}"):
            debug_port.open_mailbox(port, cores.CORES[name])


@pytest.mark.parametrize("gcc", [pytest.param(True, marks=pytest.mark.slow), False], ids=["gcc", "zig"])
@pytest.mark.parametrize("name", TWINS)
def test_parts_lie_where_the_chip_has_memory(name: str, gcc: bool, model: Artifact, tmp_path: Path) -> None:
    """Of the image for the chip itself, which nothing here runs at these addresses but for the M55's."""
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for a Cortex-M")
    if gcc and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    core = CORES[name]
    regions = {region.name: range(region.origin, region.origin + region.size_bytes) for region in core.regions}
    image = build_program(generate(model), core, tmp_path / "image.elf", program=program_of(core), gcc=gcc)
    parts = {part.name: part for part in read_sections(image.path)}
    slow = core.slow or core.memory
    homes = {".vectors": core.code, ".text": core.code, ".weights": core.weights, ".mailbox": core.memory, ".state": core.memory}
    for part, region in {**homes, ".arena": core.memory, ".stack": core.memory, ".voice": slow, ".bss": slow}.items():
        assert parts[part].address in regions[region], (part, region)
        assert parts[part].address + parts[part].size_bytes - 1 in regions[region], (part, region)
    assert parts[".vectors"].address == regions[core.code].start
    assert parts[".mailbox"].address == core.mailbox_at == 0x20000000
    stack, entry = struct.unpack_from("<2I", parts[".vectors"].content)
    assert stack == parts[".stack"].address + parts[".stack"].size_bytes
    assert entry & 1
    assert entry - 1 in range(parts[".text"].address, parts[".text"].address + parts[".text"].size_bytes)
    stored = segments(image.path.read_bytes())
    assert all(part.address in regions[core.code] for part in stored), "everything that is flashed is flash"


@pytest.mark.slow
def test_the_shipped_model_fits_the_chips_tightly_coupled_memory(tmp_path: Path) -> None:
    """The linker refuses what does not: the H743 has 128 KiB for mailbox, state, arena and stack."""
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for a Cortex-M")
    core = CORES["stm32h743"]
    image = build_program(generate(Artifact.shipped()), core, tmp_path / "image.elf", program=program_of(core))
    parts = {part.name: part.size_bytes for part in read_sections(image.path)}
    assert sum(parts[name] for name in (".mailbox", ".data", ".state", ".arena", ".stack")) <= 128 * 1024
    assert sum(parts[name] for name in (".vectors", ".text", ".rodata")) <= (find_target("stm32h743").code_bytes or 0)
