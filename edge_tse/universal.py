"""The universal form: one file for every voice, because the voice is an input of a step.

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
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_tse.graph import IntegerGraph
from edge_tse.operators import Pointwise, Tensor
from edge_tse.quant import INT8_MAX, INT8_MIN
from edge_tse.reference import ReferenceNetwork

__all__ = ["Modulation", "Reach", "grid", "reaches"]

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]
Modulation: TypeAlias = Mapping[str, tuple[Float, Float]]
"""Per slot the scale and the shift of each channel, as :meth:`edge_tse.voice.VoiceModel.modulation` makes them."""

STEPS = INT8_MAX - INT8_MIN
_FINEST = 0.25
"""Finest step of a channel, in steps of the tensor that the next layer reads, which rounds away anything finer."""


@dataclass(frozen=True, eq=False)
class Reach:
    """Range of one modulated layer: values before modulation, and thresholds and scales of voices. ``[channels]`` each."""

    low: Float
    """Lowest threshold of any voice."""
    high: Float
    """Largest value that occurs, or that the next layer can represent."""
    scale: Float
    """Largest scale of any voice."""

    def steps(self, next_scale: float) -> NDArray[np.float64]:
        """Real size of each channel's step, where the next layer reads steps of ``next_scale``."""
        return np.maximum((self.high.astype(np.float64) - self.low) / STEPS, _FINEST * next_scale)

    def middles(self, next_scale: float) -> NDArray[np.float64]:
        """Real value that becomes 0, so that ``low`` becomes -128."""
        middles: NDArray[np.float64] = self.low - INT8_MIN * self.steps(next_scale)
        return middles


def reaches(graph: IntegerGraph, voices: Sequence[Modulation], heard: Iterable[tuple[Modulation, Int8]]) -> dict[str, Reach]:
    """Reach of each slot, for these voices and for int8 features ``[frames, n]`` that are each heard with one voice."""
    layers = {node.film: node for node in graph.nodes if isinstance(node, Pointwise) and node.film is not None}
    largest: dict[str, list[NDArray[np.float64]]] = {slot: [] for slot in layers}
    for modulation, rows in heard:
        for slot, inputs in _inputs_of(layers, graph.fold(modulation), rows).items():
            node, source = layers[slot], graph.tensors[layers[slot].input]
            sums = (inputs.astype(np.float32) - np.float32(source.zero_point)) @ node.weight.T.astype(np.float32) + node.bias
            largest[slot].append(sums.max(axis=0) * grid(node, source))
    out = {}
    for slot, node in layers.items():
        scales, shifts = (np.array([voice[slot][i] for voice in voices], np.float64) for i in (0, 1))
        told = (STEPS * graph.tensors[node.output].scale - shifts) / scales
        out[slot] = Reach(
            low=(-shifts / scales).min(axis=0).astype(np.float32),
            high=np.minimum(told.max(axis=0), np.max(largest[slot], axis=0)).astype(np.float32),
            scale=scales.max(axis=0).astype(np.float32),
        )
    return out


def _inputs_of(layers: Mapping[str, Pointwise], graph: IntegerGraph, rows: Int8) -> dict[str, Int8]:
    """Inputs of each layer over the frames, ``[frames, channels]``."""
    network = ReferenceNetwork(graph)
    seen: dict[str, list[Int8]] = {slot: [] for slot in layers}
    for row in rows:
        network.run(row)
        for slot, node in layers.items():
            seen[slot].append(network.tensor(node.input)[0])
    return {slot: np.array(values) for slot, values in seen.items()}


def grid(node: Pointwise, source: Tensor) -> NDArray[np.float64]:
    return np.float64(source.scale) * node.weight_scale.astype(np.float64)
