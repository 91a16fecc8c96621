"""Sounds that should reach the wearer though they are not the talker: the wearer's own voice, and alarms.

Two detectors watch the room as it is, about 125 times a second (at every hop, if one is longer), and open its path while they find
something; the sound waits for neither. *Own voice*: the mouth is near and in the median plane, so its sound is loud, low, and
reaches both ears at once and alike. *Alarm*:
a tone that stands alone among its neighbours, stays or sweeps slowly, and is loud. ISO 8201 and NFPA 72 give smoke alarms pulses of
half a second, at 3.1 kHz or 520 Hz; sirens sweep through 0.4 to 2 kHz. A voice has a harmonic beside each harmonic. This is a
research aid: it misses alarms, and docs/live.md says how many.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec

__all__ = ["Alarm", "Openings", "OwnVoice"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

LOOK_S, WINDOW_S = 0.008, 0.032
_OPEN_S, _CLOSE_S = 0.01, 0.1  # time constants of the path


class OwnVoice:
    """Detector of the wearer's own voice: loud, low, and at both ears at once."""

    LEAST_DB_SPL = 68.0
    """Least level in :attr:`BAND_HZ` at the ear. A partner at 1 m reaches it at 60 to 65, one's own voice at 70 to 80."""
    BAND_HZ, HIGH_HZ = (150.0, 1000.0), (1500.0, 5000.0)
    ALIKE = 0.93
    """Least real part of the coherence in that band, halved difference included: 1 in the median plane, 0.7 at 30 degrees."""
    TILT_DB = 3.0
    """Least level of the band over :attr:`HIGH_HZ`."""
    _ONSET_S, _HOLD_S, _AVERAGE_S = 0.04, 0.3, 0.03

    def __init__(self, frequencies_hz: Array, look_s: float) -> None:
        """``frequencies_hz``: those of the spectra ``[bins]`` that it looks at, every ``look_s``."""
        self._low, self._high = (_within(frequencies_hz, band) for band in (self.BAND_HZ, self.HIGH_HZ))
        self._look_s, self._keep = look_s, math.exp(-look_s / self._AVERAGE_S)
        self._sums = np.full(3, 1e-12)  # both ears' power, twice their real cross power, power at high frequencies
        self._found_s, self._held_s = 0.0, 0.0

    def __call__(self, spectra: Complex, power_db_spl: float) -> bool:
        """Look at spectra ``[2, bins]``; ``power_db_spl`` turns their power, both ears summed, into dB SPL."""
        low = spectra[:, self._low]
        power = float((low.real**2 + low.imag**2).sum())
        cross = 2 * float((low[0] * low[1].conj()).real.sum())
        high = spectra[:, self._high]
        now = np.array([power, cross, float((high.real**2 + high.imag**2).sum())])
        self._sums += (1 - self._keep) * (now - self._sums)
        both, shared, above = self._sums
        loud = 10 * math.log10(both + 1e-20) + power_db_spl > self.LEAST_DB_SPL
        found = loud and shared > self.ALIKE * both and both > above * 10 ** (self.TILT_DB / 10)
        self._found_s = self._found_s + self._look_s if found else 0.0
        if self._found_s >= self._ONSET_S:
            self._held_s = self._HOLD_S
        self._held_s -= self._look_s
        return self._held_s > 0


