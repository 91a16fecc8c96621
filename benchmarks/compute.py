"""What does a second of audio cost, ours on every engine beside models of others?

python -m benchmarks.compute --peers FOLDER [--rounds 40] [--seconds 0.5]

All contenders share one process, one core and one thread, and take turns: each round runs every one of them over the same stretch
of time, so what disturbs the machine disturbs all. Ours are timed twice: the network alone, as the others are, and the whole step
with its front end for two ears. Writes ``results/compute.json``; ``python -m benchmarks.peers_page`` then makes docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import RESULTS, one_line
from edge_tse.artifact import Artifact
from edge_tse.cli.output import open_quietly
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine, engines
from edge_tse.engines.foreign import ForeignNetwork, load_foreign
from edge_tse.errors import EdgeTseError
from edge_tse.front import features_of
from edge_tse.personalization import personalize
from edge_tse.reference import ReferenceNetwork
from edge_tse.report import Report, busy, environment

PEERS = Path(__file__).parent / "peers"
OURS = "edge-tse small, front end and network, two ears (litert)"
"""The contender to which ratios are taken."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A contender that takes hops."""

    name: str
    step: Callable[[], object]
    period_s: float
    model_bytes: int
    state_bytes: int | None
    latency_ms: float
    """Algorithmic latency."""
    runs_on: str


def ours(model: Artifact, rng: np.random.Generator) -> list[Contender]:
    """The model on every engine that is installed here."""
    frame = model.frame
    noise = (0.05 * rng.normal(size=(frame.ears, frame.hop * 64))).astype(np.float32)
    rows = features_of(frame, model.graph.tensors, noise, ReferenceNetwork(model.graph))
    row, hop = rows[40], noise[:, : frame.hop].copy()
    found = []
    for engine in engines():
        try:
            network, other = (open_quietly(model, engine) for _ in range(2))
        except EdgeTseError as failure:
            Console(stderr=True).print(f"left out: {failure}", markup=False)
            continue
        step = Engine(model, other).start(frame.ears)
        parts: dict[str, Callable[[], object]] = {
            "network": partial(network.run, row),
            "front end and network, two ears": partial(step, hop),
        }
        found += [
            Contender(
                name=f"edge-tse small, {part} ({engine})",
                step=run,
                period_s=frame.period_s,
                model_bytes=model.graph.weight_bytes,
                state_bytes=model.graph.state_bytes,
                latency_ms=frame.algorithmic_latency_s * 1e3,
                runs_on=network.name,
            )
            for part, run in parts.items()
        ]
    return found


def peers(folder: Path, rng: np.random.Generator) -> list[Contender]:
    """Every model described in ``benchmarks/peers`` whose files are in ``folder``."""
    found = []
    for path in sorted(PEERS.glob("*.toml")):
        try:
            model = load_foreign(path, folder)
            network = ForeignNetwork(model)
        except EdgeTseError as failure:
            Console(stderr=True).print(f"left out: {failure}", markup=False)
            continue
        found.append(
            Contender(
                name=f"{model.name}, network",
                step=partial(network.run, network.noise(rng)),
                period_s=model.period_s,
                model_bytes=model.file_bytes,
                state_bytes=network.state_bytes,
                latency_ms=model.algorithmic_latency / model.sample_rate_hz * 1e3,
                runs_on=network.name,
            )
        )
    return found


def tf_gridnet() -> Contender:
    """A TF-GridNet of LookOnceToHear's size, eager, as published code runs it."""
    import torch

    from benchmarks.tfgridnet import CHUNK, SAMPLE_RATE_HZ, TFGridNet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = TFGridNet().eval()
    held = {"state": net.start()}
    samples, voice = 0.05 * torch.randn(2, 192), torch.randn(256)

    def step() -> None:
        with torch.inference_mode():
            _, held["state"] = net(samples, voice, held["state"])

    return Contender(
        name=f"causal TF-GridNet, {net.weights / 1e6:.2f} M random weights, two ears",
        step=step,
        period_s=CHUNK / SAMPLE_RATE_HZ,
        model_bytes=4 * net.weights,
        state_bytes=sum(4 * value.numel() for part in net.start() for value in part),
        latency_ms=192 / SAMPLE_RATE_HZ * 1e3,
        runs_on=f"torch {torch.__version__} eager",
    )


def race(contenders: list[Contender], rounds: int, seconds: float, clock: Callable[[], float]) -> dict[str, dict[str, object]]:
    """Turns of ``seconds`` of audio each; milliseconds per second of audio: median and p99 over all hops."""
    taken: dict[str, list[float]] = {c.name: [] for c in contenders}
    for one in contenders:
        for _ in range(50):
            one.step()
    for _ in track(range(rounds), "rounds", transient=True):
        for one in contenders:
            for _ in range(max(1, round(seconds / one.period_s))):
                start = clock()
                one.step()
                taken[one.name].append(clock() - start)
    medians = {c.name: float(np.median(taken[c.name])) / c.period_s for c in contenders}
    unit = medians.get(OURS)
    return {
        c.name: {
            "runs_on": c.runs_on,
            "hop_ms": c.period_s * 1e3,
            "median_ms_per_s": medians[c.name] * 1e3,
            "p99_ms_per_s": float(np.percentile(taken[c.name], 99)) / c.period_s * 1e3,
            "ratio": medians[c.name] / unit if unit else None,
            "model_bytes": c.model_bytes,
            "state_bytes": c.state_bytes,
            "algorithmic_latency_ms": c.latency_ms,
            "hops": len(taken[c.name]),
        }
        for c in contenders
    }


@one_line
def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="folder of the files that benchmarks/peers/*.toml name")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds of audio in a turn")
    given = parser.parse_args()
    stored = RESULTS / "compute.json"
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(0)
    model = Artifact.shipped()
    model = personalize(model, shipped_cases()[0].voice(model.voice_model))
    contenders = [*ours(model, rng), *(peers(given.peers, rng) if given.peers else []), tf_gridnet()]
    figures = {
        "artifact": model.digest,
        "rounds": given.rounds,
        "seconds": given.seconds,
        "remark": busy(),
        "contenders": race(contenders, given.rounds, given.seconds, time.perf_counter),
    }
    Report(question="What does a second of audio cost?", figures=figures, environment=environment()).save(stored)
    Console(highlight=False).print(f"written to {stored}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
