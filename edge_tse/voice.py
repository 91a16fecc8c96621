"""Enrollment and voices: clips become a Voice, and a Voice becomes constants inside the network.

The encoder runs once per enrollment on the host, in NumPy; its weights are int8 with one scale per row. Its shape follows what was
measured to work with 430 talkers: levels of active frames pooled to 16 ms, dilated residual blocks, attentive statistics
(Okabe et al., "Attentive statistics pooling for deep speaker embedding", Interspeech 2018), a unit vector out. A model may also
listen to the averages over time of what each block puts out, after the local and global features of LGR-TSE. Whatever a voice
holds, it ends as constants.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.embeddings import read_embeddings
from edge_tse.errors import ArtifactError, AudioError
from edge_tse.files import read_bytes, write_bytes
from edge_tse.frame import FrameSpec
from edge_tse.table import parse_json, quote

__all__ = [
    "MIN_SPEECH_S",
    "VOICE_SCHEMA",
    "Voice",
    "VoiceModel",
    "active_frames",
    "active_levels",
    "enroll_signals",
    "load_voice",
    "matching_layers",
    "parse_voice",
    "pooled_levels",
    "save_voice",
    "speech_levels",
    "voice_bytes",
    "voice_from_embeddings",
]

Float = NDArray[np.float32]
Double = NDArray[np.float64]

POOL = 4
"""Hops averaged into one encoder frame (16 ms)."""
MIN_SPEECH_S = 2.0
"""Least speech that enrolls: with less the embedding depends more on the words than on the talker."""
VOICE_SCHEMA = 2
"""Version of the voice file; raised when an older edge-tse could not read what a newer one writes."""
_NAMES_MODEL = 1
"""Schema of voice files that name the whole voice model, heads and all, where later ones name its encoder."""
_SHIPPED_WITH = dict.fromkeys(
    (
        "69002cb2c889528968c432ffa9c80eb766b52716efda5bc26dec3f2c7f2274e3",
        "981985760222bc4ea922e9604f029aacf3e57d138623d716218d277661cc1049",
        "ccc15321bbcf5a06a40529e14f9c6a7694d929091005afa65f1ece9240f67784",
    ),
    "764bb86369199c97c3285269582cb2a0633f96d6e658b488661ebeb9d6a82592",
)
"""Digest of the encoder of voice models (two of small, one of nano) that shipped while voice files named the whole model."""
_STRETCH = 4096  # hops
_ONE_THREAD = 2**18  # multiplications of a product that OpenBLAS gives to one thread
_MOST_BYTES = 4 * 2**20  # a voice of 128 values has 3 kB
_ACTIVE_BELOW_PEAK = 0.75  # 30 dB on the [-1, 1] = [-90, -10] dB level scale
_LEAST_LENGTH = 0.1
"""Least length of the mean of a talker's unit vectors: what has less points nowhere."""
_SPEECH_MOVES_DB = 5.0
"""Least movement of band levels against each other. Measured: 60 clips of speech 6.7 to 10.2, white noise (steady or gated) 3.4,
rain, sea, engines and dishes 3.4 to 5.0, a tone 0.5; barking dogs and crying babies pass."""
_ACTIVE_ABOVE_FLOOR = 0.1  # 4 dB over digital silence: a recording of nothing has no active frames


