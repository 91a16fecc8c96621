"""Boards from the command line: built, signed, flashed, proved, talked to; and one line for everything that is refused."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse.artifact import Artifact, verify
from edge_tse.deployment.target import find_target
from edge_tse.errors import DeviceError, LinkError, TargetError
from edge_tse.install_line import install_line
from edge_tse.personalization import personalize
from edge_tse.voice import Voice, load_voice, save_voice
from firmware_bridge import board as boards
from firmware_bridge import delivery, flash_memory, flash_tools
from firmware_bridge import flash as flashing
from firmware_bridge.board import EmulatedBoard, core_of, flash, image_for, open_board
from firmware_bridge.build import build_program
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.cores import CORES
from firmware_bridge.device import Device, DeviceNetwork
from firmware_bridge.elf import read_sections
from firmware_bridge.flash import install
from firmware_bridge.flash_memory import FileFlash
from firmware_bridge.flash_tools import ToolStep, run_step, tool_steps
from firmware_bridge.image import make, pack_image, public_key, sign, with_counter
from firmware_bridge.link import Confirming, Link, MemoryLink, open_link
from firmware_bridge.native import NativeChain
from tests import graphs
from tests.board import compiler, port, program
from tests.command import Done, Run
from tests.test_gdb import elf

TARGET = "qemu-mps3-an547"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated boards keep their flash memory here, not where people's are."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@dataclass(frozen=True)
class Files:
    artifact: Path
    other: Path
    voice: Path
    key: Path
    public: Path


@pytest.fixture(scope="module")
def model() -> Artifact:
    return graphs.artifact(graphs.TINY)


@pytest.fixture(scope="module")
def files(model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Files:
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = tmp_path_factory.mktemp("files")
    made = Files(*(folder / name for name in ("model.etse", "other.etse", "alice.voice", "key.pem", "key.pub")))
    model.save(made.artifact)
    graphs.artifact(graphs.TINY, seed=5).save(made.other)
    save_voice(
        Voice(embedding=graphs.embedding(3), encoder_digest=model.voice_model.encoder_digest, created="", source="x"), made.voice
    )
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    made.key.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    made.public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return made


@pytest.fixture
def emulated() -> None:
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for a Cortex-M")
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")


# An emulated board, from a model to golden frames


@pytest.mark.usefixtures("emulated")
class TestEmulated:
    @pytest.mark.parametrize(
        "target", [TARGET, *(pytest.param(name, marks=pytest.mark.slow) for name in ("qemu-mps2-an500", "qemu-mps2-an386"))]
    )
    def test_flashed_and_proved(self, run: Run, files: Files, model: Artifact, target: str) -> None:
        done = run("flash", files.artifact, "--target", target, "--json").json
        assert (done["target"], done["evidence"], done["slot"], done["signed_by"]) == (target, "emulated", 0, None)
        assert done["replayed"]["frames"] == 40
        assert done["replayed"]["worst_lsb"] == 0
        asked = run("board", files.artifact, "--target", target, "--json").json
        assert asked["board"]["model"] == model.digest[:32]
        assert asked["board"]["core"] == find_target(target).core
        assert asked["replayed"]["worst_lsb"] == 0
        assert asked["stats"]["frames"] == 40
        assert asked["stats"]["counts_per_frame"] == "unavailable"
        assert 0 < asked["stats"]["stack_high_water_bytes"] < 4096
        assert asked["link"] == {"repeated": 0, "damaged": 0}

    @pytest.mark.slow
    def test_the_other_slot_and_back(self, run: Run, files: Files) -> None:
        slots = [
            run("flash", path, "--target", TARGET, "--json").json["slot"] for path in (files.artifact, files.other, files.artifact)
        ]
        assert slots == [0, 1, 0]
        assert "runs model" in run("board", files.other, "--target", TARGET).complaint

    @pytest.mark.slow
    def test_for_people(self, run: Run, files: Files) -> None:
        done = run("flash", files.artifact, "--target", TARGET)
        assert (done.code, done.err) == (0, "")
        assert "not signed, by qemu-system-arm, slot A; read back and compared" in done.out
        assert "40 golden frames over the link: worst 0 LSB (emulated)" in done.out
        done = run("board", files.artifact, "--target", TARGET)
        assert "unavailable" in done.out
        assert "kernels mve" in done.out

    @pytest.mark.slow
    def test_a_voice_at_run_time_and_one_built_in(self, run: Run, files: Files) -> None:
        run("flash", files.artifact, "--target", TARGET)
        universal = run("board", files.artifact, "--target", TARGET, "--voice", files.voice, "--json").json
        assert universal["board"]["voice_patch_bytes"] > 0
        assert universal["replayed"]["worst_lsb"] == 0
        built_in = run("flash", files.artifact, "--target", TARGET, "--voice", files.voice, "--json").json
        assert built_in["replayed"]["worst_lsb"] == 0
        assert built_in["model"] != universal["board"]["model"]
        asked = run("board", files.artifact, "--target", TARGET, "--voice", files.voice, "--json").json
        assert asked["board"]["voice_patch_bytes"] == 0
        assert asked["replayed"]["worst_lsb"] == 0
        assert "runs model" in run("board", files.artifact, "--target", TARGET).complaint
        assert run("board", "--target", TARGET, "--ping", "--json").json["board"]["target"] == TARGET

    def test_only_signed_images(self, run: Run, files: Files, tmp_path: Path) -> None:
        signed = run("flash", files.artifact, "--target", TARGET, "--sign", files.key, "--trust", files.public, "--json").json
        assert signed["replayed"]["worst_lsb"] == 0
        assert len(signed["signed_by"]) == 64
        line = run("flash", files.other, "--target", TARGET).complaint
        assert "the image is not signed, and only signed images are accepted here" in line
        assert run("board", files.artifact, "--target", TARGET).code == 0
        # Even what somebody writes into the memory past us does not start: the trusted image does.
        board = EmulatedBoard(find_target(TARGET), tmp_path / "state" / "edge-tse" / "boards" / f"{TARGET}.flash")
        image = make(b"\x7fELF", target=TARGET, core="Cortex-M55", artifact_digest="00" * 32)
        install(board.memory, board.slots, pack_image(image))
        assert run("board", files.artifact, "--target", TARGET, "--json").json["replayed"]["worst_lsb"] == 0
        # And where there is none, nothing starts.
        at = board.slots.at[0] + board.slots.sector_bytes + 3000
        board.memory._write(at, bytes(64))
        line = run("board", files.artifact, "--target", TARGET).complaint
        assert "the installed image is not signed, and only signed images are accepted here" in line

    @pytest.mark.slow
    def test_an_older_image_is_refused(self, run: Run, files: Files, tmp_path: Path) -> None:
        """Once an image with a security counter has been kept."""
        keys = ("--sign", files.key, "--trust", files.public)
        for counter in (3, 5):
            done = run("flash", files.artifact, "--target", TARGET, *keys, "--counter", counter, "--json").json
            assert (done["counter"], done["replayed"]["worst_lsb"]) == (counter, 0)
        line = run("flash", files.other, "--target", TARGET, *keys, "--counter", 4).complaint
        assert "the image has security counter 4, this board takes 5 and higher: it is older than what the board has kept" in line
        run("flash", files.artifact, "--target", TARGET, "--sign", files.key, "--counter", 5, "--image", tmp_path / "a.img")
        line = run("flash", tmp_path / "a.img", "--target", TARGET, "--counter", 6).complaint
        assert "is not signed" in line, "what was signed has changed"
        line = run("flash", files.artifact, "--target", TARGET, "--counter", -1).complaint
        assert "a security counter is within 0 and 4294967295, not -1" in line

    @pytest.mark.slow
    def test_an_image_that_is_never_confirmed_is_reverted(self, run: Run, files: Files, tmp_path: Path) -> None:
        run("flash", files.artifact, "--target", TARGET)
        run("flash", files.other, "--target", TARGET, "--image", tmp_path / "other.img")
        done = run("flash", tmp_path / "other.img", "--target", TARGET)
        assert f"on trial until it has answered: edge-tse board --target {TARGET}" in done.out
        # It starts, but is not what was asked for, and nobody says that it works.
        assert "runs model" in run("board", files.artifact, "--target", TARGET).complaint
        assert run("board", files.artifact, "--target", TARGET, "--json").json["replayed"]["worst_lsb"] == 0
        run("flash", tmp_path / "other.img", "--target", TARGET)
        assert run("board", "--target", TARGET, "--ping").code == 0
        assert run("board", files.other, "--target", TARGET, "--json").json["replayed"]["worst_lsb"] == 0

    @pytest.mark.parametrize("target", [TARGET, "qemu-mps2-an386"])
    def test_an_image_is_little_more_than_its_parts(self, model: Artifact, target: str, tmp_path: Path) -> None:
        """What a linker leaves free between them, up to 64 KiB each, would be loaded too."""
        payload = image_for(model, find_target(target)).payload
        (tmp_path / "image.elf").write_bytes(payload)
        parts = sum(part.size_bytes for part in read_sections(tmp_path / "image.elf") if part.stored)
        assert 10_000 < parts <= len(payload) < parts + 2_000

    def test_an_image_file(self, run: Run, files: Files, tmp_path: Path) -> None:
        made = run("flash", files.artifact, "--target", TARGET, "--image", tmp_path / "a.img", "--json").json
        assert made["output"] == str(tmp_path / "a.img")
        assert made["image_bytes"] == (tmp_path / "a.img").stat().st_size
        line = run("flash", tmp_path / "a.img", "--target", "qemu-mps2-an386").complaint
        assert f"is for target {TARGET}, not qemu-mps2-an386: build it for qemu-mps2-an386" in line
        assert "is for target" in run("flash", tmp_path / "a.img", "--target", "stm32h7", "--chip", "stm32h743xx").complaint
        assert run("flash", tmp_path / "a.img", "--target", TARGET, "--sign", files.key, "--json").json["signed_by"]
        content = bytearray((tmp_path / "a.img").read_bytes())
        content[5000] ^= 1
        (tmp_path / "a.img").write_bytes(content)
        assert "damaged or tampered with" in run("flash", tmp_path / "a.img", "--target", TARGET).complaint
        assert run("board", files.artifact, "--target", TARGET).code == 0

    def test_a_board_without_an_image(self, run: Run) -> None:
        assert f"{TARGET} has no image: `edge-tse flash --target {TARGET}` first" in run("board", "--target", TARGET).complaint

    def test_a_program_that_does_not_serve(self, tmp_path: Path) -> None:
        """An image that faults is a line about the board, not a wait without end."""
        target = find_target(TARGET)
        image = make(b"\x7fELF not really", target=TARGET, core=target.core, artifact_digest="00" * 32)
        flash(target, pack_image(image), tmp_path)
        link = open_board(target, None, tmp_path)
        with pytest.raises(LinkError, match=r"the emulated board stopped with status -?\d+ \(qemu: fatal: Lockup"):
            read_for_ever(link)
        link.close()

    @pytest.mark.slow
    def test_through_a_debug_server(self, run: Run, files: Files, tmp_path: Path) -> None:
        run("flash", files.artifact, "--target", TARGET, "--image", tmp_path / "a.img")
        free = _free_port()
        server = ["-gdb", f"tcp:127.0.0.1:{free}", "-S"]
        semihosting = ["-semihosting-config", "enable=on,target=native,arg=etse,arg=to_board,arg=from_board"]
        machine = ["qemu-system-arm", "-M", "mps3-an547", "-display", "none", "-monitor", "none", "-serial", "none"]
        for name in ("to_board", "from_board"):
            subprocess.run(["mkfifo", str(tmp_path / name)], check=True)
        with subprocess.Popen([*machine, *server, *semihosting], cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
            try:
                done = _patiently(
                    lambda: run("flash", tmp_path / "a.img", "--target", TARGET, "--port", f"gdb://127.0.0.1:{free}", "--json")
                )
                assert done.json["flasher"] == "gdb"
                asked = run("board", files.artifact, "--target", TARGET, "--port", f"fifo:{tmp_path}", "--json").json
                assert asked["replayed"]["worst_lsb"] == 0
            finally:
                process.kill()


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("kind", ["terminal", pytest.param("socket", marks=pytest.mark.slow)])
def test_a_board_behind_a_serial_port(kind: str, model: Artifact, tmp_path: Path) -> None:
    """The UART that a real board has, through a pseudo-terminal as pyserial opens it, or lent over the network."""
    pytest.importorskip("serial", reason="pyserial is not installed")
    core = CORES[TARGET]
    image = build_program(
        generate(model), core, tmp_path / "image.elf", program=("serve_uart.c", "serve_core.c", "server.c", "wire.c")
    )
    number = _free_port()
    serial = {"terminal": "pty", "socket": f"tcp:127.0.0.1:{number},server=on,wait=off"}[kind]
    machine = ["qemu-system-arm", "-M", "mps3-an547", "-display", "none", "-monitor", "none", "-serial", serial]
    command = [*machine, "-semihosting-config", "enable=on,target=native", "-kernel", str(image.path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            name = f"socket://127.0.0.1:{number}"
            if kind == "terminal":
                name = process.stdout.readline().split("redirected to ")[1].split()[0]
            device = Device(_opened(name), timeout_s=5.0)
            assert verify(model, DeviceNetwork(device, model), 0).worst_lsb == 0
            voice = Voice(embedding=graphs.embedding(1), encoder_digest=model.voice_model.encoder_digest, created="", source="x")
            device.set_voice(voice_patch(model, voice))
            assert verify(personalize(model, voice), DeviceNetwork(device, model), 0).worst_lsb == 0
            assert (device.repeated, device.damaged, device.stats().damaged_frames) == (0, 0, 0)
            device.close()
        finally:
            process.kill()


def _opened(name: str) -> Link:
    """An emulator takes a moment to listen."""
    for _ in range(50):
        try:
            return open_link(name)
        except LinkError:
            time.sleep(0.1)
    return open_link(name)


def read_for_ever(link: Link) -> None:
    for _ in range(100):
        link.read(10, 0.1)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    return number


def _patiently(call: Callable[[], Done]) -> Done:
    """A server takes a moment to listen."""
    for _ in range(50):
        done = call()
        if done.code == 0:
            break
        time.sleep(0.1)
    return done


@pytest.mark.slow
def test_aarch64_under_emulation(run: Run, files: Files) -> None:
    """Slow the first time: zig compiles its C library for this target."""
    pytest.importorskip("ziglang", reason="ziglang is not installed: nothing here compiles for aarch64")
    if shutil.which("qemu-aarch64") is None:
        pytest.skip("qemu-aarch64 is not installed")
    done = run("flash", files.artifact, "--target", "qemu-aarch64", "--json").json
    assert done["replayed"]["worst_lsb"] == 0
    stats = run("board", files.artifact, "--target", "qemu-aarch64", "--json").json["stats"]
    assert stats["counts_per_frame"] == "unavailable", "the clock of this machine says nothing about that core"


def test_this_machine_as_a_board(run: Run, files: Files) -> None:
    """No emulator needed: what a board does, in a process of its own."""
    pytest.importorskip("ziglang", reason="ziglang is not installed")
    done = run("flash", files.artifact, "--target", "host", "--voice", files.voice, "--json").json
    assert done["replayed"]["worst_lsb"] == 0
    assert (done["flasher"], done["slot"]) == ("this machine", 0)
    asked = run("board", files.artifact, "--target", "host", "--voice", files.voice, "--json").json
    assert asked["replayed"]["worst_lsb"] == 0
    assert asked["stats"]["counts_per_frame"]["unit"] == "nanoseconds"


# A board on a port: the C server of this machine


class TestPort:
    def test_golden_frames(self, run: Run, files: Files, model: Artifact) -> None:
        asked = run("board", files.artifact, "--target", "host", "--port", port(model), "--json").json
        assert asked["replayed"] == {"engine": "native/c99", "frames": 40, "worst_lsb": 0, "mismatch_rate": 0.0}
        assert asked["stats"]["counts_per_frame"]["unit"] == "nanoseconds"

    def test_a_board_of_another_version_of_voices(
        self, run: Run, files: Files, model: Artifact, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        size = len(voice_patch(model, load_voice(files.voice)))
        monkeypatch.setattr(delivery, "voice_patch", lambda model, voice: voice_patch(model, voice)[:-4])
        line = run("board", files.artifact, "--target", "host", "--port", port(model), "--voice", files.voice).complaint
        assert f"takes voices of {size} bytes, this edge-tse makes {size - 4}: flash it" in line

    def test_another_board_than_asked_for(self, run: Run, files: Files, model: Artifact) -> None:
        line = run("board", files.artifact, "--target", "stm32h7", "--port", port(model)).complaint
        assert "is a host, not a stm32h7: give --target host" in line

    def test_sound(self, run: Run, tmp_path: Path) -> None:
        """The board extracts as the chain does that is compiled into this process."""
        model = graphs.artifact(graphs.Sizes(16, 24, (1, 2), 8, 12, (1,)), frames=3)
        model.save(tmp_path / "model.etse")
        rng = np.random.default_rng(1)
        sound = rng.integers(-8000, 8000, (4000, 2)).astype(np.int16)
        sound[1000:1010] = 32767
        soundfile.write(tmp_path / "mix.wav", sound, 16000)
        options = ("--mixture", tmp_path / "mix.wav", "-o", tmp_path / "out.wav")
        told = run("board", tmp_path / "model.etse", "--target", "host", "--port", port(model), *options, "--json")
        done = told.json
        assert done["seconds"] == 0.25
        assert done["input_clipped_samples"] == 20
        assert "mix.wav: 20 samples are clipped; record at a lower level" in told.err
        got, _ = soundfile.read(tmp_path / "out.wav", dtype="int16")
        frame = model.frame
        chain = NativeChain(model, 2, compiler=compiler())
        padded = np.concatenate([sound, np.zeros((frame.delay + frame.hop, 2), np.int16)])
        hops = [chain(padded[at : at + frame.hop].T.copy()) for at in range(0, len(padded) - frame.hop + 1, frame.hop)]
        wanted = np.concatenate(hops, axis=1).T[frame.delay :][: len(sound)]
        assert wanted.any()
        np.testing.assert_allclose(got[: len(wanted)].astype(int), wanted.astype(int), atol=1)

    def test_sound_needs_both_ends(self, run: Run, tmp_path: Path) -> None:
        assert "--mixture and --output belong together" in run("board", "--target", "host", "-o", tmp_path / "x.wav").complaint

    def test_no_port(self, run: Run) -> None:
        assert "target stm32h7 is reached through a port: give it with --port" in run("board", "--target", "stm32h7").complaint

    def test_a_port_with_nobody(self, run: Run) -> None:
        line = run("board", "--target", "host", "--ping", "--port", f"exec:{sys.executable} -c pass").complaint
        assert "the program ended with status 0" in line


def test_the_hardware_suite_on_a_stand_in(files: Files, model: Artifact) -> None:
    """So that it works when somebody has a board. The time of a shared machine is not a board's."""
    options = ["-m", "hil", "-k", "not deadline", "--target", "host", "--port", port(model), "--artifact", str(files.artifact)]
    command = [sys.executable, "-m", "pytest", "tests/hil", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


# What is refused before anything happens


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--target", "nobody"), "unknown target 'nobody'"),
        (("--target", "stm32h7"), "target stm32h7: this build has no start-up code for it, only for"),
        (("--target", TARGET, "nobody.etse"), "cannot read artifact nobody.etse"),
        (("--target", TARGET, "--image", "nowhere/a.img"), "there is no folder nowhere"),
    ],
)
def test_flash_refuses(run: Run, arguments: tuple[str, ...], line: str) -> None:
    assert line in run("flash", *arguments).complaint


