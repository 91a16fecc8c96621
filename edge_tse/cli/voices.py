"""The verb that shows or deletes voice files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.options import Json, Panel, app

__all__ = ["voice"]


@app.command(rich_help_panel=Panel.HEAR)
def voice(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Voice file made by `edge-tse enroll`.")],
    info: Annotated[bool, typer.Option("--info", help="Print the content of the voice file (the default).")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Overwrite the voice file, then remove it.")] = False,
    as_json: Json = False,
) -> None:
    """Show the content of a voice file, or overwrite and remove it: a voice is biometric."""
    from edge_tse.enrollment.voice_file import describe_voice, erase_voice
    from edge_tse.errors import ArtifactError

    if info and delete:
        raise ArtifactError("--info and --delete exclude each other: give one of them")
    if delete:
        size = erase_voice(file)
        kept = "copies that a file system, a memory card or a backup keeps are out of reach"
        said = f"{file}: {size} bytes overwritten and removed; {kept}"
        output.result({"voice": file, "deleted": True, "bytes": size}, as_json, said)
        return
    found = describe_voice(file)
    output.result(found.figures(), as_json, output.table(str(file), found.rows()))
