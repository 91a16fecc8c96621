"""IntegerGraph -> Ethos-U: the TFLite file compiled by Arm's Vela, and Vela's estimate of its cost.

System configuration and memory mode decide the estimate more than the NPU does, so both are always named. Vela places outputs over
inputs: who runs its file writes every input before each step, and copies all state outputs out before writing any state input.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module, util
from pathlib import Path
from typing import Final

from edge_tse.errors import EngineError, TargetError
from edge_tse.graph import Append, Depthwise, IntegerGraph, Tail
from edge_tse.install_line import install_line
from edge_tse.operators import node_inputs

__all__ = ["Compiled", "Layer", "NpuEstimate", "emit", "several_hops"]

_KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator on the NPU, in Vela's order."""

    name: str
    """Name of the graph's tensor that it makes."""
    operator: str
    """Vela's operator, ``MemoryCopy`` for bytes that only move."""
    on_npu: bool
    cycles: int
    """Largest of the cycles that follow, which overlap."""
    npu_cycles: int
    sram_cycles: int
    dram_cycles: int
    flash_cycles: int
    macs: int


@dataclass(frozen=True, kw_only=True)
class NpuEstimate:
    """Vela's estimate for a model: figures of its performance model, not of a chip."""

    evidence: Final[str] = "estimate"
    accelerator: str
    system_config: str
    memory_mode: str
    core_clock_hz: float
    cycles: int
    """Cycles of one step."""
    npu_cycles: int
    sram_cycles: int
    dram_cycles: int
    flash_cycles: int
    inference_s: float
    """Seconds of one step."""
    sram_bytes: int
    """Largest use of SRAM at any time."""
    dram_bytes: int
    flash_bytes: int
    """Bytes of flash, on chip and off chip."""
    weights_are_in: str
    """The memory that constants are fetched from, in Vela's words."""
    weight_bytes: int
    """Bytes of weights as Vela encodes them for the NPU."""
    weight_bytes_before: int
    """Bytes of the same weights before that, with biases and scales."""
    sram_traffic_bytes: int
    """Bytes read and written in SRAM in one step."""
    dram_traffic_bytes: int
    flash_traffic_bytes: int
    macs: int
    """Multiply-accumulates that the NPU computes, padding included."""
    operators_on_cpu: int
    operators_on_npu: int
    layers: tuple[Layer, ...]

    @property
    def copied_cycles(self) -> int:
        """Cycles of operators that only move bytes: histories, mostly."""
        return sum(layer.cycles for layer in self.layers if layer.operator == "MemoryCopy")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A model for an NPU."""

    content: bytes
    """The TFLite file with one custom operator that TFLM's Ethos-U kernel runs."""
    estimate: NpuEstimate


def emit(graph: IntegerGraph, metadata: Mapping[str, str], *, accelerator: str, system_config: str, memory_mode: str) -> Compiled:
    """Compile for ``accelerator``, such as ``ethos-u55-128``, with sections of Arm's ``vela.ini``.

    A voice modulation that is not folded in counts as neutral. ``EngineError`` if Vela or flatbuffers are not installed,
    ``TargetError`` if Vela refuses, or leaves operators to the CPU (how many).
    """
    if util.find_spec("ethosu") is None:
        raise EngineError(f"an Ethos-U model needs ethos-u-vela: {install_line('executorch')}")
    try:
        flatbuffer: bytes = import_module("targets.tflite").emit(graph, metadata)
    except ImportError as error:
        raise EngineError(f"an Ethos-U model needs {error.name}: {install_line('litert')}") from None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(flatbuffer)
        places = {"--system-config": system_config, "--memory-mode": memory_mode, "--output-dir": folder}
        places |= {"--accelerator-config": accelerator, "--config": "Arm/vela.ini"}
        options = [f"{key}={value}" for key, value in places.items()]
        # A process of its own: Vela prints, exits, and keeps state between two models.
        command = [sys.executable, "-m", "ethosu.vela", str(source), *options, "--verbose-performance"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        written = Path(folder) / "model_vela.tflite"
        if done.returncode or not written.exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line] or ["nothing"]
            raise TargetError(
                f"Vela refuses the model for {accelerator}, {system_config}, {memory_mode}: it says {said[-1].strip()}"
            )
        (summary,) = _table(Path(folder) / f"model_summary_{system_config}.csv")
        layers = _table(Path(folder) / "model_per-layer.csv")
        found = _estimate(summary, layers, done.stdout, accelerator)
        if found.operators_on_cpu:
            left = sorted({f"{layer.operator} {layer.name}" for layer in found.layers if not layer.on_npu})
            raise TargetError(
                f"{accelerator} leaves {found.operators_on_cpu} operators to the CPU, 0 are wanted: {', '.join(left)}"
            )
        return Compiled(content=written.read_bytes(), estimate=found)


