"""The verbs that listen: devices, live. They join the others on the one command."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.verbs import ArtifactOption, Json, VoiceOption, app

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.calibration import Calibration
    from edge_tse.capture import Wiring
    from edge_tse.frame import FrameSpec
    from edge_tse.hearing import Hearing
    from edge_tse.live import Run
    from edge_tse.session import Session, Starts
    from edge_tse.voice import Voice

__all__ = ["engine_for", "opened", "until_interrupted", "wired"]

InputOption = Annotated[
    str | None, typer.Option("--input", metavar="DEVICE", help="Microphone: a number or part of a name of `edge-tse devices`.")
]
OutputOption = Annotated[str | None, typer.Option("--output", metavar="DEVICE", help="Earphone, likewise.")]
ChannelsOption = Annotated[
    str, typer.Option("--channels", metavar="L,R", help="Input channels that are the ears, from 1; the first ones if left out.")
]
RateOption = Annotated[
    int | None, typer.Option("--rate", metavar="HZ", help="Rate of the device; the model's where the device has it.")
]
HearingOption = Annotated[
    Path | None, typer.Option("--hearing", metavar="TOML", help="What the wearer needs: audiograms, limits and mix.")
]
AudiogramOption = Annotated[
    str,
    typer.Option("--audiogram", metavar="HZ:DB,...", help="Thresholds typed: 500:30,1000:40 or LEFT / RIGHT."),
]
AmbientOption = Annotated[
    float | None, typer.Option("--ambient-db", metavar="DB", help="Level at which the room stays in; left out if not given.")
]
OwnVoiceOption = Annotated[
    float | None, typer.Option("--own-voice-db", metavar="DB", help="Let the room in at this level while the wearer talks.")
]
AlarmOption = Annotated[
    float | None,
    typer.Option("--alarm-db", metavar="DB", help="And while an alarm sounds. It misses some: no safety device."),
]
CalibrationOption = Annotated[Path | None, typer.Option("--calibration", metavar="TOML", help="What `edge-tse calibrate` wrote.")]
HopOption = Annotated[
    str, typer.Option("--hop", metavar="MS", help="Take the shipped model with this hop; enroll with the same --artifact.")
]
AnyEngineOption = Annotated[str, typer.Option("--engine", metavar="NAME", help="What runs the network, or device: a board.")]
BoardOption = Annotated[str, typer.Option("--target", metavar="NAME", help="The board, with --engine device.")]
PortOption = Annotated[str | None, typer.Option("--port", metavar="P", help="Where it is, as for `edge-tse board`.")]
BlockOption = Annotated[int | None, typer.Option("--block", min=1, metavar="N", help="Samples per block of the device; a hop.")]


@app.command()
def devices(as_json: Json = False) -> None:
    """List sound devices with their channels, rates and latencies."""
    from rich.table import Table

    from edge_tse import capture

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
    margin_ms: Annotated[float, typer.Option("--margin-ms", metavar="MS", help="How late a hop may be before it is heard.")] = 4.0,
    seconds: Annotated[float | None, typer.Option("--seconds", min=0, metavar="S", help="End after this long, or Ctrl-C.")] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FLAC", help="Keep the session, for `edge-tse replay`.")
    ] = None,
    with_voice: Annotated[
        bool, typer.Option("--with-voice", help="The recording holds the voice, too; it names it by its digest if not.")
    ] = False,
    hearing: HearingOption = None,
    audiogram: AudiogramOption = "",
    ambient_db: AmbientOption = None,
    own_voice_db: OwnVoiceOption = None,
    alarm_db: AlarmOption = None,
    max_output: Annotated[
        float | None, typer.Option("--max-output", metavar="DB", help="Nothing is played louder, in dB SPL; 100 if not given.")
    ] = None,
    calibration: CalibrationOption = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="HTML", help="Leave timing and events as a page.")] = None,
    core: Annotated[int | None, typer.Option("--core", min=0, metavar="N", help="Keep the engine on this processor core.")] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Ask the system for real-time priority.")] = False,
    artifact: ArtifactOption = None,
    hop: HopOption = "",
    engine: AnyEngineOption = "litert",
    target: BoardOption = "",
    port: PortOption = None,
    as_json: Json = False,
) -> None:
    """Play what the enrolled talker says into the ears, as it is said."""
    from edge_tse.capture import Duplex
    from edge_tse.files import check_output
    from edge_tse.hearing import Chain
    from edge_tse.live import supervise
    from edge_tse.loop import Loop
    from edge_tse.recording import Recorder
    from edge_tse.recording_head import described
    from edge_tse.session import Session
    from edge_tse.voice import personalize, read_voice

    if report is not None:
        check_output(report, [voice])
    typed = {"ambient_db": ambient_db, "own_voice_db": own_voice_db, "alarm_db": alarm_db, "max_output_db_spl": max_output}
    wanted = _needs(hearing, audiogram, typed)
    levels = _calibrated(
        calibration,
        said=hearing is not None or bool(audiogram) or any(value is not None for value in (own_voice_db, alarm_db, max_output)),
    )
    universal, (spoken, voice_digest) = opened(artifact, hop), read_voice(voice)
    model = personalize(universal, spoken)
    wiring = wired(model.frame, input_device, output_device, channels, rate, block)
    ceiling = levels.ceiling(wanted.max_output_db_spl)
    loop = Loop(rate_hz=wiring.rate_hz, ears=wiring.ears, block=wiring.block, margin_s=margin_ms / 1e3, ceiling=ceiling)
    notes: list[str] = []
    recorder = None
    began_s = time.perf_counter()
    with ExitStack() as closing:
        running, name = closing.enter_context(engine_for(universal, spoken, engine, target, port))
        # From here on, and until the recording is closed, an interrupt asks for the end: a second one must not cut the file.
        stopped = closing.enter_context(until_interrupted())
        if record is not None:
            head = described(
                engine=name,
                artifact=model.digest,
                voice_digest=voice_digest,
                voice=voice.read_text(encoding="utf-8") if with_voice else None,
                hearing=wanted,
                calibration=levels,
            )
            recorder = Recorder(record, head, loop, model.frame, notes.append)
            closing.callback(recorder.close)
        session = Session(running, loop, shape=Chain(wanted, model.frame, wiring.ears, levels), tap=recorder)
        run = supervise(
            session,
            lambda current: Duplex(wiring, current.exchange),
            seconds=seconds,
            stopped=stopped,
            tell=_narrator(as_json, notes),
            core=core,
            realtime=realtime,
        )
    for line in notes:
        output.warn(line)
    figures = _figures(session, run, wiring) | {"engine": name, "artifact": model.digest, "recording": record}
    tables = _tables(run, wiring, name)
    limit = f"{wanted.max_output_db_spl:g} dB SPL is {20 * math.log10(ceiling):.1f} dBFS ({levels.source})"
    tables["session"]["loudest output"] = limit
    if report is not None:
        _leave(report, session, run, tables, began_s)
    output.result(figures, as_json, *(output.table(title, rows) for title, rows in tables.items()))


def _needs(file: Path | None, audiogram: str, typed: Mapping[str, float | None]) -> Hearing:
    """What the wearer needs, from a file and what was typed over it."""
    from dataclasses import replace

    from edge_tse.hearing import Hearing, load_hearing
    from edge_tse.prescription import parse_audiogram

    wanted = Hearing() if file is None else load_hearing(file)
    if audiogram:
        left, right = parse_audiogram(audiogram)
        wanted = replace(wanted, left=left, right=right)
    return replace(wanted, **{name: value for name, value in typed.items() if value is not None})  # type: ignore[arg-type]


def _calibrated(path: Path | None, said: bool) -> Calibration:
    """The calibration; that there is none is said where levels in air were asked for."""
    from edge_tse.calibration import UNCALIBRATED, load_calibration

    if path is not None:
        return load_calibration(path)
    if said:
        output.warn(f"no --calibration: {UNCALIBRATED.source}, so levels in dB SPL are guesses")
    return UNCALIBRATED


def wired(
    frame: FrameSpec,
    input_device: str | None,
    output_device: str | None,
    channels: str,
    rate: int | None,
    block: int | None,
    plays: bool = True,
) -> Wiring:
    """The devices as asked for; what the user should know about them goes to stderr."""
    from edge_tse import capture
    from edge_tse.errors import AudioError

    try:
        ears = tuple(int(part) for part in channels.split(",") if part.strip())
    except ValueError:
        raise AudioError(f"--channels {channels} are not numbers: give for instance 1,2") from None
    found = capture.devices()
    wiring = capture.wire(
        capture.choose(found, input_device, "input"),
        capture.choose(found, output_device, "output") if plays else None,
        frame=frame,
        channels=ears,
        rate_hz=rate,
        block=block,
    )
    for remark in wiring.remarks:
        output.warn(remark)
    return wiring


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks for the end, however often and whenever it is pressed; files are closed by the way."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    kept = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _narrator(as_json: bool, notes: list[str]) -> Callable[[Session], None]:
    """Events as they happen, a line each; where somebody watches, also how it goes. ``notes`` of other threads become events."""
    from edge_tse.condition import EarWatch

    said, shown_s, looked_s = 0, 0.0, time.monotonic()
    watch: EarWatch | None = None
    watched = sys.stderr.isatty() and not as_json

    def tell(session: Session) -> None:
        nonlocal said, shown_s, looked_s, watch
        if time.monotonic() - looked_s > 1.0:
            looked_s = time.monotonic()
            if watch is None:
                watch = EarWatch(session.loop.rate_hz, session.frame.level_invariant)
            for remark in watch(session.recent(1.0), looked_s):
                session.note(f"what is heard: {remark}")
        while notes:
            session.note(notes.pop(0))
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


def _figures(session: Session, run: Run, wiring: Wiring) -> dict[str, object]:
    from edge_tse.report import memory

    return {
        "seconds": run.seconds,
        "ended": run.ended,
        "input": wiring.input.name,
        "output": wiring.output.name if wiring.output else None,
        "rate_hz": wiring.rate_hz,
        "block": wiring.block,
        "channels": wiring.channels,
        "latency": run.latency.figures(),
        "latency_samples": session.latency_samples,
        "health": asdict(run.health),
        "reopened": run.reopened,
        "compute": run.timing.figures() if run.timing else None,
        "memory": memory(),
        "events": [asdict(event) for event in session.events],
    }


def _tables(run: Run, wiring: Wiring, engine: str) -> dict[str, dict[str, str]]:
    latency, health = run.latency, run.health
    ears = f"{wiring.ears} ear{'s' * (wiring.ears > 1)} at {wiring.rate_hz} Hz, blocks of {wiring.block}"
    way = {
        "device buffers (as stated)": f"{latency.device_s * 1e3:.1f} ms",
        "resampling": f"{latency.resampling_s * 1e3:.1f} ms",
        "algorithmic": f"{latency.algorithmic_s * 1e3:.1f} ms",
        "blocks that are not hops": f"{latency.turnaround_s * 1e3:.1f} ms",
        "margin, in which hops are computed": f"{latency.margin_s * 1e3:.1f} ms",
        "microphone to ear": f"{latency.total_s * 1e3:.1f} ms",
    }
    heard = {
        "ran": f"{run.seconds:.1f} s, {ears}; {run.ended}",
        "engine": engine,
        "late": f"{health.late_blocks} of {health.blocks} blocks ({health.dry_samples} samples played dry)",
        "not extracted": f"{health.skipped_hops} skipped, {health.failed_hops} failed of {health.hops} hops",
        "device": f"{health.input_overruns} overruns, {health.output_underruns} underruns, reopened {run.reopened} times",
    }
    if run.timing is not None:
        timing = run.timing
        heard["compute per hop"] = (
            f"p50 {timing.percentile_s(50) * 1e3:.3f} ms, p99 {timing.percentile_s(99) * 1e3:.3f} ms,"
            f" max {float(timing.hop_s.max()) * 1e3:.3f} ms (deadline {timing.period_s * 1e3:.1f} ms, missed {timing.misses})"
        )
    return {"session": heard, "latency": way}


def _leave(report: Path, session: Session, run: Run, tables: dict[str, dict[str, str]], began_s: float) -> None:
    from edge_tse.files import write_bytes
    from edge_tse.live_page import live_page
    from edge_tse.report import environment

    page = live_page("Live session", tables, run.timing, session.events, began_s, environment())
    write_bytes(report, page.encode())


@contextmanager
def engine_for(universal: Artifact, voice: Voice, engine: str, target: str, port: str | None) -> Iterator[tuple[Starts, str]]:
    """What runs the model with this voice in it, here or on a board, and its name."""
    from edge_tse.cli.board import on_board
    from edge_tse.engines import Engine
    from edge_tse.voice import personalize

    if engine == "device":
        with on_board(target, port, universal, voice) as board:
            yield board
        return
    model = personalize(universal, voice)
    network = output.open_quietly(model, engine)
    yield Engine(model, network), network.name


def opened(path: Path | None, hop: str = "") -> Artifact:
    """The model of a file, the shipped one, or the shipped one with a hop of ``hop`` milliseconds."""
    from edge_tse.artifact import Artifact, shipped_with_hop
    from edge_tse.errors import ArtifactError

    if not hop:
        return Artifact.find(path)
    try:
        hop_s = float(hop.removesuffix("ms")) / 1e3
    except ValueError:
        raise ArtifactError(f"--hop {hop} is not a time in milliseconds: give for instance 4, or 4ms") from None
    if path is None:
        return shipped_with_hop(hop_s)
    model = Artifact.find(path)
    if abs(model.frame.period_s - hop_s) > 1e-6:
        raise ArtifactError(f"{path} has a hop of {model.frame.period_s * 1e3:g} ms, not {hop_s * 1e3:g}: leave one of the two out")
    return model
