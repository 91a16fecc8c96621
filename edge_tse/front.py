"""The front end of a running stream: a hop of sound to a network's integers, and its answer to a hop of sound.

There are two, and they give the same bits: :class:`NumpyFront`, made of what :mod:`edge_tse.frame` defines, and
:class:`CompiledFront`, which is many times as fast. Its C is optional: an installation without a C compiler leaves it out, and
:func:`open_front` then gives the other. So it does where the compiled one does not give these bits: because it was built from other
sources, or with options that round otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.beam import Beam, mix
from edge_tse.frame import GAIN_LIFT, LIFT, SILENCE, Analyzer, FrameSpec, Synthesizer
from edge_tse.level import LEVEL_OFFSET, LEVEL_SLOPE, POWER_FLOOR, RunningLevel, over_ears
from edge_tse.operators import Tensor
from edge_tse.quant import dequantize, quantize

if TYPE_CHECKING:
    from edge_tse._front import Stream
    from edge_tse.golden import Network

__all__ = ["CompiledFront", "Front", "Moves", "NumpyFront", "compiled_state", "features_of", "gains", "open_front"]

Float = NDArray[np.float32]
Int8 = NDArray[np.int8]

_COMPILED_EARS = 2
_COMPILED_WINDOW = 2**15


class Front(Protocol):
    """The front end of one stream, around a network."""

    def analyze(self, hop: Float) -> Int8:
        """Turn float32 ``[ears, hop]`` into the network's input ``[features]``."""

    def synthesize(self, *moves: Int8) -> Float:
        """Turn the network's outputs for the last hop, ``[bands]`` each, into float32 ``[ears, hop]``, late by ``frame.delay``.

        Once per hop: with a beam, it learns from them.
        """

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""


class Moves(NamedTuple):
    """Decisions of a network as real numbers, ``[..., bands]`` each."""

    mask: Float
    velocity: Float
    gain: Float
    """Gain applied to the mixture: ``max(0, mask + velocity)``."""
    share: Float | None
    """Share of the beam, less what the mask keeps, that is added; None without a beam."""


def gains(tensors: Mapping[str, Tensor], *moves: Int8) -> Moves:
    """Combine mask, velocity and, with a beam, share, ``[..., bands]`` each, into real numbers."""
    names = ("mask", "velocity", "share")[: len(moves)]
    mask, velocity, *share = (
        dequantize(q, tensors[name].scale, tensors[name].zero_point) for name, q in zip(names, moves, strict=True)
    )
    return Moves(mask, velocity, np.maximum(mask + velocity, np.float32(0)), share[0] if share else None)


class NumpyFront:
    """The front end as :mod:`edge_tse.frame` defines it. ``tensors``: a graph's, with ``features`` and ``frame.moves``."""

    def __init__(self, frame: FrameSpec, ears: int, tensors: Mapping[str, Tensor]) -> None:
        self._frame, self._tensors = frame, tensors
        self._analyzer, self._synthesizer = Analyzer(frame, ears), Synthesizer(frame, ears)
        self._spectrum = np.zeros((ears, frame.bins), np.complex64)
        self._level = RunningLevel() if frame.level_invariant else None
        self._beam = Beam(frame) if frame.beam and ears > 1 else None
        self._beamed = np.zeros_like(self._spectrum)

    def analyze(self, hop: Float) -> Int8:
        frame, source = self._frame, self._tensors["features"]
        self._spectrum = self._analyzer.push(hop)
        features = np.zeros(frame.features, np.float32)
        brought = None if self._level is None else self._level.push(over_ears(frame.band_energy(self._spectrum)))
        features[: frame.heard] = frame.frame_features(self._spectrum, brought)
        if self._beam is not None:
            self._beamed, features[frame.heard :] = self._beam.listen(self._spectrum)
        return quantize(features, source.scale, source.zero_point)

    def synthesize(self, *moves: Int8) -> Float:
        frame, (mask, _, gain, share) = self._frame, gains(self._tensors, *moves)
        if self._beam is None or share is None:  # with one ear the beam is what the mask keeps
            return self._synthesizer.push(self._spectrum * frame.bin_gains(gain))
        heard = mix(self._spectrum, frame.bin_gains(gain), self._beamed, frame.bin_gains(mask), frame.bin_gains(share))
        self._beam.learn(self._spectrum, mask, heard)
        return self._synthesizer.push(heard)

    def reset(self) -> None:
        self._analyzer.reset()
        self._synthesizer.reset()
        self._spectrum[:] = 0
        self._beamed[:] = 0
        if self._level is not None:
            self._level.reset()
        if self._beam is not None:
            self._beam.reset()


