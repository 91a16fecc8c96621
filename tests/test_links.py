"""A session whose ears are two links: what it hears, what it says of them, and what becomes of it when they fail."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse.cli import main
from edge_tse.errors import AudioError, LinkError
from edge_tse.frame import FrameSpec
from edge_tse.live.clocks import Packet
from edge_tse.live.linked_devices import Paced, open_linked, wire_links
from edge_tse.live.links import Links, parse_links
from firmware_bridge.earbud import ear_frame
from tests import graphs
from tests.speech import utterance
from tests.test_capture import FakePortAudio, device

RATE = 16000
N = 160


class Ear:
    """A link's end in this process: packets of a tone, as fast as time passes."""

    def __init__(self, name: str, ear: str = "", rate_hz: int = RATE, ends_s: float = 1e9) -> None:
        self.name, self._ear, self._rate_hz, self._ends_s = name, ear, rate_hz, ends_s
        self._began_s = time.perf_counter()
        self._sent = 0
        self.closed = False

    def read(self, timeout_s: float) -> Sequence[Packet]:
        time.sleep(0.005)
        now_s = time.perf_counter()
        if now_s - self._began_s > self._ends_s:
            raise LinkError(f"{self.name}: the other side closed the link")
        packets = []
        while self._began_s + (self._sent + 1) * N / self._rate_hz <= now_s:
            at = self._sent * N + np.arange(N)
            samples = (0.1 * np.sin(2 * np.pi * 440 * at / self._rate_hz)).astype(np.float32)
            told = {"sequence": self._sent % 2**16, "counter": self._sent * N, "rate_hz": self._rate_hz, "ear": self._ear}
            packets.append(Packet(samples=samples, arrived_s=now_s, **told))  # type: ignore[arg-type]
            self._sent += 1
        return packets

    def close(self) -> None:
        self.closed = True


class Mute(Ear):
    def read(self, timeout_s: float) -> Sequence[Packet]:
        time.sleep(0.005)
        return []


PORTS = {"left": "l", "right": "r"}


class TestPorts:
    def test_left_and_right_in_any_order(self) -> None:
        assert list(parse_links(["right=tcp://a:1", "left=fifo:x=y"]).items()) == [("left", "fifo:x=y"), ("right", "tcp://a:1")]

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["left=a"], r"1 link was given, two ears need 2: add --link right=PORT"),
            (["left=a", "right=a"], r"both links are a, which has 1 ear"),
            (["left=a", "left=b"], r"--link left= was given twice, a and b"),
            (["left=a", "middle=b"], r"--link middle=b: there is no such ear"),
            (["left=a", "right="], r"--link right=: there is no such ear"),
            (["left=a", "b"], r"--link b: there is no such ear"),
        ],
    )
    def test_what_are_no_two_links(self, given: list[str], said: str) -> None:
        with pytest.raises(AudioError, match=said):
            parse_links(given)


