"""The verbs and their options. Everything heavier than argument types is imported inside the verb that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse import __version__
from edge_tse.cli import lab, output

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.prescription import Audiogram

__all__ = ["app"]

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
EngineOption = Annotated[str, typer.Option("--engine", metavar="NAME", help="What runs the network: see `edge-tse doctor`.")]
VoiceOption = Annotated[Path, typer.Option("--voice", metavar="FILE", help="Voice file made by `edge-tse enroll`.")]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, metavar="N", help="Steps in place of the recipe's.")]
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the speech corpus.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"edge-tse {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for sound, picture and page.")] = Path("demo"),
    mix: Annotated[Path | None, typer.Option("--mix", metavar="FILE", help="Your own mixture, with --enroll.")] = None,
    enroll_clip: Annotated[
        Path | None, typer.Option("--enroll", metavar="FILE", help="Your own enrollment clip, with --mix.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="The talker alone, if you have it: gives --mix an SI-SDR.")
    ] = None,
    artifact: ArtifactOption = None,
    engine: EngineOption = "litert",
    as_json: Json = False,
) -> None:
    """Enroll, extract hop by hop, and leave sound, a picture and a page to listen to."""
    from edge_tse import demo as demonstration

    cases = (
        demonstration.own_case(mix, enroll_clip, reference) if mix or enroll_clip or reference else demonstration.shipped_cases()
    )
    with output.progress("extracting", as_json) as tell:
        shown = demonstration.run(cases, _artifact(artifact), lambda personal: output.open_quietly(personal, engine), out, tell)
    for outcome in shown.outcomes:
        _warn_about(outcome.case.mixture.name, outcome.extraction.clipped_samples, silent=outcome.extraction.silent)
    tables = [output.table(outcome.case.title, outcome.rows()) for outcome in shown.outcomes]
    output.result(shown.figures(), as_json, *tables, f"Open {shown.page} in a browser to listen.")


@app.command()
def enroll(
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Voice file to write.")],
    clips: Annotated[
        list[Path] | None, typer.Argument(metavar="[CLIP...]", help="The talker alone, together 2 s of speech or more.")
    ] = None,
    record: Annotated[
        float | None, typer.Option("--record", min=2, metavar="S", help="Record this long by microphone, beside the clips if any.")
    ] = None,
    input_device: Annotated[str | None, typer.Option("--input", metavar="DEVICE", help="Microphone for --record.")] = None,
    scene: Annotated[
        bool, typer.Option("--scene", help="Others talk too, and both ears are recorded: take who is in front, looked at.")
    ] = False,
    embedding: Annotated[
        list[Path] | None,
        typer.Option("--embedding", metavar="FILE", help="In place of clips, if the model takes another's embeddings: .npy, .npz."),
    ] = None,
    artifact: ArtifactOption = None,
    as_json: Json = False,
) -> None:
    """Make a voice file from recordings of one talker, or by microphone."""
    from dataclasses import asdict, replace

    from edge_tse import audio
    from edge_tse.clip import CHANGING, assess, least_alike
    from edge_tse.enrollment import enroll_clips
    from edge_tse.errors import AudioError
    from edge_tse.files import check_output
    from edge_tse.voice import save_voice

    clips = clips or []
    if embedding:
        if clips or record is not None:
            raise AudioError("a voice is made of recordings or of --embedding, not of both: give one of them")
        _enroll_embeddings(embedding, to, artifact, as_json)
        return
    if not clips and record is None:
        raise AudioError("nothing to enroll from: give clips, or --record 10")
    check_output(to, [*clips, *_given(artifact)])
    model = _artifact(artifact).voice_model
    recordings = [(str(path), *audio.read(path)) for path in clips]
    if record is not None:
        from edge_tse.cli.measure import take_clip

        recordings.append(("microphone", *take_clip(model.frame, record, input_device, as_json, scene)))
    clipped = [audio.clipped_samples(signal) for _, signal, _ in recordings]
    shares = {}
    if scene:
        from edge_tse.scene import in_front

        for i, (name, signal, rate_hz) in enumerate(recordings):
            front = in_front(model.frame, signal, rate_hz, name)
            recordings[i] = (name, front.signal, model.frame.sample_rate_hz)
            shares[name] = front.share
    qualities = {
        name: replace(assess(model, signal, rate_hz), clipped_samples=count)
        for (name, signal, rate_hz), count in zip(recordings, clipped, strict=True)
    }
    # What is wrong with a take is said even if no voice comes of it; a file has another chance.
    for name in qualities if scene else [name for name in qualities if name == "microphone"]:
        for remark in qualities[name].remarks:
            output.warn(f"{name}: {remark}" if scene else remark)
    made = enroll_clips(model, recordings)
    for name in [] if scene else [name for name in qualities if name != "microphone"]:
        for remark in qualities[name].remarks:
            output.warn(f"{name}: {remark}")
    apart = least_alike(model, recordings)
    if apart is not None and apart[2] < CHANGING:
        output.warn(
            f"{apart[1]} and {apart[0]} are {apart[2]:.2f} alike, clips of one person {CHANGING:.2f} or more: enroll one person"
        )
    save_voice(made.voice, to)
    figures = {
        "voice": to,
        "clips": clips,
        "recorded_s": record,
        "speech_s": made.speech_s,
        "clipped_samples": sum(clipped),
        "front_share": shares or None,
        "least_alike": None if apart is None else apart[2],
        "quality": {name: asdict(quality) | {"score": quality.score} for name, quality in qualities.items()},
        "model": model.digest,
    }
    score = min(quality.score for quality in qualities.values())
    best = f"quality {score:.2f} of 1" + (" at worst" if len(qualities) > 1 else "")
    output.result(figures, as_json, f"{to}: a voice from {made.speech_s:.1f} s of speech in {made.voice.source}, {best}")


def _enroll_embeddings(files: list[Path], to: Path, artifact: Path | None, as_json: bool) -> None:
    from datetime import UTC, datetime

    from edge_tse.files import check_output
    from edge_tse.voice import save_voice, voice_from_embeddings

    check_output(to, [*files, *_given(artifact)])
    model = _artifact(artifact).voice_model
    save_voice(voice_from_embeddings(model, files, datetime.now(UTC).isoformat(timespec="seconds")), to)
    figures = {"voice": to, "embeddings": files, "size": model.size, "model": model.digest}
    output.result(figures, as_json, f"{to}: a voice from {len(files)} embeddings of {model.size} values")


@app.command()
def extract(
    mixture: Annotated[Path, typer.Argument(metavar="MIXTURE", help="Sound file, mono or left and right, any rate.")],
    voice: VoiceOption,
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Sound file to write: .wav or .flac.")],
    artifact: ArtifactOption = None,
    engine: EngineOption = "litert",
    no_trim: Annotated[bool, typer.Option("--no-trim", help="Keep the algorithmic latency that a live device has.")] = False,
    as_json: Json = False,
) -> None:
    """Write the enrolled talker alone, aligned with the mixture sample for sample."""
    from dataclasses import asdict

    import numpy as np

    from edge_tse import audio
    from edge_tse.condition import examine, full_scale_gain
    from edge_tse.engines import Engine
    from edge_tse.errors import AudioError
    from edge_tse.extract import extract as run
    from edge_tse.files import check_output
    from edge_tse.report import memory
    from edge_tse.voice import load_voice, personalize

    audio.check_format(to)
    check_output(to, [mixture, voice, *_given(artifact)], AudioError)
    signal, rate_hz = audio.read(mixture)
    model = personalize(_artifact(artifact), load_voice(voice))
    audio.check_ears(signal, model.frame.ears, str(mixture))
    condition, gain = examine(signal, rate_hz), full_scale_gain(signal)
    # A dead ear is no second one: its noise would be taken for where sound comes from.
    heard = signal if condition.dead_ear is None else signal[[1 - condition.dead_ear]]
    network = output.open_quietly(model, engine)
    with output.progress("extracting", as_json) as tell:
        got = run(heard * np.float32(gain), rate_hz, Engine(model, network), trim=not no_trim, name=str(mixture), progress=tell)
    out = np.repeat(got.signal, len(signal) // len(heard), axis=0)
    over = audio.write(to, out, rate_hz, inputs=[mixture])
    _warn_about(str(mixture), got.clipped_samples, silent=got.silent)
    if not got.silent:
        for remark in condition.remarks(model.frame.level_invariant):
            output.warn(f"{mixture}: {remark}")
    if condition.dead_ear is not None:
        output.warn(f"{mixture}: taken as mono, and the talker is written to both ears")
    if gain < 1:
        louder_db = -20 * np.log10(gain)
        output.warn(
            f"{mixture}: its floats reach {1 / gain:.2f}, {louder_db:.1f} dB over full scale; nothing is lost, it is taken, "
            f"and the talker written, {louder_db:.1f} dB quieter"
        )
    if over:
        output.warn(f"{to}: {over} samples were over full scale and are clipped: lower the level of the mixture")
    figures = {
        "output": to,
        "channels": out.shape[0],
        "rate_hz": rate_hz,
        "seconds": got.signal.shape[1] / rate_hz,
        "trimmed": not no_trim,
        "engine": network.name,
        "artifact": model.digest,
        "algorithmic_latency_ms": model.frame.algorithmic_latency_s * 1e3,
        "compute": got.timing.figures(),
        "memory": memory(),
        "input_clipped_samples": got.clipped_samples,
        "input_silent": got.silent,
        "input_gain": gain,
        "input_condition": {**asdict(condition), "dead_ear": condition.dead_ear, "inverted": condition.inverted},
        "output_clipped_samples": over,
    }
    rows = {
        "talker": f"{to} ({got.signal.shape[1] / rate_hz:.2f} s, {out.shape[0]} ch, {rate_hz} Hz)",
        "engine": network.name,
        **output.compute_rows(got.timing, model.frame),
    }
    output.result(figures, as_json, output.table("extracted", rows))


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Explain this one, or a file of yours (.toml).")] = None,
    as_json: Json = False,
) -> None:
    """List what a model can be compiled for and what this machine can do with each, or explain one."""
    from edge_tse import target as known
    from edge_tse.cli import targets as shown

    if name is not None:
        one = known.find_target(name)
        output.result(shown.figures(one), as_json, *shown.explained(one))
        return
    every = [known.load_target(each) for each in known.targets()]
    output.result({"targets": [shown.figures(each) for each in every]}, as_json, shown.listed(every))


@app.command(name="compile")
def compile_(
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="What it is for: a name of `edge-tse targets`, or a runtime: litert.")
    ],
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    artifact: ArtifactArgument = None,
    voice: Annotated[Path | None, typer.Option("--voice", metavar="FILE", help="Fold this voice in.")] = None,
    any_voice: Annotated[
        bool, typer.Option("--universal", help="Voices are an input of the file; --voice is what it is proved with.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write what a device loads, if the model fits and the file computes the golden integers."""
    from edge_tse.cli import profiles
    from edge_tse.cli import targets as shown
    from edge_tse.compilation import compile_for
    from edge_tse.files import check_output
    from edge_tse.target import find_target
    from edge_tse.universal import universal
    from edge_tse.voice import load_voice, personalize

    board = find_target(target)
    inputs = [*_given(artifact), *_given(voice), *([Path(target)] if target.endswith(".toml") else [])]
    check_output(to, inputs)
    model = _artifact(artifact)
    spoken = None if voice is None else load_voice(voice)
    if any_voice:
        model = universal(model, spoken)
    elif spoken is not None:
        model = personalize(model, spoken)
    fit = board.fits(model)
    if not fit.fits:
        output.result({"target": target, "artifact": model.digest, "fit": fit.figures()}, as_json, shown.fit_table(fit))
        fit.check()
    with output.quietly():
        made = compile_for(board, model, to, inputs)
    figures = {
        "output": to,
        "target": target,
        "runtime": board.runtime,
        "evidence": board.evidence,
        "kind": made.emitted.kind,
        "bytes": len(made.emitted.content),
        "weight_bytes": model.graph.weight_bytes,
        "state_bytes": model.graph.state_bytes,
        "macs_per_hop": model.graph.macs,
        "personalized": model.personalized,
        "voice_inputs": list(model.graph.voice),
        "artifact": model.digest,
        "fit": made.fit.figures(),
        "estimate": made.emitted.estimate,
        "replayed": {
            "engine": made.engine,
            "what": made.replayed,
            "frames": made.parity.frames,
            "worst_lsb": made.parity.worst_lsb,
            "mismatch_rate": made.parity.mismatch_rate,
        },
    }
    whose = "with the voice folded in" if model.personalized else "for no particular voice (give --voice)"
    if any_voice:
        whose = f"for every voice ({len(model.graph.voice)} inputs)"
    proved = f"{made.parity.frames} golden frames on {made.engine}: worst {made.parity.worst_lsb} LSB ({made.replayed})"
    line = f"{to}: {made.emitted.kind}, {len(made.emitted.content)} bytes for {target}, {whose}; {proved}"
    estimates = [] if made.emitted.estimate is None else [profiles.estimate_table(made.emitted.estimate)]
    output.result(figures, as_json, shown.fit_table(made.fit), *estimates, line)


