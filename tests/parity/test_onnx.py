"""ONNX Runtime against the golden integers, bit for bit, and the file that it runs."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tse.artifact import Artifact, verify
from edge_tse.engines import Engine, open_network
from edge_tse.errors import EngineError
from edge_tse.golden import record, replay
from edge_tse.graph import Append, Depthwise, IntegerGraph, Pointwise, Sigmoid, State, Tail, Tanh, Tensor
from edge_tse.personalization import personalize, universal
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice
from tests import graphs

onnx = pytest.importorskip("onnx", reason="needs edge-tse[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs edge-tse[onnx]")

from edge_tse.engines.onnxrt import OnnxNetwork  # noqa: E402
from targets.onnx import IR_VERSION, OPSET, emit  # noqa: E402

FRAMES = 2000


@pytest.fixture(scope="module")
def small() -> IntegerGraph:
    return graphs.student(graphs.SMALL)


@pytest.fixture(scope="module")
def personal() -> IntegerGraph:
    """With a voice folded in: all of it in QDQ form."""
    artifact = graphs.artifact(graphs.SMALL)
    return artifact.graph.fold(artifact.voice_model.modulation(graphs.embedding(0)))


@pytest.mark.parametrize(
    ("sizes", "seed"), [(graphs.SMALL, 0), (graphs.SMALL, 1), (graphs.NANO, 2), *((graphs.TINY, seed) for seed in range(3, 6))]
)
def test_bit_exact_with_state_feedback(sizes: graphs.Sizes, seed: int) -> None:
    graph = graphs.student(sizes, seed)
    network = OnnxNetwork(graph)
    parity = replay(record(graph, graphs.features(sizes, FRAMES, seed)), network)
    assert (parity.worst_lsb, parity.frames) == (0, FRAMES)
    # from reset again, and not from where it was left
    assert replay(record(graph, graphs.features(sizes, 100, seed)), network).worst_lsb == 0


def test_the_shipped_model_is_bit_exact() -> None:
    artifact = Artifact.shipped()
    assert verify(artifact, open_network(artifact, "onnx")).worst_lsb == 0
    voice = Voice(embedding=graphs.embedding(0), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
    personal = personalize(artifact, voice)
    assert verify(personal, open_network(personal, "onnx")).worst_lsb == 0


def test_every_state_is_bit_exact_too(small: IntegerGraph) -> None:
    reference, network = ReferenceNetwork(small), OnnxNetwork(small)
    for row in graphs.features(graphs.SMALL, 301, 4):
        reference.run(row)
        network.run(row)
    for state, buffers in zip(small.states, network._histories, strict=True):
        got = (buffers[network._turn].astype(np.int16) - 128).astype(np.int8)
        np.testing.assert_array_equal(got.reshape(reference.tensor(state.input).shape), reference.tensor(state.input))


@pytest.mark.parametrize("dilation", [1, 3])
def test_several_frames_a_step(dilation: int) -> None:
    """Two frames at once read every tap of both."""
    rng = np.random.default_rng(0)
    form: dict[str, Any] = {"channels": 6, "scale": 0.02, "zero_point": 5}
    past = 2 * dilation
    tensors = [
        Tensor(name="features", frames=2, **form),
        Tensor(name="history", frames=past, **form),
        Tensor(name="window", frames=past + 2, **form),
        Tensor(name="remembered", frames=past, **form),
        Tensor(name="out", frames=2, channels=6, scale=0.03),
    ]
    graph = IntegerGraph(
        tensors={t.name: t for t in tensors},
        nodes=(
            Append(name="append", history="history", input="features", output="window"),
            Tail(name="tail", input="window", output="remembered"),
            Depthwise(
                name="taps",
                input="window",
                output="out",
                weight=rng.integers(-127, 128, (3, 6)).astype(np.int8),
                weight_scale=np.full(6, 0.004, np.float32),
                bias=rng.integers(-900, 900, 6).astype(np.int32),
                dilation=dilation,
            ),
        ),
        inputs=("features",),
        outputs=("out",),
        states=(State(name="past", input="history", output="remembered"),),
    )
    features = rng.integers(-128, 128, (200, 12)).astype(np.int8)
    assert replay(record(graph, features), OnnxNetwork(graph)).worst_lsb == 0


@pytest.mark.parametrize("scale", [2e-4, 1e-3, 0.004, 1 / 64, 1 / 32, 0.0471, 0.06, 0.11, 0.3, 2.0])
@pytest.mark.parametrize("zero_point", [0, -77])
def test_activations_follow_the_rule(scale: float, zero_point: int) -> None:
    """All 256 inputs at once."""
    for operator, out in (
        (Sigmoid, Tensor(name="out", frames=1, channels=256, scale=2**-8, zero_point=-128)),
        (Tanh, Tensor(name="out", frames=1, channels=256, scale=2**-7)),
    ):
        source = Tensor(name="features", frames=1, channels=256, scale=scale, zero_point=zero_point)
        graph = IntegerGraph(
            tensors={"features": source, "out": out},
            nodes=(operator(name="node", input="features", output="out"),),
            inputs=("features",),
            outputs=("out",),
            states=(),
        )
        features = np.arange(-128, 128, dtype=np.int8)[None]
        assert replay(record(graph, features), OnnxNetwork(graph)).worst_lsb == 0


def test_the_file_says_what_it_needs(personal: IntegerGraph) -> None:
    content = emit(personal, {"digest": "abc"})
    assert content == emit(personal, {"digest": "abc"})
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["digest"] == "abc"
    io = json.loads(metadata["edge_tse.io"])
    assert io["states"] == {s.name: [s.input, s.output] for s in personal.states}
    assert io["tensors"]["mask"] == {"scale": 2**-8, "zero_point": -128}
    types = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert set(types) == set(io["tensors"])
    assert not io["voice"]
    assert {types[n] for n in ("features", "mask", "velocity")} == {onnx.TensorProto.INT8}
    # Nothing is computed in float that a runtime cannot fuse: every operator stands between a dequantization and a quantization.
    makers = {out: n for n in model.graph.node for out in n.output}
    readers = [(makers[i].op_type, n.op_type) for n in model.graph.node for i in n.input if i in makers]
    for kind in ("Gemm", "Conv", "Add", "Sigmoid", "Tanh"):
        assert {maker for maker, reader in readers if reader == kind} == {"DequantizeLinear"}
        assert {reader for maker, reader in readers if maker == kind} == {"QuantizeLinear"}


def test_the_universal_file_says_what_a_voice_is() -> None:
    graph = universal(graphs.artifact(graphs.TINY)).graph
    model = onnx.load_from_string(emit(graph, {}))
    onnx.checker.check_model(model, full_check=True)
    io = json.loads({p.key: p.value for p in model.metadata_props}["edge_tse.io"])
    assert io["voice"] == list(graph.voice)
    assert {v.name for v in model.graph.input} == {*graph.given}
    threshold = graph.tensors[io["voice"][0]]
    assert io["tensors"][threshold.name] == {"scale": threshold.scale, "zero_point": 0}


def test_the_runtime_fuses_every_convolution(personal: IntegerGraph, tmp_path: Path) -> None:
    """With nothing but its defaults: what another program would open the file with."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(emit(personal, {}), options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QGemm") == sum(isinstance(n, Pointwise) for n in personal.nodes)
    assert kinds.count("QLinearConv") == sum(isinstance(n, Depthwise) for n in personal.nodes)
    assert not {"Gemm", "Conv", "Add"} & set(kinds)


