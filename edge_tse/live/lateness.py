"""Lateness of a session: when each hop arrived against its margin, what was late and why, and which margin would have sufficed.

A margin is time that output waits before it is due. With another one, everything would have been due by so much later: so the
margin that a hop would have needed follows from the positions alone, in the blocks of the device that ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.arrivals import Arrived, Asked
from edge_tse.live.latency import ahead, device_hop
from edge_tse.live.loop import CHANGE, DEVICE, ENGINE, Event, Fate, Loop
from edge_tse.live.recording import Recording
from edge_tse.live.session import Session
from edge_tse.live.steering import Change

__all__ = ["UNEXPLAINED", "Late", "Lateness", "recorded_lateness", "session_lateness"]

Array = NDArray[np.float64]

SHARES = (99.0, 99.9, 100.0)
"""Percentages of hops for which a sufficient margin is stated."""
UNEXPLAINED = "unexplained"
_TOGETHER_S = 0.02  # late blocks with less between them are one event
_LISTED = 1000
_LOST_S = 2.0  # after a device has come back
_BACKLOG = 64  # hops that are looked through for the beginning of a delay
_NO_TIMES = "a recording keeps places in the sound and no times: pauses of the system or of Python do not show in it"
_NO_RESERVES = "this recording is of an earlier edge-tse, which kept no hop that was early: at most the margin it had is known"


@dataclass(frozen=True, kw_only=True)
class Late:
    """Late blocks, one soon after the other."""

    at_s: float
    """Time of the first, from the beginning of the session."""
    blocks: int
    worst_ms: float
    """Most by which the output did not reach the end of a block, the fade included."""
    cause: str
    """Kind of cause, or :data:`UNEXPLAINED`."""
    detail: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Lateness:
    """Answer to: how late was it, why, and which margin would have done?"""

    margin_ms: float
    blocks: int
    late_blocks: int
    hops: int
    sufficient_ms: Mapping[str, float]
    """Least margin with which that percentage of hops would have been there in time, by percentage."""
    late: Sequence[Late]
    at_s: Array
    """Times of the points that follow, from the beginning of the session."""
    late_ms: Array
    """Time by which each hop came after it was due, its fade included; negative: it was early."""
    timed: bool
    """Whether times were known; if not, places in the sound tell it to a block."""
    unknown: str = ""
    """What could not be told, and why."""

    @property
    def causes(self) -> dict[str, int]:
        """Events by their kind of cause, the most frequent first."""
        return dict(Counter(each.cause for each in self.late).most_common())

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report; the late events that are listed are the worst."""
        worst = sorted(self.late, key=lambda each: -each.worst_ms)[:_LISTED]
        return {
            "margin_ms": self.margin_ms,
            "sufficient_margin_ms": dict(self.sufficient_ms),
            "hops": self.hops,
            "late_ms": self._levels(),
            "timed": self.timed,
            "blocks": self.blocks,
            "late_blocks": self.late_blocks,
            "late_events": len(self.late),
            "causes": self.causes,
            "late": [asdict(each) for each in sorted(worst, key=lambda each: each.at_s)],
            "unknown": self.unknown,
        }

    def _levels(self) -> dict[str, float] | None:
        if not len(self.late_ms):
            return None
        levels = {f"p{p}": float(np.percentile(self.late_ms, p, method="inverted_cdf")) for p in (50, 90, 99)}
        return {**levels, "max": float(self.late_ms.max())}

    def rows(self) -> dict[str, str]:
        """Rows of a table for people."""
        enough = ", ".join(f"{'all' if p == '100' else p + ' %'} {ms:.1f} ms" for p, ms in self.sufficient_ms.items())
        rows = {
            "margin that would have sufficed": f"{enough} (it was {self.margin_ms:g} ms)" if enough else "nothing was asked for"
        }
        if (levels := self._levels()) is not None:
            told = (f"{name} {abs(ms):.2f} ms {'late' if ms > 0 else 'early'}" for name, ms in levels.items())
            rows["hops came"] = ", ".join(told)
        if self.late:
            rows["why late"] = "; ".join(f"{cause}: {times} time{'s' * (times > 1)}" for cause, times in self.causes.items())
        if self.unknown:
            rows["not known"] = self.unknown
        return rows