def test_flash_needs_the_compiler(run: Run, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ziglang", None)
    assert install_line("firmware") in run("flash", files.artifact, "--target", TARGET).complaint


def test_a_port_that_is_no_debug_server(run: Run, files: Files, model: Artifact, tmp_path: Path) -> None:
    image = make(b"\x7fELF", target=TARGET, core="Cortex-M55", artifact_digest=model.digest)
    (tmp_path / "a.img").write_bytes(pack_image(image))
    assert "write gdb://HOST:PORT" in run("flash", tmp_path / "a.img", "--target", TARGET, "--port", "gdb://here").complaint


def test_cores() -> None:
    assert core_of(find_target("linux-aarch64")).name == core_of(find_target("android-arm64")).name == "aarch64-linux"
    with pytest.raises(TargetError, match="no start-up code"):
        core_of(find_target("nrf5340"))


# Trust, whichever way an image goes


@pytest.fixture
def images(files: Files, model: Artifact, tmp_path: Path) -> Callable[..., Path]:
    """Image files that nobody runs: ``images(target, counter, signed)``."""

    def made(target: str, counter: int = 0, signed: bool = True) -> Path:
        known = find_target(target)
        payload = elf((0x08000000, b"code"))
        plain = with_counter(make(payload, target=target, core=known.core, artifact_digest=model.digest), counter)
        path = tmp_path / f"{target}-{counter}-{signed}.img"
        path.write_bytes(pack_image(sign(plain, files.key) if signed else plain))
        return path

    return made


@pytest.mark.parametrize("way", [("--port", "gdb://127.0.0.1:9"), ("--via", "dfu-util"), ("--via", "ssh", "--port", "me@board")])
def test_every_way_asks_the_boot_region_of_an_emulated_board(
    run: Run, images: Callable[..., Path], files: Files, way: tuple[str, ...]
) -> None:
    """What the board trusts is asked before anything is connected or started."""
    run("flash", images("host", 5), "--target", "host", "--trust", files.public)
    memory = EmulatedBoard(find_target("host"), Path(os.environ["XDG_STATE_HOME"]) / "edge-tse" / "boards" / "host.flash")
    assert memory.trusted.keys is not None
    line = run("flash", images("host", 5, signed=False), "--target", "host", *way).complaint
    assert "the image is not signed, and only signed images are accepted here" in line
    memory.confirm(0)
    assert memory.trusted.minimum_counter == 5
    line = run("flash", images("host", 4), "--target", "host", *way).complaint
    assert "the image has security counter 4, this board takes 5 and higher" in line
    # One that is trusted gets past, to a tool or a port that is not there.
    assert "security" not in run("flash", images("host", 5), "--target", "host", *way).complaint


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["flash", "dry run"])
def test_a_tool_beside_a_debug_server_is_refused(run: Run, images: Callable[..., Path], dry: tuple[str, ...]) -> None:
    way = ("--target", "stm32h7", "--port", "gdb://127.0.0.1:9", "--via", "dfu-util", *dry)
    line = run("flash", images("stm32h7"), *way).complaint
    assert "gdb://127.0.0.1:9 is a debug server, which needs no dfu-util: leave out --via" in line


