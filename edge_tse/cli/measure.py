"""The verbs that measure: latency, calibrate, replay; and takes for enrollment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from edge_tse.cli import live, output
from edge_tse.cli.live import (
    AnyEngineOption,
    BlockOption,
    BoardOption,
    ChannelsOption,
    InputOption,
    OutputOption,
    PortOption,
    RateOption,
)
from edge_tse.cli.verbs import ArtifactOption, Json, app

if TYPE_CHECKING:
    from edge_tse.capture import Wiring
    from edge_tse.frame import FrameSpec
    from edge_tse.recording_head import Settings
    from edge_tse.voice import Voice

__all__ = ["take_clip"]

Float = NDArray[np.float32]

_ORDER = 15  # 2 s at 16 kHz, and no device takes longer


class Still:
    """An engine that is asked for its geometry only: what latency follows from."""

    def __init__(self, frame: FrameSpec) -> None:
        self.frame = frame

    def start(self, ears: int) -> Callable[[Float], Float]:
        return lambda hop: hop


@app.command()
def latency(
    input_device: InputOption = None,
    output_device: OutputOption = None,
    channels: ChannelsOption = "1",
    rate: RateOption = None,
    block: BlockOption = None,
    seconds: Annotated[float, typer.Option("--seconds", min=1, metavar="S", help="Length of the measurement.")] = 10.0,
    level_db: Annotated[float, typer.Option("--level-db", max=0, metavar="DB", help="Level of what is played, in dBFS.")] = -20.0,
    margin_ms: Annotated[float, typer.Option("--margin-ms", metavar="MS", help="The margin that `live` would run with.")] = 4.0,
    loopback: Annotated[bool, typer.Option("--loopback", help="Output and input are joined by a cable.")] = False,
    as_json: Json = False,
) -> None:
    """Measure the round trip of a device with a pseudo-random sequence, and what `live` adds to it."""
    from edge_tse.artifact import Artifact
    from edge_tse.latency import round_trip, sequence
    from edge_tse.loop import Loop
    from edge_tse.session import Session

    frame = Artifact.shipped().frame
    wiring = live.wired(frame, input_device, output_device, channels, rate, block)
    played = sequence(_ORDER, 10 ** (level_db / 20))
    samples = max(round(seconds * wiring.rate_hz), 3 * len(played))
    heard, stated_s, flagged = listen(wiring, samples, np.tile(played[:, None], (1, wiring.ears)), "measuring", as_json)
    found = round_trip(played, heard[0], wiring.rate_hz)

    loop = Loop(rate_hz=wiring.rate_hz, ears=wiring.ears, block=wiring.block, margin_s=margin_ms / 1e3)
    added = Session(Still(frame), loop).latency
    total_s = found.seconds + added.total_s
    figures = {
        "input": wiring.input.name,
        "output": wiring.output.name if wiring.output else None,
        "rate_hz": wiring.rate_hz,
        "block": wiring.block,
        "loopback": loopback,
        "round_trip_ms": found.seconds * 1e3,
        "spread_ms": found.spread_s * 1e3,
        "stated_ms": stated_s * 1e3,
        "quality_db": found.quality_db,
        "inverted": found.inverted,
        "flagged_blocks": flagged,
        "live": added.figures() | {"device_ms": found.seconds * 1e3, "total_ms": total_s * 1e3},
    }
    way = f"{'a cable' if loopback else 'air (1 ms for each 34 cm)'}, blocks of {wiring.block} at {wiring.rate_hz} Hz"
    rows = {
        "round trip, measured": f"{found.seconds * 1e3:.2f} ms through {way}",
        "of it stated by the device": f"{stated_s * 1e3:.1f} ms",
        "moved while measuring": f"{found.spread_s * 1e3:.3f} ms over {len(found.samples)} periods, {flagged} flagged blocks",
        "quality": f"{found.quality_db:.0f} dB above chance" + (", polarity inverted" if found.inverted else ""),
        "resampling": f"{added.resampling_s * 1e3:.1f} ms",
        "algorithmic": f"{added.algorithmic_s * 1e3:.1f} ms",
        "blocks that are not hops": f"{added.turnaround_s * 1e3:.1f} ms",
        "margin, in which hops are computed": f"{added.margin_s * 1e3:.1f} ms",
        "`live`, microphone to ear": f"{total_s * 1e3:.1f} ms",
    }
    output.result(figures, as_json, output.table("latency", rows))


@app.command()
def calibrate(
    to: Annotated[Path, typer.Argument(metavar="TOML", help="Calibration to write, or to complete.")],
    microphone: Annotated[
        float | None,
        typer.Option("--microphone", metavar="DB", help="The sound at the microphones is this loud, dB SPL."),
    ] = None,
    receiver: Annotated[str, typer.Option("--receiver", metavar="L,R", help="What a meter read of the --tone, dB SPL.")] = "",
    play_tone: Annotated[bool, typer.Option("--tone", help="Play the tone that receivers are measured with.")] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=2, metavar="S", help="Length of tone or recording.")] = 5.0,
    input_device: InputOption = None,
    output_device: OutputOption = None,
    channels: ChannelsOption = "",
    rate: RateOption = None,
    as_json: Json = False,
) -> None:
    """Say what full scale is in dB SPL: of microphones by a sound of known level, of receivers by a meter."""
    from dataclasses import asdict, replace

    from edge_tse import calibration as levels
    from edge_tse.artifact import Artifact
    from edge_tse.errors import AudioError
    from edge_tse.files import check_output

    if microphone is None and not receiver and not play_tone:
        raise AudioError("nothing to calibrate: give --microphone DB, --tone, or --receiver L,R after a --tone")
    check_output(to, error=AudioError)
    known = levels.load_calibration(to) if to.exists() else levels.UNCALIBRATED
    if microphone is not None or play_tone:
        wiring = live.wired(Artifact.shipped().frame, input_device, output_device, channels, rate, None, plays=play_tone)
        samples = round(seconds * wiring.rate_hz)
        tone = np.tile(levels.tone(seconds, wiring.rate_hz)[:, None], (1, wiring.ears)) if play_tone else None
        heard, _, _ = listen(wiring, samples, tone, "playing" if play_tone else "listening", as_json)
        if microphone is not None:
            found = levels.measure_microphones(heard, wiring.rate_hz, microphone)
            source = f"microphones of {wiring.input.name} at {microphone:g} dB SPL"
            known = replace(known, microphones_db_spl=(found[0], found[-1]), source=_sources(known.source, "microphones", source))
    if receiver:
        read = _pair(receiver)
        full = (read[0] - levels.TONE_DBFS, read[1] - levels.TONE_DBFS)
        source = f"receivers by a meter at {receiver} dB SPL"
        known = replace(known, receivers_db_spl=full, source=_sources(known.source, "receivers", source))
    if known != levels.UNCALIBRATED:
        levels.save_calibration(known, to)
    shown = {
        "microphones": _spl(known.microphones_db_spl),
        "receivers": _spl(known.receivers_db_spl),
        "source": known.source,
    }
    output.result({"calibration": to, **asdict(known)}, as_json, output.table("full scale in air", shown))


@app.command()
def replay(
    recording: Annotated[Path, typer.Argument(metavar="SESSION", help="What `edge-tse live --record` wrote.")],
    to: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Sound file for what comes out again.")] = None,
    voice: Annotated[
        Path | None,
        typer.Option("--voice", metavar="FILE", help="The voice that was listened to; recordings of `live --with-voice` hold it."),
    ] = None,
    artifact: ArtifactOption = None,
    engine: AnyEngineOption = "litert",
    target: BoardOption = "",
    port: PortOption = None,
    as_json: Json = False,
) -> None:
    """Run a recorded session again and compare what comes out, bit for bit."""
    from edge_tse import audio
    from edge_tse.errors import ArtifactError, AudioError, ParityError
    from edge_tse.files import check_output
    from edge_tse.hearing import Chain
    from edge_tse.recording import load_recording
    from edge_tse.recording import replay as again
    from edge_tse.recording_head import settings
    from edge_tse.voice import personalize

    if to is not None:
        audio.check_format(to)
        check_output(to, [recording], AudioError)
    session = load_recording(recording)
    made = settings(session.head, str(recording))
    spoken = _voice_of(made, voice, recording)
    universal = live.opened(artifact)
    model = personalize(universal, spoken)
    if model.digest != made.artifact:
        raise ArtifactError(
            f"{recording} was made with model {made.artifact[:12]}, this is {model.digest[:12]}: give the one with --artifact"
        )
    shape = Chain(made.hearing, model.frame, session.loop.ears, made.calibration)
    with live.engine_for(universal, spoken, engine, target, port) as (running, name), output.progress("replaying", as_json) as tell:
        if name != made.engine:
            output.warn(f"recorded on {made.engine}, replayed on {name}: what differs may be theirs")
        got = again(session, running, shape, tell)
    if to is not None:
        audio.write(to, got.signal, got.rate_hz, inputs=[recording])
    if got.first is not None:
        raise ParityError(
            f"{recording}: {got.differing} of {got.signal.shape[1]} samples differ, the first at {got.first / got.rate_hz:.4f} s: "
            f"recorded on {made.engine}, replayed on {name}"
        )
    figures = {
        "recording": recording,
        "seconds": got.signal.shape[1] / got.rate_hz,
        "blocks": len(session.blocks),
        "not_extracted_hops": len(session.fates),
        "late_blocks": sum(1 for _, shortage, _ in session.blocks if shortage),
        "engine": name,
        "artifact": model.digest,
        "differing_samples": got.differing,
        "output": to,
    }
    late = f"{figures['late_blocks']} late blocks and {len(session.fates)} hops not extracted, as then"
    output.result(figures, as_json, f"{recording}: {figures['seconds']:.1f} s replayed on {name}, bit for bit; {late}")


def _voice_of(made: Settings, path: Path | None, recording: Path) -> Voice:
    """The voice in the recording or, checked to be the same, the one in a file."""
    from edge_tse.errors import ArtifactError
    from edge_tse.voice import read_voice

    if path is None:
        if made.voice is None:
            raise ArtifactError(
                f"{recording} does not hold the voice it was made with, only its digest {made.voice_digest[:12]}: "
                "give that voice with --voice"
            )
        return made.voice
    voice, digest = read_voice(path)
    if made.voice_digest and digest != made.voice_digest:
        raise ArtifactError(f"{recording} was made with voice {made.voice_digest[:12]}, {path} is {digest[:12]}: give that voice")
    return voice


def take_clip(frame: FrameSpec, seconds: float, input_device: str | None, as_json: bool, scene: bool) -> tuple[Float, int]:
    """A recording ``[ears, n]`` for enrollment and its rate; says when to talk, or in a ``scene`` when to look."""
    wiring = live.wired(frame, input_device, None, "", None, None, plays=False)
    if not as_json:
        what = (
            "look at the talker, for {} s, and keep your head still" if scene else "talk now, for {} s, alone and as you usually do"
        )
        sys.stderr.write(f"edge-tse: {what.format(f'{seconds:g}')}\n")
    heard, _, _ = listen(wiring, round(seconds * wiring.rate_hz), None, "recording", as_json)
    return heard, wiring.rate_hz


def _sources(known: str, kind: str, new: str) -> str:
    """How each half was found: what is new, and of the old what is about the other half."""
    kept = [part for part in known.split("; ") if not part.startswith(kind)]
    return "; ".join([*kept, new])


def _spl(pair: tuple[float, float]) -> str:
    return f"left {pair[0]:.1f}, right {pair[1]:.1f} dB SPL"


def _pair(text: str) -> tuple[float, float]:
    from edge_tse.errors import AudioError

    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not all(0 < value < 160 for value in values):
        raise AudioError(f"--receiver {text} is not one or two levels in dB SPL: give what the meter read, as 84.5,85.1")
    return values[0], values[-1]


def listen(wiring: Wiring, samples: int, play: Float | None, label: str, as_json: bool) -> tuple[Float, float, int]:
    """``[ears, samples]`` from the device while ``play [n, ears]`` is repeated; its stated latency; how many blocks it flagged."""
    from edge_tse.capture import Duplex
    from edge_tse.live import Take, record

    take = Take(samples, wiring.ears, play)
    stated: list[float] = []

    def opened(current: Take) -> Duplex:
        device = Duplex(wiring, current)
        stated.append(device.latency_s)
        return device

    with live.until_interrupted() as stopped, output.progress(label, as_json) as tell:
        heard = record(take, opened, stopped=stopped, tell=tell)
    return heard, stated[0], take.flags