class CompiledFront:
    """The front end in C, through a ``Stream`` of the module ``edge_tse._front``."""

    def __init__(self, stream: type[Stream], frame: FrameSpec, ears: int, tensors: Mapping[str, Tensor]) -> None:
        source, moves = tensors["features"], [tensors[name] for name in frame.moves]
        lift = GAIN_LIFT / LIFT  # of the gains: a spectrum is lifted already
        reals = [SILENCE * LIFT, frame.power_unit / (LIFT * LIFT), POWER_FLOOR, LEVEL_SLOPE, LEVEL_OFFSET]
        reals += [np.float32(1) / np.float32(source.scale), *(np.float32(move.scale) * lift for move in moves)]
        self._stream = stream(
            ears,
            frame.hop,
            frame.window,
            frame.bands,
            frame.spatial_bands,
            frame.beam,
            frame.level_invariant,
            frame.lifted_window,
            frame.lowering_window,
            frame.transform.twiddle_table,
            frame.transform.split,
            frame.band_edges.astype(np.uint16),
            np.array(reals, np.float32),
            np.array([source.zero_point, *(move.zero_point for move in moves)], np.int32),
        )
        self._features, self._shape = frame.features, (ears, frame.hop)
        self.reset = self._stream.reset

    def analyze(self, hop: Float) -> Int8:
        features = np.empty(self._features, np.int8)
        self._stream.analyze(np.ascontiguousarray(hop, np.float32), features)
        return features

    def synthesize(self, *moves: Int8) -> Float:
        out = np.empty(self._shape, np.float32)
        self._stream.synthesize(*moves, out)
        return out


def open_front(frame: FrameSpec, ears: int, tensors: Mapping[str, Tensor]) -> Front:
    """Open the fastest front end of this installation for a stream of ``ears`` channels."""
    stream = _load_compiled()[0]
    fits = ears <= _COMPILED_EARS and frame.hop % 2 == 0 and frame.window <= _COMPILED_WINDOW
    if stream is None or not fits:
        return NumpyFront(frame, ears, tensors)
    return CompiledFront(stream, frame, ears, tensors)


def features_of(frame: FrameSpec, tensors: Mapping[str, Tensor], signal: Float, network: Network) -> Int8:
    """Features ``[frames, features]`` of a whole signal ``[ears, samples]``, its last hop filled with zeros.

    With a beam it depends on what the network answers: it is asked hop by hop, from reset, and left where the signal ends.
    """
    front = open_front(frame, len(signal), tensors)
    asked = frame.beam and len(signal) > 1
    if asked:
        network.reset()
    padded = np.pad(signal, ((0, 0), (0, -signal.shape[1] % frame.hop)))
    rows = np.empty((padded.shape[1] // frame.hop, frame.features), np.int8)
    for i, row in enumerate(rows):
        row[:] = front.analyze(padded[:, i * frame.hop : (i + 1) * frame.hop])
        if asked:
            front.synthesize(*network.run(row))
    return rows


def compiled_state() -> tuple[bool, str]:
    """Whether the compiled front end is in use, and a remark about it."""
    stream, state = _load_compiled()
    return stream is not None, state


@cache
def _load_compiled() -> tuple[type[Stream] | None, str]:
    try:
        from edge_tse._front import Stream
    except ImportError as failure:
        reason = "" if isinstance(failure, ModuleNotFoundError) else f" ({failure})"
        return None, _IN_NUMPY.format(f"was not built{reason}")
    if not _agrees(Stream):
        return None, _IN_NUMPY.format("was built from other sources, or rounds otherwise")
    return Stream, "compiled C, the same bits as NumPy"


_IN_NUMPY = (
    "NumPy, slower than compiled C and the same bits; the compiled part {}: install a C compiler and Python's headers "
    "(apt-get install gcc python3-dev), then edge-tse again"
)


def _agrees(stream: type[Stream]) -> bool:
    """Whether the compiled front end gives the bits of the definition: on loud and faint noise, without a beam and with one."""
    return all(_agrees_on(stream, frame) for frame in (FrameSpec(), FrameSpec(beam=True, level_invariant=True)))


def _agrees_on(stream: type[Stream], frame: FrameSpec) -> bool:
    ears, rng = 2, np.random.default_rng(0)
    channels = {"features": frame.features, **dict.fromkeys(frame.moves, frame.bands)}
    ends = {name: Tensor(name=name, frames=1, channels=n, scale=1 / 128) for name, n in channels.items()}
    try:
        ours = CompiledFront(stream, frame, ears, ends)
    except (TypeError, ValueError):  # arguments of another version
        return False
    defined = NumpyFront(frame, ears, ends)
    for level in (0.3, 1e-3, 1e-7):
        hop = rng.normal(0, level, (ears, frame.hop)).astype(np.float32)
        moves = rng.integers(-128, 128, (len(frame.moves), frame.bands), np.int8)
        if not np.array_equal(ours.analyze(hop), defined.analyze(hop)):
            return False
        if not np.array_equal(ours.synthesize(*moves), defined.synthesize(*moves)):
            return False
    return True
