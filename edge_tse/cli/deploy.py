"""The verbs that bring a model to a target: targets, compile, profile, verify."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_tse.cli import output
from edge_tse.cli.options import (
    ArtifactArgument,
    Json,
    Panel,
    TraceOption,
    app,
    artifact_of,
    engine_names,
    given_paths,
    model_names,
    target_names,
)

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.deployment.compiled_file import CompiledFile
    from edge_tse.deployment.target import Target

__all__ = ["compile_", "profile", "targets", "verify"]

_For = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="NAME",
        autocompletion=target_names,
        help="Target to compile for: a name of `edge-tse targets`, or a runtime such as litert.",
    ),
]
_Folded = Annotated[Path | None, typer.Option("--voice", metavar="FILE", help="Voice file to fold into the model.")]
_Universal = Annotated[bool, typer.Option("--universal", help="Make the voice a model input; --voice is used for the check.")]
_Bill = Annotated[
    Path | None,
    typer.Option("--sbom", metavar="FILE", help="Bill of materials to write (CycloneDX, JSON); native-c and plugin."),
]
_Patch = Annotated[
    Path | None,
    typer.Option(
        "--patch", metavar="FILE", help="Voice patch to write (.etsv); --voice is not folded in then. native-c and plugin."
    ),
]
_Checked = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        autocompletion=model_names,
        help="A model, the name of a shipped one (`small` if left out), a file that `compile` wrote, or the .toml of another's.",
    ),
]
_Runs = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        autocompletion=engine_names,
        help="Runtime for the network; that of a compiled file, litert else.",
    ),
]
_EngineOf = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="NAME", autocompletion=target_names, help="Target whose engine runs here and whose fit is stated."
    ),
]
_Hops = Annotated[int, typer.Option("--hops", min=10, metavar="N", help="Number of steps to measure.")]
_Ears = Annotated[int, typer.Option("--ears", min=1, max=2, metavar="1|2", help="Number of channels, 1 or 2.")]
_Report = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Report to write: .json, or .html to look at.")
]
_Earlier = Annotated[Path | None, typer.Option("--against", metavar="JSON", help="Earlier report to compare with (.json).")]
_Describe = Annotated[bool, typer.Option("--describe", help="Write a first description (.toml) of another's .onnx or .tflite.")]


@app.command(rich_help_panel=Panel.DEPLOY)
def targets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=target_names, help="Target to explain: a name, or a file of yours (.toml)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the targets and what this machine can do with each, or explain one."""
    from edge_tse.cli import targets as shown
    from edge_tse.deployment import target as known

    if name is not None:
        one = known.find_target(name)
        output.result(shown.figures(one), as_json, *shown.explain(one))
        return
    every = [known.load_target(each) for each in known.targets()]
    output.result({"targets": [shown.figures(each) for each in every]}, as_json, shown.list_targets(every))


@app.command(name="compile", rich_help_panel=Panel.DEPLOY)
def compile_(
    target: _For,
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    artifact: ArtifactArgument = None,
    voice: _Folded = None,
    any_voice: _Universal = False,
    bill: _Bill = None,
    patch: _Patch = None,
    as_json: Json = False,
) -> None:
    """Write the file that a device loads, if the model fits and the file computes the golden integers."""
    from edge_tse.cli import profiles
    from edge_tse.cli import targets as shown
    from edge_tse.deployment.compilation import check_suffix, compile_for
    from edge_tse.deployment.compiled_file import record_path
    from edge_tse.deployment.fit import fits, require_fit
    from edge_tse.deployment.target import find_target
    from edge_tse.files import check_outputs, write_bytes

    board = find_target(target)
    inputs = [*given_paths(artifact, voice), *([Path(target)] if target.endswith(".toml") else [])]
    check_outputs([to, record_path(to), *given_paths(bill, patch)], inputs)
    check_suffix(board, to)
    model = _model(artifact, None if patch else voice, any_voice=any_voice)
    content = None if patch is None else _patch_of(board, model, voice, patch)
    fit = fits(board, model)
    if not fit.fits:
        output.result({"target": target, "artifact": model.digest, "fit": fit.figures()}, as_json, shown.fit_table(fit))
        require_fit(board, model)
    with output.steps(as_json) as tell, output.quietly():
        made = compile_for(board, model, to, inputs, bill=bill, tell=tell)
    written = []
    if patch is not None and content is not None:
        write_bytes(patch, content, private=True)
        written = [f"{patch}: the voice patch for it, {len(content)} bytes"]
    estimates = [] if made.emitted.estimate is None else [profiles.estimate_table(made.emitted.estimate)]
    figures = {**made.figures(), "target": target, "sbom": bill, "patch": patch}
    output.result(figures, as_json, shown.fit_table(made.fit), *estimates, made.summary(target), *written)


