"""Third-party models on the same bench: any streaming ``.tflite`` or ``.onnx`` whose states are named.

A small TOML says what the file cannot: how long a hop is, and which input remembers which output.

    name = "GTCRN"
    source = "where it is from, and its licence"
    sample_rate_hz = 16000
    hop = 256                  # samples a step
    algorithmic_latency = 512  # samples
    window = "sqrt-hann"       # of its spectra, for who puts its front end around it; a rectangle if it is not named

    [[stages]]                 # run one after the other, each once a hop
    file = "gtcrn_simple.onnx" # beside the TOML
    states = [["conv_cache", "conv_cache_out"]]
    inputs = { rate = 16000 }  # what an input holds: a value, [least, largest], or "magnitude"; noise if it is not named
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from edge_tse.engines.foreign_files import Array, ForeignFile, Tensor, Values, external_files, open_file
from edge_tse.errors import ArtifactError
from edge_tse.table import load_table, quote, read_table

__all__ = [
    "ForeignModel",
    "ForeignNetwork",
    "StageFile",
    "Steadiness",
    "first_description",
    "likely_states",
    "load_foreign",
    "steadiness",
]

WINDOWS = ("", "hann", "sqrt-hann")
"""Windows of analysis and synthesis; empty: a rectangle."""
MAGNITUDE = "magnitude"
"""What an input holds that takes no negative numbers: the magnitude of a spectrum of noise."""
_LEAST_MAGNITUDE = 1e-4
_ALIKE = 0.6
"""Least likeness of the names of a state's input and output."""


@dataclass(frozen=True, kw_only=True)
class StageFile:
    """One file of a model."""

    file: str
    """``.tflite`` or ``.onnx``, relative to the description."""
    states: tuple[tuple[str, str], ...] = ()
    """Pairs of input and output: the output's value after a step is the input of the next."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What inputs hold in a measurement: a value, the least and the largest one, or ``"magnitude"``; noise if it is not stated."""


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
    window: str = ""
    """Window of its front end, one of :data:`WINDOWS`. No front end is run here."""

    @property
    def period_s(self) -> float:
        """Seconds of sound in a step."""
        return self.hop / self.sample_rate_hz

    @property
    def file_bytes(self) -> int:
        """Size of all files, with those that hold the weights of another."""
        files = [self.folder / stage.file for stage in self.stages]
        return sum(part.stat().st_size for file in files for part in (file, *external_files(file)))


def load_foreign(path: Path, folder: Path | None = None) -> ForeignModel:
    """Read a description; its files are looked for in ``folder`` (default: beside it). ``ArtifactError`` says what is wrong."""
    model = read_table(ForeignModel, load_table(path, ArtifactError), str(path), ArtifactError, folder=folder or path.parent)
    if not model.stages or min(model.hop, model.sample_rate_hz) < 1:
        raise ArtifactError(f"{path}: {len(model.stages)} stages, hop {model.hop}, {model.sample_rate_hz} Hz: each is at least 1")
    if model.window not in WINDOWS:
        raise ArtifactError(f"{path}: there is no window {quote(model.window)}: choose one of {', '.join(map(quote, WINDOWS))}")
    for stage in model.stages:
        if not _is_file(model.folder / stage.file):
            raise ArtifactError(f"{path}: {model.folder / stage.file} is not there: put the file beside its description")
        if not stage.file.endswith((".tflite", ".onnx")):
            raise ArtifactError(f"{path}: {stage.file} ends in neither .tflite nor .onnx")
        for name, holds in stage.inputs.items():
            _check_holds(holds, f"{path}: {stage.file}: input {name}")
    return model


def _check_holds(holds: object, where: str) -> None:
    """Check what a description says that an input holds."""
    numbers = holds if isinstance(holds, list) else [holds]
    if holds == MAGNITUDE:
        return
    if not all(isinstance(number, int | float) for number in numbers) or (
        isinstance(holds, list) and not (len(holds) == 2 and holds[0] <= holds[1])
    ):
        raise ArtifactError(f"{where} holds {quote(holds)}: give a number, [least, largest], or {MAGNITUDE!r}")


