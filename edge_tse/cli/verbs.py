"""The everyday verbs: demo, enroll, extract, doctor. Anything heavier than argument types is imported inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.options import ArtifactOption, EngineOption, Json, VoiceOption, app, artifact_of, given_paths

if TYPE_CHECKING:
    from edge_tse.enrollment.quality import ClipQuality
    from edge_tse.enrollment.recordings import Clip, Judged
    from edge_tse.extract_file import Examined
    from edge_tse.frame import FrameSpec

__all__ = ["demo", "doctor", "enroll", "extract"]

_OwnMixture = Annotated[Path | None, typer.Option("--mix", metavar="FILE", help="Mixture to extract from, with --enroll.")]
_OwnClip = Annotated[Path | None, typer.Option("--enroll", metavar="FILE", help="Enrollment clip of the talker, with --mix.")]
_OwnReference = Annotated[
    Path | None, typer.Option("--reference", metavar="FILE", help="Recording of the talker alone, to state an SI-SDR for --mix.")
]
_Clips = Annotated[
    list[Path] | None, typer.Argument(metavar="[CLIP...]", help="Recordings of the talker alone, together 2 s of speech or more.")
]
_Seconds = Annotated[float | None, typer.Option("--record", min=2, metavar="S", help="Record a clip of this length by microphone.")]
_Microphone = Annotated[str | None, typer.Option("--input", metavar="DEVICE", help="Microphone for --record.")]
_Scene = Annotated[
    bool, typer.Option("--scene", help="Enroll the talker in front, out of recordings with two ears in which others talk too.")
]
_Embeddings = Annotated[
    list[Path] | None,
    typer.Option("--embedding", metavar="FILE", help="Embeddings in place of clips, for a model that takes another's: .npy, .npz."),
]
_Mixture = Annotated[
    Path, typer.Argument(metavar="MIXTURE", help="Sound file, mono or left and right, any rate; - is standard input.")
]
_Talker = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Sound file to write, .wav or .flac; - is standard output.")
]

_TAKE = "microphone"
"""Name of the recording that was made by microphone."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for sound, picture and page.")] = Path("demo"),
    mix: _OwnMixture = None,
    enroll_clip: _OwnClip = None,
    reference: _OwnReference = None,
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
        shown = demonstration.run(cases, artifact_of(artifact), lambda personal: output.open_quietly(personal, engine), out, tell)
    for outcome in shown.outcomes:
        _warn_about(outcome.case.mixture.name, outcome.extraction.clipped_samples, silent=outcome.extraction.silent)
    tables = [output.table(outcome.case.title, outcome.rows()) for outcome in shown.outcomes]
    output.result(shown.figures(), as_json, *tables, f"Open {shown.page} in a browser to listen.")


@app.command()
def enroll(
    to: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Voice file to write.")],
    clips: _Clips = None,
    record: _Seconds = None,
    input_device: _Microphone = None,
    scene: _Scene = False,
    embedding: _Embeddings = None,
    artifact: ArtifactOption = None,
    as_json: Json = False,
) -> None:
    """Make a voice file from recordings of one talker, or by microphone."""
    from edge_tse import audio
    from edge_tse.enrollment.recordings import enroll_judged, load_clip
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
    check_output(to, [*clips, *given_paths(artifact)])
    model = artifact_of(artifact).voice_model
    recordings = [_clip(path, model.frame) for path in clips]
    if record is not None:
        from edge_tse.cli.sound import take_clip

        take = audio.Held(*take_clip(model.frame, record, input_device, as_json, scene), _TAKE)
        recordings.append(load_clip(take, model.frame))
    judged = enroll_judged(model, recordings, scene=scene, tell=lambda name, quality: _remark_on_take(name, quality, scene))
    _remark_on(judged, clips=not scene)
    save_voice(judged.enrollment.voice, to)
    figures = {"voice": to, "clips": clips, "recorded_s": record, **judged.figures(), "encoder": model.encoder_digest}
    output.result(figures, as_json, f"{to}: {judged.summary}")


def _clip(path: Path, frame: FrameSpec) -> Clip:
    """A clip from a file or from standard input."""
    from edge_tse.cli.standard import incoming
    from edge_tse.enrollment.recordings import load_clip

    with incoming(path) as sound:
        return load_clip(sound, frame)


