"""Verb ``analyse``: what each stage deletes and inserts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from edge_tse.analysis import Moves, title
from edge_tse.cli import lab, output
from edge_tse.cli.options import ArtifactOption, EngineOption, Json, Panel, app

__all__ = ["analyse"]


@app.command(rich_help_panel=Panel.MAKE)
def analyse(
    trials: Annotated[
        Path,
        typer.Option("--trials", metavar="CSV", help="CSV with columns id, mixture, enrollment, target, interferer, condition."),
    ],
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Picture to draw of the shares (.png).")] = None,
    artifact: ArtifactOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint", metavar="RUN", help="Float model in place of the artifact; one with a flow is analysed by step."
        ),
    ] = None,
    engine: EngineOption = "litert",
    as_json: Json = False,
) -> None:
    """Measure how much each stage deletes from the mixture and inserts, as shares of its energy."""
    from edge_tse.analysis_picture import moves_picture
    from edge_tse.artifact import Artifact
    from edge_tse.errors import DataError
    from edge_tse.files import check_output, write_bytes

    if artifact is not None and checkpoint is not None:
        raise DataError("--artifact and --checkpoint name two models: give one of them")
    if plot is not None:
        check_output(plot, [trials])
        check_output(plot, lab.trial_sounds(trials))
    with output.progress("analysing", as_json) as tell:
        if checkpoint is None:
            found = lab.analyse(trials, Artifact.find(artifact), engine, tell)
        else:
            found = lab.analyse_checkpoint(trials, checkpoint, tell)
    if plot is not None:
        write_bytes(plot, moves_picture(found))
    figures = {condition: {stage: _figures(moved) for stage, moved in stages.items()} for condition, stages in found.items()}
    output.result(figures, as_json, *(_table(condition, stages) for condition, stages in found.items()))


def _figures(moved: Moves) -> dict[str, float]:
    return {"deleted": moved.deleted, "inserted": moved.inserted, "insertion_share": moved.insertion_share}


def _table(condition: str, stages: dict[str, Moves]) -> Table:
    table = Table(title=condition, title_justify="left", title_style="bold")
    for heading in ("of the mixture's energy", "deleted", "inserted", "insertion of all that moved"):
        table.add_column(heading, justify="left" if heading.startswith("of") else "right")
    for stage, moved in stages.items():
        table.add_row(title(stage), f"{moved.deleted:.1%}", f"{moved.inserted:.1%}", f"{moved.insertion_share:.1%}")
    return table
