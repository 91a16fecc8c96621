"""Lists of the field, on miniature trees of their layout: LibriMix with published enrollments, recordings without a reference."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import libri2mix, real_recordings
from benchmarks.libri2mix import librimix_trials
from benchmarks.real_recordings import levels, read_recordings, talking
from edge_tse import audio
from edge_tse.errors import DataError
from quantization.trial_list import read_trials
from tests.graphs import Sizes
from tests.graphs import artifact as random_artifact

RATE_HZ = 16000
CLIPS = Path(audio.__file__).parent / "assets" / "demo"
TWO, OTHER = "1-10-0000_2-20-0000", "1-11-0001_2-21-0001"
THREE = "1-10-0000_2-20-0000_3-30-0000"
MAP = f"""{TWO} 1-10-0000 s1/{OTHER}
{TWO} 2-20-0000 s2/{OTHER}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two mixtures of two talkers and one of three; the second mixture's sources enroll."""
    root = tmp_path_factory.mktemp("Libri2Mix")
    base = root / "wav16k" / "min" / "test"
    names = {
        TWO: ("rms-speech", "slt-speech"),
        OTHER: ("rms-enroll", "slt-enroll"),
        THREE: ("rms-speech", "slt-speech", "awb-speech"),
    }
    for mixture, clips in names.items():
        sources = [audio.read(CLIPS / f"{clip}.flac")[0][:1] for clip in clips]
        n = min(2 * RATE_HZ if mixture != OTHER else 10**9, *(x.shape[1] for x in sources))
        for i, x in enumerate(sources, 1):
            (base / f"s{i}").mkdir(parents=True, exist_ok=True)
            audio.write(base / f"s{i}" / f"{mixture}.wav", 0.5 * x[:, :n], RATE_HZ)
        (base / "mix_clean").mkdir(exist_ok=True)
        audio.write(base / "mix_clean" / f"{mixture}.wav", 0.5 * sum(x[:, :n] for x in sources), RATE_HZ)
    (root / "map").write_text(MAP)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.etse"
    random_artifact(Sizes(8, 12, (1, 2), 6, 8, (1,))).save(path)
    return path


def test_a_published_list_becomes_trials(root: Path, tmp_path: Path) -> None:
    first, second = read_trials(librimix_trials(root, root / "map", tmp_path / "trials.csv"))
    base = root / "wav16k" / "min" / "test"
    assert (first.id, second.id) == (f"{TWO} 1-10-0000", f"{TWO} 2-20-0000")
    assert first.mixture == second.mixture == base / "mix_clean" / f"{TWO}.wav"
    assert (first.target, second.target) == (base / "s1" / f"{TWO}.wav", base / "s2" / f"{TWO}.wav")
    assert (first.interferers, second.interferers) == ((second.target,), (first.target,))
    assert (first.enrollment, second.enrollment) == ((base / "s1" / f"{OTHER}.wav",), (base / "s2" / f"{OTHER}.wav",))
    assert first.condition == "Libri2Mix mix_clean"


def test_three_talkers_and_paths_of_enrollments(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "map"
    path.write_text(f"{THREE} 2-20-0000 wav16k/min/test/s2/{OTHER}.wav\n\n")
    (trial,) = read_trials(librimix_trials(root, path, tmp_path / "trials.csv"))
    base = root / "wav16k" / "min" / "test"
    assert trial.condition == "Libri3Mix mix_clean"
    assert trial.target == base / "s2" / f"{THREE}.wav"
    assert trial.interferers == (base / "s1" / f"{THREE}.wav", base / "s3" / f"{THREE}.wav")
    assert trial.enrollment == (base / "s2" / f"{OTHER}.wav",)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (f"{TWO} 1-10-0000", "line 1: 2 words, 3 are needed"),
        (MAP + f"{TWO} 9-99-0000 s1/{OTHER}", "line 3: utterance 9-99-0000 is not in mixture"),
        (f"{TWO} 1-10-0000 s1/nobody", "line 1: there is no file .*s1/nobody.wav"),
        (f"a_b a s1/{OTHER}", "line 1: there is no file .*mix_clean/a_b.wav"),
        (f"{TWO} 1-10-0000 s1/{TWO}", "line 1: the enrollment is the target itself"),
        ("", "holds 0 enrollments"),
    ],
)
def test_a_list_that_does_not_fit_the_tree_is_refused(root: Path, tmp_path: Path, lines: str, complaint: str) -> None:
    (tmp_path / "map").write_text(lines)
    with pytest.raises(DataError, match=complaint):
        librimix_trials(root, tmp_path / "map", tmp_path / "trials.csv")


