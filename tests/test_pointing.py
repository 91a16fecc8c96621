"""The loop of a device in float against all frames at once, and what an ideal mask is."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("brevitas", reason="training extra not installed")

from benchmarks import pointing  # noqa: E402
from edge_tse.beam import NOISE_KEEPS, TARGET_KEEPS  # noqa: E402
from edge_tse.nn.front import TorchFront  # noqa: E402
from edge_tse.nn.student import NANO_BEAM, Student  # noqa: E402

KEEPS = (float(TARGET_KEEPS), float(NOISE_KEEPS))


@pytest.fixture(scope="module")
def heard():
    """A student that computes something, its front, spectra of two ears of noise and two voices."""
    torch.manual_seed(5)
    student, front = Student(NANO_BEAM).eval(), TorchFront(NANO_BEAM.frame)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "project" in name or "head" in name:
                parameter.normal_(std=0.1)
    spectra = front.analyze(0.1 * torch.randn(2, 2, 64 * 96))
    return student, front, spectra, torch.nn.functional.normalize(torch.randn(2, 128), dim=-1)


def test_hop_by_hop_and_all_frames_at_once_are_one_where_the_mask_points(heard):
    student, front, spectra, voice = heard
    with torch.no_grad():
        at_once = student.listen(front, spectra, voice, rounds=0).apply(front, spectra)
    by_hops = pointing.hear(student, front, spectra, voice, pointing.Pointer(mask=1.0))
    torch.testing.assert_close(by_hops, at_once, atol=1e-4 * float(spectra.abs().max()), rtol=1e-3)


def test_what_was_heard_points_another_beam(heard):
    student, front, spectra, voice = heard
    mask, both = (pointing.hear(student, front, spectra, voice, pointing.Pointer(mask=share)) for share in (1.0, 0.5))
    assert not torch.allclose(mask, both, atol=1e-2 * float(mask.abs().max()))


def test_a_memory_is_what_it_is_said_to_be(heard):
    student, front, spectra, voice = heard
    shipped = pointing.hear(student, front, spectra, voice, pointing.Pointer())
    assert torch.equal(shipped, pointing.hear(student, front, spectra, voice, pointing.Pointer(), keeps=KEEPS))
    assert not torch.equal(shipped, pointing.hear(student, front, spectra, voice, pointing.Pointer(), keeps=(0.9, 0.9)))
    assert pointing._keeps(2.0, 0.004) == pytest.approx(0.998, abs=1e-5)


def test_an_ideal_mask_is_one_where_the_talker_is_alone_and_points_at_her(heard):
    student, front, spectra, voice = heard
    silence = torch.zeros_like(spectra)
    assert pointing.ideal_mask(front, spectra, silence).min() > 0.999
    assert pointing.ideal_mask(front, silence, spectra).max() == 0
    talker = 0.5 * spectra.roll(24, dims=2)
    mask = pointing.ideal_mask(front, talker, spectra - talker)
    pointer = pointing.Pointer(ideal=True)
    ideal = pointing.hear(student, front, spectra, voice, pointer, mask)
    assert not torch.equal(ideal, pointing.hear(student, front, spectra, voice, pointer, 1 - mask))
    first = pointing.hear(student, front, spectra, voice, pointer._replace(first_stage=True), mask)
    assert not torch.equal(ideal, first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "0", "1"], "argument --memory: 0 and 1 s, more than 0 is needed"),
        (["--memory", "nan", "1"], "argument --memory: nan and 1 s, more than 0 is needed"),
    ],
)
def test_what_it_refuses(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        pointing.main(["--data", "nowhere", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