def _check_range(form: Tensor, holds: Any, where: str) -> None:
    """Check that integers can be what a description says that they hold."""
    if form.kind.kind not in "iu" or holds == MAGNITUDE:
        return
    limits = np.iinfo(form.kind)
    for number in holds if isinstance(holds, list) else [holds]:
        if not limits.min <= number <= limits.max:
            raise ArtifactError(
                f"{where} holds {quote(number)}, {form.kind} goes from {limits.min} to {limits.max}: give one of them"
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False


class ForeignNetwork:
    """A foreign model that runs: states are carried, everything else is given and taken by name.

    ``kernels`` are LiteRT's, as for :class:`~edge_tse.engines.litert.LiteRTNetwork`. ``EngineError`` if a runtime is missing or
    refuses a file, ``ArtifactError`` if a state pair does not fit.
    """

    def __init__(self, model: ForeignModel, *, kernels: str = "xnnpack") -> None:
        self.model = model
        self._stages: list[tuple[ForeignFile, StageFile]] = []
        for stage in model.stages:
            loaded = open_file(model.folder / stage.file, kernels)
            names = [remembers for remembers, _ in stage.states]
            for remembers, written in stage.states:
                _check_state(loaded, stage.file, remembers, written)
                if names.count(remembers) > 1:
                    raise ArtifactError(f"{stage.file}: {remembers} is named by {names.count(remembers)} states: it can be one")
            for name, holds in stage.inputs.items():
                if name not in loaded.inputs or name in names:
                    there = ", ".join(other for other in loaded.inputs if other not in names) or "none"
                    raise ArtifactError(f"{stage.file}: {name} is no input that is given, those are {there}: name one of them")
                _check_range(loaded.inputs[name], holds, f"{stage.file}: input {name}")
            self._stages.append((loaded, stage))
        self.name = " + ".join(sorted({"onnx" if s.file.endswith(".onnx") else f"litert/{kernels}" for s in model.stages}))
        self.reset()

    @property
    def inputs(self) -> list[dict[str, Tensor]]:
        """Inputs to be given, per stage; states are not among them."""
        return [
            {name: form for name, form in loaded.inputs.items() if name not in {pair[0] for pair in stage.states}}
            for loaded, stage in self._stages
        ]

    @property
    def given_back(self) -> tuple[str, ...]:
        """Outputs that are no states."""
        return tuple(
            name for loaded, stage in self._stages for name in loaded.outputs if name not in {pair[1] for pair in stage.states}
        )

    @property
    def state_bytes(self) -> int:
        """Bytes remembered between two steps."""
        return sum(value.nbytes for held in self._held for value in held.values())

    def reset(self) -> None:
        """Forget the past: every state is zero, as these models are trained to start."""
        self._held: list[Values] = []
        for loaded, stage in self._stages:
            forms = {remembers: loaded.inputs[remembers] for remembers, _ in stage.states}
            self._held.append({name: np.full(form.shape, form.zero_point, form.kind) for name, form in forms.items()})

    def run(self, given: list[Values]) -> list[Values]:
        """Run one step of every stage: inputs by name, to outputs by name. ``ArtifactError`` if a state changes its shape."""
        return [self.run_stage(number, values) for number, values in zip(range(len(self._stages)), given, strict=True)]

    def run_stage(self, number: int, given: Values) -> Values:
        """:meth:`run` of one stage alone, for models whose next stage hears what became of this one's outputs."""
        (loaded, stage), held = self._stages[number], self._held[number]
        outputs = loaded.invoke({**given, **held})
        for remembers, written in stage.states:
            if outputs[written].shape != held[remembers].shape:
                raise ArtifactError(
                    f"{stage.file}: state {remembers} has shape {held[remembers].shape}, "
                    f"{written} has {outputs[written].shape}: another output belongs to it"
                )
            held[remembers] = _requantized(outputs[written], loaded.outputs[written], loaded.inputs[remembers])
        return {name: value for name, value in outputs.items() if name not in {pair[1] for pair in stage.states}}

    def check_finite(self, outputs: list[Values], frame: int) -> None:
        """``ArtifactError`` if an output or a state of the step of a ``frame`` is not a number."""
        for (_, stage), taken, held in zip(self._stages, outputs, self._held, strict=True):
            for name, value in {**taken, **held}.items():
                if value.dtype.kind == "f" and not np.isfinite(value).all():
                    found = "NaN" if np.isnan(value).any() else "infinite"
                    raise ArtifactError(
                        f"{stage.file}: {name} is {found} from frame {frame}: noise is no input for this model, state what its "
                        f'inputs hold, for instance inputs = {{ {next(iter(self.inputs[0]), "x")} = "{MAGNITUDE}" }}'
                    )

    def noise(self, rng: np.random.Generator) -> list[Values]:
        """Inputs of one step: what the description says that they hold, otherwise noise at speech level; integers over their whole
        range.
        """
        return [
            {name: _draw(form, stage.inputs.get(name), rng) for name, form in forms.items()}
            for forms, (_, stage) in zip(self.inputs, self._stages, strict=True)
        ]

    def run_timed(self, given: list[Values], clock: Callable[[], float]) -> float:
        """:meth:`run`, returning its seconds by ``clock``."""
        start = clock()
        self.run(given)
        return clock() - start


def likely_states(path: Path) -> list[tuple[str, str]]:
    """Pairs of input and output of one form whose names are alike, the likeliest first: states, most probably."""
    loaded = open_file(path, "xnnpack")
    alike = [
        (SequenceMatcher(None, into, out).ratio(), into, out)
        for into, form in loaded.inputs.items()
        for out, written in loaded.outputs.items()
        if (form.shape, form.kind) == (written.shape, written.kind)
    ]
    pairs: dict[str, str] = {}
    for ratio, into, out in sorted(alike, reverse=True):
        if ratio >= _ALIKE and into not in pairs and out not in pairs.values():
            pairs[into] = out
    return list(pairs.items())


def first_description(path: Path, states: Sequence[tuple[str, str]]) -> str:
    """TOML that describes a model, to be corrected by whoever knows it: what its file does not say is a guess."""
    pairs = "".join(f"    [{json.dumps(into)}, {json.dumps(out)}],\n" for into, out in states)
    return (
        f"name = {json.dumps(path.stem)}\n"
        'source = ""                # where it is from, and its licence\n'
        "sample_rate_hz = 16000     # guessed\n"
        "hop = 256                  # guessed: samples a step\n"
        "algorithmic_latency = 512  # guessed: samples\n\n"
        f"[[stages]]\nfile = {json.dumps(path.name)}\n"
        f"states = [  # by their names: input, and the output that it is in the next step\n{pairs}]\n"
    )


def _check_state(loaded: ForeignFile, file: str, remembers: str, written: str) -> None:
    """``ArtifactError`` unless the value of an output can be carried to an input."""
    if remembers not in loaded.inputs or written not in loaded.outputs:
        raise ArtifactError(
            f"{file}: state [{remembers}, {written}] is not there: inputs {', '.join(loaded.inputs)}; "
            f"outputs {', '.join(loaded.outputs)}"
        )
    into, out = loaded.inputs[remembers], loaded.outputs[written]
    if into.kind != out.kind or bool(into.scale) != bool(out.scale):
        raise ArtifactError(f"{file}: state {remembers} is {into}, {written} is {out}: export it with both of one type")


def _requantized(value: Array, out: Tensor, into: Tensor) -> Array:
    """Integers of an output as those of an input that stand for the same numbers."""
    if (out.scale, out.zero_point) == (into.scale, into.zero_point):
        return value
    limits = np.iinfo(into.kind)
    steps = np.rint((value.astype(np.float64) - out.zero_point) * (out.scale / into.scale)) + into.zero_point
    moved: Array = np.clip(steps, limits.min, limits.max).astype(into.kind)
    return moved


def _draw(form: Tensor, holds: Any, rng: np.random.Generator) -> Array:
    """What an input holds, by its description: a value, the least and the largest one, a magnitude, or noise (None)."""
    if isinstance(holds, list):
        if form.kind.kind == "f":
            return np.asarray(rng.uniform(holds[0], holds[1], form.shape)).astype(form.kind)
        return np.asarray(rng.integers(int(holds[0]), int(holds[1]), form.shape, endpoint=True)).astype(form.kind)
    if holds == MAGNITUDE:
        return np.asarray(np.maximum(np.abs(rng.normal(scale=0.1, size=form.shape)), _LEAST_MAGNITUDE)).astype(form.kind)
    if holds is not None:
        return np.full(form.shape, holds, form.kind)
    if form.kind.kind == "b":
        return np.asarray(rng.integers(0, 1, form.shape, endpoint=True)).astype(bool)
    if form.kind.kind in "iu":
        return np.asarray(rng.integers(np.iinfo(form.kind).min, np.iinfo(form.kind).max, form.shape, form.kind, endpoint=True))
    return np.asarray(rng.normal(scale=0.1, size=form.shape)).astype(form.kind)


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
    if not network.given_back:
        raise ArtifactError(f"{model.name}: all of its outputs are states: nothing comes out, name fewer states")
    given = [network.noise(rng) for _ in range(frames)]

    def outputs(running: ForeignNetwork, forgetful: bool = False) -> Array:
        running.reset()
        rows = []
        for frame, values in enumerate(given):
            if forgetful:
                running.reset()
            taken = running.run(values)
            running.check_finite(taken, frame)
            rows.append(np.concatenate([v.astype(np.float64).ravel() for stage in taken for v in stage.values()]))
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
