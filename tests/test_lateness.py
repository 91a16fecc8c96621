"""When hops arrived against the margin, why blocks were late, and which margin would have done: with a clock of our own."""

from __future__ import annotations

import gc
import json
import re
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from edge_tse.frame import FrameSpec
from edge_tse.live.arrivals import Arrivals, Garbage, Requests
from edge_tse.live.journal import BlockCode
from edge_tse.live.lateness import UNEXPLAINED, Lateness, recorded_lateness, session_lateness
from edge_tse.live.loop import DEVICE, ENGINE, Loop
from edge_tse.live.page import live_page
from edge_tse.live.recording import Recorder, load_recording
from edge_tse.live.session import Session
from edge_tse.live.steering import Change, Settings, Steering
from edge_tse.report import environment
from tests.test_session import HOP, RATE, Plain, loop, play, sound

PERIOD_S = HOP / RATE


class Rig:
    """A device that asks for a block every 4 ms of its own clock, and an engine that takes as long as it is told."""

    def __init__(self, settings: Loop, tap: Recorder | None = None, mix: Callable[[], object] = lambda: None) -> None:
        self.now = self.cpu = 100.0
        self.steps: dict[int, tuple[float, float]] = {}
        """Seconds of the clock and of the processor that a hop takes; a millisecond each if it is not named."""
        self.session = Session(
            Plain(tell=self._step),
            settings,
            tap=tap,
            clock=lambda: self.now,
            cpu_clock=lambda: self.cpu,
            steering=Steering(Settings(), mix=lambda settings: mix()),
        )
        self.due, self.blocks, self.left, self.flags = self.now, 0, 0, 0

    def _step(self, hop: int) -> None:
        wall, cpu = self.steps.get(hop, (0.001, 0.001))
        self.cpu += cpu
        self.spend(wall)

    def spend(self, seconds: float) -> None:
        """Let time pass in the engine's thread: meanwhile the device goes on."""
        end = self.now + seconds
        while self.due <= end and self.left:
            self.now = self.due
            self._exchange()
        self.now = end

    def run(self, blocks: int, at: Callable[[int], object] = lambda block: None, flags: int = 0) -> None:
        self.left, self.at, self.flags = blocks, at, flags
        while self.left:
            self.now = self.due
            self._exchange()
            self.session.work()

    def _exchange(self) -> None:
        n = self.session.loop.block
        self.at(self.blocks)
        self.session.exchange(np.zeros((n, 1), np.float32), np.zeros((n, 1), np.float32), self.flags)
        self.flags, self.left, self.blocks = 0, self.left - 1, self.blocks + 1
        self.due += PERIOD_S

    def lateness(self) -> Lateness:
        return session_lateness(self.session, 100.0)


class TestSufficientMargin:
    def test_a_session_that_was_on_time_needs_the_fade_alone(self) -> None:
        rig = Rig(loop())
        rig.run(500)
        told = rig.lateness()
        assert told.late_blocks == 0
        assert told.sufficient_ms == {"99": 1.0, "99.9": 1.0, "100": 1.0}
        assert np.allclose(told.late_ms, -3.0)
        assert told.causes == {}

    @pytest.mark.parametrize("block", [16, 64, 100, 160])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_with_it_nothing_is_late_and_with_less_something_is(self, block: int, seed: int) -> None:
        """The figure against the thing itself: the same engine, awake at the same blocks, with another margin."""

        def run(margin_s: float) -> Session:
            rng = np.random.default_rng(seed)
            session = Session(Plain(), loop(block, margin_s=margin_s, backlog=10_000))
            play(session, sound(16_000), work=lambda block: bool(rng.uniform() < 0.5))
            return session

        enough_ms = session_lateness(run(0.004), 0.0).sufficient_ms["100"]
        assert enough_ms > 4
        assert run(enough_ms / 1e3).health.late_blocks == 0
        assert run(enough_ms / 1e3 - 2 / RATE).health.late_blocks > 0

    def test_shares_of_hops(self) -> None:
        """One hop in 200 is two blocks late: 99 % need the fade, all of them two blocks more."""
        rig = Rig(loop())
        rig.steps = dict.fromkeys(range(100, 2000, 200), (0.0095, 0.0095))
        rig.run(2000)
        told = rig.lateness()
        assert told.sufficient_ms["99"] < told.sufficient_ms["100"] == pytest.approx(1 + 8)
        assert told.late_blocks > 0


