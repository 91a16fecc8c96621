"""Every kernel on every instruction set against the reference rule, bit for bit, over random and extreme values."""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.quant import requantize
from firmware_bridge.build import KERNEL_CASES, build_program
from firmware_bridge.codegen import pack_pointwise
from firmware_bridge.cores import CORES
from firmware_bridge.meter import emulate
from firmware_bridge.plan import round_up

Int8 = NDArray[np.int8]

pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")

KERNELS = {
    "host": "c99",
    "qemu-mps3-an547": "mve",
    "qemu-mps2-an500": "dsp",
    "qemu-mps2-an386": "dsp",
    "aarch64-linux": "neon-dot",
    "aarch64-linux-without-dot-product": "neon",
}
"""Core -> the kernels that must run there."""


@dataclass(frozen=True)
class Case:
    """Input bytes of ``kernel_cases.c``, where the wanted values stand in its output, and they themselves."""

    content: bytes
    size: int
    wanted: Int8
    """``[rows, channels]``"""
    stride: int


def record(kind: int, **fields: int) -> bytes:
    names = ("rows", "in_blocks", "out_blocks", "in_stride", "out_stride", "zero_point", "taps")
    return struct.pack("<8i", kind, *(fields.get(name, 0) for name in names))


def rows_of(values: Int8, stride: int, rng: np.random.Generator) -> Int8:
    """Padded to ``stride`` with what happens to lie there."""
    out = rng.integers(-128, 128, (len(values), stride)).astype(np.int8)
    out[:, : values.shape[1]] = values
    return out


