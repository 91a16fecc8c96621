"""A model with a voice: folded into its constants, or as inputs of the universal form (:mod:`edge_tse.universal`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.errors import ArtifactError
from edge_tse.graph import IntegerGraph
from edge_tse.operators import Add, Multiply, Node, Pointwise, Tensor
from edge_tse.quant import INT8_MAX, INT8_MIN
from edge_tse.universal import STEPS, Modulation, Reach, grid
from edge_tse.voice import Voice, VoiceModel

__all__ = ["check_voice", "personalize", "universal", "voice_inputs", "with_voices"]

Int8 = NDArray[np.int8]

_OFF_UNIT = 1e-3
"""Deviation of a unit vector's length from 1 that rounding may cause."""
_BEYOND = 0.1
"""Share of channels that may saturate. Measured: 0.02 % for talkers unseen in training, 38 % where two talkers made the reach."""


def personalize(artifact: Artifact, voice: Voice) -> Artifact:
    """The artifact with this voice folded into its constants: same weights, same size, no speaker input.

    ``ArtifactError`` if the voice was made by another encoder, or a voice is already folded in.
    """
    model = artifact.voice_model
    check_voice(model, voice)
    return artifact.with_graph(artifact.graph.fold(model.modulation(voice.embedding)))


def check_voice(model: VoiceModel, voice: Voice) -> None:
    """``ArtifactError`` if the voice was made by another encoder than this model's, or does not begin with a unit vector."""
    if not model.hears(voice):
        raise ArtifactError(
            f"the voice was made by encoder {voice.encoder[:12]}, this model listens to voices of {model.encoder_digest[:12]}: "
            "enroll again with `edge-tse enroll --artifact`"
        )
    unit = voice.embedding[: model.dimension]
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(unit))
    if len(unit) < model.dimension or not abs(length - 1) < _OFF_UNIT:
        raise ArtifactError(
            f"the voice begins with {len(unit)} values of length {length:.3g}, this model listens to {model.dimension} of "
            "length 1: enroll again with `edge-tse enroll`"
        )


def universal(artifact: Artifact, voice: Voice | None = None) -> Artifact:
    """The artifact in its universal form: a voice is int8 inputs, at first those of ``voice``, or neutral ones if None.

    ``ArtifactError`` if a voice is folded in already, the artifact does not know its :class:`Reach`, or the voice is another
    encoder's.
    """
    if not artifact.graph.films:
        raise ArtifactError("this model has no open modulations: the universal form is made of an artifact without a voice")
    if artifact.reach.keys() != artifact.graph.films.keys():
        raise ArtifactError(
            "this artifact has no universal form, because it states no reach of its modulations: "
            "make it again with `edge-tse quantize`, or fold a voice in"
        )
    made = artifact.with_graph(_graph(artifact.graph, artifact.reach))
    return made if voice is None else made.with_graph(replace(made.graph, voice=voice_inputs(made, voice)))


def with_voices(artifact: Artifact, voices: Sequence[Voice]) -> Artifact:
    """The artifact for these voices, of which it hears the first: one is folded in, several need the universal form.

    ``ArtifactError`` if a voice was made by another encoder.
    """
    for voice in voices:
        check_voice(artifact.voice_model, voice)
    return personalize(artifact, voices[0]) if len(voices) == 1 else universal(artifact, voices[0])


def voice_inputs(artifact: Artifact, voice: Voice) -> dict[str, Int8]:
    """Voice inputs of a :func:`universal` artifact that make it hear ``voice``: int8 ``[channels]`` by name of the input.

    A channel that a voice takes beyond its :class:`Reach` saturates. ``ArtifactError`` if that is more than a few of them, the
    artifact takes no voice at run time, or the voice is another encoder's.
    """
    if not artifact.graph.voice:
        raise ArtifactError("this model takes no voice while it runs: make its universal form, or fold the voice in")
    check_voice(artifact.voice_model, voice)
    asked = _in_steps(artifact.graph.tensors, artifact.reach, artifact.voice_model.modulation(voice.embedding))
    thresholds = np.concatenate([asked[f"{slot}.threshold"] for slot in artifact.reach])
    # The lowest threshold asks for one more than int8 has: that step is nobody's loss.
    beyond = np.count_nonzero(thresholds > INT8_MAX + 1.5)
    if beyond > (most := int(_BEYOND * len(thresholds))):
        raise ArtifactError(
            f"this voice is beyond the reach of the universal form in {beyond} of {len(thresholds)} channels, {most} may saturate: "
            "fold it in, or make the model again with `edge-tse quantize` on more talkers"
        )
    return _saturate(asked)


def _graph(graph: IntegerGraph, reach: Mapping[str, Reach]) -> IntegerGraph:
    tensors: dict[str, Tensor] = dict(graph.tensors)
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, Pointwise) and node.film is not None:
            added = _film_tensors(node.film, graph.tensors[node.output], reach[node.film])
            tensors |= {tensor.name: tensor for tensor in added}
            nodes += _nodes(node, graph, reach[node.film], *(tensor.name for tensor in added))
        else:
            nodes.append(node)
    neutral = {slot: (np.ones(n, np.float32), np.zeros(n, np.float32)) for slot, n in graph.films.items()}
    return replace(graph, tensors=tensors, nodes=tuple(nodes), voice=_saturate(_in_steps(tensors, reach, neutral)))


def _film_tensors(slot: str, out: Tensor, reach: Reach) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tensors of sum, threshold, rectified sum and gain. The first three have steps per channel and share a nominal scale."""
    largest = (reach.scale * reach.steps(out.scale)).max() / out.scale
    return (
        replace(out, name=f"{slot}.sum", zero_point=0),
        Tensor(name=f"{slot}.threshold", frames=1, channels=out.channels, scale=out.scale),
        replace(out, name=f"{slot}.heard", zero_point=INT8_MIN),
        Tensor(name=f"{slot}.gain", frames=1, channels=out.channels, scale=float(largest / STEPS), zero_point=INT8_MIN),
    )


def _nodes(node: Pointwise, graph: IntegerGraph, reach: Reach, total: str, threshold: str, heard: str, gain: str) -> list[Node]:
    source, out = graph.tensors[node.input], graph.tensors[node.output]
    own = (node.weight_scale * (out.scale / reach.steps(out.scale))).astype(np.float32)
    bias = node.bias - np.rint(reach.middles(out.scale) / grid(node, source))
    return [
        replace(node, output=total, weight_scale=own, bias=np.clip(bias, -(2**31), 2**31 - 1).astype(np.int32), film=None),
        Add(name=f"{node.film}.relu", left=total, right=threshold, output=heard),
        Multiply(name=f"{node.film}.modulate", left=heard, right=gain, output=node.output),
    ]


def _in_steps(tensors: Mapping[str, Tensor], reach: Mapping[str, Reach], modulation: Modulation) -> dict[str, NDArray[np.float64]]:
    """Voice inputs in their steps, before they are rounded and clipped to int8."""
    values: dict[str, NDArray[np.float64]] = {}
    for slot, own in reach.items():
        threshold, gain = tensors[f"{slot}.threshold"], tensors[f"{slot}.gain"]
        steps, middles = own.steps(threshold.scale), own.middles(threshold.scale)
        scale, shift = (np.asarray(x, np.float64) for x in modulation[slot])
        values[threshold.name] = (middles + shift / scale) / steps
        values[gain.name] = scale * steps / threshold.scale / gain.scale + gain.zero_point
    return values


def _saturate(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Int8]:
    return {name: np.clip(np.rint(value), INT8_MIN, INT8_MAX).astype(np.int8) for name, value in values.items()}
