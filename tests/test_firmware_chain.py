"""The firmware's whole chain, sound to sound: the same bytes as the Python chain's, here and on every emulated core."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.demo.cases import shipped_cases
from edge_tse.engines import Engine
from edge_tse.errors import AudioError, DeviceError, TargetError
from edge_tse.frame import FrameSpec
from edge_tse.personalization import personalize
from edge_tse.reference import ReferenceNetwork
from edge_tse.voice import Voice
from firmware_bridge.build import Program, build_program
from firmware_bridge.codegen import generate, voice_patch
from firmware_bridge.cores import CORES
from firmware_bridge.meter import count_instructions, emulate
from firmware_bridge.native import NativeChain
from tests import graphs
from tests.board import sealed

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]

pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")

SAME = {"host": "c99", "qemu-mps3-an547": "mve", "qemu-mps2-an500": "dsp", "qemu-mps2-an386": "dsp"}
SAME |= {"aarch64-linux": "neon-dot", "aarch64-linux-without-dot-product": "neon"}


@pytest.fixture(scope="module")
def nano() -> Artifact:
    return graphs.artifact(graphs.NANO)


@pytest.fixture(scope="module")
def beam() -> Artifact:
    return graphs.artifact(graphs.BEAM)


@pytest.fixture(scope="module")
def either(request: pytest.FixtureRequest) -> Artifact:
    """A model by the name of its fixture."""
    made: Artifact = request.getfixturevalue(request.param)
    return made


with_and_without_beam = pytest.mark.parametrize("either", ["nano", "beam"], indirect=True)


@pytest.fixture(scope="module")
def chain(nano: Artifact) -> NativeChain:
    return NativeChain(nano, 2)


def speech(ears: int, hops: int, hop: int) -> Int16:
    """``[hops, ears, hop]``: two talkers, the right ear later and quieter."""
    mixture = shipped_cases()[0].mixture.signal[0]
    x = np.resize(mixture, hops * hop)
    sound = np.stack([x, np.roll(x, 5) * np.float32(0.7)])[:ears]
    return pcm(sound, hop)


def pcm(sound: NDArray[np.float32], hop: int) -> Int16:
    q = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    return np.ascontiguousarray(q.reshape(len(q), -1, hop).transpose(1, 0, 2))


def difficult(ears: int, hop: int) -> Int16:
    """Silence, the smallest signal there is, full scale, clipping, a click, noise."""
    rng = np.random.default_rng(3)
    out = np.zeros((120, ears, hop), np.int16)
    out[10:20] = rng.integers(-1, 2, (10, ears, hop))
    out[20:40] = rng.choice(np.array([-32768, 32767], np.int16), (20, ears, hop))
    out[40:50, 0] = 32767
    out[60, :, 3] = -32768
    out[70:100] = rng.normal(0, 300, (30, ears, hop)).astype(np.int16)
    return out


def quiet(ears: int, hop: int) -> Int16:
    """Signals whose spectra are next to nothing: single steps, alternating ones, constants, one ear silent."""
    out = np.zeros((96, ears, hop), np.int16)
    out[4, 0, 5] = 1
    out[20:36, :, ::2] = 1
    out[36:52, :, 1::2] = -1
    out[52:68] = 1
    out[68:84, 0] = np.resize(np.array([1, 0, -1, 0], np.int16), hop)
    return out


SIGNALS = {
    "speech": lambda ears, hop: speech(ears, 400, hop),
    "noise": lambda ears, hop: np.random.default_rng(1).normal(0, 4000, (200, ears, hop)).astype(np.int16),
    "difficult": difficult,
    "quiet": quiet,
}


class Listening:
    """The reference network, and what it was asked and what it answered."""

    name = "listening"

    def __init__(self, artifact: Artifact) -> None:
        self._network = ReferenceNetwork(artifact.graph)
        self.heard: list[bytes] = []

    def reset(self) -> None:
        self._network.reset()

    def run(self, features: Int8) -> tuple[Int8, ...]:
        answer = self._network.run(features)
        self.heard.append(b"".join(part.tobytes() for part in (features, *answer)))
        return answer


def in_python(artifact: Artifact, hops: Int16) -> list[bytes]:
    """What ``main.c parts`` writes of each hop, from the Python chain: features, mask, velocity and 16-bit sound."""
    network = Listening(artifact)
    step = Engine(artifact, network).start(hops.shape[1])
    sound = [pcm(step(hop.astype(np.float32) / np.float32(32768)), hops.shape[2])[0] for hop in hops]
    return [integers + hop.tobytes() for integers, hop in zip(network.heard, sound, strict=True)]


def in_c(chain: NativeChain, hops: Int16) -> list[bytes]:
    """The same from the firmware's C."""
    out = []
    for hop in hops:
        features = chain.analyze(hop)
        moves = chain.network(features)
        out.append(b"".join(part.tobytes() for part in (features, *moves, chain.synthesize(*moves))))
    return out


