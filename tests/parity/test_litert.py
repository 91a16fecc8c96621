"""LiteRT against the golden integers: bit for bit on XNNPACK, within the stated tolerance on the built-in kernels."""

from __future__ import annotations

import gc
import importlib
import sys
import time
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_tse.artifact import Artifact, verify
from edge_tse.engines import Engine, litert, open_network
from edge_tse.engines.litert import LiteRTNetwork
from edge_tse.errors import EngineError
from edge_tse.golden import TOLERANCE_LSB, record, replay
from edge_tse.graph import Depthwise, IntegerGraph, Pointwise, Sigmoid, Tanh, Tensor
from edge_tse.personalization import personalize
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice
from targets.tflite import emit
from tests import graphs

Int8 = NDArray[np.int8]
FRAMES = 1500


@pytest.fixture(scope="module")
def small() -> IntegerGraph:
    return graphs.student(graphs.SMALL)


def extremes(sizes: graphs.Sizes, frames: int, seed: int) -> Int8:
    """Frames that are constant, alternating, or random at the ends of the range."""
    rng = np.random.default_rng(seed)
    n = sizes.frame.features
    rows = [
        np.full(n, -128),
        np.full(n, 127),
        np.zeros(n),
        np.where(np.arange(n) % 2, 127, -128),
        rng.choice([-128, 127], n),
        rng.integers(-128, 128, n),
    ]
    return np.array([rows[i] for i in rng.integers(0, len(rows), frames)], np.int8)


