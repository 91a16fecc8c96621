"""Condition of a recording: bandwidth, level, and whether both ears are there and of the same polarity.

Measured on the sound and not read from the header: a telephone call in a file of 48 kHz is a telephone call. What is found is said;
what to do about a dead ear is decided here, for every verb alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NARROW_HZ", "Condition", "examine", "full_scale_gain", "narrow"]

Float = NDArray[np.float32]

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
    ears = signal[:2].astype(np.float64)
    size = max(64, round(_WINDOW_S * rate_hz))
    frames = ears[:, : ears.shape[1] // size * size].reshape(len(ears), -1, size)
    power = (frames**2).mean(axis=2)  # [ears, frames]
    better = int(np.argmax(power.sum(axis=1))) if power.size else 0
    levels = 10 * np.log10(power[better] + 1e-14) if power.size else np.array([-140.0])
    loud = levels > max(np.percentile(levels, _LOUD_SHARE) - 30, -100.0)
    none = np.zeros((len(ears), 0, size // 2 + 1), complex)
    spectra = np.fft.rfft(frames[:, loud] * np.hanning(size), axis=2) if power.size else none
    ears_db = coherence = None
    if len(ears) == 2 and spectra.shape[1]:
        sums = (np.abs(spectra) ** 2).sum(axis=(1, 2)) + 1e-14
        ears_db = float(10 * np.log10(sums[0] / sums[1]))
        hz = np.fft.rfftfreq(size, 1 / rate_hz)
        low = (hz >= _SAME_PHASE_HZ[0]) & (hz <= _SAME_PHASE_HZ[1])
        cross = (spectra[0][:, low] * spectra[1][:, low].conj()).real.sum()
        both = np.sqrt((np.abs(spectra[:, :, low]) ** 2).sum(axis=(1, 2)).prod())
        coherence = float(cross / both) if both > 0 else 0.0
    return Condition(
        bandwidth_hz=_bandwidth_hz(spectra[better], rate_hz, size) if spectra.shape[1] >= _LEAST_FRAMES else None,
        level_dbfs=float(np.percentile(levels, 90)),
        ears_db=ears_db,
        coherence=coherence,
    )


def _bandwidth_hz(spectra: NDArray[np.complex128], rate_hz: int, size: int) -> float:
    """Highest frequency at which the loudest moments are within :data:`_EDGE_DB` of the loudest band; above it they stay below."""
    reach = np.percentile(np.abs(spectra) ** 2, _LOUD_SHARE, axis=0)
    around = max(1, round(250 * size / rate_hz))  # bands of 250 Hz
    smooth = np.convolve(reach, np.ones(around) / around, mode="same")
    above = np.flatnonzero(smooth > smooth.max() * 10 ** (-_EDGE_DB / 10))
    # Smoothing has carried the edge half its width up.
    return float(max(0, above[-1] - around // 2) * rate_hz / size) if len(above) else 0.0


def full_scale_gain(signal: Float) -> float:
    """Factor that brings a signal within full scale, at most 1: floats above full scale are not clipped."""
    return min(1.0, 1 / max(float(np.abs(signal).max(initial=0.0)), 1e-9))
