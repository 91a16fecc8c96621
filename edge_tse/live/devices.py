"""Sound devices: what there is, and the choice of devices, rate, block and channels for a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_tse.errors import AudioError
from edge_tse.frame import FrameSpec
from edge_tse.live.portaudio import portaudio

__all__ = ["Device", "Wiring", "choose", "devices", "takes", "wire"]

MOST_CHANNELS = 8
LISTED = 8
"""Number of devices that an error message lists."""
_USUAL_RATES_HZ = (8000, 16000, 22050, 32000, 44100, 48000, 96000, 192000)


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
    def streams(self) -> tuple[int, int, bool]:
        """Input channels, output channels, and whether one stream can have both."""
        inputs = max(self.channels)
        if self.output is None:
            return inputs, 0, False
        outputs = min(2, self.output.outputs)
        most = max(inputs, outputs)
        if most <= min(self.input.inputs, self.output.outputs):
            return most, most, True
        return inputs, outputs, False

    @property
    def device_latency_s(self) -> float:
        """Input and output latency as the devices recommend it; a stream that is open knows better."""
        return self.input.input_latency_s + (self.output.output_latency_s if self.output else 0.0)


def devices() -> tuple[Device, ...]:
    """All devices, in PortAudio's order. ``AudioError`` if PyAudio is not installed."""
    with portaudio() as (audio, _):
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
    with portaudio() as (audio, module):
        inputs, outputs, _ = wiring.streams
        ask: dict[str, object] = {}
        if wiring.input.index >= 0:  # links are no device
            ask |= {"input_device": wiring.input.index, "input_channels": inputs, "input_format": module.paFloat32}
        if wiring.output:
            ask |= {"output_device": wiring.output.index, "output_channels": outputs, "output_format": module.paFloat32}
        try:
            return bool(audio.is_format_supported(wiring.rate_hz, **ask))
        except ValueError:
            return False
