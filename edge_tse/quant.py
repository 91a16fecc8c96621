"""The one affine rule: how reals become int8 and how int32 accumulators become int8 again.

``real = scale * (q - zero_point)`` with int8 ``q``. An accumulator becomes an output by one multiplication in float32 and one
rounding, ``q = clamp(round_half_even(acc * multiplier) + zero_point)``. Measured: XNNPACK computes exactly this (0 mismatches);
TFLite's built-in kernels and TFLM round twice and differ by at most one step per operator.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["INT8_MAX", "INT8_MIN", "dequantize", "multiplier", "quantize", "quantize_bias", "requantize"]

INT8_MIN = -128
INT8_MAX = 127


def quantize(real: NDArray[np.float32], scale: float, zero_point: int = 0) -> NDArray[np.int8]:
    """Real to int8, rounding half to even and saturating. Same shape as ``real``."""
    q = np.asarray(real, np.float32) * (np.float32(1) / np.float32(scale))
    np.rint(q, out=q)
    q += np.float32(zero_point)
    # np.clip costs more than the two it is made of
    np.maximum(q, np.float32(INT8_MIN), out=q)
    np.minimum(q, np.float32(INT8_MAX), out=q)
    return q.astype(np.int8)


def dequantize(q: NDArray[np.int8], scale: float, zero_point: int = 0) -> NDArray[np.float32]:
    """int8 to real. Same shape as ``q``."""
    return (q.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def multiplier(input_scale: float, weight_scale: NDArray[np.float32], output_scale: float) -> NDArray[np.float32]:
    """Per-channel accumulator-to-output factor, in float32 and in this order of operations (XNNPACK's)."""
    return np.float32(input_scale) * np.asarray(weight_scale, np.float32) / np.float32(output_scale)


def requantize(acc: NDArray[np.float32], factor: NDArray[np.float32], zero_point: int) -> NDArray[np.int8]:
    """Accumulators (integers, exact in float32) to int8.

    ReLU needs no operator: an output whose zero point is -128 cannot go below zero.
    """
    q = np.rint(acc.astype(np.float32, copy=False) * factor)
    q += np.float32(zero_point)
    clipped: NDArray[np.int8] = np.clip(q, INT8_MIN, INT8_MAX).astype(np.int8)
    return clipped


def quantize_bias(bias: NDArray[np.float64], input_scale: float, weight_scale: NDArray[np.float32]) -> NDArray[np.int32]:
    """Real bias to int32 steps of the accumulator grid ``input_scale * weight_scale``."""
    grid = np.float64(np.float32(input_scale)) * np.asarray(weight_scale, np.float64)
    return np.clip(np.rint(np.asarray(bias, np.float64) / grid), -(2**30), 2**30).astype(np.int32)
