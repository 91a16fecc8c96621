"""The universal form: one file for every voice, because the voice is among what a step is given.

A personalized graph has its voice in the constants of its convolutions (:mod:`edge_tse.voice`). Runtimes that keep those in a file
need another file for another voice. Here a modulated layer computes its sum without a voice, and two operators follow:
``relu(sum + threshold)``, which is exact, and ``* gain``, rounded once. It is another integer graph of the same model, with
integers of its own.

    relu(scale * real + shift) = scale * relu(real + shift / scale)        because scales are positive

So that one int8 more on the way costs little, every channel has steps of its own: 255 of them from the lowest threshold that a
voice has there (what is below, nobody hears) to the largest value that occurs: its :class:`Reach`. A channel's gain brings its
steps back to the one scale that the next layer reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import ArtifactError
from edge_tse.graph import IntegerGraph
from edge_tse.operators import Add, Multiply, Node, Pointwise, Tensor
from edge_tse.quant import INT8_MAX, INT8_MIN
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import check_voice

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.voice import Voice

__all__ = ["Modulation", "Reach", "reaches", "universal", "voice_inputs"]

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]
Modulation: TypeAlias = Mapping[str, tuple[Float, Float]]
"""Per slot the scale and the shift of each channel, as :meth:`edge_tse.voice.VoiceModel.modulation` makes them."""

_STEPS = INT8_MAX - INT8_MIN
_FINEST = 0.25
"""Least step of a channel, in steps of the tensor that the next layer reads, which rounds away what is finer."""
_BEYOND = 0.1
"""Share of channels that may saturate: talkers whom nobody trained on do in 0.02 %, all others in 38 % where two made the reach."""


@dataclass(frozen=True, eq=False)
class Reach:
    """What can be heard of one modulated layer, before its modulation, and what voices ask of it. ``[channels]`` each."""

    low: Float
    """Lowest threshold of any voice."""
    high: Float
    """Largest value that occurs, or that the next layer can be told."""
    scale: Float
    """Largest scale of any voice."""

    def steps(self, next_scale: float) -> NDArray[np.float64]:
        """Real size of each channel's step, where the next layer reads steps of ``next_scale``."""
        return np.maximum((self.high.astype(np.float64) - self.low) / _STEPS, _FINEST * next_scale)

    def middles(self, next_scale: float) -> NDArray[np.float64]:
        """Real value that becomes 0, so that ``low`` becomes -128."""
        middles: NDArray[np.float64] = self.low - INT8_MIN * self.steps(next_scale)
        return middles


def reaches(graph: IntegerGraph, voices: Sequence[Modulation], heard: Iterable[tuple[Modulation, Int8]]) -> dict[str, Reach]:
    """By slot, for these voices, and for int8 features ``[frames, n]`` that are each heard with one voice."""
    layers = {node.film: node for node in graph.nodes if isinstance(node, Pointwise) and node.film is not None}
    largest: dict[str, list[NDArray[np.float64]]] = {slot: [] for slot in layers}
    for modulation, rows in heard:
        for slot, inputs in _inputs_of(layers, graph.fold(modulation), rows).items():
            node, source = layers[slot], graph.tensors[layers[slot].input]
            sums = (inputs.astype(np.float32) - np.float32(source.zero_point)) @ node.weight.T.astype(np.float32) + node.bias
            largest[slot].append(sums.max(axis=0) * _grid(node, source))
    out = {}
    for slot, node in layers.items():
        scales, shifts = (np.array([voice[slot][i] for voice in voices], np.float64) for i in (0, 1))
        told = (_STEPS * graph.tensors[node.output].scale - shifts) / scales
        out[slot] = Reach(
            low=(-shifts / scales).min(axis=0).astype(np.float32),
            high=np.minimum(told.max(axis=0), np.max(largest[slot], axis=0)).astype(np.float32),
            scale=scales.max(axis=0).astype(np.float32),
        )
    return out


def _inputs_of(layers: Mapping[str, Pointwise], graph: IntegerGraph, rows: Int8) -> dict[str, Int8]:
    """What each layer reads over the frames, ``[frames, channels]``."""
    network = ReferenceNetwork(graph)
    seen: dict[str, list[Int8]] = {slot: [] for slot in layers}
    for row in rows:
        network.run(row)
        for slot, node in layers.items():
            seen[slot].append(network.tensor(node.input)[0])
    return {slot: np.array(values) for slot, values in seen.items()}


def universal(artifact: Artifact, voice: Voice | None = None) -> Artifact:
    """The artifact with its voice as int8 inputs, which are those of ``voice`` until others are given; neutral if None.

    ``ArtifactError`` if a voice is folded in already, the artifact does not know its :class:`Reach`, or the voice is another
    model's.
    """
    if not artifact.graph.films:
        raise ArtifactError("this model has no open modulations: the universal form is made of an artifact without a voice")
    if artifact.reach.keys() != artifact.graph.films.keys():
        raise ArtifactError(
            "this artifact has no universal form, because it does not say what its modulations reach: "
            "make it again with `edge-tse quantize`, or fold a voice in"
        )
    made = artifact.with_graph(_graph(artifact.graph, artifact.reach))
    return made if voice is None else made.with_graph(replace(made.graph, voice=voice_inputs(made, voice)))


