"""The real-time loop under a device and a clock of our own: what comes out, when it is late, and what it costs."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.errors import AudioError
from edge_tse.extraction import extract_signal
from edge_tse.frame import FrameSpec
from edge_tse.hearing.chain import Chain, Hearing
from edge_tse.live.loop import Fate, Loop
from edge_tse.live.resampling import Resampler
from edge_tse.live.session import GRID, Session
from tests import graphs

RATE = 16000
HOP = 64


@cache
def nano() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=4)


def engine() -> Engine:
    return Engine(nano(), open_network(nano(), "reference"))


class Plain:
    """An engine that delays by what a real one does, times ``gain``; it can be told to fail and takes ``tell`` at each step."""

    def __init__(self, gain: float = 0.25, tell: Callable[[int], object] = lambda hop: None) -> None:
        self.frame = FrameSpec()
        self.gain, self.tell = np.float32(gain), tell
        self.hops = self.starts = 0

    def start(self, ears: int) -> Callable[[np.ndarray], np.ndarray]:
        self.starts += 1
        before = [np.zeros((ears, self.frame.delay), np.float32)]

        def step(hop: np.ndarray) -> np.ndarray:
            self.hops += 1
            answer = self.tell(self.hops - 1)
            out = before[0] * self.gain if answer is None else answer
            before[0] = hop.copy()
            return out

        return step


def sound(n: int, ears: int = 1, seed: int = 0) -> np.ndarray:
    """``[n, ears]`` that a converter of 24 bits could have made: noise through a low-pass, so that a click stands out of it."""
    white = np.random.default_rng(seed).normal(0, 1, (n + 40, ears))
    smooth = np.stack([np.convolve(c, np.hanning(41), "valid") for c in white.T], axis=1)
    return (np.rint(0.3 * smooth / np.abs(smooth).max() * GRID) / GRID).astype(np.float32)


def play(session: Session, heard: np.ndarray, sizes: object = None, work: Callable[[int], bool] = lambda block: True) -> np.ndarray:
    """A device: blocks of ``sizes`` in turn, the engine working after each block for which ``work`` says so."""
    out = np.full_like(heard, np.nan)
    at = block = 0
    sizes = sizes or [session.loop.block]
    while at < len(heard):
        n = min(sizes[block % len(sizes)], len(heard) - at)
        session.exchange(heard[at : at + n], out[at : at + n])
        if work(block):
            session.work()
        at, block = at + n, block + 1
    return out


def loop(block: int = HOP, ears: int = 1, **changes: object) -> Loop:
    return Loop(**({"rate_hz": RATE, "ears": ears, "block": block} | changes))


def shifted(heard: np.ndarray, by: int) -> np.ndarray:
    return np.concatenate([np.zeros((by, heard.shape[1]), np.float32), heard])[: len(heard)]


class TestSameAsTheFile:
    @settings(max_examples=15, deadline=None)
    @given(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=8), ears=st.integers(1, 2), margin=st.integers(1, 200))
    def test_any_blocks_give_the_file_path_sample_for_sample(self, sizes: list[int], ears: int, margin: int) -> None:
        heard = sound(6000, ears)
        session = Session(engine(), loop(max(sizes), ears, steady=False, margin_s=0.001 + margin / RATE))
        out = play(session, heard, sizes)
        wanted = extract_signal(np.ascontiguousarray(heard.T), RATE, engine()).signal.T
        by = session.latency_samples
        assert session.health.flawless
        assert np.array_equal(out[by:], wanted[: max(0, len(out) - by)])
        assert not out[: by - HOP].any()  # the first window begins one hop before the sound

    @pytest.mark.parametrize("geometry", [(32, 256), (128, 512)])
    @pytest.mark.parametrize("block", [None, 100])
    def test_other_hops(self, geometry: tuple[int, int], block: int | None) -> None:
        """A model of another geometry, at its own hop and at blocks that are not hops; with the chain that shapes what is heard."""
        hop, window = geometry
        frame = FrameSpec(hop=hop, window=window, synthesis=2 * hop)
        other = graphs.artifact(replace(graphs.NANO, frame=frame), frames=4)

        def opened() -> Engine:
            return Engine(other, open_network(other, "reference"))

        heard = sound(4000, 2)
        wanted = extract_signal(np.ascontiguousarray(heard.T), RATE, opened()).signal.T
        session = Session(opened(), loop(block or hop, 2, margin_s=0.001))
        by = session.latency_samples
        out = play(session, heard)
        assert session.health.flawless
        assert np.array_equal(out[by:], wanted[: len(out) - by])
        assert session.latency.algorithmic_s == 2 * hop / RATE
        if block is None:
            assert by == 2 * hop + 16
        shaped = Session(opened(), loop(block or hop, 2, margin_s=0.001), shape=Chain(Hearing(talker_db=-6), frame, 2))
        assert np.abs(play(shaped, heard) - np.float32(10 ** (-6 / 20)) * out).max() < 1e-6

    @pytest.mark.parametrize("block", [1, 16, 48, 64, 65, 100, 128, 160, 256, 1024])
    def test_steady_blocks_need_no_more_than_stated(self, block: int) -> None:
        heard = sound(8 * 1024 + 4000)
        session = Session(Plain(), loop(block, margin_s=0.001))
        out = play(session, heard)
        assert session.health.flawless
        assert np.array_equal(out, shifted(heard, session.latency_samples) * np.float32(0.25))

    def test_it_waits_no_longer_than_it_must(self) -> None:
        """Algorithmic 128, a block to turn around that is also the hop, a margin of 16: less would be late every time."""
        assert Session(Plain(), loop(margin_s=0.001)).latency_samples == 128 + 16

    @pytest.mark.parametrize("rate_hz", [8000, 44100, 48000, 96000])
    @pytest.mark.parametrize("block", [37, 480])
    def test_other_rates_arrive_at_the_stated_latency(self, rate_hz: int, block: int) -> None:
        t = np.arange(rate_hz) / rate_hz
        heard = (np.hanning(rate_hz) * np.sum([np.sin(2 * np.pi * f * t + f) for f in range(200, 3000, 191)], 0))[:, None] / 40
        session = Session(Plain(1.0), loop(block, rate_hz=rate_hz))
        out = play(session, heard.astype(np.float32))
        assert session.health.flawless
        error = out - shifted(heard, session.latency_samples)
        # 44.1 kHz: the 4 ms of the engine are 176.4 samples, so 0.4 of a sample is left over.
        assert np.sqrt(np.mean(error**2)) < (0.1 if rate_hz == 44100 else 2e-3) * np.sqrt(np.mean(heard**2))

    def test_the_parts_of_the_latency_are_its_sum(self) -> None:
        for rate_hz, block in ((16000, 64), (16000, 160), (44100, 256), (48000, 480)):
            session = Session(Plain(), loop(block, rate_hz=rate_hz))
            latency = session.latency
            assert latency.total_s == pytest.approx(session.latency_samples / rate_hz)
            assert min(latency.turnaround_s, latency.margin_s, latency.algorithmic_s) >= 0
            assert (latency.resampling_s == 0) == (rate_hz == 16000)
            assert sum(v for k, v in latency.figures().items() if k != "total_ms") == pytest.approx(latency.figures()["total_ms"])


class TestLate:
    def test_late_hops_are_dry_and_nothing_clicks(self) -> None:
        """The engine sleeps through some blocks. The weight of the talker moves by 1/fade a sample at most."""
        heard = sound(20000) + np.float32(0.5)
        heard = (np.rint(heard * GRID) / GRID).astype(np.float32)
        session = Session(Plain(), loop(backlog=10_000))
        rng = np.random.default_rng(1)
        awake = rng.uniform(size=1000) < 0.25
        out = play(session, heard, work=lambda block: bool(awake[block]))
        by = session.latency_samples
        dry = shifted(heard, by)
        weight = ((dry - out)[by + 1 :] / (0.75 * dry[by + 1 :]))[:, 0]
        assert weight.min() > -1e-5
        assert weight.max() < 1 + 1e-5
        assert weight.min() < 0.01
        assert weight.max() > 0.99
        assert np.abs(np.diff(weight)).max() <= 1 / 16 + 1e-4
        health = session.health
        assert health.late_blocks > 10
        assert health.dry_samples >= np.count_nonzero(weight < 0.999)
        assert health.failed_hops == health.skipped_hops == 0

    def test_never_working_is_the_dry_signal(self) -> None:
        heard = sound(5000)
        session = Session(Plain(), loop())
        out = play(session, heard, work=lambda block: False)
        assert np.array_equal(out, shifted(heard, session.latency_samples))

    def test_far_behind_hops_are_skipped_until_it_has_caught_up(self) -> None:
        heard = sound(30000)
        plain = Plain()
        session = Session(plain, loop())
        out = play(session, heard, work=lambda block: not 50 <= block < 100)
        health = session.health
        assert health.skipped_hops == 51 - 1 - (session.loop.backlog + 1)  # one is in hand, and one may always wait
        assert health.settling_hops == 1
        assert plain.hops == health.hops - health.skipped_hops
        tail = slice(110 * HOP + session.latency_samples, None)
        assert np.array_equal(out[tail], (shifted(heard, session.latency_samples) * np.float32(0.25))[tail])
        assert np.abs(np.diff(out[:, 0])).max() < 2.1 * np.abs(np.diff(heard[:, 0])).max()

    def test_an_engine_that_hangs_for_seconds_comes_back_in_step(self) -> None:
        for rate_hz in (16000, 48000):
            heard = sound(8 * rate_hz, 2)
            session = Session(Plain(), loop(rate_hz // 100, 2, rate_hz=rate_hz))
            out = play(session, heard, work=lambda block: not 100 <= block < 700)
            assert session.health.lost_samples > 0
            assert "hung" in session.events[-1].what
            if rate_hz == RATE:
                tail = slice(-4000, None)
                assert np.array_equal(out[tail], (shifted(heard, session.latency_samples) * np.float32(0.25))[tail])
            assert np.abs(np.diff(out, axis=0)).max() < 2.1 * np.abs(np.diff(heard, axis=0)).max()


class TestFailures:
    @pytest.mark.parametrize("how", ["raises", "nan", "shape"])
    def test_an_engine_that_fails_is_dry_counted_and_started_again(self, how: str) -> None:
        def tell(hop: int) -> object:
            if hop != 50:
                return None
            if how == "raises":
                raise RuntimeError("board\nunplugged")
            return np.full((1, HOP), np.nan) if how == "nan" else np.zeros((2, 3), np.float32)

        heard = sound(15000)
        plain = Plain(tell=tell)
        session = Session(plain, loop())
        out = play(session, heard)
        health = session.health
        assert (health.failed_hops, health.settling_hops, health.late_blocks) == (3, 1, 0)
        assert plain.starts == 2
        (event,) = session.events
        assert event.what.startswith("the engine failed (")
        assert "\n" not in event.what
        by = session.latency_samples
        dry = shifted(heard, by)
        gap = slice(by + 51 * HOP, by + 53 * HOP)  # past the hop that blends
        assert np.array_equal(out[gap], dry[gap])
        far = slice(by + 56 * HOP, None)
        assert np.array_equal(out[far], dry[far] * np.float32(0.25))
        step = np.abs(np.diff(heard[:, 0])).max()
        assert np.abs(np.diff(out[:, 0])).max() < step + 0.3 / HOP

    def test_one_line_for_a_thousand_failures_and_rarer_attempts(self) -> None:
        def tell(hop: int) -> object:
            raise OSError(hop)

        plain = Plain(tell=tell)
        session = Session(plain, loop())
        heard = sound(1000 * HOP)
        out = play(session, heard)
        assert len(session.events) == 1
        assert session.health.failed_hops == 1000
        assert plain.hops < 15
        assert np.array_equal(out, shifted(heard, session.latency_samples))

    def test_what_a_broken_device_sends_is_silence(self) -> None:
        heard = sound(3000)
        heard[100:200], heard[300], heard[400], heard[500:600] = np.nan, np.inf, -np.inf, 1e30
        out = play(Session(engine(), loop()), heard)
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1

    def test_flags_are_counted(self) -> None:
        session = Session(Plain(), loop())
        block = np.zeros((HOP, 1), np.float32)
        for flags in (0, 1, 2, 3, 1):
            session.exchange(block, block.copy(), flags)
        assert (session.health.input_overruns, session.health.output_underruns) == (3, 2)
        assert not session.health.flawless

    def test_a_margin_must_hold_the_fade(self) -> None:
        with pytest.raises(AudioError, match=r"a margin of 0\.5 ms cannot hold a fade of 1 ms"):
            loop(margin_s=0.0005)


class TestShape:
    def test_it_gets_the_talker_and_the_same_moment_dry(self) -> None:
        heard = sound(3000)
        session = Session(Plain(), loop(), shape=lambda talker, dry: talker - np.float32(0.25) * dry)
        assert not play(session, heard).any()

    def test_nothing_passes_the_ceiling_dry_or_not(self) -> None:
        for awake in (True, False):
            session = Session(Plain(4.0), loop(ceiling=0.125))
            assert np.abs(play(session, sound(5000), work=lambda block, awake=awake: awake)).max() == 0.125


class TestCost:
    def test_the_callback_keeps_no_memory_over_10_000_hops(self) -> None:
        """Blocks on time, late and flawed: not one byte stays. Counters have grown past Python's own small numbers."""
        session = Session(Plain(), loop(HOP, 2), clock=lambda: 0.0)
        heard, out = sound(HOP, 2), np.zeros((HOP, 2), np.float32)

        def run(hops: int) -> None:
            for i in range(hops):
                session.exchange(heard, out, i & 1)

        run(1000)
        gc.collect()
        gc.freeze()
        gc.disable()
        tracemalloc.start()
        try:
            run(100)
            stretches = []
            for _ in range(4):
                first = tracemalloc.get_traced_memory()[0]
                second = tracemalloc.get_traced_memory()[0]  # higher by the object that holds the first
                run(10_000)
                third = tracemalloc.get_traced_memory()[0]
                stretches.append((third - second) - (second - first))
        finally:
            tracemalloc.stop()
            gc.enable()
            gc.unfreeze()
        # What a hop keeps shows in every stretch; what a thread of the test runner sets aside, in one.
        assert min(stretches, key=abs) == 0, stretches

    def test_engine_and_callback_together_keep_none(self) -> None:
        session = Session(engine(), loop(HOP, 2))
        heard, out = sound(HOP, 2), np.zeros((HOP, 2), np.float32)

        def run(hops: int) -> None:
            for _ in range(hops):
                session.exchange(heard, out)
                session.work()

        run(400)
        grown = []
        tracemalloc.start()
        try:
            for _ in range(4):
                run(50)
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
                run(500)
                gc.collect()
                grown.append(tracemalloc.get_traced_memory()[0] - before)
        finally:
            tracemalloc.stop()
        # Less than a byte a hop. What the interpreter sets aside once shows in one stretch, what every hop keeps in all of them.
        assert min(grown) < 500

    def test_the_callback_waits_for_nobody(self) -> None:
        """The engine's thread is stuck in a step, for as long as the test likes: blocks pass."""
        stuck, seen = threading.Event(), threading.Event()

        def tell(hop: int) -> None:
            seen.set()
            stuck.wait(20)

        session = Session(Plain(tell=tell), loop())
        session.start()
        heard = sound(200 * HOP)
        try:
            out = play(session, heard, work=lambda block: False)
            assert seen.wait(20)
            out = np.concatenate([out, play(session, heard, work=lambda block: False)])
        finally:
            stuck.set()
            session.stop()
        assert np.array_equal(out, shifted(np.concatenate([heard, heard]), session.latency_samples))

    def test_times_come_from_the_clock(self) -> None:
        now = [0.0]

        def tell(hop: int) -> None:
            now[0] += 0.005 if hop == 7 else 0.001

        session = Session(Plain(tell=tell), loop(), clock=lambda: now[0])
        assert session.timing is None
        play(session, sound(100 * HOP))
        timing = session.timing
        assert timing is not None
        assert timing.misses == 1
        assert timing.percentile_s(50) == pytest.approx(0.001)
        assert session.health.longest_exchange_s == 0


