"""Recordings of sessions: what was heard is in the file, what was played comes out again to the bit, no disk stops it."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import json
import math
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge_tse.errors import ArtifactError, AudioError
from edge_tse.frame import FrameSpec
from edge_tse.hearing.calibration import UNCALIBRATED, Calibration
from edge_tse.hearing.chain import Chain, Hearing
from edge_tse.hearing.prescription import Audiogram
from edge_tse.live.loop import Loop
from edge_tse.live.recording import Recorder, Recording, Replayed, load_recording, replay
from edge_tse.live.recording_head import Head, HeardVoice
from edge_tse.live.session import GRID, Session
from edge_tse.stream import AnyEngine
from edge_tse.voice import Voice, save_voice, voice_bytes
from tests.test_session import HOP, Faulty, Plain, engine, loop, play, sound

ROOT = Path(__file__).parent.parent
FRAME = FrameSpec()
RATE = FRAME.sample_rate_hz


def recorded(
    path: Path, heard: np.ndarray, settings: Loop, work: Callable[[int], bool], tell: Callable[[int], object], shape: object = None
) -> tuple[np.ndarray, Session]:
    """What was played, and the session."""
    said: list[str] = []
    recorder = Recorder(path, {"note": "a test"}, settings, FRAME, said.append)
    session = Session(Faulty(engine(), tell), settings, shape=shape, tap=recorder)  # type: ignore[arg-type]
    out = play(session, heard, [settings.block, 1, 2, 77], work)
    recorder.close()
    recorder.close()
    assert said == []
    return out, session


def fails(*hops: int) -> Callable[[int], object]:
    def tell(hop: int) -> None:
        if hop in hops:
            raise RuntimeError

    return tell


def replayed(recording: Recording, engine: AnyEngine, shape: Chain | None = None) -> tuple[Replayed, np.ndarray]:
    """How the replay went, and its output ``[n, ears]``."""
    played: list[np.ndarray] = []
    got = replay(recording, engine, shape, write=played.append)
    return got, np.concatenate(played, axis=1).T


class TestReplay:
    @pytest.mark.parametrize(("ears", "rate_hz"), [(1, 16000), (2, 16000), (2, 48000)])
    def test_bit_for_bit_whatever_happened(self, tmp_path: Path, ears: int, rate_hz: int) -> None:
        """Late blocks, skipped hops, failures, a hearing chain: once more, on another day."""
        rng = np.random.default_rng(ears)
        settings = loop(160, ears, steady=False, rate_hz=rate_hz, ceiling=0.2)
        audiogram = Audiogram(thresholds=((500, 30), (4000, 60)))
        hearing = Hearing(left=audiogram, right=audiogram, ambient_db=-10)
        path = tmp_path / "s.flac"
        heard = sound(rate_hz * 2, ears)
        out, session = recorded(
            path, heard, settings, lambda block: bool(rng.uniform() < 0.1), fails(30, 31, 32, 100), Chain(hearing, FRAME, ears)
        )
        health = session.health
        assert min(health.late_blocks, health.skipped_hops, health.failed_hops) > 0
        recording = load_recording(path)
        assert recording.head["note"] == "a test"
        assert recording.loop == settings
        stretches = list(recording.stretches())
        assert np.array_equal(np.concatenate([each.heard for each in stretches]), heard)
        assert np.abs(np.concatenate([each.played for each in stretches]) / GRID - out).max() <= 0.5 / GRID
        assert sum(each.block is not None for each in stretches) == recording.blocks == health.blocks
        assert recording.late == sum(each.block is not None and each.block[0] > 0 for each in stretches) > 0
        again, signal = replayed(recording, engine(), Chain(hearing, FRAME, ears))
        assert (again.differing, again.first) == (0, None)
        assert np.array_equal(signal, out)

    def test_no_session_is_too_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A limit of values would be 74 minutes of two ears at 48 kHz, and a part of a recording cannot be replayed."""
        monkeypatch.setattr("edge_tse.audio._MOST_VALUES", 1000)
        recorded(tmp_path / "s.flac", sound(8000), loop(160), lambda block: True, fails())
        assert replayed(load_recording(tmp_path / "s.flac"), engine())[0].samples == 8000

    def test_another_engine_shows(self, tmp_path: Path) -> None:
        path = tmp_path / "s.flac"
        recorded(path, sound(8000), loop(160, steady=False), lambda block: True, fails())
        again, signal = replayed(load_recording(path), Plain())
        assert again.differing > 1000
        assert again.first is not None
        assert (again.samples, signal.shape) == (8000, (8000, 1))

    def test_anything_plays_it(self, tmp_path: Path) -> None:
        path = tmp_path / "s.flac"
        heard = sound(8000, 2)
        out, _ = recorded(path, heard, loop(160, 2, steady=False), lambda block: True, fails())
        samples, rate_hz = soundfile.read(path)
        assert rate_hz == 16000
        assert samples.shape[1] == 5
        assert np.abs(samples[:8000, :2] - heard).max() < 1e-6
        assert np.abs(samples[:8000, 2:4] - out).max() < 1e-6
        assert np.abs(samples[:, 4]).max() < 0.001  # the journal is not heard

    def test_hop_numbers_wrap_and_are_found_by_where_they_stand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a file they repeat every 70 minutes; here, every 16 hops."""
        monkeypatch.setattr("edge_tse.live.journal._PAYLOAD", 16)
        path = tmp_path / "s.flac"
        out, session = recorded(path, sound(20000), loop(160, steady=False), lambda block: True, fails(40, 200))
        recording = load_recording(path)
        assert session.health.failed_hops == len([f for f in recording.fates.values() if f == 2])
        assert min(recording.fates) == 40
        assert np.array_equal(replayed(recording, engine())[1], out)


VOICE = Voice(embedding=np.array([0.6, 0.8], np.float32), encoder_digest="1" * 64, created="", source="a test")


def head(hearing: Hearing = Hearing(), calibration: Calibration = UNCALIBRATED) -> Head:  # noqa: B008  # frozen
    return Head(
        engine="reference",
        artifact="0" * 64,
        voices=(HeardVoice(name="", digest=VOICE.digest, voice=VOICE),),
        hearing=hearing,
        calibration=calibration,
    )


def written(*, with_voice: bool) -> dict[str, Any]:
    """As a file gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(head().to_json(with_voice=with_voice)))
    return found


