"""TFLite Micro: the same file, the same integers as TFLite's reference kernels, in an arena whose size is known."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edge_tse.artifact import Artifact, verify
from edge_tse.engines import Engine, open_network
from edge_tse.engines.litert import LiteRTNetwork
from edge_tse.errors import EngineError
from edge_tse.golden import TOLERANCE_LSB, record, replay
from edge_tse.personalization import personalize
from edge_tse.voice import Voice
from targets.tflite import emit
from tests import graphs

pytest.importorskip("tflite_micro", reason="needs edge-tse[tflm]")

from edge_tse.engines.tflm import TflmNetwork, arena

FRAMES = 2000


@pytest.mark.parametrize(("sizes", "seed", "frames"), [(graphs.TINY, 0, FRAMES), (graphs.NANO, 1, FRAMES), (graphs.SMALL, 2, 300)])
def test_the_same_integers_as_the_reference_kernels(sizes: graphs.Sizes, seed: int, frames: int) -> None:
    graph = graphs.student(sizes, seed)
    content = emit(graph, {})
    micro, litert = TflmNetwork(graph, content), LiteRTNetwork(graph, content, kernels="builtin_ref")
    for row in graphs.features(sizes, frames, seed):
        for got, wanted in zip(micro.run(row), litert.run(row), strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_near_the_golden_integers_and_reset() -> None:
    graph = graphs.student(graphs.TINY)
    network = TflmNetwork(graph)
    golden = record(graph, graphs.features(graphs.TINY, 400))
    first = replay(golden, network)
    assert 0 < first.worst_lsb <= TOLERANCE_LSB[network.name]
    assert replay(golden, network) == first


def test_the_shipped_model_stays_within_its_tolerance() -> None:
    """With a voice in it: without one it is a network that nobody trained, and two roundings are amplified past all bounds."""
    artifact = Artifact.shipped()
    voice = Voice(embedding=graphs.embedding(0), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
    personal = personalize(artifact, voice)
    assert verify(personal, open_network(personal, "tflm")).worst_lsb > 0


def test_the_arena_is_what_it_takes() -> None:
    """One more byte of alignment than reported is enough, a tenth less is not."""
    graph = graphs.student(graphs.NANO)
    content = emit(graph, {})
    needed = arena(content)
    assert needed.total_bytes == needed.head_bytes + needed.tail_bytes
    assert needed.head_bytes > graph.state_bytes
    row = graphs.features(graphs.NANO, 1)[0]
    TflmNetwork(graph, content, arena_bytes=needed.total_bytes + 16 * 64).run(row)
    with pytest.raises(EngineError, match=f"arena of {needed.total_bytes * 9 // 10} bytes"):
        TflmNetwork(graph, content, arena_bytes=needed.total_bytes * 9 // 10)


def test_as_an_engine() -> None:
    artifact = graphs.artifact(graphs.TINY)
    hop = np.random.default_rng(0).normal(0, 0.1, (2, artifact.frame.hop)).astype(np.float32)
    step = Engine(artifact, open_network(artifact, "tflm")).start(2)
    assert max(float(np.abs(step(hop)).max()) for _ in range(20)) > 0.001


def test_time_is_told_apart() -> None:
    graph = graphs.student(graphs.TINY)
    network, plain = TflmNetwork(graph), TflmNetwork(graph)
    ticks = iter(range(100))
    row = graphs.features(graphs.TINY, 1)[0]
    taken = network.run_timed(row, lambda: next(ticks))
    assert (taken.marshalling_s, taken.inference_s) == (2, 1)
    plain.run(row)
    for a, b in zip(network.run(row), plain.run(row), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graphs.student(graphs.TINY)
    content = emit(graph, {})
    with pytest.raises(EngineError, match="not a TFLite flatbuffer"):
        TflmNetwork(graph, b"not a model")
    with pytest.raises(EngineError, match="of another graph"):
        TflmNetwork(graphs.student(graphs.NANO), content)
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro.runtime", None)
    with pytest.raises(EngineError, match=r"pip install .*\[tflm\]'"):
        TflmNetwork(graph, content)
