"""A live session with a hearing chain, from engine and devices to its figures: `edge-tse live` runs it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import EngineError
from edge_tse.hearing.chain import Chain
from edge_tse.hearing.prescription import parse_audiogram
from edge_tse.live.console import Console
from edge_tse.live.devices import Wiring
from edge_tse.live.duplex import Duplex
from edge_tse.live.ears import EarWatch
from edge_tse.live.lateness import Lateness, session_lateness
from edge_tse.live.linked_devices import open_linked
from edge_tse.live.links import Links
from edge_tse.live.loop import Loop
from edge_tse.live.recording import Recorder, Recording, Replayed, replay
from edge_tse.live.recording_head import Head
from edge_tse.live.session import Session
from edge_tse.live.steering import LONGEST_MARK, Change, Settings, Steering
from edge_tse.live.supervision import Run, supervise
from edge_tse.recognition import Confidence, DoubtWatch, Recognizer
from edge_tse.report import memory
from edge_tse.stream import AnyEngine, VoicedEngine
from edge_tse.trace import Tape, TracedEngine
from edge_tse.voice import Voice

__all__ = ["Finished", "replay_live", "run_live", "steering"]

Float = NDArray[np.float32]

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A session that has ended."""

    session: Session
    run: Run
    wiring: Wiring
    head: Head
    began_s: float
    """Start by ``time.perf_counter``, as the times of its events."""
    recording: Path | None
    notes: tuple[str, ...]
    """Remarks that came too late for its events."""
    links: Links | None = None
    """Links of its ears, closed; None where it had microphones."""
    tape: Tape | None = None
    """Times of its last steps, if they were noted."""
    confidence: Confidence | None = None
    """Confidence in what was extracted; None for a model of which none was measured."""

    @cached_property
    def lateness(self) -> Lateness:
        """When hops arrived against the margin, and why blocks were late."""
        return session_lateness(self.session, self.began_s)

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        run, wiring = self.run, self.wiring
        return {
            "seconds": run.seconds,
            "ended": run.ended,
            "input": wiring.input.name,
            "output": wiring.output.name if wiring.output else None,
            "rate_hz": wiring.rate_hz,
            "block": wiring.block,
            "channels": wiring.channels,
            "latency": run.latency.figures(),
            "latency_samples": self.session.latency_samples,
            "health": asdict(run.health),
            "reopened": run.reopened,
            "lateness": self.lateness.figures(),
            "compute": run.timing.figures() if run.timing else None,
            "memory": memory(),
            "events": [asdict(event) for event in self.session.events],
            "engine": self.head.engine,
            "artifact": self.head.artifact,
            "recording": self.recording,
            "links": None if self.links is None else self.links.figures(),
            "confidence": None if self.confidence is None else self.confidence.figures(),
        }

    def tables(self) -> dict[str, dict[str, str]]:
        """Tables for people: rows of text under two headings."""
        run, latency, health = self.run, self.run.latency, self.run.health
        wiring, hearing, levels = self.wiring, self.head.hearing, self.head.calibration
        ears = f"{wiring.ears} ear{'s' * (wiring.ears > 1)} at {wiring.rate_hz} Hz, blocks of {wiring.block}"
        way = {
            "device buffers (as stated)" if self.links is None else "links and device buffers": f"{latency.device_s * 1e3:.1f} ms",
            "resampling": f"{latency.resampling_s * 1e3:.1f} ms",
            "algorithmic": f"{latency.algorithmic_s * 1e3:.1f} ms",
            "blocks that are not hops": f"{latency.turnaround_s * 1e3:.1f} ms",
            "margin, in which hops are computed": f"{latency.margin_s * 1e3:.1f} ms",
            "microphone to ear": f"{latency.total_s * 1e3:.1f} ms",
        }
        heard = {
            "ran": f"{run.seconds:.1f} s, {ears}; {run.ended}",
            "engine": self.head.engine,
            "late": f"{health.late_blocks} of {health.blocks} blocks ({health.dry_samples} samples played dry)",
            **self.lateness.rows(),
            "not extracted": f"{health.skipped_hops} skipped, {health.failed_hops} failed of {health.hops} hops",
            "device": f"{health.input_overruns} overruns, {health.output_underruns} underruns, reopened {run.reopened} times",
        }
        if run.timing is not None:
            timing = run.timing
            heard["compute per hop"] = (
                f"p50 {timing.percentile_s(50) * 1e3:.3f} ms, p99 {timing.percentile_s(99) * 1e3:.3f} ms,"
                f" max {float(timing.hop_s.max()) * 1e3:.3f} ms (deadline {timing.period_s * 1e3:.1f} ms, missed {timing.misses})"
            )
        if self.confidence is not None:
            heard["confidence"] = self.confidence.said
        loudest_dbfs = 20 * math.log10(levels.ceiling(hearing.max_output_db_spl))
        heard["loudest output"] = f"{hearing.max_output_db_spl:g} dB SPL is {loudest_dbfs:.1f} dBFS ({levels.source})"
        return {"session": heard, "latency": way} | ({} if self.links is None else {"links": self.links.rows()})


