"""The front end around a network: streaming, state, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, engines, open_network
from edge_tse.errors import AudioError, EngineError
from edge_tse.quant import dequantize, quantize
from edge_tse.reference import ReferenceNetwork
from tests import graphs


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


def engine(artifact: Artifact) -> Engine:
    return Engine(artifact, open_network(artifact, "reference"))


def stream(step: object, signal: np.ndarray, hop: int) -> np.ndarray:
    return np.concatenate([step(signal[:, i : i + hop]) for i in range(0, signal.shape[1], hop)], axis=1)  # type: ignore[operator]


@pytest.mark.parametrize("ears", [1, 2])
def test_hop_by_hop_equals_the_whole_signal_at_once(artifact: Artifact, ears: int) -> None:
    frame, graph = artifact.frame, artifact.graph
    signal = np.random.default_rng(0).normal(0, 0.1, (ears, 40 * frame.hop)).astype(np.float32)
    streamed = stream(engine(artifact).start(ears), signal, frame.hop)

    spectra = frame.analyze(signal)
    features = quantize(frame.frame_features(spectra), graph.tensors["features"].scale)
    network = ReferenceNetwork(graph)
    outputs = [
        [dequantize(q, t.scale, t.zero_point) for q, t in zip(network.run(row), tensors(artifact), strict=True)] for row in features
    ]
    gains = np.array([np.maximum(mask + velocity, 0) for mask, velocity in outputs])
    whole = frame.synthesize(spectra * frame.bin_gains(gains)[:, None, :])
    np.testing.assert_array_equal(streamed, whole)
    assert np.abs(streamed).max() > 0.01


def tensors(artifact: Artifact) -> tuple[object, ...]:
    return tuple(artifact.graph.tensors[name] for name in ("mask", "velocity"))


def test_gains_are_shown(artifact: Artifact) -> None:
    step = engine(artifact).start(1)
    assert not step.gain.any()
    step(np.full((1, artifact.frame.hop), 0.1, np.float32))
    assert step.gain.shape == (artifact.frame.bands,)
    assert (step.mask >= 0).all()
    assert (step.mask < 1).all()
    assert (np.abs(step.velocity) <= 1).all()
    np.testing.assert_array_equal(step.gain, np.maximum(step.mask + step.velocity, 0))


def test_reset_is_a_new_beginning(artifact: Artifact) -> None:
    frame = artifact.frame
    signal = np.random.default_rng(1).normal(0, 0.1, (2, 10 * frame.hop)).astype(np.float32)
    step = engine(artifact).start(2)
    first = stream(step, signal, frame.hop)
    second = stream(step, signal, frame.hop)
    step.reset()
    assert not step.gain.any()
    np.testing.assert_array_equal(stream(step, signal, frame.hop), first)
    assert not np.array_equal(first, second)


def test_starting_resets_the_network_and_ends_the_stream_before(artifact: Artifact) -> None:
    frame = artifact.frame
    signal = np.random.default_rng(2).normal(0, 0.1, (1, 10 * frame.hop)).astype(np.float32)
    one = engine(artifact)
    before = one.start(1)
    first = stream(before, signal, frame.hop)
    np.testing.assert_array_equal(stream(one.start(1), signal, frame.hop), first)
    with pytest.raises(EngineError, match="ended when the engine started another"):
        before(signal[:, : frame.hop])


def test_both_ears_get_one_gain(artifact: Artifact) -> None:
    """Level differences between the ears survive: the output differs by what the input differed by."""
    frame = artifact.frame
    left = np.random.default_rng(3).normal(0, 0.1, 40 * frame.hop).astype(np.float32)
    out = stream(engine(artifact).start(2), np.stack([left, 0.25 * left]), frame.hop)
    np.testing.assert_allclose(out[1], 0.25 * out[0], atol=1e-6)


@pytest.mark.parametrize("ears", [0, 3])
def test_channels_the_model_cannot_hear(artifact: Artifact, ears: int) -> None:
    with pytest.raises(AudioError, match=f"{ears} channels, this model takes 1 to 2"):
        engine(artifact).start(ears)


@pytest.mark.parametrize("shape", [(8,), (2, 8), (1, 7), (8, 1)])
def test_hops_of_the_wrong_shape(artifact: Artifact, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"takes \[1, 8\] samples"):
        engine(artifact).start(1)(np.zeros(shape, np.float32))


def test_unknown_engines_list_the_known(artifact: Artifact) -> None:
    with pytest.raises(EngineError, match=r"no engine abacus: choose one of executorch, litert, onnx, reference, tflm"):
        open_network(artifact, "abacus")
    assert set(engines()) == {"executorch", "litert", "onnx", "reference", "tflm"}
    assert all(info.description for info in engines().values())
