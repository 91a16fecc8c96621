"""The verbs that train, quantize and score; each imports its part of the laboratory, and with it PyTorch, when it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from edge_tse.cli import output
from edge_tse.cli.options import ArtifactOption, DataOption, EngineOption, Json, Panel, StepsOption, app, artifact_of, given_paths
from edge_tse.cli.recipes import ListsRecipes, ListsSchemes, recipe_names, scheme_names
from edge_tse.errors import DataError, EngineError
from edge_tse.install_line import install_line

if TYPE_CHECKING:
    from edge_tse.analysis import Moves
    from edge_tse.artifact import Artifact
    from edge_tse.hearing.prescription import Audiogram

__all__ = ["analyse", "analyse_checkpoint", "condition_tables", "evaluate", "quantize", "train", "trial_sounds"]

_Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0, help="Time after which training stops; the recipe's steps if left out.")
]
_Start = Annotated[
    Path | None,
    typer.Option("--start", metavar="CHECKPOINT", help="Run whose weights to begin with, also those of a smaller model."),
]
_Teacher = Annotated[
    Path | None, typer.Option("--teacher", metavar="CHECKPOINT", help="Checkpoint of a trained student to distil from.")
]
_Embeddings = Annotated[
    Path | None,
    typer.Option("--embeddings", metavar="DIR", help="Folder of another model's embeddings to train with: talker/utterance.npy."),
]
_Cut = Annotated[
    float | None,
    typer.Option(
        "--cut",
        min=0,
        metavar="MINUTES",
        help="Branch off --start, a run at a constant rate, and let the rate fall for this long.",
    ),
]
_Rate = Annotated[
    float | None, typer.Option("--rate", metavar="RATE", help="Learning rate instead of the recipe's, or of the run that goes on.")
]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the folder, bit for bit.")]
_Followed = Annotated[
    Path | None,
    typer.Option(
        "--teacher", metavar="CHECKPOINT", help="Teacher checkpoint for distilled recipes; CHECKPOINT itself if left out."
    ),
]
_Audiograms = Annotated[
    Path | None,
    typer.Option("--hearing", metavar="TOML", help="Audiograms for HASPI and HASQI, which take seconds per mixture."),
]
_ExamplesTo = Annotated[
    Path | None,
    typer.Option(
        "--examples", metavar="DIR", help="Folder for a page with sound and pictures of the worst, the median and the best."
    ),
]
_Workers = Annotated[int, typer.Option("--workers", "--jobs", min=1, metavar="N", help="Number of processes that share the work.")]
_Scheduler = Annotated[
    str,
    typer.Option("--scheduler", metavar="ADDRESS", help="Running Dask scheduler whose workers compute instead: tcp://host:8786."),
]


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports of a verb: ``EngineError`` with the extra to install if a package is missing."""
    try:
        yield
    except ModuleNotFoundError as failure:
        raise EngineError(f"{failure.name} is not installed, this verb needs it: {install_line(extra)}") from failure


@app.command(rich_help_panel=Panel.MAKE, cls=ListsRecipes)
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", autocompletion=recipe_names, help="Name of a recipe, one of those below.")
    ],
    run: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    data: DataOption,
    minutes: _Minutes = None,
    steps: StepsOption = None,
    start: _Start = None,
    teacher: _Teacher = None,
    rate: _Rate = None,
    embeddings: _Embeddings = None,
    cut: _Cut = None,
    resume: _Resume = False,
    as_json: Json = False,
) -> None:
    """Train a float model; Ctrl-C stops it cleanly."""
    speaks = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts, one
    with output.phases(as_json or not speaks) as watch:
        with needs("train"):
            from quantization.train import train as train_recipe
        checkpoint = train_recipe(
            recipe,
            run,
            data,
            minutes=minutes,
            steps=steps,
            start=start,
            teacher=teacher,
            rate=rate,
            embeddings=embeddings,
            cut=cut,
            resume=resume,
            watch=watch,
        )
    if speaks:
        output.result(
            {"checkpoint": checkpoint, "recipe": recipe}, as_json, f"{checkpoint}: continue with --resume, or quantize it"
        )


