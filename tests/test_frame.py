"""Geometry: reconstruction, delay, streaming against batch, features and bands."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tse.frame import Analyzer, FrameSpec, Synthesizer

FRAME = FrameSpec()
DIGESTS = ["1a6f69deebb6", "2db819b3a34f", "2994b0c21ea0", "5a1860c29ac0", "6d98e91af1e1"]
"""Of spectra, features, sound and two tables."""


def noise(ears: int, samples: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((ears, samples))).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 64, 65, 1000, 16000])
def test_unchanged_spectra_reconstruct_the_signal(samples):
    signal = noise(2, samples)
    padded = np.pad(signal, ((0, 0), (0, FRAME.delay)))
    out = FRAME.synthesize(FRAME.analyze(padded))
    np.testing.assert_allclose(out[:, FRAME.delay : FRAME.delay + samples], signal, atol=1e-6)


def test_streaming_equals_batch_bit_for_bit():
    """Over more frames than the batch transforms at a time."""
    signal = noise(2, 64 * 100)
    analyzer, synthesizer = Analyzer(FRAME, 2), Synthesizer(FRAME, 2)
    spectra, out = [], []
    for i in range(100):
        spectra.append(analyzer.push(signal[:, i * 64 : i * 64 + 64]))
        out.append(synthesizer.push(spectra[-1]))
    np.testing.assert_array_equal(np.stack(spectra), FRAME.analyze(signal))
    np.testing.assert_array_equal(np.concatenate(out, axis=1), FRAME.synthesize(np.stack(spectra)))
    features = np.stack([FRAME.frame_features(spectrum) for spectrum in spectra])
    np.testing.assert_array_equal(features, FRAME.frame_features(np.stack(spectra)))
    np.testing.assert_array_equal(features[:, : FRAME.bands], FRAME.band_levels(np.stack(spectra)))


def test_the_bits_are_these():
    """What a model was frozen with stays what it hears: a change of rounding anywhere, or another NumPy's, shows here."""
    steps = (np.arange(2 * 64 * 300) * 48271 % 65521 - 32760) * np.repeat([0, 1, 64, 4096], 9600) // 4096
    spectra = FRAME.analyze((steps.reshape(300, 2, 64).transpose(1, 0, 2).reshape(2, -1) / 32768).astype(np.float32))
    parts = (
        spectra,
        FRAME.frame_features(spectra),
        FRAME.synthesize(spectra),
        FRAME.transform.twiddle_table,
        FRAME.transform.split,
    )
    assert [hashlib.sha256(part.tobytes()).hexdigest()[:12] for part in parts] == DIGESTS


def test_reset_makes_the_next_hop_the_first():
    signal = noise(1, 64)
    analyzer, synthesizer = Analyzer(FRAME, 1), Synthesizer(FRAME, 1)
    first = synthesizer.push(analyzer.push(signal))
    for i in range(5):
        synthesizer.push(analyzer.push(noise(1, 64, i + 1)))
    analyzer.reset()
    synthesizer.reset()
    np.testing.assert_array_equal(synthesizer.push(analyzer.push(signal)), first)


def test_an_impulse_comes_out_after_the_stated_latency():
    """The last sample of a hop waits for nothing: it leaves ``delay`` samples later; the first also waited for the hop."""
    for place in (0, FRAME.hop - 1):
        signal = np.zeros((1, FRAME.hop * 8), np.float32)
        signal[0, FRAME.hop * 3 + place] = 1
        out = FRAME.synthesize(FRAME.analyze(signal))
        assert np.argmax(np.abs(out[0])) == FRAME.hop * 3 + place + FRAME.delay
    assert FRAME.delay + FRAME.hop == round(FRAME.algorithmic_latency_s * FRAME.sample_rate_hz) == 128
    assert FRAME.period_s == 0.004