def assert_same_bytes(got: list[bytes], wanted: list[bytes]) -> None:
    """Names the first hop that differs: what a list of bytes would show is unreadable."""
    off = [i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if a != b]
    assert not off, f"{len(off)} of {len(wanted)} hops differ, the first is {off[0]}"


@with_and_without_beam
@pytest.mark.parametrize("ears", [1, 2])
@pytest.mark.parametrize("signal", SIGNALS)
def test_sound_is_that_of_the_python_chain(either: Artifact, ears: int, signal: str) -> None:
    """Features, network and sound, bit for bit."""
    hops = SIGNALS[signal](ears, either.frame.hop)
    got = in_c(NativeChain(either, ears), hops)
    assert_same_bytes(got, in_python(either, hops))
    sound = np.array([np.frombuffer(hop, np.int16)[-ears * either.frame.hop :] for hop in got], np.int32)
    assert np.abs(sound).max() > (0 if signal == "quiet" else 1000)


def test_parts_are_the_whole(nano: Artifact, chain: NativeChain) -> None:
    hops = speech(2, 60, nano.frame.hop)
    chain.reset()
    whole = [chain(hop) for hop in hops]
    chain.reset()
    parts = [chain.synthesize(*chain.network(chain.analyze(hop))) for hop in hops]
    np.testing.assert_array_equal(whole, parts)
    assert np.abs(whole).max() > 1000


def test_reset_forgets(nano: Artifact, chain: NativeChain) -> None:
    hops = speech(2, 80, nano.frame.hop)
    chain.reset()
    first = [chain(hop) for hop in hops]
    chain.reset()
    np.testing.assert_array_equal([chain(hop) for hop in hops], first)
    later = [chain(hop) for hop in hops]
    assert np.abs(np.array(later, np.int32) - first).max() > 1


