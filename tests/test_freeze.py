"""Float student -> quantization-aware twin -> integer graph: the same numbers at every step, as far as each can."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("brevitas", reason="training extra not installed")

from benchmarks import sensitivity  # noqa: E402
from edge_tse.engines import Engine  # noqa: E402
from edge_tse.nn.encoder import Encoder  # noqa: E402
from edge_tse.nn.student import NANO, Student  # noqa: E402
from edge_tse.operators import Pointwise  # noqa: E402
from edge_tse.personalization import personalize  # noqa: E402
from edge_tse.quant import dequantize  # noqa: E402
from edge_tse.reference import ReferenceNetwork  # noqa: E402
from edge_tse.voice import Voice, active_levels, enroll_signals  # noqa: E402
from quantization.freeze import freeze  # noqa: E402
from quantization.qat import CALIBRATIONS, WeightFormat, calibrate, quantized_twin  # noqa: E402
from quantization.quantize import golden_features, packed_bytes  # noqa: E402
from tests.speech import utterance  # noqa: E402

FRAMES = 300


@pytest.fixture(scope="module")
def student():
    """A student that computes something: residual branches and heads start at zero, so give them weights."""
    torch.manual_seed(3)
    made = Student(NANO)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "project" in name or "head" in name:
                parameter.normal_(std=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def features(student):
    return golden_features(student)[:FRAMES]


@pytest.fixture(scope="module")
def voice():
    return torch.nn.functional.normalize(torch.randn(1, 128, generator=torch.Generator().manual_seed(5)), dim=-1)


@pytest.fixture(scope="module")
def twin(student, features, voice):
    real = torch.from_numpy(dequantize(features, 1 / 127))[None]
    return quantized_twin(student, calibrate(student, [(real, voice)])).eval()


@pytest.fixture(scope="module")
def artifact(twin, features):
    torch.manual_seed(4)
    return freeze(twin, Encoder().eval(), features, {"made": "test"})


def _replay(graph, features):
    network = ReferenceNetwork(graph)
    network.reset()
    return [np.stack(rows) for rows in zip(*([x.copy() for x in network.run(f)] for f in features), strict=True)]


def test_integers_equal_the_fake_quantized_twin(twin, artifact, features, voice):
    # The heads' int8 rounding is not part of the twin: give it the modulations that the artifact makes.
    made = artifact.voice_model.modulation(voice[0].numpy())
    twin.modulations = lambda stage, _code: [
        tuple(torch.from_numpy(x)[None] for x in made[slot]) for slot in Student.slots(NANO) if slot.startswith(stage)
    ]
    with torch.no_grad():
        mask, velocity = twin(torch.from_numpy(dequantize(features, 1 / 127))[None], voice)
    del twin.modulations
    got_mask, got_velocity = _replay(artifact.graph.fold(made), features)
    for got, want, scale, zero in ((got_mask, mask, 1 / 256, -128), (got_velocity, velocity, 1 / 128, 0)):
        expected = np.rint(want[0].numpy() / scale).astype(int) + zero
        difference = np.abs(got.astype(int) - expected)
        assert got.std() > 2, "a constant output would prove nothing"
        assert (difference == 0).mean() > 0.9999


def test_twin_is_close_to_the_float_student(student, twin, features, voice):
    real = torch.from_numpy(dequantize(features, 1 / 127))[None]
    with torch.no_grad():
        wanted, _ = student(real, voice)
        got, _ = twin(real, voice)
    assert (got - wanted).abs().mean() < 0.02
    assert (got - wanted).abs().max() > 0, "nothing was quantized"


def test_four_bits_run_as_they_are_and_use_all_their_steps(student, features, voice):
    real = torch.from_numpy(dequantize(features, 1 / 127))[None]
    ranges = calibrate(student, [(real, voice)])
    four = quantized_twin(student, ranges, WeightFormat(bits=4, least_error=True)).eval()
    made = freeze(four, Encoder().eval(), features, {})
    for node in made.graph.nodes:
        if isinstance(node, Pointwise):
            assert np.abs(node.weight).max() == 7, node.name
        elif hasattr(node, "weight"):
            assert np.abs(node.weight).max() == 127, node.name
    weights = [n.weight for n in made.graph.nodes if hasattr(n, "weight")]
    pointwise = sum(n.weight.size for n in made.graph.nodes if isinstance(n, Pointwise))
    eight = packed_bytes(quantized_twin(student, ranges))
    assert eight == made.graph.weight_bytes
    assert eight - packed_bytes(four) == pointwise // 2
    assert sum(w.nbytes for w in weights) == sum(w.size for w in weights), "one byte a weight, whatever it holds"


def test_a_scale_for_the_whole_matrix_is_coarser(student, features, voice):
    real = torch.from_numpy(dequantize(features, 1 / 127))[None]
    ranges = calibrate(student, [(real, voice)])
    with torch.no_grad():
        wanted, _ = student(real, voice)
        errors = [
            float((quantized_twin(student, ranges, form, form).eval()(real, voice)[0] - wanted).square().mean())
            for form in (WeightFormat(), WeightFormat(per_channel=False), WeightFormat(bits=4))
        ]
    assert 0 < errors[0] < errors[1] < errors[2]
    with pytest.raises(ValueError, match="per channel"):
        quantized_twin(student, ranges, WeightFormat(per_channel=False, least_error=True))


def test_calibrations_are_ordered_and_find_a_known_range():
    values = torch.cat([torch.linspace(0, 1, 10_001), torch.tensor([100.0])])
    found = {name: c.over_batches([c.of_batch(values, 127)]) for name, c in CALIBRATIONS.items()}
    assert found["min-max"] == 100
    assert found["percentile-99.99"] == pytest.approx(1, abs=0.01)
    assert found["percentile-99.9"] == pytest.approx(0.999, abs=0.001)
    normal = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).abs()
    chosen = CALIBRATIONS["least-error"].of_batch(normal, 7)
    # Four bits of a normal distribution: the best end of the range is 2.51 standard deviations (uniform quantizer, 16 levels).
    assert chosen == pytest.approx(2.5, abs=0.35)


def test_only_one_layer_is_quantized_at_a_time(student, twin, features, voice):
    real = torch.from_numpy(dequantize(features, 1 / 127))[None]
    parts = sensitivity.layers(twin)
    assert {"stem", "mask.0.project", "mask.stream", "refine.0.depthwise", "velocity"} <= set(parts)
    with torch.no_grad():
        exact, _ = student(real, voice)
        with sensitivity.only(twin, []) as loosened:
            torch.testing.assert_close(loosened(real, voice)[0], exact, atol=1e-5, rtol=0)
        everything = twin(real, voice)[0]
        with sensitivity.only(twin, parts["mask.stream"]) as loosened:
            one = loosened(real, voice)[0]
        torch.testing.assert_close(twin(real, voice)[0], everything)
    assert not twin.training
    assert 0 < float((one - exact).square().mean()) < float((everything - exact).square().mean())


def test_personalizing_changes_constants_only(artifact, voice):
    speaker = Voice(embedding=voice[0].numpy(), encoder_digest=artifact.voice_model.encoder_digest, created="", source="test")
    personal = personalize(artifact, speaker)
    before = [n for n in artifact.graph.nodes if isinstance(n, Pointwise)]
    after = [n for n in personal.graph.nodes if isinstance(n, Pointwise)]
    assert sum(n.film is not None for n in before) == len(Student.slots(NANO))
    assert all(n.film is None for n in after)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
    assert personal.graph.weight_bytes == artifact.graph.weight_bytes


def test_numpy_encoder_equals_torch(artifact):
    torch.manual_seed(4)
    encoder = Encoder().eval()
    rng = np.random.default_rng(0)
    levels = active_levels(rng.uniform(-0.5, 0.5, (800, 96)).astype(np.float32))
    with torch.no_grad():
        wanted = encoder(torch.from_numpy(levels)[None])[0].numpy()
    got = artifact.voice_model.embed(levels)
    assert wanted @ got > 0.999  # int8 rows: close, not equal
    assert np.linalg.norm(got) == pytest.approx(1, abs=1e-5)


def test_modulations_equal_the_students(student, artifact, voice):
    with torch.no_grad():
        code = student.encode(voice)
        films = student.modulations("mask", code) + student.modulations("refine", code)
    made = artifact.voice_model.modulation(voice[0].numpy())
    for slot, (scale, shift) in zip(Student.slots(NANO), films, strict=True):
        np.testing.assert_allclose(made[slot][0], scale[0].numpy(), atol=0.03)
        np.testing.assert_allclose(made[slot][1], shift[0].numpy(), atol=0.03)


def test_streaming_steps_equal_one_batch(artifact, student, features, voice):
    """The float student is causal: what it says of a frame does not change when later frames arrive."""
    real = torch.from_numpy(dequantize(features, 1 / 127))[None]
    with torch.no_grad():
        whole, _ = student(real, voice)
        part, _ = student(real[:, :150], voice)
    torch.testing.assert_close(whole[:, :150], part, atol=1e-5, rtol=0)
    reach = NANO.receptive_field
    with torch.no_grad():
        late, _ = student(real[:, -reach:], voice)
    torch.testing.assert_close(whole[:, -1], late[:, -1], atol=1e-5, rtol=0)


def test_enroll_and_extract_run_end_to_end(artifact):
    clip = utterance(3, 0, 4.0)
    speaker = enroll_signals(artifact.voice_model, [clip], "2026-01-01T00:00:00Z", "clip")
    personal = personalize(artifact, speaker)
    step = Engine(personal, ReferenceNetwork(personal.graph)).start(2)
    out = [step(np.repeat(clip[None, i * 64 : i * 64 + 64], 2, 0)) for i in range(50)]
    assert np.isfinite(out).all()
    assert np.abs(out).max() > 0
    np.testing.assert_array_equal(np.array(out)[:, 0], np.array(out)[:, 1])