@app.command(rich_help_panel=Panel.MAKE, cls=ListsSchemes)
def quantize(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint made by `edge-tse train`.")],
    to: Annotated[Path, typer.Option("--output", "-o", metavar="ARTIFACT", help="Artifact to write.")],
    data: DataOption,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe", metavar="NAME", autocompletion=scheme_names, help="Recipe of quantization, one of the schemes below."
        ),
    ] = "w8a8",
    steps: StepsOption = None,
    teacher: _Followed = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a fine-tuning that was stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a checkpoint to int8 and freeze it into an artifact."""
    from edge_tse.files import check_output

    check_output(to, [checkpoint, *given_paths(teacher)])
    with output.phases(as_json) as watch:
        with needs("train"):
            from quantization.quantize import quantize as quantize_checkpoint
        model = quantize_checkpoint(checkpoint, recipe, to, data, steps=steps, teacher=teacher, resume=resume, watch=watch)
    figures = {"artifact": to, "digest": model.digest, "weight_bytes": model.graph.weight_bytes, "provenance": model.provenance}
    output.result(figures, as_json, f"{to}: {model.graph.weight_bytes} bytes of int8 weights, {model.digest[:12]}")


@app.command(rich_help_panel=Panel.MAKE)
def evaluate(
    trials: Annotated[
        Path,
        typer.Option("--trials", metavar="CSV", help="CSV with columns id, mixture, enrollment, target, interferer, condition."),
    ],
    to: Annotated[Path, typer.Option("--output", "-o", metavar="JSON", help="Report to write.")],
    artifact: ArtifactOption = None,
    engine: EngineOption = "litert",
    workers: _Workers = 1,
    scheduler: _Scheduler = "",
    hearing: _Audiograms = None,
    examples: _ExamplesTo = None,
    as_json: Json = False,
) -> None:
    """Score a list of mixtures: SI-SDR, PESQ, ESTOI, over-suppression and onsets per condition, and lost talkers.

    A run that was killed goes on where it was: finished mixtures are kept beside the report until that is written.
    """
    from edge_tse.files import check_output, write_bytes
    from edge_tse.report import to_json

    check_output(to, [trials, *given_paths(artifact, hearing)])
    if examples is not None and examples.exists() and not examples.is_dir():
        raise DataError(f"{examples} is a file, and examples go into a folder: choose another name for it")
    ears = None if hearing is None else _audiograms(hearing)
    model = artifact_of(artifact)
    with output.progress("evaluating", as_json) as tell:
        with needs("eval"):
            from quantization.evaluate import evaluate as evaluate_trials
            from quantization.workers import Workers
        check_output(to, trial_sounds(trials))
        journal = to.with_name(f"{to.name}.journal")
        who = Workers(count=workers, scheduler=scheduler)
        figures = evaluate_trials(trials, model, engine, tell, workers=who, ears=ears, journal=journal)
    write_bytes(to, (to_json(figures) + "\n").encode())
    journal.unlink(missing_ok=True)
    listen = [] if examples is None else [_examples(trials, figures, model, engine, examples, as_json)]
    output.result(figures, as_json, *condition_tables(figures), f"{to}: the whole report", *listen)


def _examples(trials: Path, figures: dict[str, Any], model: Artifact, engine: str, to: Path, as_json: bool) -> str:
    from edge_tse import demo as demonstration

    with needs("eval"):
        from quantization.examples import examples as choose_examples
    cases = choose_examples(trials, figures["items"])
    with output.progress("extracting examples", as_json) as tell:
        shown = demonstration.run(
            cases, model, lambda own: output.open_quietly(own, engine), to, tell, heading="What it does worst, and best"
        )
    return f"Open {shown.page} in a browser to listen."


def _audiograms(path: Path) -> tuple[Audiogram, Audiogram]:
    from edge_tse.errors import AudioError
    from edge_tse.hearing.chain import load_hearing

    wanted = load_hearing(path)
    if wanted.left is None or wanted.right is None:
        raise AudioError(f"{path} has no audiogram, HASPI and HASQI need one: add [both], or [left] and [right]")
    return wanted.left, wanted.right


def trial_sounds(trials: Path) -> list[Path]:
    """The sounds that a list of trials names, which no output may replace."""
    with needs("eval"):
        from quantization.trial_list import read_trials
    return [path for trial in read_trials(trials) for path in trial.sounds]


def analyse(trials: Path, artifact: Artifact, engine: str, progress: Callable[[float], None]) -> dict[str, dict[str, Moves]]:
    """Moves of each stage of the artifact, by condition."""
    with needs("eval"):
        from quantization.analyse import analyse as analyse_artifact
    return analyse_artifact(trials, artifact, engine, progress)


def analyse_checkpoint(trials: Path, checkpoint: Path, progress: Callable[[float], None]) -> dict[str, dict[str, Moves]]:
    """Moves of each stage of a float checkpoint, by condition."""
    with needs("train"):
        from quantization.float_analysis import analyse_checkpoint as analyse_float
    return analyse_float(trials, checkpoint, progress)


def condition_tables(figures: dict[str, Any]) -> list[Table]:
    """Tables of SI-SDR improvement in decibels, a row per condition and per kind of hard mixture; the report holds the rest."""
    table = Table(title="SI-SDR improvement, dB", title_justify="left", title_style="bold")
    for heading in ("condition", "n", "mean", "median", "p10", "p5", "below 0", "other talker", "onset"):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    for name, condition in figures["conditions"].items():
        onset = condition.get("onset_damping_db")
        cells = _gain_cells(condition.get("si_sdr_i"), condition.get("wrong_talker"))
        table.add_row(name, str(condition["n"]), *cells, _db(onset["median"] if onset else None))
    tables = [table]
    if figures.get("audiograms"):
        tables.append(_impaired_table(figures["conditions"]))
    for circumstance, classes in figures.get("tails", {}).items():
        table = Table(title=f"The same by {_CIRCUMSTANCES[circumstance]}", title_justify="left", title_style="bold")
        for heading in ("", "n", "mean", "median", "p10", "p5", "below 0", "other talker"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, found in classes.items():
            table.add_row(name, str(found["si_sdr_i"]["n"]), *_gain_cells(found["si_sdr_i"], found["wrong_talker"]))
        tables.append(table)
    return tables


def _impaired_table(conditions: dict[str, Any]) -> Table:
    table = Table(title="To ears with this audiogram, of 1: mixture → extracted", title_justify="left", title_style="bold")
    for heading in ("condition", "HASPI, intelligibility", "HASQI, quality"):
        table.add_column(heading, justify="left" if heading == "condition" else "right")
    for name, condition in conditions.items():
        pairs = [(condition.get(f"{index}_mixture"), condition.get(index)) for index in ("haspi", "hasqi")]
        table.add_row(name, *(f"{_db(before)} → {_db(after)}" for before, after in pairs))
    return table


_CIRCUMSTANCES = {
    "sir_db": "ratio of target to interferers, dB",
    "similarity": "likeness of the nearest interferer (cosine)",
    "sex": "sex of target and interferers",
}


def _gain_cells(scores: dict[str, float] | None, wrong_talker: float | None) -> list[str]:
    """Mean, median, p10, p5, share below 0, and share nearer to another talker."""
    gain = [_db((scores or {}).get(key)) for key in ("mean", "median", "p10", "p5")]
    return [*gain, _share((scores or {}).get("below_zero")), _share(wrong_talker)]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
