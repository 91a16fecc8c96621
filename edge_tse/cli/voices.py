"""The verbs that show or delete voice files, and that compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.options import ArtifactOption, Json, Panel, app, artifact_of

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.enrollment.likeness import Pair
    from edge_tse.voice import Voice, VoiceModel

__all__ = ["like_pairs", "likeness", "read_voices", "voice"]


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


@app.command(rich_help_panel=Panel.HEAR)
def likeness(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Voice files made by `edge-tse enroll`, two or more.")],
    artifact: ArtifactOption = None,
    as_json: Json = False,
) -> None:
    """Say how alike voices are, each with each, and what that costs: where it is much, the output may be the other talker."""
    from rich.table import Table

    from edge_tse.errors import ArtifactError

    universal = artifact_of(artifact)
    voices = read_voices(files, universal.voice_model)
    if len(voices) < 2:
        raise ArtifactError(f"{len(voices)} voice was given, likeness is between two: give another voice file")
    found = like_pairs(universal, voices)
    shown = Table(title="likeness, and gain to be expected less", title_justify="left", title_style="bold")
    for heading in ("voices", "alike", "one ear", "two ears"):
        shown.add_column(heading, justify="left" if heading == "voices" else "right")
    for pair in found:
        losses = ("?" if loss is None else f"{loss:.1f} dB" for loss in (pair.loss_db, pair.loss_two_ears_db))
        shown.add_row(f"{pair.first}, {pair.second}", f"{pair.likeness:.2f}", *losses)
    output.result({"pairs": [pair.figures() for pair in found], "encoder": universal.voice_model.encoder_digest}, as_json, shown)


def read_voices(files: Sequence[Path], model: VoiceModel) -> dict[str, Voice]:
    """The voices by their paths; ``ArtifactError`` for one of another model."""
    from edge_tse.personalization import check_voice
    from edge_tse.voice import load_voice

    voices = {str(path): load_voice(path) for path in files}
    for voice in voices.values():
        check_voice(model, voice)
    return voices


def like_pairs(universal: Artifact, voices: Mapping[str, Voice], of: str = "") -> list[Pair]:
    """Every two of these voices, or those with the one named, with what likeness costs with this model; the most alike first."""
    from edge_tse.enrollment.likeness import pairs
    from edge_tse.trust import Trust

    return [pair for pair in pairs(universal.voice_model, voices, Trust.of(universal)) if not of or of == pair.first]
