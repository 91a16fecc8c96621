"""The Fourier transform and the logarithm of the front end, in float32 and with every rounding defined.

Whatever follows these operations in this order, each rounded once to nearest, gives the same bits: NumPy here, and the C of
``front_math.h`` on a board and in the compiled part of this package. Libraries' transforms and logarithms round
in orders of their own, which differ between libraries, versions and processors. Complex numbers are two arrays of reals, because
NumPy may compute a complex product in any order; square roots and quotients are exact by IEEE 754.

The transform is that of real numbers by a complex one of half the length, which is Stockham's: radix 4, and one stage of radix 2
where the length is not a power of four. docs/decisions/0018 has the reasons.
"""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOG2_POLYNOMIAL", "LOG10_2", "RealTransform", "log2", "real_transform"]

Float = NDArray[np.float32]

LOG10_2 = np.float32(0.301029996)
LOG2_POLYNOMIAL = tuple(
    np.float32(float.fromhex(value))
    for value in (
        "0x1.025a2p-3",
        "-0x1.a8cc5cp-3",
        "0x1.b9b11ep-3",
        "-0x1.e94f12p-3",
        "0x1.26d41p-2",
        "-0x1.715c9cp-2",
        "0x1.ec73d4p-2",
        "-0x1.71547p-1",
        "0x1.715476p+0",
    )
)
"""``log2(1 + f) / f`` for f between sqrt(1/2) - 1 and sqrt(2) - 1, highest power first: least squares at Chebyshev points, 6e-8
from the truth."""
_ROOT_HALF_BITS = np.int32(0x3F3504F3)
_LEAST_LENGTH = 8


def log2(x: Float) -> Float:
    """Binary logarithm of positive normal numbers, of any shape."""
    bits = x.view(np.int32)
    exponent = (bits - _ROOT_HALF_BITS) >> 23
    f: Float = (bits - (exponent << 23)).view(np.float32) - np.float32(1)
    p = f * LOG2_POLYNOMIAL[0]
    for coefficient in LOG2_POLYNOMIAL[1:-1]:
        p += coefficient
        p *= f
    p += LOG2_POLYNOMIAL[-1]
    p *= f
    p += exponent.astype(np.float32)
    return p


@cache
def real_transform(n: int) -> RealTransform:
    """The transform of ``n`` real numbers; ``ValueError`` if that is not a power of two."""
    return RealTransform(n)


