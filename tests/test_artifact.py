"""The artifact file: whole or refused, the same bytes for the same content."""

from __future__ import annotations

import errno
import hashlib
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tse.artifact import SCHEMA, Artifact
from edge_tse.errors import ArtifactError
from edge_tse.golden import Golden
from edge_tse.voice import VoiceModel
from tests import graphs

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


@pytest.fixture(scope="module")
def content(artifact: Artifact) -> bytes:
    return artifact.to_bytes()


def test_a_file_gives_back_everything(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "a.etse"
    artifact.save(path)
    again = Artifact.load(path)
    assert again.frame == artifact.frame
    assert again.provenance == artifact.provenance
    assert again.digest == artifact.digest
    assert again.voice_model.digest == artifact.voice_model.digest
    assert again.voice_model.slots == tuple(sorted(graphs.TINY.slots))
    assert again.graph.tensors == artifact.graph.tensors
    np.testing.assert_array_equal(again.golden.features, artifact.golden.features)
    assert again.golden.outputs is not None
    assert artifact.golden.outputs is not None
    assert list(again.golden.outputs) == ["mask", "velocity"]
    for name, values in artifact.golden.outputs.items():
        np.testing.assert_array_equal(again.golden.outputs[name], values)
    levels = np.random.default_rng(0).normal(size=(50, artifact.frame.bands)).astype(np.float32)
    np.testing.assert_array_equal(again.voice_model.embed(levels), artifact.voice_model.embed(levels))


def test_digest_is_the_files_and_changes_with_any_part(artifact: Artifact, content: bytes) -> None:
    schema, digest, length = struct.unpack_from("<Q32sQ", content, 8)
    assert digest.hex() == artifact.digest == hashlib.sha256(struct.pack("<QQ", schema, length) + content[56:]).hexdigest()
    others = [
        replace(artifact, provenance={}),
        artifact.record(artifact.golden.features[1:]),
        artifact.with_graph(artifact.graph),
        graphs.artifact(seed=1),
    ]
    assert len({artifact.digest, *(a.digest for a in others)}) == 5


def test_same_content_is_the_same_bytes_in_another_process(content: bytes) -> None:
    code = "import sys; from tests import graphs; sys.stdout.buffer.write(graphs.artifact().to_bytes())"
    environment = {"PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert other.stdout == content


def test_saving_again_does_not_change_the_bytes(content: bytes) -> None:
    assert Artifact.from_bytes(content).to_bytes() == content


def test_arrays_are_aligned_and_read_only(content: bytes) -> None:
    graph = Artifact.from_bytes(content).graph
    weight = next(iter(graph.to_arrays()[1].values()))
    with pytest.raises(ValueError, match="read-only"):
        weight[...] = 0


def test_every_flipped_byte_is_found(content: bytes) -> None:
    rng = np.random.default_rng(0)
    flips = rng.integers(1, 256, len(content))
    damaged = bytearray(content)
    for i, flip in enumerate(flips):
        damaged[i] ^= int(flip)
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(bytes(damaged))
        damaged[i] ^= int(flip)
    assert bytes(damaged) == content


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_around_the_payload_is_found(content: bytes, bit: int) -> None:
    for i in [*range(64), len(content) - 1]:
        damaged = bytearray(content)
        damaged[i] ^= 1 << bit
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(bytes(damaged))


def test_every_truncation_is_found(content: bytes) -> None:
    for length in [*range(200), *range(200, len(content), 97), len(content) - 1]:
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(content[:length])


def sealed(payload: bytes, schema: int = SCHEMA) -> bytes:
    """A file whose digest is right, whatever its payload."""
    digest = hashlib.sha256(struct.pack("<QQ", schema, len(payload)) + payload).digest()
    return struct.pack("<8sQ32sQ", b"edge-tse", schema, digest, len(payload)) + payload


def _renamed(content: bytes, *changes: tuple[bytes, bytes]) -> bytes:
    """A file whose header says something else, of whatever length."""
    (length,) = struct.unpack_from("<Q", content, 56)
    header = content[64 : 64 + length]
    for old, new in changes:
        assert old in header
        header = header.replace(old, new)
    return sealed(struct.pack("<Q", len(header)) + header + content[64 + length :])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: b"", "not an edge-tse artifact"),
        (lambda c: b"RIFF" + c[4:], r"not an edge-tse artifact: it starts with b'RIFF"),
        (lambda c: c[:30], "truncated: 30 bytes"),
        (lambda c: c[:-1], r"truncated: \d+ bytes where \d+"),
        (lambda c: c + b"\0", "followed by something else"),
        (lambda c: c[:100] + bytes([c[100] ^ 1]) + c[101:], "damaged: its digest is"),
        (lambda c: sealed(c[56:], SCHEMA + 1), f"schema {SCHEMA + 1}, this edge-tse reads up to {SCHEMA}: upgrade"),
        (lambda c: sealed(b""), "header is malformed"),
        (lambda c: sealed(struct.pack("<Q", 2**40) + b"{}"), "header is malformed"),
        (lambda c: sealed(struct.pack("<Q", 2) + b"{}"), "header is malformed"),
        (lambda c: sealed(struct.pack("<Q", 2) + b"[]"), "header is malformed"),
        (lambda c: sealed(struct.pack("<Q", 13) + b'{"arrays":{}}'), "a part is missing or malformed"),
        (lambda c: sealed(c[56:-4096]), "header is malformed"),
        (lambda c: sealed(c[56:].replace(b'"hop":8', b'"hop":9')), "synthesis window 16 must be twice the hop 9"),
        (lambda c: sealed(c[56:].replace(b'"Pointwise"', b'"Pointless"')), "unknown or missing part: 'Pointless'"),
        (lambda c: sealed(c[56:].replace(b'"int8"', b'"int9"')), "header is malformed"),
        (
            lambda c: _renamed(
                c, (b'"golden_outputs":["mask",', b'"golden_outputs":[["mask"],'), (b"output.mask", b"output.['mask']")
            ),
            "golden outputs are",
        ),
    ],
)
def test_each_kind_of_damage_has_its_message(content: bytes, damage: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as error:
        Artifact.from_bytes(damage(content), "a.etse")
    assert "\n" not in str(error.value)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing\.etse: No such file"):
        Artifact.load(tmp_path / "nothing.etse")
    with pytest.raises(ArtifactError, match="directory"):
        Artifact.load(tmp_path)
    with pytest.raises(ArtifactError, match="folder"):
        graphs.artifact().save(tmp_path / "no" / "such" / "folder.etse")


def assert_nothing_happened(path: Path, before: bytes | None) -> None:
    assert (path.read_bytes() if before is not None else path.exists()) == (before or False)
    assert sorted(p.name for p in path.parent.iterdir()) == ([path.name] if before is not None else [])


@pytest.mark.parametrize("before", [None, b"an older artifact"])
def test_a_full_disk_leaves_the_old_file(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    path = tmp_path / "a.etse"
    if before is not None:
        path.write_bytes(before)

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(ArtifactError, match="No space left on device"):
            artifact.save(path)
    assert_nothing_happened(path, before)


@pytest.mark.parametrize("before", [None, b"an older artifact"])
def test_a_write_that_really_fails_leaves_the_old_file(
    artifact: Artifact, content: bytes, tmp_path: Path, before: bytes | None
) -> None:
    path = tmp_path / "a.etse"
    if before is not None:
        path.write_bytes(before)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, hard))
    try:
        with pytest.raises(ArtifactError, match="File too large"):
            artifact.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_nothing_happened(path, before)


