"""Microphones and earphones: what sound devices there are, and blocks from and to them, through PyAudio (PortAudio)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.install_line import install_line
from edge_tse.live.ring import Ring

__all__ = ["Device", "Duplex", "Exchange", "Wiring", "choose", "devices", "takes", "wire"]

Float = NDArray[np.float32]

MOST_CHANNELS = 8
ANSWER_S = 5.0
"""Time that a device may take to open or to close."""
LISTED = 8
"""Number of devices that an error message lists."""

# PortAudio's flags of a callback.
_USUAL_RATES_HZ = (8000, 16000, 22050, 32000, 44100, 48000, 96000, 192000)
_INPUT_LOST, _OUTPUT_UNDERFLOW = 0x1 | 0x2, 0x4


@dataclass(frozen=True, kw_only=True)
class Device:
    """PortAudio's description of one sound device."""

    index: int
    name: str
    host: str
    """The sound system that it belongs to: ALSA, JACK, CoreAudio, ..."""
    inputs: int
    outputs: int
    rate_hz: int
    """Default rate of the device."""
    input_latency_s: float
    """Lowest input latency that the device recommends."""
    output_latency_s: float
    default_input: bool
    default_output: bool


class Exchange(Protocol):
    """Function that a device calls for each block: it fills ``out [n, ears]`` and takes ``heard [n, ears]``."""

    def __call__(self, heard: Float, out: Float, flags: int = 0) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """Choice of devices, rate, and the channels that are ears."""

    input: Device
    output: Device | None
    """Output device; None to listen only."""
    rate_hz: int
    block: int
    channels: tuple[int, ...]
    """Input channels from 1, one per ear."""
    remarks: tuple[str, ...] = ()
    """Remarks for the user: one ear instead of two, another rate."""

    @property
    def ears(self) -> int:
        return len(self.channels)

    @property
    def device_latency_s(self) -> float:
        """Input and output latency as the devices recommend it; a stream that is open knows better."""
        return self.input.input_latency_s + (self.output.output_latency_s if self.output else 0.0)


def devices() -> tuple[Device, ...]:
    """All devices, in PortAudio's order. ``AudioError`` if PyAudio is not installed."""
    with _portaudio() as (audio, _):
        first = {}
        for kind in ("input", "output"):
            try:
                first[kind] = getattr(audio, f"get_default_{kind}_device_info")()["index"]
            except OSError:
                first[kind] = -1
        return tuple(_device(audio, i, first) for i in range(audio.get_device_count()))


def choose(found: Sequence[Device], wanted: str | None, kind: str) -> Device:
    """Find an ``input`` or ``output`` device by its number or part of its name; the default one if None.

    ``AudioError``, with what there is, if there is none or the name fits several that are not called alike.
    """
    fit = [device for device in found if getattr(device, f"{kind}s")]
    if not fit:
        raise AudioError(f"there is no {kind} device among {len(found)} sound devices: connect one, or start a sound server")
    listed = ", ".join(f"{device.index} {device.name}" for device in fit[:LISTED])
    if wanted is None:
        return next((device for device in fit if getattr(device, f"default_{kind}")), fit[0])
    if wanted.isdecimal():
        named = [device for device in fit if device.index == int(wanted)]
    else:
        named = [device for device in fit if wanted == device.name] or [d for d in fit if wanted.lower() in d.name.lower()]
    if not named:
        raise AudioError(f"there is no {kind} device {wanted}: choose one of {listed}")
    if len({device.name for device in named}) > 1:
        raise AudioError(f"{len(named)} {kind} devices are called {wanted}: give one of their numbers: {listed}")
    return named[0]


