"""A head in a simulated room: image sources of pyroomacoustics, each heard from its direction.

A second opinion on what was learned from rooms that :mod:`quantization.mixture` draws and judged in a measured one; and, around a
rigid sphere instead of somebody's head, the room of the demonstration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyroomacoustics
import scipy.signal
import scipy.special
from numpy.typing import NDArray

__all__ = ["Room", "Sphere", "head_responses"]

Float = NDArray[np.float64]
_SOUND_M_S = 343.0
_LOWEST_HZ = 80.0


@dataclass(frozen=True, kw_only=True)
class Room:
    """A box, and the place in it of a head that looks along its length."""

    size_m: tuple[float, float, float] = (5.8, 4.3, 2.6)
    head_m: tuple[float, float, float] = (2.6, 1.9, 1.2)
    t60_s: float = 0.4
    order: int = 24
    """Number of reflections of the longest path."""


@dataclass(frozen=True, kw_only=True)
class Sphere:
    """A head as a rigid sphere with ears 100 degrees to each side (Duda & Martens, JASA 104(5), 1998, far field)."""

    radius_m: float = 0.0875
    ear_deg: float = 100.0
    taps: int = 128
    before: int = 24
    """Samples before a wave reaches the centre where the sphere would be."""

    def responses(self, azimuths_deg: Sequence[float] | Float, rate_hz: int) -> NDArray[np.float32]:
        """Responses ``[directions, 2, taps]``; positive azimuths are on the left."""
        azimuth = np.radians(np.asarray(azimuths_deg, np.float64))
        ears = np.radians([self.ear_deg, -self.ear_deg])
        cosine = np.cos(azimuth[:, None] - ears)
        hz = np.fft.rfftfreq(self.taps, 1 / rate_hz)
        ka = 2 * np.pi * np.maximum(hz, 1.0) * self.radius_m / _SOUND_M_S
        orders = np.arange(round(1.3 * ka[-1]) + 16)
        # Pressure of a plane wave on the surface: derivatives of the spherical Hankel function of the first kind, by order.
        with np.errstate(over="ignore", invalid="ignore"):
            slope = scipy.special.spherical_jn(orders[:, None], ka, True) + 1j * scipy.special.spherical_yn(
                orders[:, None], ka, True
            )
            part = np.where(np.isfinite(slope), (-1j) ** (orders - 1)[:, None] * (2 * orders + 1)[:, None] / slope, 0)
        legendre = np.stack([scipy.special.eval_legendre(m, cosine) for m in orders], axis=-1)
        pressure = np.conj(legendre @ part / ka**2)  # conj: from e^-iwt to the sign of the FFT
        pressure[..., 0] = 1
        late = np.exp(-2j * np.pi * hz * self.before / rate_hz)
        return np.fft.irfft(pressure * late, self.taps).astype(np.float32)


def head_responses(
    room: Room,
    places: Sequence[tuple[float, float]],
    responses: NDArray[np.float32],
    azimuths_deg: Float,
    rate_hz: int = 16000,
) -> NDArray[np.float32]:
    """Responses ``[places, 2, taps]`` of a head in a room to sources at ``(azimuth in degrees, distance in m)``, at ear height.

    ``responses``: of the head without a room, ``[directions, 2, taps]``; an image is heard from the nearest of them.
    """
    head = np.array(room.head_m)
    absorption, _ = pyroomacoustics.inverse_sabine(room.t60_s, room.size_m)
    length = round(1.2 * room.t60_s * rate_hz)
    out = np.zeros((len(places), 2, length + responses.shape[-1] - 1), np.float64)
    for place, (azimuth_deg, distance_m) in enumerate(places):
        box = pyroomacoustics.ShoeBox(room.size_m, fs=rate_hz, materials=pyroomacoustics.Material(absorption), max_order=room.order)
        towards = np.array([np.cos(np.radians(azimuth_deg)), np.sin(np.radians(azimuth_deg)), 0.0])
        box.add_source(head + distance_m * towards)
        box.add_microphone(head)
        box.image_source_model()
        (source,) = box.sources
        away = source.images.T - head
        far_m = np.linalg.norm(away, axis=1)
        at = far_m / _SOUND_M_S * rate_hz
        heard = at < length - 1
        from_deg = np.degrees(np.arctan2(away[:, 1], away[:, 0]))
        nearest = np.argmin(np.abs((from_deg[:, None] - azimuths_deg + 180) % 360 - 180), axis=1)
        loud = source.damping.mean(axis=0) / far_m
        for direction in np.unique(nearest[heard]):
            chosen = np.flatnonzero(heard & (nearest == direction))
            whole = at[chosen].astype(int)
            between = at[chosen] - whole
            train = np.zeros(length)
            np.add.at(train, whole, loud[chosen] * (1 - between))
            np.add.at(train, whole + 1, loud[chosen] * between)
            for ear in (0, 1):
                out[place, ear] += np.convolve(train, responses[direction, ear])
    # Images are all of one sign: next to 0 Hz they add up to what no room has (Allen & Berkley, JASA 65(4), 1979, do likewise).
    steep = scipy.signal.butter(4, _LOWEST_HZ, "highpass", fs=rate_hz, output="sos")
    return np.asarray(scipy.signal.sosfilt(steep, out, axis=-1), np.float32)
