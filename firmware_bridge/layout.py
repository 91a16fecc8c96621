"""Binary records: a dataclass whose annotations say how each field lies in memory, for Python and for C alike.

Little-endian, no padding. One definition gives ``pack``, ``unpack`` and the C constants, so the two sides cannot disagree.
"""

from __future__ import annotations

import re
import struct
from dataclasses import fields
from typing import Annotated, Any, TypeVar, get_type_hints

__all__ = [
    "U8",
    "U16",
    "U32",
    "U64",
    "Bytes16",
    "Bytes32",
    "Bytes64",
    "Bytes128",
    "Rest",
    "RestText",
    "Text16",
    "Text32",
    "c_constants",
    "c_name",
    "pack",
    "size_bytes",
    "unpack",
]

U8 = Annotated[int, "B"]
U16 = Annotated[int, "H"]
U32 = Annotated[int, "I"]
U64 = Annotated[int, "Q"]
Bytes16 = Annotated[bytes, "16s"]
Bytes32 = Annotated[bytes, "32s"]
Bytes64 = Annotated[bytes, "64s"]
Bytes128 = Annotated[bytes, "128s"]
Text16 = Annotated[str, "16s"]
Text32 = Annotated[str, "32s"]
"""UTF-8, filled with zeros."""
Rest = Annotated[bytes, ""]
"""Bytes that follow, in a last field only."""
RestText = Annotated[str, ""]

T = TypeVar("T")


def size_bytes(kind: type[object]) -> int:
    """Size of a record; the smallest one if its last field takes the rest."""
    return sum(struct.calcsize(f"<{code}") for _, _, code in _fields(kind))


def pack(record: object) -> bytes:
    """The record as bytes. ``ValueError`` if a value does not fit its field."""
    parts = []
    for name, kind, code in _fields(type(record)):
        value: Any = getattr(record, name)
        if kind is str:
            value = value.encode()
        room = struct.calcsize(f"<{code}")
        if kind is not int and code and len(value) > room:
            raise ValueError(f"{type(record).__name__}.{name} has {len(value)} bytes, there is room for {room}")
        try:
            parts.append(struct.pack(f"<{code}", value) if code else value)
        except struct.error as failure:
            raise ValueError(f"{type(record).__name__}.{name} cannot be {value}: {failure}") from failure
    return b"".join(parts)


def unpack(kind: type[T], content: bytes) -> T:
    """Inverse of :func:`pack`. ``ValueError`` if there are too few bytes, or too many."""
    values: dict[str, Any] = {}
    at = 0
    needed = size_bytes(kind)
    listed = _fields(kind)
    open_ended = bool(listed) and not listed[-1][2]
    if len(content) < needed or (len(content) > needed and not open_ended):
        raise ValueError(f"{kind.__name__} has {needed} bytes{' or more' if open_ended else ''}, not {len(content)}")
    for name, what, code in listed:
        value: Any = struct.unpack_from(f"<{code}", content, at)[0] if code else content[at:]
        at += struct.calcsize(f"<{code}")
        values[name] = value.partition(b"\0")[0].decode(errors="replace") if what is str else value
    return kind(**values)


def c_constants(kind: type[object]) -> list[str]:
    """Enumeration constants for the start of each field and the length of the record."""
    prefix, at, lines = f"ETSE_{c_name(kind.__name__)}", 0, []
    for name, _, code in _fields(kind):
        lines.append(f"    {prefix}_{name.upper()} = {at},")
        at += struct.calcsize(f"<{code}")
    return [*lines, f"    {prefix}_BYTES = {at},"]


def c_name(name: str) -> str:
    """``SetVoice`` as ``SET_VOICE``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def _fields(kind: type[object]) -> list[tuple[str, type[object], str]]:
    """Name, Python type and struct code of each field, in order."""
    hints = get_type_hints(kind, include_extras=True)
    return [(field.name, hints[field.name].__origin__, hints[field.name].__metadata__[0]) for field in fields(kind)]  # type: ignore[arg-type]