def test_as_an_engine() -> None:
    artifact = graphs.artifact(graphs.TINY)
    hop = np.random.default_rng(0).normal(0, 0.1, (2, artifact.frame.hop)).astype(np.float32)
    streams = [Engine(artifact, open_network(artifact, name)).start(2) for name in ("reference", "onnx")]
    for _ in range(20):
        expected, got = (step(hop) for step in streams)
        np.testing.assert_array_equal(got, expected)


def test_time_is_told_apart() -> None:
    graph = graphs.student(graphs.TINY)
    network, plain = OnnxNetwork(graph), OnnxNetwork(graph)
    ticks = iter(range(100))
    row = graphs.features(graphs.TINY, 1)[0]
    taken = network.run_timed(row, lambda: next(ticks))
    assert (taken.marshalling_s, taken.inference_s) == (2, 1)
    plain.run(row)
    for a, b in zip(network.run(row), plain.run(row), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graphs.student(graphs.TINY)
    with pytest.raises(EngineError, match="refuses the model"):
        OnnxNetwork(graph, b"not a model")
    with pytest.raises(EngineError, match="of another graph"):
        OnnxNetwork(graph, emit(graphs.student(graphs.NANO), {}))
    with pytest.raises(EngineError, match="0 threads"):
        OnnxNetwork(graph, threads=0)
    content, real = emit(graph, {}), builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "onnx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match=r"pip install .*\[onnx\]'"):
        emit(graph, {})
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install .*\[onnx\]'"):
        OnnxNetwork(graph, content)
