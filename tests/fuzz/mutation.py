"""What hostile or damaged input looks like: bytes, JSON, TOML and trees of values, changed by a given source of randomness."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

__all__ = ["hostile_bytes", "hostile_json", "hostile_toml", "hostile_tree"]

_WORDS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**46, 2**63 - 1, 2**63, 2**64 - 1)


def hostile_bytes(content: bytes, rng: Random, most: int = 6) -> bytes:
    """A few bits, bytes, words or stretches of it changed; sometimes cut short."""
    out = bytearray(content)
    for _ in range(rng.randint(1, most)):
        # Headers are at the front: half of all changes go there.
        at = rng.randrange(max(1, len(out) if rng.random() < 0.5 else min(len(out), 256)))
        match rng.randrange(8):
            case 0 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 1 if out:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
            case 2:
                size = rng.choice((2, 4, 8))
                word = rng.choice(_WORDS) % 256**size
                out[at : at + size] = word.to_bytes(size, rng.choice(("little", "big")))
            case 3:
                del out[at : at + rng.choice((1, 2, 3, 16, 256))]
            case 4:
                out[at:at] = rng.randbytes(rng.choice((1, 2, 3, 16, 256)))
            case 5:
                out[at : at + 16] = out[(other := rng.randrange(max(1, len(out)))) : other + 16]
            case 6:
                del out[rng.randrange(max(1, len(out))) :]
            case _:
                out[at : at + 4] = rng.randbytes(4)
    return bytes(out)


def _hostile_value(rng: Random, old: Any) -> Any:
    choices: list[Any] = [
        None, True, False, -1, 0, 1, 2, 3, 2**31, 2**63, 2**64, 10**30, 10**400, -(2**70), 0.5, -0.0, 1e308, 1e-320,
        float("nan"), float("inf"), "", "x", "a" * 5000, "\ud800", "\0", "../../etc/passwd", "a b", "1", [], {}, [[]], [1, 2],
        ["x"], {"x": 1}, [None], [0, 0], [2**40, 2**6], [-1, -1], [-4, 4],
    ]  # fmt: skip
    if isinstance(old, bool | int | float):
        choices += [-old, old + 1, old * 2, old * 1e300 if isinstance(old, float) else old * 2**33, str(old)[:4000], 0.1]
    elif isinstance(old, str):
        choices += [old + "x", old.upper(), old[:-1], [old], {old: old}]
    elif isinstance(old, list):
        choices += [old[:-1], old + old, old[::-1], [old], tuple(old)[:1]]
    else:
        choices += [[old]]
    return rng.choice(choices)


def hostile_tree(value: Any, rng: Random, most: int = 3) -> Any:
    """A JSON-able value with a few of its parts replaced, left out, doubled or renamed."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, most)):
        places: list[tuple[Any, Any]] = []
        stack = [value]
        while stack:
            part = stack.pop()
            keys = part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
            for key in keys:
                places.append((part, key))
                stack.append(part[key])
        if not places:
            return _hostile_value(rng, value)
        # By depth and not by number: tables of a hundred rows would take every change.
        part, key = rng.choice(places[: rng.randint(1, len(places))])
        match rng.randrange(8):
            case 0:
                del part[key]
            case 1 if isinstance(part, dict):
                part[rng.choice(("x", "", f"{key}s", "name", "both"))] = part[key]
            case 1:
                part.append(part[key])
            case 2 if isinstance(part, dict):
                other = rng.choice(list(part))
                part[key], part[other] = part[other], part[key]
            case _:
                part[key] = _hostile_value(rng, part[key])
    return value


def hostile_json(value: Any, rng: Random) -> str:
    """The text of a hostile tree; now and then with what no tree holds: 5,000 digits, 2,000 levels, a name twice."""
    text = json.dumps(hostile_tree(value, rng))
    if rng.random() < 0.1:
        stuff = rng.choice(
            ("1" * 5000, "[" * 2000 + "]" * 2000, "[" * 2000, '{"a":' * 2000, "1e400", "-" + "9" * 400 + ".5", "NaN")
        )
        spots = [m.start() for m in re.finditer(r"(?<=: )", text)] or [0]
        at = rng.choice(spots)
        end = re.compile(r"[,}\]]").search(text, at)
        text = text[:at] + stuff + text[end.start() if end else len(text) :]
    return text


_TOML_VALUES = (
    "1", "0", "-1", "true", '""', '"x"', "[]", "{}", "[[1, 2]]", "nan", "inf", "-inf", "1e400", "9" * 5000, "9" * 400,
    "1." + "9" * 400, "9" * 400 + ".5", "1e308", "-1e-320", "[" * 2000 + "]" * 2000, "[" * 2000, "{a = " * 2000 + "1" + "}" * 2000,
    "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", '"\\u0000"', '"' + "a" * 5000 + '"', "0x7fffffffffffffff", "[1, 2, 3]",
    '{x = 1}', '["x", "y"]', "[nan, nan]", "[1e400, 5]", '"../x"', "9223372036854775808", "[true, false]",
)  # fmt: skip


def hostile_toml(text: str, rng: Random) -> bytes:
    """Lines with other values, other names, missing, doubled; and damaged bytes."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines)) if lines else 0
        line = lines[at] if lines else ""
        name, equals, value = line.partition("=")
        match rng.randrange(9):
            case 0 if lines:
                del lines[at]
            case 1:
                lines.insert(rng.randint(0, len(lines)), line)
            case 2 if equals:
                lines[at] = f"{name.strip()}{rng.choice(('s', '_', '.x', '.' + '.'.join('a' * 1500)))} = {value}"
            case 3:
                lines.insert(
                    at,
                    rng.choice(
                        (
                            "[x]",
                            "[[memory]]",
                            "[both]",
                            "[left]",
                            "[chain]",
                            "[sources]",
                            "[" + ".".join("a" * 2000) + "]",
                            "1000 = 40",
                            "nan = 30",
                            "1e999 = 1",
                        )
                    ),
                )
            case 4 if value:
                lines[at] = f"{name}={hostile_bytes(value.encode(), rng, 2).decode(errors='replace')}"
            case _ if equals:
                lines[at] = f"{name}= {rng.choice(_TOML_VALUES)}"
            case _:
                lines.insert(at, f"{rng.choice(('x', 'name', 'hop', '500'))} = {rng.choice(_TOML_VALUES)}")
    content = "\n".join(lines).encode()
    return hostile_bytes(content, rng, 2) if rng.random() < 0.15 else content