@app.command()
def profile(
    artifact: ArtifactArgument = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME", help="What runs the network; litert if left out.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="The engine of this target, on this machine, and its fit.")
    ] = None,
    hops: Annotated[int, typer.Option("--hops", min=10, metavar="N", help="Steps to measure.")] = 2500,
    ears: Annotated[int, typer.Option("--ears", min=1, max=2, metavar="1|2", help="Channels.")] = 2,
    voice: Annotated[Path | None, typer.Option("--voice", metavar="FILE", help="Fold this voice in.")] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Report to write: .json, or .html to look at.")
    ] = None,
    against: Annotated[Path | None, typer.Option("--against", metavar="JSON", help="An earlier report to compare with.")] = None,
    as_json: Json = False,
) -> None:
    """Say where the time and memory of a step go, operator by operator."""
    from edge_tse.cli import profiles
    from edge_tse.files import check_output
    from edge_tse.voice import load_voice, personalize

    inputs = [*_given(artifact), *_given(voice), *_given(against)]
    if artifact is not None and artifact.suffix == ".toml":
        from edge_tse.cli.foreign import profile_foreign

        if to is not None:
            check_output(to, inputs)
        figures, shown = profile_foreign(artifact, hops, to)
        output.result(figures, as_json, shown)
        return
    asked = profiles.asked(engine, target, to)
    if to is not None:
        check_output(to, inputs)
    before = profiles.earlier(against)
    model = _artifact(artifact)
    if voice is not None:
        model = personalize(model, load_voice(voice))
    report = profiles.measure(model, asked, hops, ears, before)
    if to is not None:
        profiles.save(report, before, to)
    output.result(report, as_json, *profiles.tables(report), *([f"{to}: the whole report"] if to else []))


