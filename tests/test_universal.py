"""The universal form: the same model with its voice as inputs, what it takes, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.errors import ArtifactError, EngineError
from edge_tse.golden import TOLERANCE_LSB, UniversalNetwork, record, replay
from edge_tse.graph import Add, IntegerGraph, Multiply, Tensor
from edge_tse.operators import Pointwise
from edge_tse.personalization import personalize, universal, voice_inputs
from edge_tse.reference import ReferenceNetwork
from edge_tse.universal import Reach, reaches
from tests import graphs


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact(graphs.TINY)


def product(left_zero: int, right_zero: int, factor: float) -> IntegerGraph:
    """features * voice, 256 channels, requantized by ``factor``."""
    form = {"frames": 1, "channels": 256}
    tensors = [
        Tensor(name="features", scale=1.0, zero_point=left_zero, **form),
        Tensor(name="gain", scale=factor, zero_point=right_zero, **form),
        Tensor(name="out", scale=1.0, zero_point=-128, **form),
    ]
    return IntegerGraph(
        tensors={t.name: t for t in tensors},
        nodes=(Multiply(name="multiply", left="features", right="gain", output="out"),),
        inputs=("features",),
        outputs=("out",),
        states=(),
        voice={"gain": np.full(256, right_zero, np.int8)},
    )


@pytest.mark.parametrize("engine", ["litert", "onnx"])
@pytest.mark.parametrize("factor", [2**-8, 0.0039, 0.0117, 0.5])
@pytest.mark.parametrize("zero_points", [(-128, -128), (0, -128), (3, -7)])
def test_every_product_is_rounded_once(engine: str, factor: float, zero_points: tuple[int, int]) -> None:
    """Every value with every third gain, ties among them."""
    pytest.importorskip({"litert": "ai_edge_litert", "onnx": "onnxruntime"}[engine], reason=f"needs edge-tse[{engine}]")
    graph = product(*zero_points, factor)
    left = np.arange(-128, 128).astype(np.int8)
    networks = [ReferenceNetwork(graph), _network(engine, graph)]
    exact = np.float32(factor)
    for gain in range(-128, 128, 3):
        for network in networks:
            network.set_voice({"gain": np.full(256, gain, np.int8)})
        wanted = np.rint((left.astype(np.float32) - zero_points[0]) * np.float32(gain - zero_points[1]) * exact) - 128
        for network in networks:
            np.testing.assert_array_equal(network.run(left)[0], np.clip(wanted, -128, 127))


def _network(engine: str, graph: IntegerGraph) -> ReferenceNetwork:
    if engine == "onnx":
        from edge_tse.engines.onnxrt import OnnxNetwork

        return OnnxNetwork(graph)  # type: ignore[return-value]
    from edge_tse.engines.litert import LiteRTNetwork

    return LiteRTNetwork(graph)  # type: ignore[return-value]


@pytest.mark.parametrize("sizes", [graphs.TINY, graphs.NANO])
def test_a_layer_stays_near_the_personalized_one(sizes: graphs.Sizes) -> None:
    """What the first modulated layer gives, for frames and a voice that its reach was made of: three roundings apart at most."""
    artifact = graphs.artifact(sizes)
    voice = graphs.voice(artifact.voice_model)
    node = next(n for n in artifact.graph.nodes if isinstance(n, Pointwise) and n.film is not None)
    networks = [ReferenceNetwork(form(artifact, voice).graph) for form in (personalize, universal)]
    pairs = []
    for row in graphs.features(sizes, 40):
        for network in networks:
            network.run(row)
        pairs.append([network.tensor(node.output).astype(float) for network in networks])
    distance = np.abs(np.diff(np.array(pairs), axis=1))
    assert distance.max() <= 3
    assert 0 < distance.mean() < 0.5


def test_a_voice_changes_while_it_runs_and_the_past_stays(artifact: Artifact) -> None:
    form = universal(artifact)
    voices = [graphs.voice(artifact.voice_model, seed) for seed in range(2)]
    rows = graphs.features(graphs.TINY, 60)
    network = ReferenceNetwork(form.graph)
    network.set_voice(voice_inputs(form, voices[0]))
    for row in rows[:30]:
        network.run(row)
    before = {s.input: network.tensor(s.input) for s in form.graph.states}
    network.set_voice(voice_inputs(form, voices[1]))
    for name, value in before.items():
        np.testing.assert_array_equal(network.tensor(name), value)
    changed = np.array([network.run(row)[0] for row in rows[30:]])
    kept = record(universal(artifact, voices[0]).graph, rows).outputs
    assert kept is not None
    assert (changed != kept["mask"][30:]).any()
    network.reset()
    assert replay(record(universal(artifact, voices[1]).graph, rows), network).worst_lsb == 0


@pytest.mark.parametrize("engine", ["litert", "onnx", "tflm", "litert builtin_ref"])
def test_a_voice_changes_on_every_engine(artifact: Artifact, engine: str) -> None:
    """The reference's integers before and after a change, with the past kept; near them where the engine rounds twice.

    ExecuTorch takes long to make a program: tests/parity/test_matrix.py has it.
    """
    form = universal(artifact)
    name, _, kernels = engine.partition(" ")
    try:
        network = open_network(form, name, kernels=kernels or "xnnpack")
    except EngineError as failure:
        pytest.skip(str(failure))
    assert isinstance(network, UniversalNetwork)
    wanted = ReferenceNetwork(form.graph)
    rows, worst = graphs.features(graphs.TINY, 120), 0
    for i, row in enumerate(rows):
        if i % 40 == 0:
            inputs = voice_inputs(form, graphs.voice(artifact.voice_model, i // 40))
            network.set_voice(inputs)
            wanted.set_voice(inputs)
        for got, right in zip(network.run(row), wanted.run(row), strict=True):
            worst = max(worst, int(np.abs(got.astype(int) - right).max()))
    assert worst <= TOLERANCE_LSB[network.name]


def test_without_a_voice_it_is_neutral(artifact: Artifact) -> None:
    form = universal(artifact)
    slot = next(iter(artifact.graph.films))
    gain, threshold = (form.graph.voice[f"{slot}.{part}"] for part in ("gain", "threshold"))
    scale = form.graph.tensors[f"{slot}.gain"].scale
    steps = artifact.reach[slot].steps(form.graph.tensors[f"{slot}.threshold"].scale)
    unit = steps / form.graph.tensors[f"{slot}.threshold"].scale
    np.testing.assert_allclose((gain.astype(float) + 128) * scale, unit, atol=scale / 2 + 1e-6)
    assert threshold.dtype == np.int8


def test_what_is_reached_is_what_was_heard(artifact: Artifact) -> None:
    """By hand: thresholds of the voices, and sums over the frames."""
    modulations = [artifact.voice_model.modulation(graphs.embedding(seed)) for seed in range(3)]
    rows = graphs.features(graphs.TINY, 50, 3)
    found = reaches(artifact.graph, modulations, [(modulations[1], rows)])
    node = next(n for n in artifact.graph.nodes if isinstance(n, Pointwise) and n.film is not None)
    network, sums = ReferenceNetwork(artifact.graph.fold(modulations[1])), []
    for row in rows:
        network.run(row)
        sums.append(node.weight.astype(int) @ network.tensor(node.input)[0].astype(int) + node.bias)
    real = np.array(sums) * (artifact.graph.tensors[node.input].scale * node.weight_scale.astype(float))
    own = found[str(node.film)]
    thresholds = np.array([-m[str(node.film)][1] / m[str(node.film)][0] for m in modulations])
    room = 255 * artifact.graph.tensors[node.output].scale / np.array([m[str(node.film)][0] for m in modulations])
    np.testing.assert_allclose(own.low, thresholds.min(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own.high, np.minimum((thresholds + room).max(axis=0), real.max(axis=0)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(own.scale, np.max([m[str(node.film)][0] for m in modulations], axis=0))


def test_the_file_keeps_what_it_needs(artifact: Artifact, tmp_path: Path) -> None:
    artifact.save(tmp_path / "model.etse")
    loaded = Artifact.load(tmp_path / "model.etse")
    assert loaded.digest == artifact.digest
    voice = graphs.voice(artifact.voice_model)
    again, first = (voice_inputs(universal(a), voice) for a in (loaded, artifact))
    assert {name: value.tolist() for name, value in again.items()} == {name: value.tolist() for name, value in first.items()}
    form = universal(artifact, voice).record()
    form.save(tmp_path / "universal.etse")
    kept = Artifact.load(tmp_path / "universal.etse")
    assert replay(form.golden, ReferenceNetwork(kept.graph)).worst_lsb == 0
    assert not kept.personalized


def test_an_engine_changes_its_voice(artifact: Artifact) -> None:
    form = universal(artifact)
    engine = Engine(form, open_network(form, "reference"))
    voice = graphs.voice(artifact.voice_model, 2)
    engine.set_voice(voice)
    given = universal(artifact, voice)
    other = Engine(given, open_network(given, "reference"))
    hop = np.random.default_rng(0).normal(0, 0.1, (1, artifact.frame.hop)).astype(np.float32)
    streams = engine.start(1), other.start(1)
    for _ in range(10):
        np.testing.assert_array_equal(*(step(hop) for step in streams))


def test_what_is_wrong_is_said(artifact: Artifact) -> None:
    voice = graphs.voice(artifact.voice_model)
    own, form = personalize(artifact, voice), universal(artifact)
    with pytest.raises(ArtifactError, match="no universal form"):
        universal(replace(artifact, reach={}))
    with pytest.raises(ArtifactError, match="no open modulations"):
        universal(own)
    with pytest.raises(ArtifactError, match="takes no voice while it runs"):
        voice_inputs(artifact, voice)
    with pytest.raises(ArtifactError, match="takes its voice while it runs"):
        personalize(form, voice)
    with pytest.raises(ArtifactError, match="made by encoder"):
        voice_inputs(form, replace(voice, encoder_digest="0" * 64))
    with pytest.raises(ArtifactError, match="voice inputs where this model takes"):
        ReferenceNetwork(form.graph).set_voice({})
    name = next(iter(form.graph.voice))
    with pytest.raises(ArtifactError, match=f"voice input {name} is int8"):
        ReferenceNetwork(form.graph).set_voice({**form.graph.voice, name: np.zeros(3, np.int8)})
    slot = next(iter(artifact.reach))
    with pytest.raises(ArtifactError, match="of another model"):
        replace(artifact, reach={slot: Reach(*(np.zeros(1, np.float32) for _ in range(3)))})

    class Deaf:
        name = "deaf"

        def reset(self) -> None: ...

        def run(self, features: np.ndarray) -> tuple[np.ndarray, ...]:
            return ()

    with pytest.raises(EngineError, match="deaf takes no voice"):
        Engine(form, Deaf()).set_voice(voice)


def test_what_is_beyond_its_reach_saturates_and_a_voice_that_is_far_beyond_is_refused(artifact: Artifact) -> None:
    voice = graphs.voice(artifact.voice_model)
    slot = next(iter(artifact.reach))

    def raised(channels: int) -> Artifact:
        """The model with the lowest threshold of some channels where no voice of its own stays above."""
        own = artifact.reach[slot]
        low = np.where(np.arange(len(own.low)) < channels, own.high + 10, own.low).astype(np.float32)
        return universal(replace(artifact, reach={**artifact.reach, slot: replace(own, low=low)}))

    inputs = voice_inputs(raised(1), voice)
    assert inputs[f"{slot}.threshold"][0] == 127
    before = voice_inputs(universal(artifact), voice)
    np.testing.assert_array_equal(inputs[f"{slot}.threshold"][1:], before[f"{slot}.threshold"][1:])
    total = sum(artifact.graph.films.values())
    with pytest.raises(ArtifactError, match=rf"beyond the reach .* in 12 of {total} channels, {total // 10} may saturate: fold"):
        voice_inputs(raised(12), voice)


def test_the_firmware_has_a_patch_instead(artifact: Artifact) -> None:
    from firmware_bridge.codegen import generate

    with pytest.raises(ArtifactError, match="takes a voice as a patch"):
        generate(universal(artifact))


def test_operators_say_what_they_need(artifact: Artifact) -> None:
    graph = universal(artifact).graph
    relu = next(n for n in graph.nodes if isinstance(n, Add) and n.name.endswith(".relu"))
    odd = {**graph.tensors, relu.output: replace(graph.tensors[relu.output], zero_point=5)}
    with pytest.raises(ArtifactError, match="zero points 0"):
        replace(graph, tensors=odd)
    multiply = next(n for n in graph.nodes if isinstance(n, Multiply))
    odd = {**graph.tensors, multiply.right: replace(graph.tensors[multiply.right], scale=1e-9)}
    with pytest.raises(ArtifactError, match="requantization factors"):
        replace(graph, tensors=odd)
