"""Parity is counted right, and an engine that differs is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact, verify
from edge_tse.errors import ArtifactError, EngineError, ParityError
from edge_tse.golden import TOLERANCE_LSB, record, replay
from edge_tse.graph import IntegerGraph
from edge_tse.reference import ReferenceNetwork
from tests import graphs, plain

Int8 = NDArray[np.int8]


class Off:
    """A network that is wrong by ``lsb`` in one value of ``velocity`` in one frame after reset."""

    def __init__(self, graph: IntegerGraph, lsb: int, name: str = "reference") -> None:
        self.name = name
        self._network, self._lsb, self._frame = ReferenceNetwork(graph), lsb, 0

    def reset(self) -> None:
        self._network.reset()
        self._frame = 0

    def run(self, features: Int8) -> tuple[Int8, ...]:
        mask, velocity = self._network.run(features)
        self._frame += 1
        if self._frame == 3:
            velocity = velocity.copy()
            velocity[1] += self._lsb if velocity[1] < 0 else -self._lsb
        return mask, velocity


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


def test_recorded_frames_are_the_plain_integers() -> None:
    graph, features = graphs.student(), graphs.features(graphs.TINY, 20)
    golden = record(graph, features)
    assert golden.outputs is not None
    for name, wanted in plain.run(graph, features).items():
        np.testing.assert_array_equal(golden.outputs[name], wanted)


def test_replay_starts_from_reset(artifact: Artifact) -> None:
    network = ReferenceNetwork(artifact.graph)
    for _ in range(2):
        parity = replay(artifact.golden, network)
        assert (parity.worst_lsb, parity.mismatch_rate, parity.frames) == (0, 0.0, 40)


@pytest.mark.parametrize("lsb", [1, 5, 100])
def test_one_wrong_value_is_counted(artifact: Artifact, lsb: int) -> None:
    parity = replay(artifact.golden, Off(artifact.graph, lsb))
    values = 40 * artifact.frame.bands
    assert parity.worst_lsb == lsb
    assert parity.mismatch_rate == pytest.approx(1 / (2 * values))
    assert parity.per_output == {"mask": (0, 0.0), "velocity": (lsb, pytest.approx(1 / values))}


def test_differences_do_not_wrap_around() -> None:
    graph = graphs.student()
    golden = record(graph, graphs.features(graphs.TINY, 4))
    assert golden.outputs is not None
    flipped = {name: np.where(values < 0, 127, -128).astype(np.int8) for name, values in golden.outputs.items()}

    class Far(Off):
        def run(self, features: Int8) -> tuple[Int8, ...]:
            self._frame += 1
            return tuple(flipped[name][self._frame - 1] for name in ("mask", "velocity"))

    assert replay(golden, Far(graph, 0)).worst_lsb > 127


def test_verify_holds_an_engine_to_its_tolerance(artifact: Artifact) -> None:
    assert verify(artifact, Off(artifact.graph, 0)).worst_lsb == 0
    with pytest.raises(ParityError, match=r"reference: velocity differs by 1 LSB, 0 allowed \(0\.16% of values over 40 frames\)"):
        verify(artifact, Off(artifact.graph, 1))
    assert verify(artifact, Off(artifact.graph, 1), tolerance_lsb=1).worst_lsb == 1
    loose = TOLERANCE_LSB["litert/builtin_ref"]
    assert verify(artifact, Off(artifact.graph, loose, "litert/builtin_ref")).worst_lsb == loose
    with pytest.raises(ParityError, match=f"{loose + 1} LSB, {loose} allowed"):
        verify(artifact, Off(artifact.graph, loose + 1, "litert/builtin_ref"))


def test_verify_needs_a_tolerance(artifact: Artifact) -> None:
    with pytest.raises(EngineError, match="abacus states no tolerance"):
        verify(artifact, Off(artifact.graph, 0, "abacus"))
    assert verify(artifact, Off(artifact.graph, 0, "abacus"), 0).worst_lsb == 0


def test_unrecorded_frames_are_recorded_by_verify_and_refused_by_replay(artifact: Artifact) -> None:
    changed = artifact.with_graph(graphs.student(seed=5))
    network = ReferenceNetwork(changed.graph)
    assert verify(changed, network).worst_lsb == 0
    with pytest.raises(ArtifactError, match="record"):
        replay(changed.golden, network)
    with pytest.raises(ParityError):
        verify(artifact, network)