def session_lateness(session: Session, began_s: float) -> Lateness:
    """Lateness of a session that began then by its clock and has run, from its logs: of a very long one, of its last half hour."""
    asked, arrived = session.requests.read(), session.arrivals.read()
    loop = session.loop
    start, _, latency = ahead(session.frame, loop)
    hop = device_hop(session.frame, loop)
    sound_in = arrived.start - start + hop + round(latency.resampling_s * loop.rate_hz)
    # The first block that wanted what it became.
    wanted = np.searchsorted(asked.end + loop.fade, arrived.start, side="right")
    known = (wanted < len(asked.at_s)) & (sound_in > (asked.end[0] if len(asked.end) else 0))
    late_s = arrived.at_s[known] - asked.at_s[wanted[known]]
    why = _Causes(session, asked, arrived, sound_in)
    late = [_late(asked, group, began_s, loop, *why.of(int(group[0]))) for group in _groups(asked)]
    return _lateness(
        loop,
        asked,
        hop,
        late,
        at_s=arrived.at_s[known] - began_s,
        late_ms=late_s * 1e3,
        timed=True,
    )


def recorded_lateness(recording: Recording) -> Lateness:
    """Lateness of a recorded session, as far as a recording tells it."""
    asked, loop, hop_rate_hz = recording.asked, recording.loop, float(recording.head["hop_rate_hz"])
    hop = round(loop.rate_hz / hop_rate_hz)
    changed = {at / hop_rate_hz: change for at, changes in recording.changes.items() for change in changes}
    failed = [at / hop_rate_hz for at, fate in recording.fates.items() if fate is Fate.FAILED]
    patience_s = loop.margin_s + (2 * loop.block + 2 * hop) / loop.rate_hz
    flagged_s = asked.at_s[asked.flags > 0]
    late = [
        _late(asked, group, 0.0, loop, *_beside(float(asked.at_s[group[0]]), patience_s, flagged_s, changed, failed))
        for group in _groups(asked)
    ]
    needed, first = _needed(asked, loop, hop)
    return _lateness(
        loop,
        asked,
        hop,
        late,
        at_s=asked.at_s[first],
        late_ms=(needed / loop.rate_hz - loop.margin_s) * 1e3,
        timed=False,
        unknown=_NO_TIMES if recording.tells_reserves else f"{_NO_RESERVES}; {_NO_TIMES}",
    )


def _lateness(
    loop: Loop,
    asked: Asked,
    hop: int,
    late: Sequence[Late],
    *,
    at_s: Array,
    late_ms: Array,
    timed: bool,
    unknown: str = "",
) -> Lateness:
    needed, _ = _needed(asked, loop, hop)
    enough = {f"{p:g}": float(np.percentile(needed, p, method="inverted_cdf")) for p in SHARES} if len(needed) else {}
    return Lateness(
        margin_ms=loop.margin_s * 1e3,
        blocks=len(asked.end),
        late_blocks=int(np.count_nonzero(asked.shortage > 0)),
        hops=len(needed),
        sufficient_ms={p: samples / loop.rate_hz * 1e3 for p, samples in enough.items()},
        late=late,
        at_s=at_s,
        late_ms=late_ms,
        timed=timed,
        unknown=unknown,
    )


def _needed(asked: Asked, loop: Loop, hop: int) -> tuple[Array, NDArray[np.int64]]:
    """Samples of margin that each hop would have needed, at least the fade; and the last block before it was there.

    That block did without it: so it would have to be due after what that block wanted, its fade included.
    """
    if len(asked.end) < 2:
        return np.zeros(0), np.zeros(0, np.int64)
    reach = asked.end + loop.fade - asked.shortage
    more = np.diff(reach)
    hops = np.where(more > 0, np.maximum(1, np.rint(more / hop)), 0).astype(np.int64)
    block = np.repeat(np.arange(len(hops)), hops)
    within = np.arange(len(block)) - np.repeat(np.cumsum(hops) - hops, hops)
    needed = round(loop.margin_s * loop.rate_hz) + asked.shortage[block] - within * hop
    return np.maximum(needed, loop.fade).astype(np.float64), block


def _groups(asked: Asked) -> list[NDArray[np.int64]]:
    """Late blocks, those together that are soon after each other."""
    late = np.flatnonzero(asked.shortage > 0)
    if not len(late):
        return []
    return np.split(late, np.flatnonzero(np.diff(asked.at_s[late]) > _TOGETHER_S) + 1)


def _late(asked: Asked, group: NDArray[np.int64], began_s: float, loop: Loop, cause: str, detail: str) -> Late:
    return Late(
        at_s=float(asked.at_s[group[0]]) - began_s,
        blocks=len(group),
        worst_ms=int(asked.shortage[group].max()) / loop.rate_hz * 1e3,
        cause=cause,
        detail=detail,
    )


def _beside(
    at_s: float, patience_s: float, flagged_s: Array, changed: Mapping[float, Change], failed: Sequence[float]
) -> tuple[str, str]:
    """Cause of a late block in a recording: what stands beside it."""

    def near(times: Sequence[float]) -> list[float]:
        return [time for time in times if at_s - patience_s <= time <= at_s]

    if flagged := int(np.count_nonzero(np.abs(flagged_s - at_s) <= patience_s)):
        return "xrun", f"the device flagged {flagged} block{'s' * (flagged > 1)} beside it"
    if near(failed):
        return ENGINE, "the engine failed beside it"
    if changes := near(list(changed)):
        return CHANGE, f"beside a change: {changed[changes[-1]].said}"
    return UNEXPLAINED, "nothing in the recording explains it"


