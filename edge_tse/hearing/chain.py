"""The hearing-aid chain after extraction: the room's share, the wearer's prescription, and the limit of loudness.

The chain works hop by hop on the samples at hand and adds no delay: levels are measured beside the signal, and the gains become a
minimum-phase filter, which is causal without waiting (side-branch compression: Kates, "Principles of digital dynamic-range
compression", Trends in Amplification 9(2), 2005). Each stage can be left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.hearing.calibration import UNCALIBRATED, Calibration
from edge_tse.hearing.limiter import Limiter, scrub
from edge_tse.hearing.openings import Openings
from edge_tse.hearing.prescription import BANDS_HZ, Audiogram, compression_ratio, nal_r_db, speech_levels_db, take
from edge_tse.table import load_table

__all__ = ["LEVELS_DB", "Chain", "Hearing", "load_hearing"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]

_EDGES_HZ = (100.0, *(math.sqrt(a * b) for a, b in pairwise(BANDS_HZ)), 8000.0)
_LOOK = 128  # samples a level is measured over: 8 ms
_TAPS = 128
_STILL_DB = 0.05  # a filter is made anew when a gain moves by more
_ATTACK_S, _RELEASE_S = 0.005, 0.06
_LOUDNESS_S = 2.0  # over which talker and room are compared for a bypass

LEVELS_DB = {"talker_db": (-60.0, 20.0), "ambient_db": (-60.0, 20.0)}
"""Levels that the mix can be given; a room may also be left out."""


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """Wishes and needs of the wearer."""

    talker_db: float = 0.0
    """Level of the extracted talker."""
    ambient_db: float = -math.inf
    """Level at which the room as it is stays in; minus infinity leaves it out."""
    own_voice_db: float | None = None
    """Level at which the room passes while the wearer talks; None does not watch for it."""
    alarm_db: float | None = None
    """Level at which the room passes while an alarm sounds; None does not watch for one."""
    left: Audiogram | None = None
    right: Audiogram | None = None
    """Without audiograms there is no prescription and no compression."""
    compression: bool = True
    """Soft sounds get more than NAL-R and loud ones less; conversation gets NAL-R either way."""
    knee_below_speech_db: float = 20.0
    """Compression knee: bands that are this much softer than conversation get no further gain."""
    max_gain_db: float = 30.0
    """Largest gain in any band: an open ear feeds back at some gain."""
    max_output_db_spl: float = 100.0
    """Loudest output, which nothing exceeds."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("talker_db", *LEVELS_DB["talker_db"]),
            ("max_gain_db", 0, 60),
            ("max_output_db_spl", 50, 130),
            ("knee_below_speech_db", 0, 60),
        ):
            if not low <= getattr(self, name) <= high:
                raise AudioError(f"{name} = {getattr(self, name):g} is not within {low} to {high}")
        if not self.ambient_db <= 20:
            raise AudioError(f"ambient_db = {self.ambient_db:g} is more than 20: give 20 or less")
        for name in ("own_voice_db", "alarm_db"):
            if (level := getattr(self, name)) is not None and not -60 <= level <= 20:
                raise AudioError(f"{name} = {level:g} is not within -60 to 20")
        if (self.left is None) != (self.right is None):
            raise AudioError("one ear has an audiogram and the other none: give both, a flat 0 dB HL if it hears well")


