"""The native runtime: an image or C sources, replayed here as compiled for this machine or emulated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from shutil import which

from edge_tse.artifact import Artifact
from edge_tse.deployment.boards import Boards
from edge_tse.deployment.runtime import OPERATORS, Emitted, Replay, Runtime
from edge_tse.deployment.target import Target
from edge_tse.golden import Network
from edge_tse.graph import IntegerGraph
from firmware_bridge import emulator
from firmware_bridge.archive import pack_archive
from firmware_bridge.bill import image_bill
from firmware_bridge.board import core_of, has_core, image_for, program_of
from firmware_bridge.codegen import generate, plan_memory, voice_patch
from firmware_bridge.delivery import Delivery
from firmware_bridge.device import Device, DeviceNetwork
from firmware_bridge.image import pack_image, parse
from firmware_bridge.meter import count_hop
from firmware_bridge.native import NativeNetwork
from firmware_bridge.plugin import pack_plugins, plugin_in

__all__ = ["BOARDS", "RUNTIMES"]

BOARDS: Boards = Delivery()
"""Boards, the offer behind `edge-tse flash`, `board` and `live --engine device`."""


def _image_or_sources(artifact: Artifact, target: Target) -> Emitted:
    """Emit an image for `edge-tse flash` where this build has start-up code for the board, else an archive of C sources."""
    generated = generate(artifact)
    if not has_core(target):
        content, bill = pack_archive(artifact, generated)
        return Emitted(content=content, kind="archive of C sources", bill=bill)
    core = core_of(target)
    image = image_for(artifact, target)
    return Emitted(content=pack_image(image), kind="image", bill=image_bill(artifact, generated, image, core, program_of(core)))


def _suffixes(target: Target) -> tuple[str, ...]:
    return (".img", ".bin") if has_core(target) else (".zip",)


def _plugins(artifact: Artifact, target: Target) -> Emitted:
    content, bill = pack_plugins(artifact)
    return Emitted(content=content, kind="LADSPA and LV2 plugins and a JACK client", bill=bill)


def _planned_rings(artifact: Artifact) -> dict[str, int]:
    """Memory of the model with states that are read in place, so that the arena is small; a changeable voice is in memory too."""
    memory = plan_memory(artifact)
    return {"weights": memory.weights + memory.tables, "arena": memory.arena + memory.voice, "state": memory.state}


def _compile_here(graph: IntegerGraph, content: bytes | None) -> Network:
    return NativeNetwork(graph)


def _open_plugin(graph: IntegerGraph, content: bytes | None) -> Network:
    return NativeNetwork(graph, binary=None if content is None else plugin_in(content))


@dataclass(frozen=True, kw_only=True)
class _OnEmulator(Replay):
    """Replay of the image on the emulated board of the target: its own kernels, its own integers."""

    def available(self, target: Target) -> bool:
        return target.flasher.startswith("qemu-") and which(target.flasher) is not None and super().available(target)

    @contextmanager
    def open(self, artifact: Artifact, target: Target, content: bytes) -> Iterator[Network]:
        with closing(emulator.start(core_of(target), parse(content).payload)) as link:
            yield DeviceNetwork(Device(link), artifact)


RUNTIMES: Mapping[str, Runtime] = {
    "native-c": Runtime(
        description="C without a runtime, weights and kernels in one image",
        emitter="firmware_bridge.codegen",
        needs=(),
        extra="firmware",
        engine="native",
        opens_quickly=False,
        replays=(
            _OnEmulator(module="firmware_bridge.board", network=None, needs=("ziglang",), extra="firmware", emulates=True),
            Replay(
                module="firmware_bridge.native",
                network=_compile_here,
                needs=("ziglang",),
                extra="firmware",
                what="the same sources, compiled for this machine",
            ),
        ),
        write=_image_or_sources,
        suffixes=_suffixes,
        needs_bytes=_planned_rings,
        count=count_hop,
        patch=voice_patch,
        operators=OPERATORS - {"Multiply"},
    ),
    "plugin": Runtime(
        description="LADSPA and LV2 plugins and a JACK client, in a .zip for Linux on this kind of machine",
        emitter="firmware_bridge.codegen",
        needs=("ziglang",),
        extra="firmware",
        engine="native",
        opens_quickly=False,
        suffixes=lambda target: (".zip",),
        replays=(
            Replay(
                module="firmware_bridge.native",
                network=_open_plugin,
                needs=("ziglang",),
                extra="firmware",
                what="the plugin itself",
            ),
        ),
        write=_plugins,
        needs_bytes=_planned_rings,
        patch=voice_patch,
        operators=OPERATORS - {"Multiply"},
    ),
}