@pytest.mark.parametrize("beam", [False, True])
@pytest.mark.parametrize(("window", "hop", "ears"), [(16, 8, 1), (32, 8, 2), (64, 32, 2), (128, 16, 2), (1024, 64, 2)])
def test_other_geometries(window: int, hop: int, ears: int, beam: bool) -> None:
    """FFTs with a stage of radix 2 and without, one hop a window and many, odd channels, a model that hears one ear."""
    frame = FrameSpec(hop=hop, window=window, synthesis=2 * hop, ears=ears, bands=8, fine_bands=3, spatial_bands=4)
    frame = replace(frame, beam=beam and ears == 2, level_invariant=beam)
    artifact = graphs.artifact(replace(graphs.TINY, frame=frame))
    hops = speech(ears, 12800 // hop, hop)
    assert_same_bytes(in_c(NativeChain(artifact, ears), hops), in_python(artifact, hops))


def voice_of(artifact: Artifact, seed: int) -> Voice:
    return Voice(embedding=graphs.embedding(seed), encoder_digest=artifact.voice_model.encoder_digest, created="", source="")


def test_a_voice_set_is_a_voice_folded_in(nano: Artifact) -> None:
    chain, rows = NativeChain(nano, 1), nano.golden.features
    for seed in (0, 1):
        chain.set_voice(voice_patch(nano, voice_of(nano, seed)))
        chain.reset()
        folded = ReferenceNetwork(personalize(nano, voice_of(nano, seed)).graph)
        for row in rows:
            for got, wanted in zip(chain.network(row), folded.run(row), strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_a_voice_set_while_running_keeps_the_past(nano: Artifact) -> None:
    """From the next frame on it is the network that has this voice, with the histories that the one without has gathered."""
    rows = nano.golden.features
    voice = voice_of(nano, 0)
    before, after = ReferenceNetwork(nano.graph), ReferenceNetwork(personalize(nano, voice).graph)
    fresh = NativeChain(nano, 1)
    for row in rows[:20]:
        before.run(row)
        fresh.network(row)
    fresh.set_voice(voice_patch(nano, voice))
    for state in nano.graph.states:
        after._values[state.input][:] = before.tensor(state.input)
    for row in rows[20:]:
        for got, wanted in zip(fresh.network(row), after.run(row), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("spoil", "status", "message"),
    [
        (lambda p: p[:-1], 2, "malformed"),
        (lambda p: b"", 2, "malformed"),
        (lambda p: b"X" + p[1:], 2, "malformed"),
        (lambda p: sealed(p[:4] + b"\x01" + p[5:]), 2, "of an older edge-tse: make it again"),
        (lambda p: p[:4] + b"\x01" + p[5:-4], 2, "of an older edge-tse: make it again"),
        (lambda p: sealed(p[:4] + b"\x03" + p[5:]), 2, "malformed"),
        (lambda p: sealed(p[:8] + bytes(16) + p[24:]), 3, "another model"),
        (lambda p: sealed(p[:24] + np.float32(np.nan).tobytes() + p[28:]), 4, "out of range"),
        (lambda p: sealed(p[:24] + np.float32(-1).tobytes() + p[28:]), 4, "out of range"),
        (lambda p: sealed(p[:24] + np.float32(256).tobytes() + p[28:]), 4, "out of range"),
        (lambda p: sealed(p[:24] + np.float32(np.inf).tobytes() + p[28:]), 4, "out of range"),
        (lambda p: sealed(p[:-8] + np.int32(2**24).tobytes() + p[-4:]), 4, "out of range"),
        (lambda p: sealed(p[:-8] + np.int32(-(2**24)).tobytes() + p[-4:]), 4, "out of range"),
        (lambda p: p[:-8] + np.int32(7).tobytes() + p[-4:], 5, "damaged, its CRC-32 differs: make it again"),
    ],
)
def test_a_spoiled_voice_is_refused_and_changes_nothing(
    nano: Artifact, chain: NativeChain, spoil: object, status: int, message: str
) -> None:
    chain.reset()
    before = [np.array(chain.network(row)) for row in nano.golden.features[:10]]
    patch = voice_patch(nano, voice_of(nano, 2))
    with pytest.raises(DeviceError, match=message) as caught:
        chain.set_voice(spoil(patch))  # type: ignore[operator]
    assert caught.value.status == status
    chain.reset()
    np.testing.assert_array_equal([np.array(chain.network(row)) for row in nano.golden.features[:10]], before)


def test_values_at_the_bounds_are_taken(nano: Artifact, chain: NativeChain) -> None:
    patch = voice_patch(nano, voice_of(nano, 2))
    largest = np.nextafter(np.float32(256), np.float32(0))
    chain.set_voice(sealed(patch[:24] + largest.tobytes() + patch[28:]))
    for bias in (2**24 - 1, 1 - 2**24):
        chain.set_voice(sealed(patch[:-8] + np.int32(bias).tobytes() + patch[-4:]))
    chain.set_voice(patch)


def test_every_bit_of_a_voice_patch_counts(nano: Artifact, chain: NativeChain) -> None:
    """A single bit that flips where a patch is kept: all of them in its head and at both ends of its tables, some in between."""
    patch = voice_patch(nano, voice_of(nano, 2))
    bits = {*range(8 * 64), *range(8 * (len(patch) - 64), 8 * len(patch)), *range(0, 8 * len(patch), 101)}
    for bit in bits:
        flipped = bytearray(patch)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DeviceError, match="is refused"):
            chain.set_voice(bytes(flipped))
    chain.set_voice(patch)


def test_a_model_with_a_voice_takes_no_other(nano: Artifact) -> None:
    own = personalize(nano, voice_of(nano, 0))
    chain = NativeChain(own, 1)
    with pytest.raises(DeviceError, match="compiled with a voice folded in"):
        chain.set_voice(voice_patch(nano, voice_of(nano, 1)))
    folded = ReferenceNetwork(own.graph)
    for row in nano.golden.features[:20]:
        np.testing.assert_array_equal(chain.network(row), folded.run(row))


def test_wrong_shapes_are_refused(nano: Artifact, chain: NativeChain) -> None:
    for hop in (np.zeros((1, 64), np.int16), np.zeros((2, 63), np.int16), np.zeros((2, 64), np.int32)):
        with pytest.raises(AudioError, match="a step takes int16"):
            chain(hop)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="3 channels"):
        NativeChain(nano, 3)


def image_of(artifact: Artifact, name: str, folder: Path) -> Program:
    core = CORES[name]
    if shutil.which(core.emulator[0]) is None:
        pytest.skip(f"{core.emulator[0]} is not installed: apt-get install qemu-system-arm qemu-user")
    return build_program(generate(artifact), core, folder / "image.elf")