def test_what_a_tool_has_put_on_a_board_is_remembered(
    run: Run, images: Callable[..., Path], files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dfu-util").write_text(FAKE_DFU.format(root=tmp_path, spoil=":"))
    (tmp_path / "dfu-util").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    way = ("--target", "stm32h7", "--via", "dfu-util")
    assert run("flash", images("stm32h7", signed=False), *way).code == 0
    assert run("flash", images("stm32h7", 2), *way, "--trust", files.public).code == 0
    before = (tmp_path / "flash").stat().st_mtime_ns
    for image, line in (
        (images("stm32h7", 2, signed=False), "the image is not signed, and only signed images are accepted here"),
        (images("stm32h7", 1), "the image has security counter 1, this board takes 2 and higher"),
    ):
        assert line in run("flash", image, *way).complaint
        assert line in run("flash", image, "--target", "stm32h7", "--port", "gdb://127.0.0.1:9").complaint
    assert (tmp_path / "flash").stat().st_mtime_ns == before
    assert run("flash", images("stm32h7", 3), *way).code == 0
    assert "takes 3 and higher" in run("flash", images("stm32h7", 2), *way).complaint


def test_too_many_keys_are_refused_before_anything_is_written(images: Callable[..., Path], files: Files, tmp_path: Path) -> None:
    keys = [public_key(files.public), *(bytes([i]) * 32 for i in range(4))]
    with pytest.raises(TargetError, match="5 keys are to be trusted, there is room for 4: trust fewer"):
        flash(find_target("host"), images("host").read_bytes(), tmp_path, port=str(tmp_path / "memory"), trusted=keys)
    assert not (tmp_path / "memory").exists()


def test_what_is_trusted_is_not_beside_the_memory(run: Run, images: Callable[..., Path], files: Files, tmp_path: Path) -> None:
    """There is no file to remove: it is in the memory itself; without it, everything is gone."""
    here = ("--target", "host", "--port", tmp_path / "memory")
    run("flash", images("host"), *here, "--trust", files.public)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("memory")] == ["memory"]
    assert "is not signed" in run("flash", images("host", signed=False), *here).complaint
    with (tmp_path / "memory").open("r+b") as file:
        file.write(b"x" * 2 * 4096)
    for verb in (("flash", images("host")), ("board",)):
        line = run(*verb, *here).complaint
        assert "memory: its boot region is damaged in both places, or written by an older edge-tse" in line
        assert "remove the file to begin anew" in line


