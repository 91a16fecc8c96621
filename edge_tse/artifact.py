"""Artifact: the one thing that moves through the system, and its file.

A file is ``magic, schema, SHA-256, length, payload``; the digest covers schema, length and payload, so that a flipped byte
anywhere is found before anything is believed. The payload is a JSON header and the arrays it lists, little-endian and aligned.
Equal content gives equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import ArtifactError, EngineError, ParityError
from edge_tse.files import read_bytes, write_bytes
from edge_tse.frame import FrameSpec
from edge_tse.golden import TOLERANCE_LSB, Golden, Network, Parity, record, replay
from edge_tse.graph import IntegerGraph
from edge_tse.table import parse_json, quote, read_table
from edge_tse.universal import Reach
from edge_tse.voice import VoiceModel
from edge_tse.voice_weights import check_voice_model

__all__ = ["SCHEMA", "Artifact", "shipped_names", "verify"]

SCHEMA = 1
"""Version of the file layout; raised when an older edge-tse could not read what a newer one writes."""

_MAGIC = b"edge-tse"
_PREFIX = struct.Struct("<8sQ32sQ")
_HEADER_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 16
_TYPES = {"int8": "|i1", "int32": "<i4", "float32": "<f4"}
_DEFAULT = "small"
_SUFFIX = ".etse"
_MOST_BYTES = 2**30

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Artifact:
    """A trained int8 model with everything it needs to run, to enroll, and to prove itself.

    Construction checks that the parts belong together (``ArtifactError``).
    """

    frame: FrameSpec
    graph: IntegerGraph
    voice_model: VoiceModel
    golden: Golden
    provenance: Mapping[str, Any]
    """JSON: how the model was made and what it scored; for people."""
    reach: Mapping[str, Reach] = field(default_factory=dict)
    """Reach of each voice modulation, see :mod:`edge_tse.universal`; without it there is no universal form."""

    def __post_init__(self) -> None:
        graph, frame, model = self.graph, self.frame, self.voice_model
        if graph.inputs != ("features",) or graph.outputs != frame.moves:
            wanted = " and ".join(frame.moves)
            raise ArtifactError(f"a model maps features to {wanted}, not {graph.inputs} to {graph.outputs}")
        for name, channels in {"features": frame.features, **dict.fromkeys(frame.moves, frame.bands)}.items():
            tensor = graph.tensors[name]
            if (tensor.frames, tensor.channels) != (1, channels):
                raise ArtifactError(f"tensor {name} is [{tensor.frames}, {tensor.channels}], the geometry needs [1, {channels}]")
        if model.frame != frame:
            raise ArtifactError(f"the voice model is for {model.frame}, the graph for {frame}")
        check_voice_model(model)
        for slot, channels in graph.films.items():
            rows = len(model.arrays.get(f"film.{slot}.weight", ()))
            if rows != 2 * channels:
                raise ArtifactError(f"the voice model makes {rows} values for modulation {slot}, the graph needs 2 * {channels}")
        for slot, reach in self.reach.items():
            channels = len(model.arrays.get(f"film.{slot}.weight", ())) // 2
            if any(x.shape != (channels,) for x in vars(reach).values()):
                raise ArtifactError(f"the reach of modulation {slot} is of another model: make the artifact again")
            if not all(np.isfinite(x).all() for x in vars(reach).values()) or not (reach.scale > 0).all():
                raise ArtifactError(
                    f"the reach of modulation {slot} is not finite, or its scale not positive: make the artifact again"
                )
        features = self.golden.features
        if features.dtype != np.int8 or features.shape[1:] != (frame.features,):
            raise ArtifactError(f"golden features are {features.dtype} {features.shape}, not int8 [frames, {frame.features}]")
        if not len(features):
            raise ArtifactError("there are 0 golden frames, which prove nothing, 1 is needed: make the artifact again")
        if self.golden.outputs is not None:
            due = {name: (len(features), graph.tensors[name].channels) for name in graph.outputs}
            there = {name: (x.shape if x.dtype == np.int8 else x.dtype) for name, x in self.golden.outputs.items()}
            if list(there.items()) != list(due.items()):  # in their order, which is that of a network's outputs
                raise ArtifactError(f"golden outputs are {there}, the features and the graph need {due}: make the artifact again")

    @property
    def personalized(self) -> bool:
        """Whether a voice is folded in."""
        return not self.graph.films and not self.graph.voice

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the content: it names this artifact, and its file is checked against it."""
        return bytes(_PREFIX.unpack_from(self.to_bytes())[2]).hex()

    def with_graph(self, graph: IntegerGraph) -> Artifact:
        """The artifact with another graph. The golden features stay, their outputs await :meth:`record`."""
        return replace(self, graph=graph, golden=Golden(self.golden.features, None))

    def record(self, features: NDArray[np.int8] | None = None) -> Artifact:
        """The artifact with golden outputs of the reference engine, for ``features [frames, n]`` or the ones it has."""
        return replace(self, golden=record(self.graph, self.golden.features if features is None else features))

    def to_bytes(self) -> bytes:
        """The content of the file."""
        description, arrays = self.graph.to_arrays()
        named: Arrays = {f"graph.{k}": v for k, v in arrays.items()}
        named |= {f"voice.{k}": v for k, v in self.voice_model.arrays.items()}
        named |= {f"reach.{slot}/{k}": v for slot, reach in self.reach.items() for k, v in vars(reach).items()}
        named["golden.features"] = self.golden.features
        outputs = self.golden.outputs
        named |= {f"golden.output.{k}": v for k, v in (outputs or {}).items()}
        header = {
            "frame": self.frame.to_json(),
            "graph": description,
            "voice_blocks": self.voice_model.blocks,
            "golden_outputs": None if outputs is None else list(outputs),
            "provenance": self.provenance,
        }
        payload = _pack(header, named)
        return _PREFIX.pack(_MAGIC, SCHEMA, _digest(SCHEMA, payload), len(payload)) + payload

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all. ``ArtifactError`` if it cannot be written."""
        write_bytes(Path(path), self.to_bytes(), ArtifactError)

    @classmethod
    def from_bytes(cls, content: bytes, source: str = "artifact") -> Artifact:
        """Inverse of :meth:`to_bytes`; ``source`` names the content in messages."""
        header, arrays = _unpack(_check_payload(content, source), source)
        again = "make it again"
        parts = ("frame", "graph", "voice_blocks", "golden_outputs", "provenance")
        for name, kind in zip(parts, (dict, dict, int, list | None, dict), strict=True):
            if name not in header or not isinstance(header[name], kind):
                raise ArtifactError(f"{source}: a part is missing or malformed ({name} is {quote(header.get(name))}): {again}")
        try:
            frame = read_table(FrameSpec, header["frame"], f"{source}: frame", ArtifactError)
        except ValueError as error:
            raise ArtifactError(f"{source}: no front end has this geometry ({error}): {again}") from error
        names = header["golden_outputs"]
        if missing := [name for name in ("golden.features", *(f"golden.output.{n}" for n in names or ())) if name not in arrays]:
            raise ArtifactError(f"{source}: there is no array {quote(missing[0])}: {again}")
        outputs = None if names is None else {str(name): arrays[f"golden.output.{name}"] for name in names}
        reach = {}
        for slot in dict.fromkeys(name.partition("/")[0] for name in _part(arrays, "reach.")):
            values = _part(arrays, f"reach.{slot}/")
            if values.keys() != {f.name for f in fields(Reach)}:
                raise ArtifactError(f"{source}: the reach of {quote(slot)} states {', '.join(sorted(values))}: {again}")
            reach[slot] = Reach(**values)  # type: ignore[arg-type]  # checked on construction
        return cls(
            frame=frame,
            graph=IntegerGraph.from_arrays(header["graph"], _part(arrays, "graph.")),
            voice_model=VoiceModel(frame, header["voice_blocks"], _part(arrays, "voice.")),
            golden=Golden(arrays["golden.features"], outputs),  # type: ignore[arg-type]  # checked on construction
            provenance=header["provenance"],
            reach=reach,
        )

    @classmethod
    def load(cls, path: str | Path) -> Artifact:
        """Read a file. ``ArtifactError`` if it is not there, not an artifact, truncated, damaged, or of a future schema."""
        return cls.from_bytes(read_bytes(Path(path), _MOST_BYTES, ArtifactError, "artifact"), str(path))

    @classmethod
    def shipped(cls, name: str = _DEFAULT) -> Artifact:
        """A model that comes with the package. ``ArtifactError`` lists those there are."""
        file = resources.files("edge_tse") / "assets" / f"{name}{_SUFFIX}"
        if not file.is_file():
            names = ", ".join(shipped_names()) or "none"
            raise ArtifactError(f"this build ships no model {name!r} (it has: {names}): give a file with --artifact")
        return cls.from_bytes(file.read_bytes(), name)

    @classmethod
    def find(cls, what: str | Path | None) -> Artifact:
        """The model that a user names: the default one (None), a file, or, where no such file is, a shipped model by its name.

        ``ArtifactError`` as from :meth:`load`.
        """
        if what is None:
            return cls.shipped()
        return cls.shipped(str(what)) if str(what) in shipped_names() and not Path(what).exists() else cls.load(what)


def verify(artifact: Artifact, network: Network, tolerance_lsb: int | None = None) -> Parity:
    """Replay the artifact's golden frames; ``ParityError`` beyond the tolerance (None: the one stated for the engine's name).

    A personalised artifact whose frames have not been recorded is recorded on the reference engine first.
    """
    if tolerance_lsb is None:
        if network.name not in TOLERANCE_LSB:
            raise EngineError(f"engine {network.name} states no tolerance, known: {', '.join(TOLERANCE_LSB)}; give one")
        tolerance_lsb = TOLERANCE_LSB[network.name]
    golden = artifact.golden if artifact.golden.outputs is not None else artifact.record().golden
    parity = replay(golden, network)
    if parity.worst_lsb > tolerance_lsb:
        output = max(parity.per_output, key=lambda name: parity.per_output[name][0])
        raise ParityError(
            f"{network.name}: {output} differs by {parity.worst_lsb} LSB, {tolerance_lsb} allowed "
            f"({parity.mismatch_rate:.2%} of values over {parity.frames} frames): do not deploy; report it with `edge-tse doctor`"
        )
    return parity


def shipped_names() -> list[str]:
    """Models that come with the package, sorted."""
    files = (resources.files("edge_tse") / "assets").iterdir()
    return sorted(file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX))


@dataclass(frozen=True)
class _Entry:
    """Place and form of an array in the file."""

    type: str
    shape: tuple[int, ...]
    offset: int


def _check_payload(content: bytes, source: str) -> bytes:
    """The payload, after magic, schema, length and digest have been checked."""
    if not content.startswith(_MAGIC):
        raise ArtifactError(f"{source} is not an edge-tse artifact: it starts with {content[:8]!r}, not {_MAGIC!r}")
    if len(content) < _PREFIX.size:
        raise ArtifactError(f"{source} is truncated: {len(content)} bytes, the prefix alone has {_PREFIX.size}; copy it again")
    _, schema, digest, length = _PREFIX.unpack_from(content)
    if schema > SCHEMA:
        raise ArtifactError(f"{source} has schema {schema}, this edge-tse reads up to {SCHEMA}: upgrade edge-tse")
    payload = content[_PREFIX.size :]
    if len(payload) != length:
        what = "truncated" if len(payload) < length else "followed by something else"
        raise ArtifactError(f"{source} is {what}: {len(payload)} bytes where {length} are stated; copy it again")
    found = _digest(schema, payload)
    if found != digest:
        raise ArtifactError(f"{source} is damaged: its digest is {found.hex()[:12]}, it states {digest.hex()[:12]}; copy it again")
    return payload


def _digest(schema: int, payload: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<QQ", schema, len(payload)) + payload).digest()


def _pack(header: Mapping[str, Any], arrays: Arrays) -> bytes:
    """JSON header with an index of the arrays, then the arrays in order of their names."""
    index, blobs, offset = {}, [], 0
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.name not in _TYPES:
            raise ArtifactError(f"array {name} is {array.dtype}: an artifact holds {', '.join(_TYPES)}")
        blob = np.ascontiguousarray(array, _TYPES[array.dtype.name]).tobytes()
        blob += bytes(-len(blob) % _ALIGNMENT)
        index[name] = {"type": array.dtype.name, "shape": list(array.shape), "offset": offset}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps({**header, "arrays": index}, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    # Padded so that arrays are aligned in the file, for readers that map it.
    text += b" " * (-(_PREFIX.size + _HEADER_LENGTH.size + len(text)) % _ALIGNMENT)
    return b"".join([_HEADER_LENGTH.pack(len(text)), text, *blobs])


def _unpack(payload: bytes, source: str) -> tuple[dict[str, Any], Arrays]:
    malformed, again = f"{source}: the header is malformed", "make it again"
    if len(payload) < _HEADER_LENGTH.size:
        raise ArtifactError(f"{malformed}: {len(payload)} bytes have no room for one; {again}")
    (length,) = _HEADER_LENGTH.unpack_from(payload)
    start = _HEADER_LENGTH.size + length
    if start > len(payload):
        raise ArtifactError(f"{malformed}: it states {length} bytes, {len(payload)} are there; {again}")
    header = parse_json(payload[_HEADER_LENGTH.size : start], malformed, ArtifactError, again)
    index = header.pop("arrays", None)
    if not isinstance(index, dict):
        raise ArtifactError(f"{malformed}: the index of arrays is {quote(index)}, not a table; {again}")
    arrays: Arrays = {}
    for name, entry in index.items():
        where = f"{malformed}: array {quote(name)}"
        described = read_table(_Entry, entry, where, ArtifactError)
        if described.type not in _TYPES or min(described.shape, default=0) < 0 or described.offset < 0:
            raise ArtifactError(f"{where} is {quote(entry)}: {again}")
        dtype, count = np.dtype(_TYPES[described.type]), math.prod(described.shape)
        end = described.offset + count * dtype.itemsize
        if end > len(payload) - start:
            raise ArtifactError(f"{where} ends at byte {quote(end)} of {len(payload) - start}: {again}")
        flat = np.frombuffer(payload, dtype, count=count, offset=start + described.offset) if count else np.zeros(0, dtype)
        arrays[name] = flat.reshape(described.shape)
    return header, arrays


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
