"""Evaluation of a small untrained model on the demo voices: figures are those of the parts, and bad lists are refused by row."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.recordings import Enrollment, enroll_files
from edge_tse.errors import DataError, EngineError
from edge_tse.extraction import extract_signal
from edge_tse.metrics import attenuation_db, si_sdr
from edge_tse.personalization import personalize
from edge_tse.report import to_json
from quantization import evaluate as evaluation
from quantization.analyse import analyse
from quantization.evaluate import _similarity, evaluate, personal_listener
from quantization.examples import examples
from quantization.score_summary import tails
from quantization.trial_list import COLUMNS, read_trials
from tests.command import Run
from tests.graphs import Sizes
from tests.graphs import artifact as random_artifact

RATE_HZ = 16000
CLIPS = Path(audio.__file__).parent / "assets" / "demo"

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return random_artifact(Sizes(8, 12, (1, 2), 6, 8, (1,)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two talkers, their mixtures and their enrollments, 2 s each."""
    folder = tmp_path_factory.mktemp("sound")
    a, b = (_speech(name, 2.0) for name in ("rms", "slt"))
    audio.write(folder / "a.wav", a, RATE_HZ)
    audio.write(folder / "b.wav", b, RATE_HZ)
    audio.write(folder / "mix.wav", a + b, RATE_HZ)
    ears = np.concatenate([a + 0.5 * b, 0.5 * a + b])
    audio.write(folder / "mix2.wav", ears, RATE_HZ)
    audio.write(folder / "a2.wav", np.concatenate([a, 0.5 * a]), RATE_HZ)
    audio.write(folder / "a-left.wav", np.concatenate([a, 0 * a]), RATE_HZ)
    audio.write(folder / "silence.wav", 0 * a, RATE_HZ)
    audio.write(folder / "short.wav", (a + b)[:, 8000:9000], RATE_HZ)
    audio.write(folder / "short-a.wav", a[:, 8000:9000], RATE_HZ)
    audio.write(folder / "longer.wav", np.pad(a, ((0, 0), (0, 50))), RATE_HZ)
    audio.write(folder / "mix44.wav", audio.resample(a + b, RATE_HZ, 44100), 44100)
    (folder / "noise.wav").write_bytes(b"not sound")
    for name in ("rms", "slt"):
        (folder / f"{name}.flac").write_bytes((CLIPS / f"{name}-enroll.flac").read_bytes())
    return folder


