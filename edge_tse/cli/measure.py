"""The verbs that measure: latency, calibrate, replay."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edge_tse.cli import output, sound
from edge_tse.cli.options import (
    AnyEngineOption,
    ArtifactOption,
    BaudOption,
    BlockOption,
    BoardOption,
    ChannelsOption,
    InputOption,
    Json,
    OutputOption,
    Panel,
    PortOption,
    RateOption,
    app,
    artifact_of,
    given_paths,
)

if TYPE_CHECKING:
    from edge_tse.live.devices import Wiring
    from edge_tse.live.loop import Latency
    from edge_tse.live.recording import Recording, Replayed
    from edge_tse.live.round_trip import RoundTrip

__all__ = ["calibrate", "latency", "replay"]

_AtMicrophones = Annotated[
    float | None, typer.Option("--microphone", metavar="DB", help="Level of the sound at the microphones, dB SPL.")
]
_AtReceivers = Annotated[str, typer.Option("--receiver", metavar="L,R", help="Meter readings of the --tone, dB SPL.")]
_Spoken = Annotated[
    list[Path] | None,
    typer.Option("--voice", metavar="FILE", help="Voice file of the session; recordings of `live --with-voice` hold the voice."),
]
_Replayed = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Sound file to write the output of the replay to.")
]
_ThenPage = Annotated[
    Path | None, typer.Option("--report", metavar="HTML", help="Page to write: when hops arrived then, and what was late.")
]
_ORDER = 15  # 2 s at 16 kHz, and no device takes longer
_LONGEST_S = 600  # what is measured is held as a whole


@app.command(rich_help_panel=Panel.WEAR)
def latency(
    input_device: InputOption = None,
    output_device: OutputOption = None,
    channels: ChannelsOption = "1",
    rate: RateOption = None,
    block: BlockOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, max=_LONGEST_S, metavar="S", help="Length of the measurement.")
    ] = 10.0,
    level_db: Annotated[float, typer.Option("--level-db", max=0, metavar="DB", help="Level of the sequence, in dBFS.")] = -20.0,
    margin_ms: Annotated[float, typer.Option("--margin-ms", metavar="MS", help="Margin that `live` would run with.")] = 4.0,
    loopback: Annotated[bool, typer.Option("--loopback", help="State that a cable joins output and input.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the round trip of a device with a pseudo-random sequence, and what `live` adds to it."""
    from edge_tse.artifact import Artifact
    from edge_tse.live.latency import session_latency
    from edge_tse.live.loop import Loop
    from edge_tse.live.round_trip import round_trip, sequence

    frame = Artifact.shipped().frame
    wiring = sound.wire_devices(frame, input_device, output_device, channels, rate, block)
    # Before anything is played: it may refuse the margin.
    loop = Loop(rate_hz=wiring.rate_hz, ears=wiring.ears, block=wiring.block, margin_s=margin_ms / 1e3)
    played = sequence(_ORDER, 10 ** (level_db / 20))
    samples = max(round(seconds * wiring.rate_hz), 3 * len(played))
    heard, stated_s, flagged = sound.listen(wiring, samples, np.tile(played[:, None], (1, wiring.ears)), "measuring", as_json)
    found = round_trip(played, heard[0], wiring.rate_hz)
    added = session_latency(frame, loop)
    figures = {
        "input": wiring.input.name,
        "output": wiring.output.name if wiring.output else None,
        "rate_hz": wiring.rate_hz,
        "block": wiring.block,
        "loopback": loopback,
        **found.figures(),
        "stated_ms": stated_s * 1e3,
        "flagged_blocks": flagged,
        "live": added.figures() | {"device_ms": found.seconds * 1e3, "total_ms": (found.seconds + added.total_s) * 1e3},
    }
    rows = _latency_rows(wiring, found, added, "a cable" if loopback else "air (1 ms for each 34 cm)", stated_s, flagged)
    output.result(figures, as_json, output.table("latency", rows))


def _latency_rows(wiring: Wiring, found: RoundTrip, added: Latency, through: str, stated_s: float, flagged: int) -> dict[str, str]:
    """Rows for people: each part of a sound's way through the device."""
    way = f"{through}, blocks of {wiring.block} at {wiring.rate_hz} Hz"
    return {
        "round trip, measured": f"{found.seconds * 1e3:.2f} ms through {way}",
        "of it stated by the device": f"{stated_s * 1e3:.1f} ms",
        "moved while measuring": f"{found.spread_s * 1e3:.3f} ms over {len(found.samples)} periods, {flagged} flagged blocks",
        "quality": f"{found.quality_db:.0f} dB above chance" + (", polarity inverted" if found.inverted else ""),
        "resampling": f"{added.resampling_s * 1e3:.1f} ms",
        "algorithmic": f"{added.algorithmic_s * 1e3:.1f} ms",
        "blocks that are not hops": f"{added.turnaround_s * 1e3:.1f} ms",
        "margin, in which hops are computed": f"{added.margin_s * 1e3:.1f} ms",
        "`live`, microphone to ear": f"{(found.seconds + added.total_s) * 1e3:.1f} ms",
    }


