"""Likeness of voices and confidence in an output: what is said, when, and from which figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import likeness as benchmark
from benchmarks import likeness_page
from benchmarks.likeness_page import ASSETS, written
from edge_tse import audio
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.enrollment.likeness import Pair, likeness, pairs
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import ArtifactError
from edge_tse.extraction import extract_signal
from edge_tse.frame import FrameSpec
from edge_tse.live.console import Console
from edge_tse.live.loop import Loop
from edge_tse.live.session import Session
from edge_tse.recognition import Confidence, DoubtWatch, Features, Recognizer
from edge_tse.trust import ASSET, Calibration, LikenessCost, Trust, read_trust
from edge_tse.voice import Voice
from tests.command import Run

DEMO = ASSETS / "demo"
COST = LikenessCost(typical=0.1, gain_db=4.0, slope_db=-5.0, most=0.6)
PLAIN = Calibration(voice=1, change=0, level=0, bias=0, doubtful=0.6)
TRUST = Trust(model="test", one_ear=COST, two_ears=COST, confidence=PLAIN)


@pytest.fixture(scope="module")
def small() -> Artifact:
    return Artifact.shipped()


def clip(name: str) -> np.ndarray:
    return audio.read(DEMO / f"{name}.flac")[0]


@pytest.fixture(scope="module")
def voices(small: Artifact) -> dict[str, Voice]:
    return {name: enroll_clips(small.voice_model, [(name, clip(f"{name}-enroll"), 16000)]).voice for name in ("slt", "rms")}


def judged(small: Artifact, voice: Voice, heard: np.ndarray, talker: np.ndarray, piece: int = 1000) -> tuple[Features | None, ...]:
    recognizer = Recognizer(small.voice_model, PLAIN, voice)
    for at in range(0, heard.shape[1], piece):
        recognizer.push(heard[:, at : at + piece], talker[:, at : at + piece])
        recognizer.work()
    return recognizer.finish()


class Through:
    """An engine, and its step, that lets everything through, as late as an engine does."""

    def __init__(self, frame: FrameSpec) -> None:
        self.frame = frame

    def start(self, ears: int) -> Through:
        self._late = np.zeros((ears, self.frame.delay), np.float32)
        return self

    def __call__(self, hop: np.ndarray) -> np.ndarray:
        joined = np.concatenate([self._late, hop], axis=1)
        self._late = joined[:, hop.shape[1] :]
        return joined[:, : hop.shape[1]]

    def reset(self) -> None: ...


class TestLikeness:
    def test_what_it_costs_follows_the_line_and_ends_where_nothing_was_measured(self) -> None:
        assert COST.loss_db(0.1) == 0
        assert COST.loss_db(-0.5) == 0
        assert COST.loss_db(0.5) == pytest.approx(2.0)
        assert COST.loss_db(0.6) == COST.loss_db(0.9) == pytest.approx(2.5)
        assert COST.expected_db(-0.3) == pytest.approx(6.0)

    def test_of_a_voice_and_itself_or_another(self, small: Artifact, voices: dict[str, Voice]) -> None:
        model = small.voice_model
        assert likeness(model, voices["slt"], voices["slt"]) == pytest.approx(1, abs=1e-5)
        assert likeness(model, voices["slt"], voices["rms"]) == likeness(model, voices["rms"], voices["slt"]) < 0.5

    def test_every_two_voices_the_most_alike_first(self, small: Artifact, voices: dict[str, Voice]) -> None:
        found = pairs(small.voice_model, {**voices, "again": voices["rms"]}, TRUST)
        assert (found[0].first, found[0].second) == ("rms", "again")
        assert len(found) == 3
        assert found[0].said == "rms and again are 1.00 alike: expect at least 2.5 dB less with one ear, at least 2.5 dB with two"
        assert found[0].costly
        assert not found[-1].costly

    def test_without_figures_the_likeness_alone_is_said(self) -> None:
        pair = Pair(first="a", second="b", likeness=0.7, trust=None)
        assert pair.said == "a and b are 0.70 alike: what that costs was not measured for this model"
        assert not pair.costly
        assert pair.figures()["expected_loss_db"] == {"one_ear": None, "two_ears": None}


class TestAsset:
    def test_the_default_model_was_measured(self, small: Artifact) -> None:
        """If this fails, the model is new: ``python -m benchmarks.likeness --data DIR`` for each shipped one."""
        found = Trust.of(small)
        assert found is not None
        assert found.model == "small"
        assert found.one_ear.slope_db < 0
        assert 0 < found.confidence.doubtful < 1

    def test_every_shipped_model_was_measured_and_no_other(self) -> None:
        """Same."""
        known = read_trust((ASSETS / ASSET).read_bytes())
        assert {digest: trust.model for digest, trust in known.items()} == {Artifact.shipped(n).digest: n for n in shipped_names()}

    def test_another_model_was_not(self, small: Artifact) -> None:
        assert Trust.of(small.with_graph(small.graph)) is None

    def test_damage_is_one_line(self) -> None:
        with pytest.raises(ArtifactError, match=r"trust\.json"):
            read_trust(b'{"ab": {"model": "small"}}')

    def test_page_and_drawings_are_those_of_the_results_on_file(self) -> None:
        """If this fails: ``python -m benchmarks.likeness_page``."""
        for path, text in written().items():
            assert path.read_text() == text, path.name

    def test_a_model_that_is_still_to_be_measured_is_not_on_the_page(
        self, small: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both models of a release are new: the first that is measured drops what was of the second's predecessor."""
        known = json.loads((ASSETS / ASSET).read_text())
        del known[small.digest]
        (tmp_path / ASSET).write_text(json.dumps(known))
        monkeypatch.setattr(likeness_page, "ASSETS", tmp_path)
        text = written()[likeness_page.PAGE]
        assert "## nano" in text
        assert "## small" not in text

    def test_the_asset_and_the_result_are_of_one_measurement(self) -> None:
        for digest, trust in read_trust((ASSETS / ASSET).read_bytes()).items():
            stored = json.loads((benchmark.RESULTS / f"likeness-{trust.model}.json").read_text())["figures"]
            assert stored["artifact"] == digest


