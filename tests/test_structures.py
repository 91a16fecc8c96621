"""Contenders of the structure comparison: they are what their rows say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from benchmarks import RESULTS, refiners, structures  # noqa: E402
from benchmarks.band_students import BandConfig, BandStem, BandStudent, int8_bytes, macs_per_hop, state_bytes  # noqa: E402
from edge_tse.frame import FrameSpec  # noqa: E402
from edge_tse.nn.front import TorchFront  # noqa: E402
from edge_tse.nn.losses import Weights, extraction_losses  # noqa: E402
from edge_tse.nn.student import NANO, Student  # noqa: E402

BANDS = BandConfig(groups=16, channels=4, hidden=6, dilations=(1, 2))


def voices(items: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(items, NANO.embedding), dim=-1)


@pytest.fixture
def shared():
    torch.manual_seed(0)
    made = BandStudent(NANO, BANDS, mixture=False).eval()
    with torch.no_grad():
        for block in made.mask.blocks:
            block.project.weight.normal_(std=0.3)
    return made


def test_a_student_costs_what_its_weights_are_used():
    made = Student(NANO)
    assert macs_per_hop(made) == made.resident_weights
    stages = (NANO.mask, NANO.refine)
    outputs = sum((2 * s.channels + s.hidden) * len(s.dilations) for s in stages)
    outputs += NANO.mask.channels + 2 * NANO.frame.bands + 2 * NANO.refine.channels
    assert int8_bytes(made) == made.resident_weights + 8 * outputs
    assert state_bytes(made) == sum(2 * sum(s.dilations) * s.channels for s in stages)


def test_contenders_cost_the_same_but_the_one_of_few_weights():
    made = {name: structure.make() for name, structure in structures.STRUCTURES.items()}
    few = made.pop("few channels")
    costs = [macs_per_hop(student) for student in made.values()]
    assert max(costs) / min(costs) < 1.02
    assert few.resident_weights == pytest.approx(made["shared"].resident_weights, rel=0.02)


def test_shared_weights_are_counted_once_and_used_by_every_group(shared):
    one = BandStudent(NANO, replace(BANDS, dilations=(1,)), mixture=False)
    # A block: taps, mixing across groups for each channel, both shared layers for each group.
    assert macs_per_hop(shared) - macs_per_hop(one) == 3 * 64 + 4 * 16**2 + 16 * 2 * 4 * 6
    assert shared.resident_weights - one.resident_weights == 3 * 64 + 16**2 + 2 * 4 * 6


@pytest.mark.parametrize("name", list(structures.STRUCTURES))
def test_every_contender_trains_by_the_students_losses(name):
    torch.manual_seed(1)
    student = structures.STRUCTURES[name].make().train()
    front = TorchFront(student.config.frame)
    target, noise = 0.1 * torch.randn(2, 2, 1, 6400)
    losses = extraction_losses(
        student, front, target + noise, target, voices(2), torch.rand(2), Weights(mask=0.5, flow=4.0, magnitude=3.0)
    )
    losses.total.backward()
    # Residual branches and the velocity start at zero: what they end in learns first.
    ends = [p for n, p in student.named_parameters() if n.startswith("mask") and n.endswith("project.weight")]
    assert ends
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in ends)


def test_it_is_causal(shared):
    features, voice = 0.3 * torch.randn(1, 60, NANO.frame.features), voices(1)
    with torch.no_grad():
        whole, part = shared(features, voice)[0], shared(features[:, :40], voice)[0]
    torch.testing.assert_close(whole[:, :40], part)


def test_groups_meet_only_in_the_mixing(shared):
    """Without it a group's mask depends on its own bands."""
    frame, voice = NANO.frame, voices(1)
    features = 0.3 * torch.randn(1, 20, frame.features)
    changed = features.clone()
    changed[..., 18:24] += 0.5  # the bands of group 3
    with torch.no_grad():
        mixed = (shared(features, voice)[0] - shared(changed, voice)[0]).abs().amax(dim=(0, 1))
        for block in shared.mask.blocks:
            block.mix.weight.copy_(torch.eye(16))
        alone = (shared(features, voice)[0] - shared(changed, voice)[0]).abs().amax(dim=(0, 1))
    assert (mixed > 0).all()
    assert set(torch.nonzero(alone).flatten().tolist()) == set(range(18, 24))


def test_groups_hear_their_own_interaural_features():
    stem, frame = BandStem(FrameSpec(), 16, 4), FrameSpec()
    order = stem.order.reshape(16, -1)
    assert sorted(order.flatten().tolist()) == list(range(frame.features))
    assert order[3].tolist() == [*range(18, 24), 96 + 6, 96 + 7, 128 + 6, 128 + 7, 160 + 6, 160 + 7]
    with pytest.raises(ValueError, match="24 groups do not divide 96 bands and 32 spatial bands"):
        BandStem(frame, 24, 4)


def test_the_record_holds_the_table_on_file():
    rows = json.loads((RESULTS / "structures.json").read_text())["figures"]["structures"]
    record = Path(__file__).parent.parent / "docs" / "decisions" / "0025-structure-at-equal-cost.md"
    assert structures.table(rows) in record.read_text()


class TestRefiners:
    """The comparison of second stages."""

    def test_a_steady_tone_does_not_turn(self):
        frame = FrameSpec()
        tone = torch.cos(2 * torch.pi * (frame.sample_rate_hz / frame.window * 10) * torch.arange(6400) / frame.sample_rate_hz)
        advance = refiners.phase_advance(TorchFront(frame).analyze(tone[None, None]), frame.hop, frame.window, 64)
        real, imaginary = advance[0, 0, 20:].chunk(2, dim=-1)
        torch.testing.assert_close(real[:, 10], torch.ones(80), atol=1e-3, rtol=0)
        assert imaginary[:, 10].abs().max() < 0.03

    def test_cues_of_a_known_place(self):
        noise = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
        level, time_us = refiners.cues(np.stack([noise[10:], 0.5 * noise[:-10]]), 16000)
        assert level == pytest.approx(6.02, abs=0.05)
        assert time_us == pytest.approx(-625, abs=5)

    @pytest.mark.parametrize("bins", [0, 64])
    def test_at_the_start_both_are_the_mask(self, bins):
        torch.manual_seed(0)
        made = refiners.Refiner(Student(NANO), bins)
        both, alone = made(0.1 * torch.randn(2, 2, 3200), voices(2))
        torch.testing.assert_close(both, alone)
        assert made.cost(1)["weights"] == made.cost(2)["weights"]
        assert (made.cost(2)["macs_per_hop"] > made.cost(1)["macs_per_hop"]) == bool(bins)