def run_live(
    engine: AnyEngine,
    head: Head,
    wiring: Wiring,
    *,
    margin_s: float = 0.004,
    record: Path | None = None,
    with_voice: bool = False,
    seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    tell: Callable[[Session], None] = lambda session: None,
    core: int | None = None,
    realtime: bool = False,
    traced: bool = False,
    presets: Mapping[str, Change] | None = None,
    steered: Callable[[Console], AbstractContextManager[None]] = lambda console: nullcontext(),
    links: Links | None = None,
    recognizer: Recognizer | None = None,
) -> Finished:
    """Play what ``engine`` extracts, through the hearing chain of ``head``, until ``seconds`` have passed or ``stopped`` says so.

    ``record`` keeps the session in a file, which names its voices, or holds them (``with_voice``). What is wrong with the ears
    becomes an event of the session, as does what the recorder has to say. ``tell`` is called about twenty times a second.
    ``traced`` notes the parts of each step, which costs a few microseconds. ``steered`` is given the session's console and lets
    keys or programs use it while it runs. ``links`` are where ``wiring`` hears: what is new about them is a mark, which the
    recording keeps. ``recognizer`` judges the talker on the thread that calls ``tell``. Errors as of
    :func:`edge_tse.live.supervision.supervise`, :class:`edge_tse.live.recording.Recorder` and :func:`steering`.
    """
    ceiling = head.calibration.ceiling(head.hearing.max_output_db_spl)
    loop = Loop(rate_hz=wiring.rate_hz, ears=wiring.ears, block=wiring.block, margin_s=margin_s, ceiling=ceiling)
    notes: list[str] = []
    watch = EarWatch(wiring.rate_hz, engine.frame.level_invariant)
    began_s = looked_s = time.perf_counter()

    doubts = None if recognizer is None else DoubtWatch(recognizer)

    def watch_and_tell(session: Session) -> None:
        nonlocal looked_s
        if doubts is not None and (doubt := doubts()):
            session.note(doubt)
        if (now := time.perf_counter()) - looked_s > _LOOK_EVERY_S:
            looked_s = now
            for remark in watch(session.recent(_LOOK_EVERY_S), now):
                session.note(f"microphones: {remark}")
        for remark in () if links is None else links.remarks():
            session.change(Change(mark=remark[:LONGEST_MARK]))
        while notes:  # of the recorder's thread
            session.note(notes.pop(0))
        tell(session)

    def recorder(path: Path, hop: int) -> Recorder:
        return Recorder(path, {**head.to_json(with_voice=with_voice), "from_hop": hop}, loop, engine.frame, notes.append)

    chain = Chain(head.hearing, engine.frame, wiring.ears, head.calibration)
    voices = {each.name: each.voice for each in head.voices if each.voice is not None}
    steers = steering(head, voices, engine, chain, recognizer)
    first = None if record is None else recorder(record, 0)
    tape = Tape() if traced else None
    heard = engine if tape is None else TracedEngine(engine, tape)
    shape = chain if recognizer is None else recognizer.told(chain)
    session = Session(heard, loop, shape=shape, tap=first, steering=steers)
    console = Console(
        session, presets=presets, recorder=first, record=recorder, calibration=head.calibration, recognizer=recognizer
    )
    try:
        with steered(console):
            run = supervise(
                session,
                lambda current: Duplex(wiring, current.exchange) if links is None else open_linked(wiring, current.exchange, links),
                seconds=seconds,
                stopped=lambda: stopped() or console.ended.is_set(),
                tell=watch_and_tell,
                core=core,
                realtime=realtime,
            )
    finally:
        console.close()
    return Finished(
        session=session,
        run=run,
        wiring=wiring,
        head=head,
        began_s=began_s,
        recording=record,
        notes=tuple(notes),
        links=links,
        tape=tape,
        confidence=None if recognizer is None else recognizer.close(),
    )


def replay_live(
    recording: Recording,
    head: Head,
    voices: Mapping[str, Voice],
    engine: AnyEngine,
    progress: Callable[[float], None] = lambda fraction: None,
    write: Callable[[Float], None] = lambda played: None,
) -> Replayed:
    """Run a recorded session again, through an engine with its voices by name and the hearing chain of that session.

    ``write`` is given the output in blocks ``[ears, any]``.
    """
    chain = Chain(head.hearing, engine.frame, recording.loop.ears, head.calibration)
    return replay(recording, engine, chain, progress, write, steering(head, voices, engine, chain))


def steering(
    head: Head, voices: Mapping[str, Voice], engine: AnyEngine, chain: Chain, recognizer: Recognizer | None = None
) -> Steering:
    """Steering of a session: of its chain and, where it has several voices, of its engine and of who is recognized.

    ``EngineError`` if the engine takes no voice while it runs.
    """
    switches: dict[str, Callable[[], None]] = {}
    if len(voices) > 1:
        if not isinstance(engine, VoicedEngine):
            raise EngineError(f"this engine keeps one voice while it runs, {len(voices)} were given: give one --voice")
        switches = {name: _both(engine.switch_to(voice), recognizer, voice) for name, voice in voices.items()}

    started = Settings.of(head.hearing, head.voices[0].name)
    worn = started.audiogram

    def mix(settings: Settings) -> None:
        nonlocal worn
        chain.steer(talker_db=settings.talker_db, ambient_db=settings.ambient_db, bypass=settings.bypass, mute=settings.mute)
        if settings.audiogram != worn:
            worn = settings.audiogram
            chain.prescribe(parse_audiogram(worn) if worn else None)

    return Steering(started, switches, mix)


def _both(switch: Callable[[], None], recognizer: Recognizer | None, voice: Voice) -> Callable[[], None]:
    """A switch of the engine and, where there is one, of the recognizer."""
    if recognizer is None:
        return switch

    def switch_both() -> None:
        switch()
        recognizer.switch_to(voice)

    return switch_both
