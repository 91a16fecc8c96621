"""What is measured of a recording is right, and is said: bandwidth, level, ears, floats, and what is wrong with enrollments."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.condition import examine, survey
from edge_tse.enrollment import enroll_clips
from edge_tse.enrollment.preparation import for_enrollment, hum_db
from edge_tse.live.ears import EarWatch
from edge_tse.live.session import Session
from edge_tse.voice import VoiceModel
from tests.command import Done, Run
from tests.test_session import Plain, loop

DEMO = Path(__file__).parents[1] / "edge_tse" / "assets" / "demo"
RATE = 16000


@cache
def speech(name: str) -> np.ndarray:
    """``[samples]``"""
    return audio.read(DEMO / f"{name}.flac")[0][0]


@cache
def mixture() -> np.ndarray:
    a, b = speech("slt-speech"), speech("rms-speech")
    n = min(len(a), len(b))
    return ((a[:n] + b[:n]) / np.abs(a[:n] + b[:n]).max() / 2).astype(np.float32)


@cache
def model() -> VoiceModel:
    return Artifact.shipped().voice_model


def low_passed(signal: np.ndarray, hz: float) -> np.ndarray:
    spectrum = np.fft.rfft(signal)
    spectrum[np.fft.rfftfreq(len(signal), 1 / RATE) > hz] = 0
    return np.fft.irfft(spectrum, len(signal)).astype(np.float32)


def at_head(signal: np.ndarray, late: int = 9, quieter: float = 0.5) -> np.ndarray:
    """From one side: later by 0.56 ms and softer at the far ear."""
    far = quieter * np.concatenate([np.zeros(late, np.float32), signal])[: len(signal)]
    return np.stack([signal, far]).astype(np.float32)


class TestBandwidth:
    @pytest.mark.parametrize("hz", [2000, 3400, 5000, 6000])
    @pytest.mark.parametrize("name", ["slt-speech", "rms-enroll", "awb-speech"])
    def test_where_the_sound_ends_and_not_what_the_header_says(self, name: str, hz: float) -> None:
        narrow = low_passed(speech(name), hz)
        for rate_hz in (RATE, 48000):
            found = examine(audio.resample(narrow[None], RATE, rate_hz), rate_hz)
            assert found.bandwidth_hz == pytest.approx(hz, abs=200)
            assert f"the sound ends at {found.bandwidth_hz / 1e3:.1f} kHz, at least 6.5 kHz is expected" in found.remarks()[0]

    @pytest.mark.parametrize("name", ["slt-speech", "slt-enroll", "rms-speech", "rms-enroll", "awb-speech"])
    def test_good_speech_has_no_remark(self, name: str) -> None:
        assert examine(speech(name)[None], RATE).remarks() == ()

    def test_of_nothing_there_is_none(self) -> None:
        for signal in (np.zeros((1, RATE), np.float32), np.zeros((2, 10), np.float32), np.zeros((1, 0), np.float32)):
            assert examine(signal, RATE).bandwidth_hz is None


class TestLevel:
    def test_of_a_sine(self) -> None:
        sine = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
        assert examine(sine[None].astype(np.float32), RATE).level_dbfs == pytest.approx(-23.0, abs=0.05)

    def test_quiet_is_said_where_it_costs(self) -> None:
        loud, quiet, faint = (examine(mixture()[None] * factor, RATE) for factor in (1, 0.1, 0.001))
        assert loud.remarks() == ()
        assert quiet.remarks() == ("the sound is quiet: louder parts at -36 dBFS, at least -34 is needed: turn it up",)
        assert quiet.remarks(level_invariant=True) == ()
        assert faint.remarks(level_invariant=True)[-1].startswith("the sound is quiet: louder parts at -76 dBFS, at least -70 is")


class TestEars:
    def test_a_pair_is_a_pair(self) -> None:
        for late in (0, 5, 11):
            found = examine(at_head(mixture(), late), RATE)
            assert found.ears_db == pytest.approx(6.0, abs=0.1)
            assert (found.dead_ear, found.inverted, found.remarks()) == (None, False, ())

    @pytest.mark.parametrize("dead", [0, 1])
    @pytest.mark.parametrize("below_db", [20, 40, 200])
    def test_a_dead_one(self, dead: int, below_db: float) -> None:
        pair = np.stack([mixture(), mixture()])
        pair[dead] *= 10 ** (-below_db / 20)
        found = examine(pair, RATE)
        assert found.dead_ear == dead
        assert abs(found.ears_db or 0) == pytest.approx(min(below_db, 194), abs=7)
        assert f"the {('left', 'right')[dead]} ear is" in found.remarks()[0]
        assert len(found.remarks()) == 1

    @pytest.mark.parametrize("late", [0, 5, 11])
    def test_an_inverted_one(self, late: int) -> None:
        pair = at_head(mixture(), late)
        pair[1] *= -1
        found = examine(pair, RATE)
        assert found.inverted
        assert found.coherence is not None
        assert -1 <= found.coherence < -0.6
        assert found.remarks()[0].startswith(f"one ear is inverted: coherence at long wavelengths is {found.coherence:.2f}")


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from edge_tse.cli import main

    path = tmp_path_factory.mktemp("voice") / "slt.voice"
    assert main(["enroll", str(DEMO / "slt-enroll.flac"), "-o", str(path), "--artifact", "nano"]) == 0
    return path


class TestExtract:
    def extracted(
        self, run: Run, folder: Path, voice: Path, signal: np.ndarray, subtype: str = "PCM_24"
    ) -> tuple[Done, np.ndarray]:
        soundfile.write(folder / "m.wav", signal.T, RATE, subtype=subtype)
        done = run("extract", folder / "m.wav", "--voice", voice, "-o", folder / "o.wav", "--artifact", "nano", "--json")
        assert done.code == 0, done.err
        return done, soundfile.read(folder / "o.wav", dtype="float32", always_2d=True)[0].T

    @pytest.mark.parametrize("dead", [0, 1])
    def test_a_dead_ear_costs_nothing(self, run: Run, tmp_path: Path, voice: Path, dead: int) -> None:
        """Both ears get what one alone would get."""
        signal = mixture()[:32000]
        pair = np.stack([signal, signal])
        pair[dead] = 1e-4 * np.random.default_rng(0).normal(size=len(signal))
        _, alone = self.extracted(run, tmp_path, voice, signal[None])
        done, both = self.extracted(run, tmp_path, voice, pair)
        assert both.shape == (2, len(signal))
        assert np.array_equal(both, np.repeat(alone, 2, axis=0))
        assert json.loads(done.out)["input_condition"]["dead_ear"] == dead
        assert "a pair differs by less than 18 dB" in done.err
        assert "taken as mono, and the talker is written to both ears" in done.err

    def test_floats_above_full_scale_are_not_clipped(self, run: Run, tmp_path: Path, voice: Path) -> None:
        signal = mixture()[None, :32000]
        signal = signal / np.abs(signal).max()
        _, plain = self.extracted(run, tmp_path, voice, signal, "FLOAT")
        done, hot = self.extracted(run, tmp_path, voice, signal * 4, "FLOAT")
        figures = json.loads(done.out)
        assert (figures["input_clipped_samples"], figures["output_clipped_samples"]) == (0, 0)
        assert figures["input_gain"] == pytest.approx(0.25)
        assert "the samples reach 4.00, 12.0 dB over full scale; nothing is lost" in done.err
        assert "clipped" not in done.err
        assert np.abs(hot - plain).max() < 1e-5

    def test_what_is_clipped_at_its_own_peak_is_clipped(self) -> None:
        signal = np.clip(4 * mixture()[None], -1.5, 1.5)
        found = survey(audio.Held(signal, RATE, "it"))
        assert found.gain == pytest.approx(1 / 1.5)
        assert found.clipped_samples == audio.clipped_samples(signal) > 100
        assert audio.clipped_samples(4 * mixture()[None]) == 0

    def test_a_telephone_is_said(self, run: Run, tmp_path: Path, voice: Path) -> None:
        done, _ = self.extracted(run, tmp_path, voice, low_passed(mixture()[:32000], 3400)[None])
        assert "m.wav: the sound ends at 3.4 kHz, at least 6.5 kHz is expected" in done.err
        assert json.loads(done.out)["input_condition"]["bandwidth_hz"] == pytest.approx(3400, abs=150)

    def test_a_good_mixture_has_no_remark(self, run: Run, tmp_path: Path, voice: Path) -> None:
        assert self.extracted(run, tmp_path, voice, at_head(mixture()[:32000]))[0].err == ""


class TestEnrollment:
    def embedding(self, signal: np.ndarray) -> np.ndarray:
        return enroll_clips(model(), [("x", signal[None], RATE)]).voice.embedding

    @pytest.mark.parametrize("constant", [0.005, 0.02])
    def test_a_constant_leaves_the_voice(self, constant: float) -> None:
        clip = speech("slt-enroll")[:64000]
        spoiled = clip + np.float32(constant)
        assert hum_db(clip, RATE) < -35 < -19 < hum_db(spoiled, RATE)
        assert self.embedding(spoiled) @ self.embedding(clip) > 0.99

    @pytest.mark.parametrize("hz", [50, 60])
    def test_loud_hum_leaves_the_voice(self, hz: float) -> None:
        clip = speech("slt-enroll")[:64000]
        spoiled = (clip + 0.02 * np.sin(2 * np.pi * hz * np.arange(len(clip)) / RATE)).astype(np.float32)
        assert self.embedding(spoiled) @ self.embedding(clip) > 0.98

    def test_a_good_clip_is_left_as_it_is(self) -> None:
        for name in ("slt-enroll", "rms-enroll"):
            assert for_enrollment(speech(name), RATE) is speech(name)

    @pytest.mark.parametrize(("noise", "alike"), [(0.0, 0.93), (1e-3, 0.75)])
    def test_a_little_speech_in_a_long_clip(self, noise: float, alike: float) -> None:
        rng = np.random.default_rng(0)
        long = (noise * rng.standard_normal(RATE * 40)).astype(np.float32)
        long[160000 : 160000 + 64000] += speech("slt-enroll")[8000:72000]
        kept = for_enrollment(long, RATE)
        assert 4.0 <= len(kept) / RATE < 5.0
        assert self.embedding(long) @ self.embedding(speech("slt-enroll")) > alike

    def said(self, run: Run, folder: Path, *clips: np.ndarray) -> Done:
        names = [folder / f"{'abc'[i]}.wav" for i in range(len(clips))]
        for name, clip in zip(names, clips, strict=True):
            soundfile.write(name, clip, RATE)
        done = run("enroll", *names, "-o", folder / "v", "--json")
        assert done.code == 0, done.err
        return done

    def test_two_people_in_two_clips(self, run: Run, tmp_path: Path) -> None:
        done = self.said(run, tmp_path, speech("slt-enroll")[:64000], speech("rms-enroll")[:64000])
        alike = json.loads(done.out)["least_alike"]
        assert -0.2 < alike < 0.3
        assert f"a.wav and {tmp_path / 'b.wav'} have a similarity of {alike:.2f}, clips of one talker at least 0.50" in done.err

    def test_two_clips_of_one(self, run: Run, tmp_path: Path) -> None:
        done = self.said(run, tmp_path, speech("slt-enroll")[:64000], speech("slt-enroll")[64000:128000])
        assert done.err == ""
        assert json.loads(done.out)["least_alike"] > 0.6

    def test_two_people_in_one_clip(self, run: Run, tmp_path: Path) -> None:
        both = np.concatenate([speech("slt-enroll")[:48000], speech("rms-enroll")[:48000]])
        assert "two people seem to talk" in self.said(run, tmp_path, both).err

    def test_each_clip_has_its_remarks_and_the_score_is_the_least(self, run: Run, tmp_path: Path) -> None:
        t = np.arange(64000) / RATE
        music = (0.1 * sum(np.sin(2 * np.pi * hz * t) for hz in (220, 277, 330))).astype(np.float32)
        done = self.said(run, tmp_path, speech("slt-enroll")[:64000], music)
        assert re.search(r"b\.wav: the sound ends at 0\.[345] kHz", done.err)
        assert "a.wav: " not in done.err
        assert "quality 0.03 of 1 at worst" in run("enroll", tmp_path / "a.wav", tmp_path / "b.wav", "-o", tmp_path / "v").out

    def test_a_telephone_a_constant_and_little_speech_are_said(self, run: Run, tmp_path: Path) -> None:
        clip = speech("slt-enroll")
        assert "the sound ends at 3.4 kHz" in self.said(run, tmp_path, low_passed(clip, 3400)).err
        assert "a constant or hum is 6 dB below the rest, at least 19 dB is expected: it was taken out" in (
            self.said(run, tmp_path, clip[:64000] + np.float32(0.02)).err
        )
        long = np.concatenate([np.zeros(RATE * 36, np.float32), clip[:64000]])
        assert "somebody talks in 9% of the recording, 3.5 s, at least 25% is expected" in self.said(run, tmp_path, long).err


class TestLive:
    def heard(self, pair: np.ndarray, seconds: float = 12.0) -> list[str]:
        watch, said = EarWatch(RATE), []
        for second in range(int(seconds)):
            at = second * RATE % (pair.shape[1] - RATE)
            said += watch(pair[:, at : at + RATE], float(second))
        return said

    def test_each_remark_once_and_after_five_seconds(self) -> None:
        dead = np.stack([mixture(), 1e-3 * mixture()])
        (line,) = self.heard(dead)
        assert line.startswith("the right ear is 60 dB below the other")
        assert self.heard(dead, 5.0) == []
        inverted = at_head(mixture())
        inverted[1] *= -1
        (line,) = self.heard(inverted)
        assert line.startswith("one ear is inverted")

    def test_a_telephone(self) -> None:
        (line,) = self.heard(low_passed(mixture(), 3400)[None])
        assert line.startswith("the sound ends at 3.")

    def test_good_sound_and_silence_say_nothing(self) -> None:
        assert self.heard(at_head(mixture())) == []
        assert self.heard(np.zeros((2, 5 * RATE), np.float32)) == []

    def test_a_session_gives_what_it_heard_last(self) -> None:
        session = Session(Plain(), loop(160, 2, steady=False))
        sound = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2)).astype(np.float32)
        assert session.recent(1.0).shape == (2, 0)
        out = np.zeros((160, 2), np.float32)
        for at in range(0, 16000, 160):
            session.exchange(sound[at : at + 160], out)
        assert np.abs(session.recent(0.5).T - sound[8000:]).max() < 2**-23
