"""Third-party models on the same bench: any streaming ``.tflite`` or ``.onnx`` whose states are named.

A small TOML says what the file cannot: how long a hop is, and which input remembers which output.

    name = "GTCRN"
    source = "where it is from, and its licence"
    sample_rate_hz = 16000
    hop = 256                  # samples a step
    algorithmic_latency = 512  # samples

    [[stages]]                 # run one after the other, each once a hop
    file = "gtcrn_simple.onnx" # beside the TOML
    states = [["conv_cache", "conv_cache_out"]]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.engines.litert import open_interpreter
from edge_tse.engines.onnxrt import open_session
from edge_tse.errors import ArtifactError, EngineError
from edge_tse.table import load_table, read_table

__all__ = ["ForeignModel", "ForeignNetwork", "StageFile", "Steadiness", "load_foreign", "steadiness"]

Array = NDArray[Any]
Values = dict[str, Array]
Form = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and type of a tensor."""
_ONNX_FLOATS = {"float": "float32", "double": "float64"}


@dataclass(frozen=True, kw_only=True)
class StageFile:
    """One file of a model."""

    file: str
    """``.tflite`` or ``.onnx``, relative to the description."""
    states: tuple[tuple[str, str], ...] = ()
    """Pairs of input and output: the output's value after a step is the input of the next."""


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """Content of a description."""

    name: str
    source: str
    sample_rate_hz: int
    hop: int
    """Samples per step."""
    algorithmic_latency: int
    """Algorithmic latency in samples."""
    stages: tuple[StageFile, ...]
    folder: Path

    @property
    def period_s(self) -> float:
        """Seconds of sound in a step."""
        return self.hop / self.sample_rate_hz

    @property
    def file_bytes(self) -> int:
        """Size of all files."""
        return sum((self.folder / stage.file).stat().st_size for stage in self.stages)


def load_foreign(path: Path, folder: Path | None = None) -> ForeignModel:
    """Read a description; its files are looked for in ``folder`` (default: beside it). ``ArtifactError`` says what is wrong."""
    model = read_table(ForeignModel, load_table(path, ArtifactError), str(path), ArtifactError, folder=folder or path.parent)
    if not model.stages or min(model.hop, model.sample_rate_hz) < 1:
        raise ArtifactError(f"{path}: {len(model.stages)} stages, hop {model.hop}, {model.sample_rate_hz} Hz: each is at least 1")
    for stage in model.stages:
        if not _is_file(model.folder / stage.file):
            raise ArtifactError(f"{path}: {model.folder / stage.file} is not there: put the file beside its description")
        if not stage.file.endswith((".tflite", ".onnx")):
            raise ArtifactError(f"{path}: {stage.file} ends in neither .tflite nor .onnx")
    return model


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


class _Runtime(Protocol):
    """A loaded file: named tensors in, named tensors out."""

    @property
    def inputs(self) -> Mapping[str, Form]: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    def invoke(self, values: Values) -> Values: ...


class _LiteRT:
    def __init__(self, content: bytes, kernels: str) -> None:
        self._interpreter, _ = open_interpreter(content, kernels, 1)
        details = self._interpreter.get_input_details()
        self.inputs: dict[str, Form] = {d["name"]: (tuple(d["shape"].tolist()), np.dtype(d["dtype"])) for d in details}
        self._input_index = {d["name"]: d["index"] for d in details}
        self._output_index = {d["name"]: d["index"] for d in self._interpreter.get_output_details()}
        self.outputs = tuple(self._output_index)

    def invoke(self, values: Values) -> Values:
        for name, value in values.items():
            self._interpreter.set_tensor(self._input_index[name], value)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._output_index.items()}


class _Onnx:
    def __init__(self, content: bytes) -> None:
        self._session = open_session(content, 1)
        self.inputs: dict[str, Form] = {}
        for value in self._session.get_inputs():
            if not all(isinstance(size, int) for size in value.shape):
                raise EngineError(f"input {value.name} has shape {value.shape}: export it with every size fixed")
            kind = value.type.removeprefix("tensor(").removesuffix(")")
            self.inputs[value.name] = (tuple(value.shape), np.dtype(_ONNX_FLOATS.get(kind, kind)))
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def invoke(self, values: Values) -> Values:
        return dict(zip(self.outputs, self._session.run(None, values), strict=True))


