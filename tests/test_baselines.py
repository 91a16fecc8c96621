"""Structures of the field: causal, as late as they say, told of a voice, level-invariant, and trained by the one loop."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="training extra not installed")
pytest.importorskip("lightning_fabric", reason="training extra not installed")

from torch import nn  # noqa: E402

from benchmarks import RESULTS  # noqa: E402
from benchmarks.baselines import MARKS, PAGE, block, judge, macs_per_s, table  # noqa: E402
from benchmarks.readme_figures import fill  # noqa: E402
from edge_tse.errors import DataError  # noqa: E402
from edge_tse.nn.baselines import BAND_SPLIT, GATED_CRN, SPEAKERBEAM, SPEX, VOICEFILTER, Baseline, BaselineConfig  # noqa: E402
from edge_tse.nn.encoder import Encoder  # noqa: E402
from edge_tse.nn.losses import Weights, sound_losses  # noqa: E402
from edge_tse.nn.moments import keep_moments  # noqa: E402
from edge_tse.nn.student import NANO_BEAM, Student  # noqa: E402
from edge_tse.voice import speech_levels  # noqa: E402
from quantization import float_listener  # noqa: E402
from quantization.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from quantization.float_analysis import analyse_checkpoint  # noqa: E402
from quantization.float_listener import evaluate_checkpoint  # noqa: E402
from quantization.loop import Teacher  # noqa: E402
from quantization.quantize import quantize  # noqa: E402
from quantization.recipes import RECIPES, recipe  # noqa: E402
from quantization.train import train  # noqa: E402
from quantization.trial_list import read_trials  # noqa: E402
from tests.speech import utterance  # noqa: E402

_ALL = {"spex": SPEX, "speakerbeam": SPEAKERBEAM, "voicefilter": VOICEFILTER, "gated_crn": GATED_CRN, "band_split": BAND_SPLIT}


def _voices(config: BaselineConfig, items: int, seed: int = 1) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(items, config.voice_size, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture(params=_ALL.values(), ids=list(_ALL))
def baseline(request: pytest.FixtureRequest) -> Baseline:
    """Every layer that begins at zero moved away from it, and the moments of something heard."""
    torch.manual_seed(0)
    config: BaselineConfig = request.param
    network = config.make()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
        for _ in range(3):
            network.train()(_sound(4, 6400), _voices(config, 4))
    return network.eval()


def _sound(items: int, samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(items, 1, samples, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def test_nothing_of_the_future_is_heard(baseline: Baseline) -> None:
    sound, voice = _sound(1, 16000), _voices(baseline.config, 1)
    whole = baseline(sound, voice)
    cut = sound.clone()
    cut[..., 8000:] = 0
    hop = baseline.config.frame.hop
    until = 8000 // hop * hop  # the last hop that is whole before the cut
    assert torch.equal(baseline(cut, voice)[..., :until], whole[..., :until])
    assert not torch.equal(baseline(cut, voice), whole)
    assert baseline.latency_s <= 0.008


@torch.no_grad()
def test_moments_that_are_kept_are_those_of_a_device(baseline: Baseline) -> None:
    sound, voice = _sound(2, 16000), _voices(baseline.config, 2)
    on_a_device = baseline(sound, voice)
    keep_moments(baseline)
    assert torch.equal(baseline.train()(sound, voice), on_a_device)
    assert torch.equal(baseline.eval()(sound, voice), on_a_device), "moments moved while it trained"


@torch.no_grad()
def test_a_voice_a_level_and_the_other_ear(baseline: Baseline) -> None:
    sound, voice = _sound(1, 16000), _voices(baseline.config, 1)
    found = baseline(sound, voice)
    assert not torch.allclose(found, baseline(sound, _voices(baseline.config, 1, seed=2)), atol=1e-4)
    quiet = baseline(0.05 * sound, voice) / 0.05
    assert torch.allclose(quiet[..., 8000:], found[..., 8000:], atol=2e-3 * float(found.abs().max()))
    both = baseline(torch.cat([sound, sound.flip(-1)], dim=1), voice)
    assert both.shape == (1, 2, 16000)
    assert torch.allclose(both[:, :1], found, atol=1e-5)
    with pytest.raises(ValueError, match=f"a voice of 5 values, this baseline takes {baseline.config.voice_size}"):
        baseline(sound, torch.zeros(1, 5))


def test_what_is_late_by_its_delay_is_right(baseline: Baseline) -> None:
    class Passes(nn.Module):
        """Stands for a perfect baseline: the sound itself, late."""

        front, delay = baseline.front, baseline.delay

        def forward(self, mixture: torch.Tensor, voice: torch.Tensor) -> torch.Tensor:
            return nn.functional.pad(mixture, (self.delay, 0))[..., : mixture.shape[-1]]

    sound = _sound(2, 16000)
    losses = sound_losses(Passes(), sound, sound, _voices(baseline.config, 2), Weights(mask=0, flow=0, magnitude=1))
    assert float(losses.output_db) == pytest.approx(-30, abs=0.01)
    assert float(losses.magnitude) < 1e-3


def test_every_one_has_a_recipe_on_the_same_sound() -> None:
    own = recipe("small_one_ear")
    for name, config in _ALL.items():
        made = recipe(name)
        assert made.student == config
        assert replace(made, student=own.student, name=own.name) == own


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> str:
    """A small band-split network, trained for six steps and averaged; its voices have local values."""
    small = replace(BAND_SPLIT, channels=8, along=8, across=4, blocks=1, local=True)
    made = replace(recipe("smoke"), name="smoke_baseline", student=small, average=0.5)
    monkeypatch.setitem(RECIPES, "smoke_baseline", lambda: made)
    return "smoke_baseline"


def test_a_run_learns_resumes_and_is_judged(data, short, trials, tmp_path) -> None:
    def interrupt(progress):
        if progress.phase == "extraction" and progress.step == 3:
            raise KeyboardInterrupt

    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train(short, whole, data)
    halves.mkdir()
    shutil.copy(whole / "voices.pt", halves)
    train(short, halves, data, watch=interrupt)
    train(short, halves, data, resume=True)
    states = [load_checkpoint(folder).student.state_dict() for folder in (whole, halves)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert (whole / "log.csv").read_text().startswith("step,seconds,core_s,hours,total,output_db,magnitude,")

    scored, _ = evaluate_checkpoint(trials, load_checkpoint(whole))["items"]
    assert scored["scores"]["si_sdr_i"] is not None
    for refused, why in (
        (lambda: quantize(whole, "w8a8-ptq", tmp_path / "a.etse", data), "no integer graph is made of it: take a student"),
        (lambda: analyse_checkpoint(trials, whole), "makes no moves of mask and flow: take a student"),
        (lambda: train(short, tmp_path / "taught", data, teacher=whole), "has no use for a teacher: leave it out"),
        (lambda: Teacher(load_checkpoint(whole).student), "makes no moves of mask and flow to teach"),
    ):
        with pytest.raises(DataError, match=why):
            refused()
    found = judge(whole, trials)
    assert found["conditions"]["two"]["n"] == 1
    assert found["curve"]["core_h"] == [found["core_h"]]
    assert "| 8 ms |" in table({"short": {**found, "title": "a short one"}}, "two")
    # A judgement that goes on takes what was kept: it does not listen again.
    kept = whole / "scores.journal"
    gain = found["conditions"]["two"]["si_sdr_i"]["mean"]
    changed = re.sub(r'("si_sdr_i": )-?[\d.]+', rf"\g<1>{gain + 1:.4f}", kept.read_text())
    kept.write_text(changed)
    assert judge(whole, trials)["conditions"]["two"]["si_sdr_i"]["mean"] == pytest.approx(gain + 1, abs=1e-3)


@pytest.mark.parametrize("name", ["gated_crn", "voicefilter"])
def test_it_is_judged_with_voices_as_it_is_trained_with(name: str, trials, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of a voice with averages of layers was made a unit vector: a third of what is heard in training."""
    torch.manual_seed(3)
    made, encoder, sound = recipe(name), Encoder().eval(), utterance(3, 0, 4.0)
    source = Checkpoint(recipe=made, student=made.student.make().eval(), encoder=encoder, step=0, figures={}, resume=[])
    monkeypatch.setattr(float_listener, "enrollment_clips", lambda trial: [("clip", sound[None], 16000)])
    heard = float_listener.enroll(source, read_trials(trials)[0])[0]
    with torch.no_grad():
        unit, averages = encoder.describe(torch.from_numpy(speech_levels(made.student.frame, sound))[None])
    wanted = torch.cat([unit[0], averages.flatten()])[: made.student.voice_size]
    torch.testing.assert_close(heard, wanted, atol=1e-4, rtol=1e-3)


def test_multiply_accumulates_of_known_sizes() -> None:
    """By hand: two matrices and two LSTM layers of a VoiceFilter, at 250 frames a second; every resident weight of a student."""
    config = replace(VOICEFILTER, channels=8)
    cells = 4 * 8 * ((8 + 128) + 8) + 4 * 8 * (8 + 8)
    assert macs_per_s(config.make()) == 250 * (257 * 8 + cells + 8 * 257)
    student = Student(NANO_BEAM)
    # The voice once a call, its code once for each stage; taps in time are resident weights too.
    voice = 2 * student.code.weight.numel() + sum(film.weight.numel() for film in student.films.values())
    assert macs_per_s(student) == 250 * student.resident_weights + voice


def test_the_page_is_that_of_the_results_on_file() -> None:
    """If this fails: ``python -m benchmarks.baselines`` with the runs, or ``write_page`` of the results."""
    rows = json.loads((RESULTS / "baselines.json").read_text())["figures"]["networks"]
    assert fill(PAGE.read_text(), block(rows), *MARKS) == PAGE.read_text()