@app.command()
def verify(artifact: ArtifactArgument = None, engine: EngineOption = "litert", as_json: Json = False) -> None:
    """Replay the golden frames and compare integers; fails past the engine's stated tolerance."""
    from edge_tse import golden

    if artifact is not None and artifact.suffix == ".toml":
        from edge_tse.cli.foreign import verify_foreign

        figures, shown = verify_foreign(artifact)
        output.result(figures, as_json, shown)
        return
    model = _artifact(artifact)
    network = output.open_quietly(model, engine)
    parity = golden.verify(model, network)
    figures = {
        "engine": network.name,
        "artifact": model.digest,
        "frames": parity.frames,
        "worst_lsb": parity.worst_lsb,
        "mismatch_rate": parity.mismatch_rate,
        "outputs": {name: {"worst_lsb": w, "mismatch_rate": rate} for name, (w, rate) in parity.per_output.items()},
    }
    rows = {
        "engine": network.name,
        "frames": str(parity.frames),
        "worst difference": f"{parity.worst_lsb} LSB",
        "values that differ": f"{parity.mismatch_rate:.3%}",
    }
    output.result(figures, as_json, output.table(f"artifact {model.digest[:12]}", rows))


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe.")],
    run: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    data: DataOption,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Stop after this long; the recipe's steps if left out.")
    ] = None,
    steps: StepsOption = None,
    start: Annotated[
        Path | None,
        typer.Option("--start", metavar="CHECKPOINT", help="Begin with the weights of another run, also those of a smaller model."),
    ] = None,
    teacher: Annotated[Path | None, typer.Option("--teacher", metavar="CHECKPOINT", help="Distil from a trained student.")] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option("--embeddings", metavar="DIR", help="Another model's embeddings, talker/utterance.npy, to listen to."),
    ] = None,
    cut: Annotated[
        float | None,
        typer.Option(
            "--cut",
            min=0,
            metavar="MINUTES",
            help="Branch off --start, a run at a constant rate: let the rate fall for so long.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder, bit for bit.")] = False,
    as_json: Json = False,
) -> None:
    """Train a float model; Ctrl-C stops it cleanly."""
    with output.phases(as_json) as watch:
        checkpoint = lab.train(recipe, run, data, minutes, steps, start, teacher, embeddings, cut, resume, watch)
    output.result({"checkpoint": checkpoint, "recipe": recipe}, as_json, f"{checkpoint}: continue with --resume, or quantize it")


