"""A grown student computes what the smaller one computed, and everything in it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")

from edge_tse.nn.growth import can_grow, grow  # noqa: E402
from edge_tse.nn.student import BASE, NANO, SMALL, TEACHER, TEACHER_S, Student  # noqa: E402


def _lived_in(config):
    """A student of which nothing is at its initial value, moments of normalisation included."""
    torch.manual_seed(3)
    student = Student(config)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) * (parameter.std() if parameter.numel() > 1 else 1) + 0.01)
        student(0.3 * torch.randn(2, 60, config.frame.features), torch.randn(2, 128))
    return student


def _answers(student):
    torch.manual_seed(5)
    features, voice = 0.3 * torch.randn(2, 80, NANO.frame.features), torch.nn.functional.normalize(torch.randn(2, 128))
    t = torch.tensor([0.2, 0.7])
    with torch.no_grad():
        hidden, mask = student.predict_mask(features, voice)
        at_rest, later = (student.predict_velocity(hidden, mask, voice, when, features_BTF=features)[0] for when in (None, t))
        return mask, at_rest, later


WIDER = replace(NANO, mask=replace(NANO.mask, channels=80, hidden=112), refine=replace(NANO.refine, channels=56))
DEEPER = replace(
    WIDER, mask=replace(WIDER.mask, dilations=(*NANO.mask.dilations, 3)), refine=replace(WIDER.refine, dilations=(1, 2, 4, 8))
)


@pytest.mark.parametrize(
    "config", [WIDER, DEEPER, replace(DEEPER, taps=5, ahead=True), replace(NANO, taps=4), replace(NANO, local=8)]
)
def test_it_answers_as_before(config):
    small = _lived_in(NANO).eval()
    large = grow(small, config).eval()
    assert large.config == config
    for got, want in zip(_answers_of(large, config), _answers(small), strict=True):
        torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)
    assert _answers(small)[1].std() > 0.01, "a velocity of nothing would prove nothing"


def _answers_of(student, config):
    if not config.local:
        return _answers(student)
    encode = student.encode
    student.encode = lambda voice, t=None: encode(torch.cat([voice, torch.randn(len(voice), config.voice_size - 128)], dim=1), t)
    return _answers(student)


def test_what_is_new_learns():
    """The first step gives weights to what nobody listened to, the second moves what is behind them."""
    large = grow(_lived_in(NANO), DEEPER).train()
    before = {name: p.detach().clone() for name, p in large.named_parameters()}
    optimizer = torch.optim.Adam(large.parameters(), lr=1e-3)
    for step in range(3):
        torch.manual_seed(step)
        mask, velocity = large(0.3 * torch.randn(2, 80, NANO.frame.features), torch.randn(2, 128))
        (mask.square().mean() + velocity.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    still = [name for name, p in large.named_parameters() if torch.equal(p, before[name]) and name != "time.weight"]
    assert not still
    wide = NANO.mask.channels
    moved = (large.mask.blocks[0].depthwise.weight - before["mask.blocks.0.depthwise.weight"])[:, wide:]
    assert moved.abs().min() > 0


def test_the_sizes_of_this_project_grow_from_small():
    assert can_grow(SMALL, BASE)
    assert can_grow(SMALL, TEACHER_S)
    assert can_grow(SMALL, TEACHER)


@pytest.mark.parametrize(
    "config",
    [
        replace(NANO, mask=replace(NANO.mask, hidden=90)),
        replace(NANO, mask=replace(NANO.mask, dilations=NANO.mask.dilations[::-1])),
        replace(NANO, ahead=True),  # three taps around a frame do not reach two frames back
        replace(NANO, code=32),
        replace(NANO, taps=2),
    ],
)
def test_what_cannot_hold_it_is_refused(config):
    assert not can_grow(NANO, config)
    with pytest.raises(ValueError, match="cannot hold"):
        grow(Student(NANO), config)
