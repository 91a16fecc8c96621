"""Prescription of a hearing aid's gain: audiograms, the NAL-R rule, and compression per band.

This is arithmetic from the literature, not a fitting: that takes an audiologist who measures in the ear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.table import quote

__all__ = [
    "BANDS_HZ",
    "Audiogram",
    "audiogram_text",
    "compression_ratio",
    "nal_r_db",
    "parse_audiogram",
    "speech_levels_db",
    "take",
]

Array = NDArray[np.float64]

BANDS_HZ = (250, 500, 1000, 1500, 2000, 3000, 4000, 6000)
"""Bands in which gains are prescribed and compressed: audiometric frequencies below 8 kHz."""

_NAL_R_HZ = (250, 500, 750, 1000, 1500, 2000, 3000, 4000, 6000)
_NAL_R_K_DB = (-17, -8, -3, 1, 1, -1, -2, -2, -2)
"""Byrne & Dillon, "The National Acoustic Laboratories' (NAL) new procedure for selecting the gain and frequency response of a
hearing aid", Ear and Hearing 7(4), 1986."""

# Long-term average speech, one-third octaves at 70 dB SPL overall (Byrne et al., JASA 96(4), 1994, table II, combined talkers).
_SPEECH_HZ = (160, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000, 6300, 8000)
_SPEECH_DB = (56.8, 60.2, 60.3, 59.0, 62.1, 62.1, 60.5, 56.8, 53.7, 53.0, 52.0, 48.7, 48.1, 46.8, 45.6, 44.5, 44.3, 43.7)
CONVERSATION_DB_SPL = 65.0

_LOWEST_DB_HL, _HIGHEST_DB_HL = -20.0, 120.0


@dataclass(frozen=True, kw_only=True)
class Audiogram:
    """Hearing thresholds of one ear."""

    thresholds: tuple[tuple[float, float], ...]
    """Frequency in Hz and threshold in dB HL, by rising frequency."""

    def __post_init__(self) -> None:
        if not self.thresholds:
            raise AudioError("the audiogram is empty: give thresholds such as 500:30,1000:40,2000:55,4000:60")
        for hz, db in self.thresholds:
            if not 100 <= hz <= 16000:
                raise AudioError(f"an audiogram has no threshold at {hz:g} Hz: give 100 to 16000 Hz")
            if not _LOWEST_DB_HL <= db <= _HIGHEST_DB_HL:
                raise AudioError(
                    f"a threshold of {db:g} dB HL at {hz:g} Hz cannot be: give {_LOWEST_DB_HL:g} to {_HIGHEST_DB_HL:g} dB HL"
                )
        if list(self.thresholds) != sorted({hz: (hz, db) for hz, db in self.thresholds}.values()):
            raise AudioError("the audiogram names a frequency twice, or out of order: sort it")

    def at(self, frequencies_hz: Sequence[float]) -> Array:
        """Threshold in dB HL at any frequency: straight lines over octaves, level beyond the ends."""
        hz, db = zip(*self.thresholds, strict=True)
        levels: Array = np.interp(np.log2(frequencies_hz), np.log2(hz), db)
        return levels


def parse_audiogram(text: str) -> tuple[Audiogram, Audiogram]:
    """Audiograms of left and right from ``500:30,1000:40,...``, or both from ``LEFT / RIGHT``. ``AudioError`` if it is not one."""
    sides = [part.strip() for part in text.split("/")]
    if len(sides) > 2:
        raise AudioError(f"the audiogram has {len(sides)} sides: give one for both ears, or LEFT / RIGHT")
    ears = []
    for side in sides:
        try:
            points = [tuple(map(float, point.split(":"))) for point in side.split(",")]
            ears.append(Audiogram(thresholds=tuple(sorted((hz, db) for hz, db in points))))
        except ValueError:
            raise AudioError(f"'{side}' is not an audiogram: give for instance 500:30,1000:40,2000:55,4000:60") from None
    return ears[0], ears[-1]


def audiogram_text(left: Audiogram, right: Audiogram) -> str:
    """Inverse of :func:`parse_audiogram`."""
    sides = [",".join(f"{hz:g}:{db:g}" for hz, db in ear.thresholds) for ear in (left, right)]
    return " / ".join(sides if left != right else sides[:1])


def nal_r_db(audiogram: Audiogram, frequencies_hz: Sequence[float] = BANDS_HZ) -> Array:
    """Insertion gain in dB: X + 0.31 H + k, never below 0, with X = 0.05 (H500 + H1000 + H2000).

    Where those three sum to more than 180 dB HL, X rises by 0.116 of the rest: Byrne, Parkinson & Newall, Ear and Hearing 11(1),
    1990. A frequency between those of the rule takes its k from straight lines over octaves.
    """
    three = float(audiogram.at((500, 1000, 2000)).sum())
    x = 0.05 * three if three <= 180 else 9 + 0.116 * (three - 180)
    k = np.interp(np.log2(frequencies_hz), np.log2(_NAL_R_HZ), _NAL_R_K_DB)
    gain: Array = np.maximum(x + 0.31 * audiogram.at(frequencies_hz) + k, 0.0)
    if audiogram.at(BANDS_HZ).max() <= 0:
        gain[:] = 0.0  # nothing to make up for
    return gain


def compression_ratio(audiogram: Audiogram, frequencies_hz: Sequence[float] = BANDS_HZ) -> Array:
    """Input dB per output dB: 1 for a threshold up to 20 dB HL, 2 at 60 and at most 3.

    Ours, not of a published rule: it maps the range above threshold that a loss leaves in the order of what fitting rules do.
    """
    ratio: Array = np.clip(1 + (audiogram.at(frequencies_hz) - 20) / 40, 1, 3)
    return ratio


def speech_levels_db(edges_hz: Sequence[float]) -> Array:
    """Level of conversational speech in the bands between these edges, dB SPL."""
    power = 10 ** (np.array(_SPEECH_DB) / 10)
    bands = np.digitize(_SPEECH_HZ, edges_hz[1:-1])
    sums = np.array([power[bands == band].sum() for band in range(len(edges_hz) - 1)])
    levels: Array = 10 * np.log10(np.maximum(sums, 1e-3)) - 70 + CONVERSATION_DB_SPL
    return levels


def take(table: Mapping[str, object], key: str, where: str, kind: type = float) -> object:
    """A finite number (or a value of ``kind``) out of a TOML table; ``AudioError`` if it is something else."""
    value = table[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
        raise AudioError(f"{where}: {key} = {quote(value)} is not a {'number' if kind is float else kind.__name__}")
    return value
