"""The voice file: whole or refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from edge_tse.artifact import Artifact, shipped_names
from edge_tse.errors import ArtifactError
from edge_tse.personalization import check_voice, personalize
from edge_tse.voice import _SHIPPED_WITH, VOICE_SCHEMA, Voice, load_voice, parse_voice, save_voice, voice_bytes
from tests import graphs

VOICE = Voice(
    embedding=graphs.embedding(3),
    encoder_digest="ab" * 32,
    created="2026-01-01T00:00:00+00:00",
    source="alice, später.wav",
    speech_s=3.216,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "alice.voice"
    save_voice(VOICE, path)
    return path


def test_a_file_gives_back_everything(path: Path) -> None:
    again = load_voice(path)
    assert again.embedding.dtype == np.float32
    np.testing.assert_array_equal(again.embedding, VOICE.embedding)
    texts = attrgetter("encoder_digest", "created", "source", "speech_s", "schema")
    assert texts(again) == texts(VOICE)
    assert again.digest == VOICE.digest


def test_it_is_json_for_people(path: Path) -> None:
    fields = json.loads(path.read_text())
    assert fields["edge_tse_voice"] == VOICE_SCHEMA
    assert fields["source"] == VOICE.source


def test_every_flipped_byte_is_found(path: Path) -> None:
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for flips in (rng.integers(1, 256, len(content)), np.full(len(content), 0x20)):
        for i, flip in enumerate(flips):
            path.write_bytes(content[:i] + bytes([content[i] ^ int(flip)]) + content[i + 1 :])
            with pytest.raises(ArtifactError) as error:
                load_voice(path)
            assert "\n" not in str(error.value)


def test_every_truncation_is_found(path: Path) -> None:
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactError):
            load_voice(path)


def signed(**changes: object) -> bytes:
    """A voice with a right checksum and a wrong field."""
    fields = {"edge_tse_voice": VOICE_SCHEMA, "source": "", "created": "", "encoder_digest": "", "speech_s": None}
    fields |= {"embedding": [1.0], **changes}
    fields["checksum"] = hashlib.sha256(json.dumps(fields).encode()).hexdigest()
    return json.dumps(fields, indent=1).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an edge-tse voice"),
        (b"RIFF\xff\xff", "is not an edge-tse voice"),
        (b"[1, 2]", "is not an edge-tse voice"),
        (b"7", "is not an edge-tse voice"),
        (b'{"a": 1}', "is not an edge-tse voice"),
        (signed(edge_tse_voice=VOICE_SCHEMA + 1), f"schema {VOICE_SCHEMA + 1}, this edge-tse reads up to {VOICE_SCHEMA}: upgrade"),
        (signed(edge_tse_voice=0), "damaged or was edited"),
        (signed(embedding="loud"), "is damaged"),
        (signed(embedding=None), "damaged"),
        (signed(embedding=[[1.0]]), "damaged"),
        (signed(embedding=[float("nan")]), "damaged"),
        (signed(embedding=[1e300]), "damaged"),
        (signed(embedding=[10**400]), "damaged"),
        (signed(speech_s=float("inf")), "damaged"),
        (signed(speech_s="3"), "damaged"),
        (signed(speech_s=-1.0), "damaged"),
        (signed(edge_tse_voice=True), "damaged"),
        (signed(edge_tse_voice=[2]), "damaged"),
        (signed(embedding=[0.1]), "damaged"),  # not a float32
        (signed(extra=1), "damaged"),
        (signed().replace(b"1.0", b"1.00"), "damaged"),
    ],
)
def test_each_kind_of_damage_has_its_message(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.voice"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message) as error:
        load_voice(path)
    assert "\n" not in str(error.value)


def test_the_signed_helper_signs(tmp_path: Path) -> None:
    path = tmp_path / "x.voice"
    path.write_bytes(signed())
    assert load_voice(path).embedding.tolist() == [1.0]


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nobody\.voice: No such file"):
        load_voice(tmp_path / "nobody.voice")
    with pytest.raises(ArtifactError, match="folder"):
        save_voice(VOICE, tmp_path / "no" / "alice.voice")


class TestEncoder:
    """A voice belongs to the encoder that made it, whatever network listens."""

    def test_the_shipped_models_share_voices(self) -> None:
        assert shipped_names() == ["nano", "small"]
        encoders = {Artifact.shipped(name).voice_model.encoder_digest for name in shipped_names()}
        assert len(encoders) == 1
        voice = replace(VOICE, encoder_digest=encoders.pop())
        for name in shipped_names():
            assert personalize(Artifact.shipped(name), voice).personalized

    def test_heads_do_not_matter_and_the_encoder_does(self) -> None:
        model = graphs.voice_model()
        voice = graphs.voice(model)
        for name in ("film.mask.0.bias", "encoder.out.bias"):
            changed = replace(model, arrays={**model.arrays, name: model.arrays[name] + np.float32(1)})
            assert changed.digest != model.digest
            assert changed.hears(voice) == name.startswith("film.")
        other_bands = replace(model, frame=replace(model.frame, hop=16, window=64, synthesis=32))
        assert not other_bands.hears(voice), "the same weights hear something else"
        with pytest.raises(ArtifactError, match="made by encoder"):
            check_voice(other_bands, voice)

    def test_without_an_encoder_a_voice_is_of_one_model(self) -> None:
        arrays = {name: x for name, x in graphs.voice_model().arrays.items() if not name.startswith("encoder.")}
        model = replace(graphs.voice_model(), arrays=arrays)
        other = replace(model, arrays={**arrays, "film.mask.0.bias": arrays["film.mask.0.bias"] + np.float32(1)})
        assert model.hears(graphs.voice(model))
        assert not other.hears(graphs.voice(model))


class TestSchema1:
    """Files from before, which name the whole voice model."""

    def old(self, digest: str) -> bytes:
        fields = {"edge_tse_voice": 1, "source": "a.wav", "created": "2026-11-20", "model_digest": digest, "embedding": [1.0]}
        fields["checksum"] = hashlib.sha256(json.dumps(fields).encode()).hexdigest()
        return json.dumps(fields, indent=1).encode() + b"\n"

    def test_they_are_read_and_keep_their_digest(self) -> None:
        content = self.old("cd" * 32)
        voice = parse_voice(content, "a.voice")
        assert (voice.encoder_digest, voice.encoder, voice.speech_s) == ("cd" * 32, "cd" * 32, None)
        assert voice_bytes(voice) == content
        assert voice.digest == hashlib.sha256(content).hexdigest()

    def test_their_own_model_hears_them(self) -> None:
        model = graphs.voice_model()
        assert model.hears(parse_voice(self.old(model.digest), "a.voice"))
        assert not graphs.voice_model(seed=1).hears(parse_voice(self.old(model.digest), "a.voice"))
        assert not model.hears(replace(graphs.voice(model), encoder_digest=model.digest)), "schema 2 names no model"

    @pytest.mark.parametrize("digest", _SHIPPED_WITH)
    def test_those_of_shipped_models_keep_to_the_encoder_of_then(self, digest: str) -> None:
        """Which is no longer the one that ships: who enrolled with it enrolls again."""
        voice = parse_voice(self.old(digest), "a.voice")
        assert voice.encoder == _SHIPPED_WITH[digest]
        assert not [name for name in shipped_names() if Artifact.shipped(name).voice_model.hears(voice)]


def test_the_shipped_models_share_voices() -> None:
    assert len({Artifact.shipped(name).voice_model.encoder_digest for name in shipped_names()}) == 1
