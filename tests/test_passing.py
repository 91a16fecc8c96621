"""The room is let in for the wearer's own voice and for alarms, and for nothing that is neither."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.hearing.calibration import UNCALIBRATED
from edge_tse.hearing.chain import Chain, Hearing
from edge_tse.hearing.openings import Openings
from tests.speech import utterance

RATE = 16000
FULL = UNCALIBRATED.microphones_db_spl[0]


def at(signal: np.ndarray, db_spl: float) -> np.ndarray:
    """At this level in air, of its loud half, with nothing calibrated."""
    rms = math.sqrt(np.mean(signal[np.abs(signal) > 0.05 * np.abs(signal).max()].astype(np.float64) ** 2))
    return (signal * 10 ** ((db_spl - FULL) / 20) / rms).astype(np.float32)


def both(signal: np.ndarray, late: int = 0, db: float = 0.0) -> np.ndarray:
    """At two ears, the second ``late`` samples after the first and ``db`` softer."""
    right = np.concatenate([np.zeros(late, np.float32), signal[: len(signal) - late]])
    return np.stack([signal, right * np.float32(10 ** (-db / 20))])


def opened(room: np.ndarray, hop: int = 64, own_voice_db: float | None = None, alarm_db: float | None = None) -> np.ndarray:
    """Gain of the room's path at each sample."""
    frame = FrameSpec(hop=hop, window=512, synthesis=2 * hop)
    openings = Openings(frame, len(room), np.array([FULL] * len(room)), own_voice_db, alarm_db)
    return np.concatenate([openings(room[:, i : i + hop]) for i in range(0, room.shape[1] // hop * hop, hop)])


def tone(hz: float | np.ndarray, seconds: float) -> np.ndarray:
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hz, round(seconds * RATE))) / RATE).astype(np.float32)


def temporal_three(hz: float) -> np.ndarray:
    """ISO 8201: three pulses of half a second, then a second and a half of quiet."""
    pulse = np.concatenate([tone(hz, 0.5), np.zeros(RATE // 2, np.float32)])
    return np.concatenate([np.tile(pulse, 3), np.zeros(RATE, np.float32)])


def wail() -> np.ndarray:
    """A siren: from 600 to 1500 Hz and back in four seconds."""
    t = np.arange(4 * RATE) / RATE
    return tone(600 * 2.5 ** (1 - np.abs(t / 2 - 1)), 4)


def talk(seconds: float = 6.0) -> np.ndarray:
    return utterance(3, 0, seconds)


class TestAlarm:
    @pytest.mark.parametrize("hop", [32, 64, 128, 256])
    @pytest.mark.parametrize("alarm", [temporal_three(3100), temporal_three(520), wail()], ids=["smoke", "smoke 520", "siren"])
    def test_it_opens_within_half_a_second(self, alarm: np.ndarray, hop: int) -> None:
        room = at(alarm, 75) + at(np.random.default_rng(0).normal(0, 1, len(alarm)), 55)
        gain = opened(room[None], hop, alarm_db=0)
        assert gain[RATE // 2] > 0.9
        assert gain.max() <= 1

    def test_it_opens_for_a_model_of_8_khz(self) -> None:
        """Whose spectrum ends within the range of alarms."""
        frame = FrameSpec(sample_rate_hz=8000, hop=32, window=256, synthesis=64)
        openings = Openings(frame, 1, np.array([FULL]), None, 0)
        room = at(temporal_three(3100), 75)[None, ::2]
        gain = np.concatenate([openings(room[:, i : i + 32]) for i in range(0, 4000, 32)])
        assert gain[-1] > 0.9

    def test_it_stays_over_the_pauses_and_closes_after(self) -> None:
        alarm = at(np.concatenate([np.tile(temporal_three(3100), 2), np.zeros(4 * RATE, np.float32)]), 75)
        gain = opened(both(alarm), alarm_db=-6)
        assert gain[RATE // 2 : 8 * RATE].min() > 0.45
        assert gain[-1] == 0
        assert np.abs(np.diff(gain)).max() < 0.01  # no click

    @pytest.mark.parametrize(
        "room",
        [at(talk(), 75), at(np.random.default_rng(1).normal(0, 1, 4 * RATE), 80), at(tone(3100, 4), 45), at(tone(3100, 0.12), 80)],
        ids=["speech", "noise", "a soft tone", "a short one"],
    )
    def test_nothing_else_opens(self, room: np.ndarray) -> None:
        assert not opened(np.pad(room, (0, RATE))[None], alarm_db=0).any()


class TestOwnVoice:
    def test_it_opens_while_the_wearer_talks_and_closes_in_pauses(self) -> None:
        voice = np.concatenate([at(talk(), 75), np.zeros(RATE, np.float32)])
        gain = opened(both(voice), own_voice_db=0)
        assert np.mean(gain[: 6 * RATE] > 0.9) > 0.5
        assert gain[-1] == 0

    @pytest.mark.parametrize(("late", "softer_db", "level"), [(4, 3, 75), (8, 6, 80), (0, 0, 62)], ids=["30", "60", "in front"])
    def test_partners_do_not_open(self, late: int, softer_db: float, level: float) -> None:
        assert np.mean(opened(both(at(talk(), level), late, softer_db), own_voice_db=0) > 0.1) < 0.02

    def test_it_takes_two_ears(self) -> None:
        with pytest.raises(AudioError, match="1 microphone: one's own voice is told by both ears"):
            Chain(Hearing(own_voice_db=0), FrameSpec(), 1)


class TestInTheChain:
    def test_the_talker_stays_as_loud_while_the_room_opens(self) -> None:
        """With nothing but the talker in the room, opening changes nothing."""
        alarm = both(at(temporal_three(3100), 75))
        for talker_db, alarm_db in ((0, 0), (0, -12), (6, 0)):
            chain = Chain(Hearing(talker_db=talker_db, alarm_db=alarm_db, max_output_db_spl=130), FrameSpec(), 2)
            got = np.concatenate([chain(alarm[:, i : i + 64], alarm[:, i : i + 64]) for i in range(0, alarm.shape[1], 64)], axis=1)
            assert chain.openings is not None
            assert chain.openings.found == (True,)
            assert np.abs(got - alarm * np.float32(10 ** (talker_db / 20))).max() < 1e-5

    def test_the_room_is_heard_once_it_is_open(self) -> None:
        alarm, nobody = both(at(temporal_three(3100), 75)), np.zeros((2, 64), np.float32)
        chain = Chain(Hearing(alarm_db=-6), FrameSpec(), 2)
        got = np.concatenate([chain(nobody, alarm[:, i : i + 64]) for i in range(0, alarm.shape[1], 64)], axis=1)
        assert not got[:, : RATE // 5].any()
        assert np.abs(got[:, RATE : RATE + 8000]).max() == pytest.approx(10 ** (-6 / 20) * np.abs(alarm).max(), rel=0.01)

    def test_what_is_not_wanted_is_not_watched(self) -> None:
        assert Chain(Hearing(), FrameSpec(), 2).openings is None

    def test_it_takes_a_small_part_of_a_hop(self) -> None:
        openings = Openings(FrameSpec(), 2, np.array([FULL] * 2), 0, 0)
        hop = np.random.default_rng(0).normal(0, 0.01, (2, 64)).astype(np.float32)
        best = math.inf
        for _ in range(150):
            began = time.perf_counter()
            openings(hop), openings(hop)  # every other hop is looked at
            best = min(best, time.perf_counter() - began)
        assert best < FrameSpec().period_s / 2
