"""Random but realistic models of the student's shape, for everybody's tests: nothing here is trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.frame import FrameSpec
from edge_tse.golden import record
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Node, Pointwise, Sigmoid, State, Tail, Tanh, Tensor
from edge_tse.universal import reaches
from edge_tse.voice import Voice, VoiceModel

Array = NDArray[np.generic]

FEATURE_SCALE = 1 / 127


@dataclass(frozen=True)
class Sizes:
    """Shape of a student: stage 1 masks, stage 2 refines."""

    channels: int
    hidden: int
    dilations: tuple[int, ...]
    refine_channels: int
    refine_hidden: int
    refine_dilations: tuple[int, ...]
    frame: FrameSpec = field(default_factory=FrameSpec)

    @property
    def slots(self) -> dict[str, int]:
        """Voice modulations and their channels."""
        mask = {f"mask.{i}": self.hidden for i in range(len(self.dilations))}
        return mask | {f"refine.{i}": self.refine_hidden for i in range(len(self.refine_dilations))}


_OCTAVES = (1, 2, 4, 8, 16, 32, 64, 128)
SMALL_FRAME = FrameSpec(hop=8, window=32, synthesis=16, bands=8, fine_bands=3, spatial_bands=4)
TINY = Sizes(8, 12, (1, 2), 6, 8, (1,), SMALL_FRAME)
NANO = Sizes(64, 96, _OCTAVES[:6], 48, 64, _OCTAVES[:3])
BEAM = replace(NANO, frame=FrameSpec(beam=True, level_invariant=True))
"""Its second stage hears how loud a beam is, and says how much of it to take."""
SMALL = Sizes(128, 192, _OCTAVES, 96, 128, _OCTAVES[:4])


class _Builder:
    """Collects nodes; scales follow the expected spread of each activation, so that values are neither dead nor stuck."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.states: list[State] = []

    def tensor(self, name: str, frames: int, channels: int, scale: float, zero_point: int = 0) -> str:
        self.tensors[name] = Tensor(name=name, frames=frames, channels=channels, scale=scale, zero_point=zero_point)
        return name

    def pointwise(self, name: str, source: str, channels: int, scale: float, zero_point: int = 0, film: str | None = None) -> str:
        """Weights such that the output's standard deviation is about a third of its range."""
        x = self.tensors[source]
        out = self.tensor(f"{name}.out", x.frames, channels, scale, zero_point)
        weight = self.rng.integers(-127, 128, (channels, x.channels)).astype(np.int8)
        spread = self.rng.uniform(0.5, 1.5, channels)
        weight_scale = (40 * scale * spread / (73 * 50 * x.scale * np.sqrt(x.channels))).astype(np.float32)
        bias = self.rng.normal(0, 15, channels) * scale / (x.scale * weight_scale)
        self.nodes.append(
            Pointwise(
                name=name,
                input=source,
                output=out,
                weight=weight,
                weight_scale=weight_scale,
                bias=np.rint(bias).astype(np.int32),
                film=film,
            )
        )
        return out

    def depthwise(self, name: str, source: str, dilation: int, scale: float, taps: int = 3) -> str:
        x = self.tensors[source]
        out = self.tensor(f"{name}.out", x.frames - (taps - 1) * dilation, x.channels, scale)
        weight = self.rng.integers(-127, 128, (taps, x.channels)).astype(np.int8)
        weight_scale = (scale / x.scale / (73 * np.sqrt(taps)) * self.rng.uniform(0.5, 1.5, x.channels)).astype(np.float32)
        bias = np.rint(self.rng.normal(0, 10, x.channels) * scale / (x.scale * weight_scale)).astype(np.int32)
        self.nodes.append(
            Depthwise(name=name, input=source, output=out, weight=weight, weight_scale=weight_scale, bias=bias, dilation=dilation)
        )
        return out

    def window(self, name: str, source: str, past: int) -> str:
        """``source`` behind its last ``past`` frames."""
        x = self.tensors[source]
        history = self.tensor(f"{name}.history", past, x.channels, x.scale, x.zero_point)
        window = self.tensor(f"{name}.window", past + x.frames, x.channels, x.scale, x.zero_point)
        remembered = self.tensor(f"{name}.remembered", past, x.channels, x.scale, x.zero_point)
        self.nodes.append(Append(name=f"{name}.append", history=history, input=source, output=window))
        self.nodes.append(Tail(name=f"{name}.tail", input=window, output=remembered))
        self.states.append(State(name=name, input=history, output=remembered))
        return window

    def add(self, name: str, left: str, right: str) -> str:
        x = self.tensors[left]
        out = self.tensor(f"{name}.out", x.frames, x.channels, x.scale)
        self.nodes.append(Add(name=name, left=left, right=right, output=out))
        return out

    def stage(self, name: str, x: str, hidden: int, dilations: tuple[int, ...]) -> str:
        stream = self.tensors[x]
        for i, dilation in enumerate(dilations):
            block = f"{name}.{i}"
            window = self.window(block, x, 2 * dilation)
            h = self.depthwise(f"{block}.depthwise", window, dilation, float(self.rng.uniform(0.01, 0.03)))
            h = self.pointwise(f"{block}.expand", h, hidden, float(self.rng.uniform(0.01, 0.02)), -128, film=block)
            h = self.pointwise(f"{block}.project", h, stream.channels, stream.scale)
            x = self.add(f"{block}.add", x, h)
        return x


