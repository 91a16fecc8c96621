"""An earbud's packets: the same bytes from C and from Python, over any link, and two emulated boards that are the two ears."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from edge_tse.artifact import Artifact
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine, open_network
from edge_tse.errors import LinkError
from edge_tse.extraction import extract_signal
from edge_tse.live.clocks import EARS, Crystal, Packet
from edge_tse.live.linked_devices import open_linked, wire_links
from edge_tse.live.links import Links
from edge_tse.live.loop import Loop
from edge_tse.live.resampling import REACH, interpolate
from edge_tse.live.session import Session
from edge_tse.live.supervision import supervise
from edge_tse.metrics import si_sdr
from edge_tse.personalization import personalize
from firmware_bridge import emulator
from firmware_bridge.build import INCLUDES, build_program, c_source
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES
from firmware_bridge.earbud import Earbud, ear_frame
from firmware_bridge.layout import pack
from firmware_bridge.link import DatagramLink, Link, MemoryLink, open_link
from firmware_bridge.wire import EarSound, Frame, encode
from tests import graphs
from tests.board import compiler

RATE = 16000
N = 160
PACKET = Packet(
    sequence=65535,
    counter=2**40 + 5,
    rate_hz=RATE,
    samples=(np.arange(-80, 80) / 128).astype(np.float32),
    arrived_s=0.0,
    waited_s=0.00123,
    ear="right",
)


def earbud(content: bytes) -> Earbud:
    """An earbud that has sent this."""
    link = MemoryLink(lambda sent: sent)
    link.write(content)
    return Earbud(link, clock=lambda: 7.0)


class TestPackets:
    def test_what_is_sent_arrives(self) -> None:
        (found,) = earbud(b"noise" + ear_frame(PACKET)).read(0)
        np.testing.assert_array_equal(found.samples, PACKET.samples)
        assert vars(replace(found, samples=())) == vars(replace(PACKET, arrived_s=7.0, samples=()))

    def test_c_writes_the_same_bytes(self, tmp_path: Path) -> None:
        class CEar(ctypes.Structure):
            _fields_ = (
                ("ear", ctypes.c_uint8),
                ("rate_hz", ctypes.c_uint32),
                ("counter", ctypes.c_uint64),
                ("sequence", ctypes.c_uint16),
            )

        path = tmp_path / "ear.so"
        sources = (str(c_source(name)) for name in ("earbud.c", "wire.c", "crc32.c"))
        flags = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
        subprocess.run([*compiler(), *flags, *INCLUDES, *sources, "-o", str(path)], check=True)
        library = ctypes.CDLL(str(path))
        library.etse_ear_frame.restype = ctypes.c_size_t
        ear = CEar(1, RATE, PACKET.counter, PACKET.sequence)
        samples, to = (PACKET.samples * 32768).astype(np.int16), ctypes.create_string_buffer(2048)
        for packet in (PACKET, replace(PACKET, sequence=0, counter=PACKET.counter + N)):
            size = library.etse_ear_frame(ctypes.byref(ear), samples.ctypes, ctypes.c_size_t(N), ctypes.c_uint32(1230), to)
            assert to.raw[:size] == ear_frame(packet)

    def test_an_emulated_ear_whose_start_is_not_there(self, tmp_path: Path) -> None:
        """A pipe that does not open is no file to read from."""
        program = tmp_path / "ear"
        sources = (str(c_source(name)) for name in ("send_ear.c", "earbud.c", "wire.c", "crc32.c", "port_stdio.c"))
        flags = ("-std=c11", "-Wall", "-Wextra", "-Werror")
        subprocess.run([*compiler(), *flags, *INCLUDES, *sources, "-o", str(program)], check=True)
        (tmp_path / "sound").write_bytes(bytes(2 * N))
        words = ("0", str(RATE), str(N), "1000", "sound", "link")
        for start, status in (((), 0), (("none",), 1)):
            done = subprocess.run([str(program), *words, *start], cwd=tmp_path, check=False, capture_output=True)
            assert (done.returncode, done.stderr) == (status, b"")

    @pytest.mark.parametrize(
        ("told", "said"),
        [
            ({"channels": 2}, "memory sends 2 channels, an ear has 1"),
            ({"rate_hz": 5}, "memory sends 5 samples a second: 8000 to 192000 can be heard"),
            ({"samples": b"abc"}, "memory sends packets of 3 bytes: int16 samples are due"),
            ({"samples": b""}, "memory sends packets of 0 bytes"),
        ],
    )
    def test_what_is_no_ear(self, told: dict[str, object], said: str) -> None:
        sound: dict[str, object] = {"counter": 0, "rate_hz": RATE, "waited_us": 0, "ear": 0, "channels": 1, "samples": bytes(20)}
        frame = encode(Frame(EarSound.code, 0, pack(EarSound(**(sound | told)))))  # type: ignore[arg-type]
        with pytest.raises(LinkError, match=said):
            earbud(frame).read(0)

    def test_a_packet_that_is_cut_short_says_so(self) -> None:
        with pytest.raises(LinkError, match="another version"):
            earbud(encode(Frame(EarSound.code, 0, bytes(9)))).read(0)

    def test_other_messages_are_no_sound(self) -> None:
        assert earbud(encode(Frame(0x81, 0, bytes(9)))).read(0) == []


class TestDatagrams:
    def test_a_packet_a_datagram(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, closing(DatagramLink("127.0.0.1", 0)) as link:
            with pytest.raises(LinkError, match="nobody has sent anything yet"):
                link.write(b"x")
            to = link._socket.getsockname()
            for _ in range(3):
                sender.sendto(ear_frame(PACKET), to)
            ears, packets = Earbud(link), []
            while len(packets) < 3:
                packets += ears.read(1.0)
            assert [packet.counter for packet in packets] == [PACKET.counter] * 3
            assert ears.read(0.01) == []
            link.write(b"y")
            assert sender.recv(10) == b"y"

    def test_a_port_that_is_taken(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            with pytest.raises(LinkError, match=rf"udp://127.0.0.1:{port} is no port to listen at"):
                open_link(f"udp://127.0.0.1:{port}")


PPM = (80.0, -60.0)
_LEAD_S = 2.0
"""Silence first: a pipe full, in which the test finds out when each board began."""


def taken(sound: np.ndarray, ppm: float, began_s: float) -> bytes:
    """Sound as a converter takes it whose clock began this much later: int16."""
    count = round((len(sound) / RATE - began_s) * RATE * (1 + ppm * 1e-6)) - 2 * REACH
    at = (began_s + Crystal(ppm=ppm).times(np.arange(count), RATE)) * RATE
    padded = np.concatenate([np.zeros(REACH, np.float32), sound.astype(np.float32), np.zeros(REACH, np.float32)])
    found = interpolate(padded, np.clip(at, -1, len(sound)) + REACH)
    return (np.clip(np.where(at >= 0, found, 0), -1, 1) * 32767).astype("<i2").tobytes()


def lag_us(heard: np.ndarray, sent: np.ndarray) -> float:
    """Time by which ``heard`` is later than ``sent``, to 4 us."""
    finer, n = 16, 2 * len(heard)
    correlation = np.fft.irfft(np.fft.rfft(heard, n) * np.fft.rfft(sent, n).conj(), n * finer)
    at = int(np.argmax(correlation))
    return (at - (n * finer if at > n * finer // 2 else 0)) / (RATE * finer) * 1e6


class Listening(Earbud):
    """An earbud, and when its converter began, by the promptest of its packets and the rate that only the test knows."""

    def __init__(self, link: Link, ppm: float) -> None:
        super().__init__(link)
        self._pace_s = 1 / RATE / (1 + ppm * 1e-6)
        self.began_s = np.inf

    def read(self, timeout_s: float) -> list[Packet]:
        packets = super().read(timeout_s)
        for packet in packets:
            self.began_s = min(self.began_s, packet.arrived_s - packet.waited_s - (packet.counter + N) * self._pace_s)
        return packets


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="no qemu-system-arm here: apt-get install qemu-system-arm")
def test_two_emulated_boards_are_two_ears(tmp_path: Path) -> None:
    """Two Cortex-M55 in one room, by clocks of +80 and -60 ppm: both ears are played together, and the talker comes out.

    Each board's converter is a pipe of the sound that the room has at its ear, at the times at which its own clock takes samples.
    """
    pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")
    case = next(case for case in shipped_cases() if case.mixture.signal.shape[0] == 2)
    assert case.reference is not None
    room, talker = (np.tile(sound.signal, 4) for sound in (case.mixture, case.reference))
    lead = np.zeros((2, round(_LEAD_S * RATE)), np.float32)
    room, talker = (np.concatenate([lead, sound], axis=1) for sound in (room, talker))
    own = personalize(Artifact.shipped(), case.voice(Artifact.shipped().voice_model))
    engine = Engine(own, open_network(own, "litert"))
    core = CORES["qemu-mps3-an547"]
    build_program(generate(graphs.artifact(graphs.NANO)), core, tmp_path / "ear.elf", program=("send_ear.c", "earbud.c", "wire.c"))
    ears: dict[str, Listening] = {}
    for i, (ear, ppm) in enumerate(zip(EARS, PPM, strict=True)):
        os.mkfifo(tmp_path / ear)
        packet_ns = str(round(1e9 * N / RATE / (1 + ppm * 1e-6)))
        words = (str(i), str(RATE), str(N), packet_ns, str(tmp_path / ear), "from_board")
        ears[ear] = Listening(emulator.start(core, (tmp_path / "ear.elf").read_bytes(), words), ppm)
    writers = [(tmp_path / ear).open("wb", buffering=0) for ear in EARS]
    silence = bytes(2 * round(_LEAD_S * RATE) // (2 * N) * (2 * N))
    for writer in writers:
        writer.write(silence)

    def play(writer: BinaryIO, content: bytes) -> None:
        with writer, suppress(OSError):
            writer.write(content)

    heard = []
    with closing(Links({ear: ear for ear in EARS}, lambda port: ears[port], buffer_s=0.04)) as links:
        wiring = wire_links(links, None, frame=engine.frame, rate_hz=None, block=64)
        time.sleep(1.0)
        first_s = min(ear.began_s for ear in ears.values())
        apart_s = ears["left"].began_s - ears["right"].began_s
        for i, ear in enumerate(EARS):
            sound = taken(room[i], PPM[i], ears[ear].began_s - first_s)[len(silence) :]
            threading.Thread(target=play, args=(writers[i], sound), daemon=True).start()
        session = Session(engine, Loop(rate_hz=RATE, ears=2, block=64, margin_s=0.1))

        def exchange(both: np.ndarray, out: np.ndarray, flags: int = 0) -> None:
            session.exchange(both, out, flags)
            heard.append(both.copy())

        supervise(session, lambda _: open_linked(wiring, exchange, links), seconds=14.0)
        figures = links.figures()
    for ear, ppm in zip(EARS, PPM, strict=True):
        assert figures[ear]["drift_ppm"] == pytest.approx(ppm, abs=15)  # type: ignore[index]
        assert figures[ear]["lost"] == 0  # type: ignore[index]
    assert session.health.failed_hops == 0

    # The room as it was, and how much later each ear is than it.
    sound = np.concatenate(heard).T
    window = slice(8 * RATE, 12 * RATE)
    late_us = [lag_us(sound[i, window], room[i, window]) for i in (0, 1)]
    apart_us = late_us[0] - late_us[1]
    shift = round(late_us[0] / 1e6 * RATE)

    def gain_db(both: np.ndarray, shift: int) -> float:
        found = extract_signal(both[:, : 13 * RATE], RATE, engine).signal
        wanted = talker[:, window.start - shift : window.stop - shift]
        return float(np.mean([si_sdr(found[i, window], wanted[i]) - si_sdr(both[i, window], wanted[i]) for i in (0, 1)]))

    gains = gain_db(sound, shift), gain_db(room, 0)
    said = f"boards {apart_s * 1e3:+.1f} ms apart, ears {apart_us:+.0f} us, gain {gains[0]:.1f} dB, without links {gains[1]:.1f} dB"
    sys.stdout.write(f"{said}; {[figures[ear] for ear in EARS]}\n")
    assert abs(apart_us) < 64, said
    assert gains[0] > gains[1] - 1, said
    assert gains[0] > 1, said
