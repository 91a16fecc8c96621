"""A console: commands of keys, of a socket or of a program, carried out on a running session.

A command is a JSON object with one of the keys of :data:`COMMANDS`, an answer another with ``ok``; ``docs/live.md`` lists both and
``docs/control.schema.json`` states them for programs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError, EdgeTseError
from edge_tse.hearing.calibration import UNCALIBRATED, Calibration
from edge_tse.live.recording import Recorder
from edge_tse.live.session import Session
from edge_tse.live.steering import Change
from edge_tse.recognition import Recognizer
from edge_tse.table import nearest, quote

__all__ = ["COMMANDS", "SPECTRUM_HZ", "Console"]

COMMANDS = ("set", "preset", "mark", "record", "status", "end")
_LEVEL_S = 0.1
_QUIETEST_DB = -100.0
_WINDOW = 1024
SPECTRUM_HZ = tuple(round(float(hz)) for hz in np.geomspace(100, 8000, 41))
"""Edges of the bands of a spectrum: 40 between 100 Hz and 8 kHz, six and a half an octave."""


class Console:
    """Carries out commands, from any thread and one at a time."""

    def __init__(
        self,
        session: Session,
        *,
        presets: Mapping[str, Change] | None = None,
        recorder: Recorder | None = None,
        record: Callable[[Path, int], Recorder] | None = None,
        calibration: Calibration = UNCALIBRATED,
        recognizer: Recognizer | None = None,
    ) -> None:
        """``recorder`` is the one that the session began with; ``record`` begins another, from a hop on.

        ``recognizer`` tells the confidence in the talker.
        """
        known = calibration != UNCALIBRATED
        full = {"heard": list(calibration.microphones_db_spl), "played": list(calibration.receivers_db_spl)}
        self._full_scale = full if known else None
        self.session, self.presets = session, dict(presets or {})
        self._recorder, self._record, self._recognizer = recorder, record, recognizer
        self._lock = threading.Lock()
        self.ended = threading.Event()
        """Whether a command asked for the end of the session."""

    def do(self, command: Mapping[str, object]) -> dict[str, object]:
        """Carry out one command. Its answer has ``ok`` and, if that is false, ``error``; nothing is raised."""
        try:
            with self._lock:
                return {"ok": True, **self._answer(command)}
        except EdgeTseError as failure:
            return {"ok": False, "error": str(failure)}

    def _answer(self, command: Mapping[str, object]) -> dict[str, object]:
        if len(command) != 1 or (name := next(iter(command))) not in COMMANDS:
            wrong = next((key for key in command if key not in COMMANDS), "")
            raise AudioError(
                f"a command is one of {', '.join(COMMANDS)}, not {quote(dict(command))}{nearest(wrong[:40], COMMANDS)}"
            )
        value = command[name]
        if name == "set":
            if not isinstance(value, dict) or not value or "mark" in value:
                raise AudioError(f"set takes settings, for instance {{'ambient_db': -12}}, not {quote(value)}")
            return self._change(Change.from_json(value, "set"))
        if name == "mark":
            return self._change(Change.from_json({"mark": value}, "mark"))
        if name == "preset":
            return self._change(self._preset(value))
        if name == "record":
            return {"recording": self._switch_recording(value)}
        if name == "end":
            self.ended.set()
            return {}
        return self.status()

    def _change(self, change: Change) -> dict[str, object]:
        self.session.change(change)
        return {"change": change.to_json()}

    def _preset(self, name: object) -> Change:
        if not isinstance(name, str) or name not in self.presets:
            known = ", ".join(self.presets) or "none: start the session with --presets FILE"
            raise AudioError(f"there is no preset {quote(name)}: {known}")
        return self.presets[name]

    def _switch_recording(self, path: object) -> str | None:
        """Begin to record to a path, or with None stop."""
        if path is None:
            if self._recorder is None:
                raise AudioError("nothing is being recorded: start it with a path")
            self.session.tap = None
            self._recorder.close()
            self._recorder = None
            return None
        if not isinstance(path, str) or not path:
            raise AudioError(f"record takes a path that ends in .flac, or null to stop, not {quote(path)}")
        if self._recorder is not None:
            raise AudioError("this session is being recorded: stop that first")
        if self._record is None:
            raise AudioError("this session cannot be recorded once it runs: start it with --record")
        self._recorder = self._record(Path(path), self.session.health.hops)
        self.session.tap = self._recorder
        return path

    @property
    def recording(self) -> bool:
        """Whether a recording is being made."""
        return self._recorder is not None

    def status(self) -> dict[str, object]:
        """What a panel shows: settings, levels of the last 100 ms in dB of full scale by ear, time in reserve, counters."""
        session, health = self.session, self.session.health
        rate_hz = session.loop.rate_hz
        sounds = {"heard": session.recent(_LEVEL_S), "played": session.recently_played(_LEVEL_S)}
        return {
            "seconds": health.samples / rate_hz,
            "settings": session.steering.settings.to_json(),
            "voices": list(session.steering.voices),
            "presets": list(self.presets),
            "levels_db": {name: _levels_db(sound) for name, sound in sounds.items()},
            "spectra_db": {name: _spectrum_db(sound, rate_hz) for name, sound in sounds.items()},
            "full_scale_db_spl": self._full_scale,
            "reserve_ms": session.reserve_s() * 1e3,
            "margin_ms": session.loop.margin_s * 1e3,
            "latency_ms": session.latency.total_s * 1e3,
            "health": asdict(health),
            "recording": self.recording,
            "confidence": None if self._recognizer is None else self._recognizer.last,
        }

    def close(self) -> None:
        """End a recording."""
        if self._recorder is not None:
            self._recorder.close()


def _levels_db(sound: NDArray[np.float32]) -> list[float]:
    if not sound.shape[1]:
        return [_QUIETEST_DB] * len(sound)
    power = np.square(sound, dtype=np.float64).mean(axis=1)
    found: list[float] = np.maximum(10 * np.log10(power + 1e-20), _QUIETEST_DB).round(1).tolist()
    return found


def _spectrum_db(sound: NDArray[np.float32], rate_hz: int) -> list[float]:
    """Level of each band of the last 1,024 samples, mean over ears, in dB of full scale."""
    last = sound[:, -_WINDOW:]
    if last.shape[1] < _WINDOW:
        return [_QUIETEST_DB] * (len(SPECTRUM_HZ) - 1)
    window = np.hanning(_WINDOW)
    power = np.square(np.abs(np.fft.rfft(last * window, axis=1))).mean(axis=0) * 2 / np.square(window).sum() / _WINDOW
    edges = np.searchsorted(np.fft.rfftfreq(_WINDOW, 1 / rate_hz), SPECTRUM_HZ).clip(max=len(power) - 1)
    bands = np.add.reduceat(power, edges[:-1])  # a band without a bin of its own takes the one above it
    found: list[float] = np.maximum(10 * np.log10(bands + 1e-20), _QUIETEST_DB).round(1).tolist()
    return found