def student(sizes: Sizes = TINY, seed: int = 0) -> IntegerGraph:
    """A graph of the student's shape with random constants, its voice modulations open."""
    b = _Builder(np.random.default_rng(seed))
    bands = sizes.frame.bands
    features = b.tensor("features", 1, sizes.frame.features, FEATURE_SCALE)
    x = b.pointwise("stem", features, sizes.channels, 0.03)
    x = b.stage("mask", x, sizes.hidden, sizes.dilations)
    logits = b.pointwise("mask.head", x, bands, 0.05)
    mask = b.tensor("mask", 1, bands, 1 / 256, -128)
    b.nodes.append(Sigmoid(name="mask.sigmoid", input=logits, output=mask))
    left = b.pointwise("refine.hidden", x, sizes.refine_channels, 0.04)
    right = b.pointwise("refine.gain", mask, sizes.refine_channels, 0.04)
    x = b.add("refine.in", left, right)
    if sizes.frame.beam:
        x = b.add("refine.all", x, b.pointwise("refine.beam", features, sizes.refine_channels, 0.04))
    x = b.stage("refine", x, sizes.refine_hidden, sizes.refine_dilations)
    logits = b.pointwise("refine.head", x, bands, 0.02)
    velocity = b.tensor("velocity", 1, bands, 1 / 128)
    b.nodes.append(Tanh(name="velocity.tanh", input=logits, output=velocity))
    if sizes.frame.beam:
        logits = b.pointwise("share.head", x, bands, 0.05)
        b.nodes.append(Sigmoid(name="share.sigmoid", input=logits, output=b.tensor("share", 1, bands, 1 / 256, -128)))
    return IntegerGraph(
        tensors=b.tensors, nodes=tuple(b.nodes), inputs=("features",), outputs=sizes.frame.moves, states=tuple(b.states)
    )


def features(sizes: Sizes, frames: int, seed: int = 0) -> NDArray[np.int8]:
    """``[frames, n]``: correlated in time like speech, with runs of digital extremes."""
    rng = np.random.default_rng(seed)
    n = sizes.frame.features
    walk = np.cumsum(rng.normal(0, 12, (frames, n)), axis=0) + rng.normal(0, 20, (frames, n))
    q: NDArray[np.int8] = np.clip(np.rint(walk), -128, 127).astype(np.int8)
    if frames >= 64:
        q[16:24], q[24:32], q[40:44] = -128, 127, 0
        q[48:56] = rng.choice(np.array([-128, 127], np.int8), (8, n))
    return q


def voice_model(
    sizes: Sizes = TINY, seed: int = 0, channels: int = 16, embedding: int = 128, code: int = 64, blocks: int = 2
) -> VoiceModel:
    """An encoder and modulation heads with random int8 weights."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}

    def matrix(name: str, rows: int, columns: int, spread: float = 1.0) -> None:
        arrays[f"{name}.weight"] = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
        arrays[f"{name}.weight.scale"] = (spread * rng.uniform(0.5, 1.5, rows) / (73 * np.sqrt(columns))).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 0.1, rows).astype(np.float32)

    hidden = 2 * channels
    matrix("encoder.stem", channels, sizes.frame.bands)
    for i in range(blocks):
        matrix(f"encoder.block.{i}.depthwise", channels, 3)
        matrix(f"encoder.block.{i}.expand", hidden, channels)
        matrix(f"encoder.block.{i}.project", channels, hidden)
    matrix("encoder.attend", channels // 2, channels)
    matrix("encoder.score", channels, channels // 2)
    matrix("encoder.out", embedding, 2 * channels)
    matrix("code", code, embedding)
    for slot, n in sizes.slots.items():
        matrix(f"film.{slot}", 2 * n, code, 0.5)
    return VoiceModel(sizes.frame, blocks, arrays)


def artifact(sizes: Sizes = TINY, seed: int = 0, frames: int = 40) -> Artifact:
    """A complete artifact with recorded golden frames."""
    graph, model = student(sizes, seed), voice_model(sizes, seed)
    rows = features(sizes, frames, seed)
    voices = [model.modulation(embedding(i)) for i in range(8)]
    return Artifact(
        frame=sizes.frame,
        graph=graph,
        voice_model=model,
        golden=record(graph, rows),
        provenance={"recipe": "random", "seed": seed},
        reach=reaches(graph, voices, [(voices[0], rows[:40])]),
    )


def voice(model: VoiceModel, seed: int = 0) -> Voice:
    """A random talker."""
    return Voice(embedding=embedding(seed, model.dimension), encoder_digest=model.encoder_digest, created="", source="")


def embedding(seed: int = 0, dimension: int = 128) -> NDArray[np.float32]:
    """A random unit vector, as a voice has."""
    v = np.random.default_rng(seed).normal(size=dimension)
    return (v / np.linalg.norm(v)).astype(np.float32)