def several_hops(graph: IntegerGraph, hops: int) -> IntegerGraph:
    """A graph of the same network that takes ``hops`` frames a call: its weights are fetched once for all of them.

    The first frame of a call then waits for the last, so latency grows by ``hops - 1`` hops. Inputs and outputs have ``hops``
    frames, states keep theirs. ``TargetError`` if the graph takes several frames already.
    """
    frames = {s.input: graph.tensors[s.input].frames for s in graph.states}
    for name in graph.inputs:
        if graph.tensors[name].frames != 1:
            raise TargetError(f"{hops} hops a call: input {name} takes {graph.tensors[name].frames} frames already, 1 is needed")
        frames[name] = hops
    for node in graph.nodes:
        taken = [frames[name] for name in node_inputs(node)]
        match node:
            case Append():
                frames[node.output] = sum(taken)
            case Tail():
                frames[node.output] = graph.tensors[node.output].frames
            case Depthwise():
                frames[node.output] = taken[0] - (len(node.weight) - 1) * node.dilation
            case _:
                frames[node.output] = taken[0]
    return replace(graph, tensors={name: replace(t, frames=frames[name]) for name, t in graph.tensors.items()})


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def _estimate(summary: Mapping[str, str], layers: list[dict[str, str]], said: str, accelerator: str) -> NpuEstimate:
    def number(name: str) -> float:
        return float(summary[name])

    def whole(name: str, unit: int = 1) -> int:
        return round(number(name) * unit)

    def in_flash(what: str) -> int:
        return whole(f"on_chip_flash_{what}") + whole(f"off_chip_flash_{what}")

    counts = {unit: re.search(rf"{unit} operators = (\d+)", said) for unit in ("CPU", "NPU")}
    if not all(counts.values()):
        raise TargetError("Vela's report has no count of operators: install ethos-u-vela==5.1.0")
    return NpuEstimate(
        accelerator=accelerator,
        system_config=summary["system_config"],
        memory_mode=summary["memory_mode"],
        core_clock_hz=number("core_clock"),
        cycles=whole("cycles_total"),
        npu_cycles=whole("cycles_npu"),
        sram_cycles=whole("cycles_sram_access"),
        dram_cycles=whole("cycles_dram_access"),
        flash_cycles=whole("cycles_on_chip_flash_access") + whole("cycles_off_chip_flash_access"),
        inference_s=number("inference_time"),
        sram_bytes=whole("sram_memory_used", _KIB),
        dram_bytes=whole("dram_memory_used", _KIB),
        flash_bytes=whole("on_chip_flash_memory_used", _KIB) + whole("off_chip_flash_memory_used", _KIB),
        weights_are_in=summary["weights_storage_area"],
        weight_bytes=whole("total_npu_encoded_weights"),
        weight_bytes_before=whole("total_original_weights"),
        sram_traffic_bytes=whole("sram_total_bytes"),
        dram_traffic_bytes=whole("dram_total_bytes"),
        flash_traffic_bytes=in_flash("total_bytes"),
        macs=whole("nn_macs"),
        operators_on_cpu=int(counts["CPU"][1]) if counts["CPU"] else 0,
        operators_on_npu=int(counts["NPU"][1]) if counts["NPU"] else 0,
        layers=tuple(_layer(row) for row in layers),
    )


def _layer(row: Mapping[str, str]) -> Layer:
    return Layer(
        name=row["Name"].strip(),
        operator=row["NNG Operator"].strip(),
        on_npu=row["Target"].strip() == "NPU",
        cycles=int(float(row["Op Cycles"])),
        npu_cycles=int(float(row["NPU"])),
        sram_cycles=int(float(row["SRAM AC"])),
        dram_cycles=int(float(row["DRAM AC"])),
        flash_cycles=int(float(row["OnFlash AC"])) + int(float(row["OffFlash AC"])),
        macs=int(float(row["MAC Count"])),
    )