class TestHead:
    @pytest.mark.parametrize("ambient_db", [-math.inf, -20.0])
    @pytest.mark.parametrize("with_voice", [False, True])
    def test_it_comes_back_from_the_file_as_it_was(self, tmp_path: Path, ambient_db: float, with_voice: bool) -> None:
        ear = Audiogram(thresholds=((500.0, 30.0), (4000.0, 60.0)))
        levels = Calibration(microphones_db_spl=(111.0, 112.0), receivers_db_spl=(121.0, 122.0), source="a test")
        made = head(Hearing(ambient_db=ambient_db, left=ear, right=ear), levels)
        stated = made.to_json(with_voice=with_voice)
        Recorder(tmp_path / "s.flac", stated, loop(), FRAME, lambda line: None).close()
        again = Head.from_json(load_recording(tmp_path / "s.flac").head, "s.flac")
        (own,) = again.voices
        assert (own.voice is not None) == with_voice
        assert own.voice is None or voice_bytes(own.voice) == voice_bytes(VOICE)
        assert (again.engine, again.artifact, again.hearing, again.calibration, own.digest) == (
            made.engine,
            made.artifact,
            made.hearing,
            made.calibration,
            VOICE.digest,
        )

    def test_recordings_of_before_hold_the_voice_and_no_digest(self) -> None:
        stated = written(with_voice=True)
        (own,) = stated.pop("voices")
        assert Head.from_json({**stated, "voice": own["voice"]}, "s.flac").voices[0].digest == VOICE.digest
        named = Head.from_json({**stated, "voice_digest": VOICE.digest}, "s.flac").voices[0]
        assert (named.digest, named.voice) == (VOICE.digest, None)

    def test_the_voice_is_the_one_that_it_names(self, tmp_path: Path) -> None:
        own, other = tmp_path / "a.voice", tmp_path / "b.voice"
        save_voice(VOICE, own)
        save_voice(dataclasses.replace(VOICE, source="another"), other)
        named = Head.from_json(written(with_voice=False), "s.flac")
        assert named.resolve_voices([own], "s.flac")[""].digest == VOICE.digest
        with pytest.raises(ArtifactError, match=rf"made with voice {VOICE.digest[:12]}, .*b.voice is [0-9a-f]{{12}}: give that"):
            named.resolve_voices([other], "s.flac")
        with pytest.raises(ArtifactError, match=rf"only its digest {VOICE.digest[:12]}: give that voice with --voice"):
            named.resolve_voices([], "s.flac")
        assert Head.from_json(written(with_voice=True), "s.flac").resolve_voices([], "s.flac")[""].digest == VOICE.digest


