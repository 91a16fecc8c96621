"""Does extraction keep up on one core, and where does the time of a step go?

python -m benchmarks.realtime [--artifact FILE] [--engine NAME] [--seconds 60] [--ears 2]

The process is bound to one core and extracts the shipped clips, repeated. Wall times include what other programs take from that
core, CPU times do not: where both differ, the machine was busy.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import RESULTS, one_line
from edge_tse.artifact import Artifact
from edge_tse.cli.output import open_quietly, table
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine, Network
from edge_tse.extraction import extract_signal
from edge_tse.files import check_output
from edge_tse.personalization import personalize
from edge_tse.profiling.profile import network_parts, steps
from edge_tse.report import Report, busy, environment, memory


def split(model: Artifact, network: Network, sound: NDArray[np.float32]) -> dict[str, float] | None:
    """Median microseconds of a network step spent inside the runtime and on carrying tensors to it and back."""
    parts = network_parts(model, network, sound, time.perf_counter)
    if parts is None:
        return None
    marshalling, inference = (float(np.median(part.hop_s)) * 1e6 for part in parts)
    return {"invoke_p50_us": inference, "marshalling_p50_us": marshalling}


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, metavar="FILE")
    parser.add_argument("--engine", default="litert", metavar="NAME")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ears", type=int, default=2, choices=(1, 2))
    parser.add_argument("--to", type=Path, default=RESULTS / "realtime.json", metavar="FILE")
    given = parser.parse_args()
    check_output(given.to)
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    case = shipped_cases()[0]
    model = Artifact.find(given.artifact)
    model = personalize(model, case.voice(model.voice_model))
    network = open_quietly(model, given.engine)
    n = round(given.seconds * case.mixture.rate_hz)
    sound = np.resize(case.mixture.signal[0], n)[None].repeat(given.ears, axis=0)
    # A little of the right ear late and quiet, so that the interaural features have work to do.
    if given.ears == 2:
        sound[1] = np.roll(sound[1], 5) * np.float32(0.8)

    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    extract_signal(sound, case.mixture.rate_hz, Engine(model, network))
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    taken = steps(model, network, sound, time.perf_counter)
    figures = {
        "engine": network.name,
        "artifact": model.digest,
        "macs_per_hop": model.graph.macs,
        "ears": given.ears,
        "seconds": given.seconds,
        "core": core,
        "extract_real_time_factor_wall": wall_s / given.seconds,
        "extract_real_time_factor_cpu": cpu_s / given.seconds,
        **{part: getattr(taken, part).figures() for part in ("step", "network", "front_end")},
        "network_split": split(model, network, sound),
        "memory": memory(),
        "remark": busy(),
    }
    Report(question="Does extraction keep up on one core?", figures=figures, environment=environment()).save(given.to)
    show(figures, given.to)


def show(figures: dict[str, object], path: Path) -> None:
    """The table for people."""
    rows = {
        "real-time factor of extract": f"{figures['extract_real_time_factor_wall']:.4f} wall, "
        f"{figures['extract_real_time_factor_cpu']:.4f} CPU",
    }
    for name in ("step", "front_end", "network"):
        part = figures[name]
        assert isinstance(part, dict)
        rows[name.replace("_", " ")] = f"p50 {part['p50_ms']:.4f}  p99 {part['p99_ms']:.4f}  max {part['max_ms']:.3f} ms"
    step = figures["step"]
    assert isinstance(step, dict)
    rows["late steps"] = f"{step['deadline_misses']} of {step['hops']}"
    parts = figures["network_split"]
    if isinstance(parts, dict):
        rows["inside the runtime"] = f"{parts['invoke_p50_us']:.1f} us, carrying tensors {parts['marshalling_p50_us']:.1f} us"
    if figures["remark"]:
        rows["note"] = str(figures["remark"])
    Console(highlight=False).print(table(f"{figures['engine']}, {figures['ears']} ears, {figures['seconds']:g} s", rows))
    Console(highlight=False).print(f"written to {path}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
