"""Places of histories: a delay line of the graph is a ring of rows in memory."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tse.errors import ArtifactError
from edge_tse.graph import Append, Depthwise, IntegerGraph, Tail
from edge_tse.operators import node_inputs

__all__ = ["LANES", "Ring", "find_rings", "round_up"]

LANES = 16
"""Channels that a vector register holds: rows are padded to a multiple of it."""


def round_up(n: int, to: int = LANES) -> int:
    """The smallest multiple of ``to`` that holds ``n``."""
    return -(-n // to) * to


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A delay line of the graph: the window that an Append makes."""

    index: int
    newest: str
    rows: int
    stride: int
    zero_point: int


def find_rings(graph: IntegerGraph) -> dict[str, Ring]:
    """Delay lines by the name of their window. ``ArtifactError`` where history is anything but a delay line read by taps."""
    made = {node.output: node for node in graph.nodes}
    remembered = {state.input: made[state.output] for state in graph.states}
    rings: dict[str, Ring] = {}
    for node in graph.nodes:
        if isinstance(node, Append):
            tail = remembered.get(node.history)
            if not isinstance(tail, Tail) or tail.input != node.output or graph.tensors[node.input].frames != 1:
                raise ArtifactError(f"node {node.name}: the firmware appends one frame to a state and remembers the window's end")
            window = graph.tensors[node.output]
            rings[node.output] = Ring(
                index=len(rings),
                newest=node.input,
                rows=window.frames,
                stride=round_up(window.channels),
                zero_point=window.zero_point,
            )
    histories = {name for state in graph.states for name in (state.input, state.output)}
    for node in graph.nodes:
        reads = set(node_inputs(node))
        if reads & rings.keys() and not isinstance(node, Depthwise | Tail):
            raise ArtifactError(f"node {node.name}: the firmware reads a window by the taps of a depthwise convolution alone")
        if (isinstance(node, Tail) and node not in remembered.values()) or (reads & histories and not isinstance(node, Append)):
            raise ArtifactError(f"node {node.name}: the firmware knows a state as the history of a window alone")
    if rings.keys() & set(graph.outputs) or len(rings) != len(graph.states):
        raise ArtifactError("the firmware keeps a state as the history of one window, and no window is an output")
    return rings
