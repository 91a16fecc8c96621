"""Constants of the front end in C, all of them from :class:`edge_tse.frame.FrameSpec` and the scales of the graph's ends.

Powers of two that the chain multiplies by (16-bit sound to ±1 and back, the lifts, the halves of a real transform, the length of
the inverse one) are in the windows and scales, where they cost nothing and round nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_tse.errors import ArtifactError
from edge_tse.frame import GAIN_LIFT, LIFT, SILENCE, FrameSpec
from edge_tse.graph import Tensor
from edge_tse.level import LEVEL_OFFSET, LEVEL_SLOPE, POWER_FLOOR
from firmware_bridge.c_source import NOTE, array, real

__all__ = ["beam_bytes", "header", "scratch_bytes", "source"]

_FULL_SCALE = 2**15
"""Full scale of 16-bit sound."""


def scratch_bytes(frame: FrameSpec) -> int:
    """Bytes of scratch: two complex buffers of half a window, between which the stages of the FFT alternate."""
    return 2 * frame.window * np.dtype(np.float32).itemsize


def beam_bytes(frame: FrameSpec) -> int:
    """Bytes of a beam: itself as each ear hears it, two covariances, four numbers a bin each, and the energies of a hop."""
    return (12 * frame.bins + frame.bands) * np.dtype(np.float32).itemsize if frame.beam else 0


def header(frame: FrameSpec, tensors: Mapping[str, Tensor]) -> str:
    """Text of the header with the geometry and the scales of features and moves, for the preprocessor.

    ``ArtifactError`` if the transform or the ring of samples cannot do this geometry.
    """
    if frame.window < 16 or frame.window % frame.hop or frame.hop % 2:
        raise ArtifactError(
            f"window {frame.window}, hop {frame.hop}: the firmware needs 16 or more and a whole number of even hops"
        )
    if frame.ears not in (1, 2):
        raise ArtifactError(f"{frame.ears} ears: the firmware knows one and two")
    features, moves = tensors["features"], {name.upper(): tensors[name] for name in frame.moves}
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
        "MOVES": len(moves),
        "BEAM": int(frame.beam),
        "LEVEL_INVARIANT": int(frame.level_invariant),
        "FEATURE_ZERO_POINT": features.zero_point,
        **{f"{name}_ZERO_POINT": move.zero_point for name, move in moves.items()},
    }
    reals: dict[str, float | np.float32] = {
        "FEATURE_STEPS": np.float32(1) / np.float32(features.scale),
        # The spectrum is lifted; its gains are lifted by the rest.
        **{f"{name}_SCALE": np.float32(move.scale) * (GAIN_LIFT / LIFT) for name, move in moves.items()},
        "SILENCE": SILENCE * LIFT,
        "POWER_UNIT": frame.power_unit / (LIFT * LIFT),
        "POWER_FLOOR": POWER_FLOOR,
        "LEVEL_SLOPE": LEVEL_SLOPE,
        "LEVEL_OFFSET": LEVEL_OFFSET,
    }
    lines = [f"#define ETSE_{name} ({value})" if value < 0 else f"#define ETSE_{name} {value}" for name, value in counts.items()]
    return "\n".join([*lines, *(f"#define ETSE_{name} {real(value)}" for name, value in reals.items()), ""])


def source(frame: FrameSpec) -> str:
    """Text of ``frame.c``: windows, twiddle factors and band edges."""
    analysis = frame.lifted_window / np.float32(_FULL_SCALE)
    transform = frame.transform
    tables = {
        "etse_window_even": analysis[::2],
        "etse_window_odd": analysis[1::2],
        "etse_synthesis_window": frame.lowering_window * np.float32(_FULL_SCALE),
        # A transform without twiddled stages still needs a table with something in it.
        "etse_twiddles": np.append(transform.twiddle_table, np.float32(0)),
        "etse_split_factors": transform.split.reshape(-1),
    }
    parts = [NOTE + '#include "front.h"\n#include "network.h"\n']
    parts += [array("float", f"{name}[{len(table)}]", table, "ETSE_TABLES", static=False) for name, table in tables.items()]
    edges = frame.band_edges
    parts.append(array("uint16_t", f"etse_band_edges[{len(edges)}]", edges, "ETSE_TABLES", static=False))
    return "\n".join(parts) + "\n"
