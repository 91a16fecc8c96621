"""Targets: descriptions of boards, as data that is checked when it is read.

A target is a TOML file (``targets/boards/NAME.toml``, or one of your own given by path). A key that is not known, a type that is
not right and a figure without a public source are errors that name the key and, if there is one, the nearest valid one. No code
asks for a target by its name: what differs between boards is in their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from edge_tse.deployment.offers import load_offers
from edge_tse.errors import TargetError
from edge_tse.files import read_bytes
from edge_tse.table import MOST_BYTES, nearest, parse_table, read_table

__all__ = ["CONTENTS", "EVIDENCE", "FLASHERS", "Region", "Target", "Toolchain", "Vela", "find_target", "load_target", "targets"]

CONTENTS = ("code", "weights", "arena", "state")
"""Contents of memory regions. The arena holds the activations of one step, state is remembered between two steps."""

EVIDENCE = {
    "hardware": "run on the thing itself",
    "emulated": "run on an emulator that executes its instructions, not its time",
    "estimate": "figures from a vendor's tool, nothing run",
    "untested": "figures from documents, nothing run",
}
"""Evidence for a target: how far it has been tried."""

FLASHERS = {
    "none": "",
    "adb": "adb",
    "jlink": "JLinkExe",
    "pyocd": "pyocd",
    "qemu-aarch64": "qemu-aarch64",
    "qemu-system-arm": "qemu-system-arm",
    "setools": "app-write-mram",
    "ssh": "ssh",
}
"""Flashers: the way an image is put where it runs, and the program that must be on the path for it."""

_FIGURES = ("clock_hz", "macs_per_cycle", "code_bytes", "latency_budget_ms", "vela")


@dataclass(frozen=True, kw_only=True)
class Region:
    """A memory of a board."""

    name: str
    size_bytes: int
    holds: tuple[str, ...]
    """Contents that may live here (:data:`CONTENTS`); regions are filled in the order of the file."""
    source: str
    """Public document the size is from."""
    origin: int | None = None
    """Address of the first byte."""
    bytes_per_s: float | None = None
    """Sustained reading rate, where a document states it: weights that stay here are read once per step."""


@dataclass(frozen=True, kw_only=True)
class Toolchain:
    """The compiler that turns sources into an image."""

    compiler: str
    """Program or, for ``zig``, the package ziglang."""
    triple: str
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Vela:
    """Settings of Vela for an Ethos-U and the memory around it."""

    accelerator: str
    system_config: str
    memory_mode: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A board, or a class of machines."""

    name: str
    description: str
    core: str
    """Processor that executes the graph."""
    isa: str
    runtime: str
    """One of :func:`edge_tse.deployment.offers.load_offers`."""
    link: str
    """Carrier of samples and commands to the board and back."""
    flasher: str
    """One of :data:`FLASHERS`."""
    meter: str
    """Instrument that measures its time."""
    latency_budget_ms: float
    """Largest algorithmic latency that its use allows."""
    evidence: str
    """One of :data:`EVIDENCE`."""
    sources: Mapping[str, str]
    """Public source of each figure, by the figure's name."""
    clock_hz: float | None = None
    """Clock rate; None where there is no one clock, or where time is not emulated."""
    macs_per_cycle: float | None = None
    """int8 multiply-accumulates per cycle, as counted with the kernels or as an NPU is built."""
    code_bytes: int | None = None
    """Bytes of the program without the model, where they are known."""
    memory: tuple[Region, ...] = ()
    """Memory regions; empty where a file system and virtual memory make them no question."""
    toolchain: Toolchain | None = None
    vela: Vela | None = None
    origin: str = field(default="", compare=False)
    """The file it was read from."""

    def __post_init__(self) -> None:
        where = self.origin or self.name
        _one_of(where, "runtime", self.runtime, load_offers())
        _one_of(where, "evidence", self.evidence, EVIDENCE)
        _one_of(where, "flasher", self.flasher, FLASHERS)
        for region in self.memory:
            for content in region.holds:
                _one_of(f"{where}: memory {region.name}", "content", content, CONTENTS)
            if region.size_bytes < 1:
                raise TargetError(f"{where}: memory {region.name} has {region.size_bytes} bytes: state its size")
        homeless = set(CONTENTS) - {content for region in self.memory for content in region.holds}
        if self.memory and homeless:
            raise TargetError(f"{where}: no memory holds {', '.join(sorted(homeless))}: add it to a region's `holds`")
        if len({region.name for region in self.memory}) != len(self.memory):
            raise TargetError(f"{where}: two memories have one name: rename one")
        figures = [name for name in _FIGURES if getattr(self, name) is not None]
        for name in self.sources:
            _one_of(where, "source", name, figures)
        if unsourced := [name for name in figures if not self.sources.get(name)]:
            raise TargetError(f"{where}: no source for {', '.join(unsourced)}: name a public document under [sources]")
        for name in ("clock_hz", "macs_per_cycle", "code_bytes", "latency_budget_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TargetError(f"{where}: {name} is {value}: it must be positive")


def targets() -> tuple[str, ...]:
    """Names of the boards that this build describes, sorted."""
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in _boards().iterdir() if entry.name.endswith(".toml")))


def load_target(name: str) -> Target:
    """The board of that name, or the file if the name ends in ``.toml``. ``TargetError`` if it is unknown or misdescribed."""
    if name.endswith(".toml"):
        path = Path(name)
        return _parse(read_bytes(path, MOST_BYTES, TargetError, "target"), path.stem, str(path))
    known = targets()
    if name not in known:
        names = [*load_offers(), *known]
        raise TargetError(f"unknown target {name!r}: one of {', '.join(names)}{nearest(name, names, 0.7)}")
    return _parse((_boards() / f"{name}.toml").read_bytes(), name, f"targets/boards/{name}.toml")


def find_target(name: str) -> Target:
    """A target as :func:`load_target` finds it, where the name of a runtime alone means this machine with that runtime."""
    if name not in load_offers():
        return load_target(name)
    return replace(load_target("host"), name=name, description=load_offers()[name].description, runtime=name)


def _boards() -> Any:
    # Found by name: the data belong to a package that the vocabulary does not depend on.
    return resources.files("targets") / "boards"


def _parse(content: bytes, name: str, origin: str) -> Target:
    return read_table(Target, parse_table(content, origin, TargetError), origin, TargetError, name=name, origin=origin)


def _one_of(where: str, what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise TargetError(f"{where}: unknown {what} {value!r}{nearest(value, known)}")
