"""The affine rule against whole-number Python."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse.quant import dequantize, multiplier, quantize, quantize_bias, requantize
from tests import plain

FACTORS = st.floats(2.0**-24, 4.0, width=32)
ACCUMULATORS = st.integers(-(2**24) + 1, 2**24 - 1)
ZERO_POINTS = st.integers(-128, 127)


@settings(deadline=None)
@given(acc=ACCUMULATORS, factor=FACTORS, zero_point=ZERO_POINTS)
def test_requantize_is_one_product_and_one_rounding(acc: int, factor: float, zero_point: int) -> None:
    got = requantize(np.array([acc], np.float32), np.array([factor], np.float32), zero_point)
    assert got.dtype == np.int8
    assert int(got[0]) == plain.requantize(acc, np.float32(factor), zero_point)


@settings(deadline=None)
@given(half=st.integers(-60, 60), shift=st.integers(1, 12), zero_point=st.integers(-8, 8))
def test_requantize_rounds_ties_to_even(half: int, shift: int, zero_point: int) -> None:
    acc = (2 * half + 1) << (shift - 1)  # acc * 2**-shift lies exactly between two integers
    got = int(requantize(np.array([acc], np.float32), np.array([2.0**-shift], np.float32), zero_point)[0]) - zero_point
    assert got % 2 == 0
    assert abs(Fraction(acc, 1 << shift) - got) == Fraction(1, 2)


@pytest.mark.parametrize(
    ("acc", "zero_point", "expected"), [(10**6, -128, 127), (-(10**6), -128, -128), (-5, -128, -128), (6, -128, -125)]
)
def test_an_output_with_zero_point_minus_128_is_a_relu(acc: int, zero_point: int, expected: int) -> None:
    assert requantize(np.array([acc], np.float32), np.array([0.5], np.float32), zero_point)[0] == expected


@settings(deadline=None)
@given(q=st.integers(-128, 127), scale=st.floats(2.0**-20, 8, width=32), zero_point=ZERO_POINTS)
def test_quantize_inverts_dequantize(q: int, scale: float, zero_point: int) -> None:
    real = dequantize(np.array([q], np.int8), scale, zero_point)
    assert quantize(real, scale, zero_point)[0] == q


@settings(deadline=None)
@given(real=st.floats(-1e6, 1e6, width=32), scale=st.floats(2.0**-13, 8, width=32), zero_point=ZERO_POINTS)
def test_quantize_saturates_and_is_off_by_half_a_step_at_most(real: float, scale: float, zero_point: int) -> None:
    q = int(quantize(np.array([real], np.float32), scale, zero_point)[0])
    error = abs(Fraction(real) / Fraction(scale) - (q - zero_point))
    # float32 products of values up to 255 steps carry up to 2**-15 of a step
    assert error <= Fraction(1, 2) + Fraction(1, 2**14) or q in (-128, 127)


@settings(deadline=None)
@given(bias=st.floats(-100, 100), input_scale=st.floats(2.0**-10, 1, width=32), weight_scale=st.floats(2.0**-10, 1, width=32))
def test_bias_is_on_the_accumulator_grid(bias: float, input_scale: float, weight_scale: float) -> None:
    q = quantize_bias(np.array([bias]), input_scale, np.array([weight_scale], np.float32))
    grid = input_scale * weight_scale
    assert q.dtype == np.int32
    assert abs(float(q[0]) * grid - bias) <= grid * 0.5000001


def test_multiplier_keeps_the_order_of_operations() -> None:
    # (a * b) / c in float32; a * (b / c) differs in the last bit here
    a, b, c = np.float32(0.1), np.float32(0.7), np.float32(0.3)
    assert multiplier(float(a), np.array([b]), float(c))[0] == (a * b) / c
    assert (a * b) / c != a * (b / c)
