"""Condition of a recording: bandwidth, level, and whether both ears are there and of the same polarity.

Measured on the sound and not read from the header: a telephone call in a file of 48 kHz is a telephone call. What is found is said;
what to do about a dead ear is decided here, for every verb alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.audio import Sound, blocks_of
from edge_tse.sound_check import SILENT_PEAK, Check, ClipCount

__all__ = ["NARROW_HZ", "Condition", "Survey", "examine", "narrow", "survey"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]

NARROW_HZ = 6500.0
"""Sound that ends below it is narrow-band: the models listen up to 8 kHz. Telephones end at 3.4, speech reaches 7 and more."""
QUIET_DBFS = -34.0
"""Lowest harmless level of louder parts: models that are not level-invariant lose 1.5 of 3.2 dB 20 dB below a usual recording."""
FAINT_DBFS = -70.0
"""Lowest harmless level of the louder parts for level-invariant models."""
DEAD_DB = 18.0
"""Ears this far apart are no pair: a head makes up to 12 dB of a whole voice."""
_WINDOW_S = 0.064
_EDGE_DB = 50.0  # below the loudest band, of what the loudest moments reach
_LOUD_SHARE = 95
_SAME_PHASE_HZ = (80.0, 350.0)  # wavelengths of a metre and more: a head cannot turn them round
_INVERTED = -0.3
_LEAST_FRAMES = 10
_KEPT = 1024  # loud moments of which spectra are kept, at most: a minute of them, or evenly over all of a longer recording
_NAMES = ("left", "right")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Measurements of ``[channels, samples]``."""

    bandwidth_hz: float | None
    """Highest frequency that the louder moments reach; None where there is too little sound to tell."""
    level_dbfs: float
    """Level of the louder parts, at the louder ear."""
    ears_db: float | None
    """Level of the left ear over the right one; None for one channel."""
    coherence: float | None
    """Coherence of both ears at long wavelengths, -1 to 1; negative where one of them is inverted. None for one channel."""

    @property
    def dead_ear(self) -> int | None:
        """The channel so far below the other that the two are no pair: only mono is left. None if both hear."""
        if self.ears_db is None or abs(self.ears_db) < DEAD_DB:
            return None
        return 1 if self.ears_db > 0 else 0

    @property
    def inverted(self) -> bool:
        """Whether one ear is the wrong way round."""
        return self.dead_ear is None and self.coherence is not None and self.coherence < _INVERTED

    def remarks(self, level_invariant: bool = False) -> tuple[str, ...]:
        """One line for each thing that is wrong, with its numbers and what to do."""
        return tuple(self.remarks_by_kind(level_invariant).values())

    def remarks_by_kind(self, level_invariant: bool = False) -> dict[str, str]:
        """:meth:`remarks` by what is wrong, which stays the same while its numbers change."""
        out = {}
        if self.bandwidth_hz is not None and self.bandwidth_hz < NARROW_HZ:
            out["narrow"] = narrow(self.bandwidth_hz)
        least = FAINT_DBFS if level_invariant else QUIET_DBFS
        if self.level_dbfs < least:
            out["quiet"] = (
                f"the sound is quiet: louder parts at {self.level_dbfs:.0f} dBFS, at least {least:.0f} is needed: turn it up"
            )
        if self.dead_ear is not None and self.ears_db is not None:
            out[f"{_NAMES[self.dead_ear]} dead"] = (
                f"the {_NAMES[self.dead_ear]} ear is {abs(self.ears_db):.0f} dB below the other, a pair differs by less than "
                f"{DEAD_DB:.0f} dB: the ear is dead or far too quiet, look at its microphone"
            )
        if self.inverted:
            out["inverted"] = (
                f"one ear is inverted: coherence at long wavelengths is {self.coherence:.2f}, a pair has more than 0: "
                "swap the wires of one, or use `sox IN OUT remix 1 2i`"
            )
        return out


def narrow(bandwidth_hz: float) -> str:
    """Remark on narrow-band sound."""
    return (
        f"the sound ends at {bandwidth_hz / 1e3:.1f} kHz, at least {NARROW_HZ / 1e3:.1f} kHz is expected: a telephone or a "
        "narrow-band codec was on the way; record at 16 kHz or more if you can"
    )


