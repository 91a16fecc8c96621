"""A live session: a sound device brings and takes blocks, and an engine works beside it.

The device calls :meth:`Session.exchange` from its own thread with a block of any size. That call copies samples and never waits: an
engine on a thread of its own takes the input from one ring and leaves the talker in another. Every sample has a position, so
latency is constant by construction: the output at position *n* is the input at ``n - latency`` with everybody else turned down, and
where the engine was late it is that same input itself, cross-faded. docs/decisions/0015 has the measurements.

``exchange`` takes and gives ``[n, ears]``, as devices do; steps take ``[ears, hop]``, as everything else here does.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import gcd
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.arrivals import Arrivals, Garbage, Requests
from edge_tse.live.latency import ahead, device_hop
from edge_tse.live.loop import CHANGE, ENGINE, Event, Fate, Health, Loop
from edge_tse.live.resampling import Resampler
from edge_tse.live.ring import Ring
from edge_tse.live.steering import Change, Settings, Steering
from edge_tse.report import Timing
from edge_tse.stream import AnyEngine

__all__ = ["GRID", "Session", "Tap"]

Float = NDArray[np.float32]

GRID = np.float32(2.0**23)
"""Grid of 24 bits for everything that enters and leaves: no converter exceeds it and every recording holds it."""
_HISTORY_S = 2.0  # of input: what may wait for an engine that hangs before it is given up
_LONGEST_PAUSE = 256  # hops: one second between attempts on an engine that keeps failing


class Tap(Protocol):
    """Listener to a session, told everything by two threads, which must not wait: a recording."""

    def block(self, heard: Float, played: Float, shortage: int, flags: int) -> None:
        """Told each block ``[n, ears]`` in and out, by the device's thread."""

    def hop(self, index: int, fate: Fate) -> None:
        """Told each hop that was not extracted, by the engine's thread."""

    def change(self, index: int, change: Change) -> None:
        """Told each change, and the hop from which it holds, by the engine's thread."""