def test_an_emulator_that_does_not_start_is_no_failed_trial(
    images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(core: object, program: bytes) -> Link:
        raise LinkError("the emulator is not installed")

    board = EmulatedBoard(find_target("host"), tmp_path / "memory")
    board.confirm(board.install(images("host", 1).read_bytes()))
    assert board.install(images("host", 2).read_bytes()) == 1
    monkeypatch.setattr(boards.emulator, "start", missing)
    for _ in range(2):
        with pytest.raises(LinkError, match="is not installed"):
            board.start()
        assert flashing.choose(board.memory, board.slots) == 1


def test_an_image_that_was_replaced_while_another_ran_is_not_confirmed(
    images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = EmulatedBoard(find_target("host"), tmp_path / "memory")
    board.confirm(board.install(images("host", 1).read_bytes()))
    board.install(images("host", 2).read_bytes())
    monkeypatch.setattr(boards.emulator, "start", lambda core, program: MemoryLink(lambda sent: b""))
    link = board.start()
    assert isinstance(link, Confirming)
    assert board.install(images("host", 3).read_bytes()) == 1
    with pytest.raises(DeviceError, match="slot B holds another image than the one that runs"):
        link.confirm()
    assert not flashing.is_confirmed(board.memory, board.slots, 1)
    again = board.start()
    assert isinstance(again, Confirming)
    again.confirm()
    assert flashing.is_confirmed(board.memory, board.slots, 1)


# Two at once


def test_two_that_flash_at_once(images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, or says that it did not get its turn; nothing is lost without a word."""
    target, memory = find_target("host"), tmp_path / "memory"
    first, second = (images("host", counter).read_bytes() for counter in (1, 2))
    holder, other = EmulatedBoard(target, memory), EmulatedBoard(target, memory)
    monkeypatch.setattr(flash_memory, "_LOCK_TIMEOUT_S", 0.2)

    def told(progress: flashing.FlashProgress) -> None:
        if progress.phase == "compare":
            line = rf"{memory} has been in use by another edge-tse for 0.2 s: wait until that has ended"
            with pytest.raises(TargetError, match=line):
                other.install(second)
            with pytest.raises(TargetError, match=line):
                other.start()

    assert holder.install(first, told) == 0
    assert other.install(second) == 1
    assert flashing.image_in(holder.memory, holder.slots, 0) == first
    assert flashing.image_in(holder.memory, holder.slots, 1) == second


def test_an_image_is_proved_before_anybody_else_writes(
    files: Files, images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is started is what was installed, with the memory locked until it has answered."""
    target, memory = find_target("host"), tmp_path / "memory"
    monkeypatch.setattr(flash_memory, "_LOCK_TIMEOUT_S", 0.1)
    monkeypatch.setattr(boards.emulator, "start", lambda core, program: MemoryLink(lambda sent: program))
    proved = []

    def prove(link: Link) -> None:
        with pytest.raises(TargetError, match="has been in use by another edge-tse"):
            EmulatedBoard(target, memory).install(images("host", 2).read_bytes())
        link.write(b"?")
        proved.append(link.read(100_000, 0.1))

    assert flash(target, images("host", 1).read_bytes(), tmp_path, port=str(memory), prove=prove).slot == 0
    assert proved == [elf((0x08000000, b"code"))]
    EmulatedBoard(target, memory).install(images("host", 2).read_bytes())


def test_a_board_whose_trial_cannot_be_marked_is_ended(
    images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory cannot be written: the emulator that has started goes with it."""
    board, link = EmulatedBoard(find_target("host"), tmp_path / "memory"), MemoryLink(lambda sent: sent)
    board.install(images("host").read_bytes())
    monkeypatch.setattr(boards.emulator, "start", lambda core, program: link)
    monkeypatch.setattr(FileFlash, "program", lambda *_: (_ for _ in ()).throw(TargetError("no space left")))
    link.write(b"?")
    with pytest.raises(TargetError, match="no space left"):
        board.start()
    assert not link.read(1, 0.1), "closed"


def test_programs_that_flash_at_once_lose_nothing(images: Callable[..., Path], tmp_path: Path) -> None:
    """Two processes, ten times over: both images are in the memory afterwards, one newer than the other."""
    code = "import sys; from pathlib import Path; from edge_tse.cli import main; sys.exit(main())"
    paths = [images("host", counter) for counter in (1, 2)]
    for round_ in range(5):
        memory = tmp_path / f"memory{round_}"
        command = [sys.executable, "-c", code, "flash", "--target", "host", "--port", str(memory)]
        running = [subprocess.Popen([*command, str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for path in paths]
        said = [process.communicate()[0].decode() for process in running]
        assert [process.returncode for process in running] == [0, 0], said
        board = EmulatedBoard(find_target("host"), memory)
        assert {flashing.image_in(board.memory, board.slots, slot) for slot in (0, 1)} == {path.read_bytes() for path in paths}


# Nothing is touched


class TestDryRun:
    def test_says_what_a_flash_then_does(self, images: Callable[..., Path], run: Run, tmp_path: Path) -> None:
        words = (images("host"), "--target", "host", "--port", tmp_path / "board.flash")
        said = run("flash", *words, "--dry-run", "--json").json
        assert not (tmp_path / "board.flash").exists()
        assert not (tmp_path / "state").exists()
        assert said["steps"][0] == f"write {said['image_bytes']:,} bytes into slot A of {tmp_path / 'board.flash'}"
        assert run("flash", *words, "--json").json["slot"] == said["slot"] == 0
        before = (tmp_path / "board.flash").read_bytes()
        assert run("flash", *words, "--dry-run", "--json").json["slot"] == 1
        assert (tmp_path / "board.flash").read_bytes() == before

    def test_what_the_board_does_not_trust_is_refused(self, images: Callable[..., Path], run: Run, files: Files) -> None:
        assert run("flash", images("host"), "--target", "host", "--trust", files.public).code == 0
        assert "not signed" in run("flash", images("host", signed=False), "--target", "host", "--dry-run").complaint

    @pytest.mark.parametrize("name", ["notes.txt", "", "notes.txt/below"])
    def test_a_file_that_is_no_memory_is_refused(self, images: Callable[..., Path], run: Run, tmp_path: Path, name: str) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        words = ("flash", images("host"), "--target", "host", "--port", tmp_path / name)
        for line in (run(*words).complaint, run(*words, "--dry-run").complaint):
            assert "the memory of this board 8388608: give another file" in line or "give the board's memory another place" in line

    def test_commands_of_tools_are_shown_and_not_run(
        self, images: Callable[..., Path], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        image = images("stm32h7")
        words = (image, "--target", "stm32h7", "--via", "pyocd", "--chip", "stm32h743xx", "--dry-run")
        assert "pyocd is not installed" in run("flash", *words).complaint
        (tmp_path / "pyocd").write_text("#!/bin/sh\nexit 9\n")
        (tmp_path / "pyocd").chmod(0o755)
        load, compare = run("flash", *words, "--json").json["steps"]
        assert load == "pyocd load --no-wait --target stm32h743xx --format bin --base-address 0x8000000 image.bin"
        assert re.fullmatch(r"pyocd commander --no-wait .* --command savemem 0x8000000 \d+ image\.back", compare)

    def test_a_debug_server_is_not_asked(self, images: Callable[..., Path], run: Run) -> None:
        words = (images("stm32h7"), "--target", "stm32h7", "--dry-run", "--json", "--port")
        assert "127.0.0.1:9" in run("flash", *words, "gdb://127.0.0.1:9").json["steps"][0]
        assert "names no debug server" in run("flash", *words, "gdb://nowhere").complaint

    def test_another_target_or_a_file(self, images: Callable[..., Path], run: Run, tmp_path: Path) -> None:
        assert "is for target host" in run("flash", images("host"), "--target", TARGET, "--dry-run").complaint
        words = (images("host"), "--target", "host", "--image", tmp_path / "a.img", "--dry-run")
        assert "leave --dry-run out" in run("flash", *words).complaint

    def test_no_option_is_passed_over(self, images: Callable[..., Path], run: Run, files: Files, tmp_path: Path) -> None:
        """A voice that is not in the image, a key that nobody is asked for, a mixture that nobody extracts from."""
        image = images("host")
        words = (image, "--target", "host", "--voice", files.voice, "--dry-run")
        assert "no voice is folded into it any more: leave --voice out" in run("flash", *words).complaint
        words = (image, "--target", "host", "--image", tmp_path / "a.img", "--trust", files.public)
        assert "touches no board: leave --trust out" in run("flash", *words).complaint
        assert not (tmp_path / "a.img").exists()
        words = ("--target", "host", "--ping", "--mixture", tmp_path / "m.wav", "-o", tmp_path / "t.wav")
        assert "--ping only asks a board who it is" in run("board", *words).complaint


# Tools of others


def test_the_commands_of_tools(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(elf((0x08000000, b"code")))
    load, compare = tool_steps("pyocd", path, port="0123", chip="stm32h743xx")
    chosen, plain, back = ("--no-wait", "--target", "stm32h743xx", "--uid", "0123"), tmp_path / "image.bin", tmp_path / "image.back"
    assert load.command == ("pyocd", "load", *chosen, "--format", "bin", "--base-address", "0x8000000", str(plain))
    assert compare.command == ("pyocd", "commander", *chosen, "--command", "savemem", "0x8000000", "4", str(back))
    assert (compare.read_back, compare.written, plain.read_bytes()) == (back, plain, b"code")
    with pytest.raises(TargetError, match="pyOCD needs the chip's name"):
        tool_steps("pyocd", path)
    copy, *rest = tool_steps("ssh", path, port="me@board")
    assert copy.command == ("scp", "-q", "-o", "BatchMode=yes", str(path), "me@board:edge-tse-board.new")
    assert [step.command[3:5] for step in rest] == [("me@board", word) for word in ("sha256sum", "chmod", "mv")]
    with pytest.raises(TargetError, match="needs --port USER@HOST"):
        tool_steps("ssh", path)
    with pytest.raises(TargetError, match=r"nothing here drives jlink: start its debug server and give --port gdb://HOST:PORT"):
        tool_steps("jlink", path)


def test_a_tool_that_prints_what_is_no_text() -> None:
    """Its last words are shown all the same."""
    with pytest.raises(TargetError, match=r"failed with status 3 .*no probe"):
        run_step(ToolStep(command=("sh", "-c", "printf 'caf\\351: no probe\\n' >&2; exit 3")))


def test_a_tool_that_cannot_be_run_or_reads_nothing(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("no program")
    with pytest.raises(TargetError, match=r"tool does not start \(Permission denied\): correct that"):
        run_step(ToolStep(command=(str(tool),)))
    (tmp_path / "written").write_bytes(b"code")
    silent = ToolStep(command=("echo", "no device"), read_back=tmp_path / "back", written=tmp_path / "written")
    with pytest.raises(TargetError, match=r"`echo no device` read nothing back \(no device\)"):
        run_step(silent)


# A chip whose flash is a file, behind each tool; what is read back can be spoilt.
FAKE_PYOCD = """#!/bin/sh
for file; do :; done
case "$1" in
load) cp "$file" {root}/flash ;;
commander) cp {root}/flash "$file"; {spoil} ;;
esac
"""
FAKE_DFU = """#!/bin/sh
while [ $# -gt 1 ]; do
    file="$2"
    case "$1" in
    --dfuse-address) echo "$2" >> {root}/addresses ;;
    --download) cp "$file" {root}/flash ;;
    --upload) cp {root}/flash "$file"; {spoil} ;;
    esac
    shift
