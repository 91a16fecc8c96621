"""The verb that looks after voice files: whose they are, and away with them. It joins the others on the one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.verbs import Json, app

__all__: list[str] = []

_HEAD_BYTES = 64
_MAGIC = b'"edge_tse_voice"'


@app.command()
def voice(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `edge-tse enroll` wrote.")],
    info: Annotated[bool, typer.Option("--info", help="Say whose voice it is; what is done if nothing else is asked for.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Overwrite it, then remove it.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a voice file holds, or overwrite and remove it: a voice is biometric."""
    from edge_tse.errors import ArtifactError
    from edge_tse.files import erase, read_bytes

    if info and delete:
        raise ArtifactError("--info and --delete exclude each other: give one of them")
    if not delete:
        _tell(file, as_json)
        return
    if file.is_symlink():
        raise ArtifactError(f"{file} is a symbolic link to {file.readlink()}: give the file itself")
    if not file.is_file():
        raise ArtifactError(f"{file}: there is no such file")
    # A damaged voice is one, too; another file is not removed by a slip.
    if _MAGIC not in read_bytes(file, 2**30, ArtifactError, "voice")[:_HEAD_BYTES]:
        raise ArtifactError(f"{file} is not an edge-tse voice: nothing was removed")
    size = erase(file, ArtifactError)
    kept = "copies that a file system, a memory card or a backup keeps are out of reach"
    output.result({"voice": file, "deleted": True, "bytes": size}, as_json, f"{file}: {size} bytes overwritten and removed; {kept}")


def _tell(file: Path, as_json: bool) -> None:
    from edge_tse.artifact import Artifact, shipped_names
    from edge_tse.voice import read_voice

    found, digest = read_voice(file)
    models = [name for name in shipped_names() if Artifact.shipped(name).voice_model.digest == found.model_digest]
    mode = file.stat().st_mode & 0o777
    figures = {
        "voice": file,
        "digest": digest,
        "source": found.source,
        "created": found.created,
        "values": len(found.embedding),
        "model": found.model_digest,
        "shipped_models": models,
        "mode": f"{mode:04o}",
    }
    readers = "its owner alone" if not mode & 0o077 else "others than its owner, too: `chmod 600` changes that"
    rows = {
        "made from": found.source,
        "on": found.created,
        "for the model": f"{found.model_digest[:12]}" + (f" ({', '.join(models)})" if models else " (none that is shipped)"),
        "digest": digest[:12],
        "read by": readers,
    }
    output.result(figures, as_json, output.table(str(file), rows))
