"""Sound devices and engines as asked for on the command line, takes by microphone, and Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.cli import output
from edge_tse.errors import AudioError, EngineError

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.frame import FrameSpec
    from edge_tse.live.devices import Wiring
    from edge_tse.live.links import Links
    from edge_tse.stream import AnyEngine
    from edge_tse.voice import Voice

__all__ = ["Opened", "engine_for", "listen", "take_clip", "until_interrupted", "wire_devices", "wire_ears"]

Float = NDArray[np.float32]

NOWHERE = "none"
"""Output of a session over links that nobody hears."""


def wire_devices(
    frame: FrameSpec,
    input_device: str | None,
    output_device: str | None,
    channels: str,
    rate: int | None,
    block: int | None,
    plays: bool = True,
) -> Wiring:
    """The devices that the options name; remarks about them go to stderr."""
    from edge_tse.live import devices as capture

    try:
        ears = tuple(int(part) for part in channels.split(",") if part.strip())
    except ValueError:
        raise AudioError(f"--channels {channels} are not numbers: give for instance 1,2") from None
    found = capture.devices()
    wiring = capture.wire(
        capture.choose(found, input_device, "input"),
        capture.choose(found, output_device, "output") if plays else None,
        frame=frame,
        channels=ears,
        rate_hz=rate,
        block=block,
    )
    for remark in wiring.remarks:
        output.warn(remark)
    return wiring


@contextmanager
def wire_ears(
    frame: FrameSpec,
    given: Sequence[str],
    buffer_ms: float,
    input_device: str | None,
    output_device: str | None,
    channels: str,
    rate: int | None,
    block: int | None,
) -> Iterator[tuple[Wiring, Links | None]]:
    """The devices that the options name or, if links are ``given``, those and an earphone; the links are closed at the end."""
    if not given:
        yield wire_devices(frame, input_device, output_device, channels, rate, block), None
        return
    from edge_tse.deployment.boards import boards
    from edge_tse.live import devices as capture
    from edge_tse.live.linked_devices import wire_links
    from edge_tse.live.links import Links, parse_links

    if input_device is not None or channels:
        raise AudioError("--link takes the place of --input and --channels: leave them out")
    ports = parse_links(given)
    earphone = None if output_device == NOWHERE else capture.choose(capture.devices(), output_device, "output")
    with closing(Links(ports, boards().listen, buffer_s=buffer_ms / 1e3)) as links:
        wiring = wire_links(links, earphone, frame=frame, rate_hz=rate, block=block)
        for remark in wiring.remarks:
            output.warn(remark)
        yield wiring, links


@contextmanager
def until_interrupted() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C ask for the end, however often and whenever it is pressed, so that files are closed."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    kept = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def listen(wiring: Wiring, samples: int, play: Float | None, label: str, as_json: bool) -> tuple[Float, float, int]:
    """Record ``[ears, samples]`` while ``play [n, ears]`` is repeated; also the device's stated latency and its flagged blocks."""
    from edge_tse.live.duplex import Duplex
    from edge_tse.live.supervision import Take, record

    take = Take(samples, wiring.ears, play)
    stated: list[float] = []

    def open_duplex(current: Take) -> Duplex:
        device = Duplex(wiring, current)
        stated.append(device.latency_s)
        return device

    with until_interrupted() as stopped, output.progress(label, as_json) as tell:
        heard = record(take, open_duplex, stopped=stopped, tell=tell)
    return heard, stated[0], take.flags


def take_clip(frame: FrameSpec, seconds: float, input_device: str | None, as_json: bool, scene: bool) -> tuple[Float, int]:
    """A recording ``[ears, n]`` for enrollment and its rate; says when to talk, or in a ``scene`` when to look."""
    wiring = wire_devices(frame, input_device, None, "", None, None, plays=False)
    if scene and wiring.ears != 2:
        raise AudioError(
            f"{wiring.input.name} has {wiring.ears} channel, a scene needs 2 (left and right ear): nothing was recorded, choose "
            "another microphone with --input"
        )
    if not as_json:
        what = (
            "look at the talker, for {} s, and keep your head still" if scene else "talk now, for {} s, alone and as you usually do"
        )
        sys.stderr.write(f"edge-tse: {what.format(f'{seconds:g}')}\n")
    heard, _, _ = listen(wiring, round(seconds * wiring.rate_hz), None, "recording", as_json)
    return heard, wiring.rate_hz


class Opened(NamedTuple):
    """An engine that runs, its name, and the digest of its model as it runs: personalized, or universal."""

    engine: AnyEngine
    name: str
    digest: str


@contextmanager
def engine_for(
    universal: Artifact,
    voices: Mapping[str, Voice],
    engine: str,
    target: str,
    port: str | None,
    baud: int | None = None,
    model: Artifact | None = None,
) -> Iterator[Opened]:
    """The engine that runs the model with these voices, here or on a board; it hears the first.

    ``model`` is the model with the voices, if it has been made. ``EngineError`` if a board is described and not asked for.
    """
    from edge_tse.engines import Engine
    from edge_tse.personalization import with_voices

    boards_own = {"--target": target, "--port": port, "--baud": baud}
    if engine != "device" and (given := [name for name, value in boards_own.items() if value]):
        raise EngineError(f"{given[0]} is of a board, --engine is {engine}: give --engine device, or leave {given[0]} out")
    if engine == "device" and not target:
        raise EngineError("--engine device needs --target, a name of `edge-tse targets`")
    if engine == "device" and len(voices) > 1:
        raise EngineError(f"a board holds one voice, {len(voices)} were given: give one --voice, or leave --engine device out")
    model = with_voices(universal, list(voices.values())) if model is None else model
    if engine == "device":
        from edge_tse.deployment.boards import boards, state_folder
        from edge_tse.deployment.target import find_target

        with boards().connect(find_target(target), port, state_folder(), baud) as board:
            board.use(universal, *voices.values())
            board.confirm()
            yield Opened(board.engine(), board.name, model.digest)
        return
    network = output.open_quietly(model, engine)
    yield Opened(Engine(model, network), network.name, model.digest)