done
"""


@pytest.mark.parametrize("spoil", [":", 'echo >> "$file"'])
@pytest.mark.parametrize(("tool", "script"), [("pyocd", FAKE_PYOCD), ("dfu-util", FAKE_DFU)])
def test_what_a_tool_wrote_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, script: str, spoil: str
) -> None:
    """Code and, further on, data become one stretch of flash; it is read back and compared."""
    (tmp_path / tool).write_text(script.format(root=tmp_path, spoil=spoil))
    (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stm32 = find_target("stm32h7")
    payload = elf((0x08000010, b"data"), (0x08000000, b"code"))
    image = pack_image(make(payload, target=stm32.name, core=stm32.core, artifact_digest="00" * 32))
    chosen = {"chip": "stm32h743xx"} if tool == "pyocd" else {"via": tool}
    if spoil == ":":
        assert flash(stm32, image, tmp_path, **chosen).way == tool
    else:
        with pytest.raises(DeviceError, match=f"{tool} reads back something else than was written: flash again"):
            flash(stm32, image, tmp_path, **chosen)
    assert (tmp_path / "flash").read_bytes() == b"code" + b"\xff" * 12 + b"data"
    if tool == "dfu-util":
        assert (tmp_path / "addresses").read_text().split() == ["0x8000000", "0x8000000:20"]


def test_a_program_in_two_memories_is_not_flat(tmp_path: Path) -> None:
    path = tmp_path / "image.elf"
    path.write_bytes(elf((0x08000000, b"code"), (0x20000000, b"data")))
    with pytest.raises(TargetError, match="spread over 402653188 bytes"):
        tool_steps("dfu-util", path)


FAKE_ADB = """#!/bin/sh
# A device whose /data is a folder.
case "$1" in
push) cp "$2" "{root}$3" ;;
shell) shift; [ "$1" = -T ] && shift
       set -- $(echo "$@" | sed 's#/data#{root}/data#g'); {spoil}; exec "$@" ;;
