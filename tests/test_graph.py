"""What a graph accepts, refuses, counts, folds and serialises."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_tse.errors import ArtifactError
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Node, Pointwise, State, Tail, Tensor
from edge_tse.operators import ACCUMULATOR_LIMIT, accumulator_bound
from edge_tse.reference import ReferenceNetwork
from tests import graphs, plain


def node(graph: IntegerGraph, name: str) -> Any:
    return next(n for n in graph.nodes if n.name == name)


def with_node(graph: IntegerGraph, which: str, /, **changes: Any) -> IntegerGraph:
    return replace(graph, nodes=tuple(replace(n, **changes) if n.name == which else n for n in graph.nodes))


def with_tensor(graph: IntegerGraph, name: str, **changes: Any) -> IntegerGraph:
    return replace(graph, tensors={k: replace(t, **changes) if k == name else t for k, t in graph.tensors.items()})


def _array(name: str, node_name: str, index: Any, value: Any) -> Callable[[IntegerGraph], IntegerGraph]:
    def change(graph: IntegerGraph) -> IntegerGraph:
        array = getattr(node(graph, node_name), name).copy()
        array[index] = value
        return with_node(graph, node_name, **{name: array})

    return change


STEM, TAPS, ADD, TAIL = "stem", "mask.0.depthwise", "mask.0.add", "mask.0.tail"

BROKEN: dict[str, tuple[Callable[[IntegerGraph], IntegerGraph], str]] = {
    "input before definition": (lambda g: replace(g, nodes=g.nodes[::-1]), "is not defined before it is used"),
    "tensor twice": (lambda g: with_node(g, TAIL, output="stem.out"), "stem.out is defined twice"),
    "node twice": (lambda g: with_node(g, ADD, name=STEM), "node stem is defined twice"),
    "unknown tensor": (lambda g: with_node(g, STEM, input="nowhere"), "nowhere is not defined"),
    "orphan tensor": (
        lambda g: replace(g, tensors={**g.tensors, "lost": Tensor(name="lost", frames=1, channels=1, scale=1.0)}),
        r"differ in \['lost'\]",
    ),
    "missing tensor": (
        lambda g: replace(g, tensors={k: t for k, t in g.tensors.items() if k != "stem.out"}),
        r"differ in \['stem.out'\]",
    ),
    "output not made": (lambda g: replace(g, outputs=("features", "velocity")), "output features is not made"),
    "output twice": (lambda g: replace(g, outputs=("mask", "mask")), "output mask is defined twice"),
    "misfiled tensor": (lambda g: replace(g, tensors={**g.tensors, "mask": g.tensors["velocity"]}), "velocity is filed under mask"),
    "empty tensor": (lambda g: with_tensor(g, "features", channels=0), r"shape \[1, 0\] is empty"),
    "zero scale": (lambda g: with_tensor(g, "stem.out", scale=0.0), "scale 0.0 is not positive"),
    "underflowing scale": (lambda g: with_tensor(g, "stem.out", scale=1e-60), "scale 0.0 is not positive"),
    "infinite scale": (lambda g: with_tensor(g, "stem.out", scale=float("inf")), "scale inf is not positive"),
    "zero point": (lambda g: with_tensor(g, "features", zero_point=128), "zero point 128 is not an int8"),
    "state of another scale": (lambda g: with_tensor(g, "mask.0.history", scale=9.0), "needs one scale"),
    "state used twice": (
        lambda g: replace(g, states=(State(name="x", input="mask.0.history", output="mask.1.remembered"), *g.states[1:])),
        "mask.1.remembered is defined twice",
    ),
    "weight type": (lambda g: with_node(g, STEM, weight=node(g, STEM).weight.astype(np.int16)), "int16"),
    "bias type": (lambda g: with_node(g, STEM, bias=node(g, STEM).bias.astype(np.int64)), "int64"),
    "weight shape": (lambda g: with_node(g, STEM, weight=node(g, STEM).weight[:, 1:]), "the weight needs"),
    "scale shape": (lambda g: with_node(g, STEM, weight_scale=node(g, STEM).weight_scale[1:]), "the weight needs"),
    "bias shape": (lambda g: with_node(g, TAPS, bias=node(g, TAPS).bias[1:]), "the weight needs"),
    "asymmetric weight": (_array("weight", STEM, (0, 0), -128), "-128 is outside"),
    "zero weight scale": (_array("weight_scale", STEM, 0, 0.0), "factors 0.0"),
    "negative weight scale": (_array("weight_scale", STEM, 0, -1.0), "factors -"),
    "weight scale not a number": (_array("weight_scale", STEM, 0, np.nan), "factors nan"),
    "signalling weight scale": (
        _array("weight_scale", STEM, slice(0, 1), np.array([0x7FA00000], np.uint32).view(np.float32)),
        "factors nan",
    ),
    "scale so small that factors overflow": (lambda g: with_tensor(g, "stem.out", scale=1e-44), "inf leave"),
    "huge weight scale": (_array("weight_scale", TAPS, 0, 1e6), "requantization factors"),
    "accumulator too large": (_array("bias", STEM, 0, ACCUMULATOR_LIMIT), "accumulators reach"),
    "int32 minimum": (_array("bias", STEM, 0, -(2**31)), "accumulators reach"),
    "dilation": (lambda g: with_node(g, TAPS, dilation=2), "makes -?[0-9]+ frames"),
    "zero dilation": (lambda g: with_node(g, TAPS, dilation=0), "dilation 0"),
    "channels of taps": (lambda g: with_tensor(g, f"{TAPS}.out", channels=9), "8 channels in, 9 out"),
    "append": (lambda g: with_tensor(g, "mask.0.window", frames=4), "needs history and input"),
    "tail": (lambda g: with_node(g, TAIL, input="stem.out"), "the end of its input"),
    "add": (lambda g: with_node(g, ADD, left="mask.0.expand.out"), "needs one form"),
    "sigmoid": (lambda g: with_tensor(g, "mask", zero_point=0), "needs scale and zero point"),
    "sigmoid scale": (lambda g: with_tensor(g, "mask", scale=1 / 255), "needs scale and zero point"),
    "tanh shape": (lambda g: with_tensor(g, "velocity", channels=9), "needs its input's shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_invalid_graphs_are_refused_by_name(case: str) -> None:
    change, message = BROKEN[case]
    graph = graphs.student()
    with pytest.raises(ArtifactError, match=message):
        change(graph)


def test_add_needs_zero_points_of_zero() -> None:
    tensors = [Tensor(name=n, frames=1, channels=2, scale=0.1, zero_point=1) for n in ("a", "out")]
    with pytest.raises(ArtifactError, match="zero points 0"):
        IntegerGraph(
            tensors={t.name: t for t in tensors},
            nodes=(Add(name="add", left="a", right="a", output="out"),),
            inputs=("a",),
            outputs=("out",),
            states=(),
        )


def test_state_must_keep_its_form() -> None:
    a, b = (Tensor(name=n, frames=2, channels=2, scale=s) for n, s in (("a", 0.1), ("b", 0.1)))
    x, w = Tensor(name="x", frames=1, channels=2, scale=0.1), Tensor(name="w", frames=3, channels=2, scale=0.1)
    nodes: tuple[Node, ...] = (Append(name="n", history="a", input="x", output="w"), Tail(name="t", input="w", output="b"))
    states = (State(name="s", input="a", output="b"),)
    IntegerGraph(tensors={t.name: t for t in (a, b, x, w)}, nodes=nodes, inputs=("x",), outputs=(), states=states)
    short = replace(b, frames=1)
    with pytest.raises(ArtifactError, match=r"state s: b .* cannot become a"):
        IntegerGraph(tensors={t.name: t for t in (a, short, x, w)}, nodes=nodes, inputs=("x",), outputs=(), states=states)


def test_scales_are_float32() -> None:
    tensor = Tensor(name="x", frames=1, channels=1, scale=0.1)
    assert tensor.scale == float(np.float32(0.1)) != 0.1


def test_accumulator_bound_is_never_passed() -> None:
    graph = graphs.student()
    rng = np.random.default_rng(0)
    for n in graph.nodes:
        if isinstance(n, Pointwise | Depthwise):
            zero_point = graph.tensors[n.input].zero_point
            bound = accumulator_bound(n, zero_point)
            weight = n.weight.astype(np.int64) if isinstance(n, Pointwise) else n.weight.astype(np.int64).T
            inputs = [rng.integers(-128, 128, weight.shape) for _ in range(50)]
            # the input that is worst for each row: the far end of the range, signed like the weight
            ends = (127 - zero_point, -128 - zero_point)
            far = max(ends, key=abs)
            inputs.append(np.where(np.sign(weight) == 1, far, min(ends, key=abs)) + zero_point)
            sums = np.array([(weight * (x - zero_point)).sum(axis=1) + n.bias for x in inputs])
            assert (np.abs(sums) <= bound).all()


def test_counts() -> None:
    graph = graphs.student(graphs.SMALL)
    c, h, c2, h2, f, b = 128, 192, 96, 128, 192, 96
    weights = f * c + 8 * (3 * c + 2 * c * h) + c * b + c * c2 + b * c2 + 4 * (3 * c2 + 2 * c2 * h2) + c2 * b
    assert graph.weights == graph.macs == weights == 563_328
    outputs = c + 8 * (c + h + c) + b + c2 + c2 + 4 * (c2 + h2 + c2) + b
    assert graph.weight_bytes == weights + 8 * outputs
    assert graph.state_bytes == 2 * c * 255 + 2 * c2 * 15
    assert dict(graph.films) == graphs.SMALL.slots


def test_macs_count_every_output_frame() -> None:
    x, y = (Tensor(name=n, frames=3, channels=2, scale=0.1) for n in "xy")
    layer = Pointwise(
        name="n",
        input="x",
        output="y",
        weight=np.ones((2, 2), np.int8),
        weight_scale=np.ones(2, np.float32),
        bias=np.zeros(2, np.int32),
    )
    graph = IntegerGraph(tensors={"x": x, "y": y}, nodes=(layer,), inputs=("x",), outputs=("y",), states=())
    assert (graph.weights, graph.macs) == (4, 12)


def round_trip(graph: IntegerGraph) -> IntegerGraph:
    description, arrays = graph.to_arrays()
    return IntegerGraph.from_arrays(json.loads(json.dumps(description)), arrays)


def test_serialisation_keeps_everything() -> None:
    for graph in (graphs.student(), graphs.student().fold(modulation())):
        again = round_trip(graph)
        assert again.tensors == graph.tensors
        assert (again.inputs, again.outputs, again.states) == (graph.inputs, graph.outputs, graph.states)
        assert len(again.nodes) == len(graph.nodes)
        for a, b in zip(again.nodes, graph.nodes, strict=True):
            assert type(a) is type(b)
            for field, value in vars(a).items():
                np.testing.assert_array_equal(value, getattr(b, field))


def _edit(key: str, index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        entry = description[key][index]
        for name, value in changes.items():
            if value is None:
                del entry[name]
            else:
                entry[name] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        _edit("nodes", 0, op="Softmax"),
        _edit("nodes", 0, op=None),
        _edit("nodes", 0, input=None),
        _edit("nodes", 0, name="other"),
        _edit("nodes", 0, extra=1),
        _edit("tensors", 0, frames="one"),
        _edit("tensors", 0, scale="large"),
        _edit("tensors", 0, channels=None),
        _edit("states", 0, input=None),
        lambda d: d.pop("outputs"),
        lambda d: d.update(nodes=3),
        lambda d: d.update(tensors=[[]]),
    ],
)
def test_malformed_descriptions_are_refused(damage: Callable[[dict[str, Any]], Any]) -> None:
    description, arrays = graphs.student().to_arrays()
    description = json.loads(json.dumps(description))
    damage(description)
    with pytest.raises(ArtifactError):
        IntegerGraph.from_arrays(description, arrays)


def test_missing_array_is_refused() -> None:
    description, arrays = graphs.student().to_arrays()
    del arrays["stem.bias"]
    with pytest.raises(ArtifactError, match=r"stem\.bias"):
        IntegerGraph.from_arrays(description, arrays)


def modulation(seed: int = 0, sizes: graphs.Sizes = graphs.TINY) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return {
        slot: (np.exp(rng.uniform(-1, 1, n)).astype(np.float32), rng.normal(0, 0.3, n).astype(np.float32))
        for slot, n in sizes.slots.items()
    }


def test_fold_of_a_neutral_voice_changes_no_integer() -> None:
    graph = graphs.student()
    neutral = {slot: (np.ones(n, np.float32), np.zeros(n, np.float32)) for slot, n in graphs.TINY.slots.items()}
    folded = graph.fold(neutral)
    for a, b in zip(folded.nodes, graph.nodes, strict=True):
        for field in ("weight", "weight_scale", "bias"):
            np.testing.assert_array_equal(getattr(a, field, None), getattr(b, field, None))
    assert not folded.films


def test_fold_is_scale_and_shift_after_the_convolution() -> None:
    """Against the unfolded layer: the accumulator, made real, scaled and shifted in double precision, rounded once."""
    graph = graphs.student()
    voice = modulation(1)
    folded = graph.fold(voice)
    rng = np.random.default_rng(2)
    for open_, closed in zip(graph.nodes, folded.nodes, strict=True):
        if not (isinstance(open_, Pointwise) and open_.film):
            assert closed is open_
            continue
        assert isinstance(closed, Pointwise)
        assert closed.weight is open_.weight
        source, out = graph.tensors[open_.input], graph.tensors[open_.output]
        scale, shift = voice[open_.film]
        for _ in range(20):
            x = rng.integers(-128, 128, source.channels)
            acc = open_.weight.astype(np.int64) @ (x - source.zero_point) + open_.bias
            real = acc * (np.float64(source.scale) * open_.weight_scale) * scale + shift
            wanted = np.clip(real / out.scale + out.zero_point, -128, 127)
            got = np.array(
                plain.evaluate(folded, closed, {open_.input: [[int(q) for q in x]]})[0],
            )
            # half a step of rounding, plus half a step of the bias grid, which is far finer
            grid = source.scale * closed.weight_scale / out.scale
            assert (np.abs(got - wanted) <= 0.5 + grid / 2 + 1e-4).all()


def test_fold_on_the_grid_is_exact() -> None:
    """Scales that are powers of two and shifts of whole bias steps lose nothing: the integers are those of the unfolded model."""
    graph = graphs.student()
    rng = np.random.default_rng(3)
    voice, steps = {}, {}
    for n in graph.nodes:
        if isinstance(n, Pointwise) and n.film:
            scale = 2.0 ** rng.integers(-1, 2, len(n.bias))
            steps[n.name] = rng.integers(-300, 300, len(n.bias))
            grid = np.float64(graph.tensors[n.input].scale) * n.weight_scale * scale
            voice[n.film] = scale.astype(np.float32), (steps[n.name] * grid).astype(np.float32)
    for n in graph.fold(voice).nodes:
        if n.name in steps:
            np.testing.assert_array_equal(n.bias, node(graph, n.name).bias + steps[n.name])
            np.testing.assert_array_equal(n.weight_scale, node(graph, n.name).weight_scale * voice[node(graph, n.name).film][0])


def test_fold_keeps_size_and_changes_output() -> None:
    graph = graphs.student()
    folded = graph.fold(modulation())
    assert (folded.weights, folded.weight_bytes, folded.state_bytes, folded.macs) == (
        graph.weights,
        graph.weight_bytes,
        graph.state_bytes,
        graph.macs,
    )
    row = graphs.features(graphs.TINY, 1)[0]
    assert not np.array_equal(ReferenceNetwork(folded).run(row), ReferenceNetwork(graph).run(row))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m.pop("mask.1"), "mask.1 is missing"),
        (lambda m: m.update({"mask.0": (m["mask.0"][0][1:], m["mask.0"][1])}), r"shapes \(11,\), \(12,\) where \(12,\)"),
        (lambda m: m.update({"mask.0": (m["mask.0"][0], m["mask.0"][1][:, None])}), "shapes"),
        (lambda m: m["mask.0"][0].__setitem__(3, 0.0), "scales must be positive"),
        (lambda m: m["mask.0"][0].__setitem__(3, -1.0), "scales must be positive"),
        (lambda m: m["mask.0"][0].__setitem__(3, np.nan), "scales must be positive"),
        (lambda m: m["mask.0"][0].__setitem__(3, np.inf), "scales must be positive"),
        (lambda m: m["refine.0"][1].__setitem__(0, np.inf), "shifts finite"),
        (lambda m: m["refine.0"][1].__setitem__(0, 1e9), "accumulators reach"),
        (lambda m: m["refine.0"][1].__setitem__(0, -3e38), "accumulators reach"),
    ],
)
def test_bad_modulations_are_refused(damage: Callable[[dict[str, Any]], Any], message: str) -> None:
    voice = modulation()
    damage(voice)
    with pytest.raises(ArtifactError, match=message):
        graphs.student().fold(voice)


def test_a_voice_folds_once() -> None:
    folded = graphs.student().fold(modulation())
    with pytest.raises(ArtifactError, match="already personalised"):
        folded.fold(modulation())


def test_extra_modulations_do_no_harm() -> None:
    graph = graphs.student().fold(modulation() | {"unused": (np.ones(1, np.float32), np.zeros(1, np.float32))})
    assert not graph.films
