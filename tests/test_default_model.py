"""The models that ship: they are what they say, every engine agrees on them, and the default one hears one of two talkers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_tse import audio
from edge_tse.artifact import Artifact, shipped_names, verify
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.recordings import enroll_files
from edge_tse.extraction import extract_signal
from edge_tse.metrics import si_sdr
from edge_tse.personalization import personalize

CLIPS = Path(__file__).parent.parent / "edge_tse" / "assets" / "demo"


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return Artifact.shipped()


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, int]:
    """Two synthetic talkers at equal level, ``[1, samples]``: neither was in training."""
    (wanted, rate_hz), (other, _) = (audio.read(CLIPS / f"{voice}-speech.flac") for voice in ("slt", "rms"))
    n = min(wanted.shape[1], other.shape[1])
    wanted, other = wanted[:, :n], other[:, :n]
    return wanted, other * np.float32(np.sqrt((wanted**2).sum() / (other**2).sum())), rate_hz


def _heard(artifact: Artifact, talker: str, mixture: np.ndarray, rate_hz: int, engine: str = "litert") -> np.ndarray:
    own = personalize(artifact, enroll_files(artifact.voice_model, [CLIPS / f"{talker}-enroll.flac"]).voice)
    return extract_signal(mixture, rate_hz, Engine(own, open_network(own, engine))).signal


def test_the_default_is_small(artifact: Artifact) -> None:
    assert artifact.provenance["recipe"] == "small"


@pytest.mark.parametrize(("name", "weights", "state_bytes"), [("nano", 230_000, 64_000), ("small", 1_000_000, 192_000)])
def test_each_is_the_tier_it_says(name: str, weights: int, state_bytes: int) -> None:
    found = Artifact.shipped(name)
    assert found.provenance["recipe"] == name
    assert found.graph.weights <= weights
    assert found.graph.state_bytes <= state_bytes
    assert not found.personalized
    assert found.reach
    assert {"float", "ptq"} <= set(found.provenance["validation_si_sdr_i_db"])


@pytest.mark.parametrize("name", shipped_names())
@pytest.mark.parametrize("engine", ["reference", "litert"])
def test_golden_frames(name: str, engine: str) -> None:
    artifact = Artifact.shipped(name)
    parity = verify(artifact, open_network(artifact, engine))
    assert parity.worst_lsb == 0
    assert parity.frames >= 500


def test_it_hears_the_enrolled_one_of_two(artifact: Artifact, pair: tuple[np.ndarray, np.ndarray, int]) -> None:
    """Synthetic voices are not what it was trained on: the bound is what a first model must give, not what it should."""
    wanted, other, rate_hz = pair
    mixture = wanted + other
    heard = {talker: _heard(artifact, talker, mixture, rate_hz) for talker in ("slt", "rms")}
    assert si_sdr(heard["slt"], wanted) - si_sdr(mixture, wanted) > 0.5
    for talker, rival, target in (("slt", "rms", wanted), ("rms", "slt", other)):
        assert si_sdr(heard[talker], target) - si_sdr(heard[rival], target) > 0.5, talker


def test_engines_give_the_same_sound(artifact: Artifact, pair: tuple[np.ndarray, np.ndarray, int]) -> None:
    wanted, other, rate_hz = pair
    mixture = (wanted + other)[:, : 2 * rate_hz]
    sounds = [_heard(artifact, "slt", mixture, rate_hz, engine) for engine in ("litert", "reference")]
    np.testing.assert_array_equal(*sounds)


def test_the_scene_is_not_moved(artifact: Artifact, pair: tuple[np.ndarray, np.ndarray, int]) -> None:
    """A source louder and earlier on the left stays so: one gain serves both ears, and the beam has each ear for a reference."""
    wanted, _, rate_hz = pair
    scene = np.concatenate([wanted, 0.5 * np.roll(wanted, 5, axis=1)])
    left, right = _heard(artifact, "slt", scene, rate_hz)
    strong = slice(rate_hz // 2, None)
    level_db = 10 * np.log10((left[strong] ** 2).sum() / (right[strong] ** 2).sum())
    assert level_db == pytest.approx(20 * np.log10(2), abs=0.3)
    lags = range(-12, 13)
    correlation = [float(left[strong] @ np.roll(right, -lag)[strong]) for lag in lags]
    assert lags[int(np.argmax(correlation))] == 5
