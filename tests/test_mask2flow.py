"""The published system: its size, its identities, its samplers, its way back to sound, and a run of it."""

from __future__ import annotations

import csv
import itertools
import json
import math
import shutil

import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from torch import nn  # noqa: E402

from edge_tse import audio  # noqa: E402
from edge_tse.analysis import title  # noqa: E402
from edge_tse.errors import DataError  # noqa: E402
from edge_tse.frame import FrameSpec  # noqa: E402
from edge_tse.metrics import si_sdr  # noqa: E402
from edge_tse.nn.flow_losses import FlowWeights, destination, flow_losses  # noqa: E402
from edge_tse.nn.front import TorchFront  # noqa: E402
from edge_tse.nn.mask2flow import MAX_GAIN, PAPER_V1, PAPER_V2, TINY, DiTBlock, Mask2Flow, integrate, rotate  # noqa: E402
from edge_tse.nn.mel import MelFront, MelSpec  # noqa: E402
from quantization.checkpoint import load_checkpoint  # noqa: E402
from quantization.float_analysis import STEPS, analyse_checkpoint  # noqa: E402
from quantization.float_listener import enroll, evaluate_checkpoint  # noqa: E402
from quantization.loop import Teacher  # noqa: E402
from quantization.recipes import recipe  # noqa: E402
from quantization.train import train  # noqa: E402
from quantization.trial_list import read_trials  # noqa: E402
from tests.speech import utterance  # noqa: E402


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture
def system() -> Mask2Flow:
    torch.manual_seed(0)
    return Mask2Flow(TINY)


