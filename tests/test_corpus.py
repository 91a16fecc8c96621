"""What there is to mix: layouts, disjoint talkers, decoded speech."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from edge_tse.errors import DataError
from quantization.corpus import decode, open_corpus
from tests.speech import RATE, utterance, write_plain


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


def test_decoded_speech_is_cached(pack, tmp_path):
    first = decode(pack, pack.train_speakers[:2], RATE, (1.0,), cache=tmp_path)
    reused = []
    second = decode(pack, pack.train_speakers[:2], RATE, (1.0,), cache=tmp_path, reused=reused.append)
    assert reused == list(tmp_path.glob("*.npy"))
    uncached = decode(pack, pack.train_speakers[:2], RATE, (1.0,))
    for other in (second, uncached):
        np.testing.assert_array_equal(first.samples, other.samples)
        assert first.spans == other.spans
    assert isinstance(second.samples, np.memmap)


@pytest.mark.parametrize("make", [lambda p: p / "nowhere", lambda p: p])
def test_folders_without_talkers_are_refused(tmp_path, make):
    with pytest.raises(DataError, match=r"no such folder|talkers found"):
        open_corpus(make(tmp_path))


def test_a_cache_is_used_for_the_same_files_alone(tmp_path):
    """Recordings of the same names and lengths in another folder, or written anew, are other sound."""
    heard = []
    for name, first in (("one", 0), ("two", 3)):
        (tmp_path / name).mkdir()
        corpus = open_corpus(write_plain(tmp_path / name, talkers=3, utterances=2))
        for path in corpus.utterances("talker0"):
            soundfile.write(path, utterance(first, 1, 1.0), RATE)
        heard.append(decode(corpus, ["talker0"], RATE, (1.0,), cache=tmp_path / "cache").samples)
    assert len(heard[0]) == len(heard[1])
    assert not np.array_equal(*heard)


def test_linked_folders_are_followed_once(tmp_path):
    write_plain(tmp_path / "store", talkers=3, utterances=1)
    (tmp_path / "data").mkdir()
    for talker in range(3):
        (tmp_path / "data" / f"t{talker}").symlink_to(tmp_path / "store" / f"talker{talker}")
    (tmp_path / "data" / "t0" / "again").symlink_to(tmp_path / "data")
    corpus = open_corpus(tmp_path / "data")
    assert sum(len(paths) for paths in corpus.speakers.values()) == 3
