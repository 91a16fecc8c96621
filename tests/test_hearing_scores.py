"""HASPI and HASQI through pyclarity: what orders them, which ear counts, and what is said without it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio
from edge_tse.cli import main
from edge_tse.errors import EngineError
from edge_tse.hearing.prescription import Audiogram
from quantization import hearing_scores

NORMAL = Audiogram(thresholds=((1000, 0),))
SLOPING = Audiogram(thresholds=((250, 20), (500, 30), (1000, 40), (2000, 50), (4000, 60), (6000, 65)))
DEMO = Path(__file__).parent.parent / "edge_tse" / "assets" / "demo"
RATE = 16000


@pytest.fixture(scope="module")
def clarity() -> None:
    for name in ("clarity", "numba"):
        pytest.importorskip(name, reason="pip install '.[hearing]' && pip install --no-deps pyclarity==0.9.0")


@pytest.fixture(scope="module")
def talkers() -> tuple[np.ndarray, np.ndarray]:
    """A second of each of two, ``[1, n]``, one in the way of the other."""
    first, second = (audio.read(DEMO / f"{name}-speech.flac")[0][:, 8000:24000] for name in ("slt", "rms"))
    return first, second * np.float32(first.std() / second.std())


@pytest.mark.slow
@pytest.mark.usefixtures("clarity")
def test_the_talker_alone_is_best_and_a_loss_costs(talkers: tuple[np.ndarray, np.ndarray]) -> None:
    target, other = talkers
    signals = {"": target + other * np.float32(0.2), "_mixture": target + other}
    impaired, reasons = hearing_scores.hearing_scores(target, signals, RATE, (SLOPING, SLOPING))
    assert reasons == {}
    for name in hearing_scores.NAMES:
        assert 0 <= impaired[f"{name}_mixture"] < impaired[name] <= 1
    normal, _ = hearing_scores.hearing_scores(target, {"": signals[""]}, RATE, (NORMAL, NORMAL))
    assert normal["haspi"] > impaired["haspi"]
    # Of two ears the better one: nothing but the interferer at the other changes nothing.
    two = {"": np.concatenate([other, signals[""]])}
    better, _ = hearing_scores.hearing_scores(np.concatenate([target, target]), two, RATE, (SLOPING, SLOPING))
    assert better == {name: impaired[name] for name in hearing_scores.NAMES}  # dither and all


@pytest.mark.usefixtures("clarity")
def test_what_has_no_index_says_why(talkers: tuple[np.ndarray, np.ndarray]) -> None:
    target, _ = talkers
    scores, reasons = hearing_scores.hearing_scores(target, {"": np.zeros_like(target)}, RATE, (SLOPING, SLOPING))
    assert scores == {"haspi": None, "hasqi": None}
    assert all(reasons.values())


def test_without_pyclarity_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "clarity.evaluator.haspi", None)
    with pytest.raises(EngineError, match=r"pip install .*\[hearing\]' && pip install --no-deps pyclarity"):
        hearing_scores.check()
    pytest.importorskip("pesq", reason="pip install '.[eval]'")
    audio.write(tmp_path / "a.wav", np.full((1, RATE), 0.1, np.float32), RATE)
    (tmp_path / "t.csv").write_text("id,mixture,enrollment,target,condition\n1,a.wav,a.wav,a.wav,one\n")
    (tmp_path / "h.toml").write_text("[both]\n1000 = 40\n")
    line = ["evaluate", "--trials", str(tmp_path / "t.csv"), "-o", str(tmp_path / "r.json"), "--hearing", str(tmp_path / "h.toml")]
    assert main(line) == 2
    assert "--no-deps pyclarity" in capsys.readouterr().err
    (tmp_path / "h.toml").write_text("[chain]\nambient_db = -12\n")
    assert main(line) == 2
    assert "has no audiogram, HASPI and HASQI need one" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("clarity")
def test_they_are_in_the_report(talkers: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pesq", reason="pip install '.[eval]'")
    target, other = talkers
    for name, signal in (("target", target), ("mixture", target + other), ("other", other)):
        audio.write(tmp_path / f"{name}.wav", signal * np.float32(0.5), RATE)
    audio.write(tmp_path / "enrollment.wav", audio.read(DEMO / "slt-enroll.flac")[0], RATE)
    (tmp_path / "t.csv").write_text(
        "id,mixture,enrollment,target,interferer,condition\n1,mixture.wav,enrollment.wav,target.wav,other.wav,two\n"
    )
    (tmp_path / "h.toml").write_text("[both]\n500 = 30\n2000 = 50\n")
    report = tmp_path / "r.json"
    line = ["evaluate", "--trials", str(tmp_path / "t.csv"), "-o", str(report), "--hearing", str(tmp_path / "h.toml")]
    assert main([*line, "--engine", "reference"]) == 0
    assert "HASPI, intelligibility" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["audiograms"]["left"] == [[500, 30], [2000, 50]]
    assert 0 < found["conditions"]["two"]["haspi_mixture"] < 1
    assert 0 < found["items"][0]["scores"]["hasqi"] < 1
