"""Known answers, invariances, and the edges where a ratio has no value."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tse.metrics import LIMIT_DB, ONSET_S, attenuation_db, onset_damping_db, over_suppression, si_sdr

RNG = np.random.default_rng(0)
SPEECH = RNG.standard_normal(4000)
NOISE = RNG.standard_normal(4000)
ORTHOGONAL = NOISE - (NOISE @ SPEECH) / (SPEECH @ SPEECH) * SPEECH
"""Noise with nothing of the speech in it: then the ratio is known by construction."""
ORTHOGONAL *= np.sqrt((SPEECH @ SPEECH) / (ORTHOGONAL @ ORTHOGONAL))


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 7.5, 40.0])
def test_si_sdr_is_the_ratio_that_was_mixed(snr_db: float) -> None:
    estimate = SPEECH + ORTHOGONAL * 10 ** (-snr_db / 20)
    assert si_sdr(estimate, SPEECH) == pytest.approx(snr_db, abs=1e-6)


@pytest.mark.parametrize("gain", [1e-3, -1.0, 50.0])
def test_si_sdr_does_not_see_level_or_polarity(gain: float) -> None:
    estimate = SPEECH + 0.3 * NOISE
    assert si_sdr(gain * estimate, SPEECH) == pytest.approx(si_sdr(estimate, SPEECH), abs=1e-9)
    assert si_sdr(estimate, gain * SPEECH) == pytest.approx(si_sdr(estimate, SPEECH), abs=1e-9)


def test_si_sdr_counts_an_offset_as_error() -> None:
    assert si_sdr(SPEECH + 1.0, SPEECH) == pytest.approx(0.0, abs=0.3)


def test_si_sdr_of_two_ears_is_the_mean_of_the_ears() -> None:
    left, right = SPEECH + 0.1 * NOISE, NOISE + SPEECH
    both = si_sdr(np.stack([left, right]), np.stack([SPEECH, NOISE]))
    assert both == pytest.approx((si_sdr(left, SPEECH) + si_sdr(right, NOISE)) / 2)


def test_si_sdr_stays_finite_at_its_ends() -> None:
    assert si_sdr(SPEECH, SPEECH) == LIMIT_DB
    assert si_sdr(0.1 * SPEECH.astype(np.float32), SPEECH.astype(np.float32)) > 80
    # Nothing of the target: neither in a signal orthogonal to it, nor in none at all.
    spike, other = np.eye(2, 100)
    assert si_sdr(spike, other) == -LIMIT_DB
    assert si_sdr(0 * SPEECH, SPEECH) == -LIMIT_DB
    assert si_sdr(1e-200 * SPEECH, SPEECH) == -LIMIT_DB  # its energy is zero in double precision


def test_attenuation() -> None:
    assert attenuation_db(0.1 * SPEECH, SPEECH) == pytest.approx(20.0)
    assert attenuation_db(2 * SPEECH, SPEECH) == pytest.approx(-6.0206, abs=1e-4)
    assert attenuation_db(0 * SPEECH, SPEECH) == LIMIT_DB
    # One ear silenced out of two equal ones halves the energy.
    assert attenuation_db(np.stack([SPEECH, 0 * SPEECH]), np.stack([SPEECH, SPEECH])) == pytest.approx(3.0103, abs=1e-4)


@pytest.mark.parametrize(("estimate", "target"), [(SPEECH, SPEECH[1:]), (SPEECH, 0 * SPEECH), (SPEECH[:0], SPEECH[:0])])
def test_what_has_no_meaning_is_refused(estimate: np.ndarray, target: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"shape|silent"):
        si_sdr(estimate, target)
    with pytest.raises(ValueError, match=r"shape|silent"):
        attenuation_db(estimate, target)


def test_over_suppression_counts_what_was_taken_and_not_what_was_added() -> None:
    rng = np.random.default_rng(5)
    target = rng.standard_normal(16000)
    target[8000:] *= 1e-4  # silence is not active
    assert over_suppression(target, target, 16000) == 0
    assert over_suppression(target + rng.standard_normal(16000), target, 16000) < 0.05
    assert over_suppression(3 * target, target, 16000) == 0
    # (1 - g ** 0.3) ** 2 reaches a tenth at g = 0.267
    assert over_suppression(0.30 * target, target, 16000) == 0
    assert over_suppression(0.24 * target, target, 16000) == 1
    half = target.copy()
    half[:4000] = 0
    assert over_suppression(half, target, 16000) == pytest.approx(0.5, abs=0.03)
    assert over_suppression(np.stack([half, target]), np.stack([target, target]), 16000) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("found", "wanted"), [(np.ones(5), np.ones(6)), (np.ones(5), np.zeros(5))])
def test_over_suppression_of_nothing(found, wanted) -> None:
    with pytest.raises(ValueError, match="same shape"):
        over_suppression(found, wanted, 16000)


RATE_HZ = 16000


def _bursts(*spans_s: tuple[float, float], seconds: float = 4.0) -> np.ndarray:
    """Noise that is there between these times only."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    there = np.any([(t >= start) & (t < stop) for start, stop in spans_s], axis=0)
    return np.random.default_rng(3).standard_normal(len(t)) * there