class RealTransform:
    """``n`` real numbers to ``n // 2 + 1`` complex ones and back, along the last axis.

    Constant factors are left to the windows around it, where powers of two cost nothing.
    """

    def __init__(self, n: int) -> None:
        self.half = n // 2
        if n & (n - 1) or n < _LEAST_LENGTH:
            raise ValueError(f"a transform of {n} numbers: the length must be a power of two, {_LEAST_LENGTH} or more")

    @cached_property
    def twiddles(self) -> tuple[Float, ...]:
        """Twiddle factors w, w^2, w^3 of each twiddled stage, ``[3, 2, n / 4]``, its ``n`` a quarter of the last one's."""
        stages, n = [], self.half
        while n > 4:
            angles = -2 * np.pi * np.arange(n // 4) / n
            stages.append(_table(np.array([[np.cos(k * angles), np.sin(k * angles)] for k in (1, 2, 3)])))
            n //= 4
        return tuple(stages)

    @property
    def twiddle_table(self) -> Float:
        """Twiddle factors of all stages one after the other, in the order of the C code."""
        return np.concatenate([np.zeros(0, np.float32), *(stage.reshape(-1) for stage in self.twiddles)])

    @cached_property
    def split(self) -> Float:
        """Real and imaginary parts of ``exp(-i pi k / half)``, ``[2, half / 2 + 1]``."""
        angles = -np.pi * np.arange(self.half // 2 + 1) / self.half
        return _table(np.array([np.cos(angles), np.sin(angles)]))

    @cached_property
    def _spread(self) -> tuple[tuple[Float, Float], ...]:
        """Twiddles of each stage for all its butterflies: real parts and imaginary parts, ``[3, 1, 1, half / 4]`` each."""
        wide = (np.repeat(stage, self.half // 4 // stage.shape[-1], axis=-1) for stage in self.twiddles)
        return tuple((w[:, None, None, 0], w[:, None, None, 1]) for w in wide)

    def forward(self, x: Float) -> Float:
        """Twice the spectrum of ``[m, n]``: ``[2, m, n / 2 + 1]``, real parts and imaginary parts."""
        half = self.half
        z = self._complex(np.ascontiguousarray(x.reshape(len(x), half, 2).transpose(2, 0, 1)))
        out = np.empty((2, len(x), half + 1), np.float32)
        re, im = z
        out[0, :, 0] = np.float32(2) * (re[:, 0] + im[:, 0])
        out[0, :, half] = np.float32(2) * (re[:, 0] - im[:, 0])
        out[1, :, 0] = out[1, :, half] = 0
        low, high = slice(1, half // 2 + 1), slice(half - 1, half // 2 - 1, -1)
        even_re, even_im = re[:, low] + re[:, high], im[:, low] - im[:, high]
        odd_re, odd_im = im[:, low] + im[:, high], re[:, high] - re[:, low]
        c, s = self.split[:, 1:]
        turned_re, turned_im = odd_re * c - odd_im * s, odd_re * s + odd_im * c
        np.add(even_re, turned_re, out=out[0, :, low])
        np.add(even_im, turned_im, out=out[1, :, low])
        # The middle is its own mirror image: the second value stands.
        np.subtract(even_re, turned_re, out=out[0, :, high])
        np.subtract(turned_im, even_im, out=out[1, :, high])
        return out

    def inverse(self, spectrum: Float) -> Float:
        """``n`` times the numbers with this spectrum ``[2, m, n / 2 + 1]``: ``[m, n]``."""
        half, (re, im) = self.half, spectrum
        # Real and imaginary parts change places, which makes the transform the inverse one.
        z = np.empty((2, re.shape[0], half), np.float32)
        z[1, :, 0] = re[:, 0] + re[:, half]
        z[0, :, 0] = re[:, 0] - re[:, half]
        low, high = slice(1, half // 2 + 1), slice(half - 1, half // 2 - 1, -1)
        even_re, even_im = re[:, low] + re[:, high], im[:, low] - im[:, high]
        turned_re, turned_im = re[:, low] - re[:, high], im[:, low] + im[:, high]
        c, s = self.split[:, 1:]
        odd_re, odd_im = turned_re * c + turned_im * s, turned_im * c - turned_re * s
        np.subtract(even_re, odd_im, out=z[1, :, low])
        np.add(even_im, odd_re, out=z[0, :, low])
        np.add(even_re, odd_im, out=z[1, :, high])
        np.subtract(odd_re, even_im, out=z[0, :, high])
        return self._complex(z)[::-1].transpose(1, 2, 0).reshape(re.shape[0], 2 * half)

    def _complex(self, z: Float) -> Float:
        """The complex transform of half the length, ``[2, m, half]`` to the same."""
        m, quarter, n = z.shape[1], self.half // 4, self.half
        for w_re, w_im in self._spread:
            s = self.half // n
            y = _butterflies(z)
            by_re, by_im = y[1:] * w_re, y[1:] * w_im
            to = np.empty((2, m, quarter // s, 4, s), np.float32)
            view, shape = to.transpose(3, 0, 1, 2, 4), (m, quarter // s, s)
            view[0] = y[0].reshape(2, *shape)
            np.subtract(by_re[:, 0].reshape(3, *shape), by_im[:, 1].reshape(3, *shape), out=view[1:, 0])
            np.add(by_im[:, 0].reshape(3, *shape), by_re[:, 1].reshape(3, *shape), out=view[1:, 1])
            z, n = to.reshape(2, m, self.half), n // 4
        if n == 4:
            return np.ascontiguousarray(_butterflies(z).transpose(1, 2, 0, 3)).reshape(2, m, self.half)
        if n == 2:
            left, right = z[..., : self.half // 2], z[..., self.half // 2 :]
            return np.concatenate([left + right, left - right], axis=-1)
        return z


def _butterflies(z: Float) -> Float:
    """Transforms of four points at a distance of a quarter of ``[2, m, half]``, not yet turned: ``[4, 2, m, half / 4]``."""
    x = z.reshape(2, z.shape[1], 4, -1)
    sums, differences = x[:, :, :2] + x[:, :, 2:], x[:, :, :2] - x[:, :, 2:]
    (ac_re, bd_re), (ac_im, bd_im) = differences.transpose(0, 2, 1, 3)
    y = np.empty((4, 2, x.shape[1], x.shape[3]), np.float32)
    np.add(sums[:, :, 0], sums[:, :, 1], out=y[0])
    np.subtract(sums[:, :, 0], sums[:, :, 1], out=y[2])
    np.add(ac_re, bd_im, out=y[1, 0])
    np.subtract(ac_im, bd_re, out=y[1, 1])
    np.subtract(ac_re, bd_im, out=y[3, 0])
    np.add(ac_im, bd_re, out=y[3, 1])
    return y


def _table(values: NDArray[np.float64]) -> Float:
    """Float32 table, in which values that are zero but for the rounding of pi are zero."""
    table: Float = np.where(np.abs(values) < 1e-12, 0, values).astype(np.float32)
    return table
