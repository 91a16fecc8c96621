"""The command, and the options that its verbs share. Anything heavier than argument types is imported where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.version import __version__

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact

COMMAND = "edge-tse"
COMPLETION_VARIABLE = "_EDGE_TSE_COMPLETE"
"""Variable by which the script of `edge-tse completion` asks for what may come next."""

app = typer.Typer(
    help="Hear one enrolled talker: int8 target speaker extraction in 4 ms steps.",
    add_completion=False,  # `edge-tse completion` prints the script, and changes no file of anybody's
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Panel:
    """Headings of help pages: groups of verbs, as the README has them, and of the options of verbs that have many."""

    HEAR = "Hear it"
    WEAR = "Wear it, on a laptop or a board on the desk"
    DEPLOY = "Bring it to a device"
    BOARD = "Put it on a board"
    MAKE = "Make a model"
    INSTALLED = "Know what is installed"

    DEVICES = "Sound devices"
    WEARER = "The wearer, and the room"
    STEERING = "Steering"
    ENGINE = "Where the network runs"
    RECORD = "What is kept"


def model_names(incomplete: str) -> list[str]:
    """Shipped models that begin so, for a shell (`edge-tse completion`)."""
    from edge_tse.artifact import shipped_names

    return [name for name in shipped_names() if name.startswith(incomplete)]


def target_names(incomplete: str) -> list[str]:
    """Targets that begin so, for a shell."""
    from edge_tse.deployment.target import targets

    return [name for name in targets() if name.startswith(incomplete)]


def engine_names(incomplete: str) -> list[str]:
    """Engines that begin so, for a shell."""
    from edge_tse.engines import engines

    return [name for name in engines() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
ArtifactOption = Annotated[
    Path | None,
    typer.Option(
        "--artifact",
        metavar="FILE",
        autocompletion=model_names,
        help="Model to use: a file, or the name of a shipped one; `small` if left out.",
    ),
]
ArtifactArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[ARTIFACT]",
        autocompletion=model_names,
        help="Model to use: a file, or the name of a shipped one; `small` if left out.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option("--engine", metavar="NAME", autocompletion=engine_names, help="Runtime for the network: see `edge-tse doctor`."),
]
VoiceOption = Annotated[Path, typer.Option("--voice", metavar="FILE", help="Voice file made by `edge-tse enroll`.")]
StepsOption = Annotated[
    int | None, typer.Option("--steps", min=1, metavar="N", help="Number of training steps; the recipe's if left out.")
]
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the speech corpus.")]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="DEVICE",
        rich_help_panel=Panel.DEVICES,
        help="Microphone: a number or part of a name of `edge-tse devices`.",
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="DEVICE",
        rich_help_panel=Panel.DEVICES,
        help="Earphone: a number or part of a name of `edge-tse devices`.",
    ),
]
ChannelsOption = Annotated[
    str,
    typer.Option(
        "--channels",
        metavar="L,R",
        rich_help_panel=Panel.DEVICES,
        help="Input channels that are the ears, from 1; the first ones if left out.",
    ),
]
RateOption = Annotated[
    int | None,
    typer.Option(
        "--rate",
        metavar="HZ",
        rich_help_panel=Panel.DEVICES,
        help="Sample rate of the device; the model's, where the device has it, if left out.",
    ),
]
BlockOption = Annotated[
    int | None,
    typer.Option(
        "--block",
        min=1,
        metavar="N",
        rich_help_panel=Panel.DEVICES,
        help="Samples per block of the device; one hop if left out.",
    ),
]
HearingOption = Annotated[
    Path | None,
    typer.Option(
        "--hearing",
        metavar="TOML",
        rich_help_panel=Panel.WEARER,
        help="Hearing file of the wearer: audiograms, limits and mix.",
    ),
]
AudiogramOption = Annotated[
    str,
    typer.Option(
        "--audiogram",
        metavar="HZ:DB,...",
        rich_help_panel=Panel.WEARER,
        help="Hearing thresholds: 500:30,1000:40 or LEFT / RIGHT.",
    ),
]
AmbientOption = Annotated[
    float | None,
    typer.Option(
        "--ambient-db",
        metavar="DB",
        rich_help_panel=Panel.WEARER,
        help="Level of the room beside the talker; no room if left out.",
    ),
]
OwnVoiceOption = Annotated[
    float | None,
    typer.Option(
        "--own-voice-db",
        metavar="DB",
        rich_help_panel=Panel.WEARER,
        help="Let the room in at this level while the wearer talks.",
    ),
]
AlarmOption = Annotated[
    float | None,
    typer.Option(
        "--alarm-db",
        metavar="DB",
        rich_help_panel=Panel.WEARER,
        help="Let the room in at this level while an alarm sounds. No safety device: it misses some.",
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="TOML",
        rich_help_panel=Panel.WEARER,
        help="Calibration file made by `edge-tse calibrate`.",
    ),
]
AnyEngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        rich_help_panel=Panel.ENGINE,
        autocompletion=engine_names,
        help="Runtime for the network, or `device` for a board.",
    ),
]
BoardOption = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="NAME",
        rich_help_panel=Panel.ENGINE,
        autocompletion=target_names,
        help="Board for --engine device.",
    ),
]
PortOption = Annotated[
    str | None,
    typer.Option("--port", metavar="P", rich_help_panel=Panel.ENGINE, help="Port of the board, as for `edge-tse board`."),
]
BaudOption = Annotated[
    int | None,
    typer.Option(
        "--baud",
        min=1,
        metavar="N",
        rich_help_panel=Panel.ENGINE,
        help="Rate of the serial port of a board, in baud; 115200 if left out.",
    ),
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
