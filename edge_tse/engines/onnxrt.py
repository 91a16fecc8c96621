"""ONNX Runtime: the graph in QDQ form on the CPU, its integer kernels fused by the runtime.

Inputs, outputs and states are NumPy buffers bound once. States have two buffers each that change roles every step: what one step
writes the next one reads, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.deployment.runtime import file_of
from edge_tse.engines.timing import time_step
from edge_tse.errors import EngineError
from edge_tse.golden import TimedStep
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line

__all__ = ["OnnxNetwork", "open_session", "refusals"]

Int8 = NDArray[np.int8]
Bytes = NDArray[np.uint8]

_OFFSET = 128  # states are uint8: see targets/onnx.py


class OnnxNetwork:
    """Runs a graph and keeps its state.

    ``content`` is the ONNX file if it has been emitted already. ``EngineError`` if the runtime is not installed, or refuses the
    graph.
    """

    name = "onnx/cpu"

    def __init__(self, graph: IntegerGraph, content: bytes | None = None, *, threads: int = 1) -> None:
        if len(graph.inputs) != 1:
            raise EngineError(f"a step takes one input, this graph has {len(graph.inputs)}: {list(graph.inputs)}")
        if threads < 1:
            raise EngineError(f"{threads} threads: at least 1 is needed")
        self._session = open_session(file_of("onnx", graph) if content is None else content, threads)
        wanted = {*graph.given, *graph.made}
        found = {value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        if wanted != found:
            raise EngineError(f"the ONNX file is of another graph: it differs in {sorted(wanted ^ found)}")
        self._graph = graph
        # Flat, so that a step gives and takes what every engine does; a binding states the shape itself.
        self._features: Int8 = np.zeros(self._size(graph.inputs[0]), np.int8)
        self._voice: dict[str, Int8] = {name: value.copy() for name, value in graph.voice.items()}
        self._outputs = tuple(np.zeros(self._size(name), np.int8) for name in graph.outputs)
        self._histories = [tuple(np.zeros(self._size(s.input), np.uint8) for _ in range(2)) for s in graph.states]
        self._bindings = (self._binding(0), self._binding(1))
        self.reset()

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        for (history, _), state in zip(self._histories, self._graph.states, strict=True):
            history.fill(self._graph.tensors[state.input].zero_point + _OFFSET)
        self._turn = 0

    def set_voice(self, voice: Mapping[str, Int8]) -> None:
        """Compute with these voice inputs, ``[channels]`` each by name (:mod:`edge_tse.universal`), from the next step on."""
        for name, value in self._graph.check_voice(voice).items():
            self._voice[name][:] = value

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """Run one step: int8 features ``[n]`` to the outputs, each ``[channels]``, in graph order and valid until the next step."""
        self._features[:] = features
        self._invoke(self._bindings[self._turn])
        self._turn ^= 1
        return self._outputs

    def run_timed(self, features: Int8, clock: Callable[[], float]) -> TimedStep:
        """:meth:`run`, with the times by ``clock``."""
        binding = self._bindings[self._turn]
        self._turn ^= 1
        return time_step(clock, lambda: np.copyto(self._features, features), lambda: self._invoke(binding), lambda: self._outputs)

    def _invoke(self, binding: Any) -> None:
        self._session.run_with_iobinding(binding)

    def _size(self, name: str) -> int:
        return self._graph.tensors[name].frames * self._graph.tensors[name].channels

    def _binding(self, turn: int) -> Any:
        graph, binding = self._graph, self._session.io_binding()

        def place(bind: Callable[..., None], name: str, buffer: Int8 | Bytes) -> None:
            tensor = graph.tensors[name]
            bind(name, "cpu", 0, buffer.dtype.type, (tensor.frames, tensor.channels), buffer.ctypes.data)

        place(binding.bind_input, graph.inputs[0], self._features)
        for name, value in self._voice.items():
            place(binding.bind_input, name, value)
        for name, buffer in zip(graph.outputs, self._outputs, strict=True):
            place(binding.bind_output, name, buffer)
        for state, buffers in zip(graph.states, self._histories, strict=True):
            place(binding.bind_input, state.input, buffers[turn])
            place(binding.bind_output, state.output, buffers[1 - turn])
        return binding


def open_session(model: bytes | str, threads: int) -> Any:
    """A session for a file's content, or for its path: weights in another file are found beside it. ``EngineError`` if refused."""
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        raise EngineError(f"engine onnx needs onnxruntime: {install_line('onnx')}") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it refuses is raised as well
    try:
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except refusals() as error:
        raise EngineError(f"onnxruntime refuses the model: {' '.join(str(error).split())}") from error


def refusals() -> tuple[type[Exception], ...]:
    """Exceptions with which runtimes refuse a model or its values; ONNX Runtime's have no common base but Exception."""
    try:
        state = import_module("onnxruntime").capi.onnxruntime_pybind11_state
    except ImportError:
        return (RuntimeError, ValueError)
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented", "RuntimeException")
    return (*(getattr(state, name) for name in names if hasattr(state, name)), RuntimeError, ValueError)
