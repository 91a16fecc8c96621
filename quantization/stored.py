"""Files of tensors that training writes and reads again: written whole or not at all, named by a digest, finite."""

from __future__ import annotations

import hashlib
import pickle
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_tse.errors import DataError
from edge_tse.files import replacing
from edge_tse.table import quote

__all__ = ["check_finite", "load_state", "save_state"]

_DIGEST = "digest"
_MOST_BYTES = 16 * 2**30
_AGAIN = "take another copy, or make it again"


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a dictionary of tensors whole or not at all, with a digest over them. ``DataError`` if it cannot be written."""
    # As an open file: by its path the archive would be named after a temporary one.
    with replacing(path, DataError) as temporary, temporary.open("wb") as file:
        torch.save({**state, _DIGEST: _digest(state)}, file)


def load_state(path: Path, what: str) -> dict[str, Any]:
    """Inverse of :func:`save_state`; an older file, which has no digest, is read as it is.

    ``DataError`` if it cannot be read, is no such file, or its tensors are not those that were written.
    """
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError as failure:
        raise DataError(f"cannot read {what} {path}: {failure.strerror or failure}") from failure
    if size is None or size > _MOST_BYTES:
        raise DataError(f"{path} is no {what}: one is a file of at most {_MOST_BYTES:,} bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how others pickle; what comes of it is checked
            state = torch.load(path, map_location="cpu", weights_only=True)
    # Torch's reader of archives and its unpickler raise these for files that are not theirs, or damaged.
    except (
        pickle.UnpicklingError,
        struct.error,
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as failure:
        raise DataError(
            f"{path} is not a {what} of this version, or damaged ({type(failure).__name__}: {_first_line(failure)}): {_AGAIN}"
        ) from failure
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise DataError(f"{path} is not a {what} of this version: it holds {quote(type(state).__name__)}: {_AGAIN}")
    stated = state.pop(_DIGEST, None)
    if stated is not None and stated != (found := _digest(state)):
        raise DataError(f"{path} is damaged: its weights have digest {found[:12]}, it states {quote(stated)[1:13]}: {_AGAIN}")
    return state


def check_finite(path: Path, state: dict[str, Any], parts: tuple[str, ...]) -> None:
    """``DataError`` names file and weight if one is not finite."""
    for part in parts:
        for name, value in _tensors(state.get(part), part):
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).sum())
                raise DataError(f"{path}: {bad} of {value.numel()} values of {name} are not finite: take an earlier checkpoint")


def _first_line(failure: Exception) -> str:
    return next(iter(str(failure).splitlines()), "")[:200]


def _digest(state: dict[str, Any]) -> str:
    """SHA-256 of every tensor with its name, type and shape."""
    h = hashlib.sha256()
    for name, value in _tensors(state, ""):
        h.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        # Digest bytes, whatever the type: NumPy knows no bfloat16.
        h.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return h.hexdigest()


def _tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor within nested dictionaries and lists, by its path."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(item, f"{name}.{key}" if name else str(key))