class Chain:
    """:class:`Hearing` at work: ``chain(talker, ambient)`` with ``[ears, hop]`` each gives the hop that is played."""

    def __init__(self, hearing: Hearing, frame: FrameSpec, ears: int, calibration: Calibration = UNCALIBRATED) -> None:
        self.hearing, self.calibration = hearing, calibration
        self._mix = _Mix(frame, hearing.talker_db, hearing.ambient_db)
        self.limiter = Limiter(calibration.ceiling(hearing.max_output_db_spl), frame.hop, frame.sample_rate_hz)
        microphones, receivers = (np.array(pair[:ears]) for pair in (calibration.microphones_db_spl, calibration.receivers_db_spl))
        self._microphones, self._transducers_db = microphones, microphones - receivers
        self._frame = frame
        self.openings: Openings | None = None
        if hearing.own_voice_db is not None or hearing.alarm_db is not None:
            self.openings = Openings(frame, ears, microphones, hearing.own_voice_db, hearing.alarm_db)
        self._shaper: _Shaper | None = None
        if hearing.left is not None and hearing.right is not None:
            self._shaper = self._shaper_for((hearing.left, hearing.right))
        self._coming: _Shaper | None = None
        self._wait = 0
        """Hops until the shaper that is coming is heard; 0 if none is."""
        self._ramp = (np.arange(frame.hop, dtype=np.float32) + 1) / np.float32(frame.hop)
        self._level = (10 ** (self._transducers_db / 20)).astype(np.float32)[:, None]

    @property
    def gain_db(self) -> Array:
        """Insertion gain of the last hop, ``[ears, bands]`` at :data:`.prescription.BANDS_HZ`; zeros without audiograms."""
        return np.zeros((len(self._level), len(BANDS_HZ))) if self._shaper is None else self._shaper.gain_db

    def steer(self, *, talker_db: float, ambient_db: float, bypass: bool = False, mute: bool = False) -> None:
        """Mix otherwise, from the next hop on and gradually over it. ``bypass`` plays the room as loud as the mix was."""
        self._mix.steer(talker_db, ambient_db, bypass=bypass, mute=mute)

    def prescribe(self, audiograms: tuple[Audiogram, Audiogram] | None) -> None:
        """Make up for the losses of these ears, left and right, or for none: two hops later, and gradually over the third.

        Until then the filters that come hear the sound and are not heard, so that their past is whole.
        """
        self._coming = None if audiograms is None else self._shaper_for(audiograms)
        if self._coming is not None and self._shaper is not None:
            self._coming.follow(self._shaper)
        self._wait = 1 + -(-(_TAPS - 1) // self._frame.hop)

    def _shaper_for(self, audiograms: tuple[Audiogram, Audiogram]) -> _Shaper:
        ears = len(self._microphones)
        return _Shaper(self.hearing, audiograms[:ears], self._frame, self._microphones, self._transducers_db)

    def __call__(self, talker: Float, ambient: Float) -> Float:
        talker, room = scrub(talker), scrub(ambient)
        mixed = self._mix(talker, room, None if self.openings is None else self.openings(room))
        shaped = self._through(self._shaper, mixed)
        if self._wait:
            coming = self._through(self._coming, mixed)
            self._wait -= 1
            if not self._wait:
                self._shaper, shaped = self._coming, shaped + (coming - shaped) * self._ramp
        return self.limiter(shaped)

    def _through(self, shaper: _Shaper | None, mixed: Float) -> Float:
        return mixed * self._level if shaper is None else shaper(mixed)


class _Mix:
    """Talker and room, each at its level, and how these change."""

    def __init__(self, frame: FrameSpec, talker_db: float, ambient_db: float) -> None:
        self._levels = _levels(talker_db, ambient_db)
        self._next: _Levels | None = None
        self._compared = True
        self._ramp = (np.arange(frame.hop, dtype=np.float32) + 1) / np.float32(frame.hop)
        self._keep = math.exp(-frame.period_s / _LOUDNESS_S)
        self._loudness = np.zeros(2)
        """Mean squares of mix and room while the mix was heard."""

    def steer(self, talker_db: float, ambient_db: float, *, bypass: bool, mute: bool) -> None:
        """Go to other levels over the next hop."""
        self._compared = not (bypass or mute)
        mix, room = self._loudness
        nothing, whole = np.float32(0), np.float32(1)
        if mute:
            self._next = _Levels(nothing, nothing, nothing)
        elif bypass:
            self._next = _Levels(nothing, np.float32(math.sqrt(mix / room)) if mix and room else whole, whole)
        else:
            self._next = _levels(talker_db, ambient_db)

    def __call__(self, talker: Float, room: Float, opened: Float | None) -> Float:
        """Mix a hop, ``[ears, hop]`` each. ``opened [hop]`` is the least gain of the room, for sounds that should pass."""
        to_talker, to_room, to_opened = self._gains()
        if opened is not None:
            passed = np.maximum(opened * to_opened, to_room)
            # The talker is in the room, too, at the same moment: what passes there need not be added.
            mixed: Float = talker * np.maximum(to_talker - (passed - to_room), 0) + room * passed
        else:
            mixed = talker * to_talker
            if np.any(to_room):
                mixed = mixed + room * to_room
        if self._compared:
            now = np.array([np.square(x, dtype=np.float64).sum() for x in (mixed, room)])
            self._loudness = self._keep * self._loudness + (1 - self._keep) * now
        return mixed

    def _gains(self) -> _Levels | tuple[Float, ...]:
        """Gains of a hop: numbers while they stay, ``[hop]`` where they change."""
        if self._next is None:
            return self._levels
        before, self._levels, self._next = self._levels, self._next, None
        return tuple(old + (new - old) * self._ramp for old, new in zip(before, self._levels, strict=True))


class _Levels(NamedTuple):
    """Amplitudes of talker, room, and of what opens the room's path."""

    talker: np.float32
    room: np.float32
    opened: np.float32


def _levels(talker_db: float, ambient_db: float) -> _Levels:
    return _Levels(np.float32(10 ** (talker_db / 20)), np.float32(10 ** (ambient_db / 20)), np.float32(1))


class _Shaper:
    """Gains per band and ear from one level that both ears share, so that a sound louder on one side stays so."""

    def __init__(
        self, hearing: Hearing, audiograms: tuple[Audiogram, ...], frame: FrameSpec, microphones: Array, transducers_db: Array
    ) -> None:
        ears, rate = len(audiograms), frame.sample_rate_hz
        self._prescribed = np.stack([nal_r_db(audiogram) for audiogram in audiograms])
        self._ratio = np.stack([compression_ratio(audiogram) for audiogram in audiograms])
        self._speech = speech_levels_db(_EDGES_HZ)
        self._knee = self._speech - hearing.knee_below_speech_db
        self._compression, self._most = hearing.compression, hearing.max_gain_db
        self._transducers = transducers_db[:, None]
        self._microphones = microphones[:, None]
        self._heard = np.zeros((ears, _LOOK), np.float32)
        self._window = np.hanning(_LOOK + 1)[:-1].astype(np.float32)
        bins = np.fft.rfftfreq(_LOOK, 1 / rate)
        self._band_of_bin = np.array([(low <= bins) & (bins < high) for low, high in pairwise(_EDGES_HZ)], np.float64).T
        # A sine of RMS 1 becomes 0 dB.
        self._unit = 2 / (float((self._window**2).sum()) * _LOOK)
        period = frame.period_s
        self._attack, self._release = (math.exp(-period / tau) for tau in (_ATTACK_S, _RELEASE_S))
        self._smooth = self._speech.copy()
        self._filter = _Filter(ears, frame.hop, rate)
        self.gain_db = self._gains(self._speech)

    def __call__(self, hop: Float) -> Float:
        if self._compression:
            n = hop.shape[1]
            self._heard = np.concatenate([self._heard, hop], axis=1)[:, -_LOOK:] if n < _LOOK else hop[:, -_LOOK:]
            self.gain_db = self._gains(self._levels_db())
        return self._filter(hop, self.gain_db + self._transducers)

    def follow(self, other: _Shaper) -> None:
        """Begin at the levels that another has measured."""
        self._smooth, self._heard = other._smooth.copy(), other._heard.copy()

    def _levels_db(self) -> Array:
        """Band levels in dB SPL at the louder ear, rising and falling with the time constants of a compressor."""
        spectrum = np.fft.rfft(self._heard * self._window, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2) @ self._band_of_bin * self._unit
        now = (10 * np.log10(power + 1e-12) + self._microphones).max(axis=0)
        keep = np.where(now > self._smooth, self._attack, self._release)
        self._smooth = keep * self._smooth + (1 - keep) * now
        return self._smooth

    def _gains(self, level_db: Array) -> Array:
        """Insertion gain ``[ears, bands]``: NAL-R for the level of conversation, a line of slope 1/ratio - 1 through it."""
        moved = np.maximum(level_db, self._knee) - self._speech
        gains: Array = np.clip(self._prescribed + (1 / self._ratio - 1) * moved * self._compression, -self._most, self._most)
        return gains


class _Filter:
    """A filter per ear that follows its gains, changed over one hop; minimum-phase, so it delays as little as its gains allow."""

    def __init__(self, ears: int, hop: int, sample_rate_hz: int) -> None:
        self._length = 1 << (hop + _TAPS - 2).bit_length()
        self._past = np.zeros((ears, _TAPS - 1), np.float32)
        self._ramp = (np.arange(hop, dtype=np.float32) + 1) / np.float32(hop)
        self._size = 4 * _TAPS
        bins = np.fft.rfftfreq(self._size, 1 / sample_rate_hz)
        at, bands = np.log2(np.maximum(bins, 1.0)), np.log2(BANDS_HZ)
        self._spread = np.stack([np.interp(at, bands, row) for row in np.eye(len(BANDS_HZ))])  # [bands, bins]
        self._fade = np.ones(_TAPS)
        self._fade[-_TAPS // 4 :] = 0.5 + 0.5 * np.cos(np.pi * (np.arange(_TAPS // 4) + 0.5) / (_TAPS // 4))
        self._gains: Array | None = None
        self._spectrum = np.zeros((ears, self._length // 2 + 1), np.complex128)

    def __call__(self, hop: Float, gain_db: Array) -> Float:
        n = hop.shape[1]
        joined = np.concatenate([self._past, hop], axis=1)
        self._past = joined[:, n:]
        source = np.fft.rfft(joined, self._length, axis=1)
        before = self._spectrum
        new = self._gains is None or bool(np.abs(gain_db - self._gains).max() > _STILL_DB)
        if new:
            first = self._gains is None
            self._gains = gain_db.copy()
            self._spectrum = np.fft.rfft(self._minimum_phase(gain_db), self._length, axis=1)
            before = self._spectrum if first else before
        out = np.fft.irfft(source * self._spectrum, self._length, axis=1)[:, _TAPS - 1 : _TAPS - 1 + n]
        if new:
            old = np.fft.irfft(source * before, self._length, axis=1)[:, _TAPS - 1 : _TAPS - 1 + n]
            out = old + (out - old) * self._ramp
        return out.astype(np.float32)

    def _minimum_phase(self, gain_db: Array) -> Array:
        """Filters ``[ears, taps]`` by folding the cepstrum (Oppenheim & Schafer, Discrete-Time Signal Processing, 13.5)."""
        log = gain_db @ self._spread * (math.log(10) / 20)
        cepstrum = np.fft.irfft(log, self._size, axis=1)
        half = self._size // 2
        cepstrum[:, 1:half] *= 2
        cepstrum[:, half + 1 :] = 0
        taps: Array = np.fft.irfft(np.exp(np.fft.rfft(cepstrum, axis=1)), self._size, axis=1)[:, :_TAPS] * self._fade
        return taps


_NUMBERS = ("talker_db", "ambient_db", "own_voice_db", "alarm_db", "knee_below_speech_db", "max_gain_db", "max_output_db_spl")


def load_hearing(path: Path) -> Hearing:
    """Read a TOML file: tables ``left`` and ``right``, or ``both``, with thresholds in dB HL by frequency in Hz; ``chain`` with
    fields of :class:`Hearing`. ``AudioError`` for anything else in it.
    """
    table = load_table(path, AudioError)
    unknown = set(table) - {"left", "right", "both", "chain"}
    if unknown:
        raise AudioError(f"{path}: there is no [{sorted(unknown)[0]}]: the tables are left, right, both, chain")
    if "both" in table and ("left" in table or "right" in table):
        raise AudioError(f"{path} has [both] beside [left] or [right]: keep one of them")
    ears = {name: _audiogram(_table(table, name, path), f"{path} [{name}]") for name in ("left", "right", "both") if name in table}
    chain = _table(table, "chain", path) if "chain" in table else {}
    bad = set(chain) - {*_NUMBERS, "compression"}
    if bad:
        raise AudioError(f"{path} [chain]: there is no {sorted(bad)[0]}: choose from {', '.join(_NUMBERS)}, compression")
    values = {key: take(chain, key, f"{path} [chain]", bool if key == "compression" else float) for key in chain}
    both = ears.get("both")
    return Hearing(left=ears.get("left", both), right=ears.get("right", both), **values)  # type: ignore[arg-type]


def _table(table: Mapping[str, object], name: str, path: Path) -> Mapping[str, object]:
    found = table[name]
    if not isinstance(found, dict):
        raise AudioError(f"{path}: {name} is not a table: write [{name}]")
    return found


def _audiogram(table: Mapping[str, object], where: str) -> Audiogram:
    points = []
    for key in table:
        try:
            hz = float(key)
        except ValueError:
            raise AudioError(f"{where}: {key} is not a frequency in Hz") from None
        points.append((hz, float(str(take(table, key, where)))))
    return Audiogram(thresholds=tuple(sorted(points)))