esac
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """``adb`` on the path, with a device behind it that is a folder."""

    def install(spoil: str = ":") -> Path:
        root = tmp_path / "device"
        (root / "data" / "local" / "tmp").mkdir(parents=True, exist_ok=True)
        tool = tmp_path / "bin" / "adb"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(FAKE_ADB.format(root=root, spoil=spoil))
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
        return root / "data" / "local" / "tmp" / "edge-tse-board"

    return install


def test_a_board_behind_adb(adb: Callable[..., Path], model: Artifact, tmp_path: Path) -> None:
    """Push, compare, rename; and the program that then runs there answers."""
    served = program(model)
    place = adb()
    android = find_target("android-arm64")
    image = make(served.read_bytes(), target=android.name, core=android.core, artifact_digest=model.digest)
    assert flash(android, pack_image(image), tmp_path).way == "adb"
    assert place.read_bytes() == served.read_bytes()
    device = Device(open_board(android, None, tmp_path), timeout_s=5.0)
    assert device.hello.model == bytes.fromhex(model.digest)[:16]
    device.close()


def test_a_transfer_that_goes_wrong_keeps_the_old_program(adb: Callable[..., Path], tmp_path: Path) -> None:
    android = find_target("android-arm64")
    old, new = (pack_image(make(p, target=android.name, core=android.core, artifact_digest="00" * 32)) for p in (b"old", b"new"))
    place = adb()
    flash(android, old, tmp_path)
    adb('[ "$1" = sha256sum ] && echo damage >> "$2"')
    with pytest.raises(DeviceError, match=r"the board holds [0-9a-f]{64} where [0-9a-f]{12} was sent: the old program still runs"):
        flash(android, new, tmp_path)
    assert place.read_bytes() == b"old"
    adb('[ "$1" = chmod ] && echo no such device >&2 && exit 9')
    with pytest.raises(TargetError, match=r"`adb shell chmod` failed with status 9 \(no such device\): correct that"):
        flash(android, new, tmp_path)
    assert place.read_bytes() == b"old"


def test_a_tool_that_does_not_end(adb: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flash_tools, "_TOOL_TIMEOUT_S", 0.2)
    adb("exec sleep 60")
    android = find_target("android-arm64")
    image = pack_image(make(b"x", target=android.name, core=android.core, artifact_digest="00" * 32))
    with pytest.raises(TargetError, match=r"`adb shell sha256sum` did not end within 0.2 s: is the board connected\?"):
        flash(android, image, tmp_path)


def test_a_tool_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    android = find_target("android-arm64")
    image = pack_image(make(b"x", target=android.name, core=android.core, artifact_digest="00" * 32))
    with pytest.raises(TargetError, match="adb is not installed, flashing needs it"):
        flash(android, image, tmp_path)
    with pytest.raises(TargetError, match=f"is for target android-arm64, not {TARGET}"):
        flash(find_target(TARGET), image, tmp_path)
    with pytest.raises(TargetError, match="is for a Cortex-A, target android-arm64 has a Cortex-X: build it"):
        flash(replace(android, core="Cortex-X"), image, tmp_path)
