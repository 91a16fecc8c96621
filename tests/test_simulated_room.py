"""A sphere's ears and a simulated room, against what physics says of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="pyroomacoustics is not installed (extra [dev])")

from benchmarks.simulated_room import Room, Sphere, head_responses

RATE_HZ = 16000
AZIMUTHS = np.arange(-180.0, 180.0, 5.0)


@pytest.fixture(scope="module")
def sphere() -> np.ndarray:
    return Sphere().responses(AZIMUTHS, RATE_HZ)


def test_a_wave_from_the_left_is_earlier_and_louder_there(sphere: np.ndarray) -> None:
    left, right = sphere[list(AZIMUTHS).index(90.0)]
    # Woodworth (1938): a (theta + sin theta) / c for ears at 90 degrees; these are 10 degrees further back.
    assert np.argmax(right) - np.argmax(left) == pytest.approx(0.0875 / 343 * (np.pi / 2 + 1) * RATE_HZ, abs=1.5)
    assert 5 < 10 * np.log10(np.sum(left**2) / np.sum(right**2)) < 12
    np.testing.assert_allclose(sphere[list(AZIMUTHS).index(-90.0)], [right, left], atol=1e-6)


def test_low_sound_does_not_notice_a_head(sphere: np.ndarray) -> None:
    low = np.abs(np.fft.rfft(sphere, 4 * RATE_HZ))[..., 40]  # 10 Hz
    np.testing.assert_allclose(20 * np.log10(low), 0, atol=0.6)


def test_a_room_rings_as_long_as_it_says_and_starts_with_the_direct_sound(sphere: np.ndarray) -> None:
    near, far = head_responses(Room(t60_s=0.4), [(40.0, 1.0), (40.0, 1.5)], sphere, AZIMUTHS, RATE_HZ)
    energy = np.cumsum((near.astype(np.float64) ** 2).sum(axis=0)[::-1])[::-1]
    decay_db = 10 * np.log10(energy / energy[0] + 1e-12)
    from_db, to_db = (int(np.argmax(decay_db < db)) for db in (-5, -25))
    assert 3 * (to_db - from_db) / RATE_HZ == pytest.approx(0.4, rel=0.35)
    arrival = [int(np.argmax(np.abs(response[0]) > 0.5 * np.abs(response[0]).max())) for response in (near, far)]
    assert arrival[1] - arrival[0] == pytest.approx(0.5 / 343 * RATE_HZ, abs=2)
    assert np.abs(near[:, : round(0.9 / 343 * RATE_HZ)]).max() < 0.02 * np.abs(near).max()
