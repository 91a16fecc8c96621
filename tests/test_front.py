"""The front end to the bit: transform and logarithm, compiled against NumPy, and numbers that some processors do not have."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_tse import front
from edge_tse.cli import doctor
from edge_tse.engines import Engine
from edge_tse.frame import LIFT, SILENCE, FrameSpec
from edge_tse.front import CompiledFront, Front, NumpyFront, compiled_state, open_front
from edge_tse.operators import Tensor
from edge_tse.reference import ReferenceNetwork
from edge_tse.transform import log2, real_transform
from tests import graphs

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]

FRAME = FrameSpec()
BEAM = FrameSpec(beam=True, level_invariant=True)


def frame_of(window: int, hop: int, ears: int) -> FrameSpec:
    return FrameSpec(hop=hop, window=window, synthesis=2 * hop, ears=ears, bands=4, fine_bands=2, spatial_bands=2)


FRAMES = [FRAME, frame_of(8, 2, 1), frame_of(16, 4, 2), frame_of(32, 16, 2), frame_of(128, 6, 2), frame_of(1024, 64, 2)]


def ends_of(frame: FrameSpec) -> dict[str, Tensor]:
    """Scales that are no powers of two, and zero points."""
    made = [("features", frame.features, 1 / 127, 3), ("mask", frame.bands, 0.0041, -128), ("velocity", frame.bands, 0.0077, -5)]
    made += [("share", frame.bands, 0.0039, -127)] if frame.beam else []
    return {name: Tensor(name=name, frames=1, channels=n, scale=scale, zero_point=zero) for name, n, scale, zero in made}


def compiled(frame: FrameSpec, ears: int) -> CompiledFront:
    made = open_front(frame, ears, ends_of(frame))
    if not isinstance(made, CompiledFront):
        pytest.skip(f"nothing to compare with: {compiled_state()[1]}")
    return made


def named(frame: FrameSpec) -> str:
    return "-".join([name for name in ("beam", "level_invariant") if getattr(frame, name)]) or "plain"


def noise(rng: np.random.Generator, hops: int = 200) -> Float:
    return rng.normal(0, 0.1, (hops, 2, FRAME.hop)).astype(np.float32)


def with_right(sound: Float, gain: float) -> Float:
    """The left ear's sound, at another level, on the right one from the middle on."""
    out = sound.copy()
    out[len(out) // 2 :, 1] = np.float32(gain) * out[len(out) // 2 :, 0]
    return out


SOUNDS: dict[str, Callable[[np.random.Generator], Float]] = {
    "noise": noise,
    "quiet": lambda rng: noise(rng) * np.float32(1e-6),
    "silence": lambda rng: noise(rng) * np.float32(0),
    "loud": lambda rng: noise(rng) * np.float32(1e4),
    "a dead ear": lambda rng: with_right(noise(rng), 0),
    "equal ears": lambda rng: with_right(noise(rng), 1),
    "an inverted ear": lambda rng: with_right(noise(rng), -1),
    "clipped": lambda rng: np.clip(noise(rng) * np.float32(30), -1, 1),
    "steps": lambda rng: noise(rng) * np.repeat(np.float32([1, 1e-3, 30, 0, 1e-5]), 40)[:, None, None],
    "a long decay": lambda rng: noise(rng, 1500) * np.exp2(-np.arange(1500, dtype=np.float32) / 25)[:, None, None],
    # until covariances are next to nothing
    "silence after a whisper": lambda rng: noise(rng, 2000) * (np.float32(1e-6) * (np.arange(2000) < 100))[:, None, None],
}


def run(one: Front, hops: Float, answers: Int8) -> tuple[Int8, Float]:
    """Features ``[hops, features]`` and sound ``[hops, ears, hop]``, the network serve whatever it likes."""
    features, sound = [], []
    for hop, moves in zip(hops, answers, strict=True):
        features.append(one.analyze(hop))
        sound.append(one.synthesize(*moves))
    return np.array(features), np.array(sound)


def answers_of(frame: FrameSpec, hops: int) -> Int8:
    return np.random.default_rng(7).integers(-128, 128, (hops, len(frame.moves), frame.bands), np.int8)


class TestTransform:
    @pytest.mark.parametrize("n", [8, 16, 32, 64, 128, 256, 512, 1024])
    def test_it_is_a_fourier_transform(self, n: int) -> None:
        x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
        re, im = real_transform(n).forward(x)
        wanted = 2 * np.fft.rfft(x.astype(np.float64))
        assert np.abs(re + 1j * im - wanted).max() < 4e-7 * np.abs(wanted).max()
        back = real_transform(n).inverse(np.stack([re, im]))
        np.testing.assert_allclose(back / (2 * n), x, atol=4e-6)

    @pytest.mark.parametrize("n", [0, 2, 4, 12, 500])
    def test_other_lengths_are_refused(self, n: int) -> None:
        with pytest.raises(ValueError, match=f"a transform of {n} numbers"):
            real_transform(n)

    def test_factors_are_zero_or_far_from_it(self) -> None:
        """A cosine of 6e-17 in place of zero would make subnormal numbers."""
        for n in (512, 1024):
            for table in (real_transform(n).twiddle_table, real_transform(n).split):
                assert np.abs(table[table != 0]).min() > 2 / n

    def test_the_logarithm_is_one(self) -> None:
        x = np.exp2(np.random.default_rng(0).uniform(-120, 120, 100_000)).astype(np.float32)
        exact = np.log2(x.astype(np.float64))
        np.testing.assert_array_less(np.abs(log2(x) - exact), 1.3e-7 + np.abs(exact) * 2**-24)
        powers = np.arange(-126, 128)
        np.testing.assert_array_equal(log2(np.exp2(powers).astype(np.float32)), powers)


class TestCompiled:
    @pytest.mark.parametrize("ears", [1, 2])
    @pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: f"{frame.window}-{frame.hop}")
    def test_gives_the_bits_of_numpy(self, frame: FrameSpec, ears: int) -> None:
        if ears > frame.ears:
            pytest.skip("a model for one ear")
        hops, rng = 160, np.random.default_rng(1)
        sound = rng.standard_normal((hops, ears, frame.hop)) * np.repeat([0, 1e-9, 1e-4, 0.1, 3, 0, 1e3, 1e-6], 20)[:, None, None]
        sound[70:90, -1] = 0  # one ear hears nothing
        sound, answers = sound.astype(np.float32), answers_of(frame, hops)
        for got, wanted in zip(
            run(compiled(frame, ears), sound, answers), run(NumpyFront(frame, ears, ends_of(frame)), sound, answers), strict=True
        ):
            np.testing.assert_array_equal(got, wanted)
            assert len(np.unique(wanted)) > 30

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.floats(1e-30, 1e6), st.integers(1, 2))
    def test_gives_them_whatever_comes_in(self, seed: int, scale: float, ears: int) -> None:
        sound = (scale * np.random.default_rng(seed).standard_normal((12, ears, FRAME.hop))).astype(np.float32)
        answers = answers_of(FRAME, 12)
        got, wanted = (run(f, sound, answers) for f in (compiled(FRAME, ears), NumpyFront(FRAME, ears, ends_of(FRAME))))
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_array_equal(got[1], wanted[1])

    @pytest.mark.parametrize("frame", [BEAM, replace(BEAM, level_invariant=False), replace(FRAME, level_invariant=True)], ids=named)
    @pytest.mark.parametrize("ears", [1, 2])
    @pytest.mark.parametrize("kind", SOUNDS)
    def test_gives_them_with_a_beam_and_a_running_level(self, frame: FrameSpec, ears: int, kind: str) -> None:
        sound = SOUNDS[kind](np.random.default_rng(3))[:, :ears]
        answers = answers_of(frame, len(sound))
        got, wanted = (run(f, sound, answers) for f in (compiled(frame, ears), NumpyFront(frame, ears, ends_of(frame))))
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_array_equal(got[1], wanted[1])
        assert np.isfinite(wanted[1]).all()

    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10**6), st.floats(1e-30, 1e6), st.floats(-2, 2))
    def test_gives_them_with_a_beam_whatever_comes_in(self, seed: int, scale: float, other_ear: float) -> None:
        rng = np.random.default_rng(seed)
        sound = scale * rng.standard_normal((12, 2, BEAM.hop)) * rng.choice([0, 1e-6, 1, 1], (12, 1, 1))
        sound[6:, 1] = other_ear * sound[6:, 0]
        sound, answers = sound.astype(np.float32), answers_of(BEAM, 12)
        got, wanted = (run(f, sound, answers) for f in (compiled(BEAM, 2), NumpyFront(BEAM, 2, ends_of(BEAM))))
        np.testing.assert_array_equal(got[0], wanted[0])
        np.testing.assert_array_equal(got[1], wanted[1])
        assert np.isfinite(wanted[1]).all()

    @pytest.mark.parametrize("worst", [np.nan, np.inf, 1e30], ids=str)
    def test_a_beam_outlives_what_is_no_sound(self, worst: float) -> None:
        sound, one = noise(np.random.default_rng(5), 60), compiled(BEAM, 2)
        sound[20, 1, 7] = worst
        played = run(one, sound, answers_of(BEAM, 60))[1]
        # The sample is in eight windows, and half of the last is played a hop later.
        assert np.isfinite(played[30:]).all()
        assert np.abs(played[30:]).max() > 1e-3

    @pytest.mark.parametrize("frame", [FRAME, BEAM], ids=named)
    def test_reset_is_a_new_beginning(self, frame: FrameSpec) -> None:
        sound = np.random.default_rng(2).normal(0, 0.1, (9, 2, FRAME.hop)).astype(np.float32)
        answers, one = answers_of(frame, 9), compiled(frame, 2)
        first = run(one, sound, answers)
        later = run(one, sound, answers)
        one.reset()
        again = run(one, sound, answers)
        assert not np.array_equal(first[1], later[1])
        for got, wanted in zip(again, first, strict=True):
            np.testing.assert_array_equal(got, wanted)

    def test_streams_do_not_share(self) -> None:
        sound = np.random.default_rng(3).normal(0, 0.1, (8, 2, FRAME.hop)).astype(np.float32)
        one, other = compiled(FRAME, 2), compiled(FRAME, 2)
        alone = np.array([one.analyze(hop) for hop in sound])
        one.reset()
        between = []
        for hop in sound:
            between.append(one.analyze(hop))
            other.analyze(hop[::-1])
        np.testing.assert_array_equal(between, alone)

    def test_hops_in_other_memory_orders_are_taken(self) -> None:
        whole = np.random.default_rng(4).normal(0, 0.1, (2, 4 * FRAME.hop)).astype(np.float32)
        part = whole[:, FRAME.hop : 2 * FRAME.hop]
        assert not part.flags.c_contiguous
        np.testing.assert_array_equal(compiled(FRAME, 2).analyze(part), compiled(FRAME, 2).analyze(part.copy()))

    def test_wrong_buffers_are_refused(self) -> None:
        compiled(FRAME, 2)
        from edge_tse._front import Stream

        stream = compiled(FRAME, 2)._stream
        features, band, hop = (
            np.zeros(FRAME.features, np.int8),
            np.zeros(FRAME.bands, np.int8),
            np.zeros((2, FRAME.hop), np.float32),
        )
        with pytest.raises(ValueError, match="hop: 508 bytes, not 512"):
            stream.analyze(hop.reshape(-1)[1:], features)
        with pytest.raises(ValueError, match="features: 191 bytes, not 192"):
            stream.analyze(hop, features[1:])
        with pytest.raises(ValueError, match="velocity: 95 bytes, not 96"):
            stream.synthesize(band, band[1:], hop)
        hop.flags.writeable = False
        with pytest.raises(ValueError, match="read-only"):
            stream.synthesize(band, band, hop)
        with pytest.raises(TypeError, match="3 arguments"):
            stream.analyze(hop, features, features)  # type: ignore[call-arg]
        with pytest.raises(ValueError, match="not C-contiguous"):
            stream.analyze(np.zeros((FRAME.hop, 2), np.float32).T, features)
        edges = FRAME.band_edges.astype(np.uint16)
        transform, reals, zeros = FRAME.transform, np.zeros(8, np.float32), np.zeros(3, np.int32)
        tables = (FRAME.lifted_window, FRAME.lowering_window, transform.twiddle_table, transform.split)
        for spoiled in (edges[::-1].copy(), edges + np.uint16(1), np.where(np.arange(97) == 50, 300, edges).astype(np.uint16)):
            with pytest.raises(ValueError, match="edges: the bands are not all the bins"):
                Stream(2, 64, 512, 96, 32, False, False, *tables, spoiled, reals, zeros)
        for counts in (
            (0, 64, 512, 96, 32),
            (3, 64, 512, 96, 32),
            (2, 64, 500, 96, 32),
            (2, 63, 512, 96, 32),
            (2, 512, 512, 96, 32),
        ):
            with pytest.raises(ValueError, match=f"no stream of {counts[0]} ears, hop {counts[1]}"):
                Stream(*counts, False, False, *tables, edges, reals, zeros)
        with pytest.raises(ValueError, match="twiddles: 0 bytes, not 2016"):
            Stream(2, 64, 512, 96, 32, False, False, *tables[:2], reals[:0], tables[3], edges, reals, zeros)


