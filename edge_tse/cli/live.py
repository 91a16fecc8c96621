"""The verbs that listen: devices, live."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from edge_tse.cli import output
from edge_tse.cli.options import (
    AlarmOption,
    AmbientOption,
    AnyEngineOption,
    ArtifactOption,
    AudiogramOption,
    BaudOption,
    BlockOption,
    BoardOption,
    CalibrationOption,
    ChannelsOption,
    HearingOption,
    InputOption,
    Json,
    OutputOption,
    OwnVoiceOption,
    Panel,
    PortOption,
    RateOption,
    TraceOption,
    app,
    artifact_of,
    given_paths,
)
from edge_tse.cli.sound import Opened, engine_for, until_interrupted, wire_ears
from edge_tse.files import check_outputs

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.hearing.calibration import Calibration
    from edge_tse.hearing.chain import Hearing
    from edge_tse.live.console import Console
    from edge_tse.live.devices import Wiring
    from edge_tse.live.links import Links
    from edge_tse.live.running import Finished
    from edge_tse.voice import Voice

__all__ = ["devices", "live"]

_Voices = Annotated[
    list[Path],
    typer.Option("--voice", metavar="FILE", help="Voice file made by `edge-tse enroll`; several, to switch between while it runs."),
]
_Presets = Annotated[
    Path | None,
    typer.Option("--presets", metavar="TOML", rich_help_panel=Panel.STEERING, help="Named settings to switch to while it runs."),
]
_Control = Annotated[
    Path | None,
    typer.Option(
        "--control",
        metavar="SOCKET",
        rich_help_panel=Panel.STEERING,
        help="Unix socket on which programs steer the session, JSON lines.",
    ),
]
_Margin = Annotated[
    float,
    typer.Option(
        "--margin-ms", metavar="MS", rich_help_panel=Panel.ENGINE, help="Time that a hop may be late before it is heard, in ms."
    ),
]
_Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0, metavar="S", help="Length of the session; until Ctrl-C if left out.")
]
_Recording = Annotated[
    Path | None,
    typer.Option(
        "--record",
        metavar="FLAC",
        rich_help_panel=Panel.RECORD,
        help="File to record the session to, for `edge-tse replay` (.flac).",
    ),
]
_WithVoice = Annotated[
    bool,
    typer.Option(
        "--with-voice",
        rich_help_panel=Panel.RECORD,
        help="Put the voice into the recording, which otherwise names it by its digest.",
    ),
]
_Loudest = Annotated[
    float | None,
    typer.Option("--max-output", metavar="DB", rich_help_panel=Panel.WEARER, help="Loudest output in dB SPL; 100 if left out."),
]
_Page = Annotated[
    Path | None,
    typer.Option("--report", metavar="HTML", rich_help_panel=Panel.RECORD, help="Page to write with timing and events."),
]
_Links = Annotated[
    list[str] | None,
    typer.Option(
        "--link",
        metavar="EAR=PORT",
        rich_help_panel=Panel.DEVICES,
        help="Ear that sends over a link of its own: left=PORT and right=PORT, with tcp://HOST:PORT, udp://HOST:PORT "
        "or a --port of `edge-tse board`, in place of --input; --output may then be `none`.",
    ),
]
_LinkBuffer = Annotated[
    float,
    typer.Option("--link-buffer-ms", metavar="MS", rich_help_panel=Panel.DEVICES, help="Time that a packet may be late, in ms."),
]
_Core = Annotated[
    int | None,
    typer.Option("--core", min=0, metavar="N", rich_help_panel=Panel.ENGINE, help="Keep the engine on this processor core."),
]
_Realtime = Annotated[bool, typer.Option("--realtime", rich_help_panel=Panel.ENGINE, help="Ask the system for real-time priority.")]


@app.command(rich_help_panel=Panel.WEAR)
def devices(as_json: Json = False) -> None:
    """List sound devices with their channels, rates and latencies."""
    from rich.table import Table

    from edge_tse.live import devices as capture

    found = capture.devices()
    shown = Table(title="sound devices", title_justify="left", title_style="bold")
    for heading in ("number", "name", "system", "in", "out", "rate", "latency in / out"):
        shown.add_column(heading, justify="right" if heading in {"number", "in", "out", "rate"} else "left")
    for each in found:
        chosen = " (default)" if each.default_input or each.default_output else ""
        latency = f"{each.input_latency_s * 1e3:.1f} / {each.output_latency_s * 1e3:.1f} ms"
        channels = (str(each.inputs), str(each.outputs))
        shown.add_row(str(each.index), each.name + chosen, each.host, *channels, f"{each.rate_hz} Hz", latency)
    nothing = "There is no sound device here: connect one, or start a sound server."
    output.result({"devices": [asdict(each) for each in found]}, as_json, shown if found else nothing)


@app.command(rich_help_panel=Panel.WEAR)
def live(
    voice: _Voices,
    input_device: InputOption = None,
    output_device: OutputOption = None,
    link: _Links = None,
    link_buffer_ms: _LinkBuffer = 10.0,
    channels: ChannelsOption = "",
    rate: RateOption = None,
    block: BlockOption = None,
    margin_ms: _Margin = 4.0,
    seconds: _Seconds = None,
    record: _Recording = None,
    with_voice: _WithVoice = False,
    hearing: HearingOption = None,
    audiogram: AudiogramOption = "",
    ambient_db: AmbientOption = None,
    own_voice_db: OwnVoiceOption = None,
    alarm_db: AlarmOption = None,
    max_output: _Loudest = None,
    calibration: CalibrationOption = None,
    presets: _Presets = None,
    control: _Control = None,
    report: _Page = None,
    trace: TraceOption = None,
    core: _Core = None,
    realtime: _Realtime = False,
    artifact: ArtifactOption = None,
    engine: AnyEngineOption = "litert",
    target: BoardOption = "",
    port: PortOption = None,
    baud: BaudOption = None,
    as_json: Json = False,
) -> None:
    """Play the enrolled talker into the ears, live."""
    check_outputs(given_paths(record, report, trace), [*voice, *given_paths(artifact, hearing, calibration, presets)])
    worn = _read_wearer(hearing, audiogram, calibration, ambient_db, own_voice_db, alarm_db, max_output)
    universal, voices = _model_and_voices(artifact, voice)
    how = _How(margin_ms / 1e3, record, with_voice, seconds, core, realtime, trace is not None)
    steered = _Steered(presets, control, as_json)
    heard = wire_ears(universal.frame, link or (), link_buffer_ms, input_device, output_device, channels, rate, block)
    with heard as wired, engine_for(universal, voices, engine, target, port, baud) as running, until_interrupted() as stopped:
        _show(_play(universal, voices, worn, wired, running, stopped, how, steered), report, trace, as_json)


class _How(NamedTuple):
    """Options of the session itself: its length, its margin, the processor it runs on, and the files it leaves."""

    margin_s: float
    record: Path | None
    with_voice: bool
    seconds: float | None
    core: int | None
    realtime: bool
    traced: bool


class _Steered:
    """Ways to steer a session: keys and panel of a terminal, presets, a socket."""

    def __init__(self, presets: Path | None, control: Path | None, as_json: bool) -> None:
        from edge_tse.cli.panel import Panel
        from edge_tse.live.steering import load_presets

        self.presets = load_presets(presets) if presets is not None else {}
        self.panel, self._control = Panel(as_json), control

    @contextmanager
    def by(self, console: Console) -> Iterator[None]:
        """Carry out what keys and programs ask for until the end of the block."""
        from edge_tse.live.socket import serve

        with self.panel.of(console), nullcontext() if self._control is None else serve(self._control, console):
            yield


def _play(
    universal: Artifact,
    voices: Mapping[str, Voice],
    worn: tuple[Hearing, Calibration],
    wired: tuple[Wiring, Links | None],
    running: Opened,
    stopped: Callable[[], bool],
    how: _How,
    steered: _Steered,
) -> Finished:
    """Run the session from its first block to its end. Ctrl-C asks for the end: a second one must not cut the recording."""
    from edge_tse.live.recording_head import Head, HeardVoice
    from edge_tse.live.running import run_live
    from edge_tse.recognition import Recognizer

    wanted, levels = worn
    heard = tuple(HeardVoice(name=name, digest=voice.digest, voice=voice) for name, voice in voices.items())
    head = Head(engine=running.name, artifact=running.digest, voices=heard, hearing=wanted, calibration=levels)
    return run_live(
        running.engine,
        head,
        wired[0],
        links=wired[1],
        stopped=stopped,
        tell=steered.panel,
        presets=steered.presets,
        steered=steered.by,
        recognizer=Recognizer.of(universal, next(iter(voices.values()))),
        **how._asdict(),
    )


def _show(finished: Finished, report: Path | None, trace: Path | None, as_json: bool) -> None:
    from edge_tse.files import write_bytes
    from edge_tse.live.page import live_page
    from edge_tse.live.tracing import save_session_trace
    from edge_tse.report import environment

    for line in finished.notes:
        output.warn(line)
    run, tables = finished.run, finished.tables()
    if report is not None:
        page = live_page(
            "Live session",
            tables,
            finished.lateness,
            environment(),
            timing=run.timing,
            events=finished.session.events,
            began_s=finished.began_s,
        )
        write_bytes(report, page.encode())
    if trace is not None:
        save_session_trace(trace, finished)
    output.result(finished.figures(), as_json, *(output.table(title, rows) for title, rows in tables.items()))


def _read_wearer(
    file: Path | None,
    audiogram: str,
    calibration: Path | None,
    ambient_db: float | None,
    own_voice_db: float | None,
    alarm_db: float | None,
    max_output: float | None,
) -> tuple[Hearing, Calibration]:
    """The wearer's needs, from a file and from options that override it, and the calibration.

    A warning says that there is no calibration where levels in air were asked for.
    """
    from edge_tse.hearing.calibration import UNCALIBRATED, load_calibration
    from edge_tse.hearing.chain import Hearing, load_hearing
    from edge_tse.hearing.prescription import parse_audiogram

    wanted = Hearing() if file is None else load_hearing(file)
    if audiogram:
        left, right = parse_audiogram(audiogram)
        wanted = replace(wanted, left=left, right=right)
    in_air = {"own_voice_db": own_voice_db, "alarm_db": alarm_db, "max_output_db_spl": max_output}
    typed = {"ambient_db": ambient_db, **in_air}
    wanted = replace(wanted, **{name: value for name, value in typed.items() if value is not None})  # type: ignore[arg-type]
    if calibration is not None:
        return wanted, load_calibration(calibration)
    if file is not None or audiogram or any(value is not None for value in in_air.values()):
        output.warn(f"no --calibration: {UNCALIBRATED.source}, so levels in dB SPL are guesses")
    return wanted, UNCALIBRATED


def _model_and_voices(artifact: Path | None, paths: Sequence[Path]) -> tuple[Artifact, dict[str, Voice]]:
    """Load the model, and the voices by the names of their files, and check that it knows them, before devices are looked for.

    A warning says which of them are alike.
    """
    from edge_tse.cli.voices import like_pairs
    from edge_tse.errors import ArtifactError
    from edge_tse.personalization import check_voice
    from edge_tse.voice import load_voice

    universal = artifact_of(artifact)
    voices: dict[str, Voice] = {}
    for path in paths:
        if path.stem in voices:
            raise ArtifactError(f"two voices are named {path.stem}: a session switches by name, rename one of the files")
        voices[path.stem] = load_voice(path)
        check_voice(universal.voice_model, voices[path.stem])
    for pair in like_pairs(universal, voices):
        if pair.costly:
            output.warn(pair.said)
    return universal, voices
