"""Checks of a voice model's arrays: types, shapes, and values that a computation survives."""

from __future__ import annotations

import re

import numpy as np

from edge_tse.errors import ArtifactError
from edge_tse.voice import VoiceModel, matching_layers

__all__ = ["check_voice_model"]

_MOST_BLOCKS, _LARGEST_WEIGHT = 64, 1e6


def check_voice_model(model: VoiceModel) -> None:
    """``ArtifactError`` unless every array has the type and shape that enrolling and modulating need, and is finite."""
    arrays, due = dict(model.arrays), _due_shapes(model)
    for name, array in arrays.items():
        if not (np.abs(array.astype(np.float32)) < _LARGEST_WEIGHT).all():
            raise ArtifactError(
                f"the voice model's {name} has values that are not within {_LARGEST_WEIGHT:g}: make the artifact again"
            )
        if name.endswith(".scale"):
            shape = arrays.get(name.removesuffix(".scale"), np.zeros(0)).shape
            if array.dtype != np.float32 or array.shape != shape[:1] or len(shape) != 2:
                raise ArtifactError(
                    f"the voice model's {name} is {array.dtype} {array.shape} of a weight {shape}, one float32 a row of a matrix "
                    "is needed: make the artifact again"
                )
    for name, shape in due.items():
        if name not in arrays:
            raise ArtifactError(f"the voice model has no {name}: make the artifact again")
        if arrays[name].shape != shape:
            raise ArtifactError(f"the voice model's {name} is {arrays[name].shape}, {shape} is needed: make the artifact again")
    if "local.deviation" in arrays and not arrays["local.deviation"].all():
        raise ArtifactError("the voice model's local.deviation holds zeros, which would be divisors: make the artifact again")


def _due_shapes(model: VoiceModel) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays that a model has, by name; its own sizes are taken from the first array that shows them."""
    arrays, bands = model.arrays, model.frame.bands

    def matrix(name: str) -> tuple[int, int]:
        shape: tuple[int, ...] = arrays[name].shape if name in arrays else ()
        if len(shape) != 2 or not all(shape):
            raise ArtifactError(f"the voice model's {name} is {list(shape)}, a matrix is needed: make the artifact again")
        high, wide = shape
        return int(high), int(wide)

    def rows(name: str) -> int:
        return matrix(name)[0]

    if not 0 <= model.blocks <= _MOST_BLOCKS:
        raise ArtifactError(f"the voice model has {model.blocks} blocks, 0 to {_MOST_BLOCKS} are possible: make the artifact again")
    due: dict[str, tuple[int, ...]] = {}

    def layer(name: str, out: int, into: int) -> None:
        due[f"{name}.weight"], due[f"{name}.bias"] = (out, into), (out,)

    code, dimension = matrix("code.weight")
    layer("code", code, dimension)
    slots = [n[len("film.") : -len(".weight")] for n in arrays if n.startswith("film.") and n.endswith(".weight")]
    for slot in slots:
        halves = rows(f"film.{slot}.weight")
        layer(f"film.{slot}", halves + halves % 2, code)
    channels = 0
    if "encoder.out.weight" in arrays:
        channels = rows("encoder.stem.weight")
        layer("encoder.stem", channels, bands)
        for i in range(model.blocks):
            name = f"encoder.block.{i}"
            layer(f"{name}.depthwise", channels, 3)
            hidden = rows(f"{name}.expand.weight")
            layer(f"{name}.expand", hidden, channels)
            layer(f"{name}.project", channels, hidden)
        inner = rows("encoder.attend.weight")
        layer("encoder.attend", inner, channels)
        layer("encoder.score", channels, inner)
        layer("encoder.out", dimension, 2 * channels)
    if any(name.startswith("local.") for name in arrays):
        due["local.mean"] = due["local.deviation"] = (model.blocks * channels,)
        for i in range(model.blocks):
            layer(f"local.{i}", rows(f"local.{i}.weight"), channels)
        if any(not re.fullmatch(r".*\.(0|[1-9][0-9]*)", slot) for slot in slots):
            raise ArtifactError(f"modulations {', '.join(slots)} end in no number, which matches layers: make the artifact again")
        for slot, i in matching_layers(slots, model.blocks).items():
            due[f"local.film.{slot}.weight"] = (due[f"film.{slot}.bias"][0], rows(f"local.{i}.weight"))
    return due