class _Causes:
    """Finds why blocks of a session were late: what took as long as the output was late by, and at that time."""

    def __init__(self, session: Session, asked: Asked, arrived: Arrived, sound_in: NDArray[np.int64]) -> None:
        self._asked, self._arrived, self._loop = asked, arrived, session.loop
        self._sound_in = sound_in
        self._in_s = np.append(asked.at_s, np.inf)[np.searchsorted(asked.end, sound_in)]
        self._events: Sequence[Event] = [event for event in session.events if event.kind]
        self._garbage = session.garbage.spans
        self._flagged_s = asked.at_s[asked.flags > 0]
        self._period_s = session.frame.period_s

    def of(self, block: int) -> tuple[str, str]:
        """Kind of cause and what is known of it, for the first late block of several."""
        asked, arrived = self._asked, self._arrived
        due_s = float(asked.at_s[block])
        reach = int(asked.end[block]) + self._loop.fade - int(asked.shortage[block])
        last = int(np.searchsorted(arrived.start, reach))
        there = last < len(arrived.at_s)
        first = last
        # Back to the hop with which the engine fell behind: before it, there was nothing to do.
        while there and first > 0 and last - first < _BACKLOG and arrived.at_s[first - 1] > self._in_s[first]:
            first -= 1
        end_s = float(arrived.at_s[last]) if there else due_s
        began_s = min(float(self._in_s[first]) if there and np.isfinite(self._in_s[first]) else due_s, due_s)
        late_s = max(end_s - due_s, 0.0)
        return (
            self._told(began_s, due_s, end_s)
            or self._paused(began_s, end_s, late_s)
            or (self._worked(block, first, last, began_s, due_s, end_s, late_s) if there else None)
            or (UNEXPLAINED, "nothing that was measured explains it")
        )

    def _told(self, began_s: float, due_s: float, end_s: float) -> tuple[str, str] | None:
        """Events that need no duration."""
        for event in self._events:
            if event.kind == DEVICE and began_s - _LOST_S <= event.at_s <= end_s:
                return DEVICE, event.what
        near_s = due_s - began_s + 2 * self._loop.block / self._loop.rate_hz
        if flagged := int(np.count_nonzero(np.abs(self._flagged_s - due_s) <= near_s)):
            return "xrun", f"the device flagged {flagged} block{'s' * (flagged > 1)}: it had lost or missed sound"
        for event in self._events:
            if event.kind == ENGINE and began_s <= event.at_s <= end_s + self._period_s:
                return ENGINE, event.what
        return None

    def _paused(self, began_s: float, end_s: float, late_s: float) -> tuple[str, str] | None:
        """What took a known time within that of the delay, without which the output would have been there."""
        overlap = np.minimum(self._garbage[:, 1], end_s) - np.maximum(self._garbage[:, 0], began_s)
        took_s = float(overlap[overlap > 0].sum())
        if took_s and took_s >= late_s:
            return "garbage collection", f"Python collected garbage for {took_s * 1e3:.1f} ms"
        for event in self._events:
            if event.kind == CHANGE and began_s <= event.at_s <= end_s and event.took_s >= late_s:
                return CHANGE, event.what
        return None

    def _worked(
        self, block: int, first: int, last: int, began_s: float, due_s: float, end_s: float, late_s: float
    ) -> tuple[str, str] | None:
        """Whether the engine's thread computed all that time, or was kept from it, or had less time than it should."""
        hops = last + 1 - first
        cpu_s = float(self._arrived.cpu_s[first : last + 1].sum())
        idle_s = end_s - began_s - cpu_s
        had_s = due_s - began_s
        wanted_s = (int(self._asked.end[block]) - int(self._sound_in[first])) / self._loop.rate_hz
        if late_s < wanted_s - had_s and had_s < wanted_s / 2:
            return (
                "burst",
                f"the device asked for {wanted_s * 1e3:.1f} ms of sound within {had_s * 1e3:.1f} ms: it was kept waiting",
            )
        if cpu_s >= had_s * 0.8:
            each_ms = cpu_s / hops * 1e3
            return (
                "computing",
                f"{hops} hop{'s' * (hops > 1)} took {each_ms:.2f} ms of the processor each, of {self._period_s * 1e3:g} ms",
            )
        if idle_s >= late_s:
            paused = f"{idle_s * 1e3:.1f} of {(end_s - began_s) * 1e3:.1f} ms"
            return (
                "scheduling",
                f"the engine's thread did not run for {paused}: other programs did, or the engine waited for something",
            )
        return None
