"""Microphones and earphones at work: blocks from and to open devices, through PortAudio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.live.devices import Device, Wiring
from edge_tse.live.portaudio import portaudio, silence_hosts
from edge_tse.live.ring import Ring

__all__ = ["Duplex", "Exchange"]

Float = NDArray[np.float32]

ANSWER_S = 5.0
"""Time that a device may take to open or to close."""
_INPUT_LOST, _OUTPUT_UNDERFLOW = 0x1 | 0x2, 0x4  # PortAudio's flags of a callback


class Exchange(Protocol):
    """Function that a device calls for each block: it fills ``out [n, ears]`` and takes ``heard [n, ears]``."""

    def __call__(self, heard: Float, out: Float, flags: int = 0) -> None: ...


class Duplex:
    """An open device that calls ``exchange`` until it is closed, or vanishes.

    PortAudio opens input and output as one stream only with as many channels either way. Where the devices cannot, there are two
    streams, and the input waits in a ring for the output to ask: one more block of latency. ``AudioError`` if it cannot be opened.
    """

    def __init__(self, wiring: Wiring, exchange: Exchange) -> None:
        ears, block = wiring.ears, wiring.block
        self.failure: BaseException | None = None
        """What ended the stream from within: a bug of ours."""
        self._exchange, self._wiring = exchange, wiring
        self._map = np.array(wiring.channels) - 1
        self._inputs, self._outputs, self._together = wiring.streams
        self._heard, self._taken, self._out = (np.zeros((block, ears), np.float32) for _ in range(3))
        self._played = np.zeros((block, max(1, self._outputs)), np.float32)
        self._waiting = Ring(16 * block, ears)
        self._position = -block
        self._flagged = 0  # of the input's stream, not told yet
        self._portaudio = portaudio()
        self._pa, self._module = self._portaudio.__enter__()
        self._streams: list[Any] = []

        try:
            with silence_hosts():
                if not _answers_in_time(self._open_streams):
                    raise OSError("the sound system does not answer")
        except (OSError, ValueError) as failure:
            self.close()
            raise AudioError(
                f"{self._asked_for.name} cannot be opened at {wiring.rate_hz} Hz ({failure}): see `edge-tse devices`"
            ) from failure

    @property
    def _asked_for(self) -> Device:
        """The device that an error names."""
        return self._wiring.input

    @property
    def active(self) -> bool:
        """Whether the device still calls."""
        try:
            return bool(self._streams) and all(stream.is_active() for stream in self._streams)
        except OSError:
            return False

    @property
    def latency_s(self) -> float:
        """Latency of the open streams as they state it, input and output, and the block between two streams."""
        heard = float(self._streams[0].get_input_latency())
        played = float(self._streams[-1].get_output_latency()) if self._outputs else 0.0
        return heard + played + (len(self._streams) - 1) * self._wiring.block / self._wiring.rate_hz

    def close(self) -> None:
        """Give the device back; more than once does nothing."""
        if self._pa is None:
            return
        with silence_hosts():
            # A sound server that has died can leave PortAudio waiting for it for ever: then it is left behind.
            _answers_in_time(self._give_back)
        self._streams, self._pa = [], None

    def _give_back(self) -> None:
        for stream in self._streams:
            with suppress(OSError):  # it is gone already
                stream.close()
        self._portaudio.__exit__(None, None, None)

    def _open_streams(self) -> None:
        if self._together or not self._outputs:
            self._open(self._both, self._inputs, input=True, output=bool(self._outputs))
        else:
            self._open(self._listen, self._inputs, input=True, output=False)
            self._open(self._play, self._outputs, input=False, output=True)

    def _open(self, call: Callable[[Any, int, int], bytes | None], channels: int, **ways: bool) -> None:
        def callback(data: bytes | None, frames: int, when: object, status: int) -> tuple[bytes | None, int]:
            try:
                return call(data, frames, status), self._module.paContinue
            except BaseException as failure:  # PortAudio's thread has nobody who would see it
                self.failure = failure
                return None, self._module.paAbort

        wiring = self._wiring
        self._streams.append(
            self._pa.open(
                rate=wiring.rate_hz,
                format=self._module.paFloat32,
                channels=channels,
                input_device_index=wiring.input.index,
                output_device_index=wiring.output.index if wiring.output else None,
                frames_per_buffer=wiring.block,
                stream_callback=callback,
                **ways,
            )
        )

    def _both(self, data: bytes | None, frames: int, status: int) -> bytes | None:
        heard = self._ears_of(data, frames)
        self._exchange(heard, self._out[:frames], _flags(status))
        return self._spread(frames) if self._outputs else None

    def _listen(self, data: bytes | None, frames: int, status: int) -> None:
        self._waiting.write(self._ears_of(data, frames))
        self._flagged |= _flags(status)

    def _play(self, data: object, frames: int, status: int) -> bytes:
        self._fit(frames)
        self._exchange(self._taken[:frames], self._out[:frames], self._take(frames, _flags(status)))
        return self._spread(frames)

    def _take(self, frames: int, flags: int) -> int:
        """Fill ``_taken`` with what was heard; returns the flags of the block."""
        flagged, self._flagged = self._flagged, 0
        flags |= flagged
        lead = self._waiting.end - self._position
        if lead < frames or lead > 8 * self._wiring.block:  # two clocks never agree for ever
            flags |= 1 if self._position >= 0 else 0
            self._position = self._waiting.end - max(frames, self._wiring.block)
        self._waiting.read(self._position, self._taken[:frames])
        self._position += frames
        return flags

    def _fit(self, frames: int) -> None:
        if frames > len(self._out):  # PortAudio keeps to what was asked for; a host that does not is served all the same
            self._heard, self._taken, self._out = (np.zeros((frames, len(self._map)), np.float32) for _ in range(3))
            self._played = np.zeros((frames, self._played.shape[1]), np.float32)

    def _ears_of(self, data: bytes | None, frames: int) -> Float:
        self._fit(frames)
        heard = self._heard[:frames]
        if data is None:
            heard.fill(0)
        else:
            every = np.frombuffer(data, np.float32).reshape(frames, self._inputs)
            np.take(every, self._map, axis=1, out=heard, mode="clip")
        return heard

    def _spread(self, frames: int) -> bytes:
        """Spread the ears over the output channels: one ear goes to both, two go to one as their mean."""
        out, played = self._out[:frames], self._played[:frames]
        if out.shape[1] == 1:
            played[:, :2] = out
        elif played.shape[1] == 1:
            np.mean(out, axis=1, keepdims=True, out=played)
        else:
            played[:, :2] = out
        return played.tobytes()


def _answers_in_time(call: Callable[[], None]) -> bool:
    """Whether a call into PortAudio came back within :data:`ANSWER_S`; what it raised is raised here."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as failure:  # it is raised again where somebody can see it
            raised.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    if raised:
        raise raised[0]
    return not thread.is_alive()


def _flags(status: int) -> int:
    return (1 if status & _INPUT_LOST else 0) | (2 if status & _OUTPUT_UNDERFLOW else 0)
