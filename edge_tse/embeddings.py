"""Talker embeddings that another model made, read from NumPy's files.

The header of such a file is Python that its reader evaluates, and states sizes that its reader allocates. Here it is three values
of known form, and nothing is read that is not there.
"""

from __future__ import annotations

import ast
import io
import math
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import AudioError, EdgeTseError
from edge_tse.files import read_bytes
from edge_tse.table import quote

__all__ = ["read_embeddings"]

Float = NDArray[np.float32]

_MOST_BYTES = 256 * 2**20
_MAGIC, _ZIP = b"\x93NUMPY", b"PK"
_LONGEST_HEADER = 1000
_TYPE = re.compile(r"[<>|=]?[fiu][1248]")


def read_embeddings(path: Path, error: type[EdgeTseError] = AudioError) -> Float:
    """Embeddings that another model made, as unit vectors ``[crops, size]``.

    The file is an ``.npy`` of ``[size]`` or ``[crops, size]``, or an ``.npz`` of such arrays; ``error`` if it is anything else.
    """
    content = read_bytes(path, _MOST_BYTES, error, "embeddings")
    try:
        arrays = [np.atleast_2d(_array(part)) for part in _parts(content)]
    except ValueError as failure:
        raise error(f"{path}: no embeddings ({failure}): give an .npy or .npz of a vector, or of a row for each crop") from failure
    shapes = {x.shape[1:] for x in arrays}
    if len(shapes) != 1:
        raise error(f"{path}: {len(arrays)} arrays of {len(shapes)} sizes: give one or more of one size")
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found below
        vectors = np.concatenate([x.astype(np.float32) for x in arrays])
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all() or not np.isfinite(length).all() or not length.all():
        raise error(f"{path}: {vectors.shape} values that are no embeddings: give finite vectors of one size, none of them zero")
    unit: Float = vectors / length
    return unit


def _parts(content: bytes) -> list[bytes]:
    """The ``.npy`` files in an archive. ``ValueError`` if it is another file, or announces more than it may."""
    if not content.startswith(_ZIP):
        return [content]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            announced = sum(entry.file_size for entry in archive.infolist())
            if announced > _MOST_BYTES:
                raise ValueError(f"it announces {announced:,} bytes, at most {_MOST_BYTES:,} are read")
            return [archive.read(entry) for entry in archive.infolist()]
    # zipfile and its decompressors raise these for damage, a method that they do not know, a password, an end too early.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, UnicodeDecodeError) as failure:
        raise ValueError(f"the archive is damaged: {failure}") from failure


def _array(content: bytes) -> NDArray[np.generic]:
    """The array of an ``.npy`` file. ``ValueError`` if it is none, holds anything but numbers, or less than it announces."""
    if not content.startswith(_MAGIC):
        raise ValueError(f"it starts with {content[:6]!r}, not {_MAGIC!r}")
    wide = content[6:7] > b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(content[8:start], "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, at most {_LONGEST_HEADER} are read")
    try:
        header = ast.literal_eval(content[start : start + length].decode("latin-1").strip())
        kind, by_columns, shape = (header[name] for name in ("descr", "fortran_order", "shape"))
    # MemoryError is the parser's for too many brackets.
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, RecursionError) as failure:
        raise ValueError("its header does not state descr, fortran_order and shape") from failure
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind) or kind[-2:] == "f1":
        raise ValueError(f"it holds {quote(kind)}, not numbers")
    if not isinstance(shape, tuple) or not 1 <= len(shape) <= 2 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"its shape is {quote(shape)}, not a vector or rows of them")
    dtype, there = np.dtype(kind), len(content) - start - length
    if math.prod(shape) * dtype.itemsize != there:
        raise ValueError(f"it announces {quote(math.prod(shape) * dtype.itemsize)} bytes of values, and {there} are there")
    flat = np.frombuffer(content, dtype, offset=start + length) if there else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if by_columns else "C")