class TestThread:
    def test_a_thread_gives_what_turns_give(self) -> None:
        heard = sound(300 * HOP, 2)
        session = Session(engine(), loop(HOP, 2, margin_s=0.5, backlog=1000))
        session.start()
        out = np.zeros_like(heard)
        try:
            for at in range(0, len(heard), HOP):
                session.exchange(heard[at : at + HOP], out[at : at + HOP])
                waited = time.monotonic()
                while session.health.hops < at // HOP - 100 and time.monotonic() - waited < 20:
                    time.sleep(0.001)
        finally:
            session.stop()
        assert session.health.flawless
        assert np.array_equal(out, play(Session(engine(), loop(HOP, 2, margin_s=0.5, backlog=1000)), heard))

    def test_a_core_or_a_priority_that_is_not_to_be_had_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*arguments: object) -> None:
            raise PermissionError(1, "no")

        monkeypatch.setattr("os.sched_setscheduler", refuse, raising=False)
        monkeypatch.setattr("os.sched_setaffinity", refuse, raising=False)
        session = Session(Plain(), loop())
        session.start(core=3, realtime=True)
        session.stop()
        assert ["core 3" in session.events[0].what, "no real-time priority" in session.events[1].what] == [True, True]


class TestReplay:
    def test_fates_and_shortages_give_the_same_output_again(self) -> None:
        """What timing did to one session, told to another."""
        told: list[tuple[str, int, int]] = []

        class Tap:
            def block(self, heard: np.ndarray, played: np.ndarray, shortage: int, flags: int) -> None:
                told.append(("block", len(heard), shortage))

            def hop(self, index: int, fate: Fate) -> None:
                told.append(("hop", index, fate))

        def failing(hop: int) -> object:
            if hop in (20, 90):
                raise RuntimeError
            return None

        heard, real = sound(20000), engine()
        session = Session(Faulty(real, failing), loop(100, steady=False), tap=Tap())
        rng = np.random.default_rng(2)
        out = play(session, heard, [100, 3, 77], lambda block: bool(rng.uniform() < 0.2))
        assert session.health.skipped_hops
        assert session.health.late_blocks

        again = Session(engine(), loop(100, steady=False), fates={i: Fate(f) for kind, i, f in told if kind == "hop"})
        repeated, at = np.zeros_like(out), 0
        for kind, n, shortage in told:
            if kind == "block":
                again.exchange(heard[at : at + n], repeated[at : at + n], available=16 - shortage)
                again.work()
                at += n
        assert np.array_equal(repeated, out)