class TestShipped:
    def test_the_default_is_found_by_its_name(self) -> None:
        assert Artifact.find("small").digest == Artifact.find(None).digest == Artifact.shipped().digest

    def test_one_that_is_missing_is_an_error(self) -> None:
        with pytest.raises(ArtifactError, match=r"ships no model 'absent' \(it has: .*small"):
            Artifact.shipped("absent")

    def test_a_file_comes_before_a_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "small").write_bytes(b"of the user's own")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ArtifactError, match="not an edge-tse artifact"):
            Artifact.find("small")

    def test_what_is_neither_is_said_to_be_missing(self) -> None:
        with pytest.raises(ArtifactError, match="cannot read artifact smal: No such file"):
            Artifact.find("smal")


def _slots(model: VoiceModel, drop: str) -> VoiceModel:
    return VoiceModel(model.frame, model.blocks, {k: v for k, v in model.arrays.items() if not k.startswith(f"film.{drop}.")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {"frame": replace(a.frame, bands=12)}, "the geometry needs"),
        (lambda a: {"frame": replace(a.frame, fine_bands=4)}, "the voice model is for"),
        (lambda a: {"graph": graphs.student(graphs.NANO)}, r"tensor features is \[1, 192\], the geometry needs \[1, 20\]"),
        (lambda a: {"graph": replace(a.graph, outputs=("velocity", "mask"))}, "maps features to mask and velocity"),
        (
            lambda a: {"voice_model": _slots(a.voice_model, "mask.1")},
            r"makes 0 values for modulation mask\.1, the graph needs 2 \* 12",
        ),
        (
            lambda a: {"golden": Golden(a.golden.features[:, 1:], None)},
            r"golden features are int8 \(40, 19\), not int8 \[frames, 20\]",
        ),
        (lambda a: {"golden": Golden(a.golden.features.astype(np.float32), None)}, "golden features are float32"),
        (lambda a: {"golden": Golden(a.golden.features[:0], {k: v[:0] for k, v in a.golden.outputs.items()})}, "0 golden frames"),
        (
            lambda a: {"golden": Golden(a.golden.features, dict(reversed(a.golden.outputs.items())))},
            r"golden outputs are \{'velocity': .*, the features and the graph need \{'mask'",
        ),
    ],
)
def test_parts_must_belong_together(artifact: Artifact, change: Callable[[Artifact], dict[str, Any]], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        replace(artifact, **change(artifact))


def _layered(model: VoiceModel) -> dict[str, np.ndarray]:
    """The arrays of a model that also listens to the layers of its encoder."""
    arrays, width = dict(model.arrays), len(model.arrays["encoder.stem.weight"])
    arrays |= {f"local.{name}": np.ones(model.blocks * width, np.float32) for name in ("mean", "deviation")}
    for i in range(model.blocks):
        arrays |= {f"local.{i}.weight": np.ones((2, width), np.float32), f"local.{i}.bias": np.zeros(2, np.float32)}
    return arrays | {f"local.film.{s}.weight": np.ones((len(arrays[f"film.{s}.bias"]), 2), np.float32) for s in model.slots}


def test_a_scale_is_of_the_rows_of_a_matrix(artifact: Artifact) -> None:
    """One of a vector made a matrix of it, and enrolling ended in a traceback."""
    model = artifact.voice_model
    arrays = {**model.arrays, "code.bias.scale": np.ones_like(model.arrays["code.bias"])}
    with pytest.raises(ArtifactError, match=r"code\.bias\.scale is float32 .*, one float32 a row of a matrix is needed: make the"):
        replace(artifact, voice_model=replace(model, arrays=arrays))


def test_slots_end_in_plain_numbers_where_they_match_layers(artifact: Artifact) -> None:
    arrays = _layered(artifact.voice_model)
    made = replace(artifact, voice_model=replace(artifact.voice_model, arrays=arrays))
    for slot in ("mask.00", "mask.\N{ARABIC-INDIC DIGIT THREE}"):
        odd = {**arrays, **{f"film.{slot}.{part}": arrays[f"film.mask.0.{part}"] for part in ("weight", "weight.scale", "bias")}}
        with pytest.raises(ArtifactError, match="end in no number"):
            replace(made, voice_model=replace(made.voice_model, arrays=odd))


def test_modulations_of_layers_are_finite_whatever_else_is_there(artifact: Artifact) -> None:
    model = replace(artifact.voice_model, arrays=_layered(artifact.voice_model))
    voice = graphs.embedding(0, model.size)
    wanted = model.modulation(voice)
    more = replace(model, arrays={**model.arrays, "local.film.mask.0.bias": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(more.modulation(voice)["mask.1"], wanted["mask.1"])
    narrow = replace(model, arrays={**model.arrays, "local.deviation": model.arrays["local.deviation"] * np.float32(1e-38)})
    with pytest.raises(ArtifactError, match="modulations of this voice are not finite"):
        narrow.modulation(100 * voice)


def test_unknown_types_are_not_written(artifact: Artifact) -> None:
    model = artifact.voice_model
    odd = VoiceModel(model.frame, model.blocks, {**model.arrays, "odd": np.zeros(3)})
    with pytest.raises(ArtifactError, match=r"voice\.odd is float64"):
        replace(artifact, voice_model=odd).to_bytes()


def test_another_graph_awaits_its_golden_outputs(artifact: Artifact, tmp_path: Path) -> None:
    changed = artifact.with_graph(artifact.graph)
    assert changed.golden.outputs is None
    changed.save(tmp_path / "a.etse")
    assert Artifact.load(tmp_path / "a.etse").golden.outputs is None
    recorded = changed.record()
    assert recorded.digest == artifact.digest
