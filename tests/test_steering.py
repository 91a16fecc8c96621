"""Steering a session while it runs: voices, levels, bypass, marks, recordings; by programs, a socket, and keys; and in a replay."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edge_tse.artifact import Artifact
from edge_tse.cli.panel import Panel, drawn
from edge_tse.engines import Engine, open_network
from edge_tse.errors import AudioError, EngineError
from edge_tse.frame import FrameSpec
from edge_tse.hearing.calibration import UNCALIBRATED
from edge_tse.hearing.chain import Chain, Hearing
from edge_tse.hearing.prescription import parse_audiogram
from edge_tse.live.console import COMMANDS, Console
from edge_tse.live.recording import Recorder, Recording, load_recording, replay
from edge_tse.live.recording_head import Head, HeardVoice
from edge_tse.live.running import steering
from edge_tse.live.session import Session
from edge_tse.live.socket import MOST_BYTES, serve
from edge_tse.live.steering import Change, Settings, Steering, load_presets
from edge_tse.personalization import with_voices
from edge_tse.voice import Voice
from tests.test_session import HOP, Plain, loop, play, sound

FRAME = FrameSpec()
SCHEMA = Path(__file__).parent.parent / "docs" / "control.schema.json"


def change(**settings: object) -> Change:
    return Change.from_json(settings, "test")


def steered(hearing: Hearing = Hearing(), ears: int = 1, **given: object) -> Session:  # noqa: B008  # frozen
    """A session of a plain engine with a hearing chain that can be steered."""
    chain = Chain(hearing, FRAME, ears)
    head = Head(
        engine="", artifact="", voices=(HeardVoice(name="", digest="0", voice=None),), hearing=hearing, calibration=UNCALIBRATED
    )
    plain = Plain()
    return Session(plain, loop(ears=ears), shape=chain, steering=steering(head, {}, plain, chain), **given)  # type: ignore[arg-type]


def played(session: Session, heard: np.ndarray, at: Mapping[int, Callable[[], object]]) -> np.ndarray:
    """A device of blocks of one hop, with something done before each block named."""
    out = np.zeros_like(heard)
    for block in range(len(heard) // HOP):
        if block in at:
            at[block]()
        part = slice(block * HOP, (block + 1) * HOP)
        session.exchange(heard[part], out[part])
        session.work()
    return out


class TestMix:
    def test_a_level_changes_by_what_was_asked_and_without_a_click(self) -> None:
        heard = sound(HOP * 600)
        still = played(steered(), heard, {})
        session = steered()
        moved = played(session, heard, {300: lambda: session.change(change(talker_db=-12))})
        before, after = slice(0, 290 * HOP), slice(320 * HOP, None)
        assert np.array_equal(moved[before], still[before])
        np.testing.assert_allclose(moved[after], still[after] * 10 ** (-12 / 20), atol=2e-7)
        assert np.abs(np.diff(moved[:, 0])).max() <= np.abs(np.diff(still[:, 0])).max() * 1.01
        assert session.steering.settings.talker_db == -12
        assert session.events[-1].what.startswith("talker_db -12.0 (")

    def test_the_room_comes_and_goes(self) -> None:
        heard = sound(HOP * 400)
        session = steered()
        steps = {100: lambda: session.change(change(ambient_db=-6)), 250: lambda: session.change(change(ambient_db="off"))}
        out, still = played(session, heard, steps), played(steered(), heard, {})
        louder = slice(130 * HOP, 250 * HOP)
        # the engine plays a quarter of what it hears: with half the room that is three quarters
        np.testing.assert_allclose(out[louder], still[louder] * (1 + 4 * 10 ** (-6 / 20)), atol=1e-6)
        np.testing.assert_array_equal(out[280 * HOP :], still[280 * HOP :])

    def test_bypass_is_the_room_as_loud_as_the_mix_was(self) -> None:
        heard = sound(HOP * 1200)
        session = steered()
        out = played(session, heard, {1000: lambda: session.change(change(bypass=True))})
        mix, room = out[700 * HOP : 990 * HOP], out[1030 * HOP :]
        assert 10 * math.log10(np.square(room).mean() / np.square(mix).mean()) == pytest.approx(0, abs=0.3)
        louder = np.concatenate([np.zeros((session.latency_samples, 1), np.float32), heard])[1030 * HOP : len(heard)]
        assert np.corrcoef(room[:, 0], louder[:, 0])[0, 1] > 0.9999

    def test_mute_is_silence_also_where_an_alarm_would_open_the_room(self) -> None:
        session = steered(Hearing(alarm_db=0.0))
        n = np.arange(HOP * 1000)
        tone = (0.3 * np.sin(2 * np.pi * 3100 * n / 16000)).astype(np.float32)[:, None]
        out = played(session, tone, {900: lambda: session.change(change(mute=True))})
        assert np.abs(out[850 * HOP : 890 * HOP]).max() > 0.25, "the alarm was let in"
        assert not out[930 * HOP :].any()

    def test_nothing_else_is_known(self) -> None:
        for told, why in (
            ({"ambient": 3}, "there is no setting 'ambient': nearest is 'ambient_db'"),
            ({"ambient_db": 40}, "ambient_db = 40 is not within -60 to 20"),
            ({"ambient_db": "loud"}, "ambient_db is 'loud', a number of decibels is due"),
            ({"talker_db": "off"}, "talker_db is 'off', a number"),
            ({"bypass": 1}, "bypass is 1, true or false is due"),
            ({"audiogram": 3}, "audiogram is 3, a text is due"),
            ({"audiogram": "500"}, "test: '500' is not an audiogram"),
            ({"audiogram": "500:300"}, "test: a threshold of 300 dB HL at 500 Hz cannot be"),
            ({"audiogram": "500:30," * 100}, "an audiogram of 700 characters: give one of at most 500"),
            ({"mark": ""}, "a mark is a text of 1 to 200 characters"),
            ({"mark": "here", "mute": True}, "comes alone"),
            ({"mark": "here \ud83d"}, r"a mark is 'here \\ud83d', which holds a half of a character"),
        ):
            with pytest.raises(AudioError, match=why):
                Change.from_json(told, "test")  # type: ignore[arg-type]


class TestAudiogram:
    LOSS = "500:30,1000:40,2000:50,4000:60 / 500:40,2000:60"

    def wearer(self, text: str, *, compression: bool = False) -> Hearing:
        left, right = parse_audiogram(text)
        return Hearing(left=left, right=right, compression=compression)

    def test_another_loss_is_made_up_for_as_if_it_had_been_from_the_start(self) -> None:
        heard = 0.02 * sound(HOP * 400, 2)
        session = steered(self.wearer("500:20,4000:30"), 2)
        out = played(session, heard, {200: lambda: session.change(change(audiogram=self.LOSS))})
        before = played(steered(self.wearer("500:20,4000:30"), 2), heard, {})
        after = played(steered(self.wearer(self.LOSS), 2), heard, {})
        assert np.array_equal(out[: 200 * HOP], before[: 200 * HOP])
        np.testing.assert_allclose(out[210 * HOP :], after[210 * HOP :], atol=1e-6)
        assert np.abs(after[210 * HOP :] - before[210 * HOP :]).max() > 1e-3, "the two losses are told apart"

    def test_from_none_to_one_and_back_without_a_click(self) -> None:
        heard = 0.02 * sound(HOP * 600, 2)
        session = steered(ears=2)
        steps = {200: lambda: session.change(change(audiogram=self.LOSS)), 400: lambda: session.change(change(audiogram="off"))}
        out, still = played(session, heard, steps), played(steered(ears=2), heard, {})
        louder = played(steered(self.wearer(self.LOSS, compression=True), 2), heard, {})
        assert np.array_equal(out[: 200 * HOP], still[: 200 * HOP])
        assert np.array_equal(out[410 * HOP :], still[410 * HOP :])
        assert np.square(out[300 * HOP : 390 * HOP]).mean() > 4 * np.square(still[300 * HOP : 390 * HOP]).mean()
        steepest = np.abs(np.diff(louder, axis=0)).max()
        assert np.abs(np.diff(out, axis=0)).max() <= steepest * 1.01
        assert session.steering.settings.to_json()["audiogram"] == "off"

    def test_what_a_session_began_with_is_a_setting(self) -> None:
        assert Settings.of(self.wearer("1000:40,500:30")).to_json()["audiogram"] == "500:30,1000:40"
        assert Settings.of(self.wearer(self.LOSS)).audiogram == self.LOSS
        assert Settings.of(Hearing()).to_json()["audiogram"] == "off"
        assert change(audiogram="1000:40, 500:30 ").settings["audiogram"] == "500:30,1000:40"


@pytest.fixture(scope="module")
def voices() -> dict[str, Voice]:
    rng, model = np.random.default_rng(5), Artifact.shipped("nano").voice_model
    made = {}
    for name in ("alice", "bob"):
        unit = rng.normal(size=128).astype(np.float32)
        made[name] = Voice(embedding=unit / np.linalg.norm(unit), encoder_digest=model.encoder_digest, created="", source="a test")
    return made


class TestVoices:
    """Two voices on the shipped nano in its universal form."""

    def head(self, voices: Mapping[str, Voice]) -> Head:
        model = with_voices(Artifact.shipped("nano"), list(voices.values()))
        heard = tuple(HeardVoice(name=name, digest=voice.digest, voice=voice) for name, voice in voices.items())
        return Head(
            engine="reference", artifact=model.digest, voices=heard, hearing=Hearing(ambient_db=-20.0), calibration=UNCALIBRATED
        )

    def session(self, head: Head, voices: Mapping[str, Voice], tap: Recorder | None = None) -> Session:
        engine = self.engine(voices)
        chain = Chain(head.hearing, engine.frame, 2)
        return Session(engine, loop(ears=2), shape=chain, tap=tap, steering=steering(head, voices, engine, chain))

    def engine(self, voices: Mapping[str, Voice]) -> Engine:
        model = with_voices(Artifact.shipped("nano"), list(voices.values()))
        return Engine(model, open_network(model, "litert"))

    def test_a_switch_is_one_voice_and_then_the_other_with_the_past_kept(self, voices: dict[str, Voice]) -> None:
        heard, at, head = sound(HOP * 200, 2, seed=3), 100, self.head(voices)
        session = self.session(head, voices)
        out = played(session, heard, {at: lambda: session.change(change(voice="bob"))})
        first, second = (played(self.session(self.head(v), v), heard, {}) for v in (voices, dict(reversed(voices.items()))))
        start = at * HOP + session.latency_samples - FRAME.delay - HOP
        assert np.array_equal(out[:start], first[:start])
        tail = slice(start + 40 * HOP, None)
        assert not np.array_equal(out[tail], first[tail])
        assert np.abs(out[tail] - second[tail]).mean() < np.abs(first[tail] - second[tail]).mean()
        # it goes on where it was: no step between two samples is larger than the two voices themselves make
        assert np.abs(np.diff(out, axis=0)).max() <= 1.2 * max(np.abs(np.diff(x, axis=0)).max() for x in (first, second))

    def test_a_switch_takes_less_than_a_hop(self, voices: dict[str, Voice]) -> None:
        head = self.head(voices)
        session = self.session(head, voices)
        heard = sound(HOP * 40, 2)
        names = ["bob", "alice"] * 15
        played(session, heard, {5 + i: lambda name=name: session.change(change(voice=name)) for i, name in enumerate(names)})  # type: ignore[misc]
        took_ms = [float(event.what.partition("(")[2].partition(" ms")[0]) for event in session.events]
        assert len(took_ms) == 30
        assert np.median(took_ms) < 1, "bytes are copied, nothing is built"

    def test_one_that_is_not_there_is_refused_with_those_that_are(self, voices: dict[str, Voice]) -> None:
        with pytest.raises(AudioError, match="there is no voice 'carol' in this session: alice, bob"):
            self.session(self.head(voices), voices).change(change(voice="carol"))
        with pytest.raises(AudioError, match="only the one that it began with: start it with more than one --voice"):
            steered().change(change(voice="carol"))

    def test_an_engine_that_keeps_its_voice_takes_only_one(self, voices: dict[str, Voice]) -> None:
        with pytest.raises(EngineError, match="keeps one voice while it runs, 2 were given"):
            steering(self.head(voices), voices, Plain(), Chain(Hearing(), FRAME, 2))  # type: ignore[arg-type]

    def test_everything_again_in_a_replay(self, voices: dict[str, Voice], tmp_path: Path) -> None:
        head = self.head(voices)
        recorder = Recorder(tmp_path / "s.flac", head.to_json(), loop(ears=2), FRAME, lambda line: None)
        session = self.session(head, voices, recorder)
        steps = {
            20: change(voice="bob"),
            40: change(ambient_db="off", talker_db=-3),
            60: change(bypass=True),
            80: change(bypass=False, voice="alice"),
            100: change(mark="here ü"),
            120: change(mute=True),
            140: change(mute=False),
            150: change(audiogram="500:30,4000:60 / 500:20"),
            155: change(audiogram="500:40"),  # while the one before is still coming
            175: change(audiogram="off"),
        }
        played(session, sound(HOP * 200, 2), {block: lambda made=made: session.change(made) for block, made in steps.items()})  # type: ignore[misc]
        recorder.close()
        recording = load_recording(tmp_path / "s.flac")
        assert [one for found in recording.changes.values() for one in found] == list(steps.values())
        assert self.again(recording, voices).differing == 0
        # a replay that makes no change is another output: the test can fail
        del recording.changes[min(recording.changes)]  # type: ignore[attr-defined]
        assert self.again(recording, voices).differing > 0

    def again(self, recording: Recording, voices: Mapping[str, Voice]):
        head, engine = Head.from_json(recording.head, "s.flac"), self.engine(voices)
        chain = Chain(head.hearing, engine.frame, 2)
        return replay(recording, engine, chain, steering=steering(head, voices, engine, chain))


class TestConsole:
    def test_every_answer_is_as_the_schema_says(self, tmp_path: Path) -> None:
        schema = json.loads(SCHEMA.read_text())
        session = steered()
        console = Console(session, presets={"quiet": change(ambient_db=-12)}, record=self.recorder(session))
        played(session, sound(HOP * 30), {})
        commands = [
            {"status": True},
            {"set": {"ambient_db": -12, "bypass": True}},
            {"set": {"audiogram": "500:30,4000:60 / 500:20"}},
            {"preset": "quiet"},
            {"mark": "here"},
            {"record": str(tmp_path / "s.flac")},
            {"record": None},
            {"end": True},
        ]
        assert {next(iter(command)) for command in commands} == set(COMMANDS)
        for command in commands:
            jsonschema.validate(command, schema["$defs"]["command"] | {"$defs": schema["$defs"]})
            answer = console.do(command)
            assert answer["ok"], answer
            jsonschema.validate(json.loads(json.dumps(answer)), schema["$defs"]["answer"] | {"$defs": schema["$defs"]})
        assert console.ended.is_set()

    def recorder(self, session: Session) -> Callable[[Path, int], Recorder]:
        return lambda path, hop: Recorder(path, {"from_hop": hop}, session.loop, FRAME, lambda line: None)

    @pytest.mark.parametrize(
        ("command", "error"),
        [
            ({}, "a command is one of set, preset, mark, record, status, end, not {}"),
            ({"stats": True}, "nearest is 'status'"),
            ({"set": 3}, "set takes settings"),
            ({"set": {"ambient_db": 50}}, "not within -60 to 20"),
            ({"set": {"talker_db": 10**400}}, "not within -60 to 20"),
            ({"preset": "loud"}, "there is no preset 'loud': quiet"),
            ({"preset": ["quiet"]}, "there is no preset ['quiet']: quiet"),
            ({"record": "a\0.flac"}, "cannot be written: embedded null byte"),
            ({"record": None}, "nothing is being recorded"),
            ({"record": "s.wav"}, "ends in .flac"),
            ({"record": 3}, "record takes a path"),
        ],
    )
    def test_a_wrong_command_is_answered_and_changes_nothing(self, command: dict[str, object], error: str) -> None:
        session = steered()
        console = Console(session, presets={"quiet": change(ambient_db=-12)}, record=self.recorder(session))
        answer = console.do(command)
        assert answer["ok"] is False
        assert error in str(answer["error"])
        played(session, sound(HOP * 3), {})
        assert session.steering.settings == Settings()

    def test_levels_and_reserve_are_those_of_the_sound(self) -> None:
        session = steered(ears=2)
        console = Console(session)
        heard = sound(HOP * 100, 2)
        heard[:, 1] *= 0.1
        played(session, heard, {})
        status = console.status()
        left, right = status["levels_db"]["heard"]  # type: ignore[index]
        assert left == pytest.approx(10 * math.log10(np.square(heard[-1600:, 0]).mean()), abs=0.1)
        assert left - right == pytest.approx(20, abs=1)
        # half a margin less what one block takes is not there: the engine works at once
        assert status["reserve_ms"] == pytest.approx(session.loop.margin_s * 1e3 - session.loop.fade_s * 1e3, abs=4.1)
        assert console.status()["seconds"] == pytest.approx(0.4)

    def test_a_recording_from_the_middle_is_heard_and_not_replayed(self, tmp_path: Path) -> None:
        session = steered()
        console = Console(session, record=self.recorder(session))
        path = tmp_path / "part.flac"
        steps = {50: lambda: console.do({"record": str(path)}), 80: lambda: console.do({"record": None})}
        heard = sound(HOP * 100)
        out = played(session, heard, steps)
        part = load_recording(path)
        stretches = list(part.stretches())
        np.testing.assert_array_equal(np.concatenate([s.heard for s in stretches]), heard[50 * HOP : 80 * HOP])
        assert np.abs(np.concatenate([s.played for s in stretches]) / 2**23 - out[50 * HOP : 80 * HOP]).max() < 1e-6
        with pytest.raises(AudioError, match="begins at hop 50 of its session, a replay needs one from hop 0"):
            replay(part, Plain())  # type: ignore[arg-type]


class TestSocket:
    @pytest.fixture
    def path(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("s") / "control"

    def ask(self, path: Path, *lines: bytes) -> list[dict[str, object]]:
        with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb") as file:
            client.settimeout(10)
            client.connect(str(path))
            answers = []
            for line in lines:
                file.write(line)
                file.flush()
                answers.append(json.loads(file.readline()))
            return answers

    def test_programs_steer_and_what_is_wrong_is_answered(self, path: Path) -> None:
        session = steered()
        with serve(path, Console(session)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            lines = [
                b'{"set": {"talker_db": -6}}\n',
                b"nonsense\n",
                b"[1]\n",
                b'{"set": {"talker_db": NaN}}\n',
                b'{"status": true}\n',
            ]
            first, *wrong, last = self.ask(path, *lines)
            assert first == {"ok": True, "change": {"talker_db": -6.0}}
            assert not any(answer["ok"] for answer in wrong)
            assert last["ok"] is True
            (long,) = self.ask(path, b"x" * MOST_BYTES)
            assert "more than 65536 bytes" in str(long["error"])
            played(session, sound(HOP * 3), {})
            assert session.steering.settings.talker_db == -6
        assert not path.exists()

    def test_several_programs_at_once(self, path: Path) -> None:
        session = steered()
        with serve(path, Console(session)):
            found: list[bool] = []
            threads = [
                threading.Thread(target=lambda: found.extend(bool(a["ok"]) for a in self.ask(path, *[b'{"status": true}\n'] * 20)))
                for _ in range(5)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=30)
        assert found == [True] * 100

    def test_a_path_that_is_taken(self, path: Path) -> None:
        console = Console(steered())
        with serve(path, console), pytest.raises(AudioError, match="another session answers on"), serve(path, console):
            pass
        path.write_text("mine")
        with pytest.raises(AudioError, match="exists and is no socket"), serve(path, console):
            pass
        assert path.read_text() == "mine"
        with pytest.raises(AudioError, match="cannot be a socket"), serve(path.parent / "no" / "control", console):
            pass

    def test_what_a_killed_session_left_is_in_nobodys_way(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with serve(path, Console(steered())):
            assert self.ask(path, b'{"status": true}\n')[0]["ok"]


class TestPresets:
    def test_names_and_their_settings(self, tmp_path: Path) -> None:
        path = tmp_path / "p.toml"
        path.write_text('[quiet]\nambient_db = -12\n[dry]\nambient_db = "off"\nbypass = false\n')
        assert load_presets(path) == {"quiet": change(ambient_db=-12), "dry": change(ambient_db="off", bypass=False)}

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "has no presets"),
            ("ambient_db = 3", "ambient_db' is no table of settings"),
            ("[a]\nambient = 3", r"\[a\]: there is no setting 'ambient': nearest is 'ambient_db'"),
            ("[a]\nmark = 'x'", "a mark is no setting"),
            ("[a", "this is not TOML"),
        ],
    )
    def test_anything_else_is_one_line(self, tmp_path: Path, text: str, error: str) -> None:
        path = tmp_path / "p.toml"
        path.write_text(text)
        with pytest.raises(AudioError, match=error):
            load_presets(path)


class TestKeys:
    @pytest.mark.parametrize(
        ("keys", "settings"),
        [
            ("+", {"ambient_db": -30.0}),
            ("++-", {"ambient_db": -30.0}),
            ("+-" + "-" * 10, {"ambient_db": "off"}),
            ("]]", {"talker_db": 6.0}),
            ("[", {"talker_db": -3.0}),
            ("b", {"bypass": True}),
            ("bb", {"bypass": False}),
            ("m", {"mute": True}),
            ("p", {"talker_db": 3.0}),
            ("2", {"voice": "bob"}),
            ("9x0²", {"voice": "alice"}),
        ],
    )
    def test_each_steers(self, keys: str, settings: dict[str, object]) -> None:
        switched: list[str] = []
        names = {name: lambda name=name: switched.append(name) for name in ("alice", "bob")}  # type: ignore[misc]
        session = Session(Plain(), loop(), steering=Steering(Settings(voice="alice"), names))  # type: ignore[arg-type]
        console = Console(session, presets={"loud": change(talker_db=3)})
        panel = Panel(as_json=False)
        with panel.of(console):
            for i, key in enumerate(keys):
                panel._press(key)
                played(session, sound(HOP * 2, seed=i), {})
        assert session.steering.settings.to_json() | settings == session.steering.settings.to_json()

    def test_the_end(self) -> None:
        console = Console(steered())
        panel = Panel(as_json=False)
        with panel.of(console):
            panel._press("q")
        assert console.ended.is_set()

    def test_a_long_session_goes_on_telling(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A session keeps its last thousand events."""
        session, panel = steered(), Panel(as_json=False)
        for i in range(1500):
            session.note(f"event {i}")
            if i % 7 == 0:
                panel(session)
        panel(session)
        assert capsys.readouterr().err.splitlines() == [f"edge-tse: event {i}" for i in range(1500)]

    def test_an_arrow_is_not_the_letters_that_it_comes_as(self, monkeypatch: pytest.MonkeyPatch) -> None:
        master, slave = os.openpty()
        with os.fdopen(slave, "r") as terminal, os.fdopen(os.dup(slave), "w") as screen, os.fdopen(master, "w") as keyboard:
            monkeypatch.setattr("sys.stdin", terminal)
            monkeypatch.setattr("sys.stderr", screen)
            session = steered()
            panel = Panel(as_json=False)
            with panel.of(Console(session)):
                for typed, talker_db in (("\x1b[A", 0.0), ("x", 0.0), ("]", 3.0)):
                    keyboard.write(typed)
                    keyboard.flush()
                    time.sleep(0.05)
                    panel(session)
                    played(session, sound(HOP * 2), {})
                    assert session.steering.settings.talker_db == talker_db

    def test_a_panel_says_what_a_refusal_said(self) -> None:
        from rich.console import Console as Terminal

        terminal = Terminal(width=120, record=True, file=io.StringIO())
        status = Console(steered(ears=2)).status()
        terminal.print(drawn(status, "there is no preset"))
        text = terminal.export_text()
        assert "there is no preset" in text
        assert text.count("-100 dB  -100 dB") == 2
        assert "room off" in text


def test_the_callback_keeps_no_memory_and_waits_for_nobody_while_it_is_steered() -> None:
    """The device's thread never meets a change: it runs while another thread holds the console's lock and floods the queue."""
    session = steered(ears=2)
    console = Console(session)
    heard, out = sound(HOP * 50, 2), np.zeros((HOP * 50, 2), np.float32)
    play(session, heard)
    with console._lock:
        for number in range(1000):
            session.change(change(talker_db=-float(number % 20)))
        for block in range(50):
            part = slice(block * HOP, (block + 1) * HOP)
            session.exchange(heard[part], out[part])
        assert session.steering.settings == Settings()
    session.work()
    assert session.steering.settings.talker_db == -19.0
