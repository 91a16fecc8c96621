"""Device: commands to a board and its answers, over any link.

Every command ends: with its answer, with what the board had against it (``DeviceError``), or with silence after a stated number of
tries and seconds (``LinkError``). A command that was not heard is sent again, and the board executes it once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError, DeviceError, EngineError, LinkError
from edge_tse.frame import FrameSpec
from firmware_bridge.layout import pack, unpack
from firmware_bridge.link import Confirming, Link
from firmware_bridge.wire import (
    CHUNK_BYTES,
    PROTOCOL,
    Decoder,
    Error,
    Frame,
    Gains,
    Hello,
    HelloRequest,
    Message,
    NetworkFrame,
    Reset,
    ResetDone,
    SetVoice,
    SoundFrame,
    Stats,
    StatsRequest,
    Talker,
    VoiceTaken,
    encode,
)

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact

__all__ = ["Device", "DeviceEngine", "DeviceNetwork", "DeviceStep", "stats_figures"]

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]

_CHUNK_BYTES = 4096
_FULL_SCALE = 2**15

T = TypeVar("T", Hello, VoiceTaken, ResetDone, Gains, Talker, Stats)


class Device:
    """A board that answers.

    Construction says hello: ``LinkError`` if nobody answers, or the board speaks another protocol.
    """

    hello: Hello
    """Identity of the board."""

    def __init__(
        self, link: Link, *, clock: Callable[[], float] = time.monotonic, timeout_s: float = 1.0, attempts: int = 3
    ) -> None:
        """``timeout_s``: seconds of ``clock`` that each of ``attempts`` tries of a command waits for its answer."""
        self.name = link.name
        self.repeated = 0
        """Commands that were sent again because no answer came."""
        self.unexpected = 0
        """Answers to something else: late ones, mostly."""
        self._link = link
        self._clock = clock
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._decoder = Decoder()
        self._sequence = 0
        self.hello = self._ask(HelloRequest(), Hello)
        if self.hello.protocol != PROTOCOL:
            raise self._foreign(self.hello.protocol)

    @property
    def damaged(self) -> int:
        """Frames of the board that arrived damaged."""
        return self._decoder.damaged

    def reset(self, ears: int = 0) -> int:
        """Forget the past, keep the voice; ``ears`` channels from now on, as many as before if 0. Returns their number."""
        return self._ask(Reset(ears=ears), ResetDone).ears

    def set_voice(self, patch: bytes, progress: Callable[[float], None] = lambda fraction: None) -> None:
        """Listen to another talker from the next frame on: ``patch`` is :func:`firmware_bridge.codegen.voice_patch`'s.

        ``DeviceError`` if the board refuses it; it then goes on with the voice it has. ``progress`` is told the fraction sent.
        """
        for offset in range(0, max(len(patch), 1), CHUNK_BYTES):
            part = patch[offset : offset + CHUNK_BYTES]
            taken = self._ask(SetVoice(offset=offset, size_bytes=len(patch), data=part), VoiceTaken)
            progress(taken.taken_bytes / max(len(patch), 1))

    def network_frame(self, features: Int8) -> tuple[Int8, ...]:
        """One step of the network: int8 features to its outputs, ``[bands]`` each."""
        bands, answer = self.hello.bands, np.frombuffer(self._ask(NetworkFrame(features=features.tobytes()), Gains).moves, np.int8)
        if not bands or len(answer) < 2 * bands or len(answer) % bands:
            raise LinkError(f"{self.name}: {len(answer)} gains of {bands} bands: flash the board again")
        return tuple(answer.reshape(-1, bands))

    def sound_frame(self, hop: Int16) -> Int16:
        """One step of the whole chain: int16 ``[ears, hop]`` to the same shape."""
        answer = self._ask(SoundFrame(samples=hop.astype("<i2").tobytes()), Talker).samples
        if len(answer) != 2 * hop.size:
            raise LinkError(f"{self.name}: {len(answer)} bytes of samples came back for {2 * hop.size}: flash the board again")
        return np.frombuffer(answer, "<i2").astype(np.int16).reshape(hop.shape)

    def stats(self) -> Stats:
        """Statistics that the board states about itself."""
        return self._ask(StatsRequest(), Stats)

    def confirm(self) -> None:
        """Keep the image that the board has on trial."""
        if isinstance(self._link, Confirming):
            self._link.confirm()

    def close(self) -> None:
        """Give the link back."""
        self._link.close()

    def _ask(self, request: Message, kind: type[T]) -> T:
        self._sequence = (self._sequence + 1) % 2**16
        content = encode(Frame(request.code, self._sequence, pack(request)))
        before = self._decoder.foreign_bytes
        for attempt in range(self._attempts):
            self.repeated += attempt > 0
            self._link.write(content)
            answer = self._answer()
            if answer is not None:
                return self._understand(answer, request, kind)
        raise self._silent(request, self._decoder.foreign_bytes - before)

    def _silent(self, request: Message, foreign: int) -> LinkError:
        """What to say of a port on which nobody answers, and of what else comes from it."""
        said = f"{self.name}: no answer to {type(request).__name__} within {self._attempts} x {self._timeout_s:g} s"
        if not foreign:
            return LinkError(f"{said}: is the board powered, flashed, and on this port?")
        quoted = ascii(self._decoder.foreign_last.decode("latin-1"))
        return LinkError(
            f"{said}, but {foreign} bytes of something else, the last {quoted}: another program's port, a board that starts "
            "again and again, or another rate than the board's (115200 baud unless --baud says otherwise)?"
        )

    def _answer(self) -> Frame | None:
        """The answer to the present request, or None after the time for one attempt."""
        deadline_s = self._clock() + self._timeout_s
        found = None
        # A line that chatters without an answer must not keep us: the clock decides, not the silence.
        while found is None and (remaining_s := deadline_s - self._clock()) > 0:
            for frame in self._decoder.push(self._link.read(_CHUNK_BYTES, remaining_s)):
                if frame.sequence == self._sequence and frame.code & 0x80:
                    found = frame
                else:
                    self.unexpected += 1
        return found

    def _understand(self, frame: Frame, request: Message, kind: type[T]) -> T:
        try:
            if frame.code == Error.code:
                error = unpack(Error, frame.payload)
                raise DeviceError(
                    f"{self.name} refuses {type(request).__name__}: {error.text} (status {error.status})", error.status
                )
            if frame.code == kind.code:
                return unpack(kind, frame.payload)
        except ValueError as failure:
            if kind is Hello and len(frame.payload) >= 2:
                raise self._foreign(int.from_bytes(frame.payload[:2], "little")) from failure
            raise LinkError(f"{self.name}: {failure}: flash the board with this edge-tse") from failure
        raise LinkError(
            f"{self.name} answers {type(request).__name__} with message {frame.code:#04x}, not {kind.code:#04x}: "
            "flash the board with this edge-tse"
        )

    def _foreign(self, protocol: int) -> LinkError:
        return LinkError(f"{self.name} speaks protocol {protocol}, this edge-tse {PROTOCOL}: flash the board with this edge-tse")


class DeviceNetwork:
    """A board as a :class:`edge_tse.golden.Network`: its integers, for ``verify``."""

    def __init__(self, device: Device, artifact: Artifact) -> None:
        """``artifact``: the one the board was flashed with. ``DeviceError`` if it runs another."""
        _check_model(device, artifact)
        self.name = f"native/{device.hello.kernels}"  # the kernels are what a tolerance is stated for, wherever they run
        self._device = device
        self._features = artifact.frame.features

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        self._device.reset()

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """One step: int8 features ``[n]`` to the graph's outputs in order, each ``[bands]``."""
        if features.shape != (self._features,):
            raise EngineError(f"a step takes {self._features} features, not {list(features.shape)}")
        return self._device.network_frame(features)