class ForeignNetwork:
    """A foreign model that runs: states are carried, everything else is given and taken by name.

    ``kernels`` are LiteRT's, as for :class:`~edge_tse.engines.litert.LiteRTNetwork`. ``EngineError`` if a runtime is missing or
    refuses a file, ``ArtifactError`` if a state pair does not fit.
    """

    def __init__(self, model: ForeignModel, *, kernels: str = "xnnpack") -> None:
        self.model = model
        self._stages: list[tuple[_Runtime, tuple[tuple[str, str], ...]]] = []
        for stage in model.stages:
            content = (model.folder / stage.file).read_bytes()
            runtime: _Runtime = _LiteRT(content, kernels) if stage.file.endswith(".tflite") else _Onnx(content)
            for remembers, written in stage.states:
                if remembers not in runtime.inputs or written not in runtime.outputs:
                    raise ArtifactError(
                        f"{stage.file}: state [{remembers}, {written}] is not there: "
                        f"inputs {', '.join(runtime.inputs)}; outputs {', '.join(runtime.outputs)}"
                    )
            self._stages.append((runtime, stage.states))
        self.name = " + ".join(sorted({"onnx" if s.file.endswith(".onnx") else f"litert/{kernels}" for s in model.stages}))
        self.reset()

    @property
    def inputs(self) -> list[dict[str, Form]]:
        """Inputs to be given, per stage, with shape and type; states are not among them."""
        return [
            {name: form for name, form in runtime.inputs.items() if name not in {pair[0] for pair in states}}
            for runtime, states in self._stages
        ]

    @property
    def state_bytes(self) -> int:
        """Bytes remembered between two steps."""
        return sum(value.nbytes for held in self._held for value in held.values())

    def reset(self) -> None:
        """Forget the past: every state is zero, as these models are trained to start."""
        self._held: list[Values] = [
            {name: np.zeros(runtime.inputs[name][0], runtime.inputs[name][1]) for name, _ in states}
            for runtime, states in self._stages
        ]

    def run(self, given: list[Values]) -> list[Values]:
        """Run one step of every stage: inputs by name, to outputs by name. ``ArtifactError`` if a state changes its shape."""
        taken = []
        for i, ((runtime, states), values) in enumerate(zip(self._stages, given, strict=True)):
            outputs = runtime.invoke({**values, **self._held[i]})
            for remembers, written in states:
                if outputs[written].shape != self._held[i][remembers].shape:
                    raise ArtifactError(
                        f"{self.model.stages[i].file}: state {remembers} has shape {self._held[i][remembers].shape}, "
                        f"{written} has {outputs[written].shape}: another output belongs to it"
                    )
                self._held[i][remembers] = outputs[written]
            taken.append({name: value for name, value in outputs.items() if name not in {pair[1] for pair in states}})
        return taken

    def noise(self, rng: np.random.Generator) -> list[Values]:
        """Random inputs of one step at speech level; integers over their whole range."""

        def draw(shape: tuple[int, ...], kind: np.dtype[Any]) -> Array:
            if kind.kind in "iu":
                return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, kind, endpoint=True)
            value: Array = rng.normal(scale=0.1, size=shape).astype(kind)
            return value

        return [{name: draw(*form) for name, form in stage.items()} for stage in self.inputs]

    def run_timed(self, given: list[Values], clock: Callable[[], float]) -> float:
        """:meth:`run`, returning its seconds by ``clock``."""
        start = clock()
        self.run(given)
        return clock() - start


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    """Properties that can be verified of a model without golden frames."""

    frames: int
    repeats: bool
    """Whether the same inputs from reset give the same bits again."""
    remembers: bool
    """Whether its states matter: without them the outputs would differ."""
    kernel_difference: float | None
    """Largest difference to the runtime's reference kernels, relative to the largest output; None where there are none."""


def steadiness(model: ForeignModel, frames: int = 200, seed: int = 0) -> Steadiness:
    """Run noise through the model: twice from reset, once with its states forgotten every step, once on reference kernels."""
    rng = np.random.default_rng(seed)
    network = ForeignNetwork(model)
    given = [network.noise(rng) for _ in range(frames)]

    def outputs(running: ForeignNetwork, forgetful: bool = False) -> Array:
        running.reset()
        rows = []
        for values in given:
            if forgetful:
                running.reset()
            rows.append(np.concatenate([v.astype(np.float64).ravel() for stage in running.run(values) for v in stage.values()]))
        return np.array(rows)

    first = outputs(network)
    difference = None
    if any(stage.file.endswith(".tflite") for stage in model.stages):
        other = outputs(ForeignNetwork(model, kernels="builtin_ref"))
        difference = float(np.abs(other - first).max() / max(np.abs(first).max(), 1e-30))
    return Steadiness(
        frames=frames,
        repeats=bool(np.array_equal(first, outputs(network))),
        remembers=not np.array_equal(first, outputs(network, forgetful=True)),
        kernel_difference=difference,
    )
