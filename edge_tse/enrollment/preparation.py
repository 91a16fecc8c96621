"""Preparation of enrollment recordings: removes a constant, the mains, and long stretches in which nobody talks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["HUM_DB", "LEAST_SPEECH_SHARE", "for_enrollment", "hum_db", "loud_share", "remove_rumble"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]

RUMBLE_HZ = 65.0
"""Lower edge of speech: sound below it is removed."""
HUM_DB = -19.0
"""Largest harmless level of a constant or the mains, over everything else: -17 dB leave a voice 0.86 alike, -6 dB 0.67. Good
clips have up to -21."""
LEAST_SPEECH_SHARE = 0.25
"""Share of speech in a clip below which the rest is cut away, lest it is taken for the talker."""

_BLOCK_S = 0.02
_LINE_HZ = 2.0


def hum_db(signal: Float, rate_hz: int) -> float:
    """Energy of a constant and of the mains (50 and 60 Hz), over that of everything else, in ``[samples]``."""
    spectrum = np.abs(np.fft.rfft(signal.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(signal), 1 / rate_hz)
    lines = np.zeros(len(hz), bool)
    for line_hz in (0.0, 50.0, 60.0):
        lines |= np.abs(hz - line_hz) < _LINE_HZ
    return float(10 * np.log10((spectrum[lines].sum() + 1e-14) / (spectrum[~lines].sum() + 1e-14)))


def loud_share(signal: Float, rate_hz: int) -> float:
    """Share of ``[samples]`` in which somebody may be talking: within 30 dB of the loudest hundredth."""
    levels = _levels_dbfs(signal, rate_hz)
    if not len(levels):
        return 0.0
    return float((levels > np.percentile(levels, 99) - 30).mean())


def for_enrollment(signal: Float, rate_hz: int) -> Float:
    """Recording ``[samples]`` without a constant or the mains, if there are, and without long stretches in which nobody talks."""
    if len(signal) < _block(rate_hz):
        return signal
    clean = remove_rumble(signal, rate_hz) if hum_db(signal, rate_hz) > HUM_DB else signal
    if loud_share(clean, rate_hz) >= LEAST_SPEECH_SHARE:
        return clean
    levels = _levels_dbfs(clean, rate_hz)
    loud = levels > np.percentile(levels, 99) - 30
    reach = round(0.3 / _BLOCK_S)  # words begin and end softly
    near = np.convolve(loud, np.ones(2 * reach + 1), mode="same") > 0
    kept: Float = clean[: len(levels) * _block(rate_hz)].reshape(len(levels), -1)[near].reshape(-1)
    return kept


def _block(rate_hz: int) -> int:
    return round(_BLOCK_S * rate_hz)


def _levels_dbfs(signal: Float, rate_hz: int) -> Array:
    blocks = signal[: len(signal) // _block(rate_hz) * _block(rate_hz)].reshape(-1, _block(rate_hz)).astype(np.float64)
    levels: Array = 10 * np.log10((blocks**2).mean(axis=1) + 1e-14)
    return levels


def remove_rumble(signal: Float, rate_hz: int) -> Float:
    """The signal without sound below :data:`RUMBLE_HZ`; nothing moves in time."""
    n = signal.shape[-1]
    spectrum = np.fft.rfft(signal.astype(np.float64), axis=-1)
    hz = np.fft.rfftfreq(n, 1 / rate_hz)
    rise = np.clip((hz - 0.9 * RUMBLE_HZ) / (0.3 * RUMBLE_HZ), 0, 1)
    clean: Float = np.fft.irfft(spectrum * np.sin(np.pi / 2 * rise) ** 2, n, axis=-1).astype(np.float32)
    return clean
