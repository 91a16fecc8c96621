"""The golden engine against whole-number Python, operator by operator and as a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse.errors import EngineError
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Node, Pointwise, Sigmoid, State, Tail, Tanh, Tensor
from edge_tse.operators import ACCUMULATOR_LIMIT, accumulator_bound
from edge_tse.reference import ReferenceNetwork
from tests import graphs, plain

SEEDS = st.integers(0, 2**32 - 1)
EXTREMES = np.array([-128, -127, -1, 0, 1, 127], np.int8)


def int8s(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Half uniform, half from the edges of the range."""
    return np.where(rng.random(shape) < 0.5, rng.choice(EXTREMES, shape), rng.integers(-128, 128, shape)).astype(np.int8)


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.maximum(int8s(rng, shape), -127)


def windowed(node_maker: object, rng: np.random.Generator, past: int, channels: int) -> IntegerGraph:
    """features -> window over ``past`` frames of history -> the node under test."""
    zero_point = int(rng.integers(-128, 128))
    scale = float(rng.uniform(0.001, 0.1))

    def tensor(name: str, frames: int) -> Tensor:
        return Tensor(name=name, frames=frames, channels=channels, scale=scale, zero_point=zero_point)

    base = [tensor("features", 1), tensor("history", past), tensor("window", past + 1), tensor("remembered", past)]
    nodes: list[Node] = [
        Append(name="append", history="history", input="features", output="window"),
        Tail(name="tail", input="window", output="remembered"),
    ]
    out, node = node_maker(base[2])  # type: ignore[operator]
    return IntegerGraph(
        tensors={t.name: t for t in (*base, out)},
        nodes=(*nodes, node),
        inputs=("features",),
        outputs=("out",),
        states=(State(name="state", input="history", output="remembered"),),
    )


def assert_plain(graph: IntegerGraph, features: np.ndarray) -> None:
    network = ReferenceNetwork(graph)
    got = [[value.copy() for value in network.run(row)] for row in features]
    wanted = plain.run(graph, features)
    for i, name in enumerate(graph.outputs):
        np.testing.assert_array_equal(np.array([frame[i] for frame in got])[:, : wanted[name].shape[1]], wanted[name])


