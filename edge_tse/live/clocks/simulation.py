"""A simulated earbud and its link: a crystal that drifts, packets that wait, are repeated, lost, doubled and overtaken.

The link is a connected isochronous stream of Bluetooth LE Audio (Core Specification 5.4, volume 6, part B, 4.5.13): packets of 10
or 7.5 ms go out at anchors of the receiver's clock, whose distance to the sender's sound is known to a microsecond (framed packets
carry it, part G), and again in the next subevent when no acknowledgement comes. A subevent of 40 bytes of LC3 at 2 Mbit/s takes
564 us (220 for the packet, 44 for the acknowledgement, 150 after each), and the other ear's lies between. Host and operating
system are assumed: an exponential wait of 50 us in the mean and, one time in 200, one of 5 ms more. LC3 itself is not simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.live.clocks.aligner import Aligner
from edge_tse.live.clocks.packet import Packet

__all__ = ["Air", "Crystal", "Heard", "receive", "simulate"]

_LAST_S = 0.1  # after a restart nobody asks where what is still played came from

Float = NDArray[np.float32]
Times = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Crystal:
    """Clock of a converter."""

    ppm: float = 0.0
    """Deviation from its nominal rate; positive, it is fast."""
    swing_ppm: float = 0.0
    """Amplitude of a slow sine on top, as temperature brings it."""
    swing_s: float = 120.0
    """Period of that."""

    def times(self, positions: Times, rate_hz: int) -> Times:
        """True times at which the samples of these positions are taken, in seconds since position 0."""
        nominal_s = positions / rate_hz
        # The integral of 1 - ppm(t), to the first order in ppm.
        turn = 2 * math.pi / self.swing_s
        swung_s = self.swing_ppm * 1e-6 * (1 - np.cos(turn * nominal_s)) / turn
        found: Times = nominal_s * (1 - self.ppm * 1e-6) - swung_s
        return found


@dataclass(frozen=True, kw_only=True)
class Air:
    """A link."""

    interval_s: float = 0.01
    """Sound in a packet, and distance of the anchors."""
    repeats: int = 2
    """Times that a packet is sent again before it is given up."""
    loss: float = 0.01
    """Packets that are given up; the chance of one attempt follows from it."""
    subevent_s: float = 1128e-6
    """Time from an attempt to the next."""
    anchor_s: float = 0.0
    """Place of the first anchor."""
    host_s: float = 50e-6
    """Mean of the wait in host and operating system."""
    stall: float = 0.005
    """Packets that wait longer there."""
    stall_s: float = 5e-3
    """Mean of that."""
    doubled: float = 0.001
    """Packets that come twice."""
    burst: float = 0.0
    """Chance that a loss is followed by another, beyond that of any packet."""
    way_s: float = 0.003
    """Shortest way."""
    way_changes: tuple[tuple[float, float], ...] = ()
    """Times from which on the way is longer, and by how much."""
    host_changes: tuple[tuple[float, float], ...] = ()
    """Times from which on the host's mean wait is another one."""
    outages: tuple[tuple[float, float], ...] = ()
    """Times from and to which nothing is heard."""