class DeviceEngine:
    """A board as an engine: 16-bit sound there and back, the whole chain on the board."""

    def __init__(self, device: Device, artifact: Artifact) -> None:
        """``artifact``: the one the board was flashed with. ``DeviceError`` if it runs another."""
        _check_model(device, artifact)
        self.artifact = artifact
        self._device = device
        self._step: DeviceStep | None = None

    @property
    def frame(self) -> FrameSpec:
        """Geometry of a step."""
        return self.artifact.frame

    def start(self, ears: int) -> DeviceStep:
        """A stream of ``ears`` channels from its beginning. ``AudioError`` if the model cannot hear that many."""
        if not 1 <= ears <= self.frame.ears:
            raise AudioError(f"{ears} channels, this model takes 1 to {self.frame.ears}: choose channels")
        if self._step is not None:
            self._step.ended = True
        self._step = DeviceStep(self._device, self.frame, ears)
        return self._step


class DeviceStep:
    """One stream through a board: a hop of samples in, a hop of the talker out, ``frame.delay`` samples later."""

    def __init__(self, device: Device, frame: FrameSpec, ears: int) -> None:
        self.ears = ears
        self.ended = False
        """Another stream has begun."""
        self._device = device
        self._shape = (ears, frame.hop)
        self.reset()

    def __call__(self, hop: Float) -> Float:
        """float32 ``[ears, hop]`` within ±1 to the same shape, rounded to 16 bits on the way in."""
        if hop.shape != self._shape:
            raise AudioError(f"a step takes {list(self._shape)} samples, not {list(hop.shape)}")
        if self.ended:
            raise EngineError("this stream ended when the engine started another: start one stream per engine")
        samples = np.clip(np.rint(hop * np.float32(_FULL_SCALE)), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
        return self._device.sound_frame(samples).astype(np.float32) / np.float32(_FULL_SCALE)

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._device.reset(self.ears)


def stats_figures(stats: Stats) -> dict[str, object]:
    """Stats by name, with "unavailable" where the board does not know: never 0 for an unmeasured figure."""
    counted: object = "unavailable"
    if stats.counter:
        mean = stats.total_count / stats.frames if stats.frames else 0
        counted = {"unit": stats.counter, "last": stats.last_count, "worst": stats.worst_count, "mean": mean}
    return {
        "frames": stats.frames,
        "counts_per_frame": counted,
        "deadline_misses": stats.deadline_misses if stats.counter and stats.counts_per_s else "unavailable",
        "damaged_frames": stats.damaged_frames,
        "stack_bytes": stats.stack_bytes or "unavailable",
        "stack_high_water_bytes": stats.stack_high_water_bytes or "unavailable",
        "arena_bytes": stats.arena_bytes,
        "state_bytes": stats.state_bytes,
        "weight_bytes": stats.weight_bytes,
    }


def _check_model(device: Device, artifact: Artifact) -> None:
    hello, frame = device.hello, artifact.frame
    if hello.model != bytes.fromhex(artifact.digest)[:16]:
        raise DeviceError(
            f"{device.name} runs model {hello.model.hex()[:12]}, this artifact is {artifact.digest[:12]}: "
            "flash it, or give the artifact that is on the board",
            0,
        )
    theirs = (hello.sample_rate_hz, hello.hop, hello.window, hello.synthesis, hello.features, hello.bands, hello.ears)
    ours = (frame.sample_rate_hz, frame.hop, frame.window, frame.synthesis, frame.features, frame.bands, frame.ears)
    if theirs != ours:
        raise DeviceError(f"{device.name} has geometry {theirs}, the artifact {ours}: flash it again", 0)
