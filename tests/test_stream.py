"""The audio entry of the C library: blocks of any size in and out of an interrupt, whole hops through the model, late ones dry."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from firmware_bridge.build import LIBRARY, PORT, PROGRAMS, build_program, c_source, shared_library, zig
from firmware_bridge.codegen import generate
from firmware_bridge.cores import CORES
from firmware_bridge.meter import emulate
from firmware_bridge.native import NativeChain
from tests import graphs

Int16 = NDArray[np.int16]

pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")

HOP, RING, FADE = graphs.TINY.frame.hop, 256, 16
DELAY = graphs.TINY.frame.delay
TOO_LONG = 32


class Counters(ctypes.Structure):
    """``etse_stream_counters``."""

    _fields_ = [
        (name, ctypes.c_uint32)
        for name in (
            "frames_heard",
            "frames_played",
            "hops",
            "skipped_hops",
            "late_hops",
            "dry_frames",
            "overruns",
            "underruns",
        )
    ]


@dataclass
class Stream:
    """The compiled library; one stream at a time, its memory is static."""

    library: ctypes.CDLL
    ears: int = 2

    def start(self, ears: int, ahead: int) -> None:
        self.ears = ears
        assert self.library.etse_stream_start(ears, ahead) == 0

    def push(self, block: Int16) -> None:
        """``[frames, ears]``."""
        assert block.shape[1] == self.ears
        self.library.etse_push(np.ascontiguousarray(block).ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(len(block)))

    def pull(self, frames: int) -> Int16:
        out = np.full((frames, self.ears), 12345, np.int16)
        self.library.etse_pull(out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(frames))
        return out

    def work(self) -> int:
        """Hops made."""
        made = 0
        while self.library.etse_work():
            made += 1
        return made

    @property
    def counters(self) -> dict[str, int]:
        found = self.library.etse_stream_count()
        return {name: getattr(found, name) for name, _ in Counters._fields_}


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


@pytest.fixture(scope="module")
def stream(artifact: Artifact) -> Stream:
    generated = {**generate(artifact), "etse_stream.c": (LIBRARY / "etse_stream.c").read_text()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.so"
        # Positions wrap in the middle of most tests.
        shared_library(generated, path, (f"-DETSE_STREAM_FRAMES={RING}", f"-DETSE_STREAM_FIRST={2**32 - 512}u"))
        library = ctypes.CDLL(str(path))
    library.etse_stream_count.restype = Counters
    return Stream(library)


@pytest.fixture(scope="module")
def chains(artifact: Artifact) -> dict[int, NativeChain]:
    return {ears: NativeChain(artifact, ears) for ears in (1, 2)}


def sound(frames: int, ears: int, seed: int = 0) -> Int16:
    return np.random.default_rng(seed).integers(-32768, 32768, (frames, ears)).astype(np.int16)


def shifted(x: Int16, by: int) -> Int16:
    return np.concatenate([np.zeros((by, x.shape[1]), np.int16), x])[: len(x)]


def processed(chain: NativeChain, x: Int16) -> Int16:
    """Hop by hop through ``etse_process``, ``[frames, ears]``; what fills no hop is left out."""
    chain.reset()
    hops = x[: len(x) // HOP * HOP].reshape(-1, HOP, x.shape[1])
    return np.concatenate([chain(np.ascontiguousarray(hop.T)).T for hop in hops])


def blocks(total: int, largest: int, seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while total:
        n = int(min(total, rng.integers(0, largest + 1)))
        yield n
        total -= n


@pytest.mark.parametrize("ears", [1, 2])
@pytest.mark.parametrize("largest", [1, 3, HOP, 29])
def test_any_blocks_are_the_same_as_whole_hops(stream: Stream, chains: dict[int, NativeChain], ears: int, largest: int) -> None:
    x = sound(2500, ears, largest)
    ahead = largest + HOP - 1 + FADE
    stream.start(ears, ahead)
    assert stream.library.etse_stream_latency() == ahead + DELAY
    out, at = [], 0
    for n in blocks(len(x), largest, seed=ears):
        stream.push(x[at : at + n])
        out.append(stream.pull(n))
        stream.work()
        at += n
    wanted = shifted(np.resize(processed(chains[ears], x), x.shape), ahead)
    np.testing.assert_array_equal(np.concatenate(out), wanted)
    assert stream.counters == {
        "frames_heard": len(x),
        "frames_played": len(x),
        "hops": len(x) // HOP,
        "skipped_hops": 0,
        "late_hops": 0,
        "dry_frames": 0,
        "overruns": 0,
        "underruns": 0,
    }


@pytest.mark.parametrize("block", [1, 2, 6, HOP, 2 * HOP, 3 * HOP - 4])
def test_a_fixed_block_needs_no_more_than_the_header_says(stream: Stream, chains: dict[int, NativeChain], block: int) -> None:
    """ETSE_AHEAD_FIXED is enough, and one frame less than it is not."""
    least = block + HOP - np.gcd(block, HOP)
    x = sound(40 * block, 2)
    for missing in (0, FADE - 1, FADE, FADE + 1):
        ahead = int(least) + FADE - missing
        stream.start(2, ahead)
        out = []
        for part in x.reshape(-1, block, 2):
            stream.push(part)
            out.append(stream.pull(block))
            stream.work()
        wanted = shifted(np.resize(processed(chains[2], x), x.shape), ahead)
        assert np.array_equal(np.concatenate(out), wanted) == (missing == 0), missing
        assert (stream.counters["dry_frames"] > 0) == (missing > FADE), missing


@dataclass
class Expected:
    """What the header promises, stated again: positions, and a weight that moves by one a frame."""

    heard: Int16
    ahead: int
    weight: int = FADE

    def __post_init__(self) -> None:
        self.talker = np.zeros((len(self.heard) + RING, self.heard.shape[1]), np.int32)
        self.there = np.zeros(len(self.talker), bool)
        self.there[: self.ahead] = True
        self.dry = np.concatenate([np.zeros((self.ahead + DELAY, self.heard.shape[1]), np.int32), self.heard])

    def hop(self, at: int, made: Int16, *, usable: bool = True) -> None:
        """The hop of input position ``at`` has been made."""
        self.talker[at + self.ahead :][:HOP] = made
        self.there[at + self.ahead :][:HOP] = usable

    def play(self, at: int, frames: int) -> Int16:
        out = []
        for p in range(at, at + frames):
            missing = np.flatnonzero(~self.there[p : p + FADE])
            reach = missing[0] if len(missing) else FADE
            self.weight = min(self.weight + 1, FADE, int(reach))
            mixed = (self.talker[p] - self.dry[p]) * self.weight / FADE
            out.append(self.dry[p] + np.trunc(mixed))
        return np.array(out).astype(np.int16)


def test_late_hops_are_dry_cross_faded_and_counted(stream: Stream, chains: dict[int, NativeChain]) -> None:
    """Work that pauses now and then, never for so long that hops are left out."""
    x, ahead = sound(4000, 2), HOP + FADE
    stream.start(2, ahead)
    made = processed(chains[2], x)
    expected = Expected(x, ahead)
    hops, late, dry = 0, set(), 0
    for k in range(len(x) // HOP):
        at = k * HOP
        stream.push(x[at : at + HOP])
        got = stream.pull(HOP)
        np.testing.assert_array_equal(got, expected.play(at, HOP), err_msg=f"block {k}")
        absent = [p for p in range(at, at + HOP) if not expected.there[p]]
        dry += len(absent)
        late |= {(p - ahead) // HOP for p in absent}
        if k % 37 not in (5, 6, 20, 21, 22, 23, 24, 25, 26):
            while hops <= k:
                expected.hop(hops * HOP, made[hops * HOP :][:HOP])
                hops += 1
            stream.work()
    counters = stream.counters
    assert dry > 100
    assert (counters["late_hops"], counters["dry_frames"]) == (len(late), dry)
    assert (counters["hops"], counters["skipped_hops"], counters["overruns"], counters["underruns"]) == (hops, 0, 0, 0)


def test_work_that_is_far_behind_leaves_hops_out(stream: Stream, chains: dict[int, NativeChain]) -> None:
    """The newest whole hop is next; it settles and is not heard; before and after, sound is what it is."""
    x, ahead, chain = sound(3200, 2), HOP + FADE, chains[2]
    stream.start(2, ahead)
    expected = Expected(x, ahead)
    chain.reset()
    taken = skipped = 0
    for k in range(len(x) // HOP):
        at = k * HOP
        stream.push(x[at : at + HOP])
        np.testing.assert_array_equal(stream.pull(HOP), expected.play(at, HOP), err_msg=f"block {k}")
        if 100 <= k < 150:
            continue
        usable = True
        if at + HOP - taken > RING // 2 + HOP:
            skipped += (at - taken) // HOP
            taken, usable = at, False
        while taken <= at:
            expected.hop(taken, chain(np.ascontiguousarray(x[taken : taken + HOP].T)).T, usable=usable)
            taken, usable = taken + HOP, True
        stream.work()
    assert skipped == 50
    counters = stream.counters
    assert (counters["skipped_hops"], counters["hops"]) == (50, len(x) // HOP - 50)
    assert counters["dry_frames"] == (50 + 1) * HOP  # one settles
    assert (counters["overruns"], counters["underruns"]) == (0, 0)


def test_an_output_that_stands_still_is_an_overrun_and_adds_no_latency(stream: Stream, chains: dict[int, NativeChain]) -> None:
    x, ahead = sound(2000, 1), HOP + FADE
    stream.start(1, ahead)
    out: list[Int16] = []
    for k, part in enumerate(x.reshape(-1, HOP, 1)):
        stream.push(part)
        if not 100 <= k < 150:
            out.append(stream.pull(HOP))
        stream.work()
    assert stream.counters["overruns"] == 50 * HOP
    # Every frame is played once, at its own moment; the model was not asked while nobody listened.
    after = np.concatenate(out[101:])
    assert len(np.concatenate(out)) == len(x) - 50 * HOP
    dry = shifted(x, ahead + DELAY)[150 * HOP :]
    np.testing.assert_array_equal(out[100], dry[:HOP])
    settled = 20 * HOP
    wanted = shifted(np.resize(processed(chains[1], x), x.shape), ahead)[150 * HOP :]
    # The network remembers the gap, a window's length of features at least: the timing is right, so the levels agree soon.
    assert after[settled:].shape == wanted[HOP + settled :].shape
    assert np.corrcoef(after[settled:, 0], wanted[HOP + settled :, 0])[0, 1] > 0.9


def test_asking_before_it_is_heard_is_silence_once(stream: Stream, chains: dict[int, NativeChain]) -> None:
    """An output that starts before the input, or is always asked first: one block of silence, then all is as if it had waited."""
    x, ahead = sound(800, 2), HOP + FADE
    stream.start(2, ahead)
    out = []
    for part in x.reshape(-1, HOP, 2):
        out.append(stream.pull(HOP))
        stream.push(part)
        stream.work()
    assert not out[0].any()
    np.testing.assert_array_equal(np.concatenate(out[1:]), shifted(processed(chains[2], x), ahead)[:-HOP])
    counters = stream.counters
    assert (counters["underruns"], counters["late_hops"], counters["overruns"]) == (HOP, 0, 0)
    assert (counters["frames_heard"], counters["frames_played"]) == (800, 800 - HOP)
    stream.start(2, ahead)
    assert stream.counters == dict.fromkeys(stream.counters, 0)
    stream.push(x[:3])
    assert stream.pull(8).shape == (8, 2)
    assert (stream.counters["underruns"], stream.counters["frames_played"]) == (5, 3)


def test_a_block_larger_than_the_rings_loses_what_they_cannot_hold(stream: Stream) -> None:
    """The newest is kept, each frame at its own moment; the rest is silence, and both are counted."""
    x, ahead = sound(1000, 2), HOP + FADE
    stream.start(2, ahead)
    stream.push(x)
    out = stream.pull(len(x))
    kept = RING - ahead - DELAY
    np.testing.assert_array_equal(out[:kept], shifted(x, ahead + DELAY)[-kept:])
    assert not out[kept:].any()
    counters = stream.counters
    assert (counters["overruns"], counters["underruns"], counters["dry_frames"]) == (1000 - kept, 1000 - kept, kept)


def test_work_is_never_more_than_a_ring_ahead_of_what_is_played(stream: Stream) -> None:
    """To the frame: the hop that fills the ring is made, the next, which would overwrite, waits for a block to be played."""
    for more in (0, 1):
        ahead = HOP + FADE + more
        stream.start(2, ahead)
        room = (RING - ahead) // HOP
        x = sound((room + 3) * HOP, 2)
        for part in x.reshape(-1, HOP, 2):
            stream.push(part)
            stream.work()
        assert stream.counters["hops"] == room
        assert stream.work() == 0
        # What is played makes room for as much, and no more.
        stream.pull(HOP)
        played = stream.counters["frames_played"]
        overruns = stream.counters["overruns"]
        stream.work()
        assert stream.counters["hops"] == min(room + 3, (RING - ahead + played + overruns) // HOP)


INTERPOSED = """
#include <stddef.h>
void *etse_test_memcpy(void *to, const void *from, size_t size);
void (*etse_test_after)(void);
/* memcpy that is interrupted once, when it has copied */
void *etse_test_memcpy(void *to, const void *from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    while (size--)
        *t++ = *f++;
    if (etse_test_after) {
        void (*const after)(void) = etse_test_after;
        etse_test_after = NULL;
        after();
    }
    return to;
}
"""


def test_a_hop_that_is_overwritten_while_it_is_read_is_not_made(artifact: Artifact) -> None:
    """An interrupt in the middle of reading a hop that brings a ring of sound: to the frame, the hop is whole or left out."""
    generated = {**generate(artifact), "etse_stream.c": (LIBRARY / "etse_stream.c").read_text(), "interposed.c": INTERPOSED}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interrupted.so"
        shared_library(generated, path, (f"-DETSE_STREAM_FRAMES={RING}", "-Dmemcpy=etse_test_memcpy"))
        library = ctypes.CDLL(str(path))
    library.etse_stream_count.restype = Counters
    interrupted = Stream(library)
    after = ctypes.c_void_p.in_dll(library, "etse_test_after")
    for brought, whole in ((RING - HOP, True), (RING - HOP + 1, False)):
        x = sound(HOP + brought, 1)
        interrupted.start(1, HOP + FADE)
        interrupted.push(x[:HOP])
        interrupt = ctypes.CFUNCTYPE(None)(lambda x=x: interrupted.push(x[HOP:]))
        after.value = ctypes.cast(interrupt, ctypes.c_void_p).value
        assert library.etse_work() == 1
        assert after.value is None, "the interrupt came"
        assert interrupted.counters["frames_heard"] == len(x)
        assert interrupted.counters["hops"] == whole


def test_what_cannot_begin_is_refused(stream: Stream) -> None:
    start = stream.library.etse_stream_start
    assert start(0, 24) == 1
    assert start(3, 24) == 1
    assert start(2, RING // 4 - DELAY + 1) == TOO_LONG
    assert start(2, RING // 4 - DELAY) == 0


def weights(out: Int16, dry: Int16, wet: Int16) -> None:
    """Fails unless every frame is ``dry + (wet - dry) * w / FADE``, with one w for both ears that moves by at most one a frame."""
    steps = np.arange(FADE + 1)
    d, w = dry.astype(np.int32)[..., None], wet.astype(np.int32)[..., None]
    fits = (d + np.trunc((w - d) * steps / FADE) == out[..., None]).all(1)
    able = fits[0]
    for p, row in enumerate(fits[1:], 1):
        near = able.copy()
        near[1:] |= able[:-1]
        near[:-1] |= able[1:]
        able = near & row
        assert able.any(), f"frame {p}: {out[p]} between dry {dry[p]} and wet {wet[p]}"


@pytest.mark.parametrize("hurried", [False, True])
def test_two_threads(stream: Stream, chains: dict[int, NativeChain], hurried: bool) -> None:
    """A real second thread works while blocks come and go; hurried, nobody waits for it, and it is late."""
    x = sound(20_000 if hurried else 6000, 2, seed=5)
    largest = 24
    ahead = largest + HOP - 1 + FADE
    stream.start(2, ahead)
    ended = threading.Event()

    def working() -> None:
        made = 0
        while not ended.is_set():
            new = stream.library.etse_work()
            made += new
            # Something else has to be done now and then: late without fail, on a fast machine too.
            time.sleep(0.002 if hurried and new and made % 50 == 0 else 0)

    thread = threading.Thread(target=working)
    thread.start()
    deadline_s = time.monotonic() + 20
    out, at = [], 0
    try:
        for n in blocks(len(x), largest, seed=9):
            # Hurried, only so much that no hop is left out: what is heard is then known.
            behind = RING // 2 - largest if hurried else HOP - 1
            while at - stream.library.etse_stream_count().hops * HOP > behind:
                assert time.monotonic() < deadline_s, "the other thread makes no hops"
                time.sleep(0)
            stream.push(x[at : at + n])
            out.append(stream.pull(n))
            at += n
    finally:
        ended.set()
        thread.join()
    stream.work()
    counters = stream.counters
    wet = shifted(np.resize(processed(chains[2], x), x.shape), ahead)
    got, dry = np.concatenate(out), shifted(x, ahead + DELAY)
    assert (counters["hops"], counters["skipped_hops"]) == (len(x) // HOP, 0)
    assert (counters["overruns"], counters["underruns"]) == (0, 0)
    if hurried:
        weights(got, dry, wet)
        entirely_dry = (got == dry).all(1) & (got != wet).any(1)
        assert 0 < counters["dry_frames"] <= np.count_nonzero(entirely_dry) + np.count_nonzero((dry == wet).all(1))
    else:
        np.testing.assert_array_equal(got, wet)
        assert (counters["late_hops"], counters["dry_frames"]) == (0, 0)


INTERRUPTED = r"""
#include "etse_stream.h"
#include "port.h"