class TestRecognizer:
    def test_the_talker_is_told_from_the_other_one(self, small: Artifact, voices: dict[str, Voice]) -> None:
        mine, other = clip("slt-speech"), clip("rms-speech")
        n = min(mine.shape[1], other.shape[1])
        mine, other = mine[:, :n], other[:, :n]
        trust = Trust.of(small)
        assert trust is not None
        means = []
        for talker in (mine, other):
            recognizer = Recognizer(small.voice_model, trust.confidence, voices["slt"])
            recognizer.push(mine + other, talker)
            mean = recognizer.close().mean
            assert mean is not None
            means.append(mean)
        assert means[0] > 0.9
        assert means[1] < means[0] - 0.2

    @pytest.mark.parametrize("piece", [64, 16001, 10**6])
    def test_pieces_do_not_matter(self, small: Artifact, voices: dict[str, Voice], piece: int) -> None:
        heard = clip("slt-speech")[:, : 16000 * 4 + 9000]
        found = judged(small, voices["slt"], heard, heard * 0.5, piece)
        assert found == judged(small, voices["slt"], heard, heard * 0.5)
        assert len(found) == 5
        assert all(f is not None and f.level_db == pytest.approx(-6.02, abs=0.01) for f in found)
        assert all(f is not None and f.change > 0.98 for f in found)

    def test_nobody_is_heard(self, small: Artifact, voices: dict[str, Voice]) -> None:
        heard = clip("slt-speech")[:, :48000]
        assert judged(small, voices["slt"], heard, np.zeros_like(heard)) == (None, None, None)
        assert judged(small, voices["slt"], heard, heard * 0.01) == (None, None, None)
        assert judged(small, voices["slt"], heard[:, :7000], heard[:, :7000]) == ()

    def test_seconds_around_a_change_of_voice_are_not_judged(self, small: Artifact, voices: dict[str, Voice]) -> None:
        heard = clip("slt-speech")[:, : 16000 * 5]
        recognizer = Recognizer(small.voice_model, PLAIN, voices["slt"])
        recognizer.push(heard[:, :32000], heard[:, :32000])
        recognizer.switch_to(voices["rms"])
        recognizer.push(heard[:, 32000:], heard[:, 32000:])
        found = recognizer.finish()
        assert [f is None for f in found] == [False, True, True, False, False]
        assert found[0] is not None
        assert found[3] is not None
        assert found[0].voice > found[3].voice + 0.2

    def test_it_hears_a_mixture_lined_up_with_what_came_of_it(self, small: Artifact, voices: dict[str, Voice]) -> None:
        """Beside an engine that lets everything through, both are the same sound."""
        recognizer = Recognizer(small.voice_model, PLAIN, voices["slt"])
        pushed: list[tuple[np.ndarray, np.ndarray]] = []
        push = recognizer.push
        recognizer.push = lambda heard, talker: (pushed.append((heard.copy(), talker.copy())), push(heard, talker))[1]  # type: ignore[method-assign]
        sound = clip("slt-speech")[:, :32000]
        out = extract_signal(
            sound, 16000, recognizer.beside(Through(small.frame)), progress=recognizer.between(lambda _: None)
        ).signal
        np.testing.assert_array_equal(out, sound)
        assert len(pushed) > 500
        for heard, talker in pushed:
            np.testing.assert_array_equal(heard, talker)
        assert len(recognizer.close().seconds) == 2

    def test_in_a_session_too_and_a_panel_shows_it(self, small: Artifact, voices: dict[str, Voice]) -> None:
        recognizer = Recognizer(small.voice_model, PLAIN, voices["slt"])
        session = Session(
            Through(small.frame), Loop(rate_hz=16000, ears=1, block=64), shape=recognizer.told(lambda talker, dry: 0 * talker)
        )
        console = Console(session, recognizer=recognizer)
        sound, out = np.ascontiguousarray(clip("slt-speech")[:, :40000].T), np.zeros((64, 1), np.float32)
        for at in range(0, len(sound), 64):
            session.exchange(sound[at : at + 64], out)
            session.work()
        assert console.status()["confidence"] is None
        recognizer.work()
        assert console.status()["confidence"] == recognizer.last
        (seen, *_) = recognizer.finish()
        assert seen is not None
        assert seen.level_db == pytest.approx(0, abs=1e-6)
        assert seen.change == pytest.approx(1, abs=1e-5)


