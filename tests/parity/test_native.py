"""The firmware's C against the golden integers, compiled for this machine: bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact, verify
from edge_tse.golden import record, replay
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Node, Pointwise, Sigmoid, State, Tail, Tensor
from edge_tse.personalization import personalize
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice
from firmware_bridge.native import NativeNetwork
from tests import graphs

Int8 = NDArray[np.int8]

pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")


def test_shipped_model() -> None:
    artifact = Artifact.shipped()
    assert verify(artifact, NativeNetwork(artifact.graph), 0).frames == len(artifact.golden.features)


@pytest.mark.parametrize(("sizes", "seed"), [(graphs.SMALL, 0), (graphs.NANO, 1), (graphs.TINY, 2), (graphs.TINY, 3)])
def test_bit_exact_with_state_feedback(sizes: graphs.Sizes, seed: int) -> None:
    """Longer than the longest memory, so that every ring has gone round."""
    graph = graphs.student(sizes, seed)
    features = graphs.features(sizes, 600, seed)
    features[300:350] = np.random.default_rng(seed).choice(np.array([-128, 127], np.int8), features[300:350].shape)
    assert replay(record(graph, features), NativeNetwork(graph)).worst_lsb == 0


def test_personalized_is_bit_exact() -> None:
    artifact = graphs.artifact(frames=200)
    voice = Voice(embedding=graphs.embedding(1), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")
    own = personalize(artifact, voice)
    assert verify(own, NativeNetwork(own.graph), 0).worst_lsb == 0


def test_reset_forgets_and_networks_share_nothing() -> None:
    graph = graphs.student()
    features = graphs.features(graphs.TINY, 20)
    one, other = NativeNetwork(graph), NativeNetwork(graph)
    first = [np.concatenate(one.run(row)).copy() for row in features]
    assert len({row.tobytes() for row in first}) > 1
    one.reset()
    again = []
    for row in features:
        other.run(features[-1])
        again.append(np.concatenate(one.run(row)).copy())
    np.testing.assert_array_equal(first, again)


class Builder:
    """Small graphs that no student has, on one scale."""

    def __init__(self, frames: int, channels: int, zero_point: int = 0) -> None:
        self.rng = np.random.default_rng(channels)
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.states: list[State] = []
        self.tensor("features", frames, channels, zero_point)

    def tensor(self, name: str, frames: int, channels: int, zero_point: int = 0, scale: float = 0.05) -> str:
        self.tensors[name] = Tensor(name=name, frames=frames, channels=channels, scale=scale, zero_point=zero_point)
        return name

    def pointwise(self, name: str, source: str, channels: int, zero_point: int = 0) -> str:
        x = self.tensors[source]
        self.nodes.append(
            Pointwise(
                name=name,
                input=source,
                output=self.tensor(name, x.frames, channels, zero_point),
                weight=self.rng.integers(-127, 128, (channels, x.channels)).astype(np.int8),
                weight_scale=self.rng.uniform(0.001, 0.02, channels).astype(np.float32),
                bias=self.rng.integers(-3000, 3000, channels).astype(np.int32),
            )
        )
        return name

    def depthwise(self, name: str, source: str, taps: int, dilation: int) -> str:
        x = self.tensors[source]
        self.nodes.append(
            Depthwise(
                name=name,
                input=source,
                output=self.tensor(name, x.frames - (taps - 1) * dilation, x.channels),
                weight=self.rng.integers(-127, 128, (taps, x.channels)).astype(np.int8),
                weight_scale=self.rng.uniform(0.001, 0.01, x.channels).astype(np.float32),
                bias=self.rng.integers(-3000, 3000, x.channels).astype(np.int32),
                dilation=dilation,
            )
        )
        return name

    def window(self, name: str, source: str, past: int) -> str:
        x = self.tensors[source]
        for part, frames in (("history", past), ("window", past + 1), ("remembered", past)):
            self.tensor(f"{name}.{part}", frames, x.channels, x.zero_point)
        self.nodes.append(Append(name=f"{name}.append", history=f"{name}.history", input=source, output=f"{name}.window"))
        self.nodes.append(Tail(name=f"{name}.tail", input=f"{name}.window", output=f"{name}.remembered"))
        self.states.append(State(name=name, input=f"{name}.history", output=f"{name}.remembered"))
        return f"{name}.window"

    def add(self, name: str, left: str, right: str) -> str:
        x = self.tensors[left]
        self.nodes.append(Add(name=name, left=left, right=right, output=self.tensor(name, x.frames, x.channels)))
        return name

    def graph(self, *outputs: str) -> IntegerGraph:
        return IntegerGraph(
            tensors=self.tensors, nodes=tuple(self.nodes), inputs=("features",), outputs=outputs, states=tuple(self.states)
        )


def without_state() -> IntegerGraph:
    """Several frames at once, odd channels, taps over the frames of one step."""
    b = Builder(7, 19, 5)
    x = b.pointwise("wide", "features", 35, -128)
    return b.graph(b.depthwise("taps", x, 2, 3), b.pointwise("narrow", x, 1))


def remembered_twice() -> IntegerGraph:
    """Two delay lines of one tensor, of which one is longer than its taps reach, and the tensor itself is an output."""
    b = Builder(1, 21)
    x = b.pointwise("x", "features", 13)
    near, far = b.window("near", x, 2), b.window("far", x, 9)
    short, long = b.depthwise("short", near, 3, 1), b.depthwise("long", far, 4, 2)
    one = b.add("sum", short, x)
    return b.graph(x, one, long)


def input_remembered() -> IntegerGraph:
    """The input itself is what is remembered, with a zero point of its own."""
    b = Builder(1, 16, -7)
    x = b.depthwise("x", b.window("memory", "features", 5), 2, 5)
    b.tensor("mask", 1, 16, -128, 2.0**-8)
    b.nodes.append(Sigmoid(name="sigmoid", input=x, output="mask"))
    return b.graph("mask")


@pytest.mark.parametrize("make", [without_state, remembered_twice, input_remembered])
def test_graphs_that_no_student_has(make: Callable[[], IntegerGraph]) -> None:
    graph = make()
    source = graph.tensors["features"]
    features = np.random.default_rng(0).integers(-128, 128, (60, source.frames * source.channels)).astype(np.int8)
    native, reference = NativeNetwork(graph), ReferenceNetwork(graph)
    for row in features:
        for got, wanted in zip(native.run(row), reference.run(row), strict=True):
            np.testing.assert_array_equal(got, wanted)
