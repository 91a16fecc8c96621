"""A live session with a hearing chain, from engine and devices to its figures: `edge-tse live` runs it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.hearing.chain import Chain
from edge_tse.live.devices import Duplex, Wiring
from edge_tse.live.ears import EarWatch
from edge_tse.live.loop import Loop
from edge_tse.live.recording import Recorder, Recording, Replayed, replay
from edge_tse.live.recording_head import Head
from edge_tse.live.session import Session
from edge_tse.live.supervision import Run, supervise
from edge_tse.report import memory
from edge_tse.stream import AnyEngine

__all__ = ["Finished", "replay_live", "run_live"]

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
            "compute": run.timing.figures() if run.timing else None,
            "memory": memory(),
            "events": [asdict(event) for event in self.session.events],
            "engine": self.head.engine,
            "artifact": self.head.artifact,
            "recording": self.recording,
        }

    def tables(self) -> dict[str, dict[str, str]]:
        """Tables for people: rows of text under two headings."""
        run, latency, health = self.run, self.run.latency, self.run.health
        wiring, hearing, levels = self.wiring, self.head.hearing, self.head.calibration
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
            "engine": self.head.engine,
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
        loudest_dbfs = 20 * math.log10(levels.ceiling(hearing.max_output_db_spl))
        heard["loudest output"] = f"{hearing.max_output_db_spl:g} dB SPL is {loudest_dbfs:.1f} dBFS ({levels.source})"
        return {"session": heard, "latency": way}


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
) -> Finished:
    """Play what ``engine`` extracts, through the hearing chain of ``head``, until ``seconds`` have passed or ``stopped`` says so.

    ``record`` keeps the session in a file, which names its voice, or holds it (``with_voice``). What is wrong with the ears becomes
    an event of the session, as does what the recorder has to say. ``tell`` is called about twenty times a second. Errors as of
    :func:`edge_tse.live.supervision.supervise` and :class:`edge_tse.live.recording.Recorder`.
    """
    ceiling = head.calibration.ceiling(head.hearing.max_output_db_spl)
    loop = Loop(rate_hz=wiring.rate_hz, ears=wiring.ears, block=wiring.block, margin_s=margin_s, ceiling=ceiling)
    notes: list[str] = []
    watch = EarWatch(wiring.rate_hz, engine.frame.level_invariant)
    began_s = looked_s = time.perf_counter()

    def told(session: Session) -> None:
        nonlocal looked_s
        if (now := time.perf_counter()) - looked_s > _LOOK_EVERY_S:
            looked_s = now
            for remark in watch(session.recent(_LOOK_EVERY_S), now):
                session.note(f"microphones: {remark}")
        while notes:  # of the recorder's thread
            session.note(notes.pop(0))
        tell(session)

    stated = head.to_json(with_voice=with_voice)
    recorder = None if record is None else Recorder(record, stated, loop, engine.frame, notes.append)
    try:
        shape = Chain(head.hearing, engine.frame, wiring.ears, head.calibration)
        session = Session(engine, loop, shape=shape, tap=recorder)
        run = supervise(
            session,
            lambda current: Duplex(wiring, current.exchange),
            seconds=seconds,
            stopped=stopped,
            tell=told,
            core=core,
            realtime=realtime,
        )
    finally:
        if recorder is not None:
            recorder.close()
    return Finished(session=session, run=run, wiring=wiring, head=head, began_s=began_s, recording=record, notes=tuple(notes))


def replay_live(
    recording: Recording,
    head: Head,
    engine: AnyEngine,
    progress: Callable[[float], None] = lambda fraction: None,
    write: Callable[[Float], None] = lambda played: None,
) -> Replayed:
    """Run a recorded session again, through an engine with the voice of ``head`` and the hearing chain of that session.

    ``write`` is given the output in blocks ``[ears, any]``.
    """
    shape = Chain(head.hearing, engine.frame, recording.loop.ears, head.calibration)
    return replay(recording, engine, shape, progress, write)
