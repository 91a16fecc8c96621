"""Head of a recorded session, checked: settings, model, and the voice that was heard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_tse.artifact import Artifact
from edge_tse.errors import ArtifactError, AudioError
from edge_tse.hearing.calibration import Calibration
from edge_tse.hearing.chain import Hearing
from edge_tse.personalization import personalize
from edge_tse.table import quote, read_table
from edge_tse.voice import Voice, load_voice, parse_voice, voice_bytes

__all__ = ["Head"]

_NEVER_DB = -1e3
"""Number that stands for minus infinity, which JSON has not."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """Settings of a recorded session: with the voice, the model and the engine, they and the file determine the output."""

    engine: str
    artifact: str
    """Digest of the personalized model."""
    voice_digest: str
    """SHA-256 of the voice's file, which names the voice."""
    voice: Voice | None
    """The voice; None in a recording that only names it: a voice is biometric."""
    hearing: Hearing
    calibration: Calibration

    def to_json(self, *, with_voice: bool = False) -> dict[str, object]:
        """The head as JSON, besides what the recorder itself knows; with the voice only if asked for."""
        head: dict[str, object] = {
            "engine": self.engine,
            "artifact": self.artifact,
            "voice_digest": self.voice_digest,
            "hearing": asdict(self.hearing) | {"ambient_db": max(self.hearing.ambient_db, _NEVER_DB)},
            "calibration": asdict(self.calibration),
        }
        return head if self.voice is None or not with_voice else {**head, "voice": voice_bytes(self.voice).decode()}

    def resolve_voice(self, path: Path | None, source: str) -> Voice:
        """The voice that was heard: the recording's or, checked to be the same, that of a file. ``ArtifactError`` if none."""
        if path is None:
            if self.voice is None:
                raise ArtifactError(
                    f"{source} does not hold the voice it was made with, only its digest {self.voice_digest[:12]}: "
                    "give that voice with --voice"
                )
            return self.voice
        voice = load_voice(path)
        if voice.digest != self.voice_digest:
            raise ArtifactError(
                f"{source} was made with voice {self.voice_digest[:12]}, {path} is {voice.digest[:12]}: give that voice"
            )
        return voice

    def model(self, universal: Artifact, voice: Voice, source: str) -> Artifact:
        """The personalized model of a recording, from the one without a voice. ``ArtifactError`` if it is another model."""
        model = personalize(universal, voice)
        if model.digest != self.artifact:
            raise ArtifactError(
                f"{source} was made with model {self.artifact[:12]}, this is {model.digest[:12]}: give the one with --artifact"
            )
        return model

    @classmethod
    def from_json(cls, head: Mapping[str, Any], source: str) -> Head:
        """Inverse of :meth:`to_json`; ``AudioError`` or ``ArtifactError`` names ``source`` and the missing or impossible field."""
        texts = {}
        for name, due in (("engine", True), ("artifact", True), ("voice_digest", False), ("voice", False)):
            texts[name] = head.get(name, "" if not due else None)
            if not isinstance(texts[name], str):
                raise AudioError(f"{source}: its {name} is {quote(texts[name])}, not a text: it is no recorded session")
        if not texts["voice_digest"] and not texts["voice"]:
            raise AudioError(f"{source}: it names no voice: it is no recorded session")
        voice = _voice(texts["voice"], source) if texts["voice"] else None
        return cls(
            engine=texts["engine"],
            artifact=texts["artifact"],
            # Earlier recordings hold the voice itself, and no digest.
            voice_digest=texts["voice_digest"] or ("" if voice is None else voice.digest),
            voice=voice,
            hearing=_hearing(head.get("hearing"), source),
            calibration=_calibration(head.get("calibration"), source),
        )


def _voice(text: str, source: str) -> Voice:
    try:
        return parse_voice(text.encode(), f"the voice in {source}")
    except UnicodeEncodeError as failure:
        raise ArtifactError(f"{source}: its voice is no text: it is no recorded session") from failure


def _hearing(table: object, source: str) -> Hearing:
    hearing = read_table(Hearing, table, f"{source}: hearing", AudioError)
    return replace(hearing, ambient_db=-math.inf) if hearing.ambient_db <= _NEVER_DB else hearing


def _calibration(table: object, source: str) -> Calibration:
    calibration = read_table(Calibration, table, f"{source}: calibration", AudioError)
    for level in (*calibration.microphones_db_spl, *calibration.receivers_db_spl):
        if not 0 <= level <= 200:
            raise AudioError(f"{source}: calibration: {level:g} dB SPL at full scale cannot be: 0 to 200 can")
    return calibration