class Faulty:
    """A real engine that fails when told to."""

    def __init__(self, engine: Engine, tell: Callable[[int], object]) -> None:
        self.engine, self.tell, self.hops = engine, tell, 0

    @property
    def frame(self) -> FrameSpec:
        return self.engine.frame

    def start(self, ears: int) -> Callable[[np.ndarray], np.ndarray]:
        step = self.engine.start(ears)

        def run(hop: np.ndarray) -> np.ndarray:
            self.hops += 1
            self.tell(self.hops - 1)
            return step(hop)

        return run


class TestBoard:
    """A board behind a link is an engine like any other, until it is unplugged."""

    def test_it_extracts_live_and_is_dry_once_it_is_gone(self) -> None:
        from firmware_bridge.device import Device, DeviceEngine
        from tests.board import board

        artifact = graphs.artifact(graphs.Sizes(24, 40, (1, 2, 4), 16, 24, (1, 2), graphs.SMALL_FRAME))
        hop = artifact.frame.hop
        heard = sound(600 * hop)
        link = board(artifact)
        with closing(Device(link, timeout_s=0.5)) as device:
            wanted = extract_signal(np.ascontiguousarray(heard.T), RATE, DeviceEngine(device, artifact)).signal.T
            settings = Loop(rate_hz=RATE, ears=1, block=hop, margin_s=0.002)
            session = Session(DeviceEngine(device, artifact), settings)
            by = session.latency_samples
            first = play(session, heard[: 300 * hop])
            assert session.health.flawless
            assert np.array_equal(first[by:], wanted[: len(first) - by])
            link._process.kill()  # type: ignore[attr-defined]
            link._process.wait()  # type: ignore[attr-defined]
            out = np.concatenate([first, play(session, heard[300 * hop :])])
        assert np.array_equal(out[-100 * hop :], shifted(heard, by)[-100 * hop :])
        assert session.health.failed_hops > 250
        (event,) = [event.what for event in session.events if "failed" in event.what]
        assert event.startswith("the engine failed (LinkError")