def simulate(
    sound: Callable[[Times], Float],
    crystal: Crystal,
    air: Air,
    *,
    rate_hz: int = 16000,
    seconds: float,
    seed: int,
    starts_s: tuple[float, ...] = (0.0,),
) -> list[Packet]:
    """Packets of an earbud in the order in which they arrive.

    ``sound`` gives samples at true times ``[n]``. ``starts_s``: times at which the sender begins, and begins to count anew.
    """
    rng = np.random.default_rng(seed)
    n = round(air.interval_s * rate_hz)
    failing = air.loss ** (1 / (air.repeats + 1))
    packets = []
    for start_s, end_s in zip(starts_s, (*starts_s[1:], seconds), strict=True):
        lost = False
        for sequence in range(int((end_s - start_s) / air.interval_s)):
            counter = sequence * n
            taken_s = start_s + crystal.times(counter + np.arange(n + 1.0), rate_hz)
            ready_s = float(taken_s[-1])
            anchor_s = air.anchor_s + math.ceil((ready_s - air.anchor_s) / air.interval_s) * air.interval_s
            attempts = int(rng.geometric(1 - failing)) - 1 if failing > 0 else 0
            lost = attempts > air.repeats or (lost and rng.random() < air.burst)
            host_s = next((mean for since, mean in reversed(air.host_changes) if ready_s >= since), air.host_s)
            wait_s = rng.exponential(host_s) + (rng.exponential(air.stall_s) if rng.random() < air.stall else 0)
            way_s = air.way_s + sum(more for since, more in air.way_changes if ready_s >= since)
            doubled = rng.random() < air.doubled
            if lost or any(since <= ready_s < to for since, to in air.outages):
                continue
            arrived_s = anchor_s + way_s + attempts * air.subevent_s + wait_s
            for late_s in (0.0, air.subevent_s)[: 1 + doubled]:
                packets.append(
                    Packet(
                        sequence=sequence % 2**16,
                        counter=counter,
                        rate_hz=rate_hz,
                        samples=sound(taken_s[:-1]),
                        arrived_s=arrived_s + late_s,
                        waited_s=round((anchor_s - ready_s) * 1e6) / 1e6,
                    )
                )
    return sorted(packets, key=lambda packet: packet.arrived_s)


class Heard(NamedTuple):
    """What a listener got of two simulated ears."""

    sound: Float
    """``[n, 2]``"""
    asked_s: Times
    """Times of the blocks ``[blocks]``."""
    taken_s: Times
    """True times at which the first samples of each block were taken, ``[blocks, 2]``; nan before an ear is heard."""
    aligner: Aligner

    @property
    def apart_s(self) -> Times:
        """Time by which the left ear's sound is later than the right one's, though it is played with it, ``[blocks]``."""
        apart: Times = self.taken_s[:, 0] - self.taken_s[:, 1]
        return apart


def receive(
    packets: Sequence[Sequence[Packet]],
    crystals: Sequence[Crystal],
    *,
    starts_s: Sequence[tuple[float, ...]] = ((0.0,), (0.0,)),
    rate_hz: int = 16000,
    block: int = 64,
    buffer_s: float = 0.01,
    seconds: float,
    late_s: float = 0.0,
    seed: int = 0,
) -> Heard:
    """Play what two ears sent to a listener who asks for a block whenever one is due, or an exponential ``late_s`` later."""
    now_s = 0.0
    size = max(len(packet.samples) for ear in packets for packet in ear[:1])
    aligner = Aligner(rate_hz, size, block, buffer_s=buffer_s, clock=lambda: now_s)
    coming = sorted(((p.arrived_s, i, p) for i, ear in enumerate(packets) for p in ear), key=lambda each: each[0], reverse=True)
    rng = np.random.default_rng(seed)
    blocks = int(seconds * rate_hz / block)
    asked_s = np.arange(blocks) * block / rate_hz
    sound, taken_s = np.zeros((blocks * block, 2), np.float32), np.full((blocks, 2), np.nan)
    for k in range(blocks):
        asks_s = asked_s[k] + (rng.exponential(late_s) if late_s else 0.0)
        while coming and coming[-1][0] <= asks_s:
            now_s, ear, packet = coming.pop()
            aligner.take(ear, packet)
        now_s = asks_s
        aligner.fill(sound[k * block : (k + 1) * block])
        for i, (crystal, position) in enumerate(zip(crystals, aligner.positions, strict=True)):
            if position is not None:
                counter = np.array(aligner.ears[i].counter_at(position) - block)
                start_s = max((each for each in starts_s[i] if each <= asks_s - _LAST_S), default=starts_s[i][0])
                taken_s[k, i] = start_s + float(crystal.times(counter, rate_hz))
    return Heard(sound, asked_s, taken_s, aligner)
