"""Devices of a session whose microphones are links: an earphone that asks for sound, or this machine's clock in place of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.live.devices import Device, Wiring, takes
from edge_tse.live.duplex import Duplex, Exchange
from edge_tse.live.links import Links
from edge_tse.live.loop import LONGEST_BLOCK_S

__all__ = ["LinkedDuplex", "Paced", "open_linked", "wire_links"]

_LONGEST_LAG_S = 0.5


def wire_links(links: Links, output: Device | None, *, frame: FrameSpec, rate_hz: int | None, block: int | None) -> Wiring:
    """Wiring of two links and an earphone, None to record only. ``AudioError`` for a model of one ear, or another rate."""
    rate = links.rate_hz
    if frame.ears < 2:
        raise AudioError(f"this model hears {frame.ears} ear, two links bring 2: choose another with --artifact")
    if rate_hz not in (None, rate):
        raise AudioError(f"both links send {rate} samples a second, not {rate_hz}: leave --rate out, or set the earbuds to it")
    block = block or -(-frame.hop * rate // frame.sample_rate_hz)
    if block > rate * LONGEST_BLOCK_S:
        raise AudioError(f"a block of {block} samples at {rate} Hz: choose one of at most {int(rate * LONGEST_BLOCK_S)} samples")
    microphones = Device(
        index=-1,
        name=links.name,
        host="links",
        inputs=2,
        outputs=0,
        rate_hz=rate,
        input_latency_s=0.0,
        output_latency_s=0.0,
        default_input=False,
        default_output=False,
    )
    remarks = () if rate == frame.sample_rate_hz else (f"both links send {rate} Hz: resampled to {frame.sample_rate_hz} Hz",)
    wiring = Wiring(input=microphones, output=output, rate_hz=rate, block=block, channels=(1, 2), remarks=remarks)
    if output is not None and not takes(wiring):
        raise AudioError(f"{output.name} does not play {rate} Hz, at which both links send: choose another with --output")
    links.start(block)
    return replace(wiring, input=replace(microphones, input_latency_s=links.latency_s))


def open_linked(wiring: Wiring, exchange: Exchange, links: Links) -> LinkedDuplex | Paced:
    """Open the earphone, or the clock in place of one. ``AudioError`` if it does not open, or neither link sends."""
    if not links.alive:
        raise AudioError(f"neither ear sends ({links.name}): switch them on, then start again")
    return Paced(wiring, exchange, links) if wiring.output is None else LinkedDuplex(wiring, exchange, links)


class LinkedDuplex(Duplex):
    """An open earphone that is played what an exchange makes of both links' sound. As :class:`edge_tse.live.duplex.Duplex`."""

    def __init__(self, wiring: Wiring, exchange: Exchange, links: Links) -> None:
        self._links = links
        super().__init__(wiring, exchange)

    @property
    def _asked_for(self) -> Device:
        return self._wiring.output or self._wiring.input

    @property
    def active(self) -> bool:
        """Whether the earphone still calls, and an ear still sends."""
        return super().active and self._links.alive

    @property
    def latency_s(self) -> float:
        """Latency of the links, but for the shortest way of a packet, and the earphone's own."""
        return self._links.latency_s + float(self._streams[-1].get_output_latency())

    def _open_streams(self) -> None:
        self._open(self._play, self._outputs, input=False, output=True)

    def _take(self, frames: int, flags: int) -> int:
        self._links.fill(self._taken[:frames])
        return flags


class Paced:
    """This machine's clock in place of an earphone: an exchange is called as often as one would, and what it plays goes nowhere."""

    def __init__(
        self,
        wiring: Wiring,
        exchange: Exchange,
        links: Links,
        *,
        clock: Callable[[], float] = time.perf_counter,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.failure: BaseException | None = None
        self.latency_s = links.latency_s
        self._links, self._exchange, self._clock, self._wait = links, exchange, clock, wait
        self._block_s = wiring.block / wiring.rate_hz
        self._heard, self._out = (np.zeros((wiring.block, wiring.ears), np.float32) for _ in range(2))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edge-tse pace", daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        """Whether it still calls, and an ear still sends."""
        return self._thread.is_alive() and self._links.alive

    def close(self) -> None:
        """End; more than once does nothing."""
        self._ends.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        try:
            due_s = self._clock() + self._block_s
            while not self._ends.is_set():
                left_s = due_s - self._clock()
                if left_s > 0:
                    self._wait(left_s)
                self._links.fill(self._heard)
                self._exchange(self._heard, self._out)
                due_s = max(due_s, self._clock() - _LONGEST_LAG_S) + self._block_s
        except BaseException as failure:  # the supervisor raises it where somebody sees it
            self.failure = failure
