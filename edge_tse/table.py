"""Tables that people write (TOML) to frozen dataclasses, every key and type checked.

A key that is not known is an error that names it and the nearest valid one: a misspelt key never passes for a default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from edge_tse.errors import EdgeTseError

__all__ = ["load_table", "nearest", "read_table"]

T = TypeVar("T")


def load_table(path: Path, error: type[EdgeTseError]) -> dict[str, Any]:
    """The TOML file as a dictionary; ``error`` if it cannot be read or is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise error(f"cannot read {path}: {failure.strerror or failure}") from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise error(f"{path}: this is not TOML: {failure}") from failure


def read_table(kind: type[T], table: Any, where: str, error: type[EdgeTseError], **given: object) -> T:
    """A ``kind`` from a table; ``given`` are fields that the table may not state. ``error`` names ``where`` and the key."""
    if not isinstance(table, dict):
        raise error(f"{where}: a table is needed, not {_named(table)}")
    wanted = [f for f in fields(kind) if f.name not in given]  # type: ignore[arg-type]
    names = [f.name for f in wanted]
    for key in table:
        if key not in names:
            raise error(f"{where}: unknown key {key!r}{nearest(key, names)}")
    if missing := [f.name for f in wanted if f.name not in table and f.default is MISSING and f.default_factory is MISSING]:
        raise error(f"{where}: {', '.join(missing)} missing: state {'it' if len(missing) == 1 else 'them'}")
    hints = get_type_hints(kind)
    return kind(**{key: _value(hints[key], value, f"{where}: {key}", error) for key, value in table.items()}, **given)


def nearest(name: str, known: Iterable[str]) -> str:
    """``: nearest is 'x'`` for messages, empty where nothing is known."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f": nearest is {close[0]!r}" if close else ""


def _value(hint: Any, value: Any, where: str, error: type[EdgeTseError]) -> Any:
    if get_origin(hint) is UnionType:
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise error(f"{where}: an array is needed, not {_named(value)}")
        inner = get_args(hint)
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise error(f"{where}: {len(inner)} values are needed, not {len(value)}")
        hints = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_value(h, item, f"{where}[{i}]", error) for i, (h, item) in enumerate(zip(hints, value, strict=True)))
    if get_origin(hint) is not None:
        if not isinstance(value, dict):
            raise error(f"{where}: a table is needed, not {_named(value)}")
        _, inner_hint = get_args(hint)
        return {key: _value(inner_hint, item, f"{where}.{key}", error) for key, item in value.items()}
    if is_dataclass(hint):
        return read_table(hint, value, where, error)  # type: ignore[arg-type]
    allowed = (int, float) if hint is float else (hint,)
    if type(value) not in allowed:
        raise error(f"{where}: {hint.__name__} is needed, not {_named(value)}")
    return hint(value)


def _named(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"
