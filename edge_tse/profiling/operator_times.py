"""Operator times on an engine that has no profiler: every node is timed in a graph of its own.

A graph of one node is mostly overhead of the call, so each is timed as a few copies and as many more, alternating, and the
difference is the node's. Nodes of the same shape are timed once. Alone, a node finds its data in the cache and nothing is fused
with it; the sum is therefore not the time of the whole network, and the share of a node is scaled to that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from edge_tse.deployment.arena import shape
from edge_tse.golden import Network, TimedNetwork
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Node, Pointwise, State, Tail, Tensor
from edge_tse.operators import node_inputs

__all__ = ["OperatorTime", "invocation_s", "operator_times"]

_FEW, _MANY = 1, 9
"""Copies: eight more of an operator of a microsecond stand out of the noise of a call."""


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """One node of a graph."""

    node: str
    operator: str
    shape: str
    """Shape of its output, ``frames x channels``."""
    macs: int
    alone_s: float
    """Time as one of many copies of itself."""


def operator_times(
    graph: IntegerGraph,
    open_graph: Callable[[IntegerGraph], Network],
    clock: Callable[[], float],
    *,
    rounds: int = 200,
    quiet: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[OperatorTime, ...]:
    """Each node of ``graph`` in order, on the engine that ``open_graph`` opens, median of ``rounds``.

    ``quiet`` surrounds the opening of an engine, which may greet.
    """
    known: dict[Hashable, float] = {}
    times = []
    for node in graph.nodes:
        key = _signature(node, graph)
        if key not in known:
            with quiet():
                few, many = (open_graph(_copies(node, graph, n)) for n in (_FEW, _MANY))
            known[key] = _difference_s(few, many, graph.tensors[_fed(node)], clock, rounds)
        made = " x ".join(map(str, shape(graph.tensors[node.output])))
        macs = _copies(node, graph, 1).macs
        times.append(OperatorTime(node=node.name, operator=type(node).__name__, shape=made, macs=macs, alone_s=known[key]))
    return tuple(times)


def invocation_s(network: Network, features: NDArray[np.int8], clock: Callable[[], float]) -> float:
    """Seconds of one step inside the runtime; of the whole step for a network that does not tell them apart."""
    if isinstance(network, TimedNetwork):
        return network.run_timed(features, clock).inference_s
    began = clock()
    network.run(features)
    return clock() - began


def _difference_s(few: Network, many: Network, fed: Tensor, clock: Callable[[], float], rounds: int) -> float:
    features = np.random.default_rng(0).integers(-128, 128, prod(shape(fed))).astype(np.int8)
    pairs = [(invocation_s(few, features, clock), invocation_s(many, features, clock)) for _ in range(rounds)]
    base, more = np.median(np.array(pairs[rounds // 10 :]), axis=0)
    return max(0.0, float(more - base)) / (_MANY - _FEW)


def _signature(node: Node, graph: IntegerGraph) -> Hashable:
    """Key that is equal for nodes that cost the same."""
    shapes = tuple(shape(graph.tensors[name]) for name in (*node_inputs(node), node.output))
    weights = node.weight.shape if isinstance(node, Pointwise | Depthwise) else None
    return type(node).__name__, shapes, weights, getattr(node, "dilation", None)


def _fed(node: Node) -> str:
    """The input that a graph of this node takes; a history comes as state."""
    return node.input if isinstance(node, Append) else node_inputs(node)[0]


def _copies(node: Node, graph: IntegerGraph, n: int) -> IntegerGraph:
    """A graph of ``n`` equal nodes that read the same inputs, each output kept."""
    fed = _fed(node)
    tensors = {fed: graph.tensors[fed]}
    nodes: list[Node] = []
    for copy in _repeat(node, n):
        tensors[copy.output] = replace(graph.tensors[node.output], name=copy.output)
        nodes.append(copy)
    outputs = tuple(copy.output for copy in nodes)
    states: tuple[State, ...] = ()
    if isinstance(node, Append):
        # The history must come from somewhere: a state, filled by one Tail that is the same in every graph.
        history = graph.tensors[node.history]
        tensors |= {node.history: history, "remembered": replace(history, name="remembered")}
        nodes.append(Tail(name="remember", input=outputs[0], output="remembered"))
        states = (State(name="history", input=node.history, output="remembered"),)
    return IntegerGraph(tensors=tensors, nodes=tuple(nodes), inputs=(fed,), outputs=outputs, states=states)


def _repeat(node: Node, n: int) -> Iterator[Node]:
    for i in range(n):
        copy = replace(node, name=f"{node.name}.{i}", output=f"{node.output}.{i}")
        # Both operands the same tensor: an addition costs what it costs.
        yield replace(copy, right=copy.left) if isinstance(copy, Add) else copy
