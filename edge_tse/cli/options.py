"""The command, and the options that its verbs share. Anything heavier than argument types is imported where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.version import __version__

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact

app = typer.Typer(
    help="Hear one enrolled talker: int8 target speaker extraction in 4 ms steps.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
ArtifactOption = Annotated[
    Path | None,
    typer.Option("--artifact", metavar="FILE", help="Model to use: a file, or the name of a shipped one; `small` if left out."),
]
ArtifactArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[ARTIFACT]", help="Model to use: a file, or the name of a shipped one; `small` if left out."),
]
EngineOption = Annotated[str, typer.Option("--engine", metavar="NAME", help="Runtime for the network: see `edge-tse doctor`.")]
VoiceOption = Annotated[Path, typer.Option("--voice", metavar="FILE", help="Voice file made by `edge-tse enroll`.")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="Number of training steps; the recipe's if left out.")
]
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the speech corpus.")]
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="DEVICE", help="Microphone: a number or part of a name of `edge-tse devices`.")
]
OutputOption = Annotated[
    str | None, typer.Option("--output", metavar="DEVICE", help="Earphone: a number or part of a name of `edge-tse devices`.")
]
ChannelsOption = Annotated[
    str, typer.Option("--channels", metavar="L,R", help="Input channels that are the ears, from 1; the first ones if left out.")
]
RateOption = Annotated[
    int | None,
    typer.Option("--rate", metavar="HZ", help="Sample rate of the device; the model's, where the device has it, if left out."),
]
HearingOption = Annotated[
    Path | None, typer.Option("--hearing", metavar="TOML", help="Hearing file of the wearer: audiograms, limits and mix.")
]
AudiogramOption = Annotated[
    str,
    typer.Option("--audiogram", metavar="HZ:DB,...", help="Hearing thresholds: 500:30,1000:40 or LEFT / RIGHT."),
]
AmbientOption = Annotated[
    float | None, typer.Option("--ambient-db", metavar="DB", help="Level of the room beside the talker; no room if left out.")
]
OwnVoiceOption = Annotated[
    float | None, typer.Option("--own-voice-db", metavar="DB", help="Let the room in at this level while the wearer talks.")
]
AlarmOption = Annotated[
    float | None,
    typer.Option(
        "--alarm-db", metavar="DB", help="Let the room in at this level while an alarm sounds. No safety device: it misses some."
    ),
]
CalibrationOption = Annotated[
    Path | None, typer.Option("--calibration", metavar="TOML", help="Calibration file made by `edge-tse calibrate`.")
]
AnyEngineOption = Annotated[str, typer.Option("--engine", metavar="NAME", help="Runtime for the network, or `device` for a board.")]
BoardOption = Annotated[str, typer.Option("--target", metavar="NAME", help="Board for --engine device.")]
PortOption = Annotated[str | None, typer.Option("--port", metavar="P", help="Port of the board, as for `edge-tse board`.")]
BlockOption = Annotated[
    int | None, typer.Option("--block", min=1, metavar="N", help="Samples per block of the device; one hop if left out.")
]

TraceOption = Annotated[
    Path | None, typer.Option("--trace", metavar="JSON", help="Trace of the steps to write, for Perfetto or chrome://tracing.")
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"edge-tse {__version__}")
        raise typer.Exit


def artifact_of(path: Path | None) -> Artifact:
    """The model of that file or name; the shipped one if None."""
    from edge_tse.artifact import Artifact

    return Artifact.find(path)


def given_paths(*paths: Path | None) -> list[Path]:
    """The options that were given."""
    return [path for path in paths if path is not None]
