"""A corpus made on the spot: talkers are buzzes with their own pitch, formants and rhythm. Enough to train on, not to listen to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000


def utterance(talker: int, number: int, seconds: float = 3.0, rate_hz: int = RATE) -> NDArray[np.float32]:
    """Voiced syllables with moving formants and pauses, different for every number, of one recognisable talker."""
    rng = np.random.default_rng([talker, number])
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = (90 + 23 * talker) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * t + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    # A new vowel every 150 ms, gliding.
    knots = np.arange(0, seconds + 0.3, 0.15)
    first = np.interp(t, knots, rng.uniform(250, 850, len(knots))) * (1 + 0.03 * talker)
    second = np.interp(t, knots, rng.uniform(900, 2500, len(knots))) * (1 + 0.03 * talker)
    x = 0.02 * rng.standard_normal(len(t))
    for k in range(1, int(min(4000, rate_hz / 2) / pitch_hz.max())):
        hz = k * pitch_hz
        strength = 1 / (1 + ((hz - first) / 80) ** 2) + 0.5 / (1 + ((hz - second) / 120) ** 2) + 0.003
        x = x + strength * np.sin(k * phase)
    x = x * np.clip(np.sin(2 * np.pi * (2 + 0.3 * talker) * t + rng.uniform(0, 6)) + 0.5, 0.02, 1)
    return (0.2 * x / np.abs(x).max()).astype(np.float32)


def write_plain(root: Path, talkers: int = 8, utterances: int = 3) -> Path:
    """``speaker/utterance.wav``."""
    for talker in range(talkers):
        folder = root / f"talker{talker}"
        folder.mkdir(parents=True)
        for number in range(utterances):
            soundfile.write(folder / f"u{number}.wav", utterance(talker, number), RATE)
    return root


def write_pack(root: Path) -> Path:
    """Speech in sets, an unlabelled set, noise and one head."""
    write_plain(root / "speech" / "labelled")
    for number in range(3):
        folder = root / "speech" / "orders_unlabelled" / f"pv{number}"
        folder.mkdir(parents=True)
        soundfile.write(folder / "a.wav", utterance(20 + number, 0, 8.0), RATE)
    write_surroundings(root)
    return root


def write_surroundings(root: Path) -> None:
    """Noise of four places, of which one in two clips, and four heads."""
    (root / "noise" / "hum").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("fan_00", "fan_01", "rain_00", "street_00", "kitchen_00"):
        soundfile.write(root / "noise" / "hum" / f"{name}.wav", (0.05 * rng.standard_normal(RATE * 2)).astype(np.float32), RATE)
    (root / "hrir").mkdir()
    azimuth = np.arange(-90, 91, 30).astype(np.float32)
    for head in range(4):
        ir = np.zeros((len(azimuth), 2, 32), np.float32)
        for i, angle in enumerate(azimuth):
            ir[i, 0, 10 - round(angle / 18)] = 1 + angle / 200
            ir[i, 1, 10 + round(angle / 18)] = 1 - angle / 200
        np.savez(root / "hrir" / f"head{head}.npz", ir=ir, azimuth_deg=azimuth, fs=RATE)
