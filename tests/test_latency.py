"""Round trips that are known, found again: through noise, echoes, wrong polarity and fractions of a sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse.errors import AudioError
from edge_tse.live.round_trip import round_trip, sequence
from edge_tse.live.supervision import Take, record
from tests.test_capture import Cable

RATE = 16000
PLAYED = sequence(13)


def heard(lag: int, periods: int = 4, gain: float = 0.5, noise: float = 0.0) -> np.ndarray:
    n = periods * len(PLAYED)
    out = np.zeros(n)
    out[lag:] = gain * np.resize(PLAYED, n)[: n - lag]
    return (out + np.random.default_rng(0).normal(0, noise, n)).astype(np.float32)


@pytest.mark.parametrize("order", [13, 14, 15, 16])
def test_the_sequence_is_of_maximum_length(order: int) -> None:
    """Its circular autocorrelation is its length at zero and -1 everywhere else: no shorter period passes for it."""
    bits = np.sign(sequence(order)).astype(np.float64)
    correlation = np.fft.irfft(np.abs(np.fft.rfft(bits)) ** 2, len(bits))
    assert correlation[0] == pytest.approx(2**order - 1)
    assert np.abs(correlation[1:] + 1).max() < 1e-5


@settings(max_examples=30, deadline=None)
@given(lag=st.integers(0, len(PLAYED) - 1), sign=st.sampled_from([1.0, -1.0]))
def test_any_lag_and_sign(lag: int, sign: float) -> None:
    found = round_trip(PLAYED, heard(lag, gain=sign * 0.3), RATE)
    assert found.samples == pytest.approx((lag,) * 3, abs=0.01)
    assert found.seconds == pytest.approx(lag / RATE, abs=1e-6)
    assert found.spread_s < 1e-6
    assert found.inverted == (sign < 0)


def test_under_noise_that_is_louder() -> None:
    assert round_trip(PLAYED, heard(777, gain=0.1, noise=0.05), RATE).samples == pytest.approx((777,) * 3, abs=0.1)


def test_with_an_echo_the_first_and_louder_counts() -> None:
    assert round_trip(PLAYED, heard(300) + 0.6 * heard(300 + 500), RATE).samples == pytest.approx((300,) * 3, abs=0.1)


def test_fractions_of_a_sample() -> None:
    spectrum = np.fft.rfft(np.resize(PLAYED, 4 * len(PLAYED)))
    f = np.arange(len(spectrum)) / (4 * len(PLAYED))
    low = (f < 0.3) * np.exp(-2j * np.pi * f * 100.4)
    found = round_trip(PLAYED, np.fft.irfft(spectrum * low, 4 * len(PLAYED)).astype(np.float32), RATE)
    assert found.samples == pytest.approx((100.4,) * 3, abs=0.1)


def test_a_jump_on_the_way_shows_as_spread() -> None:
    jumping = np.concatenate([heard(100)[: 2 * len(PLAYED)], heard(164)[2 * len(PLAYED) :]])
    assert round_trip(PLAYED, jumping, RATE).spread_s == pytest.approx(64 / RATE, abs=1e-5)


@pytest.mark.parametrize("what", ["silence", "noise", "hum"])
def test_what_did_not_come_back_is_not_guessed(what: str) -> None:
    n = 4 * len(PLAYED)
    signal = {
        "silence": np.zeros(n),
        "noise": np.random.default_rng(1).normal(0, 0.1, n),
        "hum": 0.1 * np.sin(2 * np.pi * 50 * np.arange(n) / RATE),
    }[what]
    with pytest.raises(AudioError, match="did not come back"):
        round_trip(PLAYED, signal.astype(np.float32), RATE)


def test_too_short() -> None:
    with pytest.raises(AudioError, match=r"0\.5 s were recorded, 1\.0 s are needed"):
        round_trip(PLAYED, heard(0, periods=1), RATE)


class Loopback(Cable):
    """A device whose output comes back ``lag`` samples later."""

    def __init__(self, lag: int) -> None:
        super().__init__(np.zeros((1, 1), np.float32))
        self.line = np.zeros((lag + 64, 1), np.float32)
        self.lag = lag

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.pulled(self.now):
            return
        for _ in range(round(seconds * RATE / 64)):
            out = np.zeros((64, 1), np.float32)
            self.session(self.line[:64].copy(), out)  # type: ignore[misc, operator]
            self.line = np.concatenate([self.line[64:], out])


def test_through_a_device() -> None:
    device = Loopback(200)
    signal = record(Take(4 * len(PLAYED), 1, PLAYED[:, None]), device.open, clock=device.clock, wait=device.wait)  # type: ignore[arg-type]
    assert round_trip(PLAYED, signal[0], RATE).samples == pytest.approx((264,) * 3, abs=0.01)
    assert device.closed == 1


def test_a_device_that_stops_sending() -> None:
    device = Loopback(0)
    device.pulled = lambda now: now > 0.2
    device.open = lambda take: (setattr(device, "session", take), device)[1]  # type: ignore[method-assign, assignment]
    with pytest.raises(AudioError, match=r"sent 3072 of 16000 samples and stopped"):
        record(Take(16000, 1), device.open, clock=device.clock, wait=device.wait)  # type: ignore[arg-type]
    assert device.closed == 1


def test_stopping_a_take() -> None:
    device = Loopback(0)
    with pytest.raises(AudioError, match=r"stopped after \d+ of 16000 samples: nothing was kept"):
        record(Take(16000, 1), device.open, clock=device.clock, wait=device.wait, stopped=lambda: device.now > 0.3)  # type: ignore[arg-type]