def _kept_by_blocks(path: Path) -> tuple[int, int]:
    """Bytes that a recorder's blocks keep, and those that 2,000 more keep."""
    recorder = Recorder(path, {}, loop(HOP, 2), FRAME, lambda line: None)
    recorder._done.set()  # the writer is not measured
    recorder._thread.join()
    recorder._taken = 2**60
    heard = sound(HOP, 2)

    def run(n: int) -> None:
        for _ in range(n):
            recorder.block(heard, heard, 3, 0)

    def kept() -> int:
        """Bytes alive that were allocated below a line of the recorder, in whichever thread."""
        own = tracemalloc.Filter(True, inspect.getfile(Recorder), all_frames=True)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)

    run(500)
    gc.collect()
    tracemalloc.start(16)
    run(100)
    before = kept()
    run(2000)
    return before, kept()


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "content", "complaint"),
        [
            ("s.wav", None, "no recorded session"),
            ("s.flac", b"x", "not a readable sound file"),
            ("none.flac", None, "there is no such file"),
        ],
    )
    def test_what_is_no_session(self, tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        elif name == "s.wav":
            soundfile.write(path, np.zeros(100), 16000)
        with pytest.raises(AudioError, match=complaint):
            load_recording(path)

    def test_a_later_schema(self, tmp_path: Path) -> None:
        path = tmp_path / "s.flac"
        with soundfile.SoundFile(path, "w", 16000, 3, "PCM_24") as file:
            head = {"edge_tse_recording": 99, "loop": {"rate_hz": 16000, "ears": 1, "block": 64}, "hop_rate_hz": 250}
            file.comment = json.dumps(head)
            file.write(np.zeros((10, 3)))
        with pytest.raises(ArtifactError, match="schema 99"):
            load_recording(path)

    def test_a_name_or_place_that_cannot_be(self, tmp_path: Path) -> None:
        for path, complaint in ((tmp_path / "s.wav", "ends in .flac"), (tmp_path / "no" / "s.flac", "no folder")):
            with pytest.raises(AudioError, match=complaint):
                Recorder(path, {}, loop(), FRAME, lambda line: None)

    def test_blocks_of_one_sample_hold_no_changes(self, tmp_path: Path) -> None:
        """Every sample would say that a block begins, and none what was changed."""
        with pytest.raises(AudioError, match="blocks of 1 sample leave a recording no room for what it tells: choose at least 2"):
            Recorder(tmp_path / "s.flac", {}, Loop(rate_hz=RATE, ears=1, block=1), FRAME, lambda line: None)

    def test_a_full_disk_ends_the_recording_and_nothing_else(self, tmp_path: Path) -> None:
        """A process whose files may have 3 MB: the session plays to its end, the file is whole, and what it holds replays."""
        program = (
            "import resource, signal, sys\n"
            "from pathlib import Path\n"
            "import numpy as np\n"
            "from edge_tse.live.recording import Recorder\n"
            "from edge_tse.live.session import Session\n"
            "from tests.test_session import Plain, loop\n"
            "from tests.test_recording import FRAME\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3_500_000, 3_500_000))\n"
            "settings = loop(160, 2)\n"
            "recorder = Recorder(Path(sys.argv[1]), {}, settings, FRAME, print)\n"
            "session = Session(Plain(), settings, tap=recorder)\n"
            "rng = np.random.default_rng(0)\n"
            "out = np.zeros((160, 2), np.float32)\n"
            "import time\n"
            "for i in range(6000):\n"
            "    session.exchange(rng.uniform(-1, 1, (160, 2)).astype(np.float32), out)\n"
            "    session.work()\n"
            "    time.sleep(0.02 if i % 100 == 0 else 0)\n"
            "recorder.close()\n"
            "assert session.health.flawless\n"
        )
        path = tmp_path / "s.flac"
        command = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.count("\n") == 1
        assert "no space (File too large); the sound goes on" in done.stdout
        recording = load_recording(path)
        assert 10_000 < recording.samples < 960_000
        assert soundfile.info(path).frames >= recording.samples
        assert replay(recording, Plain()).differing == 0

    def test_what_a_killed_process_leaves_is_replayed(self, tmp_path: Path) -> None:
        """A file that nobody closed does not state its length, and ends within a block."""
        path, left = tmp_path / "s.flac", tmp_path / "left.flac"
        settings = loop(160, 2, steady=False)
        recorder = Recorder(path, {}, settings, FRAME, lambda line: None)
        session = Session(Faulty(engine(), fails(30, 31)), settings, tap=recorder)
        heard = sound(48000, 2)
        out = play(session, heard, [160, 1, 2, 77], lambda block: True)
        while recorder.seconds < 3:
            time.sleep(0.01)
        left.write_bytes(path.read_bytes())
        recorder.close()
        recording = load_recording(left)
        n = recording.samples
        assert 30000 < n < 48000
        assert np.array_equal(np.concatenate([each.heard for each in recording.stretches()]), heard[:n])
        again, signal = replayed(recording, engine())
        assert again.differing == 0
        assert np.array_equal(signal, out[:n])

    def test_a_session_that_ended_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "s.flac"
        Recorder(path, {}, loop(), FRAME, lambda line: None).close()
        recording = load_recording(path)
        assert (recording.samples, recording.blocks, list(recording.stretches())) == (0, 0, [])
        assert replay(recording, Plain()).differing == 0

    def test_a_slow_disk_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        said: list[str] = []
        monkeypatch.setattr(Recorder, "_drain", lambda self: None)
        recorder = Recorder(tmp_path / "s.flac", {}, loop(), FRAME, said.append)
        block = np.zeros((HOP, 1), np.float32)
        for _ in range(2000):
            recorder.block(block, block, 0, 0)
        recorder.close()
        assert "the disk is too slow; the sound goes on" in said[0]

    def test_it_costs_the_callback_no_memory(self, tmp_path: Path) -> None:
        # In a process of its own: caches that other tests left, or what their threads take, are some bytes too.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            before, after = apart.submit(_kept_by_blocks, tmp_path / "s.flac").result()
        assert after <= before