class Session:
    """One stream through one engine. Give :meth:`exchange` to a device, or call it and :meth:`work` by turns."""

    INPUT_OVERRUN, OUTPUT_UNDERRUN = 1, 2

    def __init__(
        self,
        engine: AnyEngine,
        loop: Loop,
        *,
        shape: Callable[[Float, Float], Float] | None = None,
        tap: Tap | None = None,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
        steering: Steering | None = None,
        fates: Mapping[int, Fate] | None = None,
        changes: Mapping[int, Sequence[Change]] | None = None,
    ) -> None:
        """``shape`` turns a hop of the talker and the same hop dry, ``[ears, hop]`` each, into the hop played, without delay.

        ``steering`` makes the changes that :meth:`change` is asked for. In a replay ``fates`` decides instead of circumstances what
        becomes of each hop (those it does not name are extracted), and ``changes`` what is changed at each.
        """
        self.loop, self.frame = loop, engine.frame
        self._engine, self._shape, self.tap, self._clock, self._fates = engine, shape, tap, clock, fates
        self.steering = Steering(Settings()) if steering is None else steering
        self._asked: deque[Change] = deque()
        self._changes = changes or {}
        self._step = engine.start(loop.ears)
        frame, ears = self.frame, loop.ears
        self._down = Resampler(loop.rate_hz, frame.sample_rate_hz, ears)
        self._up = Resampler(frame.sample_rate_hz, loop.rate_hz, ears)
        start, self.latency_samples, self.latency = ahead(frame, loop)
        hop = device_hop(frame, loop)
        self._fade = loop.fade
        capacity = round(_HISTORY_S * loop.rate_hz) + 2 * self.latency_samples + 4 * loop.block
        self._heard = Ring(capacity, ears)
        self._talker = Ring(capacity, ears, start)
        self._start = start
        self._played = 0
        self._good_from = -self._fade  # where the talker's present run began
        self._gain = 1.0

        n = loop.block
        self._in, self._dry, self._wet = (np.zeros((n, ears), np.float32) for _ in range(3))
        self._finite = np.zeros((n, ears), bool)
        self._rise = (np.arange(n, dtype=np.float32)[:, None] + 1) / np.float32(self._fade)
        self._bound, self._weight = np.zeros((n, 1), np.float32), np.zeros((n, 1), np.float32)

        self._taken = 0
        self._chunk = np.zeros((hop, ears), np.float32)
        self._pending, self._filled = np.zeros((frame.hop, ears), np.float32), 0
        self._before = np.zeros((ears, frame.delay), np.float32)
        self._last, self._was = np.zeros(ears, np.float32), Fate.EXTRACTED
        self._ramp = 1 - (np.arange(frame.hop, dtype=np.float32) + 1) / np.float32(frame.hop)
        self.requests, self.arrivals, self.garbage = Requests(), Arrivals(), Garbage(clock)
        """Logs of the device's thread, of the engine's, and of Python's collector."""
        self._cpu_clock, self._step_s = cpu_clock, math.nan
        self._hops = 0
        self._rest = self._failures = 0
        self._fated = [0] * len(Fate)
        self._blocks = self._late = self._short = self._lost = self._overruns = self._underruns = 0
        self._longest_s = 0.0
        self._least: float = _HISTORY_S * loop.rate_hz
        self._events: deque[Event] = deque(maxlen=1000)
        self._bell = threading.Lock()
        self._bell.acquire()
        self._thread: threading.Thread | None = None
        self._stopping = False

    # The device's thread

    def exchange(self, heard: Float, out: Float, flags: int = 0, available: int | None = None) -> None:
        """Take ``heard [n, ears]``, fill ``out [n, ears]``: no waiting, nothing allocated that stays.

        A block larger than ``loop.block`` is cut. ``flags`` are :attr:`INPUT_OVERRUN` and :attr:`OUTPUT_UNDERRUN` as the device
        raised them. ``available`` says in a replay how many samples beyond this block the engine's output reached.
        """
        began = self._clock()
        size = self.loop.block
        for at in range(0, len(heard), size):
            self._exchange(heard[at : at + size], out[at : at + size], flags if not at else 0, available, began)
        self._overruns += flags & self.INPUT_OVERRUN
        self._underruns += (flags & self.OUTPUT_UNDERRUN) >> 1
        if self._bell.locked():  # only this thread opens it: releasing never waits
            self._bell.release()
        self._longest_s = max(self._longest_s, self._clock() - began)

    def _exchange(self, heard: Float, out: Float, flags: int, available: int | None, began: float) -> None:
        n = len(heard)
        clean = self._in[:n]
        _clean(heard, clean, self._finite[:n])
        self._heard.write(clean)
        position, reach = self._played, self._talker.end if available is None else self._played + n + available
        wet = self._wet[:n]
        self._talker.read(position, wet)
        shortage = position + n + self._fade - reach
        self._least = min(self._least, -shortage)
        if shortage > 0 or self._gain < 1 or position - self._good_from < self._fade:
            self._blend(wet, position, reach, shortage > 0)
        np.clip(wet, -self.loop.ceiling, self.loop.ceiling, out=out)
        self._played = position + n
        self._blocks += 1
        self.requests.add(began, self._played, shortage, flags)
        if self.tap is not None:
            self.tap.block(clean, out, shortage, flags)

    def _blend(self, wet: Float, position: int, reach: int, late: bool) -> None:
        """Replace samples that the engine did not deliver by those heard at that moment; the weight moves by at most 1 / fade."""
        n = len(wet)
        dry, weight, bound = self._dry[:n], self._weight[:n], self._bound[:n]
        self._heard.read(position - self.latency_samples, dry)
        np.add(self._rise[:n], self._gain, out=weight)
        np.subtract((reach - position + 1) / self._fade, self._rise[:n], out=bound)
        np.minimum(weight, bound, out=weight)
        np.add(self._rise[:n], (position - self._good_from) / self._fade, out=bound)
        np.minimum(weight, bound, out=weight)
        np.clip(weight, 0, 1, out=weight)
        self._gain = float(weight[-1, 0])
        short = int(np.count_nonzero(weight < 1))
        self._short += short
        self._late += late and short > 0
        np.subtract(wet, dry, out=wet)
        np.multiply(wet, weight, out=wet)
        np.add(wet, dry, out=wet)

    # The engine's thread

    def work(self) -> None:
        """Extract everything that has arrived."""
        used_s = self._cpu_clock()
        while (waiting := self._heard.end - self._taken) > 0:
            chunk = self._chunk[: min(waiting, len(self._chunk))]
            self._heard.read(self._taken, chunk)
            if self._heard.end - self._taken > self._heard.capacity - 2 * self.loop.block:
                self._give_up()
                continue
            self._taken += len(chunk)
            inner = self._down.push(chunk)
            while len(inner):
                n = min(len(inner), self.frame.hop - self._filled)
                self._pending[self._filled : self._filled + n] = inner[:n]
                self._filled += n
                inner = inner[n:]
                if self._filled == self.frame.hop:
                    self._filled, self._step_s, start = 0, math.nan, self._talker.end
                    self._talker.write(self._up.push(self._hop(np.ascontiguousarray(self._pending.T)).T))
                    before_s, used_s = used_s, self._cpu_clock()
                    self.arrivals.add(self._clock(), start, self._step_s, used_s - before_s)

    def _hop(self, hop: Float) -> Float:
        """The samples that are played for one hop ``[ears, hop]``."""
        self._steer()
        joined = np.concatenate([self._before, hop], axis=1)
        dry, self._before = joined[:, : self.frame.hop], joined[:, self.frame.hop :]
        talker, fate = self._extract(hop)
        heard = dry if talker is None else talker
        if (talker is None) != (self._was is not Fate.EXTRACTED):
            # No talker is there to fade with: the step between the two is taken out over one hop.
            heard = heard + (self._last - heard[:, 0])[:, None] * self._ramp
        self._last, self._was = heard[:, -1].copy(), fate
        if fate is not Fate.EXTRACTED:
            self._fated[fate] += 1
            if self.tap is not None:
                self.tap.hop(self._hops, fate)
        self._hops += 1
        return heard if self._shape is None else self._shape(heard, dry)

    def _steer(self) -> None:
        """Make what changes at this hop."""
        for change in self._changes.get(self._hops, ()):
            self.steering.apply(change)
        while self._asked:
            change, began = self._asked.popleft(), self._clock()
            try:
                self.steering.apply(change)
            except Exception as failure:  # as with an engine that fails: the wearer must go on hearing
                self.note(f"{change.said}: not done ({' '.join(str(failure).split())})")
                continue
            took_s = self._clock() - began
            self.note(f"{change.said} ({took_s * 1e3:.2f} ms)", CHANGE, took_s)
            if self.tap is not None:
                self.tap.change(self._hops, change)

    def _extract(self, hop: Float) -> tuple[Float | None, Fate]:
        fate = self._fate()
        if fate in (Fate.SKIPPED, Fate.FAILED):
            if self._fates is not None and fate is Fate.FAILED:
                self._step = self._engine.start(self.loop.ears)  # as the session did that is replayed
            return None, fate
        began = self._clock()
        try:
            talker = self._step(hop)
            sound = talker.shape == hop.shape and bool(np.isfinite(talker).all())
            reason = "" if sound else f"{list(talker.shape)} samples that are not all finite, where {list(hop.shape)} were due"
        except Exception as failure:  # whatever an engine raises, the wearer must go on hearing
            sound, reason = False, f"{type(failure).__name__}: {failure}"
        self._step_s = self._clock() - began
        if not sound:
            self._recover(reason)
            return None, Fate.FAILED
        self._failures = 0
        return (None if fate is Fate.SETTLING else talker), fate

    def _fate(self) -> Fate:
        if self._fates is not None:
            return self._fates.get(self._hops, Fate.EXTRACTED)
        if self._rest:
            self._rest -= 1
            return Fate.FAILED
        behind = (self._heard.end - self._taken) * self.frame.sample_rate_hz / (self.loop.rate_hz * self.frame.hop)
        if behind > self.loop.backlog + self.loop.block * self.frame.sample_rate_hz / (self.loop.rate_hz * self.frame.hop):
            return Fate.SKIPPED
        return Fate.SETTLING if self._was in (Fate.SKIPPED, Fate.FAILED) else Fate.EXTRACTED

    def _recover(self, reason: str) -> None:
        """Begin a new stream after a failure, later and later while it does not help."""
        if not self._failures:
            self.note(f"the engine failed ({' '.join(reason.split())}): the dry signal is played until it runs again", ENGINE)
        self._failures += 1
        self._rest = min(2**self._failures, _LONGEST_PAUSE)
        try:
            self._step = self._engine.start(self.loop.ears)
        except Exception as failure:  # as above; the next attempt will tell
            if self._failures == 1:
                self.note(f"the engine does not start again ({' '.join(str(failure).split())})", ENGINE)

    def _give_up(self) -> None:
        """Go on from now, at the right positions, after the input was overwritten while the engine hung."""
        now = self._heard.end
        # Whole hops from the start, and whole periods of the resamplers, keep both rates in step.
        period = self.frame.hop * self.loop.rate_hz // gcd(self.frame.hop * self.loop.rate_hz, self.frame.sample_rate_hz)
        resumed = now // period * period
        self._lost += resumed - self._taken
        self.note(f"the engine hung: {(resumed - self._taken) / self.loop.rate_hz:.1f} s were played dry", ENGINE)
        ears = self.loop.ears
        self._down = Resampler(self.loop.rate_hz, self.frame.sample_rate_hz, ears)
        self._up = Resampler(self.frame.sample_rate_hz, self.loop.rate_hz, ears)
        self._filled, self._was = 0, Fate.SKIPPED
        self._taken = resumed
        self._good_from = resumed + self._start  # before the end, which makes it count
        self._talker.skip(resumed + self._start)

    def start(self, *, core: int | None = None, realtime: bool = False) -> None:
        """Run :meth:`work` on a thread, on one processor core and with SCHED_FIFO if asked for and permitted."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(core, realtime), name="edge-tse engine", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a step that hangs is left behind."""
        if self._thread is not None:
            self._stopping = True
            self._thread.join(timeout=2.0)
            self._thread = None

    def _run(self, core: int | None, realtime: bool) -> None:
        if core is not None:
            try:
                os.sched_setaffinity(0, {core})  # 0 is this thread
            except (AttributeError, OSError) as failure:
                self.note(f"core {core} cannot be used ({failure}): the system chooses")
        if realtime:
            try:
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
            except (AttributeError, OSError) as failure:
                self.note(f"no real-time priority ({failure}): allow it with `ulimit -r 10`")
        while not self._stopping:
            self._bell.acquire(timeout=0.1)
            self.work()

    # Everybody

    def change(self, change: Change) -> None:
        """Change settings, or make a mark, at the beginning of the next hop. ``AudioError`` if this session cannot."""
        self.steering.check(change)
        self._asked.append(change)

    def note(self, what: str, kind: str = "", took_s: float = 0.0) -> None:
        """Add an event that has just taken so long; its ``kind`` says what could be late because of it."""
        self._events.append(Event(at_s=self._clock(), what=what, kind=kind, took_s=took_s))

    def recent(self, seconds: float) -> Float:
        """Sound heard last, ``[ears, samples]``: of two seconds at most, and of no more than there is."""
        return self._last_of(self._heard, self._heard.end, seconds)

    def recently_played(self, seconds: float) -> Float:
        """Sound played last, as :meth:`recent`, but for what was late."""
        return self._last_of(self._talker, self._played, seconds)

    def _last_of(self, ring: Ring, end: int, seconds: float) -> Float:
        n = min(end, round(min(seconds, _HISTORY_S) * self.loop.rate_hz))
        out = np.zeros((n, self.loop.ears), np.float32)
        ring.read(end - n, out)
        return out.T

    def reserve_s(self) -> float:
        """Least time, since the last call, by which the engine's output was there before it was due; negative: it was late."""
        least, self._least = self._least, _HISTORY_S * self.loop.rate_hz
        return float(least / self.loop.rate_hz)

    @property
    def events(self) -> tuple[Event, ...]:
        """The last thousand events."""
        return tuple(self._events)

    @property
    def timing(self) -> Timing | None:
        """Times of the last steps, in order; None before the first."""
        step_s = self.arrivals.read().step_s
        taken = step_s[np.isfinite(step_s)]
        return Timing(hop_s=taken, period_s=self.frame.period_s) if len(taken) else None

    @property
    def health(self) -> Health:
        return Health(
            blocks=self._blocks,
            samples=self._played,
            hops=self._hops,
            late_blocks=self._late,
            dry_samples=self._short,
            skipped_hops=self._fated[Fate.SKIPPED],
            failed_hops=self._fated[Fate.FAILED],
            settling_hops=self._fated[Fate.SETTLING],
            lost_samples=self._lost,
            input_overruns=self._overruns,
            output_underruns=self._underruns,
            longest_exchange_s=self._longest_s,
        )


def _clean(heard: Float, out: Float, finite: NDArray[np.bool_]) -> None:
    """Samples on the 24-bit grid and within full scale; one that is not a number is silence."""
    np.isfinite(heard, out=finite)
    out.fill(0)
    np.copyto(out, heard, where=finite)
    np.clip(out, -1, 1 - 1 / GRID, out=out)
    np.multiply(out, GRID, out=out)
    np.rint(out, out=out)
    np.divide(out, GRID, out=out)
