"""Inspection and deletion of voice files: content, permissions, erasure. A voice is biometric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_tse.artifact import Artifact, shipped_names
from edge_tse.errors import ArtifactError
from edge_tse.files import erase, read_bytes
from edge_tse.voice import Voice, load_voice

__all__ = ["VoiceFile", "describe_voice", "erase_voice"]

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

    def rows(self) -> dict[str, str]:
        """Rows of the same figures, for people."""
        models = ", ".join(self.shipped_models) or "of no model that is shipped"
        private = not self.mode & 0o077
        return {
            "made from": self.voice.source,
            "on": self.voice.created,
            "of the encoder": f"{self.voice.encoder[:12]} ({models})",
            "digest": self.voice.digest[:12],
            "read by": "its owner alone" if private else "others than its owner, too: `chmod 600` changes that",
        }


def describe_voice(path: Path) -> VoiceFile:
    """Inspect a voice file; errors are those of :func:`edge_tse.voice.load_voice`."""
    voice = load_voice(path)
    models = tuple(name for name in shipped_names() if Artifact.shipped(name).voice_model.hears(voice))
    return VoiceFile(path=path, voice=voice, shipped_models=models, mode=path.stat().st_mode & 0o777)


def erase_voice(path: Path) -> int:
    """Overwrite and remove a voice file, a damaged one too; returns its bytes.

    ``ArtifactError`` if it is another file, which is not removed by a slip, or a link to one.
    """
    if path.is_symlink():
        raise ArtifactError(f"{path} is a symbolic link to {path.readlink()}: give the file itself")
    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such file")
    if _MAGIC not in read_bytes(path, 2**30, ArtifactError, "voice")[:_HEAD_BYTES]:
        raise ArtifactError(f"{path} is not an edge-tse voice: nothing was removed")
    return erase(path, ArtifactError)