@app.command(rich_help_panel=Panel.DEPLOY)
def profile(
    artifact: _Checked = None,
    engine: _Runs = None,
    target: _EngineOf = None,
    hops: _Hops = 2500,
    ears: _Ears = 2,
    voice: _Folded = None,
    to: _Report = None,
    against: _Earlier = None,
    trace: TraceOption = None,
    describe: _Describe = False,
    as_json: Json = False,
) -> None:
    """Measure the time and memory of a step, operator by operator."""
    from edge_tse.cli import foreign, profiles
    from edge_tse.deployment.compiled_file import find_compiled
    from edge_tse.files import check_outputs
    from edge_tse.profiling import measurement
    from edge_tse.profiling.profile import load_profile

    inputs = given_paths(artifact, voice, against)
    if describe:
        _describe(artifact, as_json)
        return
    check_outputs(given_paths(to, trace), inputs)
    compiled = find_compiled(artifact)
    if compiled is None and foreign.described(artifact):
        assert artifact is not None
        others = {"--engine": engine, "--target": target, "--voice": voice, "--against": against, "--trace": trace}
        _profile_foreign(artifact, hops, to, others, as_json)
        return
    if compiled is not None:
        engine = _engine_of(compiled, engine, target, voice)
    asked = measurement.subject(engine, target, to)
    before = None if against is None else load_profile(against)
    model, loading = measurement.load(artifact, voice) if compiled is None else (compiled.artifact, None)
    content = None if compiled is None else compiled.content
    report = measurement.measure(
        model, asked, hops, ears, before, content=content, quiet=output.quietly, loading=loading, trace=trace
    )
    if to is not None:
        measurement.save(report, before, to)
    output.result(report, as_json, *profiles.tables(report), *_written(to, trace, report))


def _patch_of(board: Target, model: Artifact, voice: Path | None, patch: Path) -> bytes:
    """The voice patch to write beside a compiled model. ``TargetError`` if there is no voice."""
    from edge_tse.deployment.compilation import patch_for
    from edge_tse.errors import TargetError
    from edge_tse.voice import load_voice

    if voice is None:
        raise TargetError(f"{patch} would be the patch of a voice: give --voice FILE")
    return patch_for(board, model, load_voice(voice))


def _profile_foreign(artifact: Path, hops: int, to: Path | None, others: Mapping[str, object], as_json: bool) -> None:
    from edge_tse.cli import foreign

    _refuse_for_foreign(others)
    figures, shown = foreign.profile_foreign(artifact, hops, to)
    output.result(figures, as_json, shown)


def _refuse_for_foreign(options: Mapping[str, object]) -> None:
    """``DataError`` for an option that was given and means nothing for a model of others."""
    from edge_tse.errors import DataError

    for name, value in options.items():
        if value is not None:
            raise DataError(
                f"{name} {value} is for models of edge-tse, a model of others runs as it describes itself: leave it out"
            )


def _written(to: Path | None, trace: Path | None, report: Mapping[str, Any]) -> list[str]:
    """Lines about the files that a profile left."""
    lines = [] if to is None else [f"{to}: the whole report"]
    if trace is not None:
        told = report["figures"]["trace"]
        lines.append(
            f"{trace}: {told['steps']} steps for https://ui.perfetto.dev; p50 {told['step_p50_us']:.1f} us while they were noted, "
            f"{told['untraced_step_p50_us']:.1f} us in the figures above"
        )
    return lines


@app.command(rich_help_panel=Panel.DEPLOY)
def verify(artifact: _Checked = None, engine: _Runs = None, as_json: Json = False) -> None:
    """Replay the golden frames and compare integers; fails past the engine's stated tolerance."""
    from edge_tse import artifact as artifacts
    from edge_tse.cli import foreign
    from edge_tse.deployment.compiled_file import find_compiled

    compiled = find_compiled(artifact)
    if compiled is None and foreign.described(artifact):
        assert artifact is not None
        _refuse_for_foreign({"--engine": engine})
        figures, shown = foreign.verify_foreign(artifact)
        output.result(figures, as_json, shown)
        return
    with ExitStack() as opened:
        if compiled is None:
            model, network = (loaded := artifact_of(artifact)), output.open_quietly(loaded, engine or "litert")
        else:
            with output.quietly():
                model, network = compiled.artifact, opened.enter_context(compiled.open(engine))
        parity = artifacts.verify(model, network)
    rows = {
        "engine": network.name,
        "frames": str(parity.frames),
        "worst difference": f"{parity.worst_lsb} LSB",
        "values that differ": f"{parity.mismatch_rate:.3%}",
    }
    what = f"artifact {model.digest[:12]}"
    if compiled is not None:
        what = f"{compiled.path}, compiled for {compiled.target.name} from {what}"
    figures = {"engine": network.name, "artifact": model.digest, "compiled": compiled and compiled.path, **parity.figures()}
    output.result(figures, as_json, output.table(what, rows))


def _engine_of(compiled: CompiledFile, engine: str | None, target: str | None, voice: Path | None) -> str:
    """Engine that times a compiled file. ``EngineError`` or ``TargetError`` if the options ask for what it is not."""
    from edge_tse.errors import TargetError

    if target is not None or voice is not None:
        raise TargetError(f"{compiled.path} is compiled, target and voice are in it: leave --target and --voice out")
    compiled.check_engine(engine)
    compiled.check_timed()
    return engine or compiled.engine


def _describe(model: Path | None, as_json: bool) -> None:
    """Write a first description of a model of others, and say where."""
    from edge_tse.cli import foreign
    from edge_tse.errors import DataError

    if model is None:
        raise DataError("--describe is for a model of others, none was given: give its .onnx or .tflite")
    to, said = foreign.describe(model)
    output.result({"description": to}, as_json, said)


def _model(artifact: Path | None, voice: Path | None, *, any_voice: bool = False) -> Artifact:
    """The model: personalized if there is a voice, or in its universal form."""
    from edge_tse.personalization import personalize, universal
    from edge_tse.voice import load_voice

    model = artifact_of(artifact)
    spoken = None if voice is None else load_voice(voice)
    if any_voice:
        return universal(model, spoken)
    return model if spoken is None else personalize(model, spoken)
