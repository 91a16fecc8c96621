"""The verbs that listen: devices, live."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
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
    BlockOption,
    BoardOption,
    CalibrationOption,
    ChannelsOption,
    HearingOption,
    HopOption,
    InputOption,
    Json,
    OutputOption,
    OwnVoiceOption,
    PortOption,
    RateOption,
    VoiceOption,
    app,
)
from edge_tse.cli.sound import engine_for, open_model, until_interrupted, wire_devices
from edge_tse.files import check_output

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.hearing.calibration import Calibration
    from edge_tse.hearing.chain import Hearing
    from edge_tse.live.devices import Wiring
    from edge_tse.live.running import Finished
    from edge_tse.live.session import Session
    from edge_tse.stream import AnyEngine
    from edge_tse.voice import Voice

__all__ = ["devices", "live"]

_Margin = Annotated[float, typer.Option("--margin-ms", metavar="MS", help="Time that a hop may be late before it is heard, in ms.")]
_Seconds = Annotated[
    float | None, typer.Option("--seconds", min=0, metavar="S", help="Length of the session; until Ctrl-C if left out.")
]
_Recording = Annotated[
    Path | None, typer.Option("--record", metavar="FLAC", help="File to record the session to, for `edge-tse replay` (.flac).")
]
_WithVoice = Annotated[
    bool, typer.Option("--with-voice", help="Put the voice into the recording, which otherwise names it by its digest.")
]
_Loudest = Annotated[float | None, typer.Option("--max-output", metavar="DB", help="Loudest output in dB SPL; 100 if left out.")]
_Page = Annotated[Path | None, typer.Option("--report", metavar="HTML", help="Page to write with timing and events.")]
_Core = Annotated[int | None, typer.Option("--core", min=0, metavar="N", help="Keep the engine on this processor core.")]
_Realtime = Annotated[bool, typer.Option("--realtime", help="Ask the system for real-time priority.")]


@app.command()
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


@app.command()
def live(
    voice: VoiceOption,
    input_device: InputOption = None,
    output_device: OutputOption = None,
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
    report: _Page = None,
    core: _Core = None,
    realtime: _Realtime = False,
    artifact: ArtifactOption = None,
    hop: HopOption = "",
    engine: AnyEngineOption = "litert",
    target: BoardOption = "",
    port: PortOption = None,
    as_json: Json = False,
) -> None:
    """Play the enrolled talker into the ears, live."""
    if report is not None:
        check_output(report, [voice])
    in_air = {"own_voice_db": own_voice_db, "alarm_db": alarm_db, "max_output_db_spl": max_output}
    worn = _read_wearer(hearing, audiogram, calibration, ambient_db, in_air)
    universal = open_model(artifact, hop)
    spoken = _voice(voice, universal)
    wiring = wire_devices(universal.frame, input_device, output_device, channels, rate, block)
    with engine_for(universal, spoken, engine, target, port) as running, until_interrupted() as stopped:
        how = _How(margin_ms / 1e3, record, with_voice, seconds, core, realtime)
        finished = _play(universal, spoken, worn, wiring, running, stopped, how, as_json)
    _show(finished, report, as_json)


class _How(NamedTuple):
    """Options of the session itself: its length, its margin, the processor it runs on, and the files it leaves."""

    margin_s: float
    record: Path | None
    with_voice: bool
    seconds: float | None
    core: int | None
    realtime: bool


def _play(
    universal: Artifact,
    voice: Voice,
    worn: tuple[Hearing, Calibration],
    wiring: Wiring,
    running: tuple[AnyEngine, str],
    stopped: Callable[[], bool],
    how: _How,
    as_json: bool,
) -> Finished:
    """Run the session from its first block to its end. Ctrl-C asks for the end: a second one must not cut the recording."""
    from edge_tse.live.recording_head import Head
    from edge_tse.live.running import run_live
    from edge_tse.personalization import personalize

    (engine, name), (wanted, levels) = running, worn
    digest = personalize(universal, voice).digest
    head = Head(engine=name, artifact=digest, voice_digest=voice.digest, voice=voice, hearing=wanted, calibration=levels)
    tell = _narrator(as_json)
    return run_live(engine, head, wiring, stopped=stopped, tell=tell, **how._asdict())


def _show(finished: Finished, report: Path | None, as_json: bool) -> None:
    from edge_tse.files import write_bytes
    from edge_tse.live.page import live_page
    from edge_tse.report import environment

    for line in finished.notes:
        output.warn(line)
    run, tables = finished.run, finished.tables()
    if report is not None:
        page = live_page("Live session", tables, run.timing, finished.session.events, finished.began_s, environment())
        write_bytes(report, page.encode())
    output.result(finished.figures(), as_json, *(output.table(title, rows) for title, rows in tables.items()))


def _read_wearer(
    file: Path | None, audiogram: str, calibration: Path | None, ambient_db: float | None, in_air: Mapping[str, float | None]
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
    typed = {"ambient_db": ambient_db, **in_air}
    wanted = replace(wanted, **{name: value for name, value in typed.items() if value is not None})  # type: ignore[arg-type]
    if calibration is not None:
        return wanted, load_calibration(calibration)
    if file is not None or audiogram or any(value is not None for value in in_air.values()):
        output.warn(f"no --calibration: {UNCALIBRATED.source}, so levels in dB SPL are guesses")
    return wanted, UNCALIBRATED


def _voice(path: Path, universal: Artifact) -> Voice:
    """Load the voice and check that the model knows it, before devices are looked for."""
    from edge_tse.personalization import check_voice
    from edge_tse.voice import load_voice

    voice = load_voice(path)
    check_voice(universal.voice_model, voice)
    return voice


def _narrator(as_json: bool) -> Callable[[Session], None]:
    """Tell events as they happen, a line each; on a terminal also a running status."""
    said, shown_s = 0, 0.0
    watched = sys.stderr.isatty() and not as_json

    def tell(session: Session) -> None:
        nonlocal said, shown_s
        events = session.events
        for event in events[said:]:
            sys.stderr.write(("\r" if watched else "") + f"edge-tse: {event.what}\n")
        said = len(events)
        if watched and (now := time.monotonic()) - shown_s > 0.5:
            shown_s, health = now, session.health
            line = f"{health.samples / session.loop.rate_hz:7.1f} s  late {health.late_blocks}  failed {health.failed_hops}"
            sys.stderr.write(f"\r{line}  xruns {health.input_overruns + health.output_underruns}  (Ctrl-C ends)")
            sys.stderr.flush()

    return tell