def voice_inputs(artifact: Artifact, voice: Voice) -> dict[str, Int8]:
    """What a step of this :func:`universal` artifact is given to hear ``voice``: int8 ``[channels]`` by name of the input.

    A channel that a voice takes beyond its :class:`Reach` saturates. ``ArtifactError`` if that is more than a few of them, the
    artifact takes no voice at run time, or the voice is another model's.
    """
    if not artifact.graph.voice:
        raise ArtifactError("this model takes no voice while it runs: make its universal form, or fold the voice in")
    check_voice(artifact.voice_model, voice)
    asked = _asked(artifact.graph.tensors, artifact.reach, artifact.voice_model.modulation(voice.embedding))
    thresholds = np.concatenate([asked[f"{slot}.threshold"] for slot in artifact.reach])
    # The lowest threshold asks for one more than int8 has: that step is nobody's loss.
    beyond = np.count_nonzero(thresholds > INT8_MAX + 1.5)
    if beyond > (most := int(_BEYOND * len(thresholds))):
        raise ArtifactError(
            f"this voice is beyond the reach of the universal form in {beyond} of {len(thresholds)} channels, {most} may saturate: "
            "fold it in, or make the model again with `edge-tse quantize` on more talkers"
        )
    return _saturated(asked)


def _graph(graph: IntegerGraph, reach: Mapping[str, Reach]) -> IntegerGraph:
    tensors: dict[str, Tensor] = dict(graph.tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Pointwise) and node.film is not None:
            added = _added(node.film, graph.tensors[node.output], reach[node.film])
            tensors |= {tensor.name: tensor for tensor in added}
            nodes += _nodes(node, graph, reach[node.film], *(tensor.name for tensor in added))
        else:
            nodes.append(node)
    neutral = {slot: (np.ones(n, np.float32), np.zeros(n, np.float32)) for slot, n in graph.films.items()}
    return replace(graph, tensors=tensors, nodes=tuple(nodes), voice=_saturated(_asked(tensors, reach, neutral)))


def _added(slot: str, out: Tensor, reach: Reach) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum, threshold, what is above it, and gain. The steps of the first three are a channel's own: they share a nominal scale."""
    largest = (reach.scale * reach.steps(out.scale)).max() / out.scale
    return (
        replace(out, name=f"{slot}.sum", zero_point=0),
        Tensor(name=f"{slot}.threshold", frames=1, channels=out.channels, scale=out.scale),
        replace(out, name=f"{slot}.heard", zero_point=INT8_MIN),
        Tensor(name=f"{slot}.gain", frames=1, channels=out.channels, scale=float(largest / _STEPS), zero_point=INT8_MIN),
    )


def _nodes(node: Pointwise, graph: IntegerGraph, reach: Reach, total: str, threshold: str, heard: str, gain: str) -> list[Node]:
    source, out = graph.tensors[node.input], graph.tensors[node.output]
    own = (node.weight_scale * (out.scale / reach.steps(out.scale))).astype(np.float32)
    bias = node.bias - np.rint(reach.middles(out.scale) / _grid(node, source))
    return [
        replace(node, output=total, weight_scale=own, bias=np.clip(bias, -(2**31), 2**31 - 1).astype(np.int32), film=None),
        Add(name=f"{node.film}.relu", left=total, right=threshold, output=heard),
        Multiply(name=f"{node.film}.modulate", left=heard, right=gain, output=node.output),
    ]


def _asked(tensors: Mapping[str, Tensor], reach: Mapping[str, Reach], modulation: Modulation) -> dict[str, NDArray[np.float64]]:
    """What voice inputs should be, in their steps, before they are made int8."""
    values: dict[str, NDArray[np.float64]] = {}
    for slot, own in reach.items():
        threshold, gain = tensors[f"{slot}.threshold"], tensors[f"{slot}.gain"]
        steps, middles = own.steps(threshold.scale), own.middles(threshold.scale)
        scale, shift = (np.asarray(x, np.float64) for x in modulation[slot])
        values[threshold.name] = (middles + shift / scale) / steps
        values[gain.name] = scale * steps / threshold.scale / gain.scale + gain.zero_point
    return values


def _saturated(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Int8]:
    return {name: np.clip(np.rint(value), INT8_MIN, INT8_MAX).astype(np.int8) for name, value in values.items()}


def _grid(node: Pointwise, source: Tensor) -> NDArray[np.float64]:
    return np.float64(source.scale) * node.weight_scale.astype(np.float64)
