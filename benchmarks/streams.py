"""How many wearers does one core of a server carry, and what does a fleet of a million cost to store, send and verify?

python -m benchmarks.streams [--streams 64] [--rounds 5]

Streams take turns, a hop each, as a server would serve them: every stream has a voice and a past of its own, so that they push
each other out of the caches; and ten hops each, which a server can do where 36 ms more do not matter. Times are processor seconds
of this process on one core, not the clock's: what other programs take from that core is not in them, but that they share its
caches is. Of several rounds the median counts, and the least is told. Writes ``results/streams.json``;
``python -m benchmarks.scale_page`` makes docs/scale.md of it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks import RESULTS, one_line
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.cli.output import open_quietly
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine, Step
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.personalization import personalize
from edge_tse.report import Report, busy, environment, memory
from edge_tse.voice import Voice

Result = TypeVar("Result")
Stream = Callable[[int], object]
"""A stream that takes the hop of that number."""
HOPS = 64
"""Different hops of sound, repeated."""
STEPS = 640
"""Steps in a round, of all streams together."""
BURST = 10
"""Hops of a longer turn."""
FLEET_CORE = "Cortex-M55, Helium"
"""Core whose image is counted."""


def sound(artifact: Artifact, ears: int) -> NDArray[np.float32]:
    """Two talkers, ``[HOPS, ears, hop]`` float32."""
    mono = shipped_cases()[0].mixture.signal[0]
    both = np.stack([mono, np.roll(mono, 5) * np.float32(0.8)])[:ears, 16000:]
    hop = artifact.frame.hop
    return np.ascontiguousarray(both[:, : HOPS * hop].reshape(ears, HOPS, hop).transpose(1, 0, 2), np.float32)


@contextmanager
def native_streams(artifact: Artifact, voice: Voice, ears: int, count: int) -> Iterator[tuple[str, list[Stream]]]:
    """Streams on the C engine and the name of its kernels: the compiled library keeps one stream, so each has a copy of it."""
    from firmware_bridge.build import shared_library
    from firmware_bridge.codegen import generate, voice_patch

    hops = np.clip(sound(artifact, ears) * 32768, -32768, 32767).astype(np.int16)
    out, patch = np.empty_like(hops[0]), voice_patch(artifact, voice)
    to = out.ctypes.data_as(ctypes.c_void_p)
    sources = [hop.ctypes.data_as(ctypes.c_void_p) for hop in hops]
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "stream.so"
        shared_library(generate(artifact), first)
        libraries = []
        for i in range(count):
            copy = first.with_name(f"stream{i}.so")
            shutil.copyfile(first, copy)
            library = ctypes.CDLL(str(copy))
            library.etse_kernels.restype = ctypes.c_char_p
            library.etse_init(ears)
            assert library.etse_set_voice(patch, ctypes.c_size_t(len(patch))) == 0, "the patch is this model's"
            libraries.append(library)
        kernels = libraries[0].etse_kernels().decode()
        yield f"native/{kernels}", [partial(_process, library.etse_process, sources, to) for library in libraries]


@contextmanager
def litert_streams(artifact: Artifact, voice: Voice, ears: int, count: int) -> Iterator[tuple[str, list[Stream]]]:
    """Streams on LiteRT, an interpreter each, with the front end around it."""
    own, hops = personalize(artifact, voice), sound(artifact, ears)
    networks = [open_quietly(own, "litert") for _ in range(count)]
    steps = [Engine(own, network).start(ears) for network in networks]
    yield networks[0].name, [partial(_step, step, hops) for step in steps]


def _process(process: Callable[[object, object], object], sources: Sequence[object], to: object, number: int) -> object:
    return process(sources[number % HOPS], to)


def _step(step: Step, hops: NDArray[np.float32], number: int) -> object:
    return step(hops[number % HOPS])


ENGINES = {"native": native_streams, "litert": litert_streams}


def processor_us(streams: Sequence[Stream], steps: int, rounds: int, clock: Callable[[], float], burst: int = 1) -> list[float]:
    """Microseconds of the processor for a step, in each round of about so many ``steps``; a turn of a stream is ``burst`` hops."""
    turns = max(1, round(steps / len(streams) / burst))
    found = []
    for at in range(rounds + 1):
        start = clock()
        for n in range(at * turns, (at + 1) * turns):
            for stream in streams:
                for hop in range(n * burst, (n + 1) * burst):
                    stream(hop)
        found.append((clock() - start) / (turns * burst * len(streams)) * 1e6)
    return found[1:]  # the first one warms up


def rows(name: str, engine: str, ears: int, most: int, rounds: int) -> list[dict[str, object]]:
    """Cost of a step by how many streams take turns, and by the hops of a turn. In a process of its own, for the memory."""
    model = Artifact.find(Path(name))
    voice, before = shipped_cases()[0].voice(model.voice_model), memory()["rss_bytes"]
    found: list[dict[str, object]] = []
    with ENGINES[engine](model, voice, ears, most) as (runs_on, streams):
        for count, burst in [(n, 1) for n in sorted({1, min(16, most), most})] + [(most, BURST)]:
            taken = processor_us(streams[:count], STEPS, rounds, time.process_time, burst)
            what = {"model": name, "engine": engine, "runs_on": runs_on, "ears": ears, "streams": count, "burst": burst}
            found.append({**what, "step_us": float(np.median(taken)), "step_us_least": min(taken)})
        grown = round((memory()["rss_bytes"] - before) / most)
    return [{**row, "memory_bytes_per_stream": grown} for row in found]


def fleet(names: Sequence[str]) -> dict[str, object]:
    """Sizes of what wearers are sent, and processor time of what is done for each."""
    from firmware_bridge.codegen import voice_patch
    from firmware_bridge.image import make, pack_image, parse, public_key, sign

    found: dict[str, object] = {}
    for name in names:
        model = Artifact.find(Path(name))
        clip = shipped_cases()[0].enrollments[0]
        clips = [(clip.name, clip.signal, clip.rate_hz)]
        enrolled, enroll_s = _timed(partial(enroll_clips, model.voice_model, clips), 5)
        patch, patch_s = _timed(partial(voice_patch, model, enrolled.voice), 20)
        core = json.loads((RESULTS / f"firmware-{name}.json").read_text())["figures"]["cores"][FLEET_CORE]
        image = make(bytes(core["image_bytes"]), target="fleet", core="Cortex-M55", artifact_digest=model.digest)
        with tempfile.TemporaryDirectory() as folder:
            key = Path(folder) / "key.pem"
            subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
            trusted = [public_key(key)]
            signed, sign_s = _timed(partial(sign, image, key), 50)
        content = pack_image(signed)
        _, verify_s = _timed(partial(parse, content, trusted=trusted), 50)
        found[name] = {
            "enrollment_s": clip.signal.shape[1] / clip.rate_hz,
            "enroll_cpu_ms": enroll_s * 1e3,
            "patch_bytes": len(patch),
            "patch_cpu_ms": patch_s * 1e3,
            "image_bytes": len(content),
            "sign_cpu_ms": sign_s * 1e3,
            "verify_cpu_ms": verify_s * 1e3,
        }
    return found


def _timed(work: Callable[[], Result], rounds: int) -> tuple[Result, float]:
    """The result, and the median of processor seconds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        result = work()
        taken.append(time.process_time() - start)
    return result, float(np.median(taken))


