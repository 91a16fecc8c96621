"""Float student -> quantization-aware twin -> integer graph: the same numbers at every step, as far as each can."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("brevitas", reason="training extra not installed")

from edge_tse.engines import Engine  # noqa: E402
from edge_tse.nn.encoder import Encoder  # noqa: E402
from edge_tse.nn.student import NANO, Student  # noqa: E402
from edge_tse.operators import Pointwise  # noqa: E402
from edge_tse.quant import dequantize  # noqa: E402
from edge_tse.reference import ReferenceNetwork  # noqa: E402
from edge_tse.voice import Voice, active_levels, enroll, personalize  # noqa: E402
from quantization.freeze import freeze  # noqa: E402
from quantization.qat import calibrate, quantized_twin  # noqa: E402
from quantization.quantize import golden_features  # noqa: E402
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
def features():
    return golden_features(NANO.frame)[:FRAMES]


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


def test_personalizing_changes_constants_only(artifact, voice):
    speaker = Voice(
        embedding=voice[0].numpy(), model_digest=artifact.voice_model.digest, created="2026-01-01T00:00:00Z", source="test"
    )
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
    speaker = enroll(artifact.voice_model, [clip], "2026-01-01T00:00:00Z", "clip")
    personal = personalize(artifact, speaker)
    step = Engine(personal, ReferenceNetwork(personal.graph)).start(2)
    out = [step(np.repeat(clip[None, i * 64 : i * 64 + 64], 2, 0)) for i in range(50)]
    assert np.isfinite(out).all()
    assert np.abs(out).max() > 0
    np.testing.assert_array_equal(np.array(out)[:, 0], np.array(out)[:, 1])
