"""IntegerGraph to C: constants, a static memory plan, and one function that calls the kernels of ``c/library/kernels.h`` in order.

No heap, no recursion, no copies of state: a delay line is a ring of rows into which the layer before it writes, and from which
the taps are read; ``Append`` and ``Tail`` leave no trace in the code. Rows are padded to 16 channels for the vector units, with
weights, factors and biases of zero, so that what stands in the padding never counts.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.deployment.arena import Buffer, place
from edge_tse.errors import ArtifactError
from edge_tse.graph import Add, Append, Depthwise, IntegerGraph, Multiply, Node, Pointwise, Sigmoid, Tail, Tanh
from edge_tse.operators import activation_table, node_inputs
from edge_tse.personalization import personalize
from edge_tse.quant import multiplier
from edge_tse.voice import Voice
from firmware_bridge import front_end
from firmware_bridge.c_source import NOTE, array, comment
from firmware_bridge.plan import LANES, Ring, find_rings, round_up

__all__ = [
    "VOICE_SCHEMA",
    "Memory",
    "generate",
    "generate_network",
    "pack_pointwise",
    "plan_memory",
    "voice_patch",
]

VOICE_SCHEMA = 2
"""Version of the voice patch; raised when an older firmware could not read it."""
BLOCK = 4
"""Output channels that a pointwise kernel computes together."""

_PATCH = struct.Struct("<4sI16s")
_PATCH_CRC_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of a generated network, in bytes, padding included."""

    weights: int
    """int8 weights, read-only."""
    tables: int
    """Factors, biases and activation tables, read-only."""
    state: int
    """Delay lines, and the past of a beam."""
    arena: int
    """Activations, placed over each other where their lifetimes allow, and the scratch of the front end."""
    voice: int
    """Factors and biases that a voice replaces at run time."""


def generate(artifact: Artifact) -> dict[str, str]:
    """Sources of this model by file name. The code in ``c/`` is the same for all.

    An artifact without a voice takes one at run time (:func:`voice_patch`); one with a voice folded in has it built in.
    ``ArtifactError`` if the graph or the geometry is one that the firmware cannot run.
    """
    network = _Network(artifact.graph, front_end.scratch_bytes(artifact.frame), front_end.beam_bytes(artifact.frame))
    header = network.header(front_end.header(artifact.frame, artifact.graph.tensors))
    return {"model.h": header, "model.c": network.source(_model_id(artifact)), "frame.c": front_end.source(artifact.frame)}


def generate_network(graph: IntegerGraph) -> dict[str, str]:
    """Sources of a graph with one input alone, without a front end."""
    network = _Network(graph, 0, 0)
    return {"model.h": network.header(""), "model.c": network.source(bytes(16))}


def plan_memory(artifact: Artifact) -> Memory:
    """Memory of an artifact's generated network."""
    return _Network(artifact.graph, front_end.scratch_bytes(artifact.frame), front_end.beam_bytes(artifact.frame)).memory


def voice_patch(artifact: Artifact, voice: Voice) -> bytes:
    """Voice patch for ``etse_set_voice``: the constants of each modulated layer with this voice folded in.

    ``magic "ETSV", schema, first 16 bytes of the artifact's digest``, then the float32 factors of all modulated channels and their
    int32 biases, and the CRC-32 of all that, little-endian. ``ArtifactError`` if the artifact has a voice already, or the voice is
    another model's.
    """
    if artifact.personalized:
        raise ArtifactError("this artifact has a voice built in: make the patch from the one without a voice")
    folded = {node.name: node for node in personalize(artifact, voice).graph.nodes}
    modulated = [folded[node.name] for node in artifact.graph.nodes if isinstance(node, Pointwise) and node.film is not None]
    constants = [_constants(node, artifact.graph) for node in modulated if isinstance(node, Pointwise)]
    factors, biases = (np.concatenate(arrays) for arrays in zip(*constants, strict=True))
    head = _PATCH.pack(b"ETSV", VOICE_SCHEMA, _model_id(artifact))
    patch = b"".join([head, factors.astype("<f4").tobytes(), biases.astype("<i4").tobytes()])
    return patch + zlib.crc32(patch).to_bytes(_PATCH_CRC_BYTES, "little")


