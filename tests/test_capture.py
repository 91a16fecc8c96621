"""Sound devices: which is meant, how it is wired, and what passes through PortAudio's callbacks. For real: test_live_jack.py."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from edge_tse.artifact import Artifact
from edge_tse.cli import main
from edge_tse.cli.sound import take_clip
from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.live.devices import Device, Wiring, choose, devices, wire
from edge_tse.live.duplex import Duplex
from edge_tse.live.loop import Loop
from edge_tse.live.session import Session
from edge_tse.live.supervision import supervise
from edge_tse.voice import load_voice
from tests import graphs
from tests.speech import utterance
from tests.test_session import HOP, Plain, shifted, sound
from tests.test_trace import check as check_trace


def device(index: int = 0, name: str = "mic", inputs: int = 2, outputs: int = 0, **more: object) -> Device:
    values: dict[str, object] = {
        "host": "ALSA",
        "rate_hz": 48000,
        "input_latency_s": 0.005,
        "output_latency_s": 0.007,
        "default_input": False,
        "default_output": False,
    }
    return Device(index=index, name=name, inputs=inputs, outputs=outputs, **(values | more))  # type: ignore[arg-type]


def _forget(out: np.ndarray) -> None: ...


class FakePortAudio:
    """PyAudio's module, as far as it is used: devices, streams, and what goes wrong with them."""

    paFloat32, paContinue, paAbort = 1, 0, 2  # noqa: N815

    def __init__(self, *found: Device, rates: tuple[int, ...] = (16000, 44100, 48000)) -> None:
        self.found, self.rates = found, rates
        self.streams: list[FakeStream] = []
        self.open_instances = 0
        self.refuses = ""
        self.block: Callable[[int], np.ndarray] | None = None
        self.blocks = 10**9
        self.back: Callable[[np.ndarray], None] = _forget
        self.at: dict[int, Callable[[], object]] = {}
        self.on_end: Callable[[], object] = lambda: None

    def PyAudio(self) -> FakePortAudio:  # noqa: N802
        self.open_instances += 1
        return self

    def terminate(self) -> None:
        self.open_instances -= 1

    def get_device_count(self) -> int:
        return len(self.found)

    def get_device_info_by_index(self, index: int) -> dict[str, object]:
        one = self.found[index]
        return {
            "index": index,
            "name": one.name,
            "hostApi": 0,
            "maxInputChannels": one.inputs,
            "maxOutputChannels": one.outputs,
            "defaultSampleRate": float(one.rate_hz),
            "defaultLowInputLatency": one.input_latency_s,
            "defaultLowOutputLatency": one.output_latency_s,
        }

    def get_host_api_info_by_index(self, index: int) -> dict[str, object]:
        return {"name": "ALSA"}

    def _default(self, kind: str) -> dict[str, object]:
        for one in self.found:
            if getattr(one, f"default_{kind}"):
                return {"index": one.index}
        raise OSError("no default")

    def get_default_input_device_info(self) -> dict[str, object]:
        return self._default("input")

    def get_default_output_device_info(self) -> dict[str, object]:
        return self._default("output")

    def is_format_supported(self, rate: int, **asked: object) -> bool:
        if rate not in self.rates:
            raise ValueError("Invalid sample rate", -9997)
        return True

    def drive(
        self, block: Callable[[int], np.ndarray], blocks: int = 10**9, at: dict[int, Callable[[], object]] | None = None
    ) -> None:
        """Streams that open from now on are called from a thread, in less than real time, and end after so many blocks for good."""
        self.block, self.blocks, self.at = block, blocks, at or {}

    def drive_loopback(self, lag: int) -> None:
        line = [np.zeros((lag, 2), np.float32)]

        def block(i: int) -> np.ndarray:
            return line[0][:64].copy()

        def back(out: np.ndarray) -> None:
            line[0] = np.concatenate([line[0][64:], out])

        self.drive(block)
        self.back = back

    def open(self, **asked: object) -> FakeStream:
        if self.blocks == 0:
            self.on_end()
            self.refuses = self.refuses or "Device unavailable"
        if self.refuses:
            raise OSError(-9985, self.refuses)
        self.streams.append(FakeStream(asked))
        if self.block is not None:
            self.streams[-1].thread = threading.Thread(target=self._run, args=(self.streams[-1],))
            self.streams[-1].thread.start()
        return self.streams[-1]

    def _run(self, stream: FakeStream) -> None:
        i = 0
        while stream.on and self.blocks:
            heard = self.block(i)
            out = stream.call(heard, len(heard))
            if out is not None:
                self.back(out)
            i, self.blocks = i + 1, self.blocks - 1
            self.at.get(i, lambda: None)()
            time.sleep(0.001 if self.back is _forget else 0)
        stream.on = False


class FakeStream:
    def __init__(self, asked: dict[str, object]) -> None:
        self.asked = SimpleNamespace(**asked)
        self.on = True
        self.thread: threading.Thread | None = None

    def call(self, heard: np.ndarray | None, frames: int, status: int = 0) -> np.ndarray | None:
        data = None if heard is None else np.ascontiguousarray(heard, np.float32).tobytes()
        out, flag = self.asked.stream_callback(data, frames, {}, status)
        if flag:  # a block that was under way does not open a stream again that is closed meanwhile
            self.on = False
        return None if out is None else np.frombuffer(out, np.float32).reshape(frames, self.asked.channels)

    def is_active(self) -> bool:
        return self.on

    def close(self) -> None:
        self.on = False
        if self.thread is not None:
            self.thread.join(10)

    def get_input_latency(self) -> float:
        return 0.004

    def get_output_latency(self) -> float:
        return 0.008


