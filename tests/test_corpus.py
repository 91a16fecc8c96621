"""What training hears: layouts, disjoint talkers, and mixtures that are functions of their index."""

from __future__ import annotations

import numpy as np
import pytest

from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec

pytest.importorskip("scipy", reason="training extra not installed")

import soundfile

from quantization.corpus import Mixer, Scene, decode, open_corpus
from tests.speech import RATE, utterance, write_pack, write_plain


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return open_corpus(write_pack(tmp_path_factory.mktemp("pack")))


@pytest.fixture(scope="module")
def speech(pack):
    return decode(pack, pack.train_speakers, RATE, (1.0, 1.1))


def _mixer(pack, speech, **scene):
    return Mixer(speech, Scene(seconds=1.0, **scene), FrameSpec(), 5, pack.noises_train, pack.hrirs_train)


def test_train_and_validation_share_no_talker_noise_or_head(pack):
    assert pack.validation_speakers
    assert not set(pack.validation_speakers) & set(pack.train_speakers)
    assert not set(pack.noises_train) & set(pack.noises_validation)
    assert not set(pack.hrirs_train) & set(pack.hrirs_validation)
    sources = [{p.stem.rpartition("_")[0] for p in noises} for noises in (pack.noises_train, pack.noises_validation)]
    assert not sources[0] & sources[1]


def test_librispeech_tree_names_talkers_not_chapters(tmp_path):
    for speaker, chapter in (("19", "198"), ("19", "227"), ("26", "495")):
        folder = tmp_path / "LibriSpeech" / "dev" / speaker / chapter
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{speaker}-{chapter}-0000.flac", utterance(int(speaker), 0, 0.5), RATE)
    corpus = open_corpus(tmp_path)
    assert sorted(corpus.speakers) == ["LibriSpeech/dev/19", "LibriSpeech/dev/26"]
    assert len(corpus.utterances("LibriSpeech/dev/19")) == 2


def test_plain_folders(tmp_path):
    corpus = open_corpus(write_plain(tmp_path, talkers=3, utterances=1))
    assert sorted(corpus.speakers) == ["talker0", "talker1", "talker2"]
    assert corpus.noises == ()
    assert corpus.hrirs == ()


def test_unlabelled_talkers_are_never_targets_and_never_two(pack, speech):
    assert any("unlabelled" in name for name in speech.spans)
    assert not any("unlabelled" in name for name in speech.targets)
    mixer = _mixer(pack, speech, talkers=(0, 0, 0, 1))
    for i in range(100):
        others = mixer._others(np.random.default_rng(i), speech.targets[0], 2)
        assert len({o.rpartition("@")[0] for o in others}) == 2
        assert sum("unlabelled" in o for o in others) < 2


def test_interferers_are_mostly_labelled(pack, speech):
    """Those without labels come from other microphones: a network that mostly meets them learns microphones."""
    for share in (0.0, 0.2, 1.0):
        mixer = _mixer(pack, speech, unlabelled=share)
        others = [mixer._others(np.random.default_rng(i), speech.targets[0], 1)[0] for i in range(300)]
        assert sum("unlabelled" in o for o in others) / 300 == pytest.approx(share, abs=0.06)


def test_one_utterance_is_halved_into_target_and_enrollment(tmp_path):
    for talker in range(4):
        (tmp_path / f"t{talker}").mkdir()
        soundfile.write(tmp_path / f"t{talker}" / "only.wav", utterance(talker, 0, 8.0), RATE)
    corpus = open_corpus(tmp_path)
    speech = decode(corpus, sorted(corpus.speakers), RATE, (1.0,))
    (a, b), (c, d) = speech.spans["t0@1"]
    assert b == c
    assert abs((b - a) - 4 * RATE) < 2
    assert abs((d - c) - 4 * RATE) < 2
    assert "t0@1" in speech.targets


def test_speed_is_another_length_and_pitch(speech):
    name = speech.targets[0].rpartition("@")[0]
    one, fast = (speech.spans[f"{name}@{v}"][0] for v in ("1", "1.1"))
    assert (one[1] - one[0]) / (fast[1] - fast[0]) == pytest.approx(1.1, abs=1e-3)


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
    ratio = 10 * np.log10((batch.target**2).sum((1, 2)) / (interference**2).sum((1, 2)))
    np.testing.assert_allclose(ratio, 3, atol=0.05)


def test_noise_is_added_at_the_asked_ratio(pack, speech):
    batch = _mixer(pack, speech, snr_db=(7, 7), noisy=1, talkers=(0, 1, 0, 0), reverberant=0, binaural_every=0).batch(0, 6)
    ratio = 10 * np.log10((batch.target**2).sum((1, 2)) / ((batch.mixture - batch.target) ** 2).sum((1, 2)))
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
    assert max(np.abs(two[:, 0] - two[:, 1]).max(axis=-1)) > 0.01


def test_mixtures_never_clip(pack, speech):
    batch = _mixer(pack, speech, level_db=(-3, 0)).batch(0, 8)
    assert np.abs(batch.mixture).max() <= 1


def test_decoded_speech_is_cached(pack, tmp_path):
    first = decode(pack, pack.train_speakers[:2], RATE, (1.0,), cache=tmp_path)
    second = decode(pack, pack.train_speakers[:2], RATE, (1.0,), cache=tmp_path)
    uncached = decode(pack, pack.train_speakers[:2], RATE, (1.0,))
    for other in (second, uncached):
        np.testing.assert_array_equal(first.samples, other.samples)
        assert first.spans == other.spans
    assert isinstance(second.samples, np.memmap)


@pytest.mark.parametrize("make", [lambda p: p / "nowhere", lambda p: p])
def test_folders_without_talkers_are_refused(tmp_path, make):
    with pytest.raises(DataError, match=r"no such folder|talkers found"):
        open_corpus(make(tmp_path))
