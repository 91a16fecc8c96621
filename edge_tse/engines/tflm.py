"""TFLite Micro: the same flatbuffer in the interpreter that runs on microcontrollers, here with its reference kernels on the host.

Its allocator places outputs over inputs that are no longer needed, so every input is written before each step.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.deployment.runtime import file_of
from edge_tse.engines.timing import time_step
from edge_tse.errors import EngineError
from edge_tse.golden import TimedStep
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line

__all__ = ["Arena", "TflmNetwork", "arena"]

Int8 = NDArray[np.int8]

_PLENTY_BYTES = 4 * 2**20


class Arena(NamedTuple):
    """Memory that the interpreter takes from its one buffer, as its recording allocator reports it on this host."""

    total_bytes: int
    head_bytes: int
    """Bytes of tensors, planned so that they share memory."""
    tail_bytes: int
    """Bytes that live as long as the interpreter. Pointers are 8 bytes here and 4 on a microcontroller."""


class TflmNetwork:
    """Runs a graph and keeps its state.

    ``content`` is the flatbuffer if it has been emitted already, ``arena_bytes`` the size of the interpreter's buffer (plenty if
    None). ``EngineError`` if TFLite Micro is not installed, or refuses the model or the arena.
    """

    name = "tflm/reference"

    def __init__(self, graph: IntegerGraph, content: bytes | None = None, *, arena_bytes: int | None = None) -> None:
        if len(graph.inputs) != 1:
            raise EngineError(f"a step takes one input, this graph has {len(graph.inputs)}: {list(graph.inputs)}")
        self._interpreter = _interpreter(_content(graph) if content is None else content, arena_bytes)
        self._graph = graph
        self._inputs = {name: self._buffer(name) for name in graph.given}
        self._check([self._shape(name) for name in graph.given])
        self._features = self._inputs[graph.inputs[0]].reshape(-1)
        self._histories = [self._inputs[s.input] for s in graph.states]
        self.set_voice(graph.voice)
        self.reset()

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        for history, state in zip(self._histories, self._graph.states, strict=True):
            history.fill(self._graph.tensors[state.input].zero_point)

    def set_voice(self, voice: Mapping[str, Int8]) -> None:
        """Compute with these voice inputs, ``[channels]`` each by name (:mod:`edge_tse.universal`), from the next step on."""
        for name, value in self._graph.check_voice(voice).items():
            self._inputs[name].reshape(-1)[:] = value

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """Run one step: int8 features ``[n]`` to the outputs, each ``[channels]``, in graph order and valid until the next step."""
        self._take(features)
        self._interpreter.invoke()
        return self._give()

    def run_timed(self, features: Int8, clock: Callable[[], float]) -> TimedStep:
        """:meth:`run`, with the times by ``clock``."""
        return time_step(clock, lambda: self._take(features), self._interpreter.invoke, self._give)

    def _take(self, features: Int8) -> None:
        self._features[:] = features
        for i, values in enumerate(self._inputs.values()):
            self._interpreter.set_input(values, i)

    def _give(self) -> tuple[Int8, ...]:
        outputs = len(self._graph.outputs)
        for i, history in enumerate(self._histories):
            np.copyto(history, self._interpreter.get_output(outputs + i))
        return tuple(self._interpreter.get_output(i).reshape(-1) for i in range(outputs))

    def _shape(self, name: str) -> list[int]:
        tensor = self._graph.tensors[name]
        return [1, tensor.frames, 1, tensor.channels]

    def _buffer(self, name: str) -> Int8:
        return np.zeros(self._shape(name), np.int8)

    def _check(self, wanted: list[list[int]]) -> None:
        try:
            found = [self._interpreter.get_input_details(i)["shape"].tolist() for i in range(len(wanted))]
        except (IndexError, RuntimeError, ValueError):
            found = []
        if found != wanted:
            raise EngineError(f"the flatbuffer is of another graph: its inputs are {found}, {wanted} are needed")


def arena(content: bytes) -> Arena:
    """Arena that a flatbuffer needs, measured on this host by one step of the interpreter. ``EngineError`` as for the network."""
    interpreter = _interpreter(content, None)
    interpreter.invoke()
    # The report goes to the process's standard error, and nowhere else.
    with tempfile.TemporaryFile() as report:
        before = os.dup(2)
        try:
            os.dup2(report.fileno(), 2)
            interpreter.print_allocations()
        finally:
            os.dup2(before, 2)
            os.close(before)
        report.seek(0)
        text = report.read().decode(errors="replace")
    found = [re.search(rf"Arena allocation {part} (\d+) bytes", text) for part in ("total", "head", "tail")]
    if not all(found):
        raise EngineError("tflite-micro reports its arena in words this edge-tse does not know: install another version")
    return Arena(*(int(match[1]) for match in found if match))


def _content(graph: IntegerGraph) -> bytes:
    try:
        return file_of("tflm", graph)
    except ImportError as error:
        raise EngineError(f"engine tflm needs {error.name} to write its model: {install_line('tflm')}") from None


def _interpreter(content: bytes, arena_bytes: int | None) -> Any:
    try:
        runtime = import_module("tflite_micro.python.tflite_micro.runtime")
    except ImportError:
        raise EngineError(f"engine tflm needs tflite-micro: {install_line('tflm')}") from None
    if content[4:8] != b"TFL3":
        raise EngineError("tflite-micro refuses the model: it is not a TFLite flatbuffer")
    try:
        # Its own choice, ten times the model, is too little for few weights with a long past.
        size = max(10 * len(content), _PLENTY_BYTES) if arena_bytes is None else arena_bytes
        return runtime.Interpreter.from_bytes(content, arena_size=size)
    except (RuntimeError, ValueError) as error:
        room = "" if arena_bytes is None else f" with an arena of {arena_bytes} bytes"
        raise EngineError(f"tflite-micro refuses the model{room}: {' '.join(str(error).split())}") from error