Install = Callable[..., FakePortAudio]


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(*found: Device, **more: object) -> FakePortAudio:
        fake = FakePortAudio(*found, **more)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "pyaudio", fake)  # type: ignore[arg-type]
        return fake

    return install


BOTH = device(0, "card", 2, 2, default_input=True, default_output=True)


class TestChoice:
    def test_devices_are_listed_and_given_back(self, portaudio: Install) -> None:
        fake = portaudio(device(0, "a"), device(1, "b", 0, 2, default_output=True))
        assert devices() == (device(0, "a"), device(1, "b", 0, 2, default_output=True))
        assert fake.open_instances == 0

    def test_by_number_name_part_and_default(self) -> None:
        found = [device(0, "USB mic"), device(1, "usb mic 2"), device(2, "HDMI", 0, 2), device(3, "array", 8, default_input=True)]
        assert choose(found, "1", "input").index == 1
        assert choose(found, "USB mic", "input").index == 0
        assert choose(found, "arr", "input").index == 3
        assert choose(found, None, "input").index == 3
        assert choose(found, None, "output").index == 2
        with pytest.raises(AudioError, match=r"2 input devices are called usb: give one of their numbers: 0 USB mic, 1 usb mic 2"):
            choose(found, "usb", "input")
        with pytest.raises(AudioError, match=r"no input device HDMI: choose one of 0 USB mic"):
            choose(found, "HDMI", "input")
        with pytest.raises(AudioError, match="no input device 2"):
            choose(found, "2", "input")

    def test_none_at_all(self) -> None:
        with pytest.raises(AudioError, match="there is no input device among 0 sound devices"):
            choose([], None, "input")

    def test_without_pyaudio_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyaudio", None)
        with pytest.raises(AudioError, match=r"pip install .*\[live\]'"):
            devices()

    def test_command(self, portaudio: Install, capsys: pytest.CaptureFixture[str]) -> None:
        portaudio(BOTH)
        assert main(["devices", "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["devices"]
        assert (found["name"], found["inputs"], found["rate_hz"], found["input_latency_s"]) == ("card", 2, 48000, 0.005)
        assert main(["devices"]) == 0
        assert "card (default)" in capsys.readouterr().out


class TestWiring:
    def test_the_models_rate_is_preferred(self, portaudio: Install) -> None:
        portaudio(BOTH)
        wiring = wire(BOTH, BOTH, frame=FrameSpec())
        assert (wiring.rate_hz, wiring.block, wiring.channels, wiring.remarks) == (16000, 64, (1, 2), ())

    def test_another_rate_is_announced(self, portaudio: Install) -> None:
        portaudio(BOTH, rates=(48000,))
        wiring = wire(BOTH, BOTH, frame=FrameSpec())
        assert (wiring.rate_hz, wiring.block) == (48000, 192)
        assert wiring.remarks == ("card runs at 48000 Hz: resampled to 16000 Hz and back",)
        with pytest.raises(AudioError, match="card does not run at 44100 Hz: choose 48000 with --rate"):
            wire(BOTH, BOTH, frame=FrameSpec(), rate_hz=44100)

    def test_a_refused_rate_lists_those_that_exist(self, portaudio: Install) -> None:
        portaudio(BOTH, rates=(44100, 96000))
        with pytest.raises(AudioError, match="card does not run at 12345 Hz: choose 44100,96000 with --rate"):
            wire(BOTH, BOTH, frame=FrameSpec(), rate_hz=12345)
        portaudio(BOTH, rates=())
        with pytest.raises(AudioError, match="card does not run at 12345 Hz: choose another with --rate"):
            wire(BOTH, BOTH, frame=FrameSpec(), rate_hz=12345)

    def test_a_scene_by_one_microphone_is_refused_before_it_is_recorded(self, portaudio: Install, tmp_path: Path) -> None:
        fake = portaudio(device(0, "headset", 1, 0, default_input=True))
        with pytest.raises(AudioError, match=r"headset has 1 channel, a scene needs 2 .*: nothing was recorded"):
            take_clip(FrameSpec(), 10, None, as_json=True, scene=True)
        assert not fake.streams

    def test_one_channel_is_announced(self, portaudio: Install) -> None:
        mono = device(0, "headset", 1, 1)
        portaudio(mono)
        wiring = wire(mono, mono, frame=FrameSpec())
        assert wiring.ears == 1
        assert "one ear is heard" in wiring.remarks[0]

    @pytest.mark.parametrize(
        ("channels", "complaint"),
        [((1, 2, 3), "give 1 to 2"), ((1, 1), "different"), ((9,), "no input channel 9"), ((0,), "no input channel 0")],
    )
    def test_channels_that_are_not_there(self, channels: tuple[int, ...], complaint: str) -> None:
        with pytest.raises(AudioError, match=complaint):
            wire(device(0, "array", 8), None, frame=FrameSpec(), channels=channels)


class Collect:
    """Plays back what it hears, louder, and remembers flags."""

    def __init__(self) -> None:
        self.heard: list[np.ndarray] = []
        self.flags: list[int] = []

    def __call__(self, heard: np.ndarray, out: np.ndarray, flags: int = 0) -> None:
        self.heard.append(heard.copy())
        self.flags.append(flags)
        out[:] = 2 * heard


def wiring(inputs: int, outputs: int, channels: tuple[int, ...], block: int = 4) -> Wiring:
    return Wiring(input=device(0, "in", inputs), output=device(1, "out", 0, outputs), rate_hz=16000, block=block, channels=channels)


class TestDuplex:
    def test_channels_are_mapped_and_ears_spread(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        x = np.arange(8, dtype=np.float32).reshape(4, 2)
        for channels, expected in (((2, 1), 2 * x[:, ::-1]), ((2,), np.repeat(2 * x[:, 1:], 2, axis=1))):
            duplex = Duplex(wiring(2, 2, channels), Collect())
            assert np.array_equal(fake.streams[-1].call(x, 4), expected)
            duplex.close()
        assert fake.open_instances == 0

    def test_two_ears_on_one_channel_are_their_mean(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        duplex = Duplex(wiring(2, 1, (1, 2)), Collect())
        into, out = fake.streams
        x = np.arange(8, dtype=np.float32).reshape(4, 2)
        played = []
        for _ in range(4):
            into.call(x, 4)
            played.append(out.call(None, 4))
        assert played[-1].ravel().tolist() == [1, 5, 9, 13]  # twice the mean of 0 and 1, of 2 and 3, ...
        duplex.close()

    def test_an_array_into_two_ears_is_two_streams_and_one_block_more(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        collect = Collect()
        duplex = Duplex(wiring(8, 2, (7, 8)), collect)
        into, out = fake.streams
        assert (into.asked.channels, out.asked.channels) == (8, 2)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(200, 8)).astype(np.float32)
        played = []
        for at in range(0, 200, 4):
            into.call(x[at : at + 4], 4)
            played.append(out.call(None, 4))
        got = np.concatenate(played)
        lag = next(n for n in range(20) if np.array_equal(got[n:], 2 * x[: 200 - n, 6:8]))
        assert lag <= 8
        assert duplex.latency_s == pytest.approx(0.012 + 4 / 16000)
        out.call(None, 4)
        out.call(None, 4)
        assert collect.flags[-1] == 1  # nothing was there to play: said, not hidden
        duplex.close()

    def test_portaudios_flags_are_passed_on(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        collect = Collect()
        Duplex(wiring(2, 2, (1, 2)), collect)
        for status in (0, 1, 2, 4, 16, 6):
            fake.streams[0].call(np.zeros((4, 2)), 4, status)
        assert collect.flags == [0, 1, 1, 2, 0, 3]

    def test_flags_of_an_input_of_its_own_are_passed_on_once(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        collect = Collect()
        Duplex(wiring(8, 2, (7, 8)), collect)
        into, out = fake.streams
        for heard, played in ((0, 0), (2, 0), (0, 4), (1, 4), (0, 0)):
            into.call(np.zeros((4, 8)), 4, heard)
            out.call(None, 4, played)
        assert collect.flags == [0, 1, 2, 3, 0]

    def test_more_frames_than_were_asked_for(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        Duplex(wiring(2, 2, (1, 2)), Collect())
        x = np.ones((50, 2), np.float32)
        assert np.array_equal(fake.streams[0].call(x, 50), 2 * x)

    def test_what_fails_inside_ends_the_stream_and_is_kept(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)

        def broken(heard: np.ndarray, out: np.ndarray, flags: int = 0) -> None:
            raise ZeroDivisionError

        duplex = Duplex(wiring(2, 2, (1, 2)), broken)
        fake.streams[0].call(np.zeros((4, 2)), 4)
        assert not duplex.active
        assert isinstance(duplex.failure, ZeroDivisionError)

    def test_a_device_that_is_busy_is_one_line_and_nothing_stays_open(self, portaudio: Install) -> None:
        fake = portaudio(BOTH)
        fake.refuses = "Device unavailable"
        with pytest.raises(AudioError, match=r"in cannot be opened at 16000 Hz \(.*Device unavailable"):
            Duplex(wiring(2, 2, (1, 2)), Collect())
        assert fake.open_instances == 0

    @pytest.mark.parametrize("what", ["open", "close"])
    def test_a_sound_system_that_never_answers_is_left_behind(
        self, portaudio: Install, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        fake, held = portaudio(BOTH), threading.Event()
        monkeypatch.setattr("edge_tse.live.duplex.ANSWER_S", 0.1)
        if what == "open":
            monkeypatch.setattr(fake, "open", lambda **asked: held.wait(20))
            with pytest.raises(AudioError, match="does not answer"):
                Duplex(wiring(2, 2, (1, 2)), Collect())
        else:
            duplex = Duplex(wiring(2, 2, (1, 2)), Collect())
            monkeypatch.setattr(fake.streams[0], "close", lambda: held.wait(20))
            duplex.close()
            assert not duplex.active
        held.set()


class Cable:
    """A device under a clock of its own: each wait plays the blocks of that time; it can be pulled out."""

    def __init__(self, heard: np.ndarray) -> None:
        self.heard, self.out = heard, np.zeros_like(heard)
        self.now = 0.0
        self.at = self.opened = self.closed = 0
        self.active, self.failure, self.latency_s = False, None, 0.003
        self.pulled: Callable[[float], bool] = lambda now: False
        self.frozen: Callable[[float], bool] = lambda now: False
        self.session: Session | None = None

    def open(self, session: Session) -> Cable:
        if self.pulled(self.now):
            raise AudioError("no such device")
        self.session, self.active = session, True
        self.opened += 1
        return self

    def close(self) -> None:
        self.active = False
        self.closed += 1

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.pulled(self.now):
            self.active = False
        if not self.active or self.session is None or self.frozen(self.now):
            return
        for _ in range(round(seconds * 16000 / HOP)):
            block = slice(self.at, self.at + HOP)
            self.session.exchange(self.heard[block], self.out[block])
            self.at += HOP


class Inline(Session):
    """The engine works in the device's turn, so that a run is the same every time."""

    def exchange(self, heard: np.ndarray, out: np.ndarray, flags: int = 0, available: int | None = None) -> None:
        super().exchange(heard, out, flags, available)
        self.work()

    def start(self, **how: object) -> None: ...


class TestSupervision:
    def run(self, cable: Cable, **more: object) -> tuple[Inline, object]:
        session = Inline(Plain(), Loop(rate_hz=16000, ears=1, block=HOP), clock=cable.clock)
        return session, supervise(session, cable.open, clock=cable.clock, wait=cable.wait, **more)  # type: ignore[arg-type]

    def test_for_as_long_as_asked(self) -> None:
        cable = Cable(sound(16000 * 3))
        session, run = self.run(cable, seconds=2.0)
        assert run.ended == "the time was up"  # type: ignore[attr-defined]
        assert run.latency.device_s == 0.003  # type: ignore[attr-defined]
        assert (cable.opened, cable.closed) == (1, 1)
        n = cable.at
        assert np.array_equal(cable.out[:n], (shifted(cable.heard, session.latency_samples) * np.float32(0.25))[:n])

    def test_until_stopped(self) -> None:
        cable = Cable(sound(16000 * 3))
        _, run = self.run(cable, stopped=lambda: cable.now > 1)
        assert run.ended == "stopped"  # type: ignore[attr-defined]
        assert cable.closed == 1

    @pytest.mark.parametrize("how", ["pulled", "frozen"])
    def test_a_device_that_vanishes_is_opened_again(self, how: str) -> None:
        cable = Cable(sound(16000 * 9))
        setattr(cable, how, lambda now: 1 < now < 4 and not (how == "frozen" and cable.opened > 1))
        session, run = self.run(cable, seconds=6.0)
        assert run.reopened == 1  # type: ignore[attr-defined]
        assert [event.what for event in session.events] == ["the device vanished", "the device is back"]
        assert cable.closed == 2
        assert session.health.late_blocks == 0

    def test_a_device_that_stays_away_is_one_line(self) -> None:
        cable = Cable(sound(16000 * 30))
        cable.pulled = lambda now: now > 1
        with pytest.raises(AudioError, match=r"vanished and did not come back within 10 s \(no such device\): connect it"):
            self.run(cable, seconds=60.0)
        assert cable.closed >= 1

    @pytest.mark.parametrize(("sounds_s", "said"), [(0.0, "delivers nothing: it is opened again"), (1.0, "vanished")])
    def test_a_device_that_is_open_and_mute_is_the_end(self, sounds_s: float, said: str) -> None:
        cable = Cable(sound(16000 * 30))
        cable.frozen = lambda now: now > sounds_s
        told: list[str] = []
        with pytest.raises(AudioError, match=r"is open and has delivered nothing for 10 s \(\d+ blocks before that\)"):
            self.run(cable, tell=lambda session: told.extend(e.what for e in session.events[len(told) :]))
        assert told == [f"the device {said}"]  # once, not once a second
        assert sounds_s + 9.9 < cable.now < sounds_s + 11.2
        assert cable.closed == cable.opened

    def test_a_short_session_on_a_mute_device_is_not_one_that_went_well(self) -> None:
        cable = Cable(sound(16000 * 30))
        cable.frozen = lambda now: True
        with pytest.raises(AudioError, match=r"has delivered nothing for 5 s \(0 blocks"):
            self.run(cable, seconds=5.0)

    def test_stopping_while_it_is_away(self) -> None:
        cable = Cable(sound(16000 * 9))
        cable.pulled = lambda now: now > 1
        _, run = self.run(cable, stopped=lambda: cable.now > 3)
        assert run.ended == "stopped"  # type: ignore[attr-defined]

    def test_a_bug_in_the_callback_is_a_bug(self) -> None:
        cable = Cable(sound(16000 * 3))
        cable.failure = ZeroDivisionError()  # type: ignore[assignment]
        with pytest.raises(ZeroDivisionError):
            self.run(cable, seconds=1.0)
        assert cable.closed == 1

    def test_interrupted_anywhere_the_device_is_closed_and_threads_are_as_before(self) -> None:
        kept = sys.getswitchinterval()
        cable = Cable(sound(16000 * 3))

        def interrupted(seconds: float) -> None:
            raise KeyboardInterrupt

        session = Inline(Plain(), Loop(rate_hz=16000, ears=1, block=HOP))
        with pytest.raises(KeyboardInterrupt):
            supervise(session, cable.open, wait=interrupted)
        assert cable.closed == 1
        assert sys.getswitchinterval() == kept


def replaying(files: Path) -> list[str]:
    """The command that repeats what ``live`` recorded, with its voice and its model."""
    named = ["--voice", str(files / "a.voice"), "--artifact", str(files / "model.etse")]
    return ["replay", str(files / "s.flac"), *named, "--json"]


class TestCommands:
    """The verbs on PortAudio's double: it plays what is asked of it as fast as it can."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> Path:
        graphs.artifact(graphs.NANO, frames=4).save(tmp_path / "model.etse")
        soundfile.write(tmp_path / "clip.wav", utterance(3, 0, 3), 16000)
        arguments = ["enroll", str(tmp_path / "clip.wav"), "-o", str(tmp_path / "a.voice")]
        assert main([*arguments, "--artifact", str(tmp_path / "model.etse")]) == 0
        return tmp_path

    def live(self, files: Path, *options: object) -> int:
        line = ["live", "--voice", files / "a.voice", "--artifact", files / "model.etse", "--margin-ms", "100", "--json", *options]
        return main([str(each) for each in line])

    def test_record_report_and_replay(self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i))
        capfd.readouterr()
        options = ["--hearing", files / "h.toml", "--record", files / "s.flac", "--report", files / "r.html"]
        (files / "h.toml").write_text("[both]\n500 = 30\n2000 = 50\n[chain]\nambient_db = -12\nown_voice_db = 0\nalarm_db = 0\n")
        assert self.live(files, "--seconds", "1.5", *options) == 0
        captured = capfd.readouterr()
        figures = json.loads(captured.out)
        assert figures["health"]["blocks"] > 50
        assert figures["health"]["failed_hops"] == 0
        assert figures["latency"]["device_ms"] == pytest.approx(12)
        assert captured.err == (
            "edge-tse: warning: no --calibration: assumed: full scale is 110 dB SPL, so levels in dB SPL are guesses\n"
        )
        page = (files / "r.html").read_text()
        assert "<svg" in page
        assert "microphone to ear" in page
        assert "http" not in page
        assert "When each hop arrived, against its margin" in page
        assert list(figures["lateness"]["sufficient_margin_ms"]) == ["99", "99.9", "100"]
        assert fake.open_instances == 0

        repeated = ["replay", str(files / "s.flac"), "--voice", str(files / "a.voice"), "--artifact", str(files / "model.etse")]
        assert main([*repeated, "--json", "-o", str(files / "o.wav"), "--report", str(files / "then.html")]) == 0
        again = json.loads(capfd.readouterr().out)
        assert again["differing_samples"] == 0
        assert again["lateness"]["sufficient_margin_ms"] == pytest.approx(figures["lateness"]["sufficient_margin_ms"], abs=0.26)
        assert "a recording keeps places in the sound and no times" in (files / "then.html").read_text()
        assert again["blocks"] == pytest.approx(figures["health"]["blocks"], abs=1)
        assert soundfile.info(files / "o.wav").channels == 2

        graphs.artifact(graphs.NANO, seed=5, frames=4).save(files / "model.etse")
        assert main(repeated) == 2
        assert "enroll again" in capfd.readouterr().err

    def test_a_trace_and_a_voice_that_is_folded_in_once(
        self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edge_tse import personalization

        folded = []
        real = personalization.personalize
        monkeypatch.setattr(personalization, "personalize", lambda *given: folded.append(given) or real(*given))
        portaudio(BOTH).drive(lambda i: sound(64, 2, seed=i))
        capfd.readouterr()
        assert self.live(files, "--seconds", "0.5", "--trace", files / "t.json", "--report", files / "r.html") == 0
        events, about = check_trace(files / "t.json")
        assert len(folded) == 1
        assert about["artifact"] == json.loads(capfd.readouterr().out)["artifact"]
        assert sum(event["name"] == "step" for event in events) == about["steps"] > 10
        assert self.live(files, "--seconds", "0.5", "--trace", files / "x", "--report", files / "x") == 2
        assert "was given for two different outputs" in capfd.readouterr().err

    def test_no_output_takes_the_place_of_an_input_or_of_the_recording(
        self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]
    ) -> None:
        portaudio(BOTH).drive(lambda i: sound(64, 2, seed=i))
        (files / "h.toml").write_text("[chain]\nambient_db = -12\n")
        for output, given in (("--report", "--hearing"), ("--trace", "--presets"), ("--report", "--calibration")):
            capfd.readouterr()
            assert self.live(files, "--seconds", "0.1", given, files / "h.toml", output, files / "h.toml") == 2
            assert "is also the input" in capfd.readouterr().err
        assert self.live(files, "--seconds", "0.1", "--record", files / "s.flac", "--report", files / "s.flac") == 2
        assert "was given for two different outputs" in capfd.readouterr().err
        assert self.live(files, "--seconds", "0.1", "--record", files / "s.flac") == 0
        repeated = ["replay", files / "s.flac", "--voice", files / "a.voice", "--artifact", files / "model.etse", "--report"]
        assert main([str(each) for each in (*repeated, files / "a.voice")]) == 2
        assert "is also the input" in capfd.readouterr().err

    def test_it_is_steered_through_its_socket_and_replayed(
        self, files: Path, portaudio: Install, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
    ) -> None:
        Artifact.shipped("nano").save(files / "model.etse")
        clips = {"a": utterance(3, 0, 3), "b": utterance(4, 0, 3)}
        for name, clip in clips.items():
            soundfile.write(files / "clip.wav", clip, 16000)
            made = ["enroll", files / "clip.wav", "-o", files / f"{name}.voice", "--artifact", files / "model.etse"]
            assert main([str(each) for each in made]) == 0
        (files / "p.toml").write_text("[quiet]\nambient_db = -20\n")
        at = tmp_path_factory.mktemp("s") / "control"
        answers: list[dict[str, object]] = []

        def steer() -> None:
            settings = [{"set": {"voice": "b"}}, {"preset": "quiet"}, {"set": {"voice": "c"}}]
            commands = [*settings, {"mark": "x"}, {"status": True}, {"end": True}]
            while not at.exists():
                time.sleep(0.01)
            with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb") as file:
                client.connect(str(at))
                for command in commands:
                    time.sleep(0.2)
                    file.write(json.dumps(command).encode() + b"\n")
                    file.flush()
                    answers.append(json.loads(file.readline()))

        portaudio(BOTH).drive(lambda i: sound(64, 2, seed=i))
        capfd.readouterr()
        program = threading.Thread(target=steer)
        program.start()
        options = ["--voice", files / "b.voice", "--presets", files / "p.toml", "--control", at, "--record", files / "s.flac"]
        assert self.live(files, "--seconds", "60", *options) == 0
        program.join()
        figures = json.loads(capfd.readouterr().out)
        assert figures["ended"] == "stopped"
        assert [answer["ok"] for answer in answers] == [True, True, False, True, True, True]
        assert answers[2]["error"] == "there is no voice 'c' in this session: a, b"
        assert answers[4]["settings"] == {
            "voice": "b",
            "talker_db": 0.0,
            "ambient_db": -20.0,
            "bypass": False,
            "mute": False,
            "audiogram": "off",
        }
        events = [event["what"] for event in figures["events"]]
        assert [what.partition(" (")[0] for what in events] == ["voice b", "ambient_db -20.0", "mark: x"]

        assert main(replaying(files)) == 2
        assert "give that voice" in capfd.readouterr().err
        assert main([*replaying(files), "--voice", str(files / "b.voice")]) == 0
        assert json.loads(capfd.readouterr().out)["differing_samples"] == 0

    @pytest.mark.parametrize("with_voice", [False, True])
    def test_a_recording_is_private_and_holds_the_voice_only_if_asked(
        self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str], with_voice: bool
    ) -> None:
        portaudio(BOTH).drive(lambda i: sound(64, 2, seed=i))
        assert self.live(files, "--seconds", "0.5", "--record", files / "s.flac", *["--with-voice"][: int(with_voice)]) == 0
        assert (files / "s.flac").stat().st_mode & 0o777 == 0o600
        assert (b"embedding" in (files / "s.flac").read_bytes()) == with_voice
        capfd.readouterr()
        code = main(["replay", str(files / "s.flac"), "--artifact", str(files / "model.etse"), "--json"])
        told = capfd.readouterr()
        if with_voice:
            assert code == 0, told.err
            assert json.loads(told.out)["differing_samples"] == 0
        else:
            assert code == 2
            assert "does not hold the voice it was made with" in told.err
            assert "give that voice with --voice" in told.err

    @pytest.mark.parametrize("hop", [32, 128])
    def test_a_model_with_another_hop(self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str], hop: int) -> None:
        frame = FrameSpec(hop=hop, window=256 if hop == 32 else 512, synthesis=2 * hop)
        graphs.artifact(replace(graphs.NANO, frame=frame), frames=4).save(files / "model.etse")
        again = ["enroll", files / "clip.wav", files / "clip.wav", "-o", files / "a.voice", "--artifact", files / "model.etse"]
        assert main([str(each) for each in again]) == 0
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(hop, 2, seed=i))
        capfd.readouterr()
        assert self.live(files, "--seconds", "0.5", "--record", files / "s.flac") == 0
        figures = json.loads(capfd.readouterr().out)
        assert figures["block"] == hop
        assert figures["latency"]["algorithmic_ms"] == pytest.approx(hop / 8)
        assert figures["health"]["failed_hops"] == 0
        assert main(replaying(files)) == 0
        assert json.loads(capfd.readouterr().out)["differing_samples"] == 0

    def test_a_board_is_recorded_and_replayed(self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        from tests.board import port

        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i))
        there = ["--engine", "device", "--target", "host", "--port", port(Artifact.load(files / "model.etse"))]
        capfd.readouterr()
        assert self.live(files, "--seconds", "0.5", "--record", files / "s.flac", *there) == 0
        figures = json.loads(capfd.readouterr().out)
        assert figures["engine"].endswith(" on host")
        assert figures["health"]["hops"] > figures["health"]["failed_hops"] == 0
        again = replaying(files)
        assert main([*again, *there]) == 0
        assert json.loads(capfd.readouterr().out)["differing_samples"] == 0
        assert main([*again, "--engine", "device"]) == 2
        assert "--engine device needs --target" in capfd.readouterr().err

    def test_faults_are_one_line_and_files_are_closed(
        self,
        files: Path,
        portaudio: Install,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The device goes away for good in the middle of a recording."""
        monkeypatch.setattr("edge_tse.live.supervision.RETURN_S", 0.5)
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i), blocks=300)
        capfd.readouterr()
        assert self.live(files, "--record", files / "s.flac") == 2
        err = capfd.readouterr().err
        assert err.splitlines()[-1].startswith("edge-tse: the sound device vanished and did not come back")
        assert "Traceback" not in err
        assert main(replaying(files)) == 0
        assert json.loads(capfd.readouterr().out)["blocks"] == 300

    def test_ctrl_c_is_a_way_to_end(self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i), at={200: lambda: signal.raise_signal(signal.SIGINT)})
        capfd.readouterr()
        before = signal.getsignal(signal.SIGINT)
        assert self.live(files, "--record", files / "s.flac") == 0
        captured = capfd.readouterr()
        assert json.loads(captured.out)["ended"] == "stopped"
        assert captured.err == ""
        assert signal.getsignal(signal.SIGINT) is before
        assert soundfile.info(files / "s.flac").frames >= 200 * 64

    @pytest.mark.parametrize(
        "where",
        [
            "edge_tse.voice.load_voice",
            "edge_tse.live.devices.devices",
            "edge_tse.cli.output.open_quietly",
            "edge_tse.live.recording.Recorder.__init__",
            "edge_tse.live.session.Session.__init__",
            "edge_tse.live.duplex.Duplex.__init__",
            "edge_tse.live.session.Session.start",
            "edge_tse.live.session.Session.stop",
            "edge_tse.live.recording.Recorder.close",
            "edge_tse.live.page.live_page",
        ],
    )
    def test_ctrl_c_at_any_time(
        self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, where: str
    ) -> None:
        """Twice, as people do: before and after each stage of a session."""
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i))
        module, _, name = where.rpartition(".")
        owner = resolve_name(module)  # which nobody may have imported yet
        real = getattr(owner, name)

        def interrupted(*arguments: object, **more: object) -> object:
            signal.raise_signal(signal.SIGINT)
            try:
                return real(*arguments, **more)
            finally:
                signal.raise_signal(signal.SIGINT)

        capfd.readouterr()
        before = signal.getsignal(signal.SIGINT)
        options = ["--seconds", "0.3", "--record", files / "s.flac", "--report", files / "r.html"]
        with monkeypatch.context() as patched:  # the replay below goes through some of these stages, too
            patched.setattr(owner, name, interrupted)
            assert self.live(files, *options) in (0, 130)
        assert capfd.readouterr().err in ("", "edge-tse: interrupted\n")
        assert signal.getsignal(signal.SIGINT) is before
        patience = time.monotonic() + 10  # on a busy machine the device is given back from beside
        while fake.open_instances and time.monotonic() < patience:
            time.sleep(0.02)
        assert fake.open_instances == 0
        assert [thread.name for thread in threading.enumerate() if "edge-tse" in thread.name] == []
        if (files / "s.flac").exists():
            assert main(replaying(files)) == 0
            assert json.loads(capfd.readouterr().out)["differing_samples"] == 0

    def test_an_engine_that_fails_is_one_line_and_the_room_is_heard(
        self, files: Path, portaudio: Install, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: object, hop: np.ndarray) -> np.ndarray:
            raise RuntimeError("the runtime lost its mind")

        monkeypatch.setattr("edge_tse.engines.Step.__call__", broken)
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i))
        capfd.readouterr()
        assert self.live(files, "--seconds", "0.5") == 0
        captured = capfd.readouterr()
        assert captured.err.count("\n") == 1
        assert "the engine failed (RuntimeError: the runtime lost its mind): the dry signal is played" in captured.err
        health = json.loads(captured.out)["health"]
        assert health["failed_hops"] == health["hops"] > 0

    def test_rates_that_change_are_one_line(
        self,
        files: Path,
        portaudio: Install,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It comes back and refuses the rate that it had."""
        monkeypatch.setattr("edge_tse.live.supervision.RETURN_S", 0.5)
        fake = portaudio(BOTH)
        fake.drive(lambda i: sound(64, 2, seed=i), blocks=100)
        fake.on_end = lambda: setattr(fake, "refuses", "Invalid sample rate")
        capfd.readouterr()
        assert self.live(files) == 2
        assert "Invalid sample rate" in capfd.readouterr().err.splitlines()[-1]

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--channels", "x"], "--channels x are not numbers"),
            (["--channels", "3"], "no input channel 3"),
            (["--input", "nobody"], "there is no input device nobody"),
            (["--margin-ms", "0.1"], "a margin of 0.1 ms"),
            (["--engine", "device"], "--engine device needs --target"),
            (["--engine", "abacus"], "there is no engine abacus"),
            (["--target", "host"], "--target is of a board, --engine is litert: give --engine device"),
            (["--port", "/dev/ttyACM0"], "--port is of a board, --engine is litert"),
            (["--audiogram", "loud"], "not an audiogram"),
            (["--hearing", "none.toml"], "cannot read none.toml"),
            (["--calibration", "none.toml"], "cannot read none.toml"),
            (["--record", "s.wav"], "ends in .flac"),
            (["--report", "no/r.html"], "there is no folder no"),
            (["--max-output", "150"], "not within 50 to 130"),
            (["--own-voice-db", "30"], "own_voice_db = 30 is not within -60 to 20"),
            (["--channels", "1", "--own-voice-db", "0"], "1 microphone: one's own voice is told by both ears"),
        ],
    )
    def test_user_errors(
        self,
        files: Path,
        portaudio: Install,
        capfd: pytest.CaptureFixture[str],
        options: list[str],
        complaint: str,
    ) -> None:
        portaudio(BOTH)
        capfd.readouterr()
        assert self.live(files, *options) == 2
        captured = capfd.readouterr()
        assert complaint in captured.err.splitlines()[-1]
        assert captured.out == ""

    def test_latency(self, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        fake = portaudio(BOTH)
        fake.drive_loopback(128)
        assert main(["latency", "--seconds", "6", "--loopback", "--json"]) == 0
        figures = json.loads(capfd.readouterr().out)
        assert figures["round_trip_ms"] == pytest.approx(128 / 16, abs=0.01)
        assert figures["spread_ms"] == pytest.approx(0, abs=0.01)
        assert figures["live"]["total_ms"] == pytest.approx(8 + 8 + 4, abs=0.1)

    def test_calibrate(self, tmp_path: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        fake = portaudio(BOTH)
        t = np.arange(64) / 16000
        tone = np.sqrt(2) * np.sin(2 * np.pi * 1000 * t)[:, None] * np.array([[0.1, 0.05]])
        fake.drive(lambda i: tone.astype(np.float32))
        path = str(tmp_path / "c.toml")
        assert main(["calibrate", path, "--microphone", "94", "--seconds", "2", "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["microphones_db_spl"] == pytest.approx([114, 120.02], abs=0.01)
        assert main(["calibrate", path, "--receiver", "80,82.5", "--json"]) == 0
        found = json.loads(capfd.readouterr().out)
        assert found["receivers_db_spl"] == [100, 102.5]
        assert found["microphones_db_spl"] == pytest.approx([114, 120.02], abs=0.01)
        for options in ([], ["--receiver", "loud"]):
            assert main(["calibrate", path, *options]) == 2
            assert capfd.readouterr().err.count("\n") == 1

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("calibrate {0}/c.toml --tone --seconds inf", "'--seconds'"),
            ("calibrate {0}/c.toml --tone --seconds 601", "'--seconds'"),
            ("latency --seconds inf", "'--seconds'"),
            ("latency --margin-ms 0.1", "a margin of 0.1 ms"),
            ("enroll --record inf -o {0}/a.voice", "recordings of at most 300 s"),
            ("enroll --record 301 -o {0}/a.voice", "recordings of at most 300 s"),
        ],
    )
    def test_a_take_that_could_not_be_used_is_not_begun(
        self, tmp_path: Path, portaudio: Install, capfd: pytest.CaptureFixture[str], line: str, complaint: str
    ) -> None:
        fake = portaudio(BOTH)
        fake.drive(lambda i: pytest.fail("it was begun"))
        assert main(line.format(tmp_path).split()) == 2
        captured = capfd.readouterr()
        assert complaint in captured.err
        assert captured.err.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_enroll_by_microphone(self, tmp_path: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        fake = portaudio(BOTH)
        speech = np.resize(utterance(3, 0, 4), (4 * 16000,))
        fake.drive(lambda i: np.repeat(np.take(speech, range(64 * i, 64 * i + 64), mode="wrap")[:, None], 2, axis=1))
        graphs.artifact(graphs.NANO, frames=4).save(tmp_path / "model.etse")
        line = ["enroll", "--record", "4", "-o", str(tmp_path / "a.voice"), "--artifact", str(tmp_path / "model.etse")]
        assert main([*line, "--json"]) == 0
        figures = json.loads(capfd.readouterr().out)
        assert figures["speech_s"] > 2
        assert set(figures["quality"]) == {"microphone"}
        assert load_voice(tmp_path / "a.voice").source == "microphone"

    def test_a_take_that_is_no_good_says_why(self, tmp_path: Path, portaudio: Install, capfd: pytest.CaptureFixture[str]) -> None:
        fake = portaudio(BOTH)
        fake.drive(lambda i: np.zeros((64, 2), np.float32))
        assert main(["enroll", "--record", "2", "-o", str(tmp_path / "a.voice")]) == 2
        err = capfd.readouterr().err.splitlines()
        assert "talk now, for 2 s" in err[0]
        assert "the recording is quiet" in err[1]
        assert "0.0 s of speech" in err[-1]
        assert main(["enroll", "-o", str(tmp_path / "a.voice")]) == 2
        assert "give clips, or --record 10" in capfd.readouterr().err
        assert list(tmp_path.iterdir()) == []
