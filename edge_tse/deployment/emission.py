"""How each emitter is called: module, artifact and target in; out comes what the target loads, with what its maker says of it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module, resources
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from edge_tse.errors import TargetError

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.deployment.target import Target

__all__ = ["Emitted", "from_graph", "image_or_sources", "on_npu", "on_tflm", "with_metadata"]


@dataclass(frozen=True, kw_only=True)
class Emitted:
    """What a target loads."""

    content: bytes
    kind: str
    """What it is, for people."""
    needs_bytes: Mapping[str, int] = field(default_factory=dict)
    """What is known better than planned, now that there is a file, by content (:data:`edge_tse.deployment.target.CONTENTS`)."""
    estimate: Mapping[str, Any] | None = None
    """Of a vendor's tool, as JSON: ``tool``, ``inference_ms``, ``layers`` with ``node``, ``operator``, ``cycles``, and more."""


def with_metadata(module: Any, artifact: Artifact, target: Target) -> Emitted:
    """``emit(graph, metadata)``; the device stores the file as it is."""
    return _stored(bytes(module.emit(artifact.graph, {"artifact": artifact.digest})), target)


def from_graph(module: Any, artifact: Artifact, target: Target) -> Emitted:
    """``emit(graph)``; the device stores the file as it is."""
    return _stored(bytes(module.emit(artifact.graph)), target)


def on_npu(module: Any, artifact: Artifact, target: Target) -> Emitted:
    """Vela's file and figures for the NPU and the memory that the target states. ``TargetError`` if it states none."""
    if target.vela is None:
        raise TargetError(f"target {target.name} states no NPU: choose one with a [vela] table, for instance ethos-u55-128")
    made = module.emit(artifact.graph, {"artifact": artifact.digest}, **asdict(target.vela))
    found = made.estimate
    figures = {key: value for key, value in asdict(found).items() if key != "layers"}
    # At the board's clock, which need not be that of the system Vela knows.
    spent_s = found.inference_s if target.clock_hz is None else found.cycles / target.clock_hz
    layers = [{**asdict(layer), "node": layer.name, "share": layer.cycles / max(1, found.cycles)} for layer in found.layers]
    return Emitted(
        content=made.content,
        kind=f".tflite for {target.vela.accelerator}",
        needs_bytes={"weights": len(made.content), "arena": found.sram_bytes},
        estimate={"tool": "Vela", "inference_ms": spent_s * 1e3, **figures, "layers": layers},
    )


def on_tflm(module: Any, artifact: Artifact, target: Target) -> Emitted:
    """As :func:`with_metadata`; where TFLite Micro is installed, with the arena that its allocator takes on this host."""
    emitted = with_metadata(module, artifact, target)
    if find_spec("tflite_micro") is None:
        return emitted
    total_bytes = import_module("edge_tse.engines.tflm").arena(emitted.content).total_bytes
    return replace(emitted, needs_bytes={**emitted.needs_bytes, "arena": total_bytes})


def image_or_sources(module: Any, artifact: Artifact, target: Target) -> Emitted:
    """An image that `edge-tse flash` takes where this build has start-up code for the board, else an archive of C sources."""
    boards = import_module("firmware_bridge.board")
    try:
        boards.core_of(target)
    except TargetError:
        return Emitted(content=_archive(module.generate(artifact)), kind="archive of C sources")
    image = boards.image_for(artifact, target)
    return Emitted(content=import_module("firmware_bridge.image").pack_image(image), kind="image")


def _stored(content: bytes, target: Target) -> Emitted:
    return Emitted(content=content, kind=f"file for {target.runtime}", needs_bytes={"weights": len(content)})


def _archive(generated: Mapping[str, str]) -> bytes:
    """The model's C and the library it is compiled with, as a ZIP archive; equal models give equal bytes."""
    files = {name: text.encode() for name, text in generated.items()}
    files |= dict(_read(resources.files("firmware_bridge") / "c", "c/"))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _read(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _read(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".c", ".h")):
            yield prefix + entry.name, entry.read_bytes()
