"""Report of the installation: packages found, engines really tried, and the line that installs what is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

import numpy as np
from rich.table import Table

from edge_tse.artifact import Artifact
from edge_tse.cli.output import open_quietly, quietly, table
from edge_tse.deployment.runtime import runtime_named, runtime_of
from edge_tse.engines import Network
from edge_tse.errors import EdgeTseError
from edge_tse.front import compiled_state
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line
from edge_tse.operators import node_inputs
from edge_tse.report import environment

__all__ = ["EXTRAS", "EngineFinding", "ExtraFinding", "Findings", "examine"]

STEPS = 250
"""Frames each engine is stepped: one second."""

EXTRAS = {
    "audio": ("sound files", ("soundfile", "soxr")),
    "litert": ("the LiteRT engine and the demonstration", ("ai-edge-litert", "flatbuffers", "matplotlib")),
    "live": ("microphones and earphones", ("pyaudio",)),
    "studio": ("a page that steers them", ("starlette", "uvicorn", "websockets")),
    "onnx": ("the ONNX engine and its files", ("onnx", "onnxruntime")),
    "executorch": ("the ExecuTorch engine, Ethos-U through Vela", ("executorch", "torch", "ethos-u-vela")),
    "tflm": ("the TFLite Micro engine", ("tflite-micro",)),
    "firmware": ("images and boards", ("ziglang", "pyserial", "cryptography")),
    "train": ("training and quantization", ("torch", "brevitas", "lightning-fabric")),
    "eval": ("scores of evaluations", ("pesq", "pystoi", "scipy")),
    "hearing": ("scores for hearing losses", ("numba",)),
    "cluster": ("evaluation on several machines", ("distributed", "cryptography")),
}
"""Purpose of each extra, and distributions by which it is known."""


@dataclass(frozen=True, kw_only=True)
class ExtraFinding:
    """A group of packages that an extra of edge-tse brings."""

    extra: str
    purpose: str
    found: Mapping[str, str]
    """Distribution to version."""
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class EngineFinding:
    """An engine, tried on the shipped model."""

    engine: str
    description: str
    runs: bool
    detail: str
    """Measured step time, or the reason why the engine does not run, with the remedy."""
    network_p50_ms: float | None


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything the doctor saw."""

    environment: Mapping[str, object]
    model: Mapping[str, object] | None
    """Digest, sizes and provenance of the shipped model; None if this build has none that can be read."""
    model_detail: str
    front_end: Mapping[str, object]
    """State of the front end: whether the compiled one is in use, and a remark about it."""
    engines: tuple[EngineFinding, ...]
    extras: tuple[ExtraFinding, ...]

    def figures(self) -> dict[str, object]:
        return {
            "environment": self.environment,
            "model": self.model,
            "model_detail": self.model_detail,
            "front_end": self.front_end,
            "engines": [asdict(engine) for engine in self.engines],
            "extras": [
                {**asdict(extra), "install": None if not extra.missing else install_line(extra.extra)} for extra in self.extras
            ],
        }

    def tables(self) -> list[Table]:
        here = self.environment
        machine = {
            "edge-tse": str(_versions(here)["edge-tse"]),
            "python": str(here["python"]),
            "system": f"{here['system']}, {here['machine']}",
            "processor": f"{here['cpu']}, {here['cpus']} cores",
            "model": self.model_detail,
            "front end": str(self.front_end["detail"]),
        }
        engines = {e.engine: f"{'runs' if e.runs else 'does not run'}: {e.detail}" for e in self.engines}
        extras = {}
        for extra in self.extras:
            state = ", ".join(f"{name} {version}" for name, version in extra.found.items()) or "nothing installed"
            if extra.missing:
                state += f"; missing {', '.join(extra.missing)}: {install_line(extra.extra)}"
            extras[f"{extra.extra}"] = f"{extra.purpose}: {state}"
        return [table("this machine", machine), table("engines", engines), table("packages", extras)]


def examine() -> Findings:
    """Examine this installation and try every engine; nothing that is missing is an error here."""
    model = None
    try:
        model = Artifact.shipped()
        detail = f"{model.digest[:12]}, {model.graph.weight_bytes} bytes of int8 weights, {model.graph.macs} MAC per hop"
    except EdgeTseError as failure:
        detail = str(failure)
    described = None
    if model is not None:
        described = {
            "digest": model.digest,
            "weight_bytes": model.graph.weight_bytes,
            "state_bytes": model.graph.state_bytes,
            "macs_per_hop": model.graph.macs,
            "provenance": model.provenance,
        }
    from edge_tse.engines import engines

    compiled, front_detail = compiled_state()
    return Findings(
        environment=environment(),
        model=described,
        model_detail=detail,
        front_end={"compiled": compiled, "detail": front_detail},
        engines=tuple(_try(name, info.description, model) for name, info in engines().items()),
        extras=tuple(_look(extra, purpose, names) for extra, (purpose, names) in EXTRAS.items()),
    )


def _try(name: str, description: str, model: Artifact | None) -> EngineFinding:
    if model is None:
        return EngineFinding(
            engine=name, description=description, runs=False, detail="there is no model to try", network_p50_ms=None
        )
    try:
        network, what = _open(model, name)
        features = np.zeros(model.frame.features, np.int8)
        step_s = np.empty(STEPS)
        for i in range(STEPS):
            began = time.perf_counter()
            network.run(features)
            step_s[i] = time.perf_counter() - began
    except EdgeTseError as failure:
        return EngineFinding(engine=name, description=description, runs=False, detail=str(failure), network_p50_ms=None)
    p50_ms = float(np.median(step_s)) * 1e3
    return EngineFinding(
        engine=name,
        description=description,
        runs=True,
        detail=f"{network.name}, {p50_ms:.3f} ms {what} (the hop is {model.frame.period_s * 1e3:.1f} ms)",
        network_p50_ms=p50_ms,
    )


def _open(model: Artifact, name: str) -> tuple[Network, str]:
    """The whole model, or its first layer where a runtime takes long to write its file; and the name of what is stepped."""
    known = runtime_of(name)
    runtime = None if known is None else runtime_named(known)
    if runtime is None or runtime.opens_quickly or not runtime.replays:
        return open_quietly(model, name), "a step"
    node = model.graph.nodes[0]
    tensors = {t: model.graph.tensors[t] for t in (*node_inputs(node), node.output)}
    layer = IntegerGraph(tensors=tensors, nodes=(node,), inputs=node_inputs(node), outputs=(node.output,), states=())
    with quietly():
        network = runtime.replays[0].load()(layer, None)
    return network, "its first layer"


def _look(extra: str, purpose: str, names: tuple[str, ...]) -> ExtraFinding:
    found, missing = {}, []
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    return ExtraFinding(extra=extra, purpose=purpose, found=found, missing=tuple(missing))


def _versions(here: Mapping[str, object]) -> Mapping[str, str]:
    versions = here["versions"]
    assert isinstance(versions, Mapping)
    return versions
