"""Two links as the microphone of a session: packets of each ear are taken as they come, and both ears are played aligned."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError, LinkError
from edge_tse.live.clocks.aligner import Aligner
from edge_tse.live.clocks.packet import EARS, LinkHealth, Packet

__all__ = ["EarLink", "Links", "parse_links"]

Float = NDArray[np.float32]

_FIRST_S = 5.0
"""Time that an ear has to send its first packet."""
_READ_S = 0.1
_AGAIN_S = 1.0
_SILENT_S = 1.0
_TELL_EVERY_S = 10.0
LONGEST_BUFFER_S = 0.5


class EarLink(Protocol):
    """A link over which an ear sends."""

    name: str

    def read(self, timeout_s: float) -> Sequence[Packet]:
        """Packets that have arrived; waits up to ``timeout_s``. ``LinkError`` if the link has ended, or is no ear's."""

    def close(self) -> None:
        """Give the link back. May be called twice."""


def parse_links(given: Sequence[str]) -> dict[str, str]:
    """Ports by ear, from ``left=PORT`` and ``right=PORT``. ``AudioError`` if an ear is missing, unknown or there twice."""
    ports: dict[str, str] = {}
    for text in given:
        ear, separator, port = text.partition("=")
        if ear not in EARS or not separator or not port:
            raise AudioError(f"--link {text}: there is no such ear: write --link left=PORT --link right=PORT")
        if ear in ports:
            raise AudioError(f"--link {ear}= was given twice, {ports[ear]} and {port}: give the other ear's too")
        ports[ear] = port
    missing = [ear for ear in EARS if ear not in ports]
    if missing:
        raise AudioError(f"{len(ports)} link was given, two ears need 2: add --link {missing[0]}=PORT")
    if ports["left"] == ports["right"]:
        raise AudioError(f"both links are {ports['left']}, which has 1 ear: give each ear the link of its own")
    return {ear: ports[ear] for ear in EARS}


