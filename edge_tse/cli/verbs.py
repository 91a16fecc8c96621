"""The everyday verbs: demo, enroll, extract. Anything heavier than argument types is imported inside the verb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.options import (
    AmbientOption,
    ArtifactOption,
    EngineOption,
    Json,
    Panel,
    TraceOption,
    VoiceOption,
    app,
    artifact_of,
    given_paths,
)

if TYPE_CHECKING:
    from edge_tse.enrollment.quality import ClipQuality
    from edge_tse.enrollment.recordings import Clip, Judged
    from edge_tse.frame import FrameSpec

__all__ = ["demo", "enroll", "extract"]

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
_Against = Annotated[
    list[Path] | None,
    typer.Option(
        "--against", metavar="FILE", help="Voice of somebody who may talk, too: how alike are they, and what does it cost?"
    ),
]
_ListedFolder = Annotated[
    Path | None, typer.Option("--list", metavar="DIR", help="List the voice files of a folder: date, speech, encoder, models.")
]
_Mixtures = Annotated[
    list[Path],
    typer.Argument(
        metavar="MIXTURE...", help="Sound files and folders of them, mono or left and right, any rate; - is standard input."
    ),
]
_Talker = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Sound file to write, .wav or .flac, or a folder for several; - is standard output."
    ),
]
_Strength = Annotated[
    float | None,
    typer.Option(
        "--strength", metavar="S", help="From 0, the mixture, to 1, the talker alone (the default): the rest falls to 1 - S."
    ),
]

_TAKE = "microphone"
"""Name of the recording that was made by microphone."""


@app.command(rich_help_panel=Panel.HEAR)
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
        output.warn_of_mixture(outcome.case.mixture.name, outcome.extraction.clipped_samples, silent=outcome.extraction.silent)
    tables = [output.table(outcome.case.title, outcome.rows()) for outcome in shown.outcomes]
    output.result(shown.figures(), as_json, *tables, f"Open {shown.page} in a browser to listen.")


@app.command(rich_help_panel=Panel.HEAR)
def enroll(
    clips: _Clips = None,
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Voice file to write.")] = None,
    listed: _ListedFolder = None,
    record: _Seconds = None,
    input_device: _Microphone = None,
    scene: _Scene = False,
    embedding: _Embeddings = None,
    against: _Against = None,
    artifact: ArtifactOption = None,
    as_json: Json = False,
) -> None:
    """Make a voice file from recordings of one talker, or by microphone; or list the voices there are."""
    from edge_tse.errors import AudioError

    clips = clips or []
    if listed is not None:
        if clips or scene or embedding or against or any(each is not None for each in (record, to, input_device, artifact)):
            raise AudioError("--list makes no voice: give it a folder and nothing else")
        _list_voices(listed, as_json)
        return
    if to is None:
        raise AudioError("there is no name for the voice: give -o alice.voice")
    if input_device is not None and record is None:
        raise AudioError(f"--input {input_device} is the microphone for --record, which was not given: add --record 10")
    if embedding:
        if clips or scene or against or record is not None:
            raise AudioError("a voice is made of recordings (and compared --against others) or of --embedding: give one of them")
        _enroll_embeddings(embedding, to, artifact, as_json)
        return
    if not clips and record is None:
        raise AudioError("nothing to enroll from: give clips, or --record 10")
    take = None if record is None else (record, input_device)
    _enroll_recordings(clips, take, to, against or [], artifact, scene=scene, as_json=as_json)


def _enroll_recordings(
    clips: list[Path],
    take: tuple[float, str | None] | None,
    to: Path,
    against: list[Path],
    artifact: Path | None,
    *,
    scene: bool,
    as_json: bool,
) -> None:
    """Enroll from clips and from a ``take`` of so many seconds by a microphone."""
    from edge_tse.audio import SUFFIXES
    from edge_tse.cli.standard import STANDARD
    from edge_tse.cli.voices import like_pairs, read_voices
    from edge_tse.enrollment.recordings import LONGEST_S, enroll_judged
    from edge_tse.errors import AudioError
    from edge_tse.files import check_output
    from edge_tse.voice import save_voice

    if take is not None and take[0] > LONGEST_S:
        raise AudioError(f"--record {take[0]:g}: a voice is made of recordings of at most {LONGEST_S:.0f} s, 15 are enough")
    check_output(to, [*clips, *against, *given_paths(artifact)])
    if to == STANDARD or to.suffix.lower() in SUFFIXES:
        raise AudioError(f"-o {to} names sound, and a voice is a file that holds none: give -o alice.voice")
    universal = artifact_of(artifact)
    model = universal.voice_model
    recordings = [_clip(path, model.frame) for path in clips]
    if take is not None:
        recordings.append(_take(model.frame, *take, as_json, scene))
    others = read_voices(against, model)
    judged = enroll_judged(model, recordings, scene=scene, tell=lambda name, quality: _remark_on_take(name, quality, scene))
    _remark_on(judged, clips=not scene)
    save_voice(judged.enrollment.voice, to)
    alike = like_pairs(universal, {str(to): judged.enrollment.voice, **others}, of=str(to))
    known = {"voice": to, "clips": clips, "recorded_s": take and take[0], **judged.figures(), "encoder": model.encoder_digest}
    figures = {**known, "likeness": [pair.figures() for pair in alike]}
    output.result(figures, as_json, f"{to}: {judged.summary}", *(pair.said for pair in alike))


def _list_voices(folder: Path, as_json: bool) -> None:
    from edge_tse.enrollment.voice_file import list_voices

    found, refused = list_voices(folder)
    for failure in refused.values():
        output.warn(failure)
    rows = {
        each.path.name: f"{each.voice.created}, speech {each.speech}, encoder {each.encoder}, from {each.voice.source}"
        for each in found
    }
    figures = {"folder": folder, "voices": [each.figures() for each in found], "refused": refused}
    shown = output.table(f"voices in {folder}: {len(found)}", rows) if found else f"{folder}: no voices"
    output.result(figures, as_json, shown)


def _clip(path: Path, frame: FrameSpec) -> Clip:
    """A clip from a file or from standard input."""
    from edge_tse.cli.standard import incoming
    from edge_tse.enrollment.recordings import load_clip

    with incoming(path) as sound:
        return load_clip(sound, frame)


def _take(frame: FrameSpec, seconds: float, microphone: str | None, as_json: bool, scene: bool) -> Clip:
    """A clip that is recorded now."""
    from edge_tse import audio
    from edge_tse.cli.sound import take_clip
    from edge_tse.enrollment.recordings import load_clip

    return load_clip(audio.Held(*take_clip(frame, seconds, microphone, as_json, scene), _TAKE), frame)


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


@app.command(rich_help_panel=Panel.HEAR)
def extract(
    mixtures: _Mixtures,
    voice: VoiceOption,
    to: _Talker,
    artifact: ArtifactOption = None,
    engine: EngineOption = "litert",
    strength: _Strength = None,
    ambient_db: AmbientOption = None,
    no_trim: Annotated[bool, typer.Option("--no-trim", help="Keep the algorithmic latency that a live device has.")] = False,
    trace: TraceOption = None,
    as_json: Json = False,
) -> None:
    """Write the enrolled talker alone, aligned with the mixture sample for sample; of several files, or folders, into a folder."""
    from edge_tse.cli.extraction import Asked, extract_one, extract_several

    asked = Asked.of(voice, artifact, engine, strength, ambient_db, trim=not no_trim, trace=trace)
    if len(mixtures) == 1 and not mixtures[0].is_dir() and not to.is_dir():
        extract_one(mixtures[0], to, asked, as_json)
    else:
        extract_several(mixtures, to, asked, as_json)