@pytest.mark.parametrize(
    ("sizes", "seed", "frames"),
    [
        (graphs.SMALL, 0, FRAMES),
        (graphs.SMALL, 1, 1000),
        (graphs.NANO, 2, 1000),
        *((graphs.TINY, seed, 1000) for seed in range(3, 9)),
    ],
)
def test_bit_exact_with_state_feedback(sizes: graphs.Sizes, seed: int, frames: int) -> None:
    graph = graphs.student(sizes, seed)
    network = LiteRTNetwork(graph)
    assert network.name == "litert/xnnpack"
    for features in (graphs.features(sizes, frames, seed), extremes(sizes, frames // 2, seed)):
        parity = replay(record(graph, features), network)
        assert parity.worst_lsb == 0, parity
        assert parity.frames == len(features)


def test_every_state_is_bit_exact_too(small: IntegerGraph) -> None:
    """The longest history lives 256 frames: what it holds is compared, not only what comes out."""
    reference, network = ReferenceNetwork(small), LiteRTNetwork(small)
    for row in graphs.features(graphs.SMALL, 300, 4):
        reference.run(row)
        network.run(row)
    for state in small.states:
        got = network._interpreter.get_tensor(network._index[state.input])
        np.testing.assert_array_equal(got.reshape(reference.tensor(state.input).shape), reference.tensor(state.input))


def test_personalized_is_bit_exact(small: IntegerGraph) -> None:
    artifact = graphs.artifact(graphs.SMALL, frames=200)
    for seed in range(2):
        voice = Voice(embedding=graphs.embedding(seed), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
        personal = personalize(artifact, voice)
        assert verify(personal, open_network(personal)).worst_lsb == 0


def test_built_in_kernels_stay_within_their_tolerance() -> None:
    for sizes in (graphs.TINY, graphs.NANO, graphs.SMALL):
        graph = graphs.student(sizes)
        network = LiteRTNetwork(graph, kernels="builtin_ref")
        assert network.name == "litert/builtin_ref"
        parity = replay(record(graph, graphs.features(sizes, 400)), network)
        assert 0 < parity.worst_lsb <= TOLERANCE_LSB[network.name]


def single(seed: int, kind: str, ties: bool) -> IntegerGraph:
    """One convolution on its own, with factors from dead to saturating; ``ties``: with factors that are powers of two."""
    rng = np.random.default_rng(seed)
    channels, outputs = 48, 40
    scales = (1.0, 1.0) if ties else (0.02, 0.05)
    source = Tensor(name="features", frames=1, channels=channels, scale=scales[0], zero_point=int(rng.integers(-128, 128)))
    out = Tensor(name="out", frames=1, channels=outputs if kind == "pointwise" else channels, scale=scales[1], zero_point=-3)
    common: dict[str, Any] = {"name": "node", "input": "features", "output": "out"}
    if kind == "pointwise":
        weight = rng.integers(-127, 128, (outputs, channels)).astype(np.int8)
    else:
        weight = rng.integers(-127, 128, (1, channels)).astype(np.int8)
    common |= {
        "weight": weight,
        "weight_scale": (2.0 ** -rng.integers(3, 14, out.channels) if ties else 10 ** rng.uniform(-4, -1.5, out.channels)).astype(
            np.float32
        ),
        "bias": rng.integers(-5000, 5000, out.channels).astype(np.int32),
    }
    node = Pointwise(**common) if kind == "pointwise" else Depthwise(**common, dilation=1)
    return IntegerGraph(tensors={"features": source, "out": out}, nodes=(node,), inputs=("features",), outputs=("out",), states=())


@pytest.mark.parametrize("kind", ["pointwise", "depthwise"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_one_operator_on_each_kernel_set(kind: str, ties: bool, seed: int) -> None:
    """One rounding, half to even, on XNNPACK; within 1 LSB on kernels that round twice, or halves away from zero."""
    graph = single(seed, kind, ties)
    golden = record(graph, np.random.default_rng(seed).integers(-128, 128, (400, 48)).astype(np.int8))
    assert replay(golden, LiteRTNetwork(graph)).worst_lsb == 0
    twice = replay(golden, LiteRTNetwork(graph, kernels="builtin_ref"))
    assert twice.worst_lsb <= 1
    assert twice.mismatch_rate < (0.2 if ties else 0.01)


@pytest.mark.parametrize("op", [Sigmoid, Tanh])
def test_activations_over_every_input(op: type[Sigmoid] | type[Tanh]) -> None:
    every = np.arange(-128, 128).astype(np.int8)
    rng = np.random.default_rng(0)
    scale, zero_point = (1 / 256, -128) if op is Sigmoid else (1 / 128, 0)
    for s in [2.0**-k for k in range(9)] + list(np.exp(rng.uniform(np.log(1e-3), np.log(0.5), 60))):
        source = Tensor(name="features", frames=1, channels=256, scale=s, zero_point=int(rng.integers(-128, 128)))
        out = Tensor(name="out", frames=1, channels=256, scale=scale, zero_point=zero_point)
        graph = IntegerGraph(
            tensors={"features": source, "out": out},
            nodes=(op(name="node", input="features", output="out"),),
            inputs=("features",),
            outputs=("out",),
            states=(),
        )
        np.testing.assert_array_equal(LiteRTNetwork(graph).run(every), ReferenceNetwork(graph).run(every), f"scale {s}")


def test_reset_restores_the_first_output_and_state_persists() -> None:
    network = LiteRTNetwork(graphs.student())
    features = graphs.features(graphs.TINY, 12, 3)
    first = [np.concatenate(network.run(row)) for row in features]
    second = [np.concatenate(network.run(row)) for row in features]
    network.reset()
    third = [np.concatenate(network.run(row)) for row in features]
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


def test_two_networks_share_no_state() -> None:
    graph, features = graphs.student(), graphs.features(graphs.TINY, 20)
    one, other, reference = LiteRTNetwork(graph), LiteRTNetwork(graph), ReferenceNetwork(graph)
    for row in features:
        other.run(np.invert(row))
        np.testing.assert_array_equal(np.concatenate(one.run(row)), np.concatenate(reference.run(row)))


def test_addresses_stay_where_they_were(small: IntegerGraph) -> None:
    network = LiteRTNetwork(small)
    before = network._addresses()
    for row in graphs.features(graphs.SMALL, 200):
        network.run(row)
    assert network._addresses() == before


def test_a_runtime_that_moves_its_tensors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = LiteRTNetwork._addresses, []

    def moved(self: LiteRTNetwork) -> dict[str, tuple[int, int]]:
        calls.append(1)
        return (
            {name: (address + len(calls), size) for name, (address, size) in real(self).items()} if len(calls) > 1 else real(self)
        )

    monkeypatch.setattr(LiteRTNetwork, "_addresses", moved)
    with pytest.raises(EngineError, match="moves its tensors"):
        LiteRTNetwork(graphs.student())


def test_outputs_outlive_their_network() -> None:
    graph, row = graphs.student(), graphs.features(graphs.TINY, 1)[0]
    network = LiteRTNetwork(graph)
    outputs = network.run(row)
    wanted = [value.copy() for value in outputs]
    interpreter = weakref.ref(network._interpreter)
    del network
    gc.collect()
    assert interpreter() is not None
    np.testing.assert_array_equal(np.concatenate(outputs), np.concatenate(wanted))
    del outputs
    gc.collect()
    assert interpreter() is None


def test_run_timed_is_run(small: IntegerGraph) -> None:
    network, reference = LiteRTNetwork(small), ReferenceNetwork(small)
    ticks: Iterator[float] = iter([0.0, 1.0, 11.0, 13.0])
    row = graphs.features(graphs.SMALL, 1)[0]
    taken = network.run_timed(row, lambda: next(ticks))
    assert (taken.marshalling_s, taken.inference_s) == (3.0, 10.0)
    reference.run(row)
    np.testing.assert_array_equal(np.concatenate(network.run(row)), np.concatenate(reference.run(row)))


def test_marshalling_costs_less_than_the_network(small: IntegerGraph) -> None:
    """With set_tensor and get_tensor it cost more than ten times the network. Best of many: a busy machine does not decide."""
    network = LiteRTNetwork(small)
    taken = [network.run_timed(row, time.perf_counter) for row in graphs.features(graphs.SMALL, 500)]
    marshal, invoke = np.percentile([(step.marshalling_s, step.inference_s) for step in taken], 10, axis=0)
    assert marshal < invoke


def test_a_stream_equals_the_reference_stream() -> None:
    artifact = graphs.artifact(graphs.NANO, frames=1)
    hop = artifact.frame.hop
    signal = np.random.default_rng(0).normal(0, 0.1, (2, 60 * hop)).astype(np.float32)
    steps = [Engine(artifact, open_network(artifact, name)).start(2) for name in ("litert", "reference")]
    for i in range(0, signal.shape[1], hop):
        one, other = (step(signal[:, i : i + hop]) for step in steps)
        np.testing.assert_array_equal(one, other)


# The flatbuffer itself


def test_the_file_is_what_the_schema_says(small: IntegerGraph) -> None:
    content = emit(small, {"artifact": "abc", "recipe": "w8a8"})
    assert schema.Model.ModelBufferHasIdentifier(content, 0)
    model = schema.ModelT.InitFromPackedBuf(content)
    (subgraph,) = model.subgraphs
    names = [t.name.decode() for t in subgraph.tensors]
    assert [names[i] for i in subgraph.inputs] == ["features", *(s.input for s in small.states)]
    assert [names[i] for i in subgraph.outputs] == ["mask", "velocity", *(s.output for s in small.states)]
    assert {t.type for t in subgraph.tensors} == {schema.TensorType.INT8, schema.TensorType.INT32}
    assert len(subgraph.operators) == len(small.nodes)
    tensor = dict(zip(names, subgraph.tensors, strict=True))
    for name, wanted in small.tensors.items():
        got = tensor[name]
        assert list(got.shape) == [1, wanted.frames, 1, wanted.channels]
        assert (got.quantization.scale.tolist(), got.quantization.zeroPoint.tolist()) == ([wanted.scale], [wanted.zero_point])
    for node in small.nodes:
        if isinstance(node, Pointwise | Depthwise):
            weight = tensor[f"{node.name}.weight"]
            np.testing.assert_array_equal(model.buffers[weight.buffer].data.astype(np.int8), node.weight.reshape(-1))
            np.testing.assert_array_equal(weight.quantization.scale, node.weight_scale)
            assert weight.shape[weight.quantization.quantizedDimension] == len(node.weight_scale)
            bias = model.buffers[tensor[f"{node.name}.bias"].buffer].data
            np.testing.assert_array_equal(bias.view(np.int32), node.bias)
    notes = {m.name.decode(): model.buffers[m.buffer].data.tobytes().decode() for m in model.metadata}
    assert notes == {"artifact": "abc", "recipe": "w8a8"}


def test_operator_versions_are_the_lowest_that_take_int8(small: IntegerGraph) -> None:
    ops = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    codes = schema.ModelT.InitFromPackedBuf(emit(small, {})).operatorCodes
    assert {ops[c.builtinCode]: c.version for c in codes} == {
        "CONV_2D": 3,
        "DEPTHWISE_CONV_2D": 3,
        "CONCATENATION": 2,
        "SLICE": 2,
        "ADD": 2,
        "LOGISTIC": 2,
        "TANH": 2,
    }
    assert all(c.deprecatedBuiltinCode == c.builtinCode for c in codes)


def test_the_signature_pairs_states() -> None:
    graph = graphs.student()
    network = LiteRTNetwork(graph)
    names = network._interpreter.get_signature_list()["step"]
    states = [s.name for s in graph.states]
    assert sorted(names["inputs"]) == sorted(["features", *states])
    assert sorted(names["outputs"]) == sorted(["mask", "velocity", *(f"{s}.next" for s in states)])


def test_equal_graphs_are_equal_files_and_voices_change_no_size() -> None:
    artifact = graphs.artifact(graphs.NANO, frames=1)
    files = []
    for seed in (0, 0, 1):
        voice = Voice(embedding=graphs.embedding(seed), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
        files.append(emit(personalize(artifact, voice).graph, {}))
    assert files[0] == files[1]
    assert files[0] != files[2]
    assert len(files[0]) == len(files[2]) == len(emit(artifact.graph, {}))


def test_weights_are_all_that_is_large(small: IntegerGraph) -> None:
    assert len(emit(small, {})) < small.weights + 200_000


@pytest.mark.alone
def test_switching_voice_on_a_running_engine_takes_less_than_50_ms() -> None:
    """Fold, write the flatbuffer, open it. Measured 25 to 35 ms."""
    artifact = graphs.artifact(graphs.SMALL, frames=1)
    times = []
    for seed in range(6):
        voice = Voice(embedding=graphs.embedding(seed), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
        start = time.perf_counter()
        open_network(personalize(artifact, voice))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.050


# What is refused


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    real = importlib.import_module

    def fake(name: str, package: str | None = None) -> ModuleType:
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, package)

    monkeypatch.setattr(litert, "import_module", fake)


def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "ai_edge_litert", "tflite_runtime")
    with pytest.raises(EngineError, match=r"pip install .*\[litert\]'"):
        open_network(graphs.artifact(frames=1), "litert")


def test_a_missing_emitter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "targets.tflite", None)
    with pytest.raises(EngineError, match=r"needs targets\.tflite .* pip install .*\[litert\]'"):
        LiteRTNetwork(graphs.student())


def test_tflite_runtime_with_numpy_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str) -> ModuleType:
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError(name=name)
        return ModuleType(name)

    monkeypatch.setattr(litert, "import_module", fake)
    monkeypatch.setattr(np, "__version__", "2.1.3")
    with pytest.raises(EngineError, match=r"needs numpy 1, this is 2\.1\.3"):
        LiteRTNetwork(graphs.student(), b"")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\0" * 64])
def test_a_damaged_flatbuffer_is_refused(content: bytes) -> None:
    with pytest.raises(EngineError, match="refuses the model") as error:
        LiteRTNetwork(graphs.student(), content)
    assert "\n" not in str(error.value)


def test_the_flatbuffer_of_another_graph_is_refused() -> None:
    with pytest.raises(EngineError, match="of another graph"):
        LiteRTNetwork(graphs.student(), emit(graphs.student(graphs.NANO), {}))


def test_options_are_checked() -> None:
    artifact: Artifact = graphs.artifact(frames=1)
    with pytest.raises(EngineError, match="no kernels magic: choose one of xnnpack, builtin_ref"):
        open_network(artifact, "litert", kernels="magic")
    with pytest.raises(EngineError, match="0 threads"):
        open_network(artifact, "litert", threads=0)
    with pytest.raises(ValueError, match="shape"):
        open_network(artifact, "litert").run(np.zeros(3, np.int8))
