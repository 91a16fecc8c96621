"""Files of models of others, loaded: named tensors in, named tensors out, and one line for whatever a runtime refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_tse.engines.litert import open_interpreter
from edge_tse.engines.onnxrt import open_session, refusals
from edge_tse.errors import ArtifactError, EngineError

__all__ = ["Array", "ForeignFile", "Tensor", "Values", "external_files", "open_file"]

Array = NDArray[Any]
Values = dict[str, Array]

_ONNX_TYPES = {"float": "float32", "double": "float64"}
_EXTERNAL = 1  # onnx.TensorProto.EXTERNAL


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """Form of an input or an output."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]
    scale: float = 0.0
    """Value of an integer's step; 0 if it is no quantized number."""
    zero_point: int = 0
    """Integer that stands for zero."""

    def __str__(self) -> str:
        step = f", scale {self.scale:.6g}, zero point {self.zero_point}" if self.scale else ""
        return f"{self.kind}{list(self.shape)}{step}"


class ForeignFile(Protocol):
    """A loaded file."""

    @property
    def inputs(self) -> Mapping[str, Tensor]: ...

    @property
    def outputs(self) -> Mapping[str, Tensor]: ...

    def invoke(self, values: Values) -> Values:
        """Run one step. ``EngineError`` if the runtime refuses the values."""


def open_file(path: Path, kernels: str) -> ForeignFile:
    """Load ``.tflite`` or ``.onnx``.

    ``EngineError`` if a runtime is missing or refuses it, ``ArtifactError`` if it is incomplete.
    """
    if path.suffix == ".onnx":
        external_files(path)
        return _Onnx(path)
    return _LiteRT(path, kernels)


def external_files(path: Path) -> tuple[Path, ...]:
    """Files beside a model that hold its weights, as ONNX may have them. ``ArtifactError`` if one is not there, or lies elsewhere.

    Only the ``onnx`` package can tell; without it there are none.
    """
    if path.suffix != ".onnx":
        return ()
    try:
        onnx = import_module("onnx")
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception:  # what is wrong with the file is said by the runtime that opens it
        return ()
    names = {
        entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == _EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for name in sorted(names):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise ArtifactError(f"{path} keeps weights in {name}, outside of its folder: put them beside it, and export it again")
        if not (path.parent / place).is_file():
            raise ArtifactError(f"{path} keeps weights in {name}, and {path.parent / place} is not there: put it beside the model")
    return tuple(path.parent / name for name in sorted(names))


class _LiteRT:
    def __init__(self, path: Path, kernels: str) -> None:
        self._name = path.name
        with _refused(path.name, "load"):
            self._interpreter, _ = open_interpreter(path.read_bytes(), kernels, 1)
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        _check_names(path.name, [d["name"] for d in inputs], "inputs")
        _check_names(path.name, [d["name"] for d in outputs], "outputs")
        self.inputs, self.outputs = ({d["name"]: _litert_tensor(d) for d in details} for details in (inputs, outputs))
        self._input_index, self._output_index = ({d["name"]: d["index"] for d in details} for details in (inputs, outputs))

    def invoke(self, values: Values) -> Values:
        with _refused(self._name, "compute"):
            for name, value in values.items():
                self._interpreter.set_tensor(self._input_index[name], value)
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._output_index.items()}


def _litert_tensor(details: Mapping[str, Any]) -> Tensor:
    scale, zero_point = details["quantization"]
    return Tensor(
        shape=tuple(details["shape"].tolist()), kind=np.dtype(details["dtype"]), scale=float(scale), zero_point=int(zero_point)
    )


class _Onnx:
    def __init__(self, path: Path) -> None:
        self._name = path.name
        # By its path: from its bytes, the runtime would look for external weights in the current folder, and take what is there.
        self._session = open_session(str(path), 1)
        found = self._session.get_inputs(), self._session.get_outputs()
        for values, what in zip(found, ("inputs", "outputs"), strict=True):
            _check_names(path.name, [value.name for value in values], what)
        for value in found[0]:
            if not all(isinstance(size, int) for size in value.shape):
                raise EngineError(f"input {value.name} has shape {value.shape}: export it with every size fixed")
        self.inputs, self.outputs = ({value.name: _onnx_tensor(path.name, value) for value in values} for values in found)

    def invoke(self, values: Values) -> Values:
        with _refused(self._name, "compute"):
            return dict(zip(self.outputs, self._session.run(None, values), strict=True))


def _onnx_tensor(name: str, value: Any) -> Tensor:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    try:
        found = np.dtype(_ONNX_TYPES.get(kind, kind))
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "fiub":
        raise EngineError(f"{name}: {value.name} is {kind}, numbers that NumPy has are needed: export it with float32")
    return Tensor(shape=tuple(size if isinstance(size, int) else -1 for size in value.shape), kind=found)


def _check_names(file: str, names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ArtifactError(f"{file}: two of its {what} are named {name}, a description tells them by name: export it again")
        seen.add(name)


@contextmanager
def _refused(name: str, what: str) -> Iterator[None]:
    """``EngineError`` in one line for what a runtime raises."""
    kinds: tuple[type[Exception], ...] = (*refusals(), TypeError, KeyError, IndexError)
    try:
        yield
    except kinds as failure:
        reason = " ".join(str(failure).split())
        remedy = ": noise may be no input for it, state what its inputs hold" if what == "compute" else ""
        raise EngineError(f"the runtime does not {what} {name} ({reason[:300]}){remedy}") from failure
