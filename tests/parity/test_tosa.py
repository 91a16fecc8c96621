"""Ethos-U through ExecuTorch: nothing is left to the CPU, and the numbers are those of the TOSA reference model.

TOSA rounds an accumulator as ``(acc * multiplier + half) >> shift`` with a 32-bit multiplier: half up, where the golden integers
have half to even and a float32 product. The two differ on a tie, or next to one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.enrollment.recordings import enroll_files
from edge_tse.golden import Parity, record, replay
from edge_tse.graph import IntegerGraph
from edge_tse.personalization import personalize, universal
from edge_tse.reference import ReferenceNetwork
from tests import graphs

reference = pytest.importorskip("tosa_reference_model", reason="needs edge-tse[executorch], which brings tosa-tools")
pytest.importorskip("executorch", reason="needs edge-tse[executorch]")

from targets.pte import TosaProgram, emit_ethosu, emit_tosa  # noqa: E402

Int8 = NDArray[np.int8]
CLIPS = Path(__file__).parents[2] / "edge_tse" / "assets" / "demo"
NPUS = {
    "ethos-u55-128": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u55-256": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65-256": ("Ethos_U65_High_End", "Dedicated_Sram_384KB"),
    "ethos-u85-256": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}


class TosaNetwork:
    """A program on the reference model, as a network."""

    name = "tosa/reference"

    def __init__(self, graph: IntegerGraph, program: TosaProgram) -> None:
        self._graph, self._program = graph, program
        self._voice = {name: value.reshape(self._shape(name)).copy() for name, value in graph.voice.items()}
        self.reset()

    def _shape(self, name: str) -> tuple[int, ...]:
        t = self._graph.tensors[name]
        return (1, t.channels) if t.frames == 1 else (1, t.frames, 1, t.channels)

    def reset(self) -> None:
        graph = self._graph
        self._values: dict[str, Any] = {
            s.input: np.full(self._shape(s.input), graph.tensors[s.input].zero_point, np.int8) for s in graph.states
        }

    def run(self, features: Int8) -> tuple[Int8, ...]:
        graph, program = self._graph, self._program
        values = {**self._values, **self._voice, graph.inputs[0]: features.reshape(self._shape(graph.inputs[0])).copy()}
        given, status = reference.run(program.content, [values[name] for name in program.inputs], verbosity="NONE")
        assert status == reference.GraphStatus.TOSA_VALID
        named = dict(zip(program.outputs, given, strict=True))
        self._values = {s.input: np.ascontiguousarray(named[s.output]) for s in graph.states}
        return tuple(named[name].reshape(-1) for name in graph.outputs)


def compared(graph: IntegerGraph, features: Int8, extension: Literal["", "u55", "cf"]) -> Parity:
    return replay(record(graph, features), TosaNetwork(graph, emit_tosa(graph, extension)))


def test_bit_equal_with_state_feedback() -> None:
    """Its sums saturate, before additions and one behind the other: what the Arm backend leaves out unless a clamp says so."""
    artifact = graphs.artifact(graphs.TINY)
    low = {slot: replace(reach, high=reach.low + (reach.high - reach.low) / 4) for slot, reach in artifact.reach.items()}
    graph = universal(replace(artifact, reach=low), graphs.voice(artifact.voice_model)).graph
    features = graphs.features(graphs.TINY, 300)
    network, saturated = ReferenceNetwork(graph), 0
    for row in features:
        network.run(row)
        saturated += sum(np.count_nonzero(network.tensor(f"{slot}.sum") == 127) for slot in low)
    assert saturated > 1000
    assert compared(graph, features, "u55").worst_lsb == 0


@pytest.mark.slow
@pytest.mark.parametrize("extension", ["", "u55", "cf"])
def test_bit_equal_in_every_subset(extension: Literal["", "u55", "cf"]) -> None:
    graph = graphs.student(graphs.TINY, 1)
    parity = compared(graph, graphs.features(graphs.TINY, 2000, 1), extension)
    assert (parity.worst_lsb, parity.frames) == (0, 2000)


@pytest.mark.slow
def test_the_shipped_model_differs_by_what_rounding_ties_upwards_does() -> None:
    """With a voice; without one the network is outside of what it was trained on, and differences grow.

    0.8 % of values, 35 LSB were counted.
    """
    artifact = Artifact.shipped()
    own = personalize(artifact, enroll_files(artifact.voice_model, [CLIPS / "slt-enroll.flac"]).voice)
    parity = compared(own.graph, artifact.golden.features, "u55")
    assert parity.worst_lsb <= 48
    assert parity.mismatch_rate < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("accelerator", NPUS)
def test_the_whole_step_is_one_call_of_the_npu(accelerator: str) -> None:
    """``emit_ethosu`` raises where it is not."""
    system_config, memory_mode = NPUS[accelerator]
    content = emit_ethosu(graphs.student(graphs.TINY), accelerator, system_config=system_config, memory_mode=memory_mode)
    assert content[4:6] == b"ET"
    assert b"EthosUBackend" in content
    assert b"vela_bin_stream" in content
    assert b"aten::" not in content