@app.command()
def quantize(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="What `edge-tse train` wrote.")],
    to: Annotated[Path, typer.Option("--output", "-o", metavar="ARTIFACT", help="Artifact to write.")],
    data: DataOption,
    recipe: Annotated[str, typer.Option("--recipe", metavar="NAME", help="How to quantize.")] = "w8a8",
    steps: StepsOption = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="CHECKPOINT", help="Whom a distilled recipe follows; CHECKPOINT itself if left out."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a fine-tuning that was stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a checkpoint to int8 and freeze it into an artifact."""
    from edge_tse.files import check_output

    check_output(to, [checkpoint, *_given(teacher)])
    with output.phases(as_json) as watch:
        model = lab.quantize(checkpoint, recipe, to, data, steps, teacher, resume, watch)
    figures = {"artifact": to, "digest": model.digest, "weight_bytes": model.graph.weight_bytes, "provenance": model.provenance}
    output.result(figures, as_json, f"{to}: {model.graph.weight_bytes} bytes of int8 weights, {model.digest[:12]}")


@app.command()
def evaluate(
    trials: Annotated[
        Path, typer.Option("--trials", metavar="CSV", help="Columns id, mixture, enrollment, target, interferer, condition.")
    ],
    to: Annotated[Path, typer.Option("--output", "-o", metavar="JSON", help="Report to write.")],
    artifact: ArtifactOption = None,
    engine: EngineOption = "litert",
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Processes that share the work.")] = 1,
    hearing: Annotated[
        Path | None,
        typer.Option("--hearing", metavar="TOML", help="Audiograms: adds HASPI and HASQI, which take seconds a mixture."),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples", metavar="DIR", help="A page there, with sound and pictures of the worst, the median and the best."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a list of mixtures: SI-SDR, PESQ, ESTOI, over-suppression and onsets per condition, and who is lost."""
    from edge_tse import demo as demonstration
    from edge_tse.files import check_output, write_bytes
    from edge_tse.report import to_json

    check_output(to, [trials, *_given(artifact), *_given(hearing)])
    ears = None if hearing is None else _audiograms(hearing)
    model = _artifact(artifact)
    with output.progress("evaluating", as_json) as tell:
        figures = lab.evaluate(trials, model, engine, jobs, tell, ears)
    write_bytes(to, (to_json(figures) + "\n").encode())
    listen = []
    if examples is not None:
        cases = lab.examples(trials, figures["items"])
        with output.progress("extracting examples", as_json) as tell:
            shown = demonstration.run(
                cases, model, lambda own: output.open_quietly(own, engine), examples, tell, heading="What it does worst, and best"
            )
        listen.append(f"Open {shown.page} in a browser to listen.")
    output.result(figures, as_json, *lab.condition_tables(figures), f"{to}: the whole report", *listen)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, which engines really run here, and how to get the rest."""
    from edge_tse.cli.doctor import examine

    found = examine()
    output.result(found.figures(), as_json, *found.tables())


def _artifact(path: Path | None) -> Artifact:
    from edge_tse.artifact import Artifact

    return Artifact.find(path)


def _audiograms(path: Path) -> tuple[Audiogram, Audiogram]:
    from edge_tse.errors import AudioError
    from edge_tse.hearing import load_hearing

    wanted = load_hearing(path)
    if wanted.left is None or wanted.right is None:
        raise AudioError(f"{path} has no audiogram, HASPI and HASQI need one: add [both], or [left] and [right]")
    return wanted.left, wanted.right


def _given(path: Path | None) -> list[Path]:
    return [] if path is None else [path]


def _warn_about(name: str, clipped: int, silent: bool = False) -> None:
    if clipped:
        output.warn(f"{name}: {clipped} samples are clipped; record at a lower level")
    if silent:
        output.warn(f"{name} is silent: there is nothing to extract")
