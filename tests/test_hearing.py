"""The hearing chain against published formulas, an independent implementation, and the worst that can come in."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.hearing.calibration import UNCALIBRATED, Calibration, load_calibration, measure_microphones, save_calibration, tone
from edge_tse.hearing.chain import Chain, Hearing, load_hearing
from edge_tse.hearing.limiter import Limiter
from edge_tse.hearing.prescription import BANDS_HZ, Audiogram, compression_ratio, nal_r_db, parse_audiogram, speech_levels_db

FRAME = FrameSpec()
HOP, RATE = FRAME.hop, FRAME.sample_rate_hz

SLOPING = Audiogram(thresholds=((250, 20), (500, 30), (1000, 40), (2000, 50), (4000, 60), (6000, 65)))
FULL = UNCALIBRATED.microphones_db_spl[0]


def run(chain: Chain, talker: np.ndarray, ambient: np.ndarray | None = None) -> np.ndarray:
    ambient = np.zeros_like(talker) if ambient is None else ambient
    n = talker.shape[1] // HOP * HOP
    return np.concatenate([chain(talker[:, i : i + HOP], ambient[:, i : i + HOP]) for i in range(0, n, HOP)], axis=1)


def sine(hz: float, db_spl: float, seconds: float = 1.0, ears: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return np.tile((math.sqrt(2) * 10 ** ((db_spl - FULL) / 20) * np.sin(2 * np.pi * hz * t)).astype(np.float32), (ears, 1))


def db_spl(signal: np.ndarray) -> float:
    return 10 * math.log10(float(np.mean(signal.astype(np.float64) ** 2)) + 1e-20) + FULL


def noise(n: int, ears: int = 2, level: float = 0.01, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, (ears, n)).astype(np.float32)


class TestPrescription:
    def test_nal_r_by_hand(self) -> None:
        """X = 0.05 (30 + 40 + 50) = 6; 0.31 H + k added, negative gains are none."""
        expected = [max(0, 6 + 0.31 * h + k) for h, k in ((20, -17), (30, -8), (40, 1), (50, -1), (60, -2), (65, -2))]
        assert nal_r_db(SLOPING, (250, 500, 1000, 2000, 4000, 6000)) == pytest.approx(expected)

    @pytest.mark.parametrize(
        "levels", [(20, 30, 40, 50, 60, 65), (70, 75, 80, 85, 90, 100), (0, 0, 0, 0, 0, 0), (60, 55, 50, 40, 30, 20), (60,) * 6]
    )
    def test_nal_r_as_pyclarity_has_it(self, levels: tuple[int, ...]) -> None:
        nalr = pytest.importorskip("clarity.enhancer.nalr", reason="pyclarity is missing: pip install --no-deps pyclarity==0.9.0")
        from clarity.utils.audiogram import Audiogram as Theirs

        hz = (250, 500, 1000, 2000, 4000, 6000)
        taps, _ = nalr.NALR(1000, RATE).build(Theirs(levels=np.array(levels, float), frequencies=np.array(hz, float)))
        response = np.abs(np.exp(-2j * np.pi * np.array(hz)[:, None] / RATE * np.arange(len(taps))) @ taps)
        ours = nal_r_db(Audiogram(thresholds=tuple(zip(hz, levels, strict=True))), hz)
        assert ours == pytest.approx(20 * np.log10(response), abs=0.7)  # their filter rounds the corner at 250 Hz

    def test_interpolation_is_over_octaves_and_level_beyond(self) -> None:
        audiogram = Audiogram(thresholds=((500, 20), (2000, 40)))
        assert audiogram.at((125, 500, 1000, 2000, 8000)) == pytest.approx([20, 20, 30, 40, 40])

    def test_ratio_and_speech(self) -> None:
        assert compression_ratio(Audiogram(thresholds=((1000, 60),)), (1000,)) == pytest.approx([2])
        assert compression_ratio(Audiogram(thresholds=((1000, -5),)), (1000,)) == pytest.approx([1])
        bands = speech_levels_db((100, 500, 8000))
        assert 10 * np.log10((10 ** (bands / 10)).sum()) == pytest.approx(65, abs=1.5)
        assert bands[0] > bands[1]

    def test_typed(self) -> None:
        left, right = parse_audiogram("1000:40, 500:30 / 500:10,1000:20")
        assert left.thresholds == ((500, 30), (1000, 40))
        assert right.thresholds == ((500, 10), (1000, 20))
        assert parse_audiogram("500:30")[0] == parse_audiogram("500:30")[1]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("", "not an audiogram"),
            ("500", "not an audiogram"),
            ("500:30:2", "not an audiogram"),
            ("500:nan", "cannot be"),
            ("500:200", "cannot be"),
            ("50:20", "no threshold at 50 Hz"),
            ("500:1/500:1/500:1", "3 sides"),
            ("500:1,500:2", "twice"),
        ],
    )
    def test_typed_wrongly(self, text: str, complaint: str) -> None:
        with pytest.raises(AudioError, match=complaint):
            parse_audiogram(text)


class TestChain:
    def test_nothing_asked_is_nothing_done(self) -> None:
        talker = noise(6400)
        assert np.array_equal(run(Chain(Hearing(), FRAME, 2), talker), talker)

    def test_mix_is_in_decibels(self) -> None:
        talker, room = noise(6400), noise(6400, seed=1)
        got = run(Chain(Hearing(talker_db=-6, ambient_db=-20), FRAME, 2), talker, room)
        assert np.abs(got - (talker * 10 ** (-6 / 20) + room * 0.1)).max() < 1e-6

    @pytest.mark.parametrize("hz", [250, 500, 1000, 2000, 4000, 6000])
    def test_gain_is_nal_r(self, hz: int) -> None:
        chain = Chain(Hearing(left=SLOPING, right=SLOPING, compression=False), FRAME, 1)
        got = run(chain, sine(hz, 50))[:, 4000:]
        assert db_spl(got) - 50 == pytest.approx(float(nal_r_db(SLOPING, (hz,))[0]), abs=0.7)

    def test_no_delay_is_added(self) -> None:
        """What a minimum-phase filter does to a click begins with the click, and its energy is there within half a millisecond."""
        click = np.zeros((1, 10 * HOP), np.float32)
        click[0, 200] = 0.001
        for compression in (False, True):
            got = run(Chain(Hearing(left=SLOPING, right=SLOPING, compression=compression), FRAME, 1), click)[0]
            assert np.abs(got[:200]).max() < 1e-9
            assert abs(got[200]) > 0.5 * np.abs(got).max()
            energy = np.cumsum(got.astype(np.float64) ** 2) / np.sum(got.astype(np.float64) ** 2)
            assert energy[208] > 0.9

    @pytest.mark.parametrize("hz", [500, 1000, 2000, 4000])
    def test_compression_is_a_line_through_nal_r_at_conversation(self, hz: int) -> None:
        """Static input-output function of each band: slope 1/ratio between the knee and the loudest, NAL-R at the speech level."""
        band = BANDS_HZ.index(hz)
        edges = [100.0, *(math.sqrt(a * b) for a, b in pairwise(BANDS_HZ)), 8000.0]
        speech = float(speech_levels_db(edges)[band])
        ratio = float(compression_ratio(SLOPING, (hz,))[0])
        outs = {}
        for level in (speech - 40, speech - 30, speech - 10, speech, speech + 10, speech + 20):
            hearing = Hearing(left=SLOPING, right=SLOPING, max_output_db_spl=130)
            chain = Chain(hearing, FRAME, 1, Calibration(microphones_db_spl=(FULL,) * 2, receivers_db_spl=(FULL,) * 2, source=""))
            run(chain, sine(hz, level))
            outs[level] = level + float(chain.gain_db[0, band])
        assert outs[speech] - speech == pytest.approx(float(nal_r_db(SLOPING, (hz,))[0]), abs=0.3)
        for low, high in ((speech - 10, speech), (speech, speech + 10), (speech + 10, speech + 20)):
            assert outs[high] - outs[low] == pytest.approx(10 / ratio, abs=0.2)
        assert outs[speech - 30] - outs[speech - 40] == pytest.approx(10, abs=0.2)  # below the knee it is linear

    def test_attack_and_release(self) -> None:
        """As IEC 60118-2: from 55 to 90 dB SPL and back, until the level is within 3 dB (attack), 4 dB (release) of its end."""
        flat = Audiogram(thresholds=((1000, 60),))
        chain = Chain(Hearing(left=flat, right=flat, max_output_db_spl=130), FRAME, 1)
        gains = []
        signal = np.concatenate([sine(1000, 55), sine(1000, 90), sine(1000, 55, 2.0)], axis=1)
        for i in range(0, signal.shape[1], HOP):
            chain(signal[:, i : i + HOP], np.zeros((1, HOP), np.float32))
            gains.append(float(chain.gain_db[0, 2]))
        gain = np.array(gains)
        loud, soft = gain[499], gain[-1]
        attack = next(i for i in range(250, 500) if np.all(np.abs(gain[i:500] - loud) < 3)) - 250
        release = next(i for i in range(500, 1000) if np.all(np.abs(gain[i:] - soft) < 4)) - 500
        assert 0 < attack * 4 <= 20
        assert 40 <= release * 4 <= 300

    def test_gain_is_limited_against_feedback(self) -> None:
        severe = Audiogram(thresholds=((500, 90), (4000, 110)))
        for compression in (False, True):
            chain = Chain(Hearing(left=severe, right=severe, max_gain_db=12, compression=compression), FRAME, 1)
            run(chain, sine(1000, 20, 0.3))
            assert chain.gain_db.max() == 12
            assert db_spl(run(chain, sine(1000, 20, 0.3))[:, 1000:]) == pytest.approx(32, abs=0.5)

    def test_each_ear_has_its_own_gain_and_one_level(self) -> None:
        """What is louder on one side stays louder by as much, where both ears hear alike."""
        both = Chain(Hearing(left=SLOPING, right=SLOPING), FRAME, 2)
        left = noise(16000, 1)
        got = run(both, np.concatenate([left, 0.3 * left]))
        assert np.abs(got[1] - np.float32(0.3) * got[0]).max() < 1e-5
        different = Chain(Hearing(left=SLOPING, right=Audiogram(thresholds=((1000, 0),)), compression=False), FRAME, 2)
        got = run(different, sine(2000, 50, ears=2))[:, 4000:]
        assert db_spl(got[0]) - 50 == pytest.approx(float(nal_r_db(SLOPING, (2000,))[0]), abs=0.5)
        assert db_spl(got[1]) == pytest.approx(50, abs=0.1)

    def test_calibration_is_taken_into_account(self) -> None:
        """A microphone 6 dB more sensitive and a receiver 10 dB louder: the same sound in air comes out as loud in air."""
        calibration = Calibration(microphones_db_spl=(FULL - 6,) * 2, receivers_db_spl=(FULL + 10,) * 2, source="")
        for audiogram in (None, SLOPING):
            hearing = Hearing(left=audiogram, right=audiogram)
            plain = run(Chain(hearing, FRAME, 1), sine(1000, 60))[:, 8000:]
            other = run(Chain(hearing, FRAME, 1, calibration), sine(1000, 60) * np.float32(10 ** (6 / 20)))[:, 8000:]
            assert db_spl(other) + 10 == pytest.approx(db_spl(plain), abs=0.05)

    def test_it_takes_a_small_part_of_a_hop(self) -> None:
        chain = Chain(Hearing(left=SLOPING, right=SLOPING, ambient_db=-20), FRAME, 2)
        hop = noise(HOP)
        best = math.inf
        for _ in range(300):
            began = time.perf_counter()
            chain(hop, hop)
            best = min(best, time.perf_counter() - began)
        assert best < FRAME.period_s / 4


def _click(at: int, by: float) -> np.ndarray:
    hop = np.zeros((2, HOP), np.float32)
    hop[at // HOP, at % HOP] = by
    return hop


WORST = st.one_of(
    hnp.arrays(np.float32, (2, HOP), elements=st.floats(width=32)),
    hnp.arrays(np.float32, (2, HOP), elements=st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 3e38, 1e-45])),
    st.builds(_click, st.integers(0, 2 * HOP - 1), st.floats(-4, 4, width=32)),
)


class TestNothingIsLouder:
    @settings(max_examples=150, deadline=None)
    @given(
        hops=st.lists(WORST, min_size=1, max_size=6),
        limit=st.integers(50, 110),
        loss=st.booleans(),
        compression=st.booleans(),
        open_=st.booleans(),
    )
    def test_whatever_comes_in(self, hops: list[np.ndarray], limit: int, loss: bool, compression: bool, open_: bool) -> None:
        """Any signal whose samples are within the ceiling has an RMS within it, so no sound pressure is above the limit."""
        audiogram = SLOPING if loss else None
        hearing = Hearing(
            talker_db=20,
            ambient_db=20,
            own_voice_db=20 if open_ else None,
            alarm_db=20 if open_ else None,
            left=audiogram,
            right=audiogram,
            compression=compression,
            max_gain_db=60,
            max_output_db_spl=limit,
        )
        chain = Chain(hearing, FRAME, 2)
        ceiling = 10 ** ((limit - FULL) / 20)
        for hop in hops:
            out = chain(hop, hop[::-1])
            assert np.isfinite(out).all()
            assert np.abs(out.astype(np.float64)).max() <= ceiling
        after = run(chain, noise(20 * HOP))  # and the worst is forgotten
        assert np.isfinite(after).all()
        assert np.abs(after).max() <= ceiling

    @pytest.mark.parametrize("kind", ["square", "click", "noise", "step"])
    def test_sounds_that_hurt(self, kind: str) -> None:
        n = 100 * HOP
        signal = {
            "square": np.sign(np.sin(np.arange(n) * 0.4)),
            "click": (np.arange(n) % 997 == 0) * 1.0,
            "noise": np.random.default_rng(0).uniform(-1, 1, n),
            "step": (np.arange(n) > n // 2) * 1.0,
        }[kind]
        got = run(Chain(Hearing(talker_db=20, max_output_db_spl=90), FRAME, 2), np.tile(signal.astype(np.float32), (2, 1)))
        assert np.abs(got).max() <= 10 ** ((90 - FULL) / 20)
        assert np.abs(got).max() > 0.9 * 10 ** ((90 - FULL) / 20)

    def test_a_ceiling_that_floats_cannot_hold_is_rounded_down(self) -> None:
        for db in np.linspace(-60, 0, 200):
            ceiling = 10 ** (db / 20)
            out = Limiter(min(1.0, ceiling), HOP, RATE)(np.full((1, HOP), 5, np.float32))
            assert float(out.max()) <= ceiling

    def test_it_turns_down_without_bending_and_both_ears_alike(self) -> None:
        """A tone that is steadily too loud keeps its shape (its third harmonic is 40 dB down), the softer ear its ratio."""
        loud = sine(500, FULL - 3 + 12, ears=2) * np.array([[1], [0.25]], np.float32)
        limiter = Limiter(0.5, HOP, RATE)
        got = np.concatenate([limiter(loud[:, i : i + HOP]) for i in range(0, RATE, HOP)], axis=1)[:, 8000:]
        spectrum = np.abs(np.fft.rfft(got[0] * np.hanning(8000)))
        assert spectrum[750] < 0.01 * spectrum[250]
        assert np.abs(got[1] - 0.25 * got[0]).max() < 1e-5
        assert limiter.hops == 250

    def test_the_softer_passes_as_it_is_and_the_gain_comes_back(self) -> None:
        limiter = Limiter(0.5, HOP, RATE)
        quiet = noise(HOP, level=0.05)
        assert np.array_equal(limiter(quiet), quiet)
        limiter(quiet * 100)
        for _ in range(250):
            out = limiter(quiet)
        assert np.array_equal(out, quiet)

    def test_the_gain_is_held_for_a_period_of_the_lowest_voice_and_then_rises_without_a_step(self) -> None:
        """A peak that is 12 dB too much, then what needs no limit: 20 ms at a quarter, the peak's hop among them, then up by 6 dB
        in 50 ms, by a little with each sample, until sounds pass as they are."""
        limiter = Limiter(0.5, HOP, RATE)
        soft = np.full((1, HOP), 0.05, np.float32)
        for _ in range(10):
            assert limiter(soft) is not soft
            assert np.array_equal(limiter(soft), soft)
        assert limiter.hops == 0, "nothing to do, nothing counted"
        limiter(np.full((1, HOP), 2, np.float32))
        held = math.ceil(0.02 * RATE / HOP)
        gains = np.concatenate([limiter(soft)[0] / soft[0] for _ in range(80)])
        assert held >= 5
        assert gains[: (held - 1) * HOP] == pytest.approx(0.25)
        assert gains[held * HOP - 1] == pytest.approx(0.25 * 2 ** (HOP / RATE / 0.05), rel=1e-4)
        rising = np.flatnonzero(gains < 1)[-1] + 1
        assert rising / RATE == pytest.approx(0.016 + 2 * 0.05, abs=HOP / RATE)
        steps = np.diff(gains)
        assert steps.min() >= -1e-6
        assert steps.max() < 2 * (2 ** (HOP / RATE / 0.05) - 1) / HOP
        assert (gains[rising:] == 1).all()
        # The peak's hop, those of the gain that is held and that rises, and none after it.
        assert limiter.hops == 1 + math.ceil(rising / HOP)

    def test_what_is_no_number_is_silence_also_where_nothing_is_limited(self) -> None:
        soft = np.full((2, HOP), 0.05, np.float32)
        soft[0, 3] = np.nan
        got = Limiter(0.5, HOP, RATE)(soft)
        assert got[0, 3] == 0
        assert np.isfinite(got).all()

    def test_no_step_in_gain_but_for_a_peak_at_once(self) -> None:
        """A swell: the gain that was applied moves by a little each sample."""
        swell = np.linspace(0.4, 2, 50 * HOP, dtype=np.float32)[None]
        limiter = Limiter(0.5, HOP, RATE)
        got = np.concatenate([limiter(swell[:, i : i + HOP]) for i in range(0, 50 * HOP, HOP)], axis=1)
        assert np.abs(np.diff(got / swell)).max() < 0.02


class TestFiles:
    def test_hearing(self, tmp_path: Path) -> None:
        path = tmp_path / "h.toml"
        path.write_text("[left]\n500 = 30\n1000 = 40.5\n[right]\n500 = 10\n[chain]\nambient_db = -12\ncompression = false\n")
        assert load_hearing(path) == Hearing(
            left=Audiogram(thresholds=((500, 30), (1000, 40.5))),
            right=Audiogram(thresholds=((500, 10),)),
            ambient_db=-12,
            compression=False,
        )
        path.write_text("[chain]\nown_voice_db = -6\nalarm_db = 0\n")
        assert load_hearing(path) == Hearing(own_voice_db=-6, alarm_db=0)
        path.write_text("[both]\n500 = 30\n")
        assert load_hearing(path).left == load_hearing(path).right == Audiogram(thresholds=((500, 30),))

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("[middle]\n500 = 1", r"no \[middle\]"),
            ("[left]\n500 = 1", "one ear has an audiogram"),
            ("[left]\n500 = 1\n[both]\n500=1", "keep one"),
            ("left = 3", "not a table"),
            ("[both]\nloud = 3", "loud is not a frequency"),
            ("[both]\n500 = 'x'", "is not a number"),
            ("[chain]\nambient_db = 90", "ambient_db = 90"),
            ("[chain]\nalarm_db = 30", "alarm_db = 30 is not within -60 to 20"),
            ("[chain]\nmax_output_db_spl = 140", "not within 50 to 130"),
            ("[chain]\ncompression = 1", "is not a bool"),
            ("[chain]\nbass = 1", "there is no bass"),
            ("[chain", "is not TOML"),
            ("[both]", "the audiogram is empty"),
        ],
    )
    def test_hearing_that_cannot_be(self, tmp_path: Path, text: str, complaint: str) -> None:
        path = tmp_path / "h.toml"
        path.write_text(text)
        with pytest.raises(AudioError, match=complaint):
            load_hearing(path)

    def test_calibration_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "c.toml"
        made = Calibration(microphones_db_spl=(112.25, 113.5), receivers_db_spl=(104.0, 105.75), source="94 dB, calibrator")
        save_calibration(made, path)
        assert load_calibration(path) == made
        path.write_text('source = "x"')
        with pytest.raises(AudioError, match="states source, a calibration states microphones_db_spl"):
            load_calibration(path)
        path.write_text('microphones_db_spl = [1, 2]\nreceivers_db_spl = [100, 100]\nsource = ""')
        with pytest.raises(AudioError, match="not two levels"):
            load_calibration(path)

    def test_microphones_against_a_calibrator(self) -> None:
        """94 dB SPL that arrives as an RMS of 0.1, so full scale is 20 dB above."""
        signal = np.stack([np.sqrt(2) * level * np.sin(2 * np.pi * 1000 * np.arange(5 * RATE) / RATE) for level in (0.1, 0.01)])
        assert measure_microphones(signal.astype(np.float32), RATE, 94) == pytest.approx((114, 134), abs=0.01)

    def test_microphones_that_cannot_be_calibrated(self) -> None:
        steady = sine(1000, FULL - 20)
        for bad, complaint in (
            (np.clip(steady * 40, -1, 1), "clipped"),
            (steady * 1e-6, "are needed"),
            (steady * np.linspace(0.2, 1, RATE, dtype=np.float32), "varies by"),
        ):
            with pytest.raises(AudioError, match=complaint):
                measure_microphones(bad.astype(np.float32), RATE, 94)

    def test_a_level_that_could_not_be_loaded_again_is_not_taken(self) -> None:
        """A slip of the meter or of the finger: the file would be refused by every verb from then on, this one included."""
        for left, right in ((15, 84), (84, 170), (float("nan"), 84)):
            with pytest.raises(AudioError, match=r"full scale of the receivers would be .* 40 to 180 can be"):
                UNCALIBRATED.with_receivers(left, right, "")
        with pytest.raises(AudioError, match="full scale of the microphones would be"):
            UNCALIBRATED.with_microphones(sine(1000, FULL - 20), RATE, 500, "a microphone")

    def test_the_tone(self) -> None:
        assert 20 * np.log10(np.sqrt(np.mean(tone(2, RATE)[RATE // 4 : -RATE // 4].astype(float) ** 2))) == pytest.approx(
            -20, abs=0.01
        )

    def test_limits_follow_the_receivers(self) -> None:
        calibration = Calibration(microphones_db_spl=(110, 110), receivers_db_spl=(100, 120), source="")
        assert calibration.ceiling(90) == pytest.approx(10 ** (-30 / 20))
        assert calibration.ceiling(130) == 1.0
