"""The verbs about the installation itself: doctor, completion."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.options import COMMAND, COMPLETION_VARIABLE, Json, Panel, app

__all__ = ["completion", "doctor"]


class Shell(StrEnum):
    """Shells that can complete the verbs, their options, and names of models, targets, engines and recipes."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_PLACES = {
    Shell.BASH: "~/.local/share/bash-completion/completions/edge-tse",
    Shell.ZSH: "a folder of $fpath, as _edge-tse",
    Shell.FISH: "~/.config/fish/completions/edge-tse.fish",
}
"""Where each shell looks for such a script."""


@app.command(rich_help_panel=Panel.INSTALLED)
def doctor(as_json: Json = False) -> None:
    """List the installed packages, the engines that really run here, and the commands that install the rest."""
    from edge_tse.cli.doctor import examine

    found = examine()
    output.result(found.figures(), as_json, *found.tables())


@app.command(rich_help_panel=Panel.INSTALLED)
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="Shell that the script is for.")], as_json: Json = False
) -> None:
    """Print the script that lets a shell complete this command: `edge-tse completion bash > FILE`."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # used as typer uses it itself

    script = get_completion_script(prog_name=COMMAND, complete_var=COMPLETION_VARIABLE, shell=shell)
    # Not through rich, which would fold and mark up a program.
    if as_json:
        output.result({"shell": shell, "script": script, "place": _PLACES[shell]}, as_json)
    else:
        sys.stdout.write(f"{script}\n")