def pack_pointwise(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """Pack ``[out, in]`` to ``[out blocks, in blocks, 4, 16]``, zero padded: the order in which ``etse_pointwise`` reads."""
    rows, columns = (round_up(n, to) for n, to in zip(weight.shape, (BLOCK, LANES), strict=True))
    whole = np.zeros((rows, columns), np.int8)
    whole[: weight.shape[0], : weight.shape[1]] = weight
    return np.ascontiguousarray(whole.reshape(rows // BLOCK, BLOCK, columns // LANES, LANES).transpose(0, 2, 1, 3))


def _model_id(artifact: Artifact) -> bytes:
    return bytes.fromhex(artifact.digest)[:16]


def _constants(node: Pointwise | Depthwise, graph: IntegerGraph) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Factor and bias per output channel, padded with zeros; the input's zero point goes into the bias."""
    source, out = graph.tensors[node.input], graph.tensors[node.output]
    axis, to = (1, BLOCK) if isinstance(node, Pointwise) else (0, LANES)
    room = (0, round_up(out.channels, to) - out.channels)
    factor = multiplier(source.scale, node.weight_scale, out.scale)
    bias = node.bias - source.zero_point * node.weight.sum(axis=axis, dtype=np.int64)
    return np.pad(factor, room), np.pad(bias, room).astype(np.int32)


class _Network:
    """A graph with a place for every tensor, and its C text."""

    def __init__(self, graph: IntegerGraph, scratch_bytes: int, beam_bytes: int) -> None:
        if len(graph.inputs) != 1:
            raise ArtifactError(f"the firmware takes one input, this graph has {len(graph.inputs)}: {list(graph.inputs)}")
        if graph.voice:
            raise ArtifactError(
                "the firmware takes a voice as a patch of its tables: give it the model itself, not its universal form"
            )
        self._graph = graph
        self._rings = find_rings(graph)
        # Its maker writes a tensor straight into the first ring that remembers it.
        self._homes: dict[str, Ring] = {}
        for ring in self._rings.values():
            self._homes.setdefault(ring.newest, ring)
        offsets, arena = place(self._buffers())
        self._c = {name: f"t{i}" for i, name in enumerate(graph.tensors)}
        self._offsets = offsets
        self._films = [node for node in graph.nodes if isinstance(node, Pointwise) and node.film is not None]
        convolutions = [node for node in graph.nodes if isinstance(node, Pointwise | Depthwise)]
        voice = 8 * sum(round_up(len(node.bias), BLOCK) for node in self._films)
        self.memory = Memory(
            weights=sum(_pack(node).nbytes for node in convolutions),
            tables=sum(sum(a.nbytes for a in _constants(node, graph)) for node in convolutions)
            + 256 * sum(isinstance(node, Sigmoid | Tanh) for node in graph.nodes),
            state=sum(ring.rows * ring.stride for ring in self._rings.values()) + beam_bytes,
            arena=max(arena, scratch_bytes, LANES),
            voice=voice,
        )

    def _buffers(self) -> list[Buffer]:
        """Tensors that live in the arena, from the node that makes each to the last that reads it."""
        graph = self._graph
        elsewhere = {*self._homes, *self._rings, *(s.input for s in graph.states), *(s.output for s in graph.states)}
        made = dict.fromkeys(graph.inputs, -1) | {node.output: i for i, node in enumerate(graph.nodes)}
        used = {name: i for i, node in enumerate(graph.nodes) for name in node_inputs(node)}
        used |= dict.fromkeys(graph.outputs, len(graph.nodes))
        return [
            Buffer(name, first, used.get(name, first), graph.tensors[name].frames * round_up(graph.tensors[name].channels))
            for name, first in made.items()
            if name not in elsewhere
        ]

    def header(self, front_end_part: str) -> str:
        """``model.h``: sizes, for the preprocessor."""
        m = self.memory
        channels = m.voice // 8
        sizes = {
            "ETSE_VOICE_SCHEMA": VOICE_SCHEMA,
            "ETSE_VOICE_CHANNELS": channels,
            "ETSE_VOICE_PATCH_BYTES": _PATCH.size + m.voice + _PATCH_CRC_BYTES,
            "ETSE_WEIGHT_BYTES": m.weights,
            "ETSE_STATE_BYTES": m.state,
            "ETSE_ARENA_BYTES": m.arena,
        }
        lines = [f"#define {name} {value}" for name, value in sizes.items()]
        return f"{NOTE}#ifndef ETSE_MODEL_H\n#define ETSE_MODEL_H\n\n" + "\n".join(lines) + f"\n{front_end_part}\n#endif\n"

    def source(self, model_id: bytes) -> str:
        """Text of ``model.c``: constants, memory, and the step."""
        constants: list[str] = []
        voice = 0
        steps: list[str] = []
        for index, node in enumerate(self._graph.nodes):
            slot = None
            if isinstance(node, Pointwise) and node.film is not None:
                slot, voice = voice, voice + round_up(len(node.bias), BLOCK)
            constants += self._declarations(index, node, slot)
            steps += [f"    /* {comment(node.name)} */", *(f"    {line}" for line in self._calls(index, node))]
        parts = [
            NOTE + '#include <string.h>\n\n#include "etse.h"\n#include "network.h"\n',
            array("uint8_t", "etse_model_id[16]", np.frombuffer(model_id, np.uint8), "ETSE_TABLES", static=False),
            *self._voice_tables(),
            *constants,
            f"ETSE_ARENA float etse_arena[{self.memory.arena // 4}];",
            *self._ring_table(),
            "void etse_model_reset(void) {",
            *(self._resets()),
            "}\n",
            "void etse_model_step(const int8_t *input, int8_t *const *outputs) {",
            *self._addresses(),
            *self._copy_in(),
            *steps,
            *self._copy_out(),
            "}",
        ]
        return "\n".join(parts) + "\n"

    def _voice_tables(self) -> list[str]:
        if not self._films:
            return []
        factors, biases = zip(*(_constants(node, self._graph) for node in self._films), strict=True)
        n = self.memory.voice // 8
        return [
            array("float", f"etse_neutral_factor[{n}]", np.concatenate(factors), "ETSE_TABLES", static=False),
            array("int32_t", f"etse_neutral_bias[{n}]", np.concatenate(biases), "ETSE_TABLES", static=False),
            f"ETSE_VOICE float etse_voice_factor[{n}];",
            f"ETSE_VOICE int32_t etse_voice_bias[{n}];\n",
        ]

    def _declarations(self, index: int, node: Node, slot: int | None) -> list[str]:
        """Constants of a node; a modulated one finds its factors and biases in the tables of the voice, at ``slot``."""
        match node:
            case Pointwise() | Depthwise():
                weight, (factor, bias) = _pack(node), _constants(node, self._graph)
                lines = [f"/* {comment(node.name)} */", array("int8_t", f"weight_{index}[{weight.size}]", weight, "ETSE_WEIGHTS")]
                places = f"etse_voice_factor + {slot}", f"etse_voice_bias + {slot}"
                if slot is None:
                    places = f"factor_{index}", f"bias_{index}"
                    lines.append(array("float", f"{places[0]}[{factor.size}]", factor, "ETSE_TABLES"))
                    lines.append(array("int32_t", f"{places[1]}[{bias.size}]", bias, "ETSE_TABLES"))
                source, out = self._graph.tensors[node.input], self._graph.tensors[node.output]
                if isinstance(node, Pointwise):
                    blocks = round_up(source.channels) // LANES, round_up(out.channels, BLOCK) // BLOCK
                    strides = round_up(source.channels), round_up(out.channels)
                    kind, sizes = "pointwise", [*blocks, *strides]
                else:
                    kind, sizes = "depthwise", [round_up(out.channels), len(node.weight)]
                fields = ", ".join(map(str, (f"weight_{index}", *places, *sizes, out.zero_point)))
                return [*lines, f"static const etse_{kind}_t node_{index} = {{{fields}}};\n"]
            case Sigmoid() | Tanh():
                table = activation_table(node, self._graph.tensors[node.input])
                return [array("int8_t", f"table_{index}[256]", table, "ETSE_TABLES")]
            case Append() | Tail() | Add() | Multiply():
                return []

    def _calls(self, index: int, node: Node) -> list[str]:
        """Statements of a node."""
        out = self._c[node.output]
        match node:
            case Pointwise():
                return [f"etse_pointwise(&node_{index}, {self._row(node.input, 0)}, {out}, {self._frames(node.output)});"]
            case Depthwise():
                taps = range(len(node.weight))
                lines = []
                for t in range(self._frames(node.output)):
                    rows = ", ".join(self._row(node.input, t + k * node.dilation) for k in taps)
                    lines.append(f"{{ const int8_t *const taps[] = {{{rows}}};")
                    lines.append(f"  etse_depthwise(&node_{index}, taps, {self._row(node.output, t)}); }}")
                return lines
            case Append():
                ring = self._rings[node.output]
                if self._homes[node.input] is ring:
                    return []
                return [f"memcpy({self._row(node.output, ring.rows - 1)}, {self._row(node.input, 0)}, {ring.stride});"]
            case Tail():
                return []
            case Add():
                left, right = self._row(node.left, 0), self._row(node.right, 0)
                if self._graph.tensors[node.output].zero_point:
                    raise ArtifactError(f"node {node.name}: the firmware knows a ReLU behind a Pointwise, not behind an Add")
                return [f"etse_add({left}, {right}, {out}, {self._bytes(node.output)});"]
            case Multiply():
                raise ArtifactError(f"node {node.name}: the firmware has no operator Multiply")
            case Sigmoid() | Tanh():
                return [f"etse_lookup(table_{index}, {self._row(node.input, 0)}, {out}, {self._bytes(node.output)});"]

    def _addresses(self) -> list[str]:
        """A pointer per tensor."""
        lines = [
            f"    int8_t *const {self._c[name]} = etse_row(&rings[{r.index}], heads[{r.index}], {r.rows - 1});"
            for name, r in self._homes.items()
        ]
        if self._rings:
            lines.insert(0, "    advance();")
        return lines + [
            f"    int8_t *const {self._c[name]} = (int8_t *)etse_arena + {offset};" for name, offset in self._offsets.items()
        ]

    def _copy_in(self) -> list[str]:
        name = self._graph.inputs[0]
        n = self._graph.tensors[name].channels
        return [f"    memcpy({self._row(name, t)}, input + {t * n}, {n});" for t in range(self._frames(name))]

    def _copy_out(self) -> list[str]:
        lines = []
        for i, name in enumerate(self._graph.outputs):
            n = self._graph.tensors[name].channels
            lines += [f"    memcpy(outputs[{i}] + {t * n}, {self._row(name, t)}, {n});" for t in range(self._frames(name))]
        return lines

    def _ring_table(self) -> list[str]:
        if not self._rings:
            return []
        rings = list(self._rings.values())
        lines = [f"ETSE_STATE static int8_t state_{r.index}[{r.rows * r.stride}];" for r in rings]
        entries = ",\n".join(f"    {{state_{r.index}, {r.rows}, {r.stride}, {r.zero_point}}}" for r in rings)
        return [
            *lines,
            f"static const etse_ring_t rings[] = {{\n{entries},\n}};",
            f"static uint16_t heads[{len(rings)}];\n",
            "static void advance(void) {",
            f"    for (uint32_t i = 0; i < {len(rings)}; i++)",
            "        heads[i] = (uint16_t)(heads[i] + 1 == rings[i].rows ? 0 : heads[i] + 1);",
            "}\n",
        ]

    def _resets(self) -> list[str]:
        if not self._rings:
            return []
        return [
            f"    for (uint32_t i = 0; i < {len(self._rings)}; i++) {{",
            "        memset(rings[i].memory, rings[i].zero_point, (size_t)rings[i].rows * rings[i].stride);",
            "        heads[i] = 0;",
            "    }",
        ]

    def _row(self, name: str, t: int) -> str:
        """Expression for the start of row ``t`` of a tensor."""
        ring = self._rings.get(name)
        if ring is not None:
            if t == ring.rows - 1 and self._homes[ring.newest] is ring:
                return self._c[ring.newest]
            return f"etse_row(&rings[{ring.index}], heads[{ring.index}], {t})"
        return self._c[name] if t == 0 else f"{self._c[name]} + {t * self._stride(name)}"

    def _frames(self, name: str) -> int:
        return self._graph.tensors[name].frames

    def _stride(self, name: str) -> int:
        return round_up(self._graph.tensors[name].channels)

    def _bytes(self, name: str) -> int:
        return self._frames(name) * self._stride(name)


def _pack(node: Pointwise | Depthwise) -> NDArray[np.int8]:
    if isinstance(node, Pointwise):
        return pack_pointwise(node.weight)
    return np.pad(node.weight, ((0, 0), (0, round_up(node.weight.shape[1]) - node.weight.shape[1])))