def pooled_levels(levels: Float) -> Float:
    """Frames of 16 ms, ``[frames, bands] -> [frames // POOL, bands]``."""
    pooled: Float = levels[: len(levels) // POOL * POOL].reshape(-1, POOL, levels.shape[-1]).mean(axis=1)
    return pooled


def active_levels(levels: Float) -> Float:
    """Pooled band levels of the frames that hold speech, ``[frames, bands] -> [active, bands]``.

    The mean level is removed: how loud somebody was recorded says nothing about who it is.
    """
    pooled = pooled_levels(levels)
    active: Float = pooled[active_frames(pooled)]
    # The mean in float64, for the reason of :meth:`VoiceModel._weights`.
    return active - np.float32(active.mean(dtype=np.float64)) if len(active) else active


def active_frames(pooled: Float) -> NDArray[np.bool_]:
    """Whether each of ``[frames, bands]`` pooled levels holds speech: its loudest bands are within 30 dB of the 95th percentile."""
    if not len(pooled):
        return np.zeros(0, bool)
    loudness = np.sort(pooled, axis=1)[:, -pooled.shape[1] // 4 :].mean(axis=1)
    active: NDArray[np.bool_] = (loudness > np.percentile(loudness, 95) - _ACTIVE_BELOW_PEAK) & (
        loudness > -1 + _ACTIVE_ABOVE_FLOOR
    )
    return active


def speech_levels(frame: FrameSpec, clip: Float) -> Float:
    """:func:`active_levels` of a signal ``[samples]`` at the geometry's rate."""
    # In stretches: the spectra of five minutes are 300 MB. Each begins with what its first window still sees of the one before.
    size, before = _STRETCH * frame.hop, (frame.window // frame.hop - 1) * frame.hop
    levels = [np.zeros((0, frame.bands), np.float32)]
    for at in range(0, len(clip), size):
        seen = min(at, before)
        levels.append(frame.band_levels(frame.analyze(clip[None, at - seen : at + size]))[seen // frame.hop :])
    return active_levels(np.concatenate(levels))


@dataclass(frozen=True, eq=False)
class VoiceModel:
    """Encoder and modulation heads: ``arrays`` by name, int8 matrices each with a ``<name>.scale`` per row.

    ``local.*`` are the heads of averaged layers, if the model listens to them. Without ``encoder.*`` embeddings are made elsewhere.
    """

    frame: FrameSpec
    blocks: int
    arrays: Mapping[str, NDArray[np.generic]]

    @cached_property
    def encoder_digest(self) -> str:
        """Hex SHA-256 of the encoder and of what it hears, by which a :class:`Voice` names it: one encoder, the same voices.

        Of all arrays where embeddings are made elsewhere: nobody knows by what.
        """
        if not self.encodes:
            return self.digest
        heard = self.frame
        geometry = f"{heard.sample_rate_hz} {heard.hop} {heard.window} {heard.bands} {heard.fine_bands} {self.blocks}"
        return self._hash(geometry, [name for name in self.arrays if name.startswith("encoder.")])

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of encoder and heads, by which voice files of schema 1 name them."""
        return self._hash(f"{self.frame}{self.blocks}", self.arrays)

    def _hash(self, geometry: str, names: Iterable[str]) -> str:
        h = hashlib.sha256(geometry.encode())
        for name in sorted(names):
            h.update(name.encode())
            h.update(np.ascontiguousarray(self.arrays[name]).tobytes())
        return h.hexdigest()

    def hears(self, voice: Voice) -> bool:
        """Whether a voice was made by this encoder."""
        return voice.encoder in (self.encoder_digest, self.digest if voice.schema == _NAMES_MODEL else None)

    @cached_property
    def _weights(self) -> dict[str, Double]:
        """Dequantized weights.

        Voices are computed in float64 and rounded once: processors add in other orders, and what they differ by in float32 moved a
        bias of the network by one, and its sound by an LSB.
        """
        out = {}
        for name, value in self.arrays.items():
            if not name.endswith(".scale"):
                scale = self.arrays.get(f"{name}.scale")
                real = value.astype(np.float32) if scale is None else value.astype(np.float32) * scale.astype(np.float32)[:, None]
                out[name] = real.astype(np.float64)
        return out

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the modulations this model makes (the ``film`` of graph nodes)."""
        return tuple(
            sorted(n[len("film.") : -len(".weight")] for n in self._weights if n.startswith("film.") and n.endswith(".weight"))
        )

    @property
    def dimension(self) -> int:
        """Length of the unit vector that a voice starts with."""
        return int(self.arrays["code.weight"].shape[1])

    @property
    def size(self) -> int:
        """Values in a voice: the unit vector, then the averages of each layer if the model listens to them."""
        local = self.arrays.get("local.mean")
        return self.dimension + (0 if local is None else local.size)

    @property
    def encodes(self) -> bool:
        """Whether the model makes voices from recordings; if not, embeddings come from another model."""
        return "encoder.out.weight" in self.arrays

    def embed(self, levels: Float) -> Float:
        """``[frames, bands]`` from :func:`active_levels` to a unit vector ``[dimension]``."""
        return self.describe(levels)[: self.dimension]

    def describe(self, levels: Float) -> Float:
        """``[frames, bands]`` from :func:`active_levels` to all values of a voice, ``[size]``.

        ``ArtifactError`` if the model has no encoder.
        """
        if not self.encodes:
            raise ArtifactError(
                f"this model takes embeddings of {self.dimension} values that another one makes: "
                "enroll with `edge-tse enroll --embedding FILE.npy`"
            )
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what comes of absurd weights is found here
            voice = self._describe(levels)
        if not np.isfinite(voice).all():
            raise ArtifactError("the encoder makes voices that are not finite of this recording: make the artifact again")
        return voice

    def _describe(self, levels: Float) -> Float:
        w, averages = self._weights, []
        x = _relu(_product(levels.astype(np.float64), w["encoder.stem.weight"]) + w["encoder.stem.bias"])
        for i in range(self.blocks):
            name = f"encoder.block.{i}"
            h = _same_depthwise(x, w[f"{name}.depthwise.weight"], 2**i) + w[f"{name}.depthwise.bias"]
            h = _relu(_product(h, w[f"{name}.expand.weight"]) + w[f"{name}.expand.bias"])
            x = x + _product(h, w[f"{name}.project.weight"]) + w[f"{name}.project.bias"]
            averages.append(x.mean(axis=0))
        a = (
            _product(np.tanh(_product(x, w["encoder.attend.weight"]) + w["encoder.attend.bias"]), w["encoder.score.weight"])
            + w["encoder.score.bias"]
        )
        a = np.exp(a - a.max(axis=0))
        a /= a.sum(axis=0)
        mean = (a * x).sum(axis=0)
        std = np.sqrt(np.maximum((a * x * x).sum(axis=0) - mean**2, 1e-5))
        e = w["encoder.out.weight"] @ np.concatenate([mean, std]) + w["encoder.out.bias"]
        voice: Float = np.concatenate([e / np.linalg.norm(e), *averages])[: self.size].astype(np.float32)
        return voice

    def average(self, voices: Sequence[Float], weights: Sequence[float]) -> Float:
        """One voice of several of the same talker, ``[size]`` each: the mean, its first part a unit vector again."""
        mean: Double = np.average(np.stack(voices).astype(np.float64), axis=0, weights=weights)
        mean[: self.dimension] /= np.linalg.norm(mean[: self.dimension])
        return mean.astype(np.float32)

    def modulation(self, embedding: Float) -> dict[str, tuple[Float, Float]]:
        """Positive scale and shift of each channel per slot, ``{slot: ([channels], [channels])}``.

        ``embedding`` ``[size]`` is that of a :class:`Voice`; ``ArtifactError`` if it is of another size, or a value is not finite.
        """
        if len(embedding) != self.size:
            raise ArtifactError(
                f"the voice holds {len(embedding)} values, the model takes {self.size}: enroll again for this model"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of absurd weights is found here
            made = self._modulate(embedding)
        if not all(np.isfinite(values).all() for pair in made.values() for values in pair):
            raise ArtifactError("the modulations of this voice are not finite: enroll again, or make the artifact again")
        return made

    def _modulate(self, embedding: Float) -> dict[str, tuple[Float, Float]]:
        w = self._weights
        unit, averages = np.split(embedding.astype(np.float64), [self.dimension])
        code = _relu(w["code.weight"] @ (unit * np.sqrt(len(unit))) + w["code.bias"])
        raw = {slot: w[f"film.{slot}.weight"] @ code + w[f"film.{slot}.bias"] for slot in self.slots}
        if len(averages):
            standard = np.split((averages - w["local.mean"]) / w["local.deviation"], self.blocks)
            codes = [_relu(w[f"local.{i}.weight"] @ x + w[f"local.{i}.bias"]) for i, x in enumerate(standard)]
            for slot, layer in matching_layers(self.slots, self.blocks).items():
                raw[slot] = raw[slot] + w[f"local.film.{slot}.weight"] @ codes[layer]
        halves = {slot: np.split(value, 2) for slot, value in raw.items()}
        made = {slot: (np.exp(np.tanh(scale)), shift) for slot, (scale, shift) in halves.items()}
        return {slot: (scale.astype(np.float32), shift.astype(np.float32)) for slot, (scale, shift) in made.items()}


@dataclass(frozen=True, eq=False)
class Voice:
    """An enrolled talker."""

    embedding: Float
    """Unit vector; then the averages of the encoder's layers, where the model listens to them."""
    encoder_digest: str
    """:attr:`VoiceModel.encoder_digest` of the encoder that made it; in schema 1, :attr:`VoiceModel.digest`."""
    created: str
    """ISO 8601, UTC."""
    source: str
    """Names of the clips, for people."""
    speech_s: float | None = None
    """Seconds of speech that it rests on; None where nobody counted them: of embeddings, and in schema 1."""
    schema: int = VOICE_SCHEMA
    """Version of its file."""

    @property
    def encoder(self) -> str:
        """Digest of its encoder; in schema 1, where it is known."""
        return _SHIPPED_WITH.get(self.encoder_digest, self.encoder_digest) if self.schema == _NAMES_MODEL else self.encoder_digest

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the voice's file, by which recordings name it."""
        return hashlib.sha256(voice_bytes(self)).hexdigest()


def matching_layers(slots: Iterable[str], layers: int) -> dict[str, int]:
    """The encoder's layer that each slot (``stage.index``) listens to: early blocks to early layers, in every stage."""
    blocks: dict[str, list[int]] = {}
    for slot in slots:
        stage, _, index = slot.rpartition(".")
        blocks.setdefault(stage, []).append(int(index))
    return {f"{stage}.{i}": i * layers // len(indices) for stage, indices in blocks.items() for i in indices}


def enroll_signals(model: VoiceModel, clips: Sequence[Float], created: str, source: str) -> Voice:
    """Average the embeddings of clips (``[samples]`` each, at the model's rate), weighted by how much speech each holds.

    ``AudioError`` when together they hold less than :data:`MIN_SPEECH_S` of sound, or when it does not move as speech does.
    """
    levels = [speech_levels(model.frame, clip) for clip in clips]
    speech_s = sum(len(x) for x in levels) * POOL * model.frame.period_s
    if speech_s < MIN_SPEECH_S:
        raise AudioError(
            f"{source}: {speech_s:.1f} s of speech, at least {MIN_SPEECH_S:.1f} s are needed: record a longer or louder clip"
        )
    moves_db = _movement_db(np.concatenate(levels))
    if moves_db < _SPEECH_MOVES_DB:
        raise AudioError(
            f"{source}: no speech found: band levels vary by {moves_db:.1f} dB, speech varies by at least "
            f"{_SPEECH_MOVES_DB:.1f} dB: record the talker alone"
        )
    spoken = [x for x in levels if len(x)]
    embedding = model.average([model.describe(x) for x in spoken], [len(x) for x in spoken])
    return Voice(
        embedding=embedding, encoder_digest=model.encoder_digest, created=created, source=source, speech_s=round(speech_s, 3)
    )


def voice_from_embeddings(model: VoiceModel, files: Sequence[Path], created: str) -> Voice:
    """A voice of the mean of embeddings from files.

    ``AudioError`` if the model has an encoder of its own, an embedding is not of its size, or they cancel out.
    """
    if model.encodes:
        raise AudioError("this model listens to voices of its own encoder, embeddings are another's: enroll from recordings")
    vectors = []
    for path in files:
        vectors.append(read_embeddings(path))
        if vectors[-1].shape[1] != model.size:
            raise AudioError(
                f"{path} holds an embedding of {vectors[-1].shape[1]} values, the model takes {model.size}: "
                "use the model that its training embeddings were made with"
            )
    every = np.concatenate(vectors)
    length = float(np.linalg.norm(every.mean(axis=0)))
    if length < _LEAST_LENGTH:
        raise AudioError(
            f"{len(every)} embeddings cancel out: their mean has length {length:.2g}, at least {_LEAST_LENGTH:g} is needed: "
            "give embeddings of one talker"
        )
    embedding = model.average(list(every), [1.0] * len(every))
    names = ", ".join(path.name for path in files)
    return Voice(embedding=embedding, encoder_digest=model.encoder_digest, created=created, source=names)


def save_voice(voice: Voice, path: str | Path) -> None:
    """Write a voice as JSON, whole or not at all, for its owner to read. ``ArtifactError`` if it cannot be written."""
    write_bytes(Path(path), voice_bytes(voice), ArtifactError, private=True)


def load_voice(path: str | Path) -> Voice:
    """Read a voice file.

    ``ArtifactError`` if it is not there, not a voice, of a future schema, or changed in any byte since it was written.
    """
    return parse_voice(read_bytes(Path(path), _MOST_BYTES, ArtifactError, "voice"), str(path))


def parse_voice(content: bytes, source: str) -> Voice:
    """Inverse of :func:`voice_bytes`; ``source`` names the content in messages. Errors as of :func:`load_voice`."""
    again = "enroll again with `edge-tse enroll`"
    fields = parse_json(content, f"{source} is not an edge-tse voice, or a truncated one, or damaged: it", ArtifactError, again)
    if "edge_tse_voice" not in fields:
        raise ArtifactError(f"{source} is not an edge-tse voice, it states no edge_tse_voice: {again}")
    schema = fields["edge_tse_voice"]
    if isinstance(schema, int) and schema > VOICE_SCHEMA:
        raise ArtifactError(f"{source} has schema {quote(schema)}, this edge-tse reads up to {VOICE_SCHEMA}: upgrade edge-tse")
    try:
        with np.errstate(over="ignore"):  # a damaged exponent is found below
            embedding = np.array(fields["embedding"], np.float32)
        names = ("model_digest" if schema == _NAMES_MODEL else "encoder_digest", "created", "source")
        speech_s = None if schema == _NAMES_MODEL else fields["speech_s"]
        digest, created, clips = (str(fields[name]) for name in names)
        voice = Voice(embedding, digest, created, clips, None if speech_s is None else float(speech_s), int(schema))
        whole = schema in (_NAMES_MODEL, VOICE_SCHEMA) and voice_bytes(voice) == content
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise ArtifactError(f"{source} is damaged: {again}") from error
    counted = voice.speech_s is None or 0 <= voice.speech_s < np.inf
    if not whole or not counted or voice.embedding.ndim != 1 or not np.isfinite(voice.embedding).all():
        raise ArtifactError(f"{source} is damaged or was edited, its checksum does not fit: {again}")
    return voice


def voice_bytes(voice: Voice) -> bytes:
    """Content of a voice file. There is one way to write a voice: a file that differs in any byte is not a voice."""
    fields: dict[str, object] = {"edge_tse_voice": voice.schema, "source": voice.source, "created": voice.created}
    if voice.schema == _NAMES_MODEL:
        fields["model_digest"] = voice.encoder_digest
    else:
        fields |= {"encoder_digest": voice.encoder_digest, "speech_s": voice.speech_s}
    fields["embedding"] = voice.embedding.tolist()
    fields["checksum"] = hashlib.sha256(json.dumps(fields).encode()).hexdigest()
    return json.dumps(fields, indent=1).encode() + b"\n"


def _movement_db(active: Float) -> float:
    """Standard deviation of ``[frames, bands]`` levels in dB, without the movement common to all bands and each band's mean."""
    around = active - active.mean(axis=1, keepdims=True) - active.mean(axis=0) + active.mean()
    return 40 * float(around.std())


def _relu(x: Double) -> Double:
    return np.maximum(x, 0)


def _product(rows: Double, weight: Double) -> Double:
    """``rows @ weight.T``, a few rows at a time.

    OpenBLAS shares larger products among threads, which wait for each other by spinning: on two busy cores an embedding of 3 s took
    129 ms of processor time in place of 4 (in float32; 5 in float64).
    """
    out = np.empty((len(rows), len(weight)))
    few = max(1, _ONE_THREAD // weight.size)
    for at in range(0, len(rows), few):
        np.matmul(rows[at : at + few], weight.T, out=out[at : at + few])
    return out


def _same_depthwise(x: Double, weight: Double, dilation: int) -> Double:
    """Centred depthwise convolution in time, zero padded: ``[frames, channels]`` with ``weight [channels, 3]``."""
    padded = np.pad(x, ((dilation, dilation), (0, 0)))
    out = np.zeros_like(x)
    for k in range(weight.shape[1]):
        out += padded[k * dilation : k * dilation + len(x)] * weight[:, k]
    return out
