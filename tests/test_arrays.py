"""Extraction and enrollment for programs: every form in which other libraries give sound, and paths."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import edge_tse
from edge_tse import arrays, audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.errors import ArtifactError, AudioError, EngineError
from edge_tse.extraction import extract_signal
from edge_tse.personalization import personalize
from edge_tse.voice import Voice, save_voice
from tests import graphs
from tests.speech import utterance

pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 16000
MODEL = graphs.artifact(graphs.NANO, frames=4)
VOICE = graphs.voice(MODEL.voice_model)


def noise(n: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """``[channels, n]``"""
    return np.random.default_rng(seed).normal(0, 0.1, (channels, n)).astype(np.float32)


def extract(mixture: object, rate: int = RATE, **options: object) -> np.ndarray:
    return edge_tse.extract(mixture, rate, **{"voice": VOICE, "artifact": MODEL, "engine": "reference", **options})


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    model = personalize(MODEL, VOICE)
    return extract_signal(noise(3000), RATE, Engine(model, open_network(model, "reference"))).signal


class TestForms:
    def test_of_soundfile(self, wanted: np.ndarray) -> None:
        got = extract(noise(3000).T)
        assert got.shape == (3000, 2)
        assert np.array_equal(got.T, wanted)
        one = extract(noise(3000)[0])
        assert one.shape == (3000,)
        assert np.array_equal(extract(noise(3000)[:1].T)[:, 0], one)

    def test_of_channels_first(self, wanted: np.ndarray) -> None:
        assert np.array_equal(extract(noise(3000)), wanted)

    def test_the_type_comes_back(self, wanted: np.ndarray) -> None:
        got = extract(noise(3000).T.astype(np.float64))
        assert got.dtype == np.float64
        assert np.array_equal(got.T, wanted)

    def test_of_torch(self, wanted: np.ndarray) -> None:
        torch = pytest.importorskip("torch")
        got = extract(torch.from_numpy(noise(3000)).double().requires_grad_())
        assert isinstance(got, torch.Tensor)
        assert got.dtype == torch.float64
        assert not got.requires_grad
        assert np.array_equal(got.numpy(), wanted)

    @pytest.mark.parametrize(
        ("shape", "complaint"),
        [
            ((3000, 4), r"the mixture has shape \[3000, 4\], neither \[n, channels\] nor \[channels, n\] of at most 2 channels"),
            ((2, 2), r"shape \[2, 2\], which may be \[n, channels\] or \[channels, n\]: give \[n\], or more samples"),
            ((1, 2, 3000), r"shape \[1, 2, 3000\]: give \[n\], \[n, channels\] or \[channels, n\]"),
            ((), r"shape \[\]: give"),
            ((0, 3000), r"shape \[0, 3000\]: it has no channels"),
            ((0,), "the mixture is empty: 0 samples"),
        ],
    )
    def test_what_cannot_be_told_is_refused_with_its_shape(self, shape: tuple[int, ...], complaint: str) -> None:
        with pytest.raises(AudioError, match=complaint):
            extract(np.zeros(shape, np.float32))

    @pytest.mark.parametrize(
        ("mixture", "complaint"),
        [
            (np.zeros(3000, np.int16), "samples are int16, floats with full scale 1 are taken: divide by the full scale"),
            (np.full(3000, np.nan, np.float32), "3000 of 3000 samples are NaN"),
            ("dinner.wav", "the mixture is str, an array is taken: NumPy's or PyTorch's, for a file soundfile.read gives one"),
            ([0.0] * 3000, "the mixture is list, an array is taken"),
        ],
        ids=["integers", "nan", "path", "list"],
    )
    def test_what_is_no_sound_is_refused(self, mixture: object, complaint: str) -> None:
        with pytest.raises(AudioError, match=complaint):
            extract(mixture)

    @pytest.mark.parametrize("rate", [None, "16000", 16000.5, float("nan"), True, 0, -16000])
    def test_a_rate_is_a_whole_number(self, rate: object) -> None:
        with pytest.raises(AudioError, match="samples per second, a whole number"):
            extract(noise(3000), rate)
        with pytest.raises(AudioError, match="samples per second"):
            edge_tse.enroll(noise(3000), rate, artifact=MODEL)

    def test_an_implausible_rate(self) -> None:
        with pytest.raises(AudioError, match="has 16 samples per second"):
            extract(noise(3000), 16)


class TestStrength:
    def test_none_is_the_mixture(self) -> None:
        for rate in (RATE, 44100):
            assert np.array_equal(extract(noise(3001), rate, strength=0.0), noise(3001))

    @pytest.mark.parametrize("rate", [RATE, 44100])
    def test_between(self, rate: int) -> None:
        whole, half = extract(noise(5000), rate), extract(noise(5000), rate, strength=0.5)
        assert np.allclose(half, (whole + noise(5000)) / 2, atol=1e-6)

    @pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
    def test_beyond(self, strength: float) -> None:
        with pytest.raises(AudioError, match="is not within 0 \\(the mixture\\) and 1"):
            extract(noise(3000), strength=strength)


def stream(chunks: Iterator[object], rate: int = RATE, **options: object) -> Iterator[np.ndarray]:
    return edge_tse.extract_stream(chunks, rate, **{"voice": VOICE, "artifact": MODEL, "engine": "reference", **options})


class TestStream:
    @pytest.mark.parametrize(("rate", "strength"), [(RATE, 1.0), (RATE, 0.3), (44100, 1.0), (44100, 0.3), (8000, 1.0)])
    def test_it_is_the_whole_in_pieces(self, rate: int, strength: float) -> None:
        signal = noise(6001).T
        edges = [0, 777, 778, 778, 2000, 5999, 6001]
        got = list(stream((signal[a:b] for a, b in pairwise(edges)), rate, strength=strength))
        assert len(got) > 2
        assert np.array_equal(np.concatenate(got), extract(signal, rate, strength=strength))

    def test_the_talker_comes_as_soon_as_it_is_known(self) -> None:
        """8 ms are waited for, not the end."""
        taken = 0

        def chunks() -> Iterator[np.ndarray]:
            nonlocal taken
            for i in range(100):
                taken += 64
                yield noise(64, 1, i)[0]

        given = 0
        for talker in stream(chunks()):
            given += len(talker)
            assert taken - given <= 128
        assert given == taken == 6400

    def test_two_beside_each_other(self) -> None:
        one, other = noise(2000, 1)[0], noise(2000, 1, 1)[0]
        pairs = zip(stream(iter(np.split(one, 10))), stream(iter(np.split(other, 10))), strict=True)
        first, second = zip(*pairs, strict=True)
        assert np.array_equal(np.concatenate(first), extract(one))
        assert np.array_equal(np.concatenate(second), extract(other))

    def test_nothing_gives_nothing(self) -> None:
        assert list(stream(iter([]))) == []
        assert list(stream(iter([np.zeros(0, np.float32)]))) == []

    def test_another_form_is_refused(self) -> None:
        with pytest.raises(AudioError, match=r"a chunk of the stream has shape \[500\], the first one had \[500, 2\]: keep to one"):
            list(stream(iter([noise(500).T, noise(500)[0]])))

    def test_a_chunk_that_is_no_sound(self) -> None:
        with pytest.raises(AudioError, match="the stream: 1 of 700 samples are NaN or infinite"):
            list(stream(iter([noise(500)[0], np.append(noise(199)[0], np.nan).astype(np.float32)])))

    def test_what_is_wrong_with_the_options_is_said_at_once(self) -> None:
        with pytest.raises(EngineError, match="there is no engine abacus"):
            stream(iter([]), engine="abacus")


@pytest.mark.parametrize("missing", ["voice", "artifact"])
def test_nothing_in_place_of_a_model_or_a_voice(missing: str) -> None:
    with pytest.raises(ArtifactError, match="is NoneType: give"):
        extract(noise(500), **{missing: None})


class TestEnroll:
    @pytest.fixture
    def clip(self, tmp_path: Path) -> Path:
        audio.write(tmp_path / "alice.wav", utterance(3, 0, 4.0, RATE)[None], RATE)
        return tmp_path / "alice.wav"

    def test_a_path_or_an_array(self, clip: Path) -> None:
        signal, rate = audio.read(clip)
        same = [
            edge_tse.enroll(str(clip), artifact=MODEL),
            edge_tse.enroll(clip, artifact=MODEL),
            edge_tse.enroll([clip], artifact=MODEL),
            edge_tse.enroll(signal[0], rate, artifact=MODEL),
            edge_tse.enroll([np.stack([signal[0]] * 2, axis=1)], rate, artifact=MODEL),
        ]
        assert {voice.embedding.tobytes() for voice in same} == {same[0].embedding.tobytes()}
        assert [voice.source for voice in same] == ["alice.wav"] * 3 + ["recording 1"] * 2
        assert same[0].encoder_digest == MODEL.voice_model.encoder_digest
        assert same[0].speech_s is not None
        assert same[0].speech_s > 2

    def test_several_of_both_kinds(self, clip: Path) -> None:
        signal, rate = audio.read(clip)
        voice = edge_tse.enroll((clip, signal[0]), rate, artifact=MODEL)
        assert voice.source == "alice.wav, recording 2"

    @pytest.mark.parametrize(
        ("recordings", "complaint"),
        [
            ([], "nothing to enroll from"),
            (7, "nothing to enroll from"),
            ([0.1, 0.2], "recording 1 is float, neither a path nor an array"),
            (np.zeros((2, 48000)), r"recording 1 is an array of shape \[2, 48000\] at no rate: give its samples per second"),
            ("nobody.wav", "nobody.wav: there is no such file"),
        ],
        ids=["nothing", "a number", "numbers", "no rate", "no file"],
    )
    def test_what_is_no_recording(self, recordings: object, complaint: str) -> None:
        with pytest.raises(AudioError, match=complaint):
            edge_tse.enroll(recordings, artifact=MODEL)


class TestKept:
    """What stays open between calls, and what does not."""

    def test_an_engine_for_each_thread(self) -> None:
        def opened() -> Engine:
            return arrays._open_engine(MODEL, VOICE, "reference", threading.get_ident())

        found: list[Engine] = []
        thread = threading.Thread(target=lambda: found.append(opened()))
        thread.start()
        thread.join()
        assert opened() is opened()
        assert opened() is not found[0]

    def test_files_that_are_written_anew_are_read_again(self, tmp_path: Path) -> None:
        other = graphs.voice(MODEL.voice_model, 1)
        results = []
        for voice in (VOICE, other):
            save_voice(voice, tmp_path / "a.voice")
            results.append(extract(noise(3000), voice=str(tmp_path / "a.voice")))
        assert np.array_equal(results[0], extract(noise(3000)))
        assert np.array_equal(results[1], extract(noise(3000), voice=other))
        assert not np.array_equal(results[0], results[1])

    def test_a_model_by_its_name_or_path(self, tmp_path: Path) -> None:
        MODEL.save(tmp_path / "model.etse")
        assert np.array_equal(extract(noise(3000), artifact=str(tmp_path / "model.etse")), extract(noise(3000)))
        assert arrays._find_model("nano").digest == Artifact.shipped("nano").digest
        assert arrays._find_model("nano") is arrays._find_model("nano")


def test_a_voice_of_one_shipped_model_is_heard_by_the_other() -> None:
    model = Artifact.shipped("small").voice_model
    voice: Voice = graphs.voice(model)
    mixture = noise(2000, 1)[0]
    small, nano = (edge_tse.extract(mixture, RATE, voice=voice, artifact=name, engine="reference") for name in ("small", "nano"))
    assert not np.array_equal(small, nano)
