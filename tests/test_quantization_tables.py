"""The tables of what quantization and enrollment cost: known answers, rows that are kept, pages that fit the results on file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("brevitas", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from benchmarks import enrollment, quantization, sensitivity  # noqa: E402
from benchmarks.quantization import Settings, Study, compare, measure  # noqa: E402
from edge_tse.errors import DataError  # noqa: E402
from quantization.checkpoint import Checkpoint  # noqa: E402
from quantization.corpus import open_corpus  # noqa: E402
from quantization.encoder_training import error_rate  # noqa: E402
from quantization.recipes import recipe  # noqa: E402
from tests.speech import write_pack, write_plain  # noqa: E402


def _on_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        pytest.skip(f"{path.name} is not measured yet")
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


def test_the_page_of_quantization_is_that_of_the_results_on_file() -> None:
    layers = json.loads(sensitivity.STORED.read_text()) if sensitivity.STORED.exists() else None
    assert quantization.PAGE.read_text() == quantization.page(_on_file(quantization.STORED), layers)


def test_the_charts_are_those_of_the_result_on_file() -> None:
    for name, model in _on_file(sensitivity.STORED)["figures"]["models"].items():
        title = f"{name}, {model['scheme']}: {model['n']} mixtures"
        assert sensitivity.drawing(name).read_text() == sensitivity.chart(title, model["layers"])


def test_the_page_of_enrollment_is_that_of_the_result_on_file() -> None:
    assert enrollment.PAGE.read_text() == enrollment.page(_on_file(enrollment.STORED))


def _row(gains: list[float | None], chosen: list[float | None] | None = None) -> dict[str, Any]:
    return {
        key: {f"t{i}": gain for i, gain in enumerate(values)}
        for key, values in (("gains_db", gains), ("choose_gains_db", chosen or gains))
    }


def test_rows_are_compared_mixture_by_mixture() -> None:
    mean, half = compare(_row([1.0, 5.0, None, 9.0]), _row([1.5, 5.1, 3.0, 9.3]))
    assert mean == pytest.approx(-0.3)
    assert half == pytest.approx(1.96 * np.std([-0.5, -0.1, -0.3], ddof=1) / np.sqrt(3))
    assert np.isnan(compare(_row([None]), _row([1.0]))[0])


@pytest.mark.parametrize(
    ("gains", "said"),
    [([3.95, 4.96, 5.94], "Within 0.1 dB"), ([3.0, 4.1, 5.0], "More than 0.1 dB"), ([3.2, 5.0, 6.1], "Not to be told")],
)
def test_the_verdict_follows_from_the_interval(gains: list[float], said: str) -> None:
    assert said in quantization._verdict({"float": _row([4.0, 5.0, 6.0]), "qat": _row(gains)})


def test_what_is_best_is_chosen_on_the_other_split() -> None:
    rows = {"float": _row([1.0, 2.0], [4.0, 5.0]), "ptq-best": _row([1.0, 2.0], [4.1, 5.1]), "qat": _row([3.0, 4.0], [4.0, 5.0])}
    assert quantization._best(rows) == "ptq-best"
    assert quantization._best({"float": rows["float"], "w4-qat": rows["qat"]}) is None
    assert compare(rows["ptq-best"], rows["float"], "choose_gains_db")[0] == pytest.approx(0.1)


def test_a_checkpoint_is_known_by_its_weights() -> None:
    def found(value: float, resume: list[dict[str, Any]]) -> Checkpoint:
        student = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(student.weight, value)
        torch.nn.init.zeros_(student.bias)
        return Checkpoint(recipe=recipe("nano_gains"), student=student, encoder=None, step=1, figures={}, resume=resume)

    assert found(1.0, []).digest == found(1.0, [{"state": 1}]).digest != found(2.0, []).digest


class _Counting:
    """A study whose rows cost nothing and are counted."""

    def __init__(self, settings: Settings, checkpoint: str = "a") -> None:
        self.settings, self.done = settings, list[str]()
        self.facts = {"checkpoint": checkpoint, "trials": "t", "teacher": None}

    def key(self, name: str) -> str:
        return Study.key(self, name)  # type: ignore[arg-type]

    def calibrations(self) -> dict[str, dict[str, float]]:
        self.done.append("calibrations")
        return {"int8, a": {"gain_snr_db": 20.0}, "int8, b": {"gain_snr_db": 30.0}, "4 bits": {"gain_snr_db": 40.0}}

    def row(self, name: str, best: str) -> dict[str, Any]:
        self.done.append(f"{name} by {best}" if name == "ptq-best" else name)
        return {}


def _settings(**changes: Any) -> Settings:
    given = {"seed": 1, "per_condition": 2, "conditions": ("two_talkers",), "qat_steps": 5, "probe_mixtures": 2, "engine": "litert"}
    return Settings(**(given | changes))


def test_a_row_on_file_is_kept_until_what_it_depends_on_changes() -> None:
    saved: list[dict[str, Any]] = []

    def computed(study: _Counting, rows: tuple[str, ...] = tuple(quantization.ROWS)) -> list[str]:
        before = json.loads(json.dumps(saved[-1])) if saved else None
        measure(study, rows, before, lambda model: saved.append(json.loads(json.dumps(model))))  # type: ignore[arg-type]
        return study.done

    assert computed(_Counting(_settings()), ("float", "ptq-best")) == ["calibrations", "float", "ptq-best by int8, b"]
    assert computed(_Counting(_settings()), ("float", "qat")) == ["qat"]
    assert list(saved[-1]["rows"]) == ["float", "ptq-best", "qat"]
    assert computed(_Counting(_settings(qat_steps=6)), ("float", "ptq-best", "qat")) == ["qat"]
    assert computed(_Counting(_settings(qat_steps=6, probe_mixtures=3)), ("ptq-best", "qat")) == [
        "calibrations",
        "ptq-best by int8, b",
    ]
    assert computed(_Counting(_settings(), "b"), ("float",)) == ["calibrations", "float"]
    assert list(saved[-1]["rows"]) == ["float"]


def test_error_rate_of_known_scores() -> None:
    same = np.array([True] * 10 + [False] * 10)
    assert error_rate(np.r_[np.linspace(0.6, 1, 10), np.linspace(0, 0.4, 10)], same) == 0
    scores = np.r_[np.linspace(0.6, 1, 10), np.linspace(0, 0.4, 10)]
    scores[0], scores[-1] = 0.1, 0.9  # one of ten on each wrong side
    assert error_rate(scores, same) == pytest.approx(0.1)
    assert error_rate(-scores, same) == pytest.approx(0.9, abs=0.05)


def test_noise_in_an_enrollment_has_the_stated_ratio() -> None:
    rng = np.random.default_rng(0)
    speech, noise = (0.1 * rng.standard_normal(15 * 16000).astype(np.float32) for _ in range(2))
    one = enrollment.Comparison(talker="a", enrollment=speech, test=speech, noise=5 * noise)
    assert np.array_equal(one.clip(2.0, None), speech[:32000])
    mixed = one.clip(3.0, 10.0)
    assert len(mixed) == 48000
    share = float(mixed @ speech[:48000] / (speech[:48000] @ speech[:48000]))
    rest = mixed / share - speech[:48000]
    assert 10 * np.log10(np.sum(speech[:48000] ** 2) / np.sum(rest**2)) == pytest.approx(10, abs=0.1)


def test_enrollments_are_of_talkers_held_out_and_never_hold_their_test(tmp_path: Path) -> None:
    corpus = open_corpus(write_plain(tmp_path / "many", talkers=12, utterances=7))
    found = enrollment.comparisons(corpus, seed=1, draws=2)
    assert {one.talker for one in found} == set(corpus.validation_speakers)
    assert len(found) == 2 * len(corpus.validation_speakers)
    again = enrollment.comparisons(corpus, seed=1, draws=2)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.enrollment, other.enrollment)
        assert len(one.enrollment) == 15 * 16000
        assert one.noise is None
        blocks = np.lib.stride_tricks.sliding_window_view(one.enrollment, 64)[:: 16000 // 100]
        assert not any(np.array_equal(block, one.test[:64]) for block in blocks)
    with pytest.raises(DataError, match="15 s of speech"):
        enrollment.comparisons(open_corpus(write_pack(tmp_path / "few")), seed=1, draws=1)


def test_rates_by_length_and_noise_of_an_encoder_that_knows_everybody() -> None:
    """Talkers who are told apart by the mean of their signal: without noise never confused, and refused when it is negative."""

    def comparison(talker: int, sign: float = 1.0) -> enrollment.Comparison:
        there = np.full(15 * 16000, np.float32(0.1 * (talker + 1)) * np.float32(sign))
        return enrollment.Comparison(talker=str(talker), enrollment=there, test=np.abs(there), noise=None)

    def embedding(_model: object, signal: np.ndarray) -> np.ndarray | None:
        return np.eye(8, dtype=np.float32)[round(float(signal[0]) * 10)] if signal[0] > 0 else None

    before = enrollment._embedding
    try:
        enrollment._embedding = embedding
        rows = enrollment.equal_error_rates(SimpleNamespace(), [comparison(i) for i in range(4)], (2.0, 5.0), (None,))
        some = enrollment.equal_error_rates(SimpleNamespace(), [comparison(0, -1.0), comparison(1), comparison(2)], (2.0,), (None,))
    finally:
        enrollment._embedding = before
    assert [(row["seconds"], row["eer"], row["refused"], row["enrollments"]) for row in rows] == [
        (2.0, 0.0, 0.0, 4),
        (5.0, 0.0, 0.0, 4),
    ]
    assert some[0]["refused"] == pytest.approx(1 / 3)
    text = enrollment.page(
        {
            "figures": {"model": "m", "encoder": "0" * 64, "seed": 1, "draws": 1, "talkers": 3, "rows": some},
            "environment": {"measured": "2026-01-01T00:00:00"},
        }
    )
    assert "| as recorded | 0.0% (33%) |" in text