class Links:
    """Both links, open and read by a thread each.

    A link that ends is opened again every second, and the session goes on with the other ear.
    """

    def __init__(
        self,
        ports: Mapping[str, str],
        opener: Callable[[str], EarLink],
        *,
        buffer_s: float = 0.01,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Open both and wait for the first packet of each. ``LinkError`` if one does not open or sends nothing; ``AudioError`` if
        they do not belong together, or the buffer cannot be.
        """
        if not 0 <= buffer_s <= LONGEST_BUFFER_S:
            raise AudioError(f"a buffer of {buffer_s * 1e3:g} ms: 0 to {LONGEST_BUFFER_S * 1e3:g} ms are possible")
        self.ports, self.buffer_s = dict(ports), buffer_s
        self._opener, self._clock = opener, clock
        self._links: dict[str, EarLink] = {}
        self._early: dict[str, list[Packet]] = {}
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._remarks: deque[str] = deque(maxlen=200)
        self._told: dict[str, tuple[float, LinkHealth | None]] = dict.fromkeys(EARS, (0.0, None))
        self._heard_s = dict.fromkeys(EARS, 0.0)
        self._aligner: Aligner | None = None
        try:
            for ear, port in self.ports.items():
                self._links[ear] = opener(port)
            self._early = {ear: self._first_packets(ear) for ear in EARS}
            first = {ear: packets[0] for ear, packets in self._early.items()}
            self._check(first)
        except BaseException:
            self.close()
            raise
        self.rate_hz = first["left"].rate_hz
        self.packet = max(len(packet.samples) for packet in first.values())
        """Samples in a packet."""

    def _first_packets(self, ear: str) -> list[Packet]:
        until_s = self._clock() + _FIRST_S
        while self._clock() < until_s:
            if packets := list(self._links[ear].read(_READ_S)):
                return packets
        raise LinkError(f"{self.ports[ear]}: the {ear} ear has sent nothing for {_FIRST_S:g} s: switch it on, or give another link")

    def _check(self, first: Mapping[str, Packet]) -> None:
        left, right = (first[ear] for ear in EARS)
        if left.rate_hz != right.rate_hz:
            raise AudioError(f"the left ear sends {left.rate_hz} samples a second, the right one {right.rate_hz}: set both alike")
        for ear, packet in first.items():
            if packet.ear and packet.ear != ear:
                raise AudioError(f"{self.ports[ear]} was given as {ear} and says that it is {packet.ear}: exchange the links")

    @property
    def name(self) -> str:
        """Both links, for people."""
        return ", ".join(f"{ear}={port}" for ear, port in self.ports.items())

    @property
    def latency_s(self) -> float:
        """Time from a sound at an ear to :meth:`fill`, but for the shortest way of a packet."""
        return 0.0 if self._aligner is None else self._aligner.latency_s

    @property
    def alive(self) -> bool:
        """Whether an ear was heard within the last second."""
        return self._clock() - max(self._heard_s.values()) < _SILENT_S

    def start(self, block: int) -> None:
        """Read both links from now on, for blocks of so many samples; the second time does nothing."""
        if self._aligner is not None:
            return
        self._aligner = Aligner(self.rate_hz, self.packet, block, buffer_s=self.buffer_s, clock=self._clock)
        self._heard_s = dict.fromkeys(EARS, self._clock())
        for ear in EARS:
            thread = threading.Thread(target=self._read, args=(ear, self._aligner), name=f"edge-tse {ear} link", daemon=True)
            self._threads.append(thread)
            thread.start()

    def fill(self, out: Float) -> None:
        """Fill ``out [n, 2]`` with what both ears heard next."""
        assert self._aligner is not None
        self._aligner.fill(out)

    def close(self) -> None:
        """End the threads and give both links back."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2.0)
        for link in self._links.values():
            link.close()

    def _read(self, ear: str, aligner: Aligner) -> None:
        number = EARS.index(ear)
        link: EarLink | None = self._links[ear]
        refused = gone = False
        for packet in self._early[ear]:
            aligner.take(number, packet)
        while not self._stop.is_set():
            try:
                if link is None:
                    link = self._links[ear] = self._opener(self.ports[ear])
                packets = link.read(_READ_S)
            except LinkError as failure:
                if link is not None:
                    link.close()
                    if not gone:
                        self._remarks.append(f"the {ear} link ended: {failure}")
                    gone = True
                link = None
                self._stop.wait(_AGAIN_S)
                continue
            now_s = self._clock()
            if packets:
                if gone:
                    self._remarks.append(f"the {ear} link is back")
                self._heard_s[ear], gone = now_s, False
            elif not gone and now_s - self._heard_s[ear] > _SILENT_S:
                self._remarks.append(f"the {ear} link sends nothing: its ear is silent until it does")
                gone = True
            for packet in packets:
                if packet.rate_hz == self.rate_hz and len(packet.samples) <= self.rate_hz:
                    aligner.take(number, packet)
                elif not refused:
                    self._remarks.append(f"the {ear} link now sends {packet.rate_hz} Hz, not {self.rate_hz}: not heard")
                    refused = True
        if link is not None:  # it may have opened after :meth:`close` stopped waiting
            link.close()

    def remarks(self) -> list[str]:
        """What is new about the links, for people."""
        new = []
        while self._remarks:
            new.append(self._remarks.popleft())
        if self._aligner is None:
            return new
        now_s = self._clock()
        for ear, health in self._aligner.health.items():
            since_s, before = self._told[ear]
            converged = health.converged_s is not None and (before is None or before.converged_s is None)
            changed = before is not None and (health.restarts, health.way_changes) != (before.restarts, before.way_changes)
            if now_s - since_s < _TELL_EVERY_S and not converged and not changed:
                continue
            self._told[ear] = (now_s, health)
            new += _news(ear, health, before, now_s - since_s)
        return new

    def figures(self) -> dict[str, object]:
        """Figures by name, ready for a report."""
        assert self._aligner is not None
        found: dict[str, object] = {ear: asdict(health) for ear, health in self._aligner.health.items()}
        return {**found, "latency_ms": self.latency_s * 1e3, "buffer_ms": self.buffer_s * 1e3, "jumps": self._aligner.jumps}

    def rows(self) -> dict[str, str]:
        """Rows of text for people."""
        assert self._aligner is not None
        rows = {}
        for ear, health in self._aligner.health.items():
            rows[f"{ear}, clock"] = _clock_said(health)
            rows[f"{ear}, packets"] = (
                f"{health.packets} came, {health.lost} lost, {health.late} too late, {health.duplicates} twice, "
                f"{health.concealed_samples / self.rate_hz * 1e3:.0f} ms made up, counter restarted {health.restarts} times"
            )
            if health.buffer_ms is not None:
                rows[f"{ear}, buffer"] = f"{self.buffer_s * 1e3:g} ms; 99.9 % of the packets needed {health.buffer_ms:.1f} ms"
        return rows


def _clock_said(health: LinkHealth) -> str:
    when = "not yet known" if health.converged_s is None else f"known after {health.converged_s:.1f} s"
    return f"{health.drift_ppm:+.1f} ppm against this machine's, to {health.error_us:.0f} us, {when}"


def _news(ear: str, health: LinkHealth, before: LinkHealth | None, seconds: float) -> list[str]:
    """What has changed on a link since it was last told about."""
    new = []
    if health.converged_s is not None and (before is None or before.converged_s is None):
        new.append(f"{ear} clock: {_clock_said(health)}")
    if before is None:
        return new
    if health.restarts > before.restarts:
        new.append(f"{ear} link: the sender counts anew")
    if health.way_changes > before.way_changes:
        new.append(f"{ear} link: the way of its packets has changed, its clock has not")
    lost, late = health.lost - before.lost, health.late - before.late
    if lost > 0 or late > 0:
        new.append(f"{ear} link: {lost} packets lost, {late} too late within {seconds:.0f} s")
    return new
