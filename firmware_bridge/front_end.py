"""Constants of the front end in C, all of them from :class:`edge_tse.frame.FrameSpec` and the scales of the graph's ends.

Powers of two that the chain multiplies by (16-bit sound to ±1 and back, the halves of a real FFT, the length of the inverse one)
are in the windows, where they cost nothing and round nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import ArtifactError
from edge_tse.frame import LEVEL_OFFSET, LEVEL_SLOPE, POWER_FLOOR, FrameSpec
from edge_tse.graph import Tensor
from firmware_bridge.c_source import NOTE, array, real

__all__ = ["header", "scratch_bytes", "source"]

_FULL_SCALE = 2**15
"""Of 16-bit sound."""


def scratch_bytes(frame: FrameSpec) -> int:
    """Two complex buffers of half a window, between which the stages of the FFT alternate."""
    return 2 * frame.window * np.dtype(np.float32).itemsize


def header(frame: FrameSpec, tensors: Mapping[str, Tensor]) -> str:
    """The geometry and the scales of features, mask and velocity, for the preprocessor.

    ``ArtifactError`` if the FFT or the ring of samples cannot do this geometry.
    """
    if frame.window & (frame.window - 1) or frame.window < 16 or frame.window % frame.hop or frame.hop % 2:
        raise ArtifactError(f"window {frame.window}, hop {frame.hop}: the firmware needs a power of two and a whole number of hops")
    if frame.ears not in (1, 2):
        raise ArtifactError(f"{frame.ears} ears: the firmware knows one and two")
    features, mask, velocity = (tensors[name] for name in ("features", "mask", "velocity"))
    counts = {
        "SAMPLE_RATE_HZ": frame.sample_rate_hz,
        "EARS": frame.ears,
        "HOP": frame.hop,
        "WINDOW": frame.window,
        "SYNTHESIS": frame.synthesis,
        "DELAY": frame.delay,
        "BINS": frame.bins,
        "BANDS": frame.bands,
        "SPATIAL_BANDS": frame.spatial_bands,
        "FEATURES": frame.features,
        "FEATURE_ZERO_POINT": features.zero_point,
        "MASK_ZERO_POINT": mask.zero_point,
        "VELOCITY_ZERO_POINT": velocity.zero_point,
    }
    reals: dict[str, float | np.float32] = {
        "FEATURE_STEPS": np.float32(1) / np.float32(features.scale),
        "MASK_SCALE": mask.scale,
        "VELOCITY_SCALE": velocity.scale,
        "POWER_UNIT": frame.power_unit,
        "POWER_FLOOR": POWER_FLOOR,
        "LEVEL_SLOPE": LEVEL_SLOPE,
        "LEVEL_OFFSET": LEVEL_OFFSET,
    }
    lines = [f"#define ETSE_{name} ({value})" if value < 0 else f"#define ETSE_{name} {value}" for name, value in counts.items()]
    return "\n".join([*lines, *(f"#define ETSE_{name} {real(value)}" for name, value in reals.items()), ""])


def source(frame: FrameSpec) -> str:
    """``frame.c``: windows, twiddle factors and band edges."""
    half = frame.window // 2
    # Half of each sum in the split of a real FFT; both factors are powers of two, so the products are exact.
    analysis = frame.analysis_window * np.float32(0.5 / _FULL_SCALE)
    synthesis = frame.synthesis_window * np.float32(_FULL_SCALE / frame.window)
    tables = {
        "etse_window_even": analysis[::2],
        "etse_window_odd": analysis[1::2],
        "etse_synthesis_window": synthesis,
        "etse_twiddles": _twiddles(half),
        "etse_split": _split(half),
    }
    parts = [NOTE + '#include "front.h"\n#include "network.h"\n']
    parts += [array("float", f"{name}[{len(table)}]", table, "ETSE_TABLES", static=False) for name, table in tables.items()]
    edges = frame.band_edges
    parts.append(array("uint16_t", f"etse_band_edges[{len(edges)}]", edges, "ETSE_TABLES", static=False))
    return "\n".join(parts) + "\n"


def _twiddles(n: int) -> NDArray[np.float32]:
    """Of the radix-4 stages of a complex FFT of ``n`` points: w, w^2, w^3 of each, real parts before imaginary parts."""
    tables = []
    while n > 4:
        angles = -2 * np.pi * np.arange(n // 4) / n
        tables += [part(k * angles) for k in (1, 2, 3) for part in (np.cos, np.sin)]
        n //= 4
    values: NDArray[np.float32] = np.concatenate([*tables, np.zeros(1)]).astype(np.float32)
    return values


def _split(half: int) -> NDArray[np.float32]:
    """``exp(-i pi k / half)`` for k up to ``half / 2``, real parts before imaginary parts."""
    angles = -np.pi * np.arange(half // 2 + 1) / half
    values: NDArray[np.float32] = np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32)
    return values