class Alarm:
    """Detector of alarms: evidence for a tone gathers along its way through frequency and fades within a second."""

    RANGE_HZ = (400.0, 4300.0)
    LEAST_DB_SPL = 55.0
    """Least level of the tone. NFPA 72 asks for 75 dBA where people sleep."""
    ABOVE_DB = 12.0
    """Least height of the tone over the mean of its neighbourhood: a voice has another harmonic there."""
    SHARE = 0.2
    """Least share of the tone in all energy above 300 Hz."""
    OPENS_S = 0.24
    """Duration of tone that opens the path, within about :attr:`_FADES_S`."""
    _FADES_S, _HOLD_S = 0.8, 2.5
    _NEAR, _FAR = 4, 13  # bins of the neighbourhood: 125 to 400 Hz on either side

    def __init__(self, frequencies_hz: Array, look_s: float) -> None:
        """As of :class:`OwnVoice`."""
        bins = np.flatnonzero(_within(frequencies_hz[:-1], self.RANGE_HZ))  # each has a neighbour on either side
        self._bins = slice(int(bins[0]), int(bins[-1]) + 1)
        self._above = int(np.searchsorted(frequencies_hz, 300.0))
        self._evidence = np.zeros(len(bins))
        self._look_s, self._fades = look_s, math.exp(-look_s / self._FADES_S)
        self._held_s = 0.0

    def __call__(self, spectra: Complex, power_db_spl: float) -> bool:
        """Look at spectra ``[ears, bins]``; ``power_db_spl`` turns their power, both ears summed, into dB SPL."""
        power = (spectra.real**2 + spectra.imag**2).sum(axis=0)
        sums = np.concatenate([np.zeros(1), np.cumsum(power)])
        first, last = self._bins.start, self._bins.stop
        at = np.arange(first, last)

        def between(low: int, high: int) -> Array:
            """Sum of the bins from ``low`` to before ``high``, relative to each of the range."""
            total: Array = sums[np.clip(at + high, 0, len(power))] - sums[np.clip(at + low, 0, len(power))]
            return total

        tone = between(-2, 3)
        around = between(-self._FAR, -self._NEAR + 1) + between(self._NEAR, self._FAR + 1)
        mean = around / (2 * (self._FAR - self._NEAR + 1)) * 5
        here = power[self._bins]
        peak = (here >= power[first - 1 : last - 1]) & (here > power[first + 1 : last + 1])
        loud = tone > 10 ** ((self.LEAST_DB_SPL - power_db_spl) / 10)
        alone = (tone > mean * 10 ** (self.ABOVE_DB / 10)) & (tone > self.SHARE * power[self._above :].sum())
        before = np.pad(self._evidence, 1)
        reached = np.maximum(np.maximum(before[:-2], before[2:]), before[1:-1])
        tonal = peak & loud & alone
        self._evidence = np.where(tonal, reached + self._look_s, self._evidence) * self._fades
        if tonal.any() and float(self._evidence[tonal].max()) >= self.OPENS_S:
            self._held_s = self._HOLD_S
        self._held_s -= self._look_s
        return self._held_s > 0


class Openings:
    """Gain of the room's path: ``openings(room)`` takes each hop ``[ears, hop]`` and gives its gain ``[hop]``."""

    def __init__(
        self,
        frame: FrameSpec,
        ears: int,
        microphones_db_spl: Array,
        own_voice_db: float | None = None,
        alarm_db: float | None = None,
    ) -> None:
        """Each detector that is wanted gets a level in dB. ``AudioError`` for one's own voice with one ear."""
        if own_voice_db is not None and ears < 2:
            raise AudioError(f"{ears} microphone: one's own voice is told by both ears; use two, or leave own_voice_db out")
        rate, n = frame.sample_rate_hz, round(WINDOW_S * frame.sample_rate_hz)
        frequencies_hz = np.fft.rfftfreq(n, 1 / rate)
        self._every, self._hops = max(1, round(LOOK_S / frame.period_s)), 0
        self._watching: list[tuple[OwnVoice | Alarm, float]] = []
        for detector, db in ((OwnVoice, own_voice_db), (Alarm, alarm_db)):
            if db is not None:
                self._watching.append((detector(frequencies_hz, self._every * frame.period_s), 10 ** (db / 20)))
        self._heard = np.zeros((ears, n), np.float32)
        self._window = np.hanning(n + 1)[:-1]
        # The power of a sine of RMS 1 at every ear, summed over ears and bins, is 0 dB.
        self._unit_db = float(10 * np.log10(2 / (np.sum(self._window**2) * n) / ears) + np.mean(microphones_db_spl[:ears]))
        self._wanted = self._gain = 0.0
        self._opens, self._closes = (1 - math.exp(-frame.period_s / tau) for tau in (_OPEN_S, _CLOSE_S))
        self._ramp = (np.arange(frame.hop, dtype=np.float32) + 1) / np.float32(frame.hop)
        self.found: tuple[bool, ...] = (False,) * len(self._watching)
        """What was found at the last look: own voice, alarm, as far as they are wanted."""

    def __call__(self, room: Float) -> Float:
        n = room.shape[1]
        self._heard = np.concatenate([self._heard, room], axis=1)[:, n:]
        self._hops += 1
        if self._hops % self._every == 0:
            spectra = np.fft.rfft(self._heard * self._window, axis=1)
            self.found = tuple(detector(spectra, self._unit_db) for detector, _ in self._watching)
            self._wanted = max((level * found for (_, level), found in zip(self._watching, self.found, strict=True)), default=0.0)
        before = self._gain
        self._gain += (self._opens if self._wanted > before else self._closes) * (self._wanted - before)
        if self._gain < 1e-4 and not self._wanted:
            self._gain = 0.0
        gains: Float = np.float32(before) + np.float32(self._gain - before) * self._ramp
        return gains


def _within(frequencies_hz: Array, band_hz: tuple[float, float]) -> NDArray[np.bool_]:
    return (frequencies_hz >= band_hz[0]) & (frequencies_hz < band_hz[1])
