"""The firmware's own C, compiled for this machine: the network, and the whole chain from sound to sound.

The same code runs here and on a board, so most of a board can be tested without one.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.artifact import Artifact
from edge_tse.errors import AudioError, DeviceError, EngineError
from edge_tse.graph import IntegerGraph
from firmware_bridge.build import shared_library
from firmware_bridge.codegen import generate, generate_network

__all__ = ["NativeChain", "NativeNetwork"]

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]

_BYTES = ctypes.POINTER(ctypes.c_int8)


class NativeNetwork:
    """A graph as compiled C, and its state.

    ``compiler``: command of another C compiler than zig's; ``flags``: more for it. ``ArtifactError`` if the firmware cannot run
    the graph, ``TargetError`` if it cannot be compiled.
    """

    def __init__(
        self,
        graph: IntegerGraph,
        *,
        compiler: Sequence[str] | None = None,
        flags: Sequence[str] = (),
        binary: bytes | None = None,
    ) -> None:
        """``binary``: a shared library of this graph that was compiled before, to be used instead."""
        self._library = _load(generate_network(graph), compiler, flags) if binary is None else _open(binary)
        self.name = f"native/{self._library.etse_kernels().decode()}"
        self._step = self._library.etse_model_step
        tensors = graph.tensors
        source = tensors[graph.inputs[0]]
        self._input = np.zeros(source.frames * source.channels, np.int8)
        self._outputs = tuple(np.zeros(tensors[name].frames * tensors[name].channels, np.int8) for name in graph.outputs)
        self._arguments = _pointer(self._input), (_BYTES * len(self._outputs))(*map(_pointer, self._outputs))
        if graph.films:
            self._library.etse_voice_clear()
        self.reset()

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        self._library.etse_model_reset()

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """One step: int8 features ``[n]`` to the outputs, each ``[channels]``, in graph order and valid until the next step."""
        self._input[:] = features
        self._step(*self._arguments)
        return self._outputs


class NativeChain:
    """The whole chain of a board: 16-bit sound in, 16-bit sound out."""

    def __init__(self, artifact: Artifact, ears: int, *, compiler: Sequence[str] | None = None, flags: Sequence[str] = ()) -> None:
        if not 1 <= ears <= artifact.frame.ears:
            raise AudioError(f"{ears} channels, this model takes 1 to {artifact.frame.ears}: choose channels")
        self.frame = artifact.frame
        self.ears = ears
        self._library = _load(generate(artifact), compiler, flags)
        self.kernels = self._library.etse_kernels().decode()
        self._library.etse_init(ears)

    def set_voice(self, patch: bytes) -> None:
        """Listen to another talker from the next hop on. ``DeviceError`` if the patch is refused; nothing has changed then."""
        status = self._library.etse_set_voice(patch, ctypes.c_size_t(len(patch)))
        if status:
            raise DeviceError(f"the voice patch of {len(patch)} bytes is refused: {_STATUS.get(status, status)}", status)

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""
        self._library.etse_reset()

    def __call__(self, hop: Int16) -> Int16:
        """Process a hop ``[ears, frame.hop]`` to the same shape, ``frame.delay`` samples later."""
        source = self._hop(hop)
        out = np.empty_like(source)
        self._library.etse_process(source.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p))
        return out

    def analyze(self, hop: Int16) -> Int8:
        """Compute the features of a hop, ``[frame.features]``: first part of a step."""
        source, features = self._hop(hop), np.empty(self.frame.features, np.int8)
        self._library.etse_analyze(source.ctypes.data_as(ctypes.c_void_p), _pointer(features))
        return features

    def network(self, features: Int8) -> tuple[Int8, ...]:
        """Compute the network's outputs, ``[frame.bands]`` each: second part of a step."""
        source = np.ascontiguousarray(features, np.int8)
        if source.shape != (self.frame.features,):
            raise EngineError(f"a step takes {self.frame.features} features, not {list(source.shape)}")
        moves = np.empty((len(self.frame.moves), self.frame.bands), np.int8)
        self._library.etse_network(_pointer(source), _pointer(moves))
        return tuple(moves)

    def synthesize(self, *moves: Int8) -> Int16:
        """Compute the sound ``[ears, frame.hop]``: last part of a step."""
        out = np.empty((self.ears, self.frame.hop), np.int16)
        source = np.array(moves, np.int8)
        self._library.etse_synthesize(_pointer(source), out.ctypes.data_as(ctypes.c_void_p))
        return out

    def _hop(self, hop: Int16) -> Int16:
        if hop.shape != (self.ears, self.frame.hop) or hop.dtype != np.int16:
            raise AudioError(f"a step takes int16 {[self.ears, self.frame.hop]}, not {hop.dtype} {list(hop.shape)}")
        return np.ascontiguousarray(hop)


_STATUS = {
    2: "it is malformed, truncated, or of an older edge-tse: make it again with voice_patch",
    3: "it was made for another model",
    4: "a value is out of range",
    5: "it is damaged, its CRC-32 differs: make it again with voice_patch",
    6: "the model was compiled with a voice folded in: compile it without one",
}


def _load(generated: Mapping[str, str], compiler: Sequence[str] | None, flags: Sequence[str]) -> ctypes.CDLL:
    """A library of its own for every caller: its memory is static."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "etse.so"
        shared_library(generated, path, flags, compiler)
        return _open(path.read_bytes())


def _open(binary: bytes) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "etse.so"
        path.write_bytes(binary)
        library = ctypes.CDLL(str(path))  # stays mapped when the file is gone
    library.etse_kernels.restype = ctypes.c_char_p
    return library


def _pointer(values: Int8) -> ctypes._Pointer[ctypes.c_int8]:
    return values.ctypes.data_as(_BYTES)
