"""IntegerGraph: the network as int8 tensors and a closed, small set of operators (:mod:`edge_tse.operators`).

State is explicit: a graph has no memory, it maps (inputs, histories) to (outputs, histories).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import ArtifactError
from edge_tse.operators import (
    MOST_VALUES,
    Add,
    Append,
    Depthwise,
    Multiply,
    Node,
    Pointwise,
    Sigmoid,
    Tail,
    Tanh,
    Tensor,
    check_node,
    check_tensor,
    form,
    node_inputs,
)
from edge_tse.table import quote, read_table

__all__ = [
    "Add",
    "Append",
    "Depthwise",
    "IntegerGraph",
    "Multiply",
    "Node",
    "Pointwise",
    "Sigmoid",
    "State",
    "Tail",
    "Tanh",
    "Tensor",
]

_OPS: dict[str, Any] = {op.__name__: op for op in (Pointwise, Depthwise, Append, Tail, Add, Multiply, Sigmoid, Tanh)}
T = TypeVar("T")
_LONGEST_NAME = 200
_ARRAYS = ("weight", "weight_scale", "bias")


@dataclass(frozen=True, kw_only=True)
class State:
    """A delay line: after a step, ``output`` becomes the next step's ``input``. Starts at the zero point."""

    name: str
    input: str
    output: str


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerGraph:
    """Nodes in execution order over named tensors.

    Construction validates: every name defined once and before use, shapes and shared scales consistent, accumulators within
    float32's exact integers. ``ArtifactError`` names the node otherwise.
    """

    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[State, ...]
    voice: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    """Inputs that a voice sets and steps keep, with their values until a voice is given, ``[channels]`` each."""

    def __post_init__(self) -> None:
        for name, tensor in self.tensors.items():
            check_tensor(name, tensor)
        if (values := sum(t.frames * t.channels for t in self.tensors.values())) > MOST_VALUES:
            raise ArtifactError(f"{len(self.tensors)} tensors have {values} values, at most {MOST_VALUES} are possible")
        self._check_names()
        self.check_voice(self.voice)
        for node in self.nodes:
            check_node(node, self.tensors)
        for state in self.states:
            source, target = self.tensors[state.output], self.tensors[state.input]
            if replace(source, name="") != replace(target, name=""):
                raise ArtifactError(f"state {state.name}: {form(source)} cannot become {form(target)}")

    def _check_names(self) -> None:
        _unique("node", (n.name for n in self.nodes))
        _unique("state", (s.name for s in self.states))
        _unique("output", self.made)
        defined = _unique("tensor", self.given)
        for node in self.nodes:
            for name in node_inputs(node):
                if name not in defined:
                    raise ArtifactError(f"node {node.name}: input {name} is not defined before it is used")
            if node.output in defined:
                raise ArtifactError(f"node {node.name}: tensor {node.output} is defined twice")
            defined.add(node.output)
        if defined != set(self.tensors):
            raise ArtifactError(f"tensors and their definitions differ in {sorted(defined ^ set(self.tensors))}")
        made = {node.output for node in self.nodes}
        for name in self.made:
            if name not in made:
                raise ArtifactError(f"output {name} is not made by any node")

    @property
    def given(self) -> tuple[str, ...]:
        """Names of a step's inputs: features, voice, histories, in the order in which files take them."""
        return (*self.inputs, *self.voice, *(s.input for s in self.states))

    @property
    def made(self) -> tuple[str, ...]:
        """Names of a step's results: outputs, then histories."""
        return (*self.outputs, *(s.output for s in self.states))

    def check_voice(self, voice: Mapping[str, NDArray[np.int8]]) -> Mapping[str, NDArray[np.int8]]:
        """Check values for this graph's voice inputs and return them. ``ArtifactError`` otherwise."""
        if voice.keys() != self.voice.keys():
            differing = sorted(voice.keys() ^ self.voice.keys())
            raise ArtifactError(
                f"{len(voice)} voice inputs where this model takes {len(self.voice)}, among them {differing[0]}: "
                "make the model and the voice inputs from one artifact"
            )
        for name, value in voice.items():
            tensor = self.tensors[name]
            if tensor.frames != 1 or value.dtype != np.int8 or value.shape != (tensor.channels,):
                raise ArtifactError(f"voice input {name} is {value.dtype} {list(value.shape)}, {form(tensor)} is needed as int8")
        return voice

    @cached_property
    def films(self) -> Mapping[str, int]:
        """Voice modulations still to be folded in: slot -> channels."""
        return {n.film: len(n.bias) for n in self.nodes if isinstance(n, Pointwise) and n.film is not None}

    def fold(self, modulation: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> IntegerGraph:
        """This graph with ``{slot: (scale [channels], shift [channels])}`` made constant.

        ``real' = scale * real + shift`` before the rounding (and ReLU) of each modulated node: the scale goes into the weight
        scale, the shift into the bias. int8 weights are shared with this graph, not copied. ``ArtifactError`` if nothing is left
        to fold, a slot is missing, a length differs, or a value is not finite or a scale not positive.
        """
        if not self.films:
            why = "takes its voice while it runs" if self.voice else "is already personalised"
            raise ArtifactError(f"no voice can be folded in: this model {why}")
        return replace(self, nodes=tuple(self._fold(n, modulation) for n in self.nodes))

    def _fold(self, node: Node, modulation: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Node:
        if not isinstance(node, Pointwise) or node.film is None:
            return node
        if node.film not in modulation:
            raise ArtifactError(f"node {node.name}: modulation {node.film} is missing, there are {sorted(modulation)}")
        scale, shift = (np.asarray(x, np.float32) for x in modulation[node.film])
        if scale.shape != node.bias.shape or shift.shape != node.bias.shape:
            raise ArtifactError(f"modulation {node.film}: shapes {scale.shape}, {shift.shape} where {node.bias.shape} is needed")
        if not (np.isfinite(scale).all() and np.isfinite(shift).all() and (scale > 0).all()):
            raise ArtifactError(f"modulation {node.film}: scales must be positive and finite, shifts finite")
        weight_scale = node.weight_scale * scale
        grid = np.float64(self.tensors[node.input].scale) * weight_scale.astype(np.float64)
        # A bias out of int32 is far out of the accumulator bound too: let validation name the node.
        bias = np.clip(node.bias + np.rint(shift.astype(np.float64) / grid), -(2**31), 2**31 - 1).astype(np.int32)
        return replace(node, weight_scale=weight_scale, bias=bias, film=None)

    @property
    def weights(self) -> int:
        """Number of int8 weights."""
        return sum(n.weight.size for n in self.nodes if isinstance(n, Pointwise | Depthwise))

    @property
    def weight_bytes(self) -> int:
        """Bytes of constants: int8 weights, int32 biases, float32 scales."""
        return sum(a.nbytes for n in self.nodes if isinstance(n, Pointwise | Depthwise) for a in (n.weight, n.bias, n.weight_scale))

    @property
    def state_bytes(self) -> int:
        """Bytes remembered between two steps."""
        return sum(self.tensors[s.input].frames * self.tensors[s.input].channels for s in self.states)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one step."""
        return sum(n.weight.size * self.tensors[n.output].frames for n in self.nodes if isinstance(n, Pointwise | Depthwise))

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[np.generic]]]:
        """A JSON-able description, and the arrays it refers to, named ``<node>.<field>``."""
        arrays: dict[str, NDArray[np.generic]] = {}
        nodes = []
        for node in self.nodes:
            fields = dict(vars(node))
            arrays |= {f"{node.name}.{k}": fields.pop(k) for k in _ARRAYS if k in fields}
            nodes.append({"op": type(node).__name__, **fields})
        description = {
            "tensors": [dict(vars(t)) for t in self.tensors.values()],
            "nodes": nodes,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "states": [dict(vars(s)) for s in self.states],
        }
        if self.voice:
            description["voice"] = list(self.voice)
            arrays |= {f"voice.{name}": value for name, value in self.voice.items()}
        return description, arrays

    @classmethod
    def from_arrays(cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[np.generic]]) -> IntegerGraph:
        """Inverse of :meth:`to_arrays`.

        ``ArtifactError`` on an unknown operator, an unknown or missing field, or an invalid graph.
        """
        _check_parts(description, ("tensors", "nodes", "inputs", "outputs", "states", "voice"))
        nodes = []
        for i, entry in enumerate(_list_of(description, "nodes", dict)):
            op = _OPS.get(entry["op"]) if isinstance(entry.get("op"), str) else None
            if op is None:
                raise ArtifactError(
                    f"the graph description has an unknown or missing part: {quote(entry.get('op'))} in node {i}, "
                    f"known are {', '.join(_OPS)}: upgrade edge-tse"
                )
            constants = {}
            if op in (Pointwise, Depthwise):
                for field_name in _ARRAYS:
                    key = f"{entry.get('name')}.{field_name}"
                    if key not in arrays:
                        raise ArtifactError(f"node {i} has no array {quote(key)}: make the artifact again")
                    constants[field_name] = arrays[key]
            fields = {key: value for key, value in entry.items() if key != "op"}
            nodes.append(read_table(op, fields, f"node {i}", ArtifactError, **constants))
        tensors = [
            read_table(Tensor, t, f"tensor {i}", ArtifactError) for i, t in enumerate(_list_of(description, "tensors", dict))
        ]
        states = [read_table(State, s, f"state {i}", ArtifactError) for i, s in enumerate(_list_of(description, "states", dict))]
        inputs, outputs = _list_of(description, "inputs", str), _list_of(description, "outputs", str)
        voice = _list_of(description, "voice", str) if "voice" in description else []
        if missing := [name for name in voice if f"voice.{name}" not in arrays]:
            raise ArtifactError(f"voice input {quote(missing[0])} has no array: make the artifact again")
        for name in (*(n.name for n in nodes), *(t.name for t in tensors), *(s.name for s in states)):
            if not (0 < len(name) <= _LONGEST_NAME and name.isascii() and name.isprintable()):
                raise ArtifactError(f"{quote(name)} is no name: a name has 1 to {_LONGEST_NAME} letters of ASCII")
        return cls(
            tensors={t.name: t for t in tensors},
            nodes=tuple(nodes),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            states=tuple(states),
            voice={name: arrays[f"voice.{name}"] for name in voice},  # type: ignore[misc]  # checked on construction
        )


def _check_parts(description: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if unknown := [key for key in description if key not in names]:
        raise ArtifactError(f"the graph has an unknown part {quote(unknown[0])}, known are {', '.join(names)}: upgrade edge-tse")


def _list_of(description: Mapping[str, Any], part: str, kind: type[T]) -> list[T]:
    """A list out of the description, every item of it of one kind."""
    found = description.get(part)
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
        raise ArtifactError(f"the graph's {part} are {quote(found)}, not a list of {kind.__name__}: make the artifact again")
    return found


def _unique(what: str, names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ArtifactError(f"{what} {name} is defined twice")
        seen.add(name)
    return seen
