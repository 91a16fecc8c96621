"""Two ears, each by its own clock, and the listener's: sound of both at the same moments."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.clocks.clock import Clock
from edge_tse.live.clocks.ear import Ear
from edge_tse.live.clocks.packet import EARS, LinkHealth, Packet
from edge_tse.live.resampling import REACH

__all__ = ["Aligner"]

Float = NDArray[np.float32]

_SLEW = 500e-6  # of the rate: what an estimate's correction may cost in pitch (0.9 cents)
_JUMP_S = 1e-3
_STEP_FADE_S = 0.004
_ALONE_S = 1.0  # one ear waits so long for the other at the start


class Aligner:
    """Both ears in the listener's time: sound that ears captured together is played together.

    The listener is a clock of its own: an earphone, or this machine. It is known by when it asked, as the ears are by when their
    packets came (:class:`edge_tse.live.clocks.clock.Clock`).
    """

    def __init__(
        self,
        rate_hz: int,
        packet: int,
        block: int,
        *,
        buffer_s: float = 0.01,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """``packet``: samples that an ear sends at once; ``buffer_s``: time that a packet may be late."""
        self.rate_hz, self.buffer_s = rate_hz, buffer_s
        self.latency_s = buffer_s + (packet + block + REACH + 1) / rate_hz
        """Time from a sound at an ear to the call that gives it, besides the shortest way of a packet: a packet, the buffer, the
        resampling (1 ms at 16 kHz) and a block."""
        self.ears = (Ear(rate_hz), Ear(rate_hz))
        self.positions: list[float | None] = [None, None]
        """Positions of the ears that are played next; None before an ear is heard."""
        self.jumps = 0
        """Times that an ear's sound was skipped or repeated because its clock was found to be elsewhere."""
        self._listener = Clock(rate_hz)
        self._clock = clock
        self._asked = 0
        self._heard_s: float | None = None
        self._last = [np.float32(0), np.float32(0)]
        self._fade = round(_STEP_FADE_S * rate_hz)
        self._step: list[tuple[float, int]] = [(0.0, 0), (0.0, 0)]

    def take(self, ear: int, packet: Packet) -> None:
        """Take a packet of the left (0) or right (1) ear, in a thread of its link."""
        self.ears[ear].take(packet)

    def fill(self, out: Float) -> None:
        """Fill ``out [n, 2]`` with what follows, now; silence until both ears, or one for a second, are heard."""
        n, now_s = len(out), self._clock()
        self._listener.take(self._asked, now_s)
        self._listener.follow()
        assert self._listener.line is not None
        began_s, ended_s = (self._listener.line.time_of(at) - self.latency_s for at in (self._asked, self._asked + n))
        self._asked += n
        out.fill(0)
        there = [ear.clock.line is not None for ear in self.ears]
        if not any(there):
            return
        if self._heard_s is None:
            self._heard_s = now_s
        if not all(there) and now_s - self._heard_s < _ALONE_S:
            return
        spans = [self._span(i, began_s, ended_s, n) if there[i] else None for i in (0, 1)]
        for i, span in enumerate(spans):
            if span is not None:
                self.ears[i].complete(int(span[1]) + REACH + 1, self.ears[1 - i])
                out[:, i] = self._without_step(i, self.ears[i].read(span[0]))

    def _span(self, i: int, began_s: float, ended_s: float, n: int) -> tuple[NDArray[np.float64], float]:
        """Positions of an ear to be played, and the one that follows: they move at the clock's pace, and slew to its place."""
        line = self.ears[i].clock.line
        assert line is not None
        first, following = line.position_at(began_s), line.position_at(ended_s)
        at = self.positions[i]
        if at is None or abs(at - first) > _JUMP_S * self.rate_hz:
            self.jumps += at is not None
            at = first
            self.ears[i].begin(int(first) - REACH + 1)
            self._step[i] = (float("nan"), 0)
        step = following - first
        end = at + step + min(max(following - at - step, -n * _SLEW), n * _SLEW)
        self.positions[i] = end
        return at + (end - at) * (np.arange(n) / n), end

    def _without_step(self, i: int, heard: Float) -> Float:
        """Take the step out that a jump has made, over 4 ms."""
        step, since = self._step[i]
        if step != step:
            step = float(self._last[i] - heard[0])
        if since < self._fade:
            ramp = np.maximum(0, 1 - (since + np.arange(len(heard))) / self._fade)
            heard = (heard + step * ramp).astype(np.float32)
            self._step[i] = (step, since + len(heard))
        self._last[i] = heard[-1]
        return heard

    @property
    def health(self) -> dict[str, LinkHealth]:
        """Counters and estimates of both links, by ear."""
        return {name: ear.health for name, ear in zip(EARS, self.ears, strict=True)}
