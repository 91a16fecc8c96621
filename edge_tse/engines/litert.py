"""LiteRT: the graph as a TFLite flatbuffer under ai-edge-litert, or under tflite-runtime where only that exists.

``set_tensor`` and ``get_tensor`` cost more than the network. The tensors of a TFLite arena do not move after allocation, so their
addresses are taken once and a step copies bytes: features in, states from output to input. Both facts (that they do not move, that
they do not overlap) are checked when the network is opened.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.deployment.runtime import file_of
from edge_tse.engines.timing import time_step
from edge_tse.errors import EngineError
from edge_tse.golden import TimedStep
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line
from edge_tse.quiet import quietly

__all__ = ["KERNELS", "LiteRTNetwork", "open_interpreter"]

Int8 = NDArray[np.int8]

KERNELS = {"xnnpack": "AUTO", "builtin_ref": "BUILTIN_REF"}
"""Kernel sets by our name, with the runtime's name of the resolver that selects them."""


class LiteRTNetwork:
    """Runs a graph and keeps its state. ``name`` is ``runtime/kernels``, with the kernels that really run.

    ``content`` is the flatbuffer if it has been emitted already. ``EngineError`` if no runtime is installed, or it refuses the
    graph.
    """

    def __init__(self, graph: IntegerGraph, content: bytes | None = None, *, kernels: str = "xnnpack", threads: int = 1) -> None:
        if len(graph.inputs) != 1:
            raise EngineError(f"a step takes one input, this graph has {len(graph.inputs)}: {list(graph.inputs)}")
        if kernels not in KERNELS:
            raise EngineError(f"there are no kernels {kernels}: choose one of {', '.join(KERNELS)}")
        if threads < 1:
            raise EngineError(f"{threads} threads: at least 1 is needed")
        self._interpreter, runtime = open_interpreter(_flatbuffer(graph) if content is None else content, kernels, threads)
        # The wheels of tflite-runtime come without XNNPACK and say nothing: ask what was delegated. No public call tells.
        delegated = any(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())
        self.name = f"{runtime}/{kernels if kernels != 'xnnpack' or delegated else 'builtin'}"
        self._index = {
            d["name"]: d["index"] for d in [*self._interpreter.get_input_details(), *self._interpreter.get_output_details()]
        }
        wanted = {*graph.given, *graph.made}
        if wanted != set(self._index):
            raise EngineError(f"the flatbuffer is of another graph: it differs in {sorted(wanted ^ set(self._index))}")
        addresses = self._addresses()
        memory = {name: _view(self._interpreter, *place) for name, place in addresses.items()}
        self._graph = graph
        self._features = memory[graph.inputs[0]]
        # Set once: the runtime's planner keeps every input of a model until the step ends.
        self._voice = {name: memory[name] for name in graph.voice}
        self._outputs = tuple(memory[name] for name in graph.outputs)
        # memoryview assignment is the cheapest copy in Python: 0.2 us a state, a third of np.copyto
        self._states = [(memory[s.input].data, memory[s.output].data) for s in graph.states]
        self._zero_points = [(memory[s.input], graph.tensors[s.input].zero_point) for s in graph.states]
        self.set_voice(graph.voice)
        self.reset()
        self._invoke()
        kept = all(np.array_equal(self._voice[name], value) for name, value in graph.voice.items())
        if self._addresses() != addresses or not kept:
            raise EngineError(f"{self.name} moves its tensors between steps: it cannot be used, install another version")
        self.reset()

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        for history, zero_point in self._zero_points:
            history.fill(zero_point)

    def set_voice(self, voice: Mapping[str, Int8]) -> None:
        """Compute with these voice inputs, ``[channels]`` each by name (:mod:`edge_tse.universal`), from the next step on."""
        for name, value in self._graph.check_voice(voice).items():
            self._voice[name][:] = value

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """Run one step: int8 features ``[n]`` to the outputs, each ``[channels]``, in graph order and valid until the next step."""
        self._features[:] = features
        self._invoke()
        return self._give()

    def run_timed(self, features: Int8, clock: Callable[[], float]) -> TimedStep:
        """:meth:`run`, with the times by ``clock``."""
        return time_step(clock, lambda: np.copyto(self._features, features), self._invoke, self._give)

    def _give(self) -> tuple[Int8, ...]:
        for history, remembered in self._states:
            history[:] = remembered
        return self._outputs

    def _invoke(self) -> None:
        self._interpreter.invoke()

    def _addresses(self) -> dict[str, tuple[int, int]]:
        """Address and size of each input and output; ``EngineError`` if two share memory."""
        places = {}
        for name, index in self._index.items():
            # Not array.ctypes.data: no object that refers to the runtime's memory may outlive this loop.
            value = self._interpreter.tensor(index)()
            places[name] = value.__array_interface__["data"][0], value.nbytes
            del value
        if any(start + size > following for (start, size), (following, _) in pairwise(sorted(places.values()))):
            raise EngineError(f"{self.name} places tensors over each other: it cannot be used, install another version")
        return places


def _view(owner: object, address: int, size: int) -> Int8:
    """An int8 view ``[size]`` over foreign memory, whose owner it keeps alive."""
    memory = (ctypes.c_int8 * size).from_address(address)
    memory.owner = owner  # type: ignore[attr-defined]
    return np.ctypeslib.as_array(memory)


def _runtime() -> tuple[ModuleType, str]:
    try:
        return import_module("ai_edge_litert.interpreter"), "litert"
    except ImportError:
        pass
    try:
        module = import_module("tflite_runtime.interpreter")
    except ImportError:
        raise EngineError(f"engine litert needs ai-edge-litert: {install_line('litert')}") from None
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        raise EngineError(
            f"tflite-runtime needs numpy 1, this is {np.__version__}: {install_line('litert')}, "
            "or the extra device-legacy in an environment of its own"
        )
    return module, "tflite-runtime"


def _flatbuffer(graph: IntegerGraph) -> bytes:
    try:
        return file_of("litert", graph)
    except ImportError as error:
        raise EngineError(f"engine litert needs {error.name} to write its model: {install_line('litert')}") from error


def open_interpreter(content: bytes, kernels: str, threads: int) -> tuple[Any, str]:
    """Load a flatbuffer; also the runtime's name. ``EngineError`` if none is installed, or it refuses the model."""
    module, runtime = _runtime()
    resolver = getattr(module.OpResolverType, KERNELS[kernels])
    try:
        with quietly():
            interpreter = module.Interpreter(model_content=content, num_threads=threads, experimental_op_resolver_type=resolver)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{module.__name__} refuses the model: {' '.join(str(error).split())}") from error
    return interpreter, runtime
