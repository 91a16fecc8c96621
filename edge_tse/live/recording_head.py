"""Head of a recorded session, checked: settings, model, and the voices that it could hear."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_tse.artifact import Artifact
from edge_tse.errors import ArtifactError, AudioError
from edge_tse.hearing.calibration import Calibration
from edge_tse.hearing.chain import Hearing
from edge_tse.personalization import with_voices
from edge_tse.table import quote, read_table
from edge_tse.voice import Voice, load_voice, parse_voice, voice_bytes

__all__ = ["Head", "HeardVoice"]

_NEVER_DB = -1e3
"""Number that stands for minus infinity, which JSON has not."""


@dataclass(frozen=True, kw_only=True)
class HeardVoice:
    """A voice that a session could hear."""

    name: str
    """Name by which a change switches to it; empty in a session with one voice."""
    digest: str
    """SHA-256 of the voice's file, which names the voice."""
    voice: Voice | None
    """The voice; None in a recording that only names it: a voice is biometric."""

    def found(self, among: Mapping[Path, Voice], source: str) -> Voice:
        """The recording's own or, known by its digest, that of a file. ``ArtifactError`` if there is none."""
        known = [voice for voice in among.values() if voice.digest == self.digest]
        if known or (self.voice is not None and not among):
            return known[0] if known else self.voice  # type: ignore[return-value]
        if not among:
            raise ArtifactError(
                f"{source} does not hold the voice it was made with, only its digest {self.digest[:12]}: "
                "give that voice with --voice"
            )
        given = ", ".join(f"{path} is {voice.digest[:12]}" for path, voice in among.items())
        raise ArtifactError(f"{source} was made with voice {self.digest[:12]}, {given}: give that voice")


@dataclass(frozen=True, kw_only=True)
class Head:
    """Settings of a recorded session: with the voices, the model and the engine, they and the file determine the output."""

    engine: str
    artifact: str
    """Digest of the model as it ran: personalized, or universal where the session had several voices."""
    voices: tuple[HeardVoice, ...]
    """Voices of the session; the first is heard at the start."""
    hearing: Hearing
    calibration: Calibration

    def to_json(self, *, with_voice: bool = False) -> dict[str, object]:
        """The head as JSON, besides what the recorder itself knows; with the voices only if asked for."""

        def stated(each: HeardVoice) -> dict[str, str]:
            named = {"name": each.name, "voice_digest": each.digest}
            return named if each.voice is None or not with_voice else {**named, "voice": voice_bytes(each.voice).decode()}

        return {
            "engine": self.engine,
            "artifact": self.artifact,
            "voices": [stated(each) for each in self.voices],
            "hearing": asdict(self.hearing) | {"ambient_db": max(self.hearing.ambient_db, _NEVER_DB)},
            "calibration": asdict(self.calibration),
        }

    def resolve_voices(self, paths: Sequence[Path], source: str) -> dict[str, Voice]:
        """Voices by name: the recording's or, checked to be the same, those of files. ``ArtifactError`` if one is missing."""
        among = {path: load_voice(path) for path in paths}
        return {each.name: each.found(among, source) for each in self.voices}

    def model(self, artifact: Artifact, voices: Mapping[str, Voice], source: str) -> Artifact:
        """The model as it ran, from the one without a voice. ``ArtifactError`` if it is another model."""
        model = with_voices(artifact, list(voices.values()))
        if model.digest != self.artifact:
            raise ArtifactError(
                f"{source} was made with model {self.artifact[:12]}, this is {model.digest[:12]}: give the one with --artifact"
            )
        return model

    @classmethod
    def from_json(cls, head: Mapping[str, Any], source: str) -> Head:
        """Inverse of :meth:`to_json`; ``AudioError`` or ``ArtifactError`` names ``source`` and the missing or impossible field."""
        # Earlier recordings have one voice, in the head itself.
        stated = head.get("voices", [head])
        if not isinstance(stated, list) or not stated or not all(isinstance(each, dict) for each in stated):
            raise AudioError(f"{source}: its voices are {quote(stated)}, no list of voices: it is no recorded session")
        voices = tuple(_heard_voice(each, source) for each in stated)
        if len({each.name for each in voices}) < len(voices):
            raise AudioError(f"{source}: two of its voices have one name: it is no recorded session")
        return cls(
            engine=_text(head, "engine", source),
            artifact=_text(head, "artifact", source),
            voices=voices,
            hearing=_hearing(head.get("hearing"), source),
            calibration=_calibration(head.get("calibration"), source),
        )


def _text(table: Mapping[str, Any], name: str, source: str, default: str | None = None) -> str:
    found = table.get(name, default)
    if not isinstance(found, str):
        raise AudioError(f"{source}: its {name} is {quote(found)}, not a text: it is no recorded session")
    return found


def _heard_voice(stated: Mapping[str, Any], source: str) -> HeardVoice:
    digest, text = _text(stated, "voice_digest", source, ""), _text(stated, "voice", source, "")
    if not digest and not text:
        raise AudioError(f"{source}: it names no voice: it is no recorded session")
    voice = _voice(text, source) if text else None
    # Still earlier ones hold the voice itself, and no digest.
    return HeardVoice(name=_text(stated, "name", source, ""), digest=digest or ("" if voice is None else voice.digest), voice=voice)


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