enum { TOTAL = 6000, LARGEST = 24, SHORT = 1000, LONG = 80000 };
static int16_t in[TOTAL][2], out[TOTAL][2];
static uint32_t at, state = 1;
static volatile uint32_t preempted, ended;
static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010;

static void tick(void) {
    state = state * 1664525u + 1013904223u;
    uint32_t n = (state >> 16) % (LARGEST + 1);
    n = n > TOTAL - at ? TOTAL - at : n;
    preempted += at / ETSE_HOP > etse_stream_count().hops;
    etse_push(in[at], n);
    etse_pull(out[at], n);
    at += n;
    ended = at == TOTAL;
    /* every other one comes soon: in the middle of the hop that the one before began */
    systick[1] = systick[1] == LONG ? SHORT : LONG;
    systick[0] = ended ? 0 : 7;
}

static void number(const char *name, uint32_t value) {
    char digits[16];
    char *end = digits + sizeof digits - 1;
    *end = 0;
    *--end = '\n';
    do
        *--end = (char)('0' + value % 10);
    while (value /= 10);
    port_print(name);
    port_print(end);
}

int program(int count, const char **words) {
    static void (*vectors[64])(void) __attribute__((aligned(512)));
    volatile uint32_t *const vtor = (volatile uint32_t *)0xE000ED08;
    void (*const *const old)(void) = (void (*const *)(void))(uintptr_t)*vtor;
    for (int i = 0; i < 16; i++)
        vectors[i] = old[i];
    vectors[15] = tick;
    *vtor = (uint32_t)(uintptr_t)vectors;
    const int from = port_open(words[0], 0);
    if (count != 2 || port_read(from, in, sizeof in) != sizeof in)
        return 1;
    if (etse_stream_start(2, ETSE_AHEAD_VARYING(LARGEST) + 64) != ETSE_OK)
        return 2;
    systick[1] = LONG;
    systick[2] = 0;
    systick[0] = 7;
    while (!ended || etse_work()) {
        (void)etse_work();
    }
    const etse_stream_counters now = etse_stream_count();
    number("late ", now.late_hops);
    number("hops ", now.hops);
    number("preempted ", preempted);
    const int to = port_open(words[1], 1);
    return port_write(to, out, sizeof out) || port_close(to);
}
"""


@pytest.mark.parametrize("core", ["qemu-mps3-an547", "qemu-mps2-an386"])
def test_a_real_interrupt(artifact: Artifact, chains: dict[int, NativeChain], core: str, tmp_path: Path) -> None:
    """On a Cortex-M whose timer interrupts the model, in the middle of a hop most of the time: not one sample is different."""
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed: apt-get install qemu-system-arm")
    generated = {**generate(artifact), "interrupted.c": INTERRUPTED}
    flags = ("-DETSE_STREAM_FRAMES=512", f"-DETSE_STREAM_FIRST={2**32 - 512}u")
    image = build_program(generated, CORES[core], tmp_path / "image.elf", program=("etse_stream.c",), flags=flags)
    x = sound(6000, 2, seed=3)
    x.tofile(tmp_path / "in")
    # Time is counted instructions, so it is the same every run.
    said = emulate(image, ["in", "out"], tmp_path, plugin=("-icount", "shift=5"))
    assert (said["late"], int(said["hops"])) == ("0", len(x) // HOP)
    assert int(said["preempted"]) > 100
    ahead = 24 + HOP - 1 + FADE + 64
    out = np.fromfile(tmp_path / "out", np.int16).reshape(x.shape)
    np.testing.assert_array_equal(out, shifted(processed(chains[2], x), ahead))


@pytest.mark.parametrize("core", [name for name, core in CORES.items() if core.regions])
@pytest.mark.parametrize("ears", [1, 2])
def test_the_bare_metal_main_compiles(artifact: Artifact, core: str, ears: int, tmp_path: Path) -> None:
    """``main_i2s.c`` with its stubs, warnings as errors; what it leaves open is said to be a stub."""
    for name, text in generate(artifact).items():
        (tmp_path / name).write_text(text)
    warnings = ("-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wvla", "-Werror")
    plain = ("-std=c11", "-O2", "-ffreestanding", f"-DEARS={ears}", f"-DETSE_STREAM_FRAMES={RING}")
    include = (f"-I{PORT / 'freestanding'}", f"-I{LIBRARY}", f"-I{tmp_path}")
    for name in ("main_i2s", "etse_stream"):
        command = [*zig(), *CORES[core].zig, *plain, *warnings, *include, "-c", str(c_source(f"{name}.c"))]
        done = subprocess.run([*command, "-o", str(tmp_path / f"{name}.o")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    text = (PROGRAMS / "main_i2s.c").read_text()
    assert text.count("/* STUB: ") == 5


@pytest.mark.slow
def test_static_analysis_finds_nothing(artifact: Artifact, tmp_path: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed: apt-get install cppcheck")
    for name, text in generate(artifact).items():
        (tmp_path / name).write_text(text)
    checks = ("--std=c11", "--enable=warning,performance,portability,style", "--error-exitcode=1")
    # A stub that returns nothing makes what follows it pointless: that is what it is for.
    quiet = ("--suppress=missingIncludeSystem", "--suppress=knownConditionTrueFalse:*main_i2s.c")
    sources = (str(LIBRARY / "etse_stream.c"), str(PROGRAMS / "main_i2s.c"))
    command = ["cppcheck", "-q", *checks, *quiet, f"-I{tmp_path}", f"-I{LIBRARY}", *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