def test_other_trees_are_refused(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--enrollment", str(root / "map"), "-o", str(tmp_path / "r.json")]
    assert libri2mix.main(["--root", str(tmp_path), *line]) == 2
    assert "--root names the folder that holds wav16k/min" in " ".join(capsys.readouterr().err.split())
    shutil.copytree(root, tmp_path / "slow")
    slow = tmp_path / "slow" / "wav16k" / "min" / "test" / "mix_clean" / f"{TWO}.wav"
    audio.write(slow, audio.resample(audio.read(slow)[0], RATE_HZ, 8000), 8000)
    assert libri2mix.main(["--root", str(tmp_path / "slow"), *line]) == 2
    assert "has 8000 Hz, the protocol is 16000" in " ".join(capsys.readouterr().err.split())


def test_a_model_is_scored_by_the_protocol(root: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--root", str(root), "--enrollment", str(root / "map"), "--artifact", str(model), "--engine", "reference"]
    assert libri2mix.main([*line, "-o", str(tmp_path / "r.json"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "r.json").read_text())
    found = shown["conditions"]["Libri2Mix mix_clean"]
    assert (found["n"], shown["trials"]["rows"]) == (2, 2)
    gains = [item["scores"]["si_sdr_i"] for item in shown["items"]]
    assert found["si_sdr_i"]["mean"] == pytest.approx(np.mean(gains))
    assert found["pesq_wb"] is not None
    assert found["estoi_mixture"] > 0
    assert "PESQ-WB" in str(libri2mix.score_tables(shown)[0].columns[1]._cells)
    assert not (tmp_path / "r.json.journal").exists()


def test_levels_of_known_signals() -> None:
    mixture = np.ones((1, 4 * RATE_HZ), np.float32)
    talks = talking(((0, 1), (2, 3)), mixture.shape[1], RATE_HZ)
    assert talks.sum() == 2 * RATE_HZ
    found = levels(mixture, np.where(talks, mixture * 0.5, mixture * 0.05), talks)
    assert found == pytest.approx({"kept_db": -6.02, "others_down_db": 26.02, "contrast_i_db": 20.0}, abs=0.01)
    assert levels(mixture, mixture, talks) == {"kept_db": 0.0, "others_down_db": 0.0, "contrast_i_db": 0.0}
    assert set(levels(mixture, mixture, talking((), mixture.shape[1], RATE_HZ)).values()) == {None}
    assert set(levels(mixture, mixture, talking(((0, 9),), mixture.shape[1], RATE_HZ)).values()) == {None}
    assert levels(mixture, 0 * mixture, talks)["others_down_db"] == 100.0


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A tree as REAL-T's: a dialogue of two, in turns of two seconds."""
    for name in ("mixtures", "enrolment_speakers", "DEV"):
        (tmp_path / name).mkdir()
    a, b = (audio.read(CLIPS / f"{name}-speech.flac")[0][:1, : 2 * RATE_HZ] for name in ("rms", "slt"))
    audio.write(tmp_path / "mixtures" / "m1.wav", np.concatenate([a, b], axis=1), RATE_HZ)
    audio.write(tmp_path / "enrolment_speakers" / "e1.wav", audio.read(CLIPS / "rms-enroll.flac")[0], RATE_HZ)
    (tmp_path / "DEV" / "AMI_meta.csv").write_text(
        "mixture_utterance,enrolment_speakers_utterance,source,language,speaker,ground_truth_transcript\nm1,e1,AMI,en,A,hello\n"
    )
    (tmp_path / "m.rttm").write_text("SPEAKER m1 1 0.0 2.0 <NA> <NA> A <NA> <NA>\nSPEAKER m1 1 2.0 2.0 <NA> <NA> B <NA> <NA>\n")
    (tmp_path / "own.csv").write_text(
        "id,mixture,enrollment,segments,condition\nx,mixtures/m1.wav,enrolment_speakers/e1.wav,0-2,kitchen\n"
    )
    return tmp_path


def test_both_lists_of_recordings_say_the_same(recordings: Path) -> None:
    ((published, spoken),) = read_recordings(recordings / "DEV" / "AMI_meta.csv", recordings / "m.rttm")
    ((own, segments),) = read_recordings(recordings / "own.csv")
    assert (published.id, published.condition, own.id, own.condition) == ("m1-e1", "AMI", "x", "kitchen")
    assert (published.mixture, published.enrollment, spoken) == (own.mixture, own.enrollment, segments)
    assert segments == ((0.0, 2.0),)
    assert read_recordings(recordings / "DEV" / "AMI_meta.csv")[0][1] == ()


def test_recordings_are_scored_without_a_reference(recordings: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = recordings / "r.json"
    line = ["--list", str(recordings / "own.csv"), "--artifact", str(model), "--engine", "reference", "-o", str(report), "--json"]
    assert real_recordings.main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(report.read_text())
    (item,) = found["items"]
    assert set(item["scores"]) == set(real_recordings.METRICS)
    assert item["scores"]["contrast_i_db"] == pytest.approx(item["scores"]["kept_db"] + item["scores"]["others_down_db"], abs=2e-4)
    assert found["conditions"]["kitchen"]["contrast_i_db"] == {"median": item["scores"]["contrast_i_db"], "n": 1}
    assert found["conditions"]["kitchen"]["failed"] == 0


def test_a_segment_beyond_the_recording_is_a_failure_that_is_shown(
    recordings: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = recordings / "own.csv"
    own.write_text(own.read_text().replace(",0-2,", ",0-2;900-1900,"))
    line = ["--list", str(own), "--artifact", str(model), "--engine", "reference", "-o", str(recordings / "r.json")]
    assert real_recordings.main(line) == 0
    (item,) = json.loads((recordings / "r.json").read_text())["items"]
    assert re.search(r"m1\.wav has 4\.0 s, a segment begins at 900\.0 s", item["failed"])
    assert "failed" in capsys.readouterr().out


def test_segments_that_belong_to_nothing_are_refused(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rttm, published = recordings / "m.rttm", recordings / "DEV" / "AMI_meta.csv"
    with pytest.raises(DataError, match="a column of its own: leave out --rttm"):
        read_recordings(recordings / "own.csv", rttm)
    rttm.write_text(rttm.read_text().replace(" m1 ", " m1.wav "))
    with pytest.raises(DataError, match="tells of 2 talkers in recordings, of none in the 1 rows"):
        read_recordings(published, rttm)
    assert real_recordings.main(["--list", str(published), "--rttm", str(rttm), "-o", str(recordings / "r.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("id,mixture\nx,y\n", "needed are id, mixture"),
        ("id,mixture,enrollment,segments,condition\n", "holds 0 recordings"),
        ("id,mixture,enrollment,segments,condition\nx,mixtures/m1.wav\n", "row 2: id or enrollment is empty"),
        ("id,mixture,enrollment,segments,condition\nx,gone.wav,mixtures/m1.wav,,c\n", "row 2: there is no file"),
        ("id,mixture,enrollment,segments,condition\nx,mixtures/m1.wav,mixtures/m1.wav,2-1,c\n", "2-1 is not like"),
        ("id,mixture,enrollment,segments,condition\nx,mixtures/m1.wav,mixtures/m1.wav,1 to 2,c\n", "1 to 2 is not like"),
        ("id,mixture,enrollment,segments,condition\n" + "x,mixtures/m1.wav,mixtures/m1.wav,,c\n" * 2, "2 rows have 1 ids"),
    ],
)
def test_bad_lists_of_recordings_are_refused(recordings: Path, text: str, complaint: str) -> None:
    (recordings / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_recordings(recordings / "bad.csv")
    (recordings / "bad.rttm").write_text("SPEAKER m1 1 zero 2.0\n")
    with pytest.raises(DataError, match="line 1: not a line of an RTTM file"):
        read_recordings(recordings / "own.csv", recordings / "bad.rttm")