def values(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Int8:
    match kind:
        case "extremes":
            return rng.choice(np.array([-128, 127], np.int8), shape)
        case "low":
            return np.full(shape, -128, np.int8)
        case "high":
            return np.full(shape, 127, np.int8)
        case _:
            return rng.integers(-128, 128, shape).astype(np.int8)


def factors(rng: np.random.Generator, n: int, reach: float, kind: str) -> NDArray[np.float32]:
    """From dead to saturating; ``ties``: powers of two, so that many products lie half-way between integers."""
    match kind:
        case "ties":
            return (2.0 ** -rng.integers(1, 12, n)).astype(np.float32)
        case "ends":
            return rng.choice(np.array([2.0**-32, np.nextafter(np.float32(256), np.float32(0))], np.float32), n)
        case _:
            return (127 / reach * 10 ** rng.uniform(-2, 1, n)).astype(np.float32)


SHAPES = [(1, 1, 1), (1, 16, 4), (1, 15, 3), (1, 17, 5), (1, 128, 192), (3, 24, 24), (5, 40, 20), (2, 96, 33), (1, 500, 9)]


def pointwise_case(rng: np.random.Generator, shape: tuple[int, int, int], content: str, factor_kind: str) -> Case:
    rows, n_in, n_out = shape
    x, weight = values(rng, (rows, n_in), content), np.maximum(values(rng, (n_out, n_in), content), -127)
    in_zero, zero_point = (int(v) for v in rng.integers(-128, 128, 2))
    bias = rng.integers(-20000, 20000, n_out)
    acc = (x.astype(np.int64) - in_zero) @ weight.T.astype(np.int64) + bias
    assert np.abs(acc).max() < 2**24
    factor = factors(rng, n_out, max(1.0, float(np.abs(acc).max())), factor_kind)
    wanted = requantize(acc.astype(np.float32), factor, zero_point)
    folded = bias - in_zero * weight.sum(axis=1, dtype=np.int64)
    packed = pack_pointwise(weight)
    room = (0, 4 * len(packed) - n_out)
    # Rows need not be padded to 16: one convolution may be shared by bands that lie side by side.
    in_stride, out_stride = (round_up(n_in), round_up(n_out)) if rng.random() < 0.5 else (round_up(n_in, 4), round_up(n_out, 4))
    head = record(
        0,
        rows=rows,
        in_blocks=packed.shape[1],
        out_blocks=len(packed),
        in_stride=in_stride,
        out_stride=out_stride,
        zero_point=zero_point,
    )
    parts = [packed, np.pad(factor, room), np.pad(folded, room).astype("<i4"), rows_of(x, in_stride, rng)]
    return Case(head + b"".join(p.tobytes() for p in parts), rows * out_stride, wanted, out_stride)


def depthwise_case(rng: np.random.Generator, taps: int, channels: int, content: str, factor_kind: str) -> Case:
    x, weight = values(rng, (taps, channels), content), np.maximum(values(rng, (taps, channels), content), -127)
    in_zero, zero_point = (int(v) for v in rng.integers(-128, 128, 2))
    bias = rng.integers(-2000, 2000, channels)
    acc = ((x.astype(np.int64) - in_zero) * weight).sum(axis=0) + bias
    factor = factors(rng, channels, max(1.0, float(np.abs(acc).max())), factor_kind)
    wanted = requantize(acc.astype(np.float32), factor, zero_point)[None]
    folded = bias - in_zero * weight.sum(axis=0, dtype=np.int64)
    n = round_up(channels)
    room = (0, n - channels)
    parts = [
        np.pad(weight, ((0, 0), room)),
        np.pad(factor, room),
        np.pad(folded, room).astype("<i4"),
        rows_of(x, n, rng),
    ]
    head = record(1, out_stride=n, zero_point=zero_point, taps=taps)
    return Case(head + b"".join(p.tobytes() for p in parts), n, wanted, n)


def add_case(rng: np.random.Generator, n: int, content: str) -> Case:
    left, right = values(rng, (n,), content), values(rng, (n,), content)
    wanted = np.clip(left.astype(np.int16) + right, -128, 127).astype(np.int8)[None]
    return Case(record(2, out_stride=n) + left.tobytes() + right.tobytes(), n, wanted, n)


def lookup_case(rng: np.random.Generator) -> Case:
    table, x = values(rng, (256,), "any"), np.arange(-128, 128).astype(np.int8)
    rng.shuffle(x)
    wanted = table[x.astype(np.int16) + 128][None]
    return Case(record(3, out_stride=256) + table.tobytes() + x.tobytes(), 256, wanted, 256)


def cases() -> list[Case]:
    rng = np.random.default_rng(7)
    out = []
    for content in ("any", "extremes", "low", "high"):
        for factor_kind in ("any", "ties", "ends"):
            out += [pointwise_case(rng, shape, content, factor_kind) for shape in SHAPES]
            out += [depthwise_case(rng, taps, n, content, factor_kind) for taps in (1, 2, 3, 5) for n in (1, 16, 23, 128)]
        out += [add_case(rng, n, content) for n in (16, 48, 256)]
        out.append(lookup_case(rng))
    return out


# The first program for aarch64 Linux has zig compile its C library, which takes a minute.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith("aarch64") else name for name in KERNELS]
)
def test_bit_exact(name: str, tmp_path: Path) -> None:
    core = CORES[name]
    if shutil.which(core.emulator[0]) is None:
        pytest.skip(f"{core.emulator[0]} is not installed: apt-get install qemu-system-arm qemu-user")
    # On this machine, what C leaves undefined is trapped as well.
    flags = ("-fsanitize=undefined", "-fsanitize-trap=undefined") if name == "host" else ()
    image = build_program(
        {"model.h": "#define ETSE_VOICE_CHANNELS 0\n"}, core, tmp_path / "cases.elf", program=KERNEL_CASES, flags=flags
    )
    every = cases()
    (tmp_path / "in").write_bytes(b"".join(case.content for case in every))
    assert emulate(image, ["in", "out"], tmp_path)["kernels"] == KERNELS[name]
    got = np.fromfile(tmp_path / "out", np.int8)
    assert len(got) == sum(case.size for case in every)
    at = 0
    for case in every:
        rows = got[at : at + case.size].reshape(-1, case.stride)
        np.testing.assert_array_equal(rows[:, : case.wanted.shape[1]], case.wanted)
        at += case.size


def test_the_cases_reach_what_matters() -> None:
    """Saturation at both ends, and products half-way between two integers: without them the test above would prove little."""
    rng = np.random.default_rng(0)
    acc = np.arange(-(2**15), 2**15).astype(np.float32)
    halves = acc * factors(rng, 1, 1.0, "ties")[0] % 1 == 0.5
    assert halves.any()
    wanted = np.concatenate([case.wanted.reshape(-1) for case in cases()])
    assert {-128, 127} <= set(wanted.tolist())
    assert np.mean(np.abs(wanted) < 100) > 0.1
