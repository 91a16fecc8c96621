"""What would the model cost on an Ethos-U? Vela's estimates: four NPUs, weights in flash or SRAM, one, two and four hops a call."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict

from benchmarks import RESULTS, one_line
from edge_tse.artifact import Artifact
from edge_tse.report import Report, environment
from targets.vela import NpuEstimate, emit, several_hops

PLACES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "ethos-u55-128": ("Ethos_U55_High_End_Embedded", {"weights in flash": "Shared_Sram", "weights in SRAM": "Sram_Only"}),
    "ethos-u55-256": ("Ethos_U55_High_End_Embedded", {"weights in flash": "Shared_Sram", "weights in SRAM": "Sram_Only"}),
    "ethos-u65-256": ("Ethos_U65_High_End", {"weights in DRAM": "Dedicated_Sram_384KB"}),
    "ethos-u85-256": ("Ethos_U85_SYS_DRAM_Mid", {"weights in DRAM": "Dedicated_Sram_384KB", "weights in SRAM": "Sram_Only"}),
}
"""Accelerator to system configuration and memory modes, sections of Arm's ``vela.ini``: 500 MHz, 1 GHz for the last two."""
HOPS = (1, 2, 4)
"""Hops per call. A model with a beam takes one at a time: the sound heard of a hop points the beam of the next."""


def case(estimate: NpuEstimate, hops: int, period_s: float) -> dict[str, object]:
    """The figures of one estimate, layers aside, with what a hop costs and what waiting for several adds."""
    figures = asdict(estimate)
    del figures["layers"]
    return figures | {
        "hops": hops,
        "us_per_hop": estimate.inference_s * 1e6 / hops,
        "share_of_the_period": estimate.inference_s / (hops * period_s),
        "latency_added_ms": (hops - 1) * period_s * 1e3,
        "copied_cycles": estimate.copied_cycles,
    }


def figures(artifact: Artifact) -> dict[str, object]:
    """Figures by NPU, place of the weights and hops per call."""
    graphs = {hops: several_hops(artifact.graph, hops) for hops in (HOPS[:1] if artifact.frame.beam else HOPS)}
    found: dict[str, object] = {"artifact": artifact.digest, "macs": artifact.graph.macs, "evidence": "estimate"}
    for accelerator, (system_config, modes) in PLACES.items():
        cases = {}
        for where, memory_mode in modes.items():
            for hops, graph in graphs.items():
                done = emit(graph, {}, accelerator=accelerator, system_config=system_config, memory_mode=memory_mode)
                cases[f"{where}, {hops} hops a call"] = case(done.estimate, hops, artifact.frame.period_s)
        found[accelerator] = cases
    return found


@one_line
def main() -> None:
    """Estimate, print, and write the file."""
    report = Report(
        question="What would the model cost on an Ethos-U?", figures=figures(Artifact.shipped()), environment=environment()
    )
    report.save(RESULTS / "npu.json")
    print(report.to_json())


if __name__ == "__main__":
    sys.exit(main())