QUICK = ("host", "qemu-mps3-an547")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SAME])
@with_and_without_beam
def test_every_core_makes_the_same_of_the_same(either: Artifact, name: str, tmp_path: Path) -> None:
    """Golden frames to the integer, and the whole chain to the byte: features, outputs of the network and sound."""
    image = image_of(either, name, tmp_path)
    golden, frame = either.golden, either.frame
    golden.features.tofile(tmp_path / "features")
    assert emulate(image, ["network", "features", "out"], tmp_path)["kernels"] == SAME[name]
    assert golden.outputs is not None
    got = np.fromfile(tmp_path / "out", np.int8).reshape(len(golden.features), -1, frame.bands)
    np.testing.assert_array_equal(got, np.stack([golden.outputs[name] for name in frame.moves], axis=1))

    voice = voice_of(either, 0)
    (tmp_path / "voice").write_bytes(voice_patch(either, voice))
    hops = np.concatenate(
        [speech(2, 150, frame.hop), *(SIGNALS[name](2, frame.hop)[:120] for name in ("noise", "difficult", "quiet"))]
    )
    hops.tofile(tmp_path / "sound")
    said = emulate(image, ["parts", "2", "sound", "out", "voice"], tmp_path)
    assert (said["voice"], said["hops"]) == ("0", str(len(hops)))
    out = (tmp_path / "out").read_bytes()
    size = len(out) // len(hops)
    got_hops = [out[i * size : (i + 1) * size] for i in range(len(hops))]
    assert_same_bytes(got_hops, in_python(personalize(either, voice), hops))
    if image.core.regions:
        assert 0 < int(said["stack_bytes"]) < image.sections[".stack"] // 2

    emulate(image, ["process", "1", "sound", "mono"], tmp_path)
    assert len((tmp_path / "mono").read_bytes()) == hops.nbytes
    with pytest.raises(TargetError, match=r"failed with status 1 on .*: error cannot open nothing"):
        emulate(image, ["process", "1", "nothing", "out"], tmp_path)
    with pytest.raises(TargetError, match=r"failed with status 2 on .*: error usage"):
        emulate(image, ["process", "7", "sound", "out"], tmp_path)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("qemu-mps3-an547", 0.30),
        pytest.param("qemu-mps2-an500", 2.7, marks=pytest.mark.slow),
        pytest.param("qemu-mps2-an386", 2.7, marks=pytest.mark.slow),
    ],
)
def test_instructions(nano: Artifact, name: str, limit: float, tmp_path: Path) -> None:
    """The same number every hop and every run, and few enough for each multiply-accumulate."""
    image = image_of(nano, name, tmp_path)
    speech(2, 12, nano.frame.hop).tofile(tmp_path / "sound")
    counts = count_instructions(image, ["process", "2", "sound", "out"], tmp_path)
    again = count_instructions(image, ["process", "2", "sound", "out"], tmp_path)
    assert counts.evidence == "emulated"
    assert len(counts.passes) == 12
    assert sum(counts.functions.values()) == pytest.approx(counts.passes.mean())
    np.testing.assert_array_equal(counts.passes, again.passes)
    assert np.ptp(counts.passes) < counts.passes.mean() * 0.01
    nodes = {node.name: node for node in nano.graph.nodes}
    macs = sum(node.weight.size for node in nodes.values() if type(node).__name__ == "Pointwise")
    assert counts.functions["etse_pointwise"] / macs <= limit
    network = count_instructions(image, ["parts", "2", "sound", "out"], tmp_path, first="etse_network", last="etse_synthesize")
    assert counts.functions["etse_pointwise"] < network.passes.mean() < counts.passes.mean()
    with pytest.raises(TargetError, match="no function nowhere"):
        count_instructions(image, [], tmp_path, first="nowhere")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qemu-mps3-an547", "qemu-mps2-an500", "qemu-mps2-an386"])
def test_the_other_compiler_makes_the_same(nano: Artifact, name: str, tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed: apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi")
    if shutil.which(CORES[name].emulator[0]) is None:
        pytest.skip(f"{CORES[name].emulator[0]} is not installed: apt-get install qemu-system-arm")
    hops = np.concatenate([speech(2, 100, nano.frame.hop), difficult(2, nano.frame.hop)])
    hops.tofile(tmp_path / "sound")
    out = []
    for gcc in (False, True):
        image = build_program(generate(nano), CORES[name], tmp_path / "image.elf", gcc=gcc)
        assert emulate(image, ["parts", "2", "sound", "out"], tmp_path)["kernels"] == SAME[name]
        out.append((tmp_path / "out").read_bytes())
    assert out[0] == out[1]
    with pytest.raises(TargetError, match="not compiled with arm-none-eabi-gcc"):
        build_program(generate(nano), CORES["host"], tmp_path / "image.elf", gcc=True)


def test_an_emulator_that_is_missing_or_hangs_is_named(nano: Artifact, tmp_path: Path) -> None:
    image = image_of(nano, "host", tmp_path)
    gone = replace(image, core=replace(image.core, emulator=("no-such-emulator",)))
    with pytest.raises(TargetError, match="no-such-emulator, which is not installed"):
        emulate(gone, [], tmp_path)
    endless = replace(image, core=replace(image.core, emulator=("tail", "-f")))
    with pytest.raises(TargetError, match=r"did not end within 0\.2 s"):
        emulate(endless, [], tmp_path, timeout_s=0.2)