def _early(*starts_s: float, gain: float, seconds: float = 4.0) -> np.ndarray:
    """``gain`` during the onsets that begin at these times, else 1."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.where(np.any([(t >= s) & (t < s + ONSET_S) for s in starts_s], axis=0), gain, 1.0)


def test_onset_damping_is_what_the_onsets_lost_more_than_the_rest() -> None:
    target = _bursts((0.5, 1.5), (2.0, 3.0))
    damped = _early(0.5, 2.0, gain=0.5) * target
    assert onset_damping_db(target, target, RATE_HZ) == pytest.approx(0, abs=1e-9)
    assert onset_damping_db(damped, target, RATE_HZ) == pytest.approx(6.0206, abs=0.01)
    assert onset_damping_db(0.1 * damped, target, RATE_HZ) == pytest.approx(6.0206, abs=0.01)  # both parts quieter
    assert onset_damping_db(_early(0.5, 2.0, gain=2.0) * target, target, RATE_HZ) == pytest.approx(-6.0206, abs=0.01)


def test_onset_damping_does_not_hear_the_others() -> None:
    target = _bursts((0.5, 1.5), (2.0, 3.0))
    other = np.random.default_rng(4).standard_normal(len(target))
    damped = _early(0.5, 2.0, gain=0.5) * target
    assert onset_damping_db(damped + other, target, RATE_HZ) == pytest.approx(6.0, abs=1.0)
    assert onset_damping_db(np.stack([damped, target]), np.stack([target, target]), RATE_HZ) == pytest.approx(3.01, abs=0.01)


def test_onset_damping_of_less_than_a_frame_has_no_value() -> None:
    with pytest.raises(ValueError, match="50 samples are less than a frame of 10 ms"):
        onset_damping_db(np.ones(50), np.ones(50), RATE_HZ)


def test_short_gaps_and_a_cut_beginning_are_no_onsets() -> None:
    """Speech that was there from the first sample, and speech after 100 ms, only goes on."""
    target = _bursts((0.0, 1.0), (1.1, 1.6), (2.2, 3.4))
    assert onset_damping_db(_early(0.0, 1.1, gain=0.1) * target, target, RATE_HZ) == pytest.approx(0, abs=1e-9)
    assert onset_damping_db(_early(2.2, gain=0.1) * target, target, RATE_HZ) == pytest.approx(20, abs=0.01)


def test_onset_damping_has_ends() -> None:
    target = _bursts((0.5, 1.5))
    assert onset_damping_db(_early(0.5, gain=0.0) * target, target, RATE_HZ) == 40
    assert onset_damping_db(target * (_early(0.5, gain=2.0) - 1), target, RATE_HZ) == -40


@pytest.mark.parametrize(
    ("estimate", "target", "why"),
    [
        (_bursts((0.0, 4.0)), _bursts((0.0, 4.0)), "no speech begins"),
        (_bursts((1.0, 1.1)), _bursts((1.0, 1.1)), "no speech begins"),
        (0 * _bursts((1.0, 2.0)), _bursts((1.0, 2.0)), "nothing of the target"),
        (_bursts((1.0, 2.0))[1:], _bursts((1.0, 2.0)), "same shape"),
        (_bursts((1.0, 2.0)), 0 * _bursts((1.0, 2.0)), "not silent"),
    ],
)
def test_onset_damping_of_what_has_no_onset(estimate: np.ndarray, target: np.ndarray, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        onset_damping_db(estimate, target, RATE_HZ)
