"""The trace of a live session: its last minute, by hop and block, with what was late and what happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_tse.live.running import Finished
from edge_tse.trace import ENGINE, counter, instant, noting_us, save_trace, slices, span

__all__ = ["save_session_trace"]

_DEVICE, _PYTHON = 2, 3
_TRACKS = {ENGINE: "engine", _DEVICE: "device", _PYTHON: "Python's garbage collector"}


def save_session_trace(to: Path, finished: Finished) -> None:
    """Write the trace of a session whose steps were noted."""
    tape, session = finished.tape, finished.session
    assert tape is not None, "the session was not traced"
    times = tape.read()
    asked, arrived, loop = session.requests.read(), session.arrivals.read(), session.loop
    origin_s = float(times[0, 0]) if len(times) else finished.began_s
    events = slices(times, origin_s)
    # What follows a step: the hearing chain, resampling, and the ring.
    ends = times[:, -1]
    after = np.searchsorted(arrived.at_s, ends)
    for end_s, i in zip(ends, after, strict=True):
        if i < len(arrived.at_s):
            events.append(span("hearing chain and output", end_s, arrived.at_s[i], origin_s))
    for at_s, shortage in zip(asked.at_s, asked.shortage, strict=True):
        if at_s >= origin_s:
            early_ms = -int(shortage) / loop.rate_hz * 1e3
            events.append(counter("in reserve, ms", at_s, origin_s, early_ms))
            if shortage > 0:
                events.append(instant("late block", at_s, origin_s, _DEVICE, late_ms=-early_ms))
    events += [
        instant(event.what, event.at_s, origin_s, ENGINE, took_ms=event.took_s * 1e3)
        for event in session.events
        if event.at_s >= origin_s
    ]
    events += [
        span("garbage collection", began_s, ended_s, origin_s, _PYTHON)
        for began_s, ended_s in session.garbage.spans
        if began_s >= origin_s
    ]
    about = {
        "engine": finished.head.engine,
        "artifact": finished.head.artifact,
        "steps": len(times),
        "of": tape.count,
        "noting_us_per_step": noting_us(),
        "operators": "not told apart while a session runs: `edge-tse profile --trace` has them",
    }
    save_trace(to, events, _TRACKS, about)