def wire(
    input_device: Device,
    output_device: Device | None,
    *,
    frame: FrameSpec,
    channels: Sequence[int] = (),
    rate_hz: int | None = None,
    block: int | None = None,
) -> Wiring:
    """Choose rate, channels and block to open these devices for a model of this geometry.

    The model's own rate is taken where the devices offer it, since then nothing need be resampled, and a hop for a block.
    ``AudioError`` for channels that the device has not, or rates that it refuses.
    """
    model_hz, ears = frame.sample_rate_hz, frame.ears
    remarks = []
    if not channels:
        channels = tuple(range(1, min(ears, input_device.inputs) + 1))
        if len(channels) < ears:
            remarks.append(f"{input_device.name} has {input_device.inputs} channel: one ear is heard, and played to both")
    if len(channels) > ears or len(set(channels)) != len(channels):
        raise AudioError(f"channels {','.join(map(str, channels))}: give 1 to {ears} different ones")
    bad = [channel for channel in channels if not 1 <= channel <= min(input_device.inputs, MOST_CHANNELS)]
    if bad:
        raise AudioError(
            f"{input_device.name} has no input channel {bad[0]}: choose from 1 to {min(input_device.inputs, MOST_CHANNELS)}"
        )
    if output_device is not None and output_device.outputs < len(channels):
        remarks.append(f"{output_device.name} has {output_device.outputs} channel: both ears are played as their mean")
    wiring = Wiring(
        input=input_device,
        output=output_device,
        rate_hz=model_hz,
        block=block or frame.hop,
        channels=tuple(channels),
        remarks=tuple(remarks),
    )
    for rate in (rate_hz,) if rate_hz else (model_hz, input_device.rate_hz):
        if takes(replace(wiring, rate_hz=rate)):
            if rate != model_hz:
                remarks.append(f"{input_device.name} runs at {rate} Hz: resampled to {model_hz} Hz and back")
            return replace(wiring, rate_hz=rate, block=block or -(-frame.hop * rate // model_hz), remarks=tuple(remarks))
    asked = f"{rate_hz} Hz" if rate_hz else f"{model_hz} Hz, nor {input_device.rate_hz} Hz"
    possible = [rate for rate in _USUAL_RATES_HZ if takes(replace(wiring, rate_hz=rate))]
    raise AudioError(f"{input_device.name} does not run at {asked}: choose {','.join(map(str, possible)) or 'another'} with --rate")


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
        self._inputs, self._outputs, self._together = _channels(wiring)
        self._heard, self._taken, self._out = (np.zeros((block, ears), np.float32) for _ in range(3))
        self._played = np.zeros((block, max(1, self._outputs)), np.float32)
        self._waiting = Ring(16 * block, ears)
        self._position = -block
        self._portaudio = _portaudio()
        self._pa, self._module = self._portaudio.__enter__()
        self._streams: list[Any] = []

        try:
            with _silence_hosts():
                if not _answers_in_time(self._open_streams):
                    raise OSError("the sound system does not answer")
        except (OSError, ValueError) as failure:
            self.close()
            raise AudioError(
                f"{wiring.input.name} cannot be opened at {wiring.rate_hz} Hz ({failure}): see `edge-tse devices`"
            ) from failure

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
        with _silence_hosts():
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

    def _play(self, data: object, frames: int, status: int) -> bytes:
        self._fit(frames)
        self._exchange(self._taken[:frames], self._out[:frames], self._take(frames, _flags(status)))
        return self._spread(frames)

    def _take(self, frames: int, flags: int) -> int:
        """Fill ``_taken`` with what was heard; returns the flags of the block."""
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


def _channels(wiring: Wiring) -> tuple[int, int, bool]:
    """Input channels, output channels, and whether one stream can have both."""
    inputs = max(wiring.channels)
    if wiring.output is None:
        return inputs, 0, False
    outputs = min(2, wiring.output.outputs)
    most = max(inputs, outputs)
    if most <= min(wiring.input.inputs, wiring.output.outputs):
        return most, most, True
    return inputs, outputs, False


def _flags(status: int) -> int:
    return (1 if status & _INPUT_LOST else 0) | (2 if status & _OUTPUT_UNDERFLOW else 0)


def _device(audio: Any, index: int, first: dict[str, int]) -> Device:
    info = audio.get_device_info_by_index(index)
    return Device(
        index=index,
        name=str(info["name"]),
        host=str(audio.get_host_api_info_by_index(info["hostApi"])["name"]),
        inputs=int(info["maxInputChannels"]),
        outputs=int(info["maxOutputChannels"]),
        rate_hz=int(info["defaultSampleRate"]),
        input_latency_s=float(info["defaultLowInputLatency"]),
        output_latency_s=float(info["defaultLowOutputLatency"]),
        default_input=index == first["input"],
        default_output=index == first["output"],
    )


def takes(wiring: Wiring) -> bool:
    """Whether the devices can be opened like this."""
    with _portaudio() as (audio, module):
        inputs, outputs, _ = _channels(wiring)
        ask: dict[str, object] = {}
        if wiring.input.index >= 0:  # links are no device
            ask |= {"input_device": wiring.input.index, "input_channels": inputs, "input_format": module.paFloat32}
        if wiring.output:
            ask |= {"output_device": wiring.output.index, "output_channels": outputs, "output_format": module.paFloat32}
        try:
            return bool(audio.is_format_supported(wiring.rate_hz, **ask))
        except ValueError:
            return False


@contextmanager
def _portaudio() -> Iterator[tuple[Any, ModuleType]]:
    try:
        module = import_module("pyaudio")
    except ImportError as failure:
        raise AudioError(
            f"PyAudio is not installed, live sound needs it: apt-get install portaudio19-dev && {install_line('live')}"
        ) from failure
    with _silence_hosts():
        audio = module.PyAudio()
    try:
        yield audio, module
    finally:
        audio.terminate()


@contextmanager
def _silence_hosts() -> Iterator[None]:
    """Silence PortAudio's hosts, which write about every device that they do not find; none of it is for users."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
