"""Tables written by people (TOML) or read from foreign files (JSON), as frozen dataclasses with every key and type
checked.

A key that is not known is an error that names it and the nearest valid one: a misspelt key never passes for a default. What a
parser cannot hold (thousands of levels, of digits), and numbers that are none, are errors of the table, not of the parser.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from edge_tse.errors import EdgeTseError
from edge_tse.files import read_bytes

__all__ = ["load_table", "nearest", "parse_json", "parse_table", "quote", "read_table"]

T = TypeVar("T")

MOST_BYTES = 2**20
"""Largest file that people write, in bytes."""
_DEEPEST = 32
_SHOWN = 80


def load_table(path: Path, error: type[EdgeTseError]) -> dict[str, Any]:
    """The TOML file as a dictionary; ``error`` if it cannot be read or is not TOML."""
    return parse_table(read_bytes(path, MOST_BYTES, error), str(path), error)


def parse_table(content: bytes, where: str, error: type[EdgeTseError]) -> dict[str, Any]:
    """TOML as a dictionary of finite numbers, not too deep; ``error`` names ``where`` if it is something else."""
    try:
        table = tomllib.loads(content.decode())
    except RecursionError as failure:
        raise _too_deep(where, error) from failure
    except ValueError as failure:  # no TOML, no UTF-8, or a number that Python does not read
        raise error(f"{where}: this is not TOML: {_first(failure)}") from failure
    _check_values(table, where, error)
    return table


def parse_json(content: bytes | str, where: str, error: type[EdgeTseError], remedy: str) -> dict[str, Any]:
    """JSON as a dictionary of finite numbers, not too deep; ``error`` names ``where`` and ``remedy`` if it is something else."""
    try:
        found = json.loads(content)
    except RecursionError as failure:
        raise _too_deep(where, error) from failure
    except ValueError as failure:
        raise error(f"{where} is not JSON ({_first(failure)}): {remedy}") from failure
    if not isinstance(found, dict):
        raise error(f"{where} is {_with_type(found)}, not a JSON object: {remedy}")
    _check_values(found, where, error)
    return found


def _check_values(table: dict[str, Any], where: str, error: type[EdgeTseError]) -> None:
    """Check depth and numbers of everything in it, without recursion: it may be deep."""
    level: list[tuple[str, Any]] = [(where, table)]
    for _ in range(_DEEPEST):
        for name, value in level:
            if isinstance(value, float) and not math.isfinite(value):
                raise error(f"{name} is {value}: finite numbers are needed")
        level = [
            (f"{name}: {quote(key)}" if isinstance(part, dict) else name, value)
            for name, part in level
            for key, value in (part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ())
        ]
        if not level:
            return
    raise _too_deep(where, error)


def _too_deep(where: str, error: type[EdgeTseError]) -> EdgeTseError:
    return error(f"{where} is nested more than {_DEEPEST} levels deep, which nothing here is: write it flat")


def _first(failure: Exception) -> str:
    return str(failure).partition(";")[0]


def read_table(kind: type[T], table: Any, where: str, error: type[EdgeTseError], **given: object) -> T:
    """A ``kind`` from a table; ``given`` are fields that the table may not state. ``error`` names ``where`` and the key."""
    if not isinstance(table, dict):
        raise error(f"{where}: a table is needed, not {_with_type(table)}")
    wanted = [f for f in fields(kind) if f.name not in given]  # type: ignore[arg-type]
    names = [f.name for f in wanted]
    for key in table:
        if key not in names:
            raise error(f"{where}: unknown key {quote(key)}{nearest(key[:_SHOWN], names)}")
    if missing := [f.name for f in wanted if f.name not in table and f.default is MISSING and f.default_factory is MISSING]:
        raise error(f"{where}: {', '.join(missing)} missing: state {'it' if len(missing) == 1 else 'them'}")
    hints = _hints(kind)  # type: ignore[arg-type]  # a class can be hashed
    return kind(**{key: _value(hints[key], value, f"{where}: {key}", error) for key, value in table.items()}, **given)


@lru_cache
def _hints(kind: type[object]) -> dict[str, Any]:
    return get_type_hints(kind)


def nearest(name: str, known: Iterable[str], least: float = 0.0) -> str:
    """Hint ``: nearest is 'x'`` for messages; empty where nothing is known that is alike by ``least``, 0 to 1."""
    close = get_close_matches(name, list(known), n=1, cutoff=least)
    return f": nearest is {close[0]!r}" if close else ""


def _value(hint: Any, value: Any, where: str, error: type[EdgeTseError]) -> Any:
    if get_origin(hint) is UnionType:
        if value is None:
            return None
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise error(f"{where}: an array is needed, not {_with_type(value)}")
        inner = get_args(hint)
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise error(f"{where}: {len(inner)} values are needed, not {len(value)}")
        hints = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_value(h, item, f"{where}[{i}]", error) for i, (h, item) in enumerate(zip(hints, value, strict=True)))
    if get_origin(hint) is not None:
        if not isinstance(value, dict):
            raise error(f"{where}: a table is needed, not {_with_type(value)}")
        _, inner_hint = get_args(hint)
        return {key: _value(inner_hint, item, f"{where}.{key}", error) for key, item in value.items()}
    if hint is Any:  # whoever asks for it checks it
        return value
    if is_dataclass(hint):
        return read_table(hint, value, where, error)  # type: ignore[arg-type]
    allowed = (int, float) if hint is float else (hint,)
    if type(value) not in allowed:
        raise error(f"{where}: {hint.__name__} is needed, not {_with_type(value)}")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise error(f"{where}: {quote(value)} does not fit 64 bits: give a smaller number")
    return hint(value)


def _with_type(value: object) -> str:
    return f"{quote(value)} ({type(value).__name__})"


def quote(value: object) -> str:
    """A value for a message: as Python writes it, cut after its beginning where it is long."""
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