class TestOpening:
    def test_ears_that_are_exchanged(self) -> None:
        with pytest.raises(AudioError, match="l was given as left and says that it is right: exchange the links"):
            Links(PORTS, lambda port: Ear(port, {"l": "right", "r": "left"}[port]))

    def test_rates_that_differ(self) -> None:
        with pytest.raises(AudioError, match="the left ear sends 16000 samples a second, the right one 48000"):
            Links(PORTS, lambda port: Ear(port, rate_hz={"l": 16000, "r": 48000}[port]))

    def test_an_ear_that_sends_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_tse.live.links._FIRST_S", 0.05)
        opened = {}

        def opener(port: str) -> Ear:
            opened[port] = (Mute if port == "r" else Ear)(port)
            return opened[port]

        with pytest.raises(LinkError, match=r"r: the right ear has sent nothing for 0.05 s"):
            Links(PORTS, opener)
        assert all(ear.closed for ear in opened.values())

    def test_a_buffer_that_cannot_be(self) -> None:
        with pytest.raises(AudioError, match="a buffer of 900 ms: 0 to 500 ms are possible"):
            Links(PORTS, Ear, buffer_s=0.9)

    def test_a_model_of_one_ear_and_another_rate(self) -> None:
        with closing(Links(PORTS, Ear)) as links:
            with pytest.raises(AudioError, match="this model hears 1 ear, two links bring 2"):
                wire_links(links, None, frame=FrameSpec(ears=1), rate_hz=None, block=None)
            with pytest.raises(AudioError, match="both links send 16000 samples a second, not 48000"):
                wire_links(links, None, frame=FrameSpec(), rate_hz=48000, block=None)
            with pytest.raises(AudioError, match="a block of 9000 samples at 16000 Hz"):
                wire_links(links, None, frame=FrameSpec(), rate_hz=None, block=9000)


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that is to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class TestEarphone:
    PHONES = device(4, "phones", 0, 2, default_output=True)

    def test_it_is_opened_alone_and_played_what_both_ears_heard(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = FakePortAudio(self.PHONES)
        monkeypatch.setitem(sys.modules, "pyaudio", fake)  # type: ignore[arg-type]

        def exchange(heard: np.ndarray, out: np.ndarray, flags: int = 0) -> None:
            out[:] = 0.5 * heard

        with closing(Links(PORTS, Ear)) as links:
            wiring = wire_links(links, self.PHONES, frame=FrameSpec(), rate_hz=None, block=64)
            assert wiring.device_latency_s == pytest.approx(links.latency_s + 0.007)
            opened = open_linked(wiring, exchange, links)
            (stream,) = fake.streams
            assert (stream.asked.input, stream.asked.output, stream.asked.output_device_index) == (False, True, 4)
            assert opened.latency_s == pytest.approx(links.latency_s + 0.008)
            began_s, played = time.perf_counter(), []
            for k in range(250):
                time.sleep(max(0.0, began_s + 0.004 * k - time.perf_counter()))
                played.append(stream.call(None, 64))
            assert opened.active
            opened.close()
            opened.close()
        sound = np.concatenate(played)
        assert np.sqrt(np.mean(sound[RATE // 2 :] ** 2, axis=0)) == pytest.approx([0.035, 0.035], rel=0.1)
        assert fake.open_instances == 0

    def test_an_earphone_that_is_busy_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And not the links, which are open."""
        fake = FakePortAudio(self.PHONES)
        monkeypatch.setitem(sys.modules, "pyaudio", fake)  # type: ignore[arg-type]
        with closing(Links(PORTS, Ear)) as links:
            wiring = wire_links(links, self.PHONES, frame=FrameSpec(), rate_hz=None, block=64)
            fake.refuses = "Device unavailable"
            with pytest.raises(AudioError, match=r"^phones cannot be opened at 16000 Hz"):
                open_linked(wiring, lambda heard, out, flags=0: None, links)
        assert fake.open_instances == 0

    def test_an_earphone_of_another_rate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyaudio", FakePortAudio(self.PHONES, rates=(44100,)))  # type: ignore[arg-type]
        with closing(Links(PORTS, Ear)) as links, pytest.raises(AudioError, match="phones does not play 16000 Hz"):
            wire_links(links, self.PHONES, frame=FrameSpec(), rate_hz=None, block=None)


class TestFailing:
    def test_one_ear_goes_and_comes_back_and_the_other_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_tse.live.links._AGAIN_S", 0.3)
        lives = iter((0.6, 1e9))
        heard = []
        with closing(Links(PORTS, lambda port: Ear(port, ends_s=next(lives) if port == "l" else 1e9))) as links:
            wiring = wire_links(links, None, frame=FrameSpec(), rate_hz=None, block=64)
            paced = open_linked(wiring, lambda h, out, flags=0: heard.append(h.copy()), links)
            assert isinstance(paced, Paced)
            remarks: list[str] = []
            until(lambda: bool(remarks.extend(links.remarks()) or "the left link is back" in remarks))
            time.sleep(0.4)
            assert paced.active
            assert paced.failure is None
            paced.close()
            assert remarks[0] == "the left link ended: l: the other side closed the link"
            assert links.figures()["left"]["restarts"] == 1  # type: ignore[index]
        sound = np.concatenate(heard)
        later = sound[RATE // 2 :, 1]
        assert np.sqrt(np.mean(later**2)) == pytest.approx(0.0707, rel=0.05)
        assert np.abs(sound[-RATE // 10 :, 0]).max() > 0.09

    def test_both_gone_is_a_device_that_is_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edge_tse.live.links._SILENT_S", 0.2)
        with closing(Links(PORTS, lambda port: Ear(port, ends_s=0.3))) as links:
            wiring = wire_links(links, None, frame=FrameSpec(), rate_hz=None, block=64)
            paced = open_linked(wiring, lambda h, out, flags=0: None, links)
            links._opener = Mute
            until(lambda: not paced.active)
            paced.close()
            with pytest.raises(AudioError, match=r"neither ear sends \(left=l, right=r\)"):
                open_linked(wiring, lambda h, out, flags=0: None, links)

    def test_a_link_that_opens_after_the_session_has_ended_is_given_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A TCP connection may take longer to open than the end of a session waits."""
        monkeypatch.setattr("edge_tse.live.links._AGAIN_S", 0.01)
        opens, may_open = threading.Event(), threading.Event()
        late: list[Ear] = []

        def slow(port: str) -> Ear:
            opens.set()
            may_open.wait(10)
            late.append(Ear(port))
            return late[-1]

        links = Links(PORTS, lambda port: Ear(port, ends_s=0.3 if port == "l" else 1e9))
        links._opener = slow
        links.start(64)
        assert opens.wait(10)
        links.close()
        may_open.set()
        until(lambda: bool(late) and late[0].closed)

    def test_a_failure_of_ours_is_raised_by_the_supervisor(self) -> None:
        def fails(heard: np.ndarray, out: np.ndarray, flags: int = 0) -> None:
            raise ValueError("ours")

        with closing(Links(PORTS, Ear)) as links:
            paced = open_linked(wire_links(links, None, frame=FrameSpec(), rate_hz=None, block=64), fails, links)
            until(lambda: not paced.active)
            assert isinstance(paced.failure, ValueError)
            paced.close()


class Sender:
    """An earbud as a program of its own clock: it serves one listener after the other, over TCP, until it is closed."""

    def __init__(self, ear: str, sound: np.ndarray, ppm: float, rate_hz: int = RATE) -> None:
        self._ear, self._ppm, self._rate_hz = ear, ppm, rate_hz
        taken = np.arange(round(len(sound) * (1 + ppm * 1e-6)) - N) / (1 + ppm * 1e-6)
        self._sound = np.interp(taken, np.arange(len(sound)), sound).astype(np.float32)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port = self._server.getsockname()[1]
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ends.is_set():
            try:
                client, _ = self._server.accept()
            except TimeoutError:
                continue
            with client, suppress(OSError):
                self._send(client)

    def _send(self, client: socket.socket) -> None:
        began_s = time.perf_counter()
        for k in range(len(self._sound) // N):
            due_s = began_s + (k + 1) * N / self._rate_hz / (1 + self._ppm * 1e-6)
            if self._ends.wait(max(0.0, due_s - time.perf_counter())):
                return
            packet = Packet(
                sequence=k,
                counter=k * N,
                rate_hz=self._rate_hz,
                samples=self._sound[k * N : (k + 1) * N],
                arrived_s=0.0,
                waited_s=time.perf_counter() - due_s,
                ear=self._ear,
            )
            client.sendall(ear_frame(packet))

    def close(self) -> None:
        self._ends.set()
        self._thread.join()
        self._server.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    graphs.artifact(graphs.NANO, frames=4).save(tmp_path / "model.etse")
    soundfile.write(tmp_path / "clip.wav", utterance(3, 0, 3), RATE)
    made = ["enroll", tmp_path / "clip.wav", "-o", tmp_path / "a.voice", "--artifact", tmp_path / "model.etse"]
    assert main([str(each) for each in made]) == 0
    return tmp_path


@pytest.fixture
def senders() -> Iterator[Callable[..., Sender]]:
    started: list[Sender] = []

    def start(*arguments: object, **more: object) -> Sender:
        started.append(Sender(*arguments, **more))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for sender in started:
        sender.close()


def live(files: Path, *options: object) -> int:
    named = ["--voice", files / "a.voice", "--artifact", files / "model.etse"]
    return main([str(each) for each in ["live", *named, "--output", "none", "--margin-ms", "100", "--json", *options]])


class TestCommand:
    @pytest.mark.alone
    def test_two_senders_are_heard_recorded_and_replayed(
        self, files: Path, senders: Callable[..., Sender], capfd: pytest.CaptureFixture[str]
    ) -> None:
        sound = utterance(1, 0, 12.0)
        ports = [senders(ear, sound, ppm).port for ear, ppm in (("left", 80.0), ("right", -80.0))]
        links = [f"--link={ear}=tcp://127.0.0.1:{port}" for ear, port in zip(("left", "right"), ports, strict=True)]
        capfd.readouterr()
        options = ["--seconds", "4", "--record", files / "s.flac", "--report", files / "r.html"]
        assert live(files, *links, *options) == 0
        captured = capfd.readouterr()
        figures = json.loads(captured.out)
        assert all(line.startswith("edge-tse: mark: ") for line in captured.err.splitlines()), captured.err
        assert figures["input"] == f"left=tcp://127.0.0.1:{ports[0]}, right=tcp://127.0.0.1:{ports[1]}"
        assert figures["links"]["left"]["packets"] > 250
        assert figures["links"]["left"]["lost"] == figures["links"]["right"]["lost"] == 0
        assert figures["latency"]["device_ms"] == pytest.approx(figures["links"]["latency_ms"])
        assert "against this machine" in (files / "r.html").read_text()

        again = ["replay", files / "s.flac", "--voice", files / "a.voice", "--artifact", files / "model.etse", "--json"]
        assert main([str(each) for each in again]) == 0
        assert json.loads(capfd.readouterr().out)["differing_samples"] == 0

        heard, _ = soundfile.read(files / "s.flac")
        left, right = heard[-RATE:, :2].T
        # One talker at both ears, sent when each listener came: the same sound, up to the difference of the two first moments.
        spectrum = np.fft.rfft(left, 2 * len(left)) * np.fft.rfft(right, 2 * len(right)).conj()
        correlation = np.fft.irfft(spectrum)
        assert correlation.max() > 0.8 * np.sqrt((left**2).sum() * (right**2).sum())

    def test_nobody_listens(self, files: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        capfd.readouterr()
        assert live(files, f"--link=left=tcp://127.0.0.1:{port}", "--link=right=udp://127.0.0.1:0") == 2
        err = capfd.readouterr().err
        assert err.startswith(f"edge-tse: socket://127.0.0.1:{port}: no connection within 5 s (")
        assert err.count("\n") == 1

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (["--link=left=a"], "1 link was given, two ears need 2"),
            (["--link=left=a", "--link=right=a"], "both links are a, which has 1 ear"),
            (["--link=left=a", "--link=nose=b"], "--link nose=b: there is no such ear"),
            (["--link=left=a", "--link=right=b", "--input", "2"], "--link takes the place of --input and --channels"),
            (["--link=left=a", "--link=right=b", "--channels", "1,2"], "--link takes the place of --input and --channels"),
            (["--link=left=udp://127.0.0.1:0", "--link=right=b"], "names no host and port"),
        ],
    )
    def test_bad_input_is_one_line(self, files: Path, capfd: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
        capfd.readouterr()
        assert live(files, *options) == 2
        err = capfd.readouterr().err
        assert said in err
        assert err.count("\n") == 1