@app.command(rich_help_panel=Panel.WEAR)
def calibrate(
    to: Annotated[Path, typer.Argument(metavar="TOML", help="Calibration file to write, or to complete.")],
    microphone: _AtMicrophones = None,
    receiver: _AtReceivers = "",
    play_tone: Annotated[bool, typer.Option("--tone", help="Play the tone that receivers are measured with.")] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=2, max=_LONGEST_S, metavar="S", help="Length of tone or recording.")
    ] = 5.0,
    input_device: InputOption = None,
    output_device: OutputOption = None,
    channels: ChannelsOption = "",
    rate: RateOption = None,
    as_json: Json = False,
) -> None:
    """Measure full scale in dB SPL: of microphones by a sound of known level, of receivers by a meter."""
    from edge_tse.artifact import Artifact
    from edge_tse.errors import AudioError
    from edge_tse.files import check_output
    from edge_tse.hearing import calibration as levels

    if microphone is None and not receiver and not play_tone:
        raise AudioError("nothing to calibrate: give --microphone DB, --tone, or --receiver L,R after a --tone")
    check_output(to, error=AudioError)
    known = levels.load_calibration(to) if to.exists() else levels.UNCALIBRATED
    if microphone is not None or play_tone:
        wiring = sound.wire_devices(Artifact.shipped().frame, input_device, output_device, channels, rate, None, plays=play_tone)
        samples = round(seconds * wiring.rate_hz)
        tone = np.tile(levels.tone(seconds, wiring.rate_hz)[:, None], (1, wiring.ears)) if play_tone else None
        heard, _, _ = sound.listen(wiring, samples, tone, "playing" if play_tone else "listening", as_json)
        if microphone is not None:
            known = known.with_microphones(heard, wiring.rate_hz, microphone, wiring.input.name)
    if receiver:
        known = known.with_receivers(*_pair(receiver), receiver)
    if known != levels.UNCALIBRATED:
        levels.save_calibration(known, to)
    pairs = {"microphones": known.microphones_db_spl, "receivers": known.receivers_db_spl}
    shown = {name: f"left {left:.1f}, right {right:.1f} dB SPL" for name, (left, right) in pairs.items()} | {"source": known.source}
    output.result({"calibration": to, **asdict(known)}, as_json, output.table("full scale in air", shown))


@app.command(rich_help_panel=Panel.WEAR)
def replay(
    recording: Annotated[Path, typer.Argument(metavar="SESSION", help="Recording made by `edge-tse live --record`.")],
    to: _Replayed = None,
    voice: _Spoken = None,
    report: _ThenPage = None,
    artifact: ArtifactOption = None,
    engine: AnyEngineOption = "litert",
    target: BoardOption = "",
    port: PortOption = None,
    baud: BaudOption = None,
    as_json: Json = False,
) -> None:
    """Run a recorded session again and compare its output, bit for bit."""
    from edge_tse import audio
    from edge_tse.errors import AudioError
    from edge_tse.files import check_outputs
    from edge_tse.live.recording import load_recording
    from edge_tse.live.recording_head import Head
    from edge_tse.live.running import replay_live

    if to is not None:
        audio.check_format(to)
    check_outputs(given_paths(to, report), [recording, *(voice or []), *given_paths(artifact)], AudioError)
    session, universal = load_recording(recording), artifact_of(artifact)
    head = Head.from_json(session.head, str(recording))
    spoken = head.resolve_voices(voice or [], str(recording))
    model = head.model(universal, spoken, str(recording))
    opened = sound.engine_for(universal, spoken, engine, target, port, baud, model)
    with opened as (running, name, _), output.progress("replaying", as_json) as tell:
        if name != head.engine:
            output.warn(f"recorded on {head.engine}, replayed on {name}: differences may come from the engines")
        with nullcontext() if to is None else audio.writing(to, session.loop.rate_hz, session.loop.ears, [recording]) as file:
            got = replay_live(session, head, spoken, running, tell, (lambda played: None) if file is None else file.write)
    got.check(str(recording), f"recorded on {head.engine}, replayed on {name}")
    known = {"recording": recording, "engine": name, "artifact": model.digest, "output": to}
    _show_replay(session, got, known, report, as_json)


def _show_replay(session: Recording, got: Replayed, known: Mapping[str, object], report: Path | None, as_json: bool) -> None:
    """Print a replay that made the same output, and write its page: what was late, as the recording tells it."""
    from edge_tse.files import write_bytes
    from edge_tse.live.lateness import recorded_lateness
    from edge_tse.live.page import live_page
    from edge_tse.report import environment

    counted, lateness = session.figures(), recorded_lateness(session)
    figures = {**known, **got.figures(), **counted, "lateness": lateness.figures()}
    as_then = f"{counted['late_blocks']} late blocks and {counted['not_extracted_hops']} hops not extracted, as then"
    said = f"{known['recording']}: {got.figures()['seconds']:.1f} s replayed on {known['engine']}, bit for bit; {as_then}"
    if report is not None:
        tables = {"Replay": {"what": said, **lateness.rows()}}
        write_bytes(report, live_page("Recorded session", tables, lateness, environment()).encode())
    output.result(figures, as_json, said, output.table("lateness, as recorded", lateness.rows()))


def _pair(text: str) -> tuple[float, float]:
    from edge_tse.errors import AudioError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < 160 for value in values):
        raise AudioError(f"--receiver {text} is not one or two levels in dB SPL: give what the meter read, as 84.5,85.1")
    return values[0], values[-1]