class TestCauses:
    def late(self, rig: Rig) -> list[tuple[str, str]]:
        return [(each.cause, each.detail) for each in rig.lateness().late]

    def test_computing(self) -> None:
        rig = Rig(loop())
        rig.steps[200] = (0.006, 0.006)
        rig.run(400)
        ((cause, detail),) = self.late(rig)
        assert cause == "computing"
        assert "6.00 ms of the processor" in detail

    def test_scheduling(self) -> None:
        rig = Rig(loop())
        rig.steps[200] = (0.006, 0.001)
        rig.run(400)
        ((cause, detail),) = self.late(rig)
        assert cause == "scheduling"
        assert "did not run for 5.0 of 6.0 ms" in detail

    def test_a_change_that_took_long_and_one_that_did_not(self) -> None:
        for took_s, wanted in ((0.005, "change"), (0.0, "scheduling")):
            rig = Rig(loop(), mix=lambda took_s=took_s: rig.spend(took_s))  # noqa: B023
            rig.steps[200] = (0.006, 0.001) if not took_s else (0.001, 0.001)
            rig.run(400, at=lambda block: block == 200 and rig.session.change(Change(settings={"talker_db": -3.0})))  # noqa: B023
            ((cause, detail),) = self.late(rig)
            assert cause == wanted
            assert ("talker_db" in detail) is (wanted == "change")

    def test_garbage(self) -> None:
        def collect() -> None:
            rig.session.garbage("start", {})
            rig.spend(0.005)
            rig.session.garbage("stop", {})

        rig = Rig(loop(), mix=collect)
        rig.run(400, at=lambda block: block == 200 and rig.session.change(Change(settings={"mute": True})))
        causes = dict(self.late(rig))
        # Collected within a change: the event's own time explains it no less.
        assert list(causes) == ["garbage collection"]
        assert "5.0 ms" in causes["garbage collection"]

    def test_the_device_and_the_engine(self) -> None:
        for kind, what in ((DEVICE, "the device is back"), (ENGINE, "the engine hung")):
            rig = Rig(loop())
            rig.steps[200] = (0.006, 0.001)
            rig.run(400, at=lambda block: block == 200 and rig.session.note(what, kind))  # noqa: B023
            assert self.late(rig) == [(kind, what)]

    def test_an_xrun(self) -> None:
        rig = Rig(loop())
        rig.run(200)
        rig.steps[200] = (0.006, 0.001)
        rig.run(200, flags=Session.INPUT_OVERRUN)
        assert self.late(rig)[0][0] == "xrun"

    def test_a_burst(self) -> None:
        """Three blocks at once, as a driver gives them that was kept waiting: the engine had no time at all."""
        session = Session(Plain(), loop(), clock=lambda: now[0], cpu_clock=lambda: 0.0)
        now = [0.0]
        heard, out = sound(HOP), np.zeros((HOP, 1), np.float32)
        for block in range(300):
            now[0] += 0.00001 if block in (201, 202) else 0.012 if block == 203 else PERIOD_S
            session.exchange(heard, out)
            if block not in (200, 201):
                session.work()
        told = session_lateness(session, 0.0)
        assert list(told.causes) == ["burst"]
        assert "kept waiting" in told.late[0].detail

    def test_what_nothing_explains_is_said_to_be(self) -> None:
        """A hop that never came, in a session whose logs hold nothing."""
        session = Session(Plain(), loop(), clock=lambda: 0.0, cpu_clock=lambda: 0.0)
        play(session, sound(HOP * 50), work=lambda block: block < 40)
        told = session_lateness(session, 0.0)
        assert set(told.causes) == {UNEXPLAINED}


