"""The command line as a test calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer

from edge_tse.cli import VERBS
from edge_tse.cli.options import app

__all__ = ["Done", "Run", "options_of"]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Of a command that went well, its one object."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The one line of a user error."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("edge-tse: ")
        return self.err


Run = Callable[..., Done]


def options_of(verb: str) -> set[str]:
    """Options of a verb of the command."""
    for module in VERBS:
        import_module(module)
    group: Any = typer.main.get_command(app)
    return {name for parameter in group.commands[verb].params for name in parameter.opts}
