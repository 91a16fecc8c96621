"""Steering: what a session can be told while it runs, and how it is written down.

A change waits in a queue until the engine's thread begins a hop, and holds from that hop on; the device's thread knows nothing of
it. A recording keeps each with the number of its hop, so that a replay makes it at the same place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_tse.errors import AudioError
from edge_tse.hearing.chain import LEVELS_DB, Hearing
from edge_tse.hearing.prescription import audiogram_text, parse_audiogram
from edge_tse.table import load_table, nearest, quote

__all__ = ["Change", "Settings", "Steering", "load_presets"]

SILENT = "off"
"""Level of a room that is left out, in JSON and TOML, which have no infinity; and an audiogram of nobody."""
_LONGEST_AUDIOGRAM = 500
LONGEST_MARK = 200
_FOR_INSTANCE = "write [quiet], and under it for instance ambient_db = -12"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is heard."""

    voice: str = ""
    """Name of the voice that is extracted; empty in a session with one that nobody named."""
    talker_db: float = 0.0
    ambient_db: float = -math.inf
    """Level of the room beside the talker; minus infinity leaves it out."""
    bypass: bool = False
    """Whether the room is heard as it is, as loud as what it stands in for: to compare."""
    mute: bool = False
    audiogram: str = ""
    """Thresholds of the wearer that are made up for, as :func:`~edge_tse.hearing.prescription.parse_audiogram` reads them; empty
    for none."""

    @classmethod
    def of(cls, hearing: Hearing, voice: str = "") -> Settings:
        """Settings that a session begins with."""
        known = hearing.left is not None and hearing.right is not None
        audiogram = audiogram_text(hearing.left, hearing.right) if known else ""  # type: ignore[arg-type]
        return cls(voice=voice, talker_db=hearing.talker_db, ambient_db=hearing.ambient_db, audiogram=audiogram)

    def to_json(self) -> dict[str, object]:
        """The settings as JSON holds them."""
        return _stated(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Change:
    """Settings that change together, or a mark that somebody makes; both at the beginning of a hop."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    mark: str = ""

    def to_json(self) -> dict[str, object]:
        """The change as JSON holds it: settings by name, or ``mark``."""
        told = _stated(self.settings)
        return {**told, "mark": self.mark} if self.mark else told

    @property
    def said(self) -> str:
        """The change in words, for events."""
        return f"mark: {self.mark}" if self.mark else ", ".join(f"{name} {value}" for name, value in self.to_json().items())

    @classmethod
    def from_json(cls, told: Mapping[str, object], where: str) -> Change:
        """Inverse of :meth:`to_json`. ``AudioError`` names ``where`` and what no session can be told."""
        if "mark" in told:
            mark = told["mark"]
            if not isinstance(mark, str) or not 0 < len(mark) <= LONGEST_MARK or len(told) > 1:
                raise AudioError(f"{where}: a mark is a text of 1 to {LONGEST_MARK} characters and comes alone, not {quote(mark)}")
            if re.search("[\ud800-\udfff]", mark):  # a half of a character: JSON has them, the page of a report cannot
                raise AudioError(f"{where}: a mark is {quote(mark)}, which holds a half of a character: send both halves")
            return cls(mark=mark)
        return cls(settings={name: _value(name, value, where) for name, value in told.items()})


_KINDS: dict[str, type] = {
    "voice": str,
    "talker_db": float,
    "ambient_db": float,
    "bypass": bool,
    "mute": bool,
    "audiogram": str,
}


def _stated(settings: Mapping[str, Any]) -> dict[str, object]:
    """Settings as JSON holds them."""
    off = {"ambient_db": -math.inf, "audiogram": ""}
    return {name: SILENT if off.get(name) == value else value for name, value in settings.items()}


def _value(name: str, value: object, where: str) -> object:
    if name not in _KINDS:
        raise AudioError(f"{where}: there is no setting {quote(name)}{nearest(name[:40], _KINDS)}")
    if name == "ambient_db" and value == SILENT:
        return -math.inf
    kind = _KINDS[name]
    if kind is float and type(value) in (int, float):
        low, high = LEVELS_DB[name]
        if not low <= value <= high:  # type: ignore[operator]
            raise AudioError(f"{where}: {name} = {quote(value)} is not within {low:g} to {high:g}")
        return float(value)  # type: ignore[arg-type]  # not before: an integer may be too large for it
    if type(value) is not kind:
        wanted = {str: "a text", float: "a number of decibels", bool: "true or false"}[kind]
        raise AudioError(f"{where}: {name} is {quote(value)}, {wanted} is due")
    return _audiogram(str(value), where) if name == "audiogram" else value


def _audiogram(text: str, where: str) -> str:
    if text == SILENT:
        return ""
    if len(text) > _LONGEST_AUDIOGRAM:
        raise AudioError(f"{where}: an audiogram of {len(text)} characters: give one of at most {_LONGEST_AUDIOGRAM}")
    try:
        return audiogram_text(*parse_audiogram(text))
    except AudioError as failure:
        raise AudioError(f"{where}: {failure}") from failure


class Steering:
    """Settings of a session and the voices that it can hear; :meth:`apply` makes a change, between two hops."""

    def __init__(
        self,
        settings: Settings,
        voices: Mapping[str, Callable[[], None]] | None = None,
        mix: Callable[[Settings], None] = lambda settings: None,
    ) -> None:
        """``voices`` switch the engine to each talker by name; ``mix`` tells the hearing chain what to play."""
        self.settings = settings
        self._voices, self._mix = dict(voices or {}), mix

    @property
    def voices(self) -> tuple[str, ...]:
        """Names of the voices that can be switched to."""
        return tuple(self._voices)

    def check(self, change: Change) -> None:
        """``AudioError`` if this session cannot make the change."""
        voice = change.settings.get("voice", self.settings.voice)
        if voice != self.settings.voice and voice not in self._voices:
            known = ", ".join(self._voices) or "only the one that it began with: start it with more than one --voice"
            raise AudioError(f"there is no voice {quote(voice)} in this session: {known}")

    def apply(self, change: Change) -> None:
        """Make a change that was checked."""
        if not change.settings:
            return
        before, self.settings = self.settings, replace(self.settings, **change.settings)
        if self.settings.voice != before.voice:
            self._voices[self.settings.voice]()
        if self.settings != before:
            self._mix(self.settings)


def load_presets(path: Path) -> dict[str, Change]:
    """Presets of a TOML file: a table of settings for each name. ``AudioError`` for anything else in it."""
    found = {}
    for name, table in load_table(path, AudioError).items():
        if not isinstance(table, dict) or not table:
            raise AudioError(f"{path}: {quote(name)} is no table of settings: {_FOR_INSTANCE}")
        found[name] = Change.from_json(table, f"{path} [{name}]")
        if found[name].mark:
            raise AudioError(f"{path} [{name}]: a mark is no setting: leave it out")
    if not found:
        raise AudioError(f"{path} has no presets: {_FOR_INSTANCE}")
    return found