@pytest.fixture
def trials(sound: Path, request: pytest.FixtureRequest) -> Write:
    """Writes a list: rows of (mixture, enrollment, target, interferer, condition)."""

    def write(*rows: tuple[str, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
        path = sound / f"{request.node.name.replace('/', '-')}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows((f"t{i}", *row)[: len(columns)] for i, row in enumerate(rows))
        return path

    return write


TWO = ("mix.wav", "rms.flac", "a.wav", "b.wav", "two")


def _speech(name: str, seconds: float) -> np.ndarray:
    signal, rate_hz = audio.read(CLIPS / f"{name}-speech.flac")
    start = rate_hz // 4
    cut = audio.resample(signal[:1, start : start + round(seconds * rate_hz)], rate_hz, RATE_HZ)
    return 0.05 * cut / np.sqrt(np.mean(cut**2))


def _by_hand(artifact: Artifact, sound: Path, mixture: str, enrollment: str = "rms.flac") -> tuple[np.ndarray, np.ndarray]:
    own = personalize(artifact, enroll_files(artifact.voice_model, [sound / enrollment]).voice)
    heard, rate_hz = audio.read(sound / mixture)
    return heard, extract_signal(heard, rate_hz, Engine(own, open_network(own, "reference"))).signal


def test_scores_are_those_of_the_extraction(artifact: Artifact, sound: Path, trials: Write) -> None:
    report = evaluate(trials(TWO, ("mix.wav", "slt.flac", "b.wav", "a.wav", "two")), artifact, "reference")
    for item, target, clip in zip(report["items"], ("a.wav", "b.wav"), ("rms.flac", "slt.flac"), strict=True):
        mixture, estimate = _by_hand(artifact, sound, "mix.wav", clip)
        wanted, _ = audio.read(sound / target)
        assert item["scores"]["si_sdr"] == pytest.approx(si_sdr(estimate, wanted), abs=1e-4)
        assert item["scores"]["si_sdr_i"] == pytest.approx(si_sdr(estimate, wanted) - si_sdr(mixture, wanted), abs=1.1e-4)
        assert item["scores"]["si_sdr_mixture"] == pytest.approx(0.0, abs=0.3)  # two talkers of equal level
        assert 1.0 < item["scores"]["pesq_wb"] < 4.7
        assert 0.0 < item["scores"]["estoi"] < 1.0
    condition = report["conditions"]["two"]
    gains = [item["scores"]["si_sdr_i"] for item in report["items"]]
    assert condition["n"] == 2
    assert condition["si_sdr_i"]["mean"] == pytest.approx(np.mean(gains))
    assert condition["si_sdr_i"]["median"] == pytest.approx(np.median(gains))
    assert condition["si_sdr_i"]["p10"] == pytest.approx(min(gains) + 0.1 * (max(gains) - min(gains)))
    assert condition["si_sdr_i"]["below_zero"] == sum(g < 0 for g in gains) / 2
    assert condition["pesq_wb"] == pytest.approx(np.mean([item["scores"]["pesq_wb"] for item in report["items"]]))
    assert condition["estoi_mixture"] > 0
    assert condition["failed"] == {}
    assert set(condition["not_computed"]) == {"onset_damping_db"}  # two seconds without a pause
    assert report["artifact"] == artifact.digest
    assert report["engine"] == open_network(artifact, "reference").name
    assert {"edge-tse", "numpy", "pesq", "pystoi"} <= set(report["versions"])


def test_conditions_are_kept_apart_and_in_order(artifact: Artifact, trials: Write) -> None:
    report = evaluate(trials((*TWO[:4], "second"), (*TWO[:4], "first"), (*TWO[:4], "second")), artifact, "reference")
    assert [(name, part["n"]) for name, part in report["conditions"].items()] == [("second", 2), ("first", 1)]


@pytest.mark.parametrize("target", ["", "silence.wav"])
def test_absent_talker_is_scored_by_attenuation(artifact: Artifact, sound: Path, trials: Write, target: str) -> None:
    report = evaluate(trials(("b.wav", "rms.flac", target, "b.wav", "absent")), artifact, "reference")
    mixture, estimate = _by_hand(artifact, sound, "b.wav")
    condition = report["conditions"]["absent"]
    assert condition["attenuation_db"]["mean"] == pytest.approx(attenuation_db(estimate, mixture), abs=1e-4)
    assert condition["absent"] == 1
    assert condition["si_sdr_i"] is None
    assert condition["pesq_wb"] is None


def test_two_ears_are_scored_each(artifact: Artifact, sound: Path, trials: Write) -> None:
    report = evaluate(trials(("mix2.wav", "rms.flac", "a2.wav", "", "ears")), artifact, "reference")
    mixture, estimate = _by_hand(artifact, sound, "mix2.wav")
    wanted, _ = audio.read(sound / "a2.wav")
    ears = [si_sdr(estimate[i], wanted[i]) - si_sdr(mixture[i], wanted[i]) for i in range(2)]
    assert report["items"][0]["scores"]["si_sdr_i"] == pytest.approx(np.mean(ears), abs=1.1e-4)
    assert "wrong_talker" not in report["items"][0]["scores"]


def test_a_mixture_at_another_rate_scores_the_same(artifact: Artifact, trials: Write) -> None:
    report = evaluate(trials(TWO, ("mix44.wav", *TWO[1:])), artifact, "reference")
    here, there = (item["scores"] for item in report["items"])
    assert there["si_sdr"] == pytest.approx(here["si_sdr"], abs=0.2)


def test_several_enrollment_clips_make_one_voice(artifact: Artifact, trials: Write) -> None:
    one, both = (
        evaluate(trials(("mix.wav", clips, *TWO[2:])), artifact, "reference") for clips in ("rms.flac", "rms.flac;slt.flac")
    )
    assert one["items"][0]["scores"]["si_sdr"] != both["items"][0]["scores"]["si_sdr"]


def test_the_wrong_talker_is_told(artifact: Artifact, trials: Write) -> None:
    """The output for two mixtures that are one talker alone resembles that talker, whoever was asked for."""
    report = evaluate(
        trials(("mix.wav", "rms.flac", "a.wav", "mix.wav", "x"), ("mix.wav", "rms.flac", "mix.wav", "a.wav", "x")),
        artifact,
        "reference",
    )
    nearer, farther = (item["scores"]["wrong_talker"] for item in report["items"])
    assert {nearer, farther} == {0.0, 1.0}
    assert report["conditions"]["x"]["wrong_talker"] == 0.5


def test_tails_part_the_trials_by_what_makes_them_hard(artifact: Artifact, sound: Path, trials: Write) -> None:
    path = trials((*TWO, "f;m"), (*TWO, "f;f"), (*TWO, "f;"), (*TWO, ""), columns=(*COLUMNS, "sexes"))
    report = evaluate(path, artifact, "reference")
    gain = report["items"][0]["scores"]["si_sdr_i"]
    assert {name: {k: v["si_sdr_i"]["n"] for k, v in part.items()} for name, part in report["tails"].items()} == {
        "sir_db": {"0 to 2.5" if report["items"][0]["sir_db"] >= 0 else "-2.5 to 0": 4},  # two talkers of equal level
        "sex": {"same": 1, "other": 1},
    }
    assert report["tails"]["sex"]["same"]["si_sdr_i"]["median"] == pytest.approx(gain, abs=2e-4)
    assert report["items"][0]["sir_db"] == pytest.approx(0, abs=0.1)
    assert report["items"][0]["similarity"] is None  # two seconds of the other do not enroll


def test_similarity_is_that_of_the_nearest_interferer(artifact: Artifact, sound: Path, trials: Write) -> None:
    own, mixed = read_trials(trials(("mix.wav", "rms.flac", "a.wav", "slt.flac;rms.flac;short.wav", "x"), TWO))
    voice, _ = personal_listener(own, artifact, "reference")
    assert voice is not None
    assert _similarity(own, artifact.voice_model, voice) == pytest.approx(1, abs=1e-3)
    assert _similarity(mixed, artifact.voice_model, voice) is None


def test_similarity_is_of_embeddings_alone(artifact: Artifact, sound: Path, trials: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that listens to the layers of its encoder keeps their averages behind the embedding."""
    enrolled = evaluation.enroll_clips

    def with_layers(*given: Any) -> Enrollment:
        made = enrolled(*given)
        return replace(made, voice=replace(made.voice, embedding=np.append(made.voice.embedding, np.float32([3, -2]))))

    monkeypatch.setattr(evaluation, "enroll_clips", with_layers)
    (trial,) = read_trials(trials(("mix.wav", "rms.flac", "a.wav", "rms.flac", "x")))
    voice = with_layers(artifact.voice_model, [("rms.flac", *audio.read(trial.enrollment[0]))]).voice
    assert _similarity(trial, artifact.voice_model, voice) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("target", ["longer.wav", "a2.wav", "noise.wav"])
def test_moves_are_of_what_lines_up(artifact: Artifact, sound: Path, trials: Write, target: str) -> None:
    with pytest.raises(DataError, match=r"trial \S+, row 2, column target: .*(must have the mixture's|not a readable)"):
        analyse(trials(("mix.wav", "rms.flac", target, "b.wav", "x")), artifact, "reference")


def test_tails_of_known_items() -> None:
    def item(sir_db: float, gain: float | None, wrong: float) -> dict[str, Any]:
        return {"sir_db": sir_db, "scores": {"si_sdr_i": gain, "wrong_talker": wrong}}

    found = tails([item(-9, -1.0, 1.0), item(-4, 3.0, 0.0), item(4.9, 5.0, 0.0), item(9, 7.0, 0.0), item(0, None, 0.0)])
    assert list(found) == ["sir_db"]
    low, high = found["sir_db"]["-5 to -2.5"], found["sir_db"]["2.5 to 5"]
    assert (low["si_sdr_i"]["median"], low["si_sdr_i"]["below_zero"], low["wrong_talker"]) == (1.0, 0.5, 0.5)
    assert (high["si_sdr_i"]["median"], high["si_sdr_i"]["below_zero"], high["wrong_talker"]) == (6.0, 0.0, 0.0)


def test_what_cannot_be_computed_is_counted_with_its_reason(artifact: Artifact, trials: Write) -> None:
    report = evaluate(
        trials(
            ("short.wav", "rms.flac", "short-a.wav", "gone.wav", "short"),
            ("mix.wav", "short.wav", "a.wav", "b.wav", "unenrolled"),
            ("a.wav", "rms.flac", "a.wav", "", "alone"),
        ),
        artifact,
        "reference",
    )
    short, unenrolled, alone = report["conditions"].values()
    assert short["si_sdr"] is not None
    assert short["pesq_wb"] is None
    assert short["estoi"] is None
    assert short["wrong_talker"] is None
    assert {name: sum(reasons.values()) for name, reasons in short["not_computed"].items()} == {
        "pesq_wb": 1,
        "estoi": 1,
        "pesq_wb_mixture": 1,
        "estoi_mixture": 1,
        "onset_damping_db": 1,
        "wrong_talker": 1,
    }
    assert "gone.wav" in next(iter(short["not_computed"]["wrong_talker"]))
    assert unenrolled["n"] == 1
    assert unenrolled["si_sdr"] is None
    assert "of speech" in next(iter(unenrolled["failed"]))
    assert alone["si_sdr_i"] is None
    assert alone["not_computed"]["si_sdr_i"] == {"the mixture is the target alone": 1}


@pytest.mark.parametrize(
    ("row", "column", "why"),
    [
        (("gone.wav", *TWO[1:]), "mixture", "no file"),
        (("mix.wav", "rms.flac;gone.wav", *TWO[2:]), "enrollment", "no file"),
        ((*TWO[:2], "gone.wav", *TWO[3:]), "target", "no file"),
        ((*TWO[:2], "a.wav;b.wav", *TWO[3:]), "target", "2 files"),
        (("", *TWO[1:]), "mixture", "empty"),
        ((*TWO[:4], ""), "condition", "empty"),
        (("noise.wav", *TWO[1:]), "mixture", "not a readable sound file"),
        (("mix.wav", "noise.wav", *TWO[2:]), "enrollment", "not a readable sound file"),
        ((*TWO[:2], "longer.wav", *TWO[3:]), "target", "1 x 32050 and 1 x 32000"),
        ((*TWO[:2], "a2.wav", *TWO[3:]), "target", "2 x 32000 and 1 x 32000"),
        (("mix2.wav", TWO[1], "a-left.wav", *TWO[3:]), "target", "channel 2 of 2 is silent"),
    ],
)
def test_a_bad_row_is_named(artifact: Artifact, trials: Write, row: tuple[str, ...], column: str, why: str) -> None:
    with pytest.raises(DataError, match=rf"row 3, column {column}: .*{why}"):
        evaluate(trials(TWO, row), artifact, "reference")


def test_bad_lists_are_refused(artifact: Artifact, sound: Path, trials: Write) -> None:
    with pytest.raises(DataError, match="no column enrollment"):
        read_trials(trials(("mix.wav",), columns=("id", "mixture")))
    with pytest.raises(DataError, match="0 trials"):
        read_trials(trials())
    with pytest.raises(DataError, match="No such file"):
        read_trials(sound / "none.csv")
    with pytest.raises(DataError, match="cannot read"):
        read_trials(sound / "mix.wav")
    empty = sound / "empty.csv"
    empty.touch()
    with pytest.raises(DataError, match="no column id"):
        read_trials(empty)


def test_a_list_from_a_spreadsheet_is_read(sound: Path, trials: Write) -> None:
    path = trials(TWO)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (trial,) = read_trials(path)
    assert (trial.id, trial.mixture, trial.enrollment) == ("t0", sound / "mix.wav", (sound / "rms.flac",))


def test_limit_and_progress(artifact: Artifact, trials: Write) -> None:
    told: list[float] = []
    report = evaluate(trials(TWO, TWO, TWO), artifact, "reference", progress=told.append, limit=2)
    assert len(report["items"]) == 2
    assert told == [0.5, 1.0]


def test_a_missing_package_is_one_line(artifact: Artifact, trials: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pesq", None)
    with pytest.raises(EngineError, match=r"pip install .*\[eval\]'"):
        evaluate(trials(TWO), artifact, "reference")


ROWS = [TWO, ("mix.wav", "slt.flac", "b.wav", "a.wav", "two"), ("b.wav", "rms.flac", "", "b.wav", "absent")] * 4


def test_estoi_does_not_depend_on_what_was_scored_before(artifact: Artifact, trials: Write) -> None:
    """pystoi adds noise of 1e-16 to avoid a division by zero: it must be the same noise in every process."""
    rng = np.random.get_state()[1]  # noqa: NPY002
    first, again = (evaluate(trials(TWO, TWO), artifact, "reference")["items"] for _ in range(2))
    assert first == again
    assert first[0]["scores"] == first[1]["scores"]
    np.testing.assert_array_equal(rng, np.random.get_state()[1])  # noqa: NPY002


def test_what_was_scored_before_a_stop_is_not_scored_again(artifact: Artifact, trials: Write, tmp_path: Path) -> None:
    path, journal = trials(*ROWS[:4]), tmp_path / "r.json.journal"

    def stop(fraction: float) -> None:
        if fraction >= 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(path, artifact, "reference", stop, journal=journal)
    assert len(journal.read_text().splitlines()) == 1 + 2
    told: list[float] = []
    resumed = evaluate(path, artifact, "reference", told.append, journal=journal)
    assert told == [0.5, 0.75, 1.0]
    assert _same(resumed, evaluate(path, artifact, "reference"))
    with pytest.raises(DataError, match="its engine differs"):
        evaluate(path, artifact, "litert", journal=journal)
    with pytest.raises(DataError, match="its trials differs"):
        evaluate(trials(*ROWS[:5]), artifact, "reference", journal=journal)


def test_a_journal_without_results_stops_nobody(artifact: Artifact, trials: Write, tmp_path: Path) -> None:
    journal = tmp_path / "r.json.journal"
    with pytest.raises(DataError, match="row 2, column target"):
        evaluate(trials(("mix.wav", "rms.flac", "short.wav", "b.wav", "x")), artifact, "reference", journal=journal)
    path = trials(TWO)
    assert _same(evaluate(path, artifact, "reference", journal=journal), evaluate(path, artifact, "reference"))
    journal.write_text('{"a note": "of somebody"}\n')
    with pytest.raises(DataError, match="is no journal of this work"):
        evaluate(path, artifact, "reference", journal=journal)


@pytest.mark.parametrize("file", ["mix.wav", "rms.flac", "a.wav", "b.wav"])
def test_no_output_replaces_a_sound_of_the_list(run: Run, sound: Path, trials: Write, tmp_path: Path, file: str) -> None:
    before = (sound / file).read_bytes()
    rest = ("--trials", trials(TWO), "--artifact", "nano")
    assert f"is also the input {sound / file}" in run("evaluate", "-o", sound / file, *rest).complaint
    assert f"is also the input {sound / file}" in run("analyse", "--plot", sound / file, *rest).complaint
    told = run("evaluate", "-o", tmp_path / "r.json", "--examples", sound / file, *rest).complaint
    assert "is a file, and examples go into a folder" in told
    assert (sound / file).read_bytes() == before
    assert not [*tmp_path.iterdir()]


def test_other_sound_under_the_same_names_is_another_evaluation(
    artifact: Artifact, sound: Path, trials: Write, tmp_path: Path
) -> None:
    (sound / "own.wav").write_bytes((sound / "mix.wav").read_bytes())
    path = trials(("own.wav", *TWO[1:]))
    evaluate(path, artifact, "reference", journal=tmp_path / "journal")
    (sound / "own.wav").write_bytes((sound / "a.wav").read_bytes())
    with pytest.raises(DataError, match="its sound differs"):
        evaluate(path, artifact, "reference", journal=tmp_path / "journal")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_kill_changes_no_figure(artifact: Artifact, trials: Write, tmp_path: Path, workers: int) -> None:
    """Alone, the whole run is killed and started again; of two workers, one is killed and nobody starts anything again."""
    path, model, report = trials(*ROWS), tmp_path / "model.etse", tmp_path / "r.json"
    artifact.save(model)
    journal = tmp_path / "r.json.journal"
    options = ("--trials", path, "--artifact", model, "--engine", "reference", "-o", report, "--workers", str(workers))
    line = [sys.executable, "-m", "edge_tse", "evaluate", *map(str, options)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (journal.exists() and journal.read_text().count("\n") > 2) and time.monotonic() < deadline:
            time.sleep(0.01)
        victim = psutil.Process(process.pid)
        if workers > 1:
            (victim, *_) = [
                child for child in victim.children(recursive=True) if not child.children() and "spawn_main" in str(child.cmdline())
            ]
        victim.kill()
        assert journal.exists(), "the run ended before the kill"
        ended = process.wait(120)
    assert ended == (-signal.SIGKILL if workers == 1 else 0)
    if workers == 1:
        kept = journal.read_text().splitlines()
        head, first = json.loads(kept[0]), json.loads(kept[1])
        assert head["artifact"] == artifact.digest
        first["result"]["scores"]["over_suppression"] = 0.125  # to be seen again: it is not computed anew
        journal.write_text("\n".join([kept[0], json.dumps(first), *kept[2:]]) + "\n")
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, timeout=120)
    found, alone = json.loads(report.read_text()), json.loads(to_json(evaluate(path, artifact, "reference")))
    if workers == 1:
        assert found["items"][0]["scores"].pop("over_suppression") == 0.125
        del alone["items"][0]["scores"]["over_suppression"], found["conditions"], alone["conditions"]
    assert _same(found, alone)
    assert not journal.exists()


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two reports hold the same bits, apart from when they were made."""
    return to_json({**one, "environment": None}) == to_json({**other, "environment": None})


def test_evaluation_needs_no_torch() -> None:
    code = "import sys, quantization.evaluate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_examples_are_the_worst_the_median_the_best_and_the_loudest_for_nobody(artifact: Artifact, trials: Write) -> None:
    path = trials(*[TWO] * 7, ("mix.wav", "slt.flac", "", "a.wav", "absent"), ("mix.wav", "slt.flac", "silence.wav", "", "absent"))
    gains = (3.0, -2.0, 1.0, 5.0, 0.5, 4.0, 2.0)
    items = [{"absent": False, "scores": {"si_sdr_i": gain, "wrong_talker": gain < 0}} for gain in gains]
    items += [{"absent": True, "scores": {"attenuation_db": down}} for down in (9.0, 4.0)]
    cases = examples(path, items)
    assert [(case.name, case.title) for case in cases] == [
        ("gain-1", "Worst of 7: SI-SDR -2.0 dB"),
        ("gain-2", "Worst but 1: SI-SDR +0.5 dB"),
        ("gain-3", "Worst but 2: SI-SDR +1.0 dB"),
        ("gain-4", "Median of 7: SI-SDR +2.0 dB"),
        ("gain-7", "Best of 7: SI-SDR +5.0 dB"),
        ("absent", "Absent talker, loudest output of 2: -4.0 dB of the mixture"),
    ]
    assert "Trial t1 (two). Beside the talker to hear: b.wav. The output is nearer to another talker" in cases[0].talkers
    assert [case.reference is None for case in cases] == [False] * 5 + [True]
    assert cases[0].enrollments[0].path == path.parent / "rms.flac"
    with pytest.raises(DataError, match="0 of 1 trials can be ranked, 1 is needed"):
        examples(path, [{"absent": False, "scores": {}}])
