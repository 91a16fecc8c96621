"""ExecuTorch with XNNPACK against the golden integers, bit for bit, its states passed or kept inside.

Slow, but for one program: before the first is written, torch and its exporter take tens of seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
import pytest

from edge_tse.engines import Engine, open_network
from edge_tse.errors import EngineError
from edge_tse.golden import record, replay
from edge_tse.graph import IntegerGraph
from edge_tse.personalization import personalize, universal
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice
from tests import graphs

pytest.importorskip("executorch", reason="needs edge-tse[executorch]")

from edge_tse.engines.executorch import ExecuTorchNetwork, profile
from targets.pte import emit

FRAMES = 2000


@pytest.fixture(scope="module")
def graph() -> IntegerGraph:
    return graphs.student(graphs.TINY)


@pytest.fixture(scope="module")
def programs(graph: IntegerGraph) -> Mapping[str, bytes]:
    """By where the state is. Emitting takes seconds: each once, when it is asked for."""

    class Programs(dict[str, bytes]):
        def __missing__(self, state: str) -> bytes:
            return self.setdefault(state, emit(graph, state=state))

    return Programs()


@pytest.mark.parametrize("state", ["io", pytest.param("buffer", marks=pytest.mark.slow)])
def test_bit_exact_with_state_feedback(graph: IntegerGraph, programs: Mapping[str, bytes], state: str) -> None:
    network = ExecuTorchNetwork(graph, programs[state])
    golden = record(graph, graphs.features(graphs.TINY, FRAMES))
    parity = replay(golden, network)
    assert (parity.worst_lsb, parity.frames) == (0, FRAMES)
    # reset forgets
    assert replay(golden, network).worst_lsb == 0


@pytest.mark.slow
def test_every_state_is_bit_exact_too(graph: IntegerGraph, programs: Mapping[str, bytes]) -> None:
    reference, network = ReferenceNetwork(graph), ExecuTorchNetwork(graph, programs["io"])
    for row in graphs.features(graphs.TINY, 101, 4):
        reference.run(row)
        network.run(row)
    for state, got in zip(graph.states, network._states, strict=True):
        wanted = reference.tensor(state.input)
        np.testing.assert_array_equal(got.numpy()[0, :, :, 0].T, wanted)


@pytest.mark.slow
def test_the_universal_form_with_its_states_inside_is_bit_exact() -> None:
    """Of a larger model; the shipped ones are in tests/parity/test_matrix.py."""
    artifact = graphs.artifact(graphs.NANO)
    graph = universal(artifact, graphs.voice(artifact.voice_model)).graph
    network = ExecuTorchNetwork(graph, emit(graph, state="buffer"))
    assert replay(record(graph, graphs.features(graphs.NANO, FRAMES, 1)), network).worst_lsb == 0


@pytest.mark.slow
def test_a_voice_and_an_engine() -> None:
    artifact = graphs.artifact(graphs.TINY)
    voice = Voice(embedding=graphs.embedding(3), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
    personal = personalize(artifact, voice)
    hop = np.random.default_rng(0).normal(0, 0.1, (2, artifact.frame.hop)).astype(np.float32)
    streams = [Engine(personal, open_network(personal, name)).start(2) for name in ("reference", "executorch")]
    for _ in range(20):
        expected, got = (step(hop) for step in streams)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["io", "buffer"])
def test_time_is_told_apart(graph: IntegerGraph, programs: Mapping[str, bytes], state: str) -> None:
    network, plain = (ExecuTorchNetwork(graph, programs[state]) for _ in range(2))
    ticks = iter(range(100))
    row = graphs.features(graphs.TINY, 1)[0]
    taken = network.run_timed(row, lambda: next(ticks))
    assert (taken.marshalling_s, taken.inference_s) == (2, 1)
    plain.run(row)
    for a, b in zip(network.run(row), plain.run(row), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_every_operator_is_timed(graph: IntegerGraph, programs: Mapping[str, bytes]) -> None:
    rows = profile(graph, graphs.features(graphs.TINY, 50), programs["io"])
    kinds = [row.name.split(" #")[0] for row in rows]
    pointwise = sum(node.name.endswith(("stem", "expand", "project", "head", "hidden", "gain")) for node in graph.nodes)
    assert sum("Fully Connected" in kind for kind in kinds) == pointwise
    assert sum("DWConv" in kind for kind in kinds) == len(graph.states)
    assert all(0 <= row.time_us < 1e4 for row in rows)


@pytest.mark.slow
def test_what_is_wrong_is_said(graph: IntegerGraph, programs: Mapping[str, bytes]) -> None:
    with pytest.raises(EngineError, match="of another graph"):
        ExecuTorchNetwork(graphs.student(graphs.NANO), programs["io"])
    with pytest.raises(EngineError, match="0 threads"):
        ExecuTorchNetwork(graph, programs["io"], threads=0)


def test_what_is_missing_or_no_program_is_said(graph: IntegerGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="refuses the program"):
        ExecuTorchNetwork(graph, b"not a program")
    for name in ("executorch.exir", "executorch.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match=r"pip install .*\[executorch\]'"):
        emit(graph)
    with pytest.raises(EngineError, match=r"pip install .*\[executorch\]'"):
        ExecuTorchNetwork(graph, b"a program")
