"""Mixtures are functions of their index, hold what was asked, and are made where the network trains."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_tse.frame import FrameSpec

pytest.importorskip("scipy", reason="training extra not installed")
torch = pytest.importorskip("torch", reason="training extra not installed")

from quantization.mixing import Mixer  # noqa: E402
from quantization.mixture import TWO_EARS, MixtureSampler, Scene  # noqa: E402


def _mixer(pack, speech, **scene):
    return Mixer(speech, Scene(seconds=1.0, **scene), FrameSpec(), 5, pack.noises_train, pack.hrirs_train)


def _sampler(speech, **scene):
    return MixtureSampler(speech, Scene(**scene), 16000, 16000)


def test_unlabelled_talkers_are_never_targets_and_never_two(speech):
    assert any("unlabelled" in name for name in speech.spans)
    assert not any("unlabelled" in name for name in speech.targets)
    sampler = _sampler(speech, talkers=(0, 0, 0, 1))
    for i in range(100):
        others = sampler._others(np.random.default_rng(i), speech.targets[0], 2, 0)
        assert len({o.rpartition("@")[0] for o in others}) == 2
        assert sum("unlabelled" in o for o in others) < 2


def test_a_talker_alone_has_noise_as_often_as_a_scene_says(speech):
    sampler = _sampler(speech, talkers=(0, 0.5, 0.5, 0), babble=1.0, noisy=0.0, noisy_alone=1.0)
    rng = np.random.default_rng(0)
    items = [sampler.draw(rng, 1, 0) for _ in range(40)]
    assert {bool(item.others) for item in items} == {False, True}
    assert all((item.noise == -1) == bool(item.others) for item in items)


def test_interferers_are_mostly_labelled(speech):
    """Those without labels come from other microphones: a network that mostly meets them learns microphones."""
    for share in (0.0, 0.2, 1.0):
        sampler = _sampler(speech, unlabelled=share)
        others = [sampler._others(np.random.default_rng(i), speech.targets[0], 1, 0)[0] for i in range(300)]
        assert sum("unlabelled" in o for o in others) / 300 == pytest.approx(share, abs=0.06)


def test_items_are_functions_of_seed_and_position(pack, speech):
    mixer = _mixer(pack, speech)
    whole = mixer.batch(2, 4)
    again = _mixer(pack, speech).batch(2, 4)
    np.testing.assert_array_equal(whole.mixture, again.mixture)
    halves = [mixer.batch(2, 2, rank, 2) for rank in (0, 1)]
    np.testing.assert_array_equal(whole.mixture, np.concatenate([h.mixture for h in halves]))
    assert whole.talker == halves[0].talker + halves[1].talker
    assert not np.array_equal(whole.mixture, mixer.batch(6, 4).mixture)


def test_target_and_interferer_are_mixed_at_the_asked_ratio(pack, speech):
    batch = _mixer(pack, speech, sir_db=(3, 3), noisy=0, talkers=(0, 0, 1, 0), reverberant=0, binaural_every=0).batch(0, 6)
    interference = batch.mixture - batch.target
    ratio = 10 * ((batch.target**2).sum((1, 2)) / (interference**2).sum((1, 2))).log10()
    np.testing.assert_allclose(ratio, 3, atol=0.05)


def test_noise_is_added_at_the_asked_ratio(pack, speech):
    batch = _mixer(pack, speech, snr_db=(7, 7), noisy=1, talkers=(0, 1, 0, 0), reverberant=0, binaural_every=0).batch(0, 6)
    ratio = 10 * ((batch.target**2).sum((1, 2)) / ((batch.mixture - batch.target) ** 2).sum((1, 2))).log10()
    np.testing.assert_allclose(ratio, 7, atol=0.05)


def test_colour_changes_a_talker_by_no_more_than_asked(pack, speech):
    alone = {"talkers": (0, 1, 0, 0), "noisy": 0, "tilt": 0, "reverberant": 0, "binaural_every": 0}
    plain, coloured = (_mixer(pack, speech, colour_db=db, **alone).batch(3, 1).target[0, 0] for db in (0.0, 6.0))
    before, after = (np.abs(np.fft.rfft(target)) for target in (plain, coloured))
    heard = before > 0.01 * before.max()
    change = 20 * np.log10(after[heard] / before[heard])
    assert 1 < np.ptp(change) < 12.5


def test_absent_targets_are_silent_and_named(pack, speech):
    batch = _mixer(pack, speech, talkers=(1, 0, 0, 0)).batch(0, 4)
    assert not batch.target.any()
    assert batch.mixture.any()
    assert (batch.utterance == -1).all()
    assert all(t in speech.targets for t in batch.talker)


def test_binaural_batches_place_talkers(pack, speech):
    mixer = _mixer(pack, speech, binaural_every=2, talkers=(0, 1, 0, 0), noisy=0)
    assert mixer.batch(0, 2).mixture.shape[1] == 1
    two = mixer.batch(1, 8).target
    assert two.shape[1] == 2
    assert (two[:, 0] - two[:, 1]).abs().max() > 0.01


def test_mixtures_never_clip(pack, speech):
    batch = _mixer(pack, speech, level_db=(-3, 0)).batch(0, 8)
    assert batch.mixture.abs().max() <= 1


@pytest.mark.parametrize("ears", [1, 2])
def test_sound_is_made_on_the_device_of_the_network(pack, speech, ears):
    """Tensors of ``meta`` have a place but no values: whatever came back to the host, or stayed there, would raise."""
    scene = Scene(seconds=1.0, noisy=0.5, reverberant=0.5, talkers=(0.25, 0.25, 0.25, 0.25), binaural_every=ears - 1)
    mixer = Mixer(speech, scene, FrameSpec(), 5, pack.noises_train, pack.hrirs_train, torch.device("meta"))
    batch = mixer.batch(0, 16)
    assert {batch.mixture.device.type, batch.target.device.type} == {"meta"}
    assert batch.mixture.shape == batch.target.shape == (16, ears, mixer.length)


def test_a_short_utterance_is_heard_whole_in_an_item_of_silence(pack, speech):
    """Turned round, not cut: wherever it begins, all of it is there."""
    mixer = Mixer(speech, Scene(seconds=30.0, talkers=(0, 1, 0, 0), noisy=0, tilt=0, colour_db=0, reverberant=0), FrameSpec(), 5)
    batch = mixer.batch(0, 3)
    for target, talker, utterance in zip(batch.target, batch.talker, batch.utterance, strict=True):
        start, stop = speech.spans[talker][utterance]
        heard, said = target[0].numpy(), speech.samples[start:stop].astype(np.float32)
        assert len(said) < len(heard)
        of_peak = [np.sum(np.square(x)) / np.max(np.square(x)) for x in (heard, said)]
        assert of_peak[0] == pytest.approx(of_peak[1], rel=1e-4)
        assert np.count_nonzero(heard) == np.count_nonzero(said)


class TestTwoEars:
    """Scenes of heads, rooms and ears that are not a pair."""

    def plain(self, pack, speech, **scene):
        """Batch 0 on two ears: two talkers, no noise, unless said."""
        made = {"talkers": (0, 0, 1, 0), "noisy": 0, "binaural_every": 1, "unlabelled": 0, "paired": True, **scene}
        return _mixer(pack, speech, **made).batch(0, 8)

    def test_a_mixture_serves_both_of_its_voices(self, pack, speech):
        batch = self.plain(pack, speech)
        first, second = batch.mixture.split(4)
        np.testing.assert_array_equal(first, second)
        both = batch.target[:4] + batch.target[4:]
        np.testing.assert_allclose(both, first, atol=1e-5)
        for i in range(4):
            assert batch.talker[i].rpartition("@")[0] != batch.talker[4 + i].rpartition("@")[0]

    def test_whoever_is_not_there_says_nothing(self, pack, speech):
        batch = self.plain(pack, speech, talkers=(0, 1, 0, 0))
        assert (batch.target[4:] == 0).all()
        assert (batch.utterance[4:] == -1).all()
        for here, elsewhere in zip(batch.talker[:4], batch.talker[4:], strict=True):
            assert here.rpartition("@")[0] != elsewhere.rpartition("@")[0]

    def test_one_talker_who_can_be_enrolled_is_enrolled_twice(self, pack, speech):
        """Where nobody else can be: no mixture waits for somebody who does not exist."""
        alone = dataclasses.replace(speech, targets=speech.targets[:1])
        batch = self.plain(pack, alone)
        assert set(batch.talker) == set(alone.targets)
        np.testing.assert_array_equal(batch.target[:4], batch.target[4:])
        assert batch.target.square().sum() > 0

    def test_a_room_rings_on(self, pack, speech):
        dry, wet = (self.plain(pack, speech, indoors=share, t60_s=(0.5, 0.5), direct_db=(0, 0)) for share in (0, 1))
        assert dry.talker == wet.talker

        # What a room adds makes the ears less alike.
        def alike(x):
            return np.mean([abs(np.corrcoef(ears)[0, 1]) for ears in x.numpy()])

        assert alike(wet.target[:4]) < alike(dry.target[:4])

    @pytest.mark.parametrize("kind", ["dead", "weak", "inverted", "late", "clipped", "same"])
    def test_ears_that_are_not_a_pair(self, pack, speech, kind, monkeypatch):
        good = self.plain(pack, speech, paired=False)
        monkeypatch.setattr("quantization.mixture._UNEQUAL", (kind,))
        bad = self.plain(pack, speech, paired=False, unequal=1.0)
        rms = bad.mixture.square().mean(dim=-1).sqrt()
        quieter = rms.amin(dim=1) / rms.amax(dim=1)
        match kind:
            case "dead":
                assert (quieter == 0).all()
                assert ((bad.target.square().sum(dim=-1) == 0) == (rms == 0)).all()
            case "weak":
                before = good.mixture.square().mean(dim=-1).sqrt()
                assert (
                    (rms / rms.sum(dim=1, keepdim=True) - before / before.sum(dim=1, keepdim=True)).abs().amax(dim=1) > 0.1
                ).all()
            case "same":
                np.testing.assert_array_equal(bad.mixture[:, 0], bad.mixture[:, 1])
                np.testing.assert_array_equal(bad.target[:, 0], bad.target[:, 1])
            case "clipped":
                peaks = bad.mixture.abs().amax(dim=-1, keepdim=True)
                assert ((bad.mixture.abs() == peaks).sum(dim=-1).amax(dim=1) > 20).all()
            case _:
                assert not torch.equal(good.mixture, bad.mixture)

    def test_a_telephone_leaves_nothing_above_its_edge(self, pack, speech):
        wide, narrow = (self.plain(pack, speech, narrow=share).mixture for share in (0.0, 1.0))

        def high(x):
            power = torch.fft.rfft(x).abs().square().sum(dim=(0, 1))
            return float(power[int(len(power) * 0.95) :].sum() / power.sum())

        assert high(narrow) < 0.05 * high(wide)

    def test_everything_at_once_is_finite_and_in_range(self, pack, speech):
        scene = {
            name: getattr(TWO_EARS, name) for name in ("paired", "alike", "talkers", "level_db", "indoors", "moving", "unequal")
        }
        scene |= {name: getattr(TWO_EARS, name) for name in ("narrow", "late", "disturbed", "babble")}
        mixer = _mixer(pack, speech, **scene, noisy=0.5, binaural_every=2)
        for step in range(30):
            batch = mixer.batch(step, 4)
            assert torch.isfinite(batch.mixture).all()
            assert batch.mixture.abs().max() <= 1
            assert torch.isfinite(batch.target).all()