def _remark_on_take(name: str, quality: ClipQuality, scene: bool) -> None:
    """Warn about a scene or a take even if no voice comes of it; a file can be given again."""
    for remark in quality.remarks if scene or name == _TAKE else ():
        output.warn(f"{name}: {remark}" if scene else remark)


def _remark_on(judged: Judged, clips: bool) -> None:
    """Warn about files, and about all recordings together."""
    for name, quality in judged.qualities.items() if clips else ():
        for remark in quality.remarks if name != _TAKE else ():
            output.warn(f"{name}: {remark}")
    if judged.doubt:
        output.warn(judged.doubt)


def _enroll_embeddings(files: list[Path], to: Path, artifact: Path | None, as_json: bool) -> None:
    from datetime import UTC, datetime

    from edge_tse.files import check_output
    from edge_tse.voice import save_voice, voice_from_embeddings

    check_output(to, [*files, *given_paths(artifact)])
    model = artifact_of(artifact).voice_model
    save_voice(voice_from_embeddings(model, files, datetime.now(UTC).isoformat(timespec="seconds")), to)
    figures = {"voice": to, "embeddings": files, "size": model.size, "encoder": model.encoder_digest}
    output.result(figures, as_json, f"{to}: a voice from {len(files)} embeddings of {model.size} values")


@app.command()
def extract(
    mixture: _Mixture,
    voice: VoiceOption,
    to: _Talker,
    artifact: ArtifactOption = None,
    engine: EngineOption = "litert",
    no_trim: Annotated[bool, typer.Option("--no-trim", help="Keep the algorithmic latency that a live device has.")] = False,
    as_json: Json = False,
) -> None:
    """Write the enrolled talker alone, aligned with the mixture sample for sample."""
    from edge_tse import audio
    from edge_tse.cli.standard import STANDARD, incoming, outgoing
    from edge_tse.engines import Engine
    from edge_tse.errors import AudioError
    from edge_tse.extract_file import extract_file
    from edge_tse.files import check_output
    from edge_tse.personalization import personalize
    from edge_tse.voice import load_voice

    if to != STANDARD:
        audio.check_format(to)
        check_output(to, [mixture, voice, *given_paths(artifact)], AudioError)
    with outgoing(to, as_json) as written, incoming(mixture) as recording:
        model = personalize(artifact_of(artifact), load_voice(voice))
        network = output.open_quietly(model, engine)
        with output.progress("extracting", as_json) as tell:
            got = extract_file(recording, written, Engine(model, network), trim=not no_trim, progress=tell, inputs=[mixture])
    _remark_on_mixture(got, recording.name, to, model.frame.level_invariant)
    known = {"output": to, "trimmed": not no_trim, "engine": network.name, "artifact": model.digest}
    rows = {
        "talker": f"{to} ({got.seconds:.2f} s, {got.channels} ch, {got.rate_hz} Hz)",
        "engine": network.name,
        **output.compute_rows(got.timing, model.frame),
    }
    figures = {**known, **got.figures(model.frame), "output_clipped_samples": got.clipped_output}
    if to != STANDARD:
        output.result(figures, as_json, output.table("extracted", rows))


def _remark_on_mixture(got: Examined, name: str, to: Path, level_invariant: bool) -> None:
    """Warn about a mixture, and about the talker that was extracted from it."""
    _warn_about(name, got.clipped_samples, silent=got.silent)
    for remark in got.remarks(level_invariant):
        output.warn(f"{name}: {remark}")
    if got.clipped_output:
        output.warn(f"{to}: {got.clipped_output} samples were over full scale and are clipped: lower the level of the mixture")


@app.command()
def doctor(as_json: Json = False) -> None:
    """List the installed packages, the engines that really run here, and the commands that install the rest."""
    from edge_tse.cli.doctor import examine

    found = examine()
    output.result(found.figures(), as_json, *found.tables())


def _warn_about(name: str, clipped: int, silent: bool = False) -> None:
    if clipped:
        output.warn(f"{name}: {clipped} samples are clipped; record at a lower level")
    if silent:
        output.warn(f"{name} is silent: there is nothing to extract")