class TestResampler:
    @pytest.mark.parametrize(("source", "to"), [(48000, 16000), (16000, 48000), (44100, 16000), (16000, 44100), (8000, 16000)])
    def test_prompt_aligned_and_clean_however_it_is_cut(self, source: int, to: int) -> None:
        t, u = np.arange(source) / source, np.arange(to) / to
        rng = np.random.default_rng(0)
        resampler, whole = Resampler(source, to, 1), Resampler(source, to, 1)
        signal = np.sin(2 * np.pi * 1000 * t)[:, None].astype(np.float32)
        outs, at, late = [], 0, 0.0
        while at < source:
            n = int(rng.integers(1, 400))
            outs.append(resampler.push(signal[at : at + n]))
            at = min(at + n, source)
            late = max(late, at / source - sum(map(len, outs)) / to)
        out = np.concatenate(outs)
        assert np.array_equal(out, whole.push(signal))
        assert late <= resampler.delay_s < 0.0022
        assert np.abs(out[200:, 0] - np.sin(2 * np.pi * 1000 * u)[200 : len(out)]).max() < 10 ** (-70 / 20)

    def test_what_the_lower_rate_cannot_hold_is_gone(self) -> None:
        t = np.arange(48000) / 48000
        out = Resampler(48000, 16000, 1).push(np.sin(2 * np.pi * 10000 * t)[:, None].astype(np.float32))
        assert np.abs(out[200:]).max() < 10 ** (-55 / 20)