@one_line
def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, metavar="N", help="most streams at once")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if min(given.streams, given.rounds) < 1:
        parser.error(f"{given.streams} streams in {given.rounds} rounds: at least 1 each")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    models = {name: Artifact.find(Path(name)) for name in shipped_names()}
    asked = [(name, engine, ears) for name in models for engine in ENGINES for ears in (1, 2)]
    measured: list[dict[str, object]] = []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        for name, engine, ears in track(asked, "streams"):
            measured += pool.submit(rows, name, engine, ears, given.streams, given.rounds).result()
    figures = {
        "rounds": given.rounds,
        "clock": "time.process_time",
        "remark": busy(),
        "models": {
            name: {
                "artifact": model.digest,
                "period_s": model.frame.period_s,
                "hop": model.frame.hop,
                "macs_per_hop": model.graph.macs,
                "weight_bytes": model.graph.weight_bytes,
                "state_bytes": model.graph.state_bytes,
            }
            for name, model in models.items()
        },
        "rows": measured,
        "fleet": fleet(list(models)),
    }
    Report(question="How many wearers does one core carry?", figures=figures, environment=environment()).save(
        RESULTS / "streams.json"
    )
    Console(highlight=False).print(figures, markup=False)


if __name__ == "__main__":
    from benchmarks.streams import main as named  # a process finds its work by the name of the module

    sys.exit(named())
