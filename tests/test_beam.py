"""The beam: that it points where it should, leaves cues alone, and never breaks out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.beam import COVARIANCE_LIFT, COVARIANCE_SILENCE, Beam
from edge_tse.engines import Engine
from edge_tse.errors import ArtifactError
from edge_tse.extraction import extract_signal
from edge_tse.frame import FrameSpec
from edge_tse.front import NumpyFront, features_of, open_front
from edge_tse.level import RunningLevel
from edge_tse.reference import ReferenceNetwork
from tests import graphs

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]

FRAME = FrameSpec(beam=True, level_invariant=True)
FRACTION_OF_3_DB = 2 * (1 + 1e-4)


def ears_of(rng: np.random.Generator, level: Float, right: complex, spread: float = 0) -> Complex:
    """Spectra ``[hops, 2, bins]`` of one source, whose right ear is the left times a factor, and of noise of each ear's own."""
    shape = (len(level), 1, FRAME.bins)
    source = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) * np.array([1, right])[:, None]
    own = rng.normal(size=source.shape) + 1j * rng.normal(size=source.shape)
    out: Complex = (level[:, None, None] * (source + spread * own)).astype(np.complex64)
    return out


def energy(x: Complex) -> NDArray[np.float64]:
    return np.sum(np.abs(x.astype(np.complex128)) ** 2, axis=-1)


def test_it_takes_away_what_comes_from_elsewhere_and_keeps_the_talker_of_each_ear() -> None:
    rng, level = np.random.default_rng(0), np.ones(1500, np.float32)
    talker, other = ears_of(rng, level, 0.5 + 0.3j), ears_of(rng, level, -0.4 + 0.8j, 0.05)
    speaks = np.arange(1500) % 100 < 50
    beam = Beam(FRAME)
    for hop, (target, masker) in enumerate(zip(talker, other, strict=True)):
        beam.listen(target * speaks[hop] + masker)
        alone = target * speaks[hop] + (not speaks[hop]) * masker
        beam.learn(alone, np.full(FRAME.bands, speaks[hop], np.float32), alone * speaks[hop])
    kept, left = beam.listen(talker[0])[0], beam.listen(other[0])[0]
    np.testing.assert_allclose(kept, talker[0], atol=0.05 * np.abs(talker[0]).max())
    assert (10 * np.log10(energy(left) / energy(other[0])) < -12).all()


def test_it_says_how_loud_it_is_and_is_never_more_than_3_db_louder() -> None:
    rng = np.random.default_rng(1)
    beam = Beam(FRAME)
    for spectrum in ears_of(rng, np.ones(300, np.float32), 1, 0.01):
        beam.learn(spectrum, np.full(FRAME.bands, 0.5, np.float32), spectrum * np.float32(0.5))
    # What the filters have not seen: ears that contradict each other.
    made, level = beam.listen(ears_of(rng, np.ones(1, np.float32), -1)[0])
    assert level.shape == (FRAME.bands,)
    assert (level < 0).all()
    assert np.isfinite(made).all()


