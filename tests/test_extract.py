"""Extraction from files is the live stream, aligned: nothing moves, nothing depends on how the sound was cut, nothing grows."""

from __future__ import annotations

import gc
import tracemalloc
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.errors import AudioError
from edge_tse.extraction import Extractor, extract_signal
from edge_tse.frame import FrameSpec
from edge_tse.report import Timing, memory
from tests import graphs


class Neutral:
    """A network whose gain is exactly 1: mask 0.5 plus velocity 0.5 (scales 1/256 and 1/128)."""

    name = "neutral"

    def __init__(self, bands: int, mask: int = 0, velocity: int = 64) -> None:
        self.outputs = np.full(bands, mask, np.int8), np.full(bands, velocity, np.int8)

    def reset(self) -> None: ...

    def run(self, features: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.outputs


@cache
def nano() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=4)


def neutral(mask: int = 0, velocity: int = 64) -> Engine:
    return Engine(nano(), Neutral(nano().frame.bands, mask, velocity))


def random_engine(name: str = "reference") -> Engine:
    if name == "litert":
        pytest.importorskip("ai_edge_litert")
    return Engine(nano(), open_network(nano(), name))


def noise(n: int, ears: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (ears, n)).astype(np.float32)


def speech_band(rate_hz: int) -> np.ndarray:
    """One second of tones that exist at 8 kHz too, faded in and out."""
    t = np.arange(rate_hz) / rate_hz
    rng = np.random.default_rng(1)
    tones = [np.sin(2 * np.pi * (f * t + rng.uniform())) for f in rng.uniform(100, 3200, 20)]
    return (np.hanning(rate_hz) * np.sum(tones, axis=0) * 0.02)[None].astype(np.float32)


class Silent:
    """An engine whose steps tell no gain, as a board's."""

    frame = FrameSpec()

    def start(self, ears: int) -> Silent:
        return self

    def __call__(self, hop: np.ndarray) -> np.ndarray:
        return hop

    def reset(self) -> None: ...


class TestAlignment:
    @pytest.mark.parametrize("ears", [1, 2])
    @pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 127, 128, 129, 1000, 16000])
    def test_sample_for_sample(self, ears: int, n: int) -> None:
        mixture = noise(n, ears)
        got = extract_signal(mixture, 16000, neutral())
        assert got.signal.shape == mixture.shape
        assert np.abs(got.signal - mixture).max() < 1e-5

    @pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 48000, 96000])
    @pytest.mark.parametrize("n", [1, 7, 999, 22051])
    def test_any_rate_and_length(self, rate_hz: int, n: int) -> None:
        assert extract_signal(noise(n), rate_hz, neutral()).signal.shape == (1, n)

    @pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
    def test_other_rates_are_aligned(self, rate_hz: int) -> None:
        """Speech band content survives the way to 16 kHz and back within -60 dB, which a shift of a tenth of a sample would not."""
        mixture = speech_band(rate_hz)
        error = extract_signal(mixture, rate_hz, neutral()).signal - mixture
        assert np.sqrt(np.mean(error**2)) < 1e-3 * np.sqrt(np.mean(mixture**2))

    @pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
    def test_no_trim_keeps_the_algorithmic_latency(self, rate_hz: int) -> None:
        mixture = speech_band(rate_hz)
        kept = extract_signal(mixture, rate_hz, neutral(), trim=False).signal
        latency = nano().frame.algorithmic_latency_s * rate_hz
        assert latency == int(latency)
        assert kept.shape[1] == mixture.shape[1] + int(latency)
        error = kept[:, int(latency) :] - mixture
        assert np.sqrt(np.mean(error**2)) < 1e-3 * np.sqrt(np.mean(mixture**2))
        assert np.abs(kept[:, : int(latency)]).max() < 1e-5


class TestStreaming:
    @settings(max_examples=25, deadline=None)
    @given(cuts=st.lists(st.integers(0, 1500), max_size=12), ears=st.integers(1, 2))
    def test_chunks_do_not_matter(self, cuts: list[int], ears: int) -> None:
        signal = noise(1500, ears)
        whole = Extractor(random_engine(), ears)
        wanted = np.concatenate([whole.push(signal), whole.flush()], axis=1)
        cut = Extractor(random_engine(), ears)
        edges = [0, *sorted(cuts), 1500]
        pieces = [cut.push(signal[:, a:b]) for a, b in pairwise(edges)]
        assert np.array_equal(np.concatenate([*pieces, cut.flush()], axis=1), wanted)

    def test_file_is_the_stream_without_its_delay(self) -> None:
        signal = noise(5000, 2)
        live = Extractor(random_engine(), 2)
        stream = np.concatenate([live.push(signal), live.flush()], axis=1)
        delay = nano().frame.delay
        assert np.array_equal(extract_signal(signal, 16000, random_engine()).signal, stream[:, delay : delay + 5000])

    def test_flush_starts_afresh(self) -> None:
        live = Extractor(random_engine(), 1)
        first = np.concatenate([live.push(noise(777)), live.flush()], axis=1)
        again = np.concatenate([live.push(noise(777)), live.flush()], axis=1)
        assert np.array_equal(first, again)

    def test_an_engine_extracts_twice_alike(self) -> None:
        engine = random_engine()
        first = extract_signal(noise(3000), 16000, engine).signal
        extract_signal(noise(3000, 2, seed=5), 16000, engine)
        assert np.array_equal(extract_signal(noise(3000), 16000, engine).signal, first)

    def test_engines_agree_bit_for_bit(self) -> None:
        signal = noise(16000, 2)
        assert np.array_equal(
            extract_signal(signal, 16000, random_engine("litert")).signal, extract_signal(signal, 16000, random_engine()).signal
        )

    def test_the_network_is_heard(self) -> None:
        """Half the gain, half the signal; and a random network changes the signal."""
        signal = noise(2000)
        assert np.abs(extract_signal(signal, 16000, neutral(mask=0, velocity=0)).signal - signal / 2).max() < 1e-5
        assert np.abs(extract_signal(signal, 16000, random_engine()).signal - signal).max() > 0.01


