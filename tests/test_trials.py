"""Trials from a generated corpus: the same bytes for the same seed, held-out talkers only, levels and ratios as stated."""

from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio
from quantization import trials
from quantization.corpus import open_corpus
from quantization.trial_list import read_trials
from quantization.trials import CONDITIONS, HARDER, make_trials

RATE_HZ = 16000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack's layout. Held-out talkers have long files of a pitch of their own, the others only exist."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for i in range(40):
        for utterance in range(3):
            _put(root / f"speech/set/s{i:02}/u{utterance}.wav", np.zeros(400))
    _put(root / "speech/picovoice_unlabelled/pv0/u.wav", np.zeros(400))
    for i in range(20):
        _put(root / f"noise/set/n{i:02}_00.wav", 0.01 * rng.standard_normal(8000))
        (root / "hrir").mkdir(exist_ok=True)
        responses = rng.standard_normal((6, 2, 32)).astype(np.float32) / 8
        np.savez(root / f"hrir/head{i:02}.npz", ir=responses, azimuth_deg=np.arange(-180, 180, 60), fs=RATE_HZ)
    held = open_corpus(root).validation_speakers
    assert len(held) >= 6
    for i, name in enumerate(held):
        for utterance in range(3):
            _put(root / f"speech/{name}/u{utterance}.wav", _voice(rng, 6.2, 100 + 20 * i))
    return root


def _put(path: Path, signal: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, np.asarray(signal, np.float32)[None], RATE_HZ)


def _voice(rng: np.random.Generator, seconds: float, pitch_hz: float) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * t + rng.uniform(0, 6)) / k for k in range(1, 9))
    return 0.05 * buzz * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_trials(corpus, tmp_path_factory.mktemp("made"), "choose", seed=3, per_condition=4)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(signal.astype(np.float64) ** 2)))


def _db(ratio: float) -> float:
    return float(20 * np.log10(ratio))


def test_the_list_is_what_evaluation_reads(made: Path) -> None:
    found = read_trials(made)
    assert {t.condition for t in found} == set(CONDITIONS)
    assert len(found) == 4 * len(CONDITIONS)
    assert all((t.target is None) == CONDITIONS[t.condition].absent for t in found)
    assert all(len(t.interferers) in CONDITIONS[t.condition].interferers for t in found)


def test_same_seed_same_bytes_and_more_items_change_none(corpus: Path, made: Path, tmp_path: Path) -> None:
    again = make_trials(corpus, tmp_path / "again", "choose", seed=3, per_condition=5).parent
    files = list(made.parent.rglob("*.wav"))
    assert len(files) > 50
    for path in files:
        assert _digest(again / path.relative_to(made.parent)) == _digest(path), path
    other = make_trials(corpus, tmp_path / "other", "choose", seed=4, per_condition=1).parent
    assert _digest(other / "mixture/two_talkers-000.wav") != _digest(made.parent / "mixture/two_talkers-000.wav")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_splits_share_no_talker_and_hold_no_trained_one(corpus: Path, made: Path, tmp_path: Path) -> None:
    report = make_trials(corpus, tmp_path, "report", seed=3, per_condition=4)
    heard = [
        {name for row in _rows(path) for name in (row["talker"], *row["others"].split(";")) if name} for path in (made, report)
    ]
    held = set(open_corpus(corpus).validation_speakers)
    assert not heard[0] & heard[1]
    assert heard[0] | heard[1] <= held
    assert all(row["talker"] not in row["others"].split(";") for row in _rows(made))


def test_a_mixture_is_the_sum_of_its_parts_as_stated(made: Path) -> None:
    checked = 0
    for row in _rows(made):
        mixture, rate_hz = audio.read(made.parent / row["mixture"])
        parts = [audio.read(made.parent / name)[0] for name in (row["target"], *row["interferer"].split(";")) if name]
        assert rate_hz == RATE_HZ
        assert mixture.shape[0] == (2 if row["condition"] == "two_talkers_binaural" else 1)
        assert 4.0 <= mixture.shape[1] / RATE_HZ <= 6.0
        assert -28.01 <= _db(_rms(mixture)) <= -19.99
        assert np.abs(mixture).max() < 1
        rest = mixture - sum(parts)
        if row["snr_db"]:
            assert _db(_rms(parts[0]) / _rms(rest)) == pytest.approx(float(row["snr_db"]), abs=0.02)
            assert 5 <= float(row["snr_db"]) <= 15
        else:
            assert np.abs(rest).max() < 1e-6
        if row["sir_db"]:
            power = sum(_rms(x) ** 2 for x in parts[1:])
            assert _db(_rms(parts[0]) / np.sqrt(power)) == pytest.approx(float(row["sir_db"]), abs=0.02)
            assert -5 <= float(row["sir_db"]) <= 5
            checked += 1
    assert checked == 4 * 4  # all conditions but absent and alone


def test_talkers_around_a_head_are_apart(made: Path) -> None:
    pairs = [[float(a) for a in row["azimuths_deg"].split(";")] for row in _rows(made) if row["azimuths_deg"]]
    assert len(pairs) == 4
    assert all(abs((a - b + 180) % 360 - 180) >= 30 for a, b in pairs)


def test_enrollment_is_of_the_talker_but_not_of_the_same_file(corpus: Path, made: Path) -> None:
    held = open_corpus(corpus)
    for row in _rows(made):
        clip, _ = audio.read(made.parent / row["enrollment"])
        matches = [path for path in held.utterances(row["talker"]) if _contains(audio.read(path)[0][0], clip[0])]
        assert len(matches) == 1
        if row["target"] and row["condition"] in ("two_talkers", "target_alone"):
            target, _ = audio.read(made.parent / row["target"])
            assert not _contains(audio.read(matches[0])[0][0], target[0])


