"""Arena: memory for the activations of one step, where tensors that are never alive together share it.

Inputs are alive from the start, outputs and a voice to the end, everything else from the node that makes it to the last that
reads it, and a node's output never overlaps what it reads. Placement is greedy by size, the largest first at the lowest free
offset, as TensorFlow Lite Micro's planner does. Runtimes add bookkeeping of their own, which is not in this figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from edge_tse.graph import IntegerGraph
from edge_tse.operators import Tensor, node_inputs

__all__ = ["Arena", "Buffer", "place", "plan", "shape"]

_ALIGNMENT = 16


@dataclass(frozen=True, kw_only=True)
class Arena:
    """Places of all activations in one buffer."""

    size_bytes: int
    """End of the last tensor."""
    lower_bound_bytes: int
    """Most bytes alive at once: no placement is smaller."""
    offsets: Mapping[str, int]
    """First byte of each tensor, by name."""


class Buffer(NamedTuple):
    """Bytes that a tensor needs from the node that makes it to the last one that reads it."""

    name: str
    first: int
    last: int
    size: int


def place(buffers: Iterable[Buffer]) -> tuple[dict[str, int], int]:
    """Offsets such that no two buffers alive at the same time overlap, and the end of the last: largest first, lowest place."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (-b.size, b.first, b.name)):
        offset = 0
        for start, other in sorted(placed):
            if other.last >= buffer.first and buffer.last >= other.first and offset + buffer.size > start:
                offset = max(offset, start + other.size)
        placed.append((offset, buffer))
    return {b.name: start for start, b in placed}, max((start + b.size for start, b in placed), default=0)


def plan(graph: IntegerGraph) -> Arena:
    """Lifetimes and places of every tensor of ``graph``, states included: a runtime is handed them like any input."""
    end = len(graph.nodes)
    first = dict.fromkeys(graph.given, -1)
    last = dict(first)
    for i, node in enumerate(graph.nodes):
        for name in node_inputs(node):
            last[name] = i
        first[node.output] = last[node.output] = i
    for name in (*graph.made, *graph.voice):
        last[name] = end
    sizes = {name: _align(prod(shape(tensor))) for name, tensor in graph.tensors.items()}
    alive = [sum(sizes[name] for name in sizes if first[name] <= i <= last[name]) for i in range(-1, end + 1)]
    offsets, size = place(Buffer(name, first[name], last[name], size) for name, size in sizes.items())
    return Arena(size_bytes=size, lower_bound_bytes=max(alive), offsets=offsets)


def shape(tensor: Tensor) -> tuple[int, ...]:
    """``frames, channels``, with bands in between where a graph has them."""
    return tuple(int(getattr(tensor, axis)) for axis in ("frames", "bands", "channels") if hasattr(tensor, axis))


def _align(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT) * _ALIGNMENT