class TestTwoEars:
    def test_same_channels_out_with_one_gain(self) -> None:
        left = noise(8000)
        got = extract_signal(np.concatenate([left, left * 0.25]), 16000, random_engine()).signal
        assert got.shape == (2, 8000)
        assert np.abs(got[1] - got[0] * 0.25).max() < 1e-6

    def test_equal_ears_are_mono(self) -> None:
        left = noise(8000)
        both = extract_signal(np.concatenate([left, left]), 16000, random_engine()).signal
        assert np.array_equal(both[0], both[1])
        assert np.abs(both[0] - extract_signal(left, 16000, random_engine()).signal[0]).max() < 1e-5

    @pytest.mark.parametrize("channels", [3, 8])
    def test_more_are_refused(self, channels: int) -> None:
        with pytest.raises(AudioError, match=f"{channels} channels, at most 2"):
            extract_signal(noise(100, channels), 16000, neutral())


class TestValues:
    def test_silence_stays_silence(self) -> None:
        got = extract_signal(np.zeros((1, 4000), np.float32), 16000, random_engine())
        assert got.silent
        assert not got.signal.any()

    def test_clipping_is_a_value(self) -> None:
        got = extract_signal(np.clip(noise(8000) * 20, -1, 1), 16000, random_engine())
        assert got.clipped_samples > 100
        assert not got.silent
        assert extract_signal(noise(8000), 16000, random_engine()).clipped_samples == 0

    @pytest.mark.parametrize("level", [1e-20, 1e-6, 1.0, 90.0])
    def test_any_level_gives_finite_sound(self, level: float) -> None:
        assert np.isfinite(extract_signal(np.float32(level) * noise(4000).clip(-1, 1), 16000, random_engine()).signal).all()

    def test_bad_signals_are_refused(self) -> None:
        bad = noise(100)
        bad[0, 3] = np.nan
        with pytest.raises(AudioError, match="NaN"):
            extract_signal(bad, 16000, neutral())
        with pytest.raises(AudioError, match="0 samples"):
            extract_signal(noise(0), 16000, neutral())

    def test_every_hop_is_timed_and_gains_are_kept_when_asked(self) -> None:
        frame = nano().frame
        seen: list[float] = []
        got = extract_signal(noise(16000), 16000, random_engine(), keep_gains=True, progress=seen.append)
        hops = -(-(16000 + frame.delay) // frame.hop)
        assert got.timing.hop_s.shape == (hops,)
        assert (got.timing.hop_s > 0).all()
        assert got.gains is not None
        assert got.gains.shape == (hops, frame.bands)
        assert got.gains.std() > 0
        assert seen == sorted(seen)
        assert seen[-1] == 1
        assert extract_signal(noise(64), 16000, neutral()).gains is None
        assert extract_signal(noise(64), 16000, Silent(), keep_gains=True).gains is None  # type: ignore[arg-type]

    def test_times_come_from_the_clock(self) -> None:
        ticks = iter(range(1000))
        told: list[float] = []
        Extractor(neutral(), 1, told.append, clock=lambda: float(next(ticks))).push(noise(640))
        assert told == [1.0] * 10
        assert Timing(hop_s=np.array(told), period_s=2.0).real_time_factor == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "hops"), [("litert", 20_000), ("reference", 2_000)])
def test_memory_does_not_grow(name: str, hops: int) -> None:
    """An hour is 900 000 hops: a step that kept 16 bytes would lose 14 MB. Neither Python's memory nor the process may grow."""
    engine = random_engine(name)
    live = Extractor(engine, 2)
    hop = noise(engine.frame.hop, 2)

    def run(n: int) -> tuple[int, int]:
        for _ in range(n):
            live.push(hop)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], memory()["rss_bytes"]

    tracemalloc.start()
    try:
        found = [run(500), *(run(hops // 4) for _ in range(4))]
    finally:
        tracemalloc.stop()
    traced, resident = (np.diff(values) for values in zip(*found, strict=True))
    # What a hop keeps shows in every stretch; what the interpreter or a thread of the test runner sets aside, in one.
    assert traced.min() < hops // 4  # less than a byte a hop
    assert resident.min() < 2**20


def test_a_long_file_needs_memory_for_its_sound_only() -> None:
    """The output, a padded copy and the checks, at most four times the mixture: not 200 features a hop."""
    mixture = noise(16000 * 30)
    extract_signal(noise(1600), 16000, neutral())
    tracemalloc.start()
    try:
        extract_signal(mixture, 16000, neutral())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * mixture.nbytes