def _contains(signal: np.ndarray, piece: np.ndarray) -> bool:
    """Whether ``piece`` was cut from ``signal``, at any level."""
    n = 1 << (len(signal) + len(piece)).bit_length()
    cross = np.fft.irfft(np.fft.rfft(signal, n) * np.conj(np.fft.rfft(piece, n)), n)[: len(signal) - len(piece) + 1]
    energy = np.cumsum(np.concatenate([[0.0], signal.astype(np.float64) ** 2]))
    window = energy[len(piece) :] - energy[: -len(piece)]
    return bool(np.max(cross / np.sqrt(window * np.sum(piece.astype(np.float64) ** 2))) > 0.9999)


def test_every_talker_has_its_turn(corpus: Path, tmp_path: Path) -> None:
    speakers = open_corpus(corpus).validation_speakers[::2]
    path = make_trials(corpus, tmp_path, "choose", per_condition=len(speakers))
    turns = [row["talker"] for row in _rows(path) if row["condition"] == "two_talkers"]
    assert sorted(turns) == speakers


def test_conditions_without_material_are_left_out(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus / "speech" / "set", tmp_path / "plain" / "set")
    path = make_trials(tmp_path / "plain", tmp_path / "out", "choose", per_condition=1)
    assert {row["condition"] for row in _rows(path)} == set(CONDITIONS) - {"two_talkers_noise", "two_talkers_binaural"}


def test_user_errors_are_one_line(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(3):
        for u in range(2):
            _put(tmp_path / f"few/s{i}/u{u}.wav", np.zeros(400))
    assert trials.main(["--data", str(tmp_path / "few"), "-o", str(tmp_path / "x"), "--split", "report"]) == 2
    assert "3 are needed" in capsys.readouterr().err
    assert trials.main(["--data", str(corpus), "-o", str(tmp_path / "x"), "--split", "report", "--per-condition", "0"]) == 2
    assert "at least 1" in capsys.readouterr().err
    assert trials.main(["--data", str(corpus), "-o", str(tmp_path / "x"), "--split", "report", "--per-condition", "1"]) == 0
    assert str(tmp_path / "x" / "trials.csv") in capsys.readouterr().out


class TestHarder:
    """What people and rooms do besides."""

    @pytest.fixture(scope="module")
    @staticmethod
    def harder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[np.ndarray, ...]]]:
        """Mixture, target and enrollment of each item, by condition."""
        names = ["two_talkers", *(name for name, condition in HARDER.items() if not condition.room)]
        path = make_trials(corpus, tmp_path_factory.mktemp("harder"), "choose", seed=3, per_condition=2, conditions=names)
        found: dict[str, list[tuple[np.ndarray, ...]]] = {}
        for row in _rows(path):
            sounds = tuple(audio.read(path.parent / row[part])[0] for part in ("mixture", "target", "enrollment"))
            found.setdefault(row["condition"], []).append(sounds)
        return found

    def test_the_same_mixtures_changed_in_one_thing(self, harder: dict[str, list[tuple[np.ndarray, ...]]]) -> None:
        for i, (mixture, target, enrollment) in enumerate(harder["two_talkers"]):
            quiet, late, phone = (harder[name][i] for name in ("quiet", "after_silence", "telephone"))
            np.testing.assert_allclose(100 * quiet[0], mixture, atol=1e-4)
            assert (late[0][:, :RATE_HZ] == 0).all()
            np.testing.assert_array_equal(late[0][:, RATE_HZ:], mixture)
            np.testing.assert_array_equal(late[1][:, RATE_HZ:], target)
            assert _above(phone[0], 4000) < 1e-4 * _above(mixture, 0)
            assert _above(phone[0], 1000) > 0.1 * _above(mixture, 1000)
            np.testing.assert_array_equal(phone[2], enrollment)
            narrow = harder["telephone_enrollment"][i]
            np.testing.assert_array_equal(narrow[0], mixture)
            assert _above(narrow[2], 4000) < _above(enrollment, 4000)

    def test_two_ears(self, harder: dict[str, list[tuple[np.ndarray, ...]]]) -> None:
        for name in ("two_ears", "three_talkers_two_ears"):
            assert all(mixture.shape[0] == target.shape[0] == 2 for mixture, target, _ in harder[name])

    def test_rooms_need_a_head_in_a_room(self, corpus: Path, tmp_path: Path) -> None:
        held = open_corpus(corpus).hrirs_validation
        rooms = ["two_ears_room", "two_ears_room_babble"]
        assert not _rows(make_trials(corpus, tmp_path / "none", "choose", per_condition=1, conditions=rooms))
        shutil.copytree(corpus, tmp_path / "rooms")
        name = next(n for n in (f"roomX{i}" for i in range(99)) if _held(n))
        (tmp_path / "rooms/hrir" / held[0].name).rename(tmp_path / "rooms/hrir" / f"{name}.npz")
        rows = _rows(make_trials(tmp_path / "rooms", tmp_path / "some", "choose", per_condition=2, conditions=rooms))
        assert {row["condition"] for row in rows} == set(rooms)
        assert {row["head"] for row in rows} == {name}
        assert all(row["snr_db"] for row in rows if row["condition"] == "two_ears_room_babble")


def _above(signal: np.ndarray, hz: float) -> float:
    """Energy above a frequency; the ends of what was cut out of speech do not count."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.shape[-1]), axis=-1)) ** 2
    return float(spectrum[..., int(hz / RATE_HZ * signal.shape[-1]) :].sum())


def _held(stem: str) -> bool:
    return int(hashlib.sha1(stem.encode(), usedforsecurity=False).hexdigest()[:8], 16) / 0xFFFFFFFF < 0.18
