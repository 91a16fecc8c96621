"""Third-party models on the bench: verbs that expect an artifact also take a description (``.toml``)."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich.table import Table

from edge_tse.cli.output import quietly, table
from edge_tse.deployment.compiled_file import record_path
from edge_tse.engines.foreign import ForeignModel, ForeignNetwork, first_description, likely_states, load_foreign, steadiness
from edge_tse.errors import DataError, ParityError
from edge_tse.files import write_bytes
from edge_tse.report import Report, Timing, busy, environment, memory

__all__ = ["describe", "described", "profile_foreign", "verify_foreign"]

_WARM_UP = 50


def described(path: Path | None) -> bool:
    """Whether a file is the description of a model of others.

    ``DataError`` with what to write for one of their models without it.
    """
    if path is None or path.suffix not in (".toml", ".onnx", ".tflite"):
        return False
    if path.suffix != ".toml":
        beside = path.with_suffix(".toml")
        remedy = f"give {beside}" if beside.exists() else f"describe it in {beside.name}: `edge-tse profile {path} --describe`"
        raise DataError(
            f"{path} does not explain itself, and {record_path(path).name}, which `compile` writes beside its files, is not there: "
            f"for a model of others, {remedy}"
        )
    return True


def describe(path: Path) -> tuple[Path, str]:
    """Write a first description beside a model; the file, and a line about it. ``DataError`` if there is one."""
    to = path.with_suffix(".toml")
    if path.suffix not in (".onnx", ".tflite"):
        raise DataError(f"--describe is for .onnx and .tflite, {path} is neither")
    if to.exists():
        raise DataError(f"{to} is there already: it was left as it is, remove it to have a new one")
    with quietly():
        pairs = likely_states(path)
    write_bytes(to, first_description(path, pairs).encode())
    return to, f"{to}: {len(pairs)} states by their names; correct it, above all sample_rate_hz, hop and algorithmic_latency"


def profile_foreign(path: Path, hops: int, to: Path | None) -> tuple[dict[str, object], Table]:
    """Time ``hops`` steps over noise; figures by name, and a table of them."""
    if to is not None and to.suffix != ".json":
        raise DataError(f"{to}: the profile of a foreign model is written as .json, not as {to.suffix or 'nothing'}")
    model = load_foreign(path)
    rng = np.random.default_rng(0)
    with quietly():
        network = ForeignNetwork(model)
        given = [network.noise(rng) for _ in range(32)]
        for i in range(_WARM_UP):
            network.check_finite(network.run(given[i % len(given)]), i)
        taken = np.array([network.run_timed(given[i % len(given)], time.perf_counter) for i in range(hops)])
    timing = Timing(hop_s=taken, period_s=model.period_s)
    figures: dict[str, object] = {
        **_identity(model, network),
        "step": timing.figures(),
        "memory": {**memory(), "state_bytes": network.state_bytes},
        "model": {"file_bytes": model.file_bytes},
        "algorithmic_latency_ms": model.algorithmic_latency / model.sample_rate_hz * 1e3,
        "remark": busy(),
        "step_us": np.round(taken * 1e6, 1),
    }
    report = Report(question="What does a foreign model cost?", figures=figures, environment=environment())
    if to is not None:
        write_bytes(to, (report.to_json() + "\n").encode())
    rows = {
        "runs on": network.name,
        f"a step of {model.period_s * 1e3:g} ms, without a front end": f"p50 {timing.percentile_s(50) * 1e3:.3f}  "
        f"p99 {timing.percentile_s(99) * 1e3:.3f}  max {timing.hop_s.max() * 1e3:.3f} ms",
        "a second of audio": f"{timing.percentile_s(50) / model.period_s * 1e3:.2f} ms",
        "late steps": f"{timing.misses} of {hops}",
        "model": f"{model.file_bytes:,} B",
        "state": f"{network.state_bytes:,} B",
    }
    return {k: v for k, v in figures.items() if k != "step_us"}, table(model.name, rows)


def verify_foreign(path: Path) -> tuple[dict[str, object], Table]:
    """Verify a model that has no golden frames; ``ParityError`` if it does not repeat itself."""
    model = load_foreign(path)
    with quietly():
        network = ForeignNetwork(model)
        seen = steadiness(model)
    if not seen.repeats:
        raise ParityError(f"{model.name}: the same {seen.frames} frames from reset gave other bits: a state is missing in {path}")
    rows = {
        "runs on": network.name,
        "frames": str(seen.frames),
        "repeats from reset": "yes, bit for bit",
        "its states matter": "yes" if seen.remembers else "no: each step stands alone",
        "to the reference kernels": "none here"
        if seen.kernel_difference is None
        else f"{seen.kernel_difference:.2e} of the largest",
    }
    return {**_identity(model, network), **vars(seen)}, table(model.name, rows)


def _identity(model: ForeignModel, network: ForeignNetwork) -> dict[str, object]:
    return {"model_name": model.name, "source": model.source, "engine": network.name}