@pytest.fixture
def levels() -> torch.Tensor:
    return torch.randn(2, 50, 80, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def voices() -> torch.Tensor:
    return nn.functional.normalize(torch.randn(2, 128, generator=torch.Generator().manual_seed(2)), dim=-1)


def _awake(system: Mask2Flow) -> Mask2Flow:
    """With every layer that begins at zero moved away from it."""
    torch.manual_seed(3)
    for p in system.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return system


def _mixtures(seconds: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two items, one ear: mixtures and their targets."""
    pairs = [(utterance(i, 0, seconds), utterance(i + 2, 1, seconds)) for i in range(2)]
    target = torch.stack([torch.from_numpy(a)[None] for a, _ in pairs])
    return target + torch.stack([torch.from_numpy(b)[None] for _, b in pairs]), target


# --- size


@pytest.mark.parametrize("config", [PAPER_V1, PAPER_V2], ids=["v1", "v2"])
def test_the_stages_have_the_published_size(config):
    with torch.device("meta"):
        system = Mask2Flow(config)
    assert _parameters(system.mask) == pytest.approx(12.7e6, rel=0.1)
    assert _parameters(system.flow) == pytest.approx(72.6e6, rel=0.1)
    assert _parameters(system) == pytest.approx(85e6, rel=0.1)


def test_the_small_copy_is_small():
    assert _parameters(Mask2Flow(recipe("mask2flow_s").student)) <= 8e6


# --- shapes and identities


@pytest.mark.parametrize("config", [TINY, recipe("mask2flow_s").student], ids=["recurrent", "convolutional"])
@pytest.mark.parametrize("ears", [1, 2])
def test_sound_in_sound_out(config, ears, voices):
    system = Mask2Flow(config).eval()
    sound = 0.1 * torch.randn(2, ears, 6400)
    with torch.no_grad():
        out = system(sound, voices, steps=2, solver="heun")
        mask, velocity = system.band_gains(sound, voices)
    assert out.shape == sound.shape
    assert out.isfinite().all()
    assert mask.shape == velocity.shape == (2, 100, FrameSpec().bands)


def test_an_untrained_flow_stands_still(system, levels, voices):
    """AdaLN-Zero: gates and the last layer begin at zero."""
    velocity = system.velocity(levels, levels, voices, torch.rand(2))
    assert not velocity.any()
    masked, arrived = system.states(levels, voices, steps=1)
    assert torch.equal(masked, arrived)


def test_an_untrained_block_is_the_identity(levels):
    torch.manual_seed(0)
    block = DiTBlock(80, heads=4, ratio=2)
    condition = torch.randn(2, 80)
    assert torch.equal(block(levels, condition), levels)
    nn.init.normal_(block.modulation.weight, std=0.1)
    assert not torch.allclose(block(levels, condition), levels, atol=1e-2)


@pytest.mark.parametrize("config", [TINY, recipe("mask2flow_s").student], ids=["recurrent", "convolutional"])
def test_voice_time_and_state_reach_the_output(config, levels, voices):
    system = _awake(Mask2Flow(config)).eval()
    with torch.no_grad():
        at_rest = system.velocity(levels, levels, voices, torch.zeros(2))
        others = (
            system.velocity(levels, levels, voices.flip(0), torch.zeros(2)),
            system.velocity(levels, levels, voices, torch.full((2,), 0.1)),
            system.velocity(levels + 1, levels, voices, torch.zeros(2)),
        )
        masked = system.apply_mask(levels, voices)
        assert not torch.allclose(masked, system.apply_mask(levels, voices.flip(0)), atol=1e-3)
    for other in others:
        assert not torch.allclose(at_rest, other, atol=1e-3)


def test_rotated_products_depend_on_distance_alone():
    torch.manual_seed(0)
    query, key = torch.randn(1, 1, 1, 16).expand(1, 1, 40, 16), torch.randn(1, 1, 1, 16).expand(1, 1, 40, 16)
    products = (rotate(query) @ rotate(key).transpose(-1, -2))[0, 0]
    for distance in (0, 1, 7):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=0)
    assert not torch.allclose(products.diagonal(1)[0], products.diagonal(7)[0], atol=1e-2)
    torch.testing.assert_close(rotate(query).norm(dim=-1), query.norm(dim=-1))
    torch.testing.assert_close(rotate(query)[..., 0, :], query[..., 0, :])  # the first frame is not turned


# --- samplers


def test_one_euler_step_adds_the_velocity(system, levels, voices):
    system = _awake(system)
    with torch.no_grad():
        masked, arrived = system.states(levels, voices, steps=1)
        velocity = system.velocity(masked, levels, voices, torch.zeros(2))
    assert velocity.abs().max() > 1e-3
    assert torch.equal(arrived, masked + velocity)


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_constant_field_is_followed_exactly(steps, solver):
    start, velocity = torch.zeros(3, 2, dtype=torch.float64), torch.tensor([0.5, -2.0], dtype=torch.float64)
    states = integrate(lambda x, t: velocity.expand_as(x), start, steps, solver)
    assert len(states) == steps + 1
    torch.testing.assert_close(states[-1], velocity.expand(3, 2))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_error(solver, order):
    """dx/dt = x + t from 1 has x(1) = 2 e - 2: half the step divides the error by 2 to the order."""

    def error(steps: int) -> float:
        end = integrate(lambda x, t: x + t[:, None], torch.ones(1, 1, dtype=torch.float64), steps, solver)[-1]
        return abs(float(end) - (2 * math.e - 2))

    assert error(32) / error(64) == pytest.approx(2**order, rel=0.05)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="0 steps"):
        integrate(lambda x, t: x, torch.zeros(1), 0)


# --- front end


def test_a_gain_of_one_gives_the_mixture_back():
    front = MelFront(MelSpec())
    sound = 0.3 * torch.randn(2, 2, 16000, generator=torch.Generator().manual_seed(0))
    spectra = front.analyze(sound)
    assert spectra.shape == (2, 2, 101, 513)
    gains = torch.ones(2, 101, 80)
    torch.testing.assert_close(front.synthesize(front.amplify(spectra, gains), 16000), sound, atol=1e-5, rtol=0)
    half = front.synthesize(front.amplify(spectra, gains / 2), 16000)
    torch.testing.assert_close(half, sound / 2, atol=1e-5, rtol=0)


def test_both_ears_get_the_same_gain(system, voices):
    """Whatever the gain, the ratio of the ears' spectra stays."""
    front = system.front
    spectra = front.analyze(0.1 * torch.randn(2, 2, 4000))
    out = front.amplify(spectra, 0.1 + torch.rand(2, spectra.shape[2], 80))
    torch.testing.assert_close(out[:, 0] * spectra[:, 1], out[:, 1] * spectra[:, 0], atol=1e-4, rtol=1e-3)


def test_levels_do_not_depend_on_loudness_and_have_a_floor():
    front = MelFront(MelSpec())
    energy = front.energy(front.analyze(0.1 * torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(0))))
    level = front.level(energy, energy)
    torch.testing.assert_close(front.level(energy * 100, energy * 100), level, atol=1e-4, rtol=0)
    torch.testing.assert_close(front.level(energy * 100, energy), level + 1, atol=5e-2, rtol=0)  # 20 dB
    assert float(front.level(0 * energy, energy).max()) == pytest.approx(-50 / 20)
    assert float(front.level(0 * energy, 0 * energy).max()) == pytest.approx(-50 / 20)


def test_a_tone_is_loudest_where_it_is():
    front = MelFront(MelSpec())
    seconds = torch.arange(8000) / 16000
    for hz in (200.0, 1000.0, 5000.0):
        energy = front.energy(front.analyze(torch.sin(2 * torch.pi * hz * seconds)[None, None])).mean(dim=1)[0]
        nearest = round(2595 * math.log10(1 + hz / 700) / (2595 * math.log10(1 + 8000 / 700) / 81)) - 1
        assert abs(int(energy.argmax()) - nearest) <= 1


@pytest.mark.parametrize("config", [TINY, recipe("mask2flow_s").student], ids=["recurrent", "convolutional"])
def test_the_mask_only_deletes(config, levels, voices):
    """Also where levels are low: a factor on a negative level would raise it."""
    torch.manual_seed(4)
    system = _awake(Mask2Flow(config))
    with torch.no_grad():
        for level in (levels, levels - 5):
            assert (system.apply_mask(level, voices) <= level).all()
        assert system.paths(system.front.analyze(0.1 * torch.randn(2, 1, 4000)), voices).gains[0].max() <= 1


def test_gains_are_bounded(system, voices):
    nn.init.constant_(system.flow.head.bias, 9.0)
    with torch.no_grad():
        gains = system.paths(system.front.analyze(0.1 * torch.randn(2, 1, 4000)), voices).gains
    assert float(gains[-1].max()) == MAX_GAIN


# --- teaching


def test_gains_of_the_student_are_those_of_the_mel_bands():
    """A gain that rises with frequency and time arrives at the frequency and the time that it was made for."""
    frame, front = FrameSpec(), MelFront(MelSpec())
    flat = front.band_gains(torch.full((1, 101, 80), 0.7), frame, 250)
    assert flat.shape == (1, 250, frame.bands)
    torch.testing.assert_close(flat, torch.full_like(flat, 0.7))

    centre_mel = torch.arange(1, 81) * 2595 * math.log10(1 + 8000 / 700) / 81
    centre_hz = 700 * (10 ** (centre_mel / 2595) - 1)
    rising = front.band_gains((centre_hz / 8000).expand(1, 101, 80), frame, 250)[0, 100]
    bin_hz = torch.arange(frame.bins) * frame.sample_rate_hz / frame.window
    edges = frame.band_edges
    wanted = torch.stack([bin_hz[a:b].mean() / 8000 for a, b in itertools.pairwise(edges)])
    torch.testing.assert_close(rising[3:-3], wanted[3:-3], atol=2e-3, rtol=0)

    moving = front.band_gains(torch.linspace(0, 1, 101)[None, :, None].expand(1, 101, 80), frame, 250)[0, :, 40]
    seconds = torch.arange(250) * frame.period_s
    torch.testing.assert_close(moving, seconds.clamp(max=1.0), atol=1e-4, rtol=0)


def test_a_student_that_learned_all_of_it_would_sound_like_the_teacher(system, voices):
    """The same gains through the student's own front end: as near as two different windows let them be."""
    nn.init.normal_(system.mask.head.weight, std=0.3)
    mixture, _ = _mixtures()
    with torch.no_grad():
        wanted = system(mixture, voices)
        mask, velocity = Teacher(system)(mixture, voices)
        front = TorchFront(FrameSpec())
        heard = front.synthesize(front.amplify(front.analyze(mixture), (mask + velocity).relu()))[..., front.frame.delay :]
    wanted = wanted[..., : heard.shape[-1]]
    quieter = 10 * ((wanted - mixture[..., : wanted.shape[-1]]).square().sum() / (wanted - heard).square().sum()).log10()
    assert 0 <= mask.min() <= mask.max() <= 1
    assert velocity.abs().max() <= 1
    assert quieter > 10  # dB: nearer to the teacher's output than the mixture is


# --- training


def test_destinations():
    front = MelFront(MelSpec())
    mixture, target = _mixtures()
    level, clean = destination(front, mixture, target, FlowWeights())
    _, best = destination(front, mixture, target, FlowWeights(phase_sensitive=True))
    _, shallow = destination(front, mixture, 0 * target, FlowWeights(deepest_db=30.0))
    assert (best <= clean + 1e-3).all()  # where the phase is wrong, less
    assert best.mean() < clean.mean()
    torch.testing.assert_close(destination(front, mixture, mixture, FlowWeights())[1], level)
    assert float((level - shallow).max()) == pytest.approx(1.5)


def test_some_items_are_trained_at_the_start_of_the_path(voices):
    """Up to the share of early items the random number changes nothing, above it does."""
    system = _awake(Mask2Flow(TINY))
    mixture, target = _mixtures(0.5)
    weights = FlowWeights(early=0.3)
    with torch.no_grad():
        first, second, third = (
            float(flow_losses(system, mixture, target, voices, torch.full((2,), t), weights).flow) for t in (0.0, 0.29, 0.8)
        )
    assert first == second
    assert abs(third - first) > 1e-4


@pytest.mark.parametrize(("config", "steps"), [(TINY, 60), (recipe("mask2flow_s").student, 12)], ids=["recurrent", "convolutional"])
def test_steps_lower_the_loss_of_a_batch(config, steps, voices):
    torch.manual_seed(0)
    system = Mask2Flow(config)
    mixture, target = _mixtures(0.5)
    optimizer = torch.optim.Adam(system.parameters(), lr=3e-3)
    weights = recipe("mask2flow_s").flow
    history = []
    for _ in range(steps):
        losses = flow_losses(system, mixture, target, voices, torch.tensor([0.1, 0.6]), weights)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append([float(x.detach()) for x in losses])
    assert all(p.grad is not None for p in system.parameters())
    assert history[-1][1] < 0.8 * history[0][1]  # mask
    assert history[-1][0] < 0.8 * history[0][0]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    train("mask2flow_smoke", folder, data)
    return folder


def test_resumed_run_equals_uninterrupted_one(data, finished, tmp_path):
    def interrupt(progress):
        if progress.phase == "extraction" and progress.step == 3:
            raise KeyboardInterrupt

    folder = tmp_path / "halves"
    folder.mkdir()
    shutil.copy(finished / "voices.pt", folder)
    train("mask2flow_smoke", folder, data, watch=interrupt)
    assert load_checkpoint(folder).step == 3
    train("mask2flow_smoke", folder, data, resume=True)
    whole, halves = load_checkpoint(finished), load_checkpoint(folder)
    assert whole.step == halves.step == recipe("mask2flow_smoke").steps
    for name, value in whole.student.state_dict().items():
        assert torch.equal(value, halves.student.state_dict()[name]), name


def test_a_run_logs_its_own_terms_and_validates(finished):
    with (finished / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(math.isfinite(float(row[name])) for row in rows for name in ("total", "mask", "flow"))
    assert set(load_checkpoint(finished).figures["validation"]) == {"n", "mean", "median", "p10", "alike", "unlike"}


def test_it_teaches_a_student(data, finished, tmp_path):
    folder = tmp_path / "student"
    train("smoke", folder, data, teacher=finished, steps=2)
    with (folder / "log.csv").open() as file:
        assert float(next(csv.DictReader(file))["teacher"]) > 0


def test_it_has_no_teacher(data, finished, tmp_path):
    with pytest.raises(DataError, match="no use for a teacher"):
        train("mask2flow_smoke", tmp_path / "run", data, teacher=finished)


# --- analysis and evaluation of a checkpoint


def test_moves_of_a_flow_by_step(finished, trials):
    found = analyse_checkpoint(trials, finished)
    assert set(found) == {"two", "absent"}
    paths = {f"{solver} {k}/{n}" for solver in ("euler", "heun") for n in STEPS for k in range(1, n + 1)}
    assert set(found["two"]) == {"mask", "flow", "both", "target"} | paths
    assert set(found["absent"]) == {"mask", "flow", "both"} | paths
    assert found["two"]["mask"].inserted == 0
    assert found["two"]["mask"].deleted > 0.3
    assert found["two"]["euler 1/1"] == found["two"]["both"]
    assert title("heun 2/4") == "mixture to Heun 2/4"


def test_moves_of_a_student(data, finished, trials, tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    shutil.copy(finished / "voices.pt", folder)
    train("smoke", folder, data, steps=1)
    found = analyse_checkpoint(trials, folder)
    assert set(found["two"]) == {"mask", "flow", "both", "target"}
    assert found["two"]["mask"].inserted == 0


def test_the_verb_takes_a_checkpoint(finished, trials, tmp_path, run):
    pytest.importorskip("matplotlib", reason="litert extra not installed")
    picture = tmp_path / "moves.png"
    done = run("analyse", "--trials", trials, "--checkpoint", finished, "--plot", picture, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["two"]["mask"]["inserted"] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    refused = run("analyse", "--trials", trials, "--checkpoint", finished, "--artifact", "small")
    assert refused.code == 2
    assert "give one of them" in refused.err


def test_a_checkpoint_is_scored_like_an_artifact(finished, trials):
    pytest.importorskip("pesq", reason="eval extra not installed")
    source = load_checkpoint(finished)
    report = evaluate_checkpoint(trials, source, steps=2, solver="heun")
    two, absent = (report["conditions"][name] for name in ("two", "absent"))
    assert two["failed"] == absent["failed"] == {}
    assert report["engine"] == "torch, float32, 2 heun steps"
    trial = read_trials(trials)[0]
    mixture, wanted = (audio.read(path)[0] for path in (trial.mixture, trial.target))
    with torch.no_grad():
        by_hand = source.student(torch.from_numpy(mixture)[None], enroll(source, trial), 2, "heun")[0].numpy()
    assert two["si_sdr_i"]["mean"] == pytest.approx(si_sdr(by_hand, wanted) - si_sdr(mixture, wanted), abs=0.05)
    assert absent["attenuation_db"]["mean"] > 3


def test_a_float_student_is_scored_aligned(data, finished, trials, tmp_path):
    """With the mask open and nothing inserted it puts out the mixture."""
    pytest.importorskip("pesq", reason="eval extra not installed")
    folder = tmp_path / "student"
    folder.mkdir()
    shutil.copy(finished / "voices.pt", folder)
    train("smoke", folder, data, steps=1)
    source = load_checkpoint(folder)
    with torch.no_grad():
        source.student.mask_head.weight.zero_()
        source.student.mask_head.bias.fill_(20)
        source.student.velocity_head.weight.zero_()
        source.student.velocity_head.bias.zero_()
    report = evaluate_checkpoint(trials, source)
    assert report["conditions"]["two"]["si_sdr_i"]["mean"] == pytest.approx(0, abs=0.02)
    assert report["conditions"]["absent"]["attenuation_db"]["mean"] == pytest.approx(0, abs=0.02)
