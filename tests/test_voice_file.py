"""The voice file: whole or refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from edge_tse.errors import ArtifactError
from edge_tse.voice import VOICE_SCHEMA, Voice, load_voice, save_voice
from tests import graphs

VOICE = Voice(
    embedding=graphs.embedding(3), model_digest="ab" * 32, created="2026-01-01T00:00:00+00:00", source="alice, später.wav"
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
    assert (again.model_digest, again.created, again.source) == (VOICE.model_digest, VOICE.created, VOICE.source)


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
    fields = {"edge_tse_voice": VOICE_SCHEMA, "source": "", "created": "", "model_digest": "", "embedding": [1.0], **changes}
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