class TestConfidence:
    def test_stretches_and_their_line(self) -> None:
        told = Confidence(seconds=(0.9, 0.2, 0.3, None, 0.1, 0.8), doubtful_below=0.5)
        assert told.doubtful == ((1, 3), (4, 5))
        assert told.mean == pytest.approx(0.46)
        assert told.said == "0.46 on average; seconds 1–3, 4–5: probably another talker"
        assert told.figures()["doubtful"] == [[1, 3], [4, 5]]
        assert Confidence(seconds=(None,), doubtful_below=0.5).said == "nobody is heard"
        assert Confidence(seconds=(0.9,), doubtful_below=0.5).said == "0.90 on average, nowhere below 0.50"

    def test_a_session_says_a_lasting_doubt_once(self, small: Artifact, voices: dict[str, Voice]) -> None:
        surely_another = Calibration(voice=0, change=0, level=0, bias=-5, doubtful=0.5)
        recognizer = Recognizer(small.voice_model, surely_another, voices["slt"])
        watch, said = DoubtWatch(recognizer), []
        sound = np.tile(clip("slt-speech")[:, :32000], 3)
        for at in range(0, sound.shape[1], 16000):
            recognizer.push(sound[:, at : at + 16000], sound[:, at : at + 16000])
            said.append(watch())
        assert [line for line in said if line] == ["confidence: since second 0 probably another talker"]
        assert said.index("confidence: since second 0 probably another talker") == 3
        assert recognizer.last == pytest.approx(1 / (1 + np.exp(5)))


