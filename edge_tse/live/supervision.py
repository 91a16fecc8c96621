"""Supervision of a session: a lost device is opened again, or the session ends with one error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.live.loop import DEVICE, Health, Latency
from edge_tse.live.session import Session
from edge_tse.report import Timing

__all__ = ["Opened", "Run", "Take", "record", "supervise"]

Float = NDArray[np.float32]

_LOOK_S = 0.05
PATIENCE_S = 1.0
"""Silence of the device after which it counts as vanished."""
RETURN_S = 10.0
"""Time that a lost device has to come back."""
_SWITCH_S = 0.0005
_TIME_UP = "the time was up"


class Opened(Protocol):
    """An open device: an :class:`edge_tse.live.duplex.Duplex`, or a test's."""

    failure: BaseException | None

    @property
    def active(self) -> bool: ...
    @property
    def latency_s(self) -> float: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Run:
    """Outcome of a session."""

    seconds: float
    health: Health
    latency: Latency
    """Latency, with the device's statement of its own buffers."""
    timing: Timing | None
    reopened: int
    """Times that the device was lost and came back."""
    ended: str
    """Reason for the end: the time was up, or it was stopped."""


def supervise(
    session: Session,
    opened: Callable[[Session], Opened],
    *,
    seconds: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
    tell: Callable[[Session], None] = lambda session: None,
    core: int | None = None,
    realtime: bool = False,
) -> Run:
    """Run a session until ``seconds`` have passed or ``stopped`` says so, calling ``tell`` about twenty times a second.

    ``opened`` opens the device with the session. ``AudioError`` if the device cannot be opened, or vanishes and does not come back
    within :data:`RETURN_S`, or is open that long and delivers nothing; whatever happens, device and engine are given back.
    """
    with _prompt_threads(), session.garbage.watched():
        device: Opened | None = None
        reopened = 0
        began = opened_s = heard_s = clock()
        seen, ended, lost = 0, "", False
        try:
            device = opened(session)
            device_s = device.latency_s
            session.start(core=core, realtime=realtime)
            while device is not None and not (ended := _end_reason(clock() - began, seconds, stopped)):
                wait(_LOOK_S)
                tell(session)
                if device.failure is not None:
                    raise device.failure
                now, blocks = clock(), session.health.blocks
                if device.active and blocks != seen:
                    if lost:
                        session.note("the device is back", DEVICE)
                        reopened, lost = reopened + 1, False
                    seen, opened_s, heard_s = blocks, now, now
                elif now - heard_s > RETURN_S:
                    raise _mute(now - heard_s, blocks)
                elif now - opened_s > PATIENCE_S or not device.active:
                    if not lost:
                        session.note("the device vanished" if seen else "the device delivers nothing: it is opened again", DEVICE)
                        lost = True
                    device.close()
                    device = _again(session, opened, clock, wait, stopped)
                    opened_s = clock()
            if not seen and not session.health.blocks and ended == _TIME_UP and clock() - began > PATIENCE_S:
                raise _mute(clock() - began, 0)
        finally:
            if device is not None:
                device.close()
            session.stop()
    return Run(
        seconds=clock() - began,
        health=session.health,
        latency=replace(session.latency, device_s=device_s),
        timing=session.timing,
        reopened=reopened,
        ended=ended or "stopped",
    )


def _mute(silence_s: float, blocks: int) -> AudioError:
    return AudioError(
        f"the sound device is open and has delivered nothing for {silence_s:.0f} s ({blocks} blocks before that): "
        "see that no other program holds it and that it is not suspended, or choose another with --input"
    )


def _end_reason(elapsed_s: float, seconds: float | None, stopped: Callable[[], bool]) -> str:
    if stopped():
        return "stopped"
    return _TIME_UP if seconds is not None and elapsed_s >= seconds else ""


def _again(
    session: Session,
    opened: Callable[[Session], Opened],
    clock: Callable[[], float],
    wait: Callable[[float], object],
    stopped: Callable[[], bool],
) -> Opened | None:
    """Open the device again; None if the session was stopped meanwhile."""
    lost = clock()
    while not stopped():
        try:
            return opened(session)
        except AudioError as failure:
            if clock() - lost > RETURN_S:
                raise AudioError(
                    f"the sound device vanished and did not come back within {RETURN_S:.0f} s ({failure}): connect it, start again"
                ) from failure
        wait(0.25)
    return None


@contextmanager
def _prompt_threads() -> Iterator[None]:
    """Shorten the time that Python lets a thread run before another gets its turn: 5 ms is longer than a hop."""
    kept = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(kept)


class Take:
    """Exchange that plays ``play [n, ears]`` (silence if None), repeated, and keeps ``samples`` samples of what is heard."""

    def __init__(self, samples: int, ears: int, play: Float | None = None) -> None:
        self.heard = np.zeros((samples, ears), np.float32)
        self._play = play
        self.at = self.flags = 0
        """Samples that came, and blocks that the device flagged."""

    def __call__(self, heard: Float, out: Float, flags: int = 0) -> None:
        n = min(len(heard), len(self.heard) - self.at)
        self.heard[self.at : self.at + n] = heard[:n]
        if self._play is None or n < len(heard):
            out.fill(0)
        else:
            np.take(self._play, np.arange(self.at, self.at + n), axis=0, mode="wrap", out=out)
        self.at += n
        self.flags += bool(flags)

    @property
    def done(self) -> bool:
        return self.at >= len(self.heard)


def record(
    take: Take,
    opened: Callable[[Take], Opened],
    *,
    stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
    tell: Callable[[float], None] = lambda fraction: None,
) -> Float:
    """Record ``[ears, samples]`` of a take. ``AudioError`` if the device stops sending, or the take was stopped."""
    device = opened(take)
    seen, seen_s = 0, clock()
    try:
        while not take.done:
            if stopped():
                raise AudioError(f"stopped after {take.at} of {len(take.heard)} samples: nothing was kept")
            wait(_LOOK_S)
            tell(take.at / len(take.heard))
            if device.failure is not None:
                raise device.failure
            if take.at != seen:
                seen, seen_s = take.at, clock()
            elif clock() - seen_s > PATIENCE_S:
                raise AudioError(f"the device sent {take.at} of {len(take.heard)} samples and stopped: connect it and try again")
    finally:
        device.close()
    heard: Float = np.ascontiguousarray(take.heard.T)
    return heard