@given(seed=SEEDS, channels=st.integers(1, 20), outputs=st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_pointwise(seed: int, channels: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    source = Tensor(
        name="features", frames=1, channels=channels, scale=rng.uniform(1e-3, 1), zero_point=int(rng.integers(-128, 128))
    )
    out = Tensor(name="out", frames=1, channels=outputs, scale=rng.uniform(1e-3, 1), zero_point=int(rng.choice([-128, 0, 127])))
    weight, bias = weights(rng, (outputs, channels)), rng.integers(-(2**20), 2**20, outputs)
    # from dead to saturated
    weight_scale = out.scale / source.scale * 10 ** rng.uniform(-5, 0, outputs)
    if rng.random() < 0.5:  # small accumulators, factors that are powers of two: many lie between two outputs
        source, out = replace(source, scale=1.0, zero_point=0), replace(out, scale=1.0, zero_point=0)
        weight, bias, weight_scale = np.sign(weight), bias % 64, 2.0 ** -rng.integers(1, 6, outputs)
    node = Pointwise(
        name="node",
        input="features",
        output="out",
        weight=weight,
        weight_scale=weight_scale.astype(np.float32),
        bias=bias.astype(np.int32),
    )
    graph = IntegerGraph(tensors={"features": source, "out": out}, nodes=(node,), inputs=("features",), outputs=("out",), states=())
    assert_plain(graph, int8s(rng, (4, channels)))


@given(seed=SEEDS, channels=st.integers(1, 6), taps=st.integers(1, 4), dilation=st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_depthwise(seed: int, channels: int, taps: int, dilation: int) -> None:
    rng = np.random.default_rng(seed)

    def make(window: Tensor) -> tuple[Tensor, Node]:
        frames = window.frames - (taps - 1) * dilation
        out = Tensor(
            name="out", frames=frames, channels=channels, scale=rng.uniform(1e-3, 1), zero_point=int(rng.integers(-128, 128))
        )
        node = Depthwise(
            name="node",
            input="window",
            output="out",
            weight=weights(rng, (taps, channels)),
            weight_scale=(out.scale / window.scale * 10 ** rng.uniform(-4, 0, channels)).astype(np.float32),
            bias=rng.integers(-1000, 1000, channels).astype(np.int32),
            dilation=dilation,
        )
        return out, node

    # one output frame, then two: the second proves that every frame is convolved
    for extra in (0, 1):
        graph = windowed(make, rng, max(1, (taps - 1) * dilation + extra), channels)
        network, features = ReferenceNetwork(graph), int8s(rng, (2 * taps * dilation + 2, channels))
        state = {"history": [[graph.tensors["history"].zero_point] * channels] * graph.tensors["history"].frames}
        for row in features:
            values = plain.step(graph, {"features": [[int(q) for q in row]], **state})
            state = {"history": values["remembered"]}
            (got,) = network.run(row)
            np.testing.assert_array_equal(got.reshape(-1, channels), values["out"])


@given(seed=SEEDS, channels=st.integers(1, 8))
@settings(deadline=None)
def test_add_saturates(seed: int, channels: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = [Tensor(name=n, frames=1, channels=channels, scale=0.1) for n in ("features", "out")]
    node = Add(name="node", left="features", right="features", output="out")
    graph = IntegerGraph(tensors={t.name: t for t in tensors}, nodes=(node,), inputs=("features",), outputs=("out",), states=())
    assert_plain(graph, int8s(rng, (8, channels)))


@pytest.mark.parametrize("op", [Sigmoid, Tanh])
@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.05, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("zero_point", [-128, 0, 40])
def test_tables_over_every_input(op: type[Sigmoid] | type[Tanh], scale: float, zero_point: int) -> None:
    source = Tensor(name="features", frames=1, channels=256, scale=scale, zero_point=zero_point)
    fixed = (1 / 256, -128) if op is Sigmoid else (1 / 128, 0)
    out = Tensor(name="out", frames=1, channels=256, scale=fixed[0], zero_point=fixed[1])
    graph = IntegerGraph(
        tensors={"features": source, "out": out},
        nodes=(op(name="node", input="features", output="out"),),
        inputs=("features",),
        outputs=("out",),
        states=(),
    )
    every = np.arange(-128, 128).astype(np.int8)
    assert_plain(graph, every[None])
    (got,) = ReferenceNetwork(graph).run(every)
    assert (np.diff(got.astype(int)) >= 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_network_with_state_equals_plain_python(seed: int) -> None:
    graph = graphs.student(graphs.TINY, seed)
    assert_plain(graph, graphs.features(graphs.TINY, 72, seed))


def test_largest_accumulators_are_exact() -> None:
    """A row of extreme weights right below the bound, where float32 has no bit to spare."""
    channels = 400
    source = Tensor(name="features", frames=1, channels=channels, scale=1.0, zero_point=-128)
    out = Tensor(name="out", frames=1, channels=2, scale=2.0**16)
    weight = np.stack([np.full(channels, 127), np.where(np.arange(channels) % 2, 127, -127)]).astype(np.int8)
    node = Pointwise(
        name="node",
        input="features",
        output="out",
        weight=weight,
        weight_scale=np.array([1.0, 1.0], np.float32),
        bias=np.array([ACCUMULATOR_LIMIT - 1 - channels * 127 * 255, 1], np.int32),
    )
    assert accumulator_bound(node, -128).max() == ACCUMULATOR_LIMIT - 1
    graph = IntegerGraph(tensors={"features": source, "out": out}, nodes=(node,), inputs=("features",), outputs=("out",), states=())
    rng = np.random.default_rng(0)
    assert_plain(graph, np.concatenate([np.full((1, channels), 127, np.int8), int8s(rng, (6, channels))]))


def test_reset_restores_the_first_output_and_state_persists() -> None:
    network = ReferenceNetwork(graphs.student())
    features = graphs.features(graphs.TINY, 12, 3)
    first = [np.concatenate(network.run(row)) for row in features]
    second = [np.concatenate(network.run(row)) for row in features]
    network.reset()
    third = [np.concatenate(network.run(row)) for row in features]
    np.testing.assert_array_equal(first, third)
    assert not np.array_equal(first, second)


def test_two_networks_share_no_state() -> None:
    graph, features = graphs.student(), graphs.features(graphs.TINY, 10)
    alone = ReferenceNetwork(graph)
    wanted = [np.concatenate(alone.run(row)) for row in features]
    one, other = ReferenceNetwork(graph), ReferenceNetwork(graph)
    got = []
    for row in features:
        other.run(np.invert(row))
        got.append(np.concatenate(one.run(row)))
    np.testing.assert_array_equal(got, wanted)


def test_intermediate_tensors_can_be_read() -> None:
    graph = graphs.student()
    network = ReferenceNetwork(graph)
    network.run(graphs.features(graphs.TINY, 1)[0])
    name = graph.nodes[0].output
    assert network.tensor(name).shape == (1, graphs.TINY.channels)


def test_graph_with_two_inputs_is_refused() -> None:
    tensors = [Tensor(name=n, frames=1, channels=2, scale=0.1) for n in ("a", "b", "out")]
    graph = IntegerGraph(
        tensors={t.name: t for t in tensors},
        nodes=(Add(name="add", left="a", right="b", output="out"),),
        inputs=("a", "b"),
        outputs=("out",),
        states=(),
    )
    with pytest.raises(EngineError, match="one input, this graph has 2"):
        ReferenceNetwork(graph)


def test_wrong_number_of_features_is_refused() -> None:
    network = ReferenceNetwork(graphs.student())
    with pytest.raises(ValueError, match="shape"):
        network.run(np.zeros(graphs.TINY.frame.features + 1, np.int8))


def test_random_students_are_alive() -> None:
    """The fixtures of these tests: outputs that vary, activations neither dead nor stuck."""
    for sizes in (graphs.TINY, graphs.NANO, graphs.SMALL):
        network = ReferenceNetwork(graphs.student(sizes))
        outputs = np.array([np.concatenate(network.run(row)) for row in graphs.features(sizes, 100)])
        assert outputs.std(axis=0).mean() > 20
        assert len(np.unique(outputs)) > 100