@pytest.mark.parametrize("sound", ["steps", "dead ear", "inverted", "silence"])
def test_it_stays_within_bounds(sound: str) -> None:
    """Half a minute at once of what happens to microphones."""
    rng, hops = np.random.default_rng(2), 8000
    level = np.exp(rng.uniform(-18, 5, hops // 100)).astype(np.float32).repeat(100)
    spectra = ears_of(rng, level, {"inverted": -1}.get(sound, 0.9 - 0.1j), 0.1)
    if sound == "dead ear":
        spectra[hops // 4 :, 1] = 0
    if sound == "silence":
        spectra[hops // 8 :] = 0
    beam, most = Beam(FRAME), 0.0
    masks = rng.uniform(-0.2, 1.2, (hops // 10, FRAME.bands)).astype(np.float32).repeat(10, axis=0)
    for spectrum, mask in zip(spectra, masks, strict=True):
        made, feature = beam.listen(spectrum)
        assert np.abs(feature).max() <= 1
        loud, whole = (FRAME.band_energy(x).sum(axis=0) for x in (made, spectrum))
        assert (loud <= FRACTION_OF_3_DB * whole + 1e-11).all()
        beam.learn(spectrum, mask, made)
        most = max(most, float(np.abs(spectrum).max()) ** 2 * float(FRAME.power_unit * COVARIANCE_LIFT))
        for left, right, re, im in (beam._target, beam._noise):
            assert max(left.max(), right.max()) <= most
            assert min(left.min(), right.min()) >= 0
            powers = (left + COVARIANCE_SILENCE) * (right + COVARIANCE_SILENCE)  # what is less than that is zero
            assert (np.hypot(re, im) <= np.sqrt(powers) * 1.001 + COVARIANCE_SILENCE).all()
    if sound == "silence":
        assert not beam.listen(spectra[-1])[0].any()


@pytest.mark.slow
def test_minutes_of_anything_are_finite() -> None:
    """Four minutes of noise, silence and steps, over and over with other masks, through the fastest front end there is."""
    rng, hops, artifact = np.random.default_rng(3), 60_000, graphs.artifact(graphs.BEAM)
    front = open_front(FRAME, 2, artifact.graph.tensors)
    if isinstance(front, NumpyFront):
        pytest.skip("without the compiled front end this takes minutes")
    kinds = rng.integers(0, 5, hops // 50).repeat(50)
    levels = np.exp(rng.uniform(-14, 1, hops // 50)).repeat(50)
    loudest = 0.0
    for hop, (kind, level) in enumerate(zip(kinds, levels, strict=True)):
        x = (level * rng.standard_normal((2, FRAME.hop))).astype(np.float32)
        x[1] *= (1, 0, -1, 1e-3, 1)[kind]
        x = np.clip(x, -1, 1) * np.float32(kind != 4)
        if kind == 2:
            x[1] = -x[0]
        features = front.analyze(x)
        moves = rng.integers(-128, 128, (3, FRAME.bands), np.int8)
        if hop % 7 == 0:
            moves[:] = 127 if hop % 2 else -128
        played = front.synthesize(*moves)
        assert np.isfinite(played).all()
        loudest = max(loudest, float(np.abs(played).max()))
        assert features.shape == (FRAME.features,)
    # Gains up to 2 on a hop, and a beam of 3 dB more, of which twice as much cannot be taken.
    assert loudest < 16


class TestRunningLevel:
    @pytest.mark.parametrize("db", [-40, -20, 20])
    def test_features_do_not_depend_on_the_level(self, db: float) -> None:
        rng = np.random.default_rng(4)
        signal = (0.1 * rng.standard_normal((2, 400 * FRAME.hop))).astype(np.float32)
        artifact = graphs.artifact(graphs.BEAM)
        one, other = (
            features_of(FRAME, artifact.graph.tensors, x, ReferenceNetwork(artifact.graph))
            for x in (signal, signal * np.float32(10 ** (db / 20)))
        )
        off = np.abs(one[300:, : FRAME.heard].astype(int) - other[300:, : FRAME.heard])
        assert off.max() <= 3

    def test_it_rises_at_once_and_falls_slowly(self) -> None:
        level = RunningLevel()
        quiet, loud = (np.full(96, x / 96, np.float32) for x in (1e-6, 1e-2))
        for _ in range(3000):
            factor = level.push(quiet)
        assert factor == pytest.approx(1e-2 / 1e-6, rel=1e-2)
        for _ in range(50):
            factor = level.push(loud)
        assert factor == pytest.approx(1, rel=0.01)
        for _ in range(500):
            factor = level.push(quiet)
        assert 2 < factor < 3

    def test_silence_is_brought_nowhere(self) -> None:
        level = RunningLevel()
        for _ in range(50_000):
            factor = level.push(np.zeros(96, np.float32))
        assert factor == pytest.approx(1e6)

    def test_features_need_it(self) -> None:
        with pytest.raises(ValueError, match="depend on the hops before"):
            FRAME.frame_features(np.zeros((2, FRAME.bins), np.complex64))


class TestArtifact:
    def test_it_survives_its_file(self) -> None:
        made = graphs.artifact(graphs.BEAM)
        again = Artifact.from_bytes(made.to_bytes())
        assert (again.frame, again.digest) == (made.frame, made.digest)
        assert again.frame.beam
        assert again.frame.level_invariant
        assert list(again.golden.outputs or ()) == ["mask", "velocity", "share"]

    def test_what_is_not_set_is_not_written(self) -> None:
        assert set(FrameSpec().to_json()) == set(FRAME.to_json()) - {"beam", "level_invariant"}

    def test_a_beam_needs_a_share(self) -> None:
        plain, beam = graphs.artifact(graphs.NANO), graphs.artifact(graphs.BEAM)
        with pytest.raises(ArtifactError, match="maps features to mask and velocity and share, not"):
            beam.with_graph(plain.graph)
        with pytest.raises(ArtifactError, match="maps features to mask and velocity, not"):
            plain.with_graph(beam.graph)

    def test_one_ear_has_no_beam(self) -> None:
        with pytest.raises(ValueError, match="a beam takes two ears, not 1"):
            FrameSpec(ears=1, beam=True)

    def test_one_ear_is_the_flow_alone(self) -> None:
        artifact = graphs.artifact(graphs.BEAM)
        step = Engine(artifact, ReferenceNetwork(artifact.graph)).start(1)
        x = (0.1 * np.random.default_rng(5).standard_normal((1, 30 * FRAME.hop))).astype(np.float32)
        heard, applied = [], []
        for i in range(30):
            heard.append(step(x[:, i * FRAME.hop : (i + 1) * FRAME.hop]))
            applied.append(step.gain)
        assert step.share is not None
        assert step.share.any()
        gains = FRAME.bin_gains(np.array(applied))[:, None]
        np.testing.assert_array_equal(np.concatenate(heard, axis=1), FRAME.synthesize(FRAME.analyze(x) * gains))

    def test_two_ears_are_extracted(self) -> None:
        artifact = graphs.artifact(graphs.BEAM)
        x = (0.1 * np.random.default_rng(6).standard_normal((2, 16000))).astype(np.float32)
        out = extract_signal(x, 16000, Engine(artifact, ReferenceNetwork(artifact.graph))).signal
        assert out.shape == x.shape
        assert np.isfinite(out).all()
        assert out.any()