def examine(signal: Float, rate_hz: int) -> Condition:
    """Measure ``[channels, samples]`` at any rate; of more than two channels, the first two are ears."""
    levels = _Levels(signal.shape[0], rate_hz)
    for block in blocks_of(signal):
        levels.push(block)
    spectra = _Spectra(levels)
    for block in blocks_of(signal):
        spectra.push(block)
    return spectra.condition()


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A whole recording, before anything is done with it."""

    samples: int
    """Samples of a channel."""
    peak: float
    """Largest magnitude; full scale is 1."""
    clipped_samples: int
    """Samples in runs at full scale: sound that is lost."""
    condition: Condition

    @property
    def silent(self) -> bool:
        """Whether it is a muted microphone, and not a quiet talker."""
        return self.peak < SILENT_PEAK

    @property
    def gain(self) -> float:
        """Factor that brings it within full scale, at most 1: floats above full scale are not clipped."""
        return min(1.0, 1 / max(self.peak, 1e-9))


def survey(sound: Sound) -> Survey:
    """Read a recording twice, in blocks, and measure it. ``AudioError`` if it cannot be used, as :class:`.sound_check.Check`."""
    check, levels = Check(sound.rate_hz, sound.name), _Levels(sound.channels, sound.rate_hz)
    for block in sound.blocks():
        check.push(block)
        levels.push(block)
    check.done()
    clips, spectra = ClipCount(sound.channels, check.peak), _Spectra(levels)
    for block in sound.blocks():
        clips.push(block)
        spectra.push(block)
    return Survey(samples=check.samples, peak=check.peak, clipped_samples=clips.total, condition=spectra.condition())


class _Moments:
    """Cuts the ears of a recording into moments of a window."""

    def __init__(self, channels: int, rate_hz: int) -> None:
        self.rate_hz, self.size = rate_hz, max(64, round(_WINDOW_S * rate_hz))
        self.ears = min(channels, 2)
        self._rest = np.zeros((self.ears, 0))

    def push(self, block: Float) -> Array:
        """Moments ``[ears, any, size]`` that ``[channels, any]`` completes."""
        data = np.concatenate([self._rest, block[:2].astype(np.float64)], axis=1)
        whole = data.shape[1] // self.size * self.size
        self._rest = data[:, whole:].copy()
        moments: Array = data[:, :whole].reshape(self.ears, -1, self.size)
        return moments


class _Levels:
    """First look: the level of every moment, of which those that are loud will count."""

    def __init__(self, channels: int, rate_hz: int) -> None:
        self.channels, self.rate_hz = channels, rate_hz
        self._moments = _Moments(channels, rate_hz)
        self._powers: list[Array] = [np.zeros((self._moments.ears, 0))]

    def push(self, block: Float) -> None:
        self._powers.append((self._moments.push(block) ** 2).mean(axis=2))

    def found(self) -> tuple[int, Array]:
        """The ear with more energy, and the level of each of its moments in dBFS."""
        power = np.concatenate(self._powers, axis=1)
        better = int(np.argmax(power.sum(axis=1))) if power.size else 0
        levels: Array = 10 * np.log10(power[better] + 1e-14)
        return better, levels


class _Spectra:
    """Second look: spectra of the loud moments."""

    def __init__(self, levels: _Levels) -> None:
        self._better, self._levels = levels.found()
        self._loud = np.zeros(0, bool)
        if len(self._levels):
            self._loud = self._levels > max(float(np.percentile(self._levels, _LOUD_SHARE)) - 30, -100.0)
        self._moments = _Moments(levels.channels, levels.rate_hz)
        self._at = self._seen = 0
        self._every = 1
        self._kept: list[NDArray[np.float32]] = []
        hz = np.fft.rfftfreq(self._moments.size, 1 / levels.rate_hz)
        self._low = (hz >= _SAME_PHASE_HZ[0]) & (hz <= _SAME_PHASE_HZ[1])
        self._sums, self._sums_low = np.zeros((2, self._moments.ears))
        self._cross = 0.0

    def push(self, block: Float) -> None:
        moments = self._moments.push(block)
        loud = self._loud[self._at : self._at + moments.shape[1]]
        self._at += moments.shape[1]
        if not loud.any():
            return
        spectra = np.fft.rfft(moments[:, loud] * np.hanning(self._moments.size), axis=2)
        power = np.abs(spectra) ** 2
        self._sums += power.sum(axis=(1, 2))
        self._sums_low += power[:, :, self._low].sum(axis=(1, 2))
        if len(spectra) == 2:
            self._cross += float((spectra[0][:, self._low] * spectra[1][:, self._low].conj()).real.sum())
        for moment in power[self._better]:
            if self._seen % self._every == 0:
                self._kept.append(moment.astype(np.float32))
            self._seen += 1
            if len(self._kept) > _KEPT:
                self._kept, self._every = self._kept[::2], 2 * self._every

    def condition(self) -> Condition:
        """What was found, when all has been pushed."""
        ears_db = coherence = bandwidth_hz = None
        if len(self._sums) == 2 and self._seen:
            left, right = self._sums + 1e-14
            ears_db = float(10 * np.log10(left / right))
            both = float(np.sqrt(self._sums_low.prod()))
            coherence = self._cross / both if both > 0 else 0.0
        if self._seen >= _LEAST_FRAMES:
            bandwidth_hz = _bandwidth_hz(np.stack(self._kept), self._moments.rate_hz, self._moments.size)
        level_dbfs = float(np.percentile(self._levels, 90)) if len(self._levels) else -140.0
        return Condition(bandwidth_hz=bandwidth_hz, level_dbfs=level_dbfs, ears_db=ears_db, coherence=coherence)


def _bandwidth_hz(powers: Float, rate_hz: int, size: int) -> float:
    """Highest frequency at which the loudest of spectra ``[moments, bins]`` are within :data:`_EDGE_DB` of the loudest band.

    Above it they stay below.
    """
    reach = np.percentile(powers, _LOUD_SHARE, axis=0)
    around = max(1, round(250 * size / rate_hz))  # bands of 250 Hz
    smooth = np.convolve(reach, np.ones(around) / around, mode="same")
    above = np.flatnonzero(smooth > smooth.max() * 10 ** (-_EDGE_DB / 10))
    # Smoothing has carried the edge half its width up.
    return float(max(0, above[-1] - around // 2) * rate_hz / size) if len(above) else 0.0