class TestChoice:
    @pytest.fixture(autouse=True)
    def fresh(self) -> Iterator[None]:
        front._load_compiled.cache_clear()
        yield
        front._load_compiled.cache_clear()

    def test_without_the_compiled_part_it_is_numpy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the sound of an engine is the same."""
        artifact = graphs.artifact(graphs.NANO)
        sound = np.random.default_rng(5).normal(0, 0.1, (30, 2, FRAME.hop)).astype(np.float32)

        def play() -> Float:
            step = Engine(artifact, ReferenceNetwork(artifact.graph)).start(2)
            return np.array([step(hop) for hop in sound])

        here = play()
        monkeypatch.setitem(sys.modules, "edge_tse._front", None)
        front._load_compiled.cache_clear()
        assert isinstance(open_front(FRAME, 2, ends_of(FRAME)), NumpyFront)
        in_use, said = compiled_state()
        assert not in_use
        assert "the compiled part was not built" in said
        assert "apt-get install gcc python3-dev" in said
        np.testing.assert_array_equal(play(), here)

    @pytest.mark.parametrize("fault", ["other arguments", "another feature", "other sound"])
    def test_one_that_differs_is_not_used(self, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
        class Stream:
            def __init__(self, *given: object) -> None:
                if fault == "other arguments":
                    raise ValueError("twiddles: 2016 bytes, not 0")
                self._right = NumpyFront(
                    FRAME, 2, {name: Tensor(name=name, frames=1, channels=1, scale=1 / 128) for name in ends_of(FRAME)}
                )

            def analyze(self, hop: Float, features: Int8) -> None:
                features[:] = self._right.analyze(hop)
                features[17] += fault == "another feature"

            def synthesize(self, mask: Int8, velocity: Int8, out: Float) -> None:
                out[:] = self._right.synthesize(mask, velocity)
                if fault == "other sound":
                    out[0, 9] = np.nextafter(out[0, 9], np.float32(9))

            def reset(self) -> None:
                self._right.reset()

        module = ModuleType("edge_tse._front")
        module.Stream = Stream  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "edge_tse._front", module)
        assert isinstance(open_front(FRAME, 2, ends_of(FRAME)), NumpyFront)
        assert "rounds otherwise" in compiled_state()[1]

    @pytest.mark.parametrize("there", [True, False])
    def test_the_doctor_says_which(self, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
        if not there:
            monkeypatch.setitem(sys.modules, "edge_tse._front", None)
        untried = doctor.EngineFinding(engine="none", description="", runs=False, detail="", network_p50_ms=None)
        monkeypatch.setattr(doctor, "_try", lambda *_: untried)
        found = doctor.examine()
        in_use, said = compiled_state()
        assert found.figures()["front_end"] == {"compiled": in_use, "detail": said}
        assert there or not in_use
        assert any(said in cell for cell in found.tables()[0].columns[1].cells)

    def test_what_c_cannot_do_is_left_to_numpy(self) -> None:
        odd = FrameSpec(hop=3, window=16, synthesis=6, bands=4, fine_bands=2, spatial_bands=2)
        assert isinstance(open_front(odd, 1, ends_of(odd)), NumpyFront)


def next_to_nothing(hops: int, seed: int) -> NDArray[np.int16]:
    """``[hops, 2, hop]``: few steps of one, of all kinds of regularity, and silence between."""
    rng = np.random.default_rng(seed)
    out = np.zeros((hops, 2, FRAME.hop), np.int16)
    n = np.arange(FRAME.hop)
    for hop in range(0, hops, 3):
        period, kind = rng.integers(1, 40), rng.integers(4)
        shape = [n % period == 0, n % 2 == 0, rng.random(FRAME.hop) < 0.1, np.ones(FRAME.hop)][kind]
        out[hop, rng.integers(2)] = shape * rng.choice([-1, 1])
    return out


def fading(hops: int) -> NDArray[np.int16]:
    """``[hops, 2, hop]``: noise that fades away in each third, and an ear that dies before the other."""
    rng, t = np.random.default_rng(2), np.arange(hops) % (hops // 3)
    level = 3000 * np.exp2(-t / 20)[:, None, None] * np.array([1, 0.3])[:, None]
    level[t > hops // 12, 1] = 0
    out: NDArray[np.int16] = np.rint(rng.standard_normal((hops, 2, FRAME.hop)) * level).astype(np.int16)
    return out


class TestSubnormals:
    """Where they are flushed to zero, 16-bit sound must come out the same."""

    def test_spectra_have_none(self) -> None:
        hops = next_to_nothing(300, 0)
        spectra = FRAME.analyze(hops.transpose(1, 0, 2).reshape(2, -1).astype(np.float32) / np.float32(32768))
        parts = np.abs(np.stack([spectra.real, spectra.imag]))
        assert parts[parts > 0].min() >= SILENCE
        assert np.count_nonzero(parts) < parts.size
        assert SILENCE * LIFT >= 1

    @pytest.mark.parametrize("sizes", [graphs.NANO, graphs.BEAM], ids=["plain", "beam"])
    def test_flushing_them_changes_nothing(self, sizes: graphs.Sizes, monkeypatch: pytest.MonkeyPatch) -> None:
        """The firmware's C, in a processor set to treat them as zero and in one that is not."""
        if platform.machine() not in ("x86_64", "AMD64"):
            pytest.skip("only x86-64 is switched here; the emulated Cortex-M55 flushes always")
        pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")
        from firmware_bridge import native

        switch = "unsigned etse_test_flush(unsigned mode);\nunsigned etse_test_flush(unsigned mode) {\n"
        switch += "    const unsigned old = __builtin_ia32_stmxcsr();\n    __builtin_ia32_ldmxcsr(mode);\n    return old;\n}\n"
        generate = native.generate
        monkeypatch.setattr(native, "generate", lambda artifact: {**generate(artifact), "switch.c": switch})
        chain = native.NativeChain(graphs.artifact(sizes), 2)
        hops, heard = np.concatenate([next_to_nothing(1500, 1), fading(900)]), []
        for flushed in (False, True):
            chain.reset()
            old = chain._library.etse_test_flush(0x9FC0 if flushed else 0x1F80)
            try:
                for hop in hops:
                    features = chain.analyze(hop)
                    heard.append(features.tobytes() + chain.synthesize(*chain.network(features)).tobytes())
            finally:
                chain._library.etse_test_flush(old)
        assert heard[: len(hops)] == heard[len(hops) :]
        assert len(set(heard)) > 100