class TestRecording:
    def recorded(self, folder: Path, rig_steps: dict[int, tuple[float, float]], **changed: object) -> tuple[Rig, Path]:
        settings, path = loop(**changed), folder / "s.flac"
        recorder = Recorder(path, {}, settings, FrameSpec(), lambda line: None)
        rig = Rig(settings, tap=recorder)
        rig.steps = rig_steps
        rig.run(600, at=lambda block: block == 300 and rig.session.change(Change(settings={"mute": True})))
        recorder.close()
        return rig, path

    def test_it_tells_the_same_margins_and_says_what_it_cannot(self, tmp_path: Path) -> None:
        rig, path = self.recorded(tmp_path, {100: (0.007, 0.007), 300: (0.011, 0.001)})
        then, now = rig.lateness(), recorded_lateness(load_recording(path))
        assert now.sufficient_ms == pytest.approx(then.sufficient_ms)
        assert (now.blocks, now.late_blocks) == (then.blocks, then.late_blocks)
        assert [each.worst_ms for each in now.late] == [each.worst_ms for each in then.late]
        assert [each.cause for each in now.late] == [UNEXPLAINED, "change"]
        assert "mute" in now.late[1].detail
        assert "keeps places in the sound and no times" in now.unknown
        assert now.late_ms.max() == pytest.approx(max(each.worst_ms for each in then.late))
        assert (then.figures()["timed"], now.figures()["timed"]) == (True, False)
        assert "places in the sound" in now.rows()["not known"]

    def test_an_earlier_one_says_that_it_tells_less(self, tmp_path: Path) -> None:
        _, path = self.recorded(tmp_path, {})
        earlier = load_recording(path)
        earlier = replace(earlier, tells_reserves=False)
        assert "earlier edge-tse" in recorded_lateness(earlier).unknown

    @pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 48000])
    @pytest.mark.parametrize("margin_s", [0.001, 0.004, 0.04])
    def test_blocks_are_written_exactly_where_late_and_in_quarters_of_a_millisecond_where_early(
        self, rate_hz: int, margin_s: float
    ) -> None:
        settings = Loop(rate_hz=rate_hz, ears=1, block=HOP, margin_s=margin_s)
        code = BlockCode(settings)
        for shortage in (*range(-2000, 2000, 7), -(2**40), 2**17 - 1):
            told = code.read(code.word(shortage, shortage & 3))
            assert told is not None
            assert told[1] == shortage & 3
            assert told[0] == shortage if shortage > 0 else shortage <= told[0] <= min(0, max(shortage, -(2**16)) + rate_hz // 4000)
        assert code.word(-settings.calm, 0) < 64  # what is usual is not heard
        assert BlockCode(settings, reserves=False).read(1 + 8 * 4 * 5) == (5, 0)


def _kept_by_notes() -> int:
    """Bytes that 2,000 notes leave, the least of four times."""
    requests, garbage = Requests(64), Garbage()

    def run() -> None:
        for i in range(1000, 3000):
            requests.add(float(i), i, -i, 0)
            garbage("start", {})
            garbage("stop", {})

    run()
    tracemalloc.start()
    grown = []
    for _ in range(4):
        before = tracemalloc.get_traced_memory()[0]
        run()
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    return min(grown)


class TestLogs:
    def test_the_last_rows_are_kept_in_order(self) -> None:
        requests, arrivals = Requests(8), Arrivals(8)
        for i in range(20):
            requests.add(float(i), i, -i, i & 3)
            arrivals.add(float(i), i, 0.5, 0.25)
        asked, arrived = requests.read(), arrivals.read()
        assert asked.end.tolist() == arrived.start.tolist() == list(range(12, 20))
        assert asked.shortage.tolist() == [-i for i in range(12, 20)]

    def test_what_the_device_s_thread_notes_keeps_no_memory(self) -> None:
        # In a process of its own: what threads of other tests take meanwhile is some bytes, too.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            assert apart.submit(_kept_by_notes).result() <= 64

    def test_collections_are_watched_until_the_end_of_a_session(self) -> None:
        now = iter(range(1000))
        garbage = Garbage(lambda: float(next(now)))
        with garbage.watched():
            assert garbage in gc.callbacks
            gc.collect()
        assert garbage not in gc.callbacks
        assert len(garbage.spans) >= 1
        assert (garbage.spans[:, 1] > garbage.spans[:, 0]).all()


class TestPage:
    def test_it_answers_the_question(self) -> None:
        rig = Rig(loop())
        rig.steps[200] = (0.006, 0.001)
        rig.run(400)
        told = rig.lateness()
        page = live_page("A <session>", {"t": told.rows()}, told, environment(), timing=rig.session.timing, began_s=100.0)
        assert "A &lt;session&gt;" in page
        for wanted in (
            "margin for all of them",
            "Late blocks, and why",
            "scheduling",
            "due, with a margin of 4 ms",
            'class="deadline"',
        ):
            assert wanted in page
        for match in re.finditer(r'<text x="([-\d.]+)" y="([-\d.]+)"', page):
            assert 0 <= float(match[1]) <= 860
            assert 0 <= float(match[2]) <= 250

    def test_figures_are_json(self) -> None:
        rig = Rig(loop())
        rig.steps[200] = (0.006, 0.001)
        rig.run(400)
        figures = json.loads(json.dumps(rig.lateness().figures()))
        assert figures["late"][0]["cause"] == "scheduling"
        assert figures["late_events"] == 1
        assert figures["late_ms"]["p50"] == pytest.approx(-3.0)
        assert figures["late_ms"]["max"] == pytest.approx(2.0)

    def test_a_session_in_which_nothing_came(self) -> None:
        session = Session(Plain(), loop())
        told = session_lateness(session, 0.0)
        page = live_page("nothing", {"t": told.rows()}, told, environment())
        assert "No hop came" in page
        assert told.figures()["late"] == []