class TestCommand:
    def test_from_enrollment_to_confidence(self, run: Run, tmp_path: Path) -> None:
        a, b, out = (tmp_path / name for name in ("a.voice", "b.voice", "out.wav"))
        assert run("enroll", DEMO / "rms-enroll.flac", "-o", b).code == 0
        said = run("enroll", DEMO / "slt-enroll.flac", "-o", a, "--against", b)
        assert f"{a} and {b} are " in said.out.replace("\n", "")
        found = run("enroll", DEMO / "slt-enroll.flac", "-o", a, "--against", b, "--json").json["likeness"]
        assert [pair["voices"] for pair in found] == [[str(a), str(b)]]
        assert found == run("likeness", a, b, "--json").json["pairs"]
        told = run("extract", DEMO / "slt-speech.flac", "--voice", a, "-o", out, "--json").json["confidence"]
        assert len(told["seconds"]) == round(soundfile_seconds(DEMO / "slt-speech.flac"))
        assert told["mean"] > 0.5
        assert "confidence" in run("extract", DEMO / "slt-speech.flac", "--voice", a, "-o", out).out

    def test_one_voice_is_alike_to_nothing(self, run: Run, tmp_path: Path) -> None:
        run("enroll", DEMO / "rms-enroll.flac", "-o", tmp_path / "b.voice")
        assert "give another voice file" in run("likeness", tmp_path / "b.voice").complaint

    def test_the_other_voice_is_kept(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "b.voice"
        run("enroll", DEMO / "rms-enroll.flac", "-o", path)
        assert "is also the input" in run("enroll", DEMO / "slt-enroll.flac", "-o", path, "--against", path).complaint


def soundfile_seconds(path: Path) -> float:
    signal, rate_hz = audio.read(path)
    return signal.shape[1] / rate_hz


class TestBenchmark:
    def test_who_is_confused(self) -> None:
        rng = np.random.default_rng(0)
        mine, other = rng.standard_normal((2, 1, 8000)).astype(np.float32)
        mixture = mine + other
        assert not benchmark.confused(mine + 0.1 * other, mixture, mine, [other])
        assert benchmark.confused(0.1 * mine + other, mixture, mine, [other])
        assert benchmark.confused(mine + 0.9 * rng.standard_normal((1, 8000)), mine + 0.1 * other, mine, [other])  # worse by 3 dB
        assert benchmark.confused(other, other, None, [other])
        assert benchmark.confused(other, other, np.zeros_like(mine), [other]) is None
        assert not benchmark.confused(mine, mine, mine, [])

    def test_a_calibration_is_found_again(self) -> None:
        rng = np.random.default_rng(1)
        seen = np.column_stack([rng.normal(0.4, 0.2, 20000), rng.normal(0.8, 0.1, 20000), rng.normal(-4, 3, 20000)])
        true = Calibration(voice=6, change=-8, level=2, bias=5, doubtful=0)
        right = rng.random(20000) < np.array([true.probability(*row) for row in seen])
        found = benchmark.calibrated(seen, right)
        assert found.voice == pytest.approx(6, rel=0.1)
        assert found.change == pytest.approx(-8, rel=0.1)
        p = np.array([found.probability(*row) for row in seen])
        assert benchmark.caught(p, ~right, found.doubtful)["false_alarms"] == pytest.approx(0.05, abs=0.005)
        for row in benchmark.reliability(p, right):
            assert row["stated"] == pytest.approx(row["right"], abs=0.05)

    def test_a_line_through_gains(self) -> None:
        alike = np.linspace(-0.2, 0.5, 20)
        line = benchmark.cost_line(alike, 5 - 6 * alike, typical=0.1)
        assert (line.gain_db, line.slope_db, line.most) == pytest.approx((4.4, -6, 0.5))

    def test_trials_that_are_kept_are_those_asked_for(
        self, small: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another seed has its own, and more of them are made where there are too few."""
        made = []

        def make(data: Path, folder: Path, split: str, seed: int, count: int, conditions: tuple[str, ...]) -> None:
            made.append((seed, count))
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("m.wav", "e.wav"):
                (folder / name).touch()
            rows = [f"{i},m.wav,e.wav,,,{conditions[0]}" for i in range(count)]
            (folder / "trials.csv").write_text("\n".join(["id,mixture,enrollment,target,interferer,condition", *rows]))

        monkeypatch.setattr(benchmark, "CONDITIONS", {"two_talkers": 1})
        monkeypatch.setattr(benchmark, "make_trials", make)
        monkeypatch.setattr(benchmark, "observe", lambda trial, artifact: {})
        found = [
            len(benchmark.observations(tmp_path, "report", small, count, seed, tmp_path))
            for seed, count in ((1, 3), (1, 3), (2, 3), (1, 5), (1, 2))
        ]
        assert found == [3, 3, 3, 5, 2]
        assert made == [(1, 3), (2, 3), (1, 5)]
