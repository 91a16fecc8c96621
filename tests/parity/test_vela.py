"""Ethos-U through Vela: nothing is left to the CPU, the estimate adds up, and several hops a call are the same integers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import RESULTS
from edge_tse.errors import EngineError, TargetError
from edge_tse.reference import ReferenceNetwork
from targets.vela import NpuEstimate, emit, several_hops
from tests import graphs

vela = pytest.importorskip("ethosu.vela", reason="needs edge-tse[executorch], which brings ethos-u-vela")

PLACES = {
    "ethos-u55-128": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u55-256": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "ethos-u65-256": ("Ethos_U65_High_End", "Dedicated_Sram_384KB"),
    "ethos-u85-256": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}


def estimated(sizes: graphs.Sizes, accelerator: str, hops: int = 1) -> NpuEstimate:
    system_config, memory_mode = PLACES[accelerator]
    graph = several_hops(graphs.student(sizes), hops)
    return emit(graph, {}, accelerator=accelerator, system_config=system_config, memory_mode=memory_mode).estimate


@pytest.mark.parametrize("accelerator", PLACES)
def test_everything_runs_on_the_npu(accelerator: str) -> None:
    estimate = estimated(graphs.NANO, accelerator)
    assert estimate.evidence == "estimate"
    assert (estimate.accelerator, estimate.system_config, estimate.memory_mode) == (accelerator, *PLACES[accelerator])
    assert estimate.operators_on_cpu == 0
    assert all(layer.on_npu for layer in estimate.layers)
    assert estimate.inference_s == pytest.approx(estimate.cycles / estimate.core_clock_hz, rel=1e-3)
    # what one unit is busy for is inside the whole, which is at most what all are busy for one after another
    parts = (estimate.npu_cycles, estimate.sram_cycles, estimate.dram_cycles, estimate.flash_cycles)
    assert max(parts) <= estimate.cycles <= sum(parts)
    assert sum(layer.cycles for layer in estimate.layers) == pytest.approx(estimate.cycles, rel=0.1)
    assert {layer.name for layer in estimate.layers} >= {"mask", "velocity", "stem.out"}
    assert estimate.weight_bytes > graphs.student(graphs.NANO).weights * 0.5
    assert 0 < estimate.copied_cycles < estimate.cycles


def test_the_file_is_one_operator_of_the_npu() -> None:
    system_config, memory_mode = PLACES["ethos-u55-128"]
    done = emit(graphs.student(graphs.TINY), {}, accelerator="ethos-u55-128", system_config=system_config, memory_mode=memory_mode)
    assert done.content[4:8] == b"TFL3"
    assert b"ethos-u" in done.content


def test_weights_are_fetched_once_for_several_hops() -> None:
    """What binds the U55 does not grow with the hops; what the NPU computes does."""
    one, four = (estimated(graphs.NANO, "ethos-u55-128", hops) for hops in (1, 4))
    assert one.weights_are_in == "Off-chip Flash"
    assert four.flash_traffic_bytes < 1.1 * one.flash_traffic_bytes
    assert four.inference_s / 4 < 0.5 * one.inference_s


@pytest.mark.parametrize("hops", [1, 2, 4, 7])
def test_several_hops_are_the_same_integers(hops: int) -> None:
    graph = graphs.student(graphs.TINY)
    one, several = ReferenceNetwork(graph), ReferenceNetwork(several_hops(graph, hops))
    features = graphs.features(graphs.TINY, 16 * hops)
    for start in range(0, len(features), hops):
        together = several.run(features[start : start + hops].reshape(-1))
        apart = [[value.copy() for value in one.run(row)] for row in features[start : start + hops]]
        for i, got in enumerate(together):
            np.testing.assert_array_equal(got.reshape(hops, -1), [row[i] for row in apart])


def test_what_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graphs.student(graphs.TINY)
    with pytest.raises(TargetError, match="Nowhere") as failure:
        emit(graph, {}, accelerator="ethos-u55-128", system_config="Nowhere", memory_mode="Shared_Sram")
    assert "\n" not in str(failure.value)
    with pytest.raises(TargetError, match="ethos-u99"):
        emit(graph, {}, accelerator="ethos-u99", system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram")
    with pytest.raises(TargetError, match="takes 2 frames already"):
        several_hops(several_hops(graph, 2), 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install .*\[executorch\]'"):
        emit(graph, {}, accelerator="ethos-u55-128", system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram")


def test_the_result_on_file_is_whole() -> None:
    stored = json.loads((RESULTS / "npu.json").read_text())["figures"]
    assert stored["evidence"] == "estimate"
    for accelerator in PLACES:
        for name, case in stored[accelerator].items():
            assert case["operators_on_cpu"] == 0, name
            assert case["us_per_hop"] == pytest.approx(case["inference_s"] * 1e6 / case["hops"])
            assert case["evidence"] == "estimate"


def test_an_estimate_is_a_value() -> None:
    estimate = estimated(graphs.TINY, "ethos-u55-128")
    assert replace(estimate) == estimate