def test_window_pair_is_a_hann_window_and_nothing_else():
    product = FRAME.analysis_window[-FRAME.synthesis :] * FRAME.synthesis_window
    np.testing.assert_allclose(product[: FRAME.hop] + product[FRAME.hop :], 1, atol=1e-6)
    np.testing.assert_allclose(product, product[::-1], atol=1e-6)
    assert FRAME.analysis_window.min() > 0


def test_bands_cover_every_bin_once():
    edges = FRAME.band_edges
    assert edges[0] == 0
    assert edges[-1] == FRAME.bins
    assert (np.diff(edges) >= 1).all()
    np.testing.assert_array_equal(np.diff(edges)[: FRAME.fine_bands], 1)
    gains = np.arange(FRAME.bands, dtype=np.float32)
    by_bin = FRAME.bin_gains(gains)
    for b in range(FRAME.bands):
        assert set(by_bin[edges[b] : edges[b + 1]]) == {b}


def test_levels_are_decibels_of_a_full_scale_sine():
    t = np.arange(16000) / 16000
    for level_db in (-20, -40, -60):
        sine = (10 ** (level_db / 20) * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)[None]
        loudest = FRAME.band_levels(FRAME.analyze(sine))[20:-20].max(axis=1)
        # 1 kHz is a bin's centre; the window spreads a sine over bins, its peak holds all but some dB.
        assert np.all(np.abs(loudest * 40 - 50 - level_db) < 1), level_db
    silence = FRAME.band_levels(FRAME.analyze(np.zeros((1, 640), np.float32)))
    np.testing.assert_array_equal(silence, -1)


def test_one_ear_and_two_equal_ears_have_the_same_features():
    signal = noise(1, 6400)
    one = FRAME.frame_features(FRAME.analyze(signal))
    two = FRAME.frame_features(FRAME.analyze(np.repeat(signal, 2, axis=0)))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[:, FRAME.bands :], 0)


def test_spatial_features_say_where_a_sound_is():
    signal = noise(1, 16000)[0]
    louder_left = FRAME.frame_features(FRAME.analyze(np.stack([signal, 0.5 * signal])))[20:]
    n = FRAME.spatial_bands
    level = louder_left[:, FRAME.bands : FRAME.bands + n]
    np.testing.assert_allclose(level.mean(), np.log10(4) / 2, atol=0.01)  # 6 dB of 20
    delayed = FRAME.frame_features(FRAME.analyze(np.stack([signal, np.roll(signal, 4)])))[20:]
    swapped = FRAME.frame_features(FRAME.analyze(np.stack([np.roll(signal, 4), signal])))[20:]
    sine = slice(FRAME.bands + n, FRAME.bands + 2 * n)
    low = delayed[:, sine][:, 1:8].mean()
    assert low > 0.1
    assert low == pytest.approx(-swapped[:, sine][:, 1:8].mean(), abs=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-6, 1e3), st.integers(1, 2))
def test_features_are_bounded_whatever_comes_in(seed, scale, ears):
    features = FRAME.frame_features(FRAME.analyze(noise(ears, 640, seed, scale)))
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 1


def test_shared_gains_keep_interaural_differences():
    left = noise(1, 16000)[0]
    signal = np.stack([left, 0.4 * np.roll(left, 6)])
    gains = np.random.default_rng(3).uniform(0.1, 1, FRAME.bands).astype(np.float32)
    spectra = FRAME.analyze(signal)
    after = spectra * FRAME.bin_gains(gains)
    np.testing.assert_allclose(after[:, 0] / spectra[:, 0], after[:, 1] / spectra[:, 1], rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"window": 500}, "power of two"),
        ({"synthesis": 192}, "twice the hop"),
        ({"window": 64}, "longer"),
        ({"spatial_bands": 7}, "divide"),
        ({"bands": 288}, "fit"),
    ],
)
def test_impossible_geometry_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        FrameSpec(**change)


def test_voice_files_of_older_versions_still_name_their_model():
    assert repr(FrameSpec()) == (
        "FrameSpec(sample_rate_hz=16000, hop=64, window=512, synthesis=128, ears=2, bands=96, fine_bands=40, spatial_bands=32)"
    )
