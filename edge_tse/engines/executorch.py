"""ExecuTorch: the graph as one call of XNNPACK, its states passed from step to step or kept inside the program.

The runtime copies what it is given and what it gives. States that are passed are the tensors it gave last: nothing is copied twice.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_tse.deployment.runtime import file_of
from edge_tse.engines.timing import time_step
from edge_tse.errors import EngineError
from edge_tse.golden import TimedStep
from edge_tse.graph import IntegerGraph
from edge_tse.install_line import install_line

__all__ = ["ExecuTorchNetwork", "OperatorTime", "profile"]

Int8 = NDArray[np.int8]


class ExecuTorchNetwork:
    """Runs a graph and keeps its state.

    ``content`` is the program if it has been emitted already, with or without its states inside. ``threads`` holds for every
    program of the process: the runtime has one pool. ``traced`` records every operator's time, see :func:`profile`. ``EngineError``
    if ExecuTorch is not installed, or refuses the program.
    """

    name = "executorch/xnnpack"

    def __init__(self, graph: IntegerGraph, content: bytes | None = None, *, threads: int = 1, traced: bool = False) -> None:
        if len(graph.inputs) != 1:
            raise EngineError(f"a step takes one input, this graph has {len(graph.inputs)}: {list(graph.inputs)}")
        if threads < 1:
            raise EngineError(f"{threads} threads: at least 1 is needed")
        self._program, self._torch = _load(file_of("executorch", graph) if content is None else content, threads, traced=traced)
        self._remembers = "reset" in self._program.method_names
        self._forward = self._program.load_method("forward")._method
        self._graph = graph
        self._check()
        tensor = graph.tensors[graph.inputs[0]]
        self._features = np.zeros((1, tensor.channels), np.int8)
        self._input = self._torch.from_numpy(self._features)
        self._outputs: tuple[Int8, ...] = ()
        self._voice = {name: np.zeros((1, len(value)), np.int8) for name, value in graph.voice.items()}
        self._given = [self._input, *(self._torch.from_numpy(value) for value in self._voice.values())]
        self.set_voice(graph.voice)
        self.reset()

    def reset(self) -> None:
        """Forget the past: every history becomes its zero point."""
        if self._remembers:
            self._program.load_method("reset").execute([])
        else:
            self._states = [self._resting(s.input) for s in self._graph.states]

    def set_voice(self, voice: Mapping[str, Int8]) -> None:
        """Compute with these voice inputs, ``[channels]`` each by name (:mod:`edge_tse.universal`), from the next step on."""
        for name, value in self._graph.check_voice(voice).items():
            self._voice[name][:] = value

    def run(self, features: Int8) -> tuple[Int8, ...]:
        """Run one step: int8 features ``[n]`` to the outputs, each ``[channels]``, in graph order and valid until the next step."""
        self._take(features)
        self._forward.execute()
        return self._give()

    def run_timed(self, features: Int8, clock: Callable[[], float]) -> TimedStep:
        """:meth:`run`, with the times by ``clock``."""
        return time_step(clock, lambda: self._take(features), self._forward.execute, self._give)

    def _take(self, features: Int8) -> None:
        self._features[:] = features
        self._forward.set_inputs(self._given if self._remembers else [*self._given, *self._states])

    def _give(self) -> tuple[Int8, ...]:
        given = self._forward.get_outputs(True)
        outputs = len(self._graph.outputs)
        self._states = given[outputs:]
        return tuple(value.numpy().reshape(-1) for value in given[:outputs])

    def _resting(self, name: str) -> Any:
        """Zero points as a program takes them: bytes in the order ``[frames, channels]``, seen as ``[1, channels, frames, 1]``,
        one frame flat.
        one frame flat."""
        t = self._graph.tensors[name]
        values = np.full((1, t.frames, 1, t.channels), t.zero_point, np.int8)
        return self._torch.from_numpy(values[:, 0, 0] if t.frames == 1 else values.transpose(0, 3, 1, 2))

    def _check(self) -> None:
        graph, meta = self._graph, self._forward.method_meta()
        for side, names, count, at in (
            (
                "inputs",
                (*graph.inputs, *graph.voice) if self._remembers else graph.given,
                meta.num_inputs(),
                meta.input_tensor_meta,
            ),
            ("outputs", graph.outputs if self._remembers else graph.made, meta.num_outputs(), meta.output_tensor_meta),
        ):
            found = [at(i).nbytes() for i in range(count)]
            wanted = [graph.tensors[name].frames * graph.tensors[name].channels for name in names]
            if found != wanted:
                raise EngineError(f"the program is of another graph: its {side} have {found} bytes, {wanted} are needed")


class OperatorTime(NamedTuple):
    """One operator of a program."""

    name: str
    """The backend's name for it."""
    time_us: float
    """Mean over the steps: the runtime's clock counts whole microseconds, and most operators take less than one."""


def profile(graph: IntegerGraph, features: Int8, content: bytes | None = None) -> list[OperatorTime]:
    """Run int8 features ``[steps, n]`` with the runtime's event tracer, and give what each operator took.

    The times are the runtime's own, from its ETDump; tracing slows the step itself. ``EngineError`` as for the network.
    """
    network = ExecuTorchNetwork(graph, content, traced=True)
    for row in features:
        network.run(row)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas and torch, about each other
        dump = Path(folder) / "etdump"
        network._program.write_etdump_result_to_file(str(dump), str(Path(folder) / "debug"))
        blocks = import_module("executorch.devtools").Inspector(etdump_path=str(dump)).event_blocks
    rows: dict[str, list[float]] = defaultdict(list)
    for block in blocks:
        for event in block.events:
            if event.perf_data is not None and event.is_delegated_op:
                rows[event.name] += [float(t) * 1000 for t in event.perf_data.raw]
    return [OperatorTime(name, float(np.mean(times))) for name, times in rows.items()]


def _load(content: bytes, threads: int, *, traced: bool) -> tuple[Any, Any]:
    """The loaded program, and torch."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runtime, torch = import_module("executorch.runtime"), import_module("torch")
            bindings = import_module("executorch.extension.pybindings._C")
    except ImportError as error:
        raise EngineError(f"engine executorch needs {error.name}: {install_line('executorch')}") from None
    bindings._unsafe_reset_threadpool(threads)
    try:
        return runtime.Runtime.get().load_program(content, enable_etdump=traced), torch
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"executorch refuses the program: {' '.join(str(error).split())}") from error
