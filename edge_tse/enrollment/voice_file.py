"""Inspection and deletion of voice files: content, permissions, erasure. A voice is biometric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_tse.artifact import Artifact, shipped_names
from edge_tse.errors import ArtifactError
from edge_tse.files import erase, read_bytes
from edge_tse.voice import Voice, VoiceModel, load_voice

__all__ = ["VoiceFile", "describe_voice", "erase_voice", "list_voices"]

SUFFIX = ".voice"
"""Suffix by which voice files are found in a folder."""

_HEAD_BYTES = 64
_MAGIC = b'"edge_tse_voice"'


@dataclass(frozen=True, kw_only=True)
class VoiceFile:
    """Content and permissions of a voice file."""

    path: Path
    voice: Voice
    shipped_models: tuple[str, ...]
    """Names of the shipped models that hear it."""
    mode: int
    """Permissions of the file."""

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        return {
            "voice": self.path,
            "digest": self.voice.digest,
            "source": self.voice.source,
            "created": self.voice.created,
            "values": len(self.voice.embedding),
            "speech_s": self.voice.speech_s,
            "encoder": self.voice.encoder,
            "shipped_models": list(self.shipped_models),
            "mode": f"{self.mode:04o}",
        }

    @property
    def speech(self) -> str:
        """Seconds of speech that the voice rests on, for people."""
        return "not counted" if self.voice.speech_s is None else f"{self.voice.speech_s:.1f} s"

    @property
    def encoder(self) -> str:
        """The encoder that made it and the models that hear it, for people."""
        return f"{self.voice.encoder[:12]} ({', '.join(self.shipped_models) or 'of no model that is shipped'})"

    def rows(self) -> dict[str, str]:
        """Rows of the same figures, for people."""
        private = not self.mode & 0o077
        return {
            "made from": self.voice.source,
            "on": self.voice.created,
            "speech": self.speech,
            "of the encoder": self.encoder,
            "digest": self.voice.digest[:12],
            "read by": "its owner alone" if private else "others than its owner, too: `chmod 600` changes that",
        }


def describe_voice(path: Path) -> VoiceFile:
    """Inspect a voice file; errors are those of :func:`edge_tse.voice.load_voice`."""
    return _described(path, _shipped_models())


def list_voices(folder: Path) -> tuple[list[VoiceFile], dict[Path, str]]:
    """Inspect the voice files of a folder, by name: those that can be read, and why others cannot.

    ``ArtifactError`` if it is no folder.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is no folder: give one that holds {SUFFIX} files, or `edge-tse voice` a single file")
    models = _shipped_models()
    found, refused = [], {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            found.append(_described(path, models))
        except ArtifactError as failure:
            refused[path] = str(failure)
    return found, refused


def _shipped_models() -> dict[str, VoiceModel]:
    return {name: Artifact.shipped(name).voice_model for name in shipped_names()}


def _described(path: Path, models: dict[str, VoiceModel]) -> VoiceFile:
    voice = load_voice(path)
    names = tuple(name for name, model in models.items() if model.hears(voice))
    return VoiceFile(path=path, voice=voice, shipped_models=names, mode=path.stat().st_mode & 0o777)


def erase_voice(path: Path) -> int:
    """Overwrite and remove a voice file, a damaged one too, and an empty one that is called so: an erase that was killed leaves it.

    Returns its bytes. ``ArtifactError`` if it is another file, which is not removed by a slip, or a link to one.
    """
    if path.is_symlink():
        raise ArtifactError(f"{path} is a symbolic link to {path.readlink()}: give the file itself")
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such file")
    content = read_bytes(path, 2**30, ArtifactError, "voice")
    if _MAGIC not in content[:_HEAD_BYTES] and (content or path.suffix != ".voice"):
        raise ArtifactError(f"{path} is not an edge-tse voice: nothing was removed")
    return erase(path, ArtifactError)
