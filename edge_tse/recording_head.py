"""What stands at the head of a recorded session, checked: settings, model, and whose voice was heard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from edge_tse.calibration import Calibration
from edge_tse.errors import ArtifactError, AudioError
from edge_tse.hearing import Hearing
from edge_tse.table import read_table, shown
from edge_tse.voice import Voice, parse_voice

__all__ = ["Settings", "described", "settings"]

_NEVER_DB = -1e3
"""Stands for minus infinity, which JSON has not."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """With what a session ran."""

    engine: str
    artifact: str
    """Digest of the personalized model."""
    voice_digest: str
    """SHA-256 of the voice file; empty in recordings of before, which hold the voice itself."""
    voice: Voice | None
    """Only where it was asked for: a voice is biometric."""
    hearing: Hearing
    calibration: Calibration


def described(
    *, engine: str, artifact: str, voice_digest: str, hearing: Hearing, calibration: Calibration, voice: str | None = None
) -> dict[str, object]:
    """The head as JSON; ``voice`` is the text of the voice file, left out if None. :func:`settings` reads it."""
    head: dict[str, object] = {
        "engine": engine,
        "artifact": artifact,
        "voice_digest": voice_digest,
        "hearing": asdict(hearing) | {"ambient_db": max(hearing.ambient_db, _NEVER_DB)},
        "calibration": asdict(calibration),
    }
    return head if voice is None else {**head, "voice": voice}


def settings(head: Mapping[str, Any], where: str) -> Settings:
    """``AudioError`` or ``ArtifactError`` names ``where`` and the part that is missing or cannot be."""
    texts = {}
    for name, due in (("engine", True), ("artifact", True), ("voice_digest", False), ("voice", False)):
        texts[name] = head.get(name, "" if not due else None)
        if not isinstance(texts[name], str):
            raise AudioError(f"{where}: its {name} is {shown(texts[name])}, not a text: it is no recorded session")
    if not texts["voice_digest"] and not texts["voice"]:
        raise AudioError(f"{where}: it names no voice: it is no recorded session")
    hearing = read_table(Hearing, head.get("hearing"), f"{where}: hearing", AudioError)
    if hearing.ambient_db <= _NEVER_DB:
        hearing = replace(hearing, ambient_db=-math.inf)
    calibration = read_table(Calibration, head.get("calibration"), f"{where}: calibration", AudioError)
    for level in (*calibration.microphones_db_spl, *calibration.receivers_db_spl):
        if not 0 <= level <= 200:
            raise AudioError(f"{where}: calibration: {level:g} dB SPL at full scale cannot be: 0 to 200 can")
    voice = None
    if texts["voice"]:
        try:
            voice = parse_voice(texts["voice"].encode(), f"the voice in {where}")
        except UnicodeEncodeError as failure:
            raise ArtifactError(f"{where}: its voice is no text: it is no recorded session") from failure
    return Settings(
        engine=texts["engine"],
        artifact=texts["artifact"],
        voice_digest=texts["voice_digest"],
        voice=voice,
        hearing=hearing,
        calibration=calibration,
    )
