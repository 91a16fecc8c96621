"""Earbud: packets of one ear's sound, as they arrive over a link."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from edge_tse.errors import LinkError
from edge_tse.live.clocks.packet import EARS, Packet
from firmware_bridge.layout import pack, unpack
from firmware_bridge.link import Link
from firmware_bridge.wire import Decoder, EarSound, Frame, encode

__all__ = ["Earbud", "ear_frame"]

_CHUNK_BYTES = 4096
_FULL_SCALE = 2**15
_RATES_HZ = (8000, 192000)


class Earbud:
    """An earbud that sends :class:`firmware_bridge.wire.EarSound`, as :class:`edge_tse.live.links.EarLink` asks for."""

    def __init__(self, link: Link, clock: Callable[[], float] = time.perf_counter) -> None:
        self.name = link.name
        self._link, self._clock = link, clock
        self._decoder = Decoder()

    @property
    def damaged(self) -> int:
        """Frames that arrived damaged."""
        return self._decoder.damaged

    def read(self, timeout_s: float) -> list[Packet]:
        """Packets that have arrived; waits up to ``timeout_s`` for bytes. ``LinkError`` if the link has ended, or is no ear's."""
        received = self._link.read(_CHUNK_BYTES, timeout_s)
        now_s = self._clock()
        return [self._packet(frame, now_s) for frame in self._decoder.push(received) if frame.code == EarSound.code]

    def close(self) -> None:
        """Give the link back."""
        self._link.close()

    def _packet(self, frame: Frame, now_s: float) -> Packet:
        try:
            told = unpack(EarSound, frame.payload)
        except ValueError as failure:
            raise LinkError(f"{self.name}: {failure}: its packets are of another version, update the earbud") from failure
        if told.channels != 1:
            raise LinkError(f"{self.name} sends {told.channels} channels, an ear has 1: send each ear over a link of its own")
        if not _RATES_HZ[0] <= told.rate_hz <= _RATES_HZ[1]:
            raise LinkError(f"{self.name} sends {told.rate_hz} samples a second: {_RATES_HZ[0]} to {_RATES_HZ[1]} can be heard")
        if not told.samples or len(told.samples) % 2:
            raise LinkError(f"{self.name} sends packets of {len(told.samples)} bytes: int16 samples are due, at least one")
        return Packet(
            sequence=frame.sequence,
            counter=told.counter,
            rate_hz=told.rate_hz,
            samples=np.frombuffer(told.samples, "<i2").astype(np.float32) / np.float32(_FULL_SCALE),
            arrived_s=now_s,
            waited_s=told.waited_us * 1e-6,
            ear=EARS[told.ear] if told.ear < len(EARS) else "",
        )


def ear_frame(packet: Packet) -> bytes:
    """The frame that carries a packet; its time of arrival is not in it."""
    samples = np.clip(np.rint(packet.samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")
    told = EarSound(
        counter=packet.counter,
        rate_hz=packet.rate_hz,
        waited_us=round(packet.waited_s * 1e6),
        ear=EARS.index(packet.ear) if packet.ear else 255,
        channels=1,
        samples=samples.tobytes(),
    )
    return encode(Frame(EarSound.code, packet.sequence, pack(told)))
