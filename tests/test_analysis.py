"""Deletion and insertion against what is known by construction."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tse.analysis import Moves, moves, stages
from edge_tse.errors import AudioError
from tests import graphs


class Constant:
    """A network that always says the same."""

    name = "constant"

    def __init__(self, mask: int, velocity: int, bands: int) -> None:
        self._out = (np.full(bands, mask, np.int8), np.full(bands, velocity, np.int8))

    def reset(self) -> None:
        """Nothing is remembered."""

    def run(self, features):
        return self._out


@pytest.fixture(scope="module")
def artifact():
    return graphs.artifact()


def test_what_goes_and_what_comes() -> None:
    before = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    after = np.array([[0.5, 3.0], [3.0, 2.0]], np.float32)
    found = moves(before, after, before)
    assert found.deleted == pytest.approx(0.25)
    assert found.inserted == pytest.approx(0.1)
    assert found.insertion_share == pytest.approx(0.1 / 0.35)
    assert moves(before, before, before).insertion_share == 0
    assert Moves.mean([found, Moves(deleted=0.75, inserted=0.3)]) == Moves(deleted=pytest.approx(0.5), inserted=pytest.approx(0.2))


def test_a_half_open_mask_takes_three_quarters_and_the_flow_gives_back(artifact) -> None:
    """int8 0 of the mask is a gain of 1/2, velocity 64 is +1/2: energies 1 -> 1/4 -> 1."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 6400)).astype(np.float32)
    found = stages(artifact, Constant(0, 64, artifact.frame.bands), noise, noise)
    assert found["mask"] == Moves(deleted=pytest.approx(0.75), inserted=0)
    assert found["flow"] == Moves(deleted=0, inserted=pytest.approx(0.75))
    assert found["both"] == found["target"] == Moves(deleted=0, inserted=0)


def test_a_target_is_what_it_is(artifact) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (1, 6400)).astype(np.float32)
    found = stages(artifact, Constant(127, 0, artifact.frame.bands), noise, noise * np.float32(0.5))
    assert found["target"] == Moves(deleted=pytest.approx(0.75), inserted=0)
    assert "target" not in stages(artifact, Constant(0, 0, artifact.frame.bands), noise)


def test_silence_is_refused(artifact) -> None:
    with pytest.raises(AudioError, match="silent"):
        stages(artifact, Constant(0, 0, artifact.frame.bands), np.zeros((1, 640), np.float32))
