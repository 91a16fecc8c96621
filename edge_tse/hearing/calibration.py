"""Calibration: sound pressure at digital full scale, for each microphone and each receiver."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.audio import clipped_samples
from edge_tse.errors import AudioError
from edge_tse.files import write_bytes
from edge_tse.table import load_table, quote

__all__ = ["UNCALIBRATED", "Calibration", "load_calibration", "measure_microphones", "save_calibration", "tone"]

Float = NDArray[np.float32]

TONE_HZ, TONE_DBFS = 1000.0, -20.0
"""Tone that is played to measure a receiver; dBFS is of the RMS, 0 for a full-scale square wave."""
_STEADY_DB, _QUIET_DBFS = 1.0, -80.0
_LEAST_DB_SPL, _MOST_DB_SPL = 40, 180  # of full scale


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Sound pressure in dB SPL of a signal whose RMS is full scale, left and right."""

    microphones_db_spl: tuple[float, float]
    receivers_db_spl: tuple[float, float]
    source: str
    """Origin of the figures, for people."""

    def ceiling(self, max_db_spl: float) -> float:
        """Largest sample with which no signal can exceed ``max_db_spl``: an RMS is at most the peak."""
        return float(min(1.0, *(10 ** ((max_db_spl - full) / 20) for full in self.receivers_db_spl)))

    def with_microphones(self, heard: Float, rate_hz: int, db_spl: float, name: str) -> Calibration:
        """The calibration with microphones called ``name``, measured by :func:`measure_microphones`.

        ``AudioError`` for a level that no full scale follows from.
        """
        found = measure_microphones(heard, rate_hz, db_spl)
        _check_full_scale("microphones", (found[0], found[-1]), "state the level at them again")
        source = self._sources("microphones", f"microphones of {name} at {db_spl:g} dB SPL")
        return replace(self, microphones_db_spl=(found[0], found[-1]), source=source)

    def with_receivers(self, left_db_spl: float, right_db_spl: float, said: str) -> Calibration:
        """The calibration with receivers as a meter read :func:`tone` at each; ``said`` is what was typed, for people.

        ``AudioError`` for readings that no full scale follows from.
        """
        full = (left_db_spl - TONE_DBFS, right_db_spl - TONE_DBFS)
        _check_full_scale("receivers", full, "read the meter again")
        return replace(self, receivers_db_spl=full, source=self._sources("receivers", f"receivers by a meter at {said} dB SPL"))

    def _sources(self, kind: str, new: str) -> str:
        """Origins of both halves: the new one, and the old text's part about the other half."""
        kept = [part for part in self.source.split("; ") if not part.startswith(kind)]
        return "; ".join([*kept, new])


UNCALIBRATED = Calibration(
    microphones_db_spl=(110.0, 110.0), receivers_db_spl=(110.0, 110.0), source="assumed: full scale is 110 dB SPL"
)
"""Calibration until somebody measures. Levels that depend on it are guesses, and are announced as such."""


def measure_microphones(signal: Float, rate_hz: int, db_spl: float) -> tuple[float, ...]:
    """Measure full scale in dB SPL of each channel of ``[channels, n]``, recorded while a calibrator or meter stands at ``db_spl``.

    ``AudioError`` if it is clipped, too quiet, or not steady within :data:`_STEADY_DB`.
    """
    found = []
    for number, channel in enumerate(signal, 1):
        parts = np.array_split(channel.astype(np.float64), max(1, round(len(channel) / rate_hz / 0.5)))
        levels = [10 * np.log10(np.mean(part**2) + 1e-20) for part in parts]
        level = 10 * np.log10(np.mean(channel.astype(np.float64) ** 2) + 1e-20)
        if clipped_samples(channel[None]):
            raise AudioError(f"microphone {number} is clipped at {db_spl:g} dB SPL: turn its gain down and calibrate again")
        if level < _QUIET_DBFS:
            raise AudioError(
                f"microphone {number} gives {level:.0f} dBFS, at least {_QUIET_DBFS:g} are needed: is it the right one?"
            )
        varies = max(levels) - min(levels)
        if varies > _STEADY_DB:
            raise AudioError(
                f"microphone {number} varies by {varies:.1f} dB, at most {_STEADY_DB:g} is steady: use a tone or steady noise"
            )
        found.append(db_spl - level)
    return tuple(found)


def _check_full_scale(kind: str, full: tuple[float, float], remedy: str) -> None:
    """``AudioError`` for what :func:`load_calibration` would refuse: it is not to be written."""
    if not all(_LEAST_DB_SPL <= db <= _MOST_DB_SPL for db in full):
        raise AudioError(
            f"full scale of the {kind} would be {full[0]:.1f} and {full[1]:.1f} dB SPL, {_LEAST_DB_SPL} to {_MOST_DB_SPL} can be: "
            f"{remedy}"
        )


def tone(seconds: float, rate_hz: int) -> Float:
    """Tone ``[n]``: :data:`TONE_HZ` at :data:`TONE_DBFS`, faded in and out over 50 ms."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    fade = np.minimum(1, np.minimum(t, seconds - t) / 0.05)
    out: Float = (np.sqrt(2) * 10 ** (TONE_DBFS / 20) * np.sin(2 * np.pi * TONE_HZ * t) * fade).astype(np.float32)
    return out


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as TOML, whole or not at all."""
    lines = ["# dB SPL of a signal whose RMS is digital full scale: left, right\n"]
    for name, value in asdict(calibration).items():
        # A string of JSON is one of TOML: the name of a device may hold quotes.
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"[{', '.join(f'{db:.2f}' for db in value)}]"
        lines.append(f"{name} = {text}\n")
    write_bytes(path, "".join(lines).encode(), AudioError)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration. ``AudioError`` if the file is none, or states impossible values."""
    table = load_table(path, AudioError)
    wanted = {"microphones_db_spl", "receivers_db_spl", "source"}
    if set(table) != wanted:
        raise AudioError(
            f"{path} states {', '.join(sorted(table)) or 'nothing'}, a calibration states {', '.join(sorted(wanted))}: "
            "calibrate again"
        )
    if not isinstance(table["source"], str):
        raise AudioError(f"{path}: source = {quote(table['source'])} is not a text: calibrate again")
    pairs = []
    for name in ("microphones_db_spl", "receivers_db_spl"):
        pair = table[name]
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(
                isinstance(db, int | float) and not isinstance(db, bool) and _LEAST_DB_SPL <= db <= _MOST_DB_SPL for db in pair
            )
        ):
            raise AudioError(
                f"{path}: {name} = {quote(pair)} is not two levels from {_LEAST_DB_SPL} to {_MOST_DB_SPL} dB SPL: calibrate again"
            )
        pairs.append((float(pair[0]), float(pair[1])))
    return Calibration(microphones_db_spl=pairs[0], receivers_db_spl=pairs[1], source=table["source"])
