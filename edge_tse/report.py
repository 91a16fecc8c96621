"""Measurements, from raw times up: every figure that edge-tse prints or publishes is computed here, and none is typed in.

Compute time is host-seen and never mixed with algorithmic latency, which follows from the frame alone.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.files import write_bytes
from edge_tse.version import __version__

__all__ = ["Report", "Timing", "busy", "environment", "memory", "to_json", "versions"]

_PACKAGES = (
    "numpy",
    "ai-edge-litert",
    "tflite-runtime",
    "tflite-micro",
    "executorch",
    "torchao",
    "onnx",
    "onnxruntime",
    "ethos-u-vela",
    "ziglang",
    "soundfile",
    "soxr",
    "torch",
    "brevitas",
    "rich",
    "typer",
    "matplotlib",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Timing:
    """Compute time of every step of a run."""

    hop_s: NDArray[np.float64] | NDArray[np.float32]
    """``[hops]``, raw, in order: the slow first step and every interruption by the system are in it."""
    period_s: float
    """The deadline: seconds of sound in a step."""

    def __post_init__(self) -> None:
        if not len(self.hop_s):
            raise ValueError("no step was timed")

    def percentile_s(self, percent: float) -> float:
        """Smallest time that at least ``percent`` % of the steps did not exceed: a time that occurred, not an interpolation."""
        return float(np.percentile(self.hop_s, percent, method="inverted_cdf"))

    @property
    def real_time_factor(self) -> float:
        """Compute time per second of sound: 1.0 is the limit of real time."""
        return float(self.hop_s.mean()) / self.period_s

    @property
    def misses(self) -> int:
        """Steps that took longer than their period."""
        return int(np.count_nonzero(self.hop_s > self.period_s))

    def figures(self) -> dict[str, float | int]:
        """Figures by name, in milliseconds, ready for a report."""
        return {
            "hops": len(self.hop_s),
            "hop_period_ms": self.period_s * 1e3,
            "p50_ms": self.percentile_s(50) * 1e3,
            "p90_ms": self.percentile_s(90) * 1e3,
            "p99_ms": self.percentile_s(99) * 1e3,
            "max_ms": float(self.hop_s.max()) * 1e3,
            "deadline_misses": self.misses,
            "real_time_factor": self.real_time_factor,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures with the circumstances they were measured in."""

    question: str
    """Question that the figures answer, in one line."""
    figures: Mapping[str, object]
    environment: Mapping[str, object]

    def to_json(self) -> str:
        return to_json({"question": self.question, "figures": self.figures, "environment": self.environment})

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_bytes(path, (self.to_json() + "\n").encode())


def memory() -> dict[str, int]:
    """Resident memory of this process in bytes, now and at its highest, as far as the system tells."""
    out = {}
    statm = Path("/proc/self/statm")
    if statm.exists():
        out["rss_bytes"] = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # not on Windows
        return out
    unit = 1 if sys.platform == "darwin" else 1024
    out["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return out


def versions() -> dict[str, str]:
    """Versions of edge-tse and of the installed packages its figures depend on."""
    found = {"edge-tse": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def busy() -> str | None:
    """Remark when other programs compete for the processor, which makes hops late that are not slow; else None."""
    cores = os.cpu_count() or 1  # of the machine, as the load is, not those this process is bound to
    if not hasattr(os, "getloadavg") or os.getloadavg()[0] <= cores:
        return None
    return f"the machine is busy (load {os.getloadavg()[0]:.1f} on {cores} cores): late hops may be its doing"


def environment() -> dict[str, object]:
    """Machine, system, Python, versions and time, without which a figure cannot be compared."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cpus": _cpus(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions(),
    }


def to_json(value: object) -> str:
    """JSON text of values, NumPy numbers and paths; a number that is not finite becomes null, as JSON has none."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a report cannot hold {type(value).__name__}")


def _cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _cpu() -> str:
    """The processor's name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
