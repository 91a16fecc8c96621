"""Meter of a step: exact instruction counts from an emulator. They say "emulated" and are no time; cycles need a board.

An emulator does not model caches, wait states or dual issue. The count is the same on every run and every machine.
"""

from __future__ import annotations

import bisect
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.deployment.target import Target, load_target, targets
from edge_tse.errors import TargetError
from firmware_bridge.build import PROGRAMS, Program, build_program, zig
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES, Core
from firmware_bridge.elf import read_sections, read_symbols

__all__ = ["Counts", "count_hop", "count_instructions", "emulate", "emulated_core"]

EVIDENCE = "emulated"
"""Evidence of every figure made here."""
_PACKAGES = {"qemu-system-arm": "qemu-system-arm", "qemu-aarch64": "qemu-user"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Instructions of a part of a program, each time it was passed."""

    passes: NDArray[np.int64]
    """Instructions of each pass in order, ``[passes]``."""
    functions: Mapping[str, float]
    """Mean per pass by function, callees not included, most expensive first."""
    evidence: str = EVIDENCE


def emulate(
    image: Program, words: Sequence[str], folder: Path, *, plugin: Sequence[str] = (), timeout_s: float = 120
) -> dict[str, str]:
    """Run an image on its core's emulator with a command line, in a folder with its files.

    Returns what it printed, by the first word of each line. ``TargetError`` if the emulator is missing, or the program
    faults, fails or does not end.
    """
    core = image.core
    if not core.emulator:
        raise TargetError(f"{core.name} has no emulator: run it on hardware")
    head, options = core.emulator[0], list(core.emulator[1:])
    command = [head, *plugin, *options, str(image.path.resolve()), *words]
    if core.regions:
        arguments = "".join(f",arg={word}" for word in ("etse", *words))
        command[-len(words) :] = ["-semihosting-config", f"enable=on,target=native{arguments}"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
    except FileNotFoundError as error:
        raise TargetError(
            f"{core.name} runs on {head}, which is not installed: apt-get install {_PACKAGES.get(head, head)}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TargetError(f"{core.name} did not end within {timeout_s:g} s on {head}: it hangs, or needs more time") from error
    lines = [line for text in (done.stdout, done.stderr) for line in text.splitlines() if line.strip()]
    if done.returncode:
        raise TargetError(f"{core.name} failed with status {done.returncode} on {head}: {lines[-1] if lines else 'no message'}")
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def count_instructions(
    image: Program,
    words: Sequence[str],
    folder: Path,
    *,
    first: str = "etse_process",
    last: str = "port_write",
    timeout_s: float = 120,
) -> Counts:
    """Instructions each time a run goes from the start of ``first`` (included) to the start of ``last`` (excluded).

    Both are functions of the image; the few instructions of their caller between them are counted too.
    """
    plugin, out = folder / "count.so", folder / "count.txt"
    _build_plugin(plugin)
    symbols = [symbol for symbol in read_symbols(image.path) if symbol.function]
    places = {symbol.name: symbol.address for symbol in symbols}
    for name in (first, last):
        if name not in places:
            raise TargetError(f"{image.path} has no function {name} to count between")
    (text,) = (section for section in read_sections(image.path) if section.name == ".text")
    fields = {
        "from": places[first],
        "to": places[last],
        "low": text.address,
        "high": text.address + text.size_bytes,
    }
    arguments = "".join(f",{name}={value:#x}" for name, value in fields.items())
    emulate(image, words, folder, plugin=("-plugin", f"{plugin.resolve()}{arguments},out={out.resolve()}"), timeout_s=timeout_s)
    passes: list[int] = []
    by_function: Counter[str] = Counter()
    starts = [symbol.address for symbol in symbols]
    for line in out.read_text().splitlines():
        key, count = line.split()
        if key == "pass":
            passes.append(int(count))
        else:
            by_function[symbols[bisect.bisect(starts, int(key)) - 1].name] += int(count)
    if not passes:
        raise TargetError(f"{image.path} never went from {first} to {last}: there is nothing to count")
    means = {name: count / len(passes) for name, count in by_function.most_common()}
    return Counts(passes=np.array(passes), functions=means)


def emulated_core(target: Target) -> Core | None:
    """The emulated core of the same kind as the target's; None if there is none."""
    return next((CORES[name] for name, core in _cores().items() if core == target.core), None)


def count_hop(artifact: Artifact, target: Target, ears: int, hops: int = 8) -> dict[str, object]:
    """Instructions of a hop of sound on the target's kind of core, front end and network, over noise at speech level.

    Instructions are exact; whether they fit into a hop is modelled as one instruction a cycle of the target's clock, and only
    stated where the target has one. ``TargetError`` if no emulator here has such a core, or something to build with is missing.
    """
    core = emulated_core(target)
    if core is None:
        raise TargetError(f"no emulator here has a {target.core}: instructions are counted for {', '.join(_cores().values())}")
    noise = np.random.default_rng(0).normal(0, 1600, (hops, ears, artifact.frame.hop))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise.astype(np.int16).tofile(folder / "sound")
        image = build_program(generate(artifact), core, folder / "image.elf")
        words = [str(ears), "sound", "out"]
        whole = count_instructions(image, ["process", *words], folder)
        network = count_instructions(image, ["parts", *words], folder, first="etse_network", last="etse_synthesize")
    most = int(whole.passes.max())
    there_are = None if target.clock_hz is None else target.clock_hz * artifact.frame.period_s
    return {
        "evidence": EVIDENCE,
        "core": core.name,
        "instructions_per_hop": most,
        "instructions_network": int(network.passes.max()),
        "functions": {name: round(mean) for name, mean in whole.functions.items()},
        "deadline": None
        if there_are is None
        else {"evidence": "modelled: one instruction a cycle", "cycles_per_hop": there_are, "share": most / there_are},
    }


def _cores() -> dict[str, str]:
    """Emulated boards and the cores they have."""
    known = set(targets())
    return {name: load_target(name).core for name, core in CORES.items() if core.regions and core.emulator and name in known}


def _build_plugin(to: Path) -> None:
    source = PROGRAMS / "count_plugin.c"
    # The emulator that loads it has the functions it calls.
    command = [*zig(), "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-Wl,-z,undefs", str(source)]
    done = subprocess.run([*command, "-o", str(to)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise TargetError(f"the counting plugin does not compile: {(done.stderr.splitlines() or ['no message'])[0]}")
