"""Checkpoints: a float network with its encoder, as a file."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from edge_tse.errors import DataError
from edge_tse.nn.encoder import Encoder
from edge_tse.nn.growth import can_grow
from edge_tse.nn.losses import Teaching
from edge_tse.nn.mask2flow import Mask2FlowConfig
from edge_tse.nn.network import Network, NetworkConfig, network_of, voice_size
from edge_tse.nn.student import Student, StudentConfig
from edge_tse.table import quote, read_table
from quantization.arithmetic import Arithmetic
from quantization.recipes import Recipe, recipe
from quantization.stored import check_finite, load_state

__all__ = [
    "Checkpoint",
    "check_teacher",
    "encoder_of",
    "load_checkpoint",
    "may_go_on",
    "of_external_size",
    "student_of",
]

_PARTS: dict[str, Any] = {
    "recipe": str,
    "steps": int | None,
    "step": int,
    "figures": dict,
    "resume": list,
    "student": dict,
    "encoder": dict | None,
    "current": dict | None,
    "falls_from": int | None,
    "begun": bool,
    "heard": int,
    "teacher": str | None,
    "own_moments": int | None,
    "arithmetic": dict | None,
}
"""Types of the parts of a checkpoint."""
_UNSAID = {"begun": True, "heard": 0, "teacher": "", "own_moments": None, "arithmetic": None}
"""Parts that older checkpoints lack: their runs had no easy start, began with the first mixture and never kept moments; the
teacher and the arithmetic are not known."""
_COUNTS = ("heard", "own_moments")
_LARGEST_EMBEDDING = 2**16
_AGAIN = "train again, or use the version that wrote it"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained or half-trained network with its encoder."""

    recipe: Recipe
    student: Network
    encoder: Encoder | None
    """Encoder; None: the network listens to embeddings of another model."""
    step: int
    figures: dict[str, Any]
    resume: list[dict[str, Any]]
    """States of the optimizers; empty in a checkpoint that is only to start from."""
    current: dict[str, Tensor] | None = None
    """Weights as they are trained, where ``student`` holds their average."""
    falls_from: int | None = None
    """Step from which the rate of a cut falls."""
    begun: bool = False
    """Whether its run began with the weights of another run."""
    teacher: str | None = ""
    """Digest of the teacher that its run learns from, None without one; "": not known."""
    heard: int = 0
    """Steps of the runs with whose weights its own began: their mixtures are not heard again."""
    arithmetic: Arithmetic | None = None
    """Arithmetic that its run goes on in; None: not known."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights alone: states of optimizers may have been taken out of the file."""
        h = hashlib.sha256()
        for module in (self.student, self.encoder):
            for name, value in sorted(module.state_dict().items()) if module else ():
                h.update(f"{name} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        return h.hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read ``last.pt`` (or any checkpoint) of a run. ``DataError`` if it is not one."""
    path = Path(path)
    if path.is_dir():
        path = path / "last.pt"
    if not path.exists():
        raise DataError(f"{path}: no such checkpoint: train one with `edge-tse train RECIPE -o RUN --data DIR`")
    state = {**_UNSAID, **load_state(path, "checkpoint")}
    _check_parts(path, state)
    check_finite(path, state, ("student", "encoder", "current"))
    begun_in = state["arithmetic"]
    arithmetic = None if begun_in is None else read_table(Arithmetic, begun_in, f"{path}: arithmetic", DataError)
    try:
        made = _recipe_of(path, state)
        student = network_of(made.student)
        student.load_state_dict(state["student"])
        encoder = None if state["encoder"] is None else encoder_of(made, state["encoder"])
    # Names, shapes and kinds of weights that are another network's.
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise DataError(f"{path}: not a checkpoint of this version ({type(error).__name__}: {first}): {_AGAIN}") from error
    return Checkpoint(
        recipe=made,
        student=student.eval(),
        encoder=encoder,
        step=state["step"],
        figures=state["figures"],
        resume=state["resume"],
        current=state.get("current"),
        falls_from=state.get("falls_from"),
        begun=state["begun"],
        heard=state["heard"],
        teacher=state["teacher"],
        arithmetic=arithmetic,
    )


def _check_parts(path: Path, state: dict[str, Any]) -> None:
    for name, kind in _PARTS.items():
        found = state.get(name)
        if not isinstance(found, kind) or isinstance(found, bool) != (kind is bool) or (name in _COUNTS and (found or 0) < 0):
            raise DataError(f"{path}: not a checkpoint of this version: its {name} is {quote(found)}: {_AGAIN}")


def _recipe_of(path: Path, state: dict[str, Any]) -> Recipe:
    made = dataclasses.replace(recipe(state["recipe"]), steps=state["steps"])
    rate = state.get("rate", made.lr)  # older checkpoints do not say: theirs is the recipe's
    if not isinstance(rate, float) or not 0 < rate <= 1:
        raise DataError(f"{path}: not a checkpoint of this version: its rate is {quote(rate)}: {_AGAIN}")
    made = dataclasses.replace(made, lr=rate, own_moments=state["own_moments"])
    if state["begun"]:
        made = made.without_easy_start
    if "teaching" in state:
        made = dataclasses.replace(made, teaching=read_table(Teaching, state["teaching"], f"{path}: teaching", DataError))
    if state["encoder"] is not None:
        return made
    if type(size := state.get("embedding")) is not int or not 1 <= size <= _LARGEST_EMBEDDING:
        raise DataError(f"{path}: its embedding is {quote(size)}, 1 to {_LARGEST_EMBEDDING} values are possible: {_AGAIN}")
    return of_external_size(made, size)


def student_of(source: Checkpoint) -> Student:
    """The student of a checkpoint that is known not to hold the published system."""
    assert isinstance(source.student, Student), f"{source.recipe.name} is no student's recipe"
    return source.student


def may_go_on(begun: Checkpoint, config: NetworkConfig) -> bool:
    """Whether a network of ``config`` can begin with the weights of a checkpoint."""
    own = begun.recipe.student
    return own == config or (isinstance(own, StudentConfig) and isinstance(config, StudentConfig) and can_grow(own, config))


def check_teacher(path: Path, teaches: Checkpoint, student: NetworkConfig, whose: str) -> None:
    """Raise ``DataError`` unless a checkpoint can teach a student: the same frames, and voices that it finds in the student's."""
    own = teaches.recipe.student
    if own.frame != student.frame:
        raise DataError(f"{path}: its frames are not those of {whose}: choose a teacher of the same rate, hop and bands")
    needs, given = voice_size(own), voice_size(student)
    if needs > given or own.embedding != student.embedding:
        raise DataError(f"{path} listens to voices of {needs} values, {whose} to {given}: choose one of the same embeddings")


def encoder_of(made: Recipe, state: dict[str, Any]) -> Encoder:
    """The encoder of a stored state, of whatever size. ``KeyError`` or ``RuntimeError`` if it is none for the recipe's bands."""
    encoder = Encoder.of_state(state)
    if encoder.stem.in_features != made.student.frame.bands:
        raise RuntimeError(f"an encoder of {encoder.stem.in_features} bands, the recipe has {made.student.frame.bands}")
    return encoder.eval()


def of_external_size(made: Recipe, size: int) -> Recipe:
    """The recipe for embeddings of another model. ``DataError`` if it listens to more of its own encoder than that."""
    if not isinstance(made.student, Mask2FlowConfig) and made.student.local:
        raise DataError(f"{made.name!r} listens to the layers of its own encoder, embeddings have none: choose another recipe")
    return dataclasses.replace(made, encoder=None, student=dataclasses.replace(made.student, embedding=size))
