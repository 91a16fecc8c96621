"""What an ELF file holds: sections with their sizes, and where functions start."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from edge_tse.errors import TargetError

__all__ = ["Section", "Symbol", "read_sections", "read_symbols"]

_ALLOCATED = 0x2
_NOBITS = 8
_SYMTAB = 2
_FUNCTION = 2


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the image."""

    name: str
    address: int
    size_bytes: int
    stored: bool
    """Whether its content is in the image, or it is only room in memory."""
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Symbol:
    """A function or another place with a name."""

    name: str
    address: int
    """Without the bit that marks Thumb code."""
    size_bytes: int
    function: bool


def read_sections(path: Path) -> tuple[Section, ...]:
    """Sections that occupy memory, in order. ``TargetError`` if the file is not a little-endian ELF."""
    return tuple(section for section, flags, _, _ in _sections(path) if flags & _ALLOCATED and section.size_bytes)


def read_symbols(path: Path) -> tuple[Symbol, ...]:
    """Symbols by address. ``TargetError`` if the file is not a little-endian ELF, or was stripped."""
    sections = _sections(path)
    wide = path.read_bytes()[4] == 2
    thumb = struct.unpack_from("<H", path.read_bytes(), 18)[0] == 40
    for table, _, kind, link in sections:
        if kind != _SYMTAB:
            continue
        names = sections[link][0].content
        entry = struct.Struct("<IBBHQQ" if wide else "<IIIBBH")
        symbols = []
        for fields in entry.iter_unpack(table.content):
            name, value, size, info = (fields[0], fields[4], fields[5], fields[1]) if wide else fields[:4]
            text = names[name : names.index(0, name)].decode()
            function = info & 0xF == _FUNCTION
            if text and not text.startswith("$"):
                symbols.append(
                    Symbol(name=text, address=value & ~1 if thumb and function else value, size_bytes=size, function=function)
                )
        return tuple(sorted(symbols, key=lambda s: (s.address, s.name)))
    raise TargetError(f"{path} has no symbols: build it without stripping")


def _sections(path: Path) -> list[tuple[Section, int, int, int]]:
    """Every section with flags, type and link."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TargetError(f"cannot read image {path}: {error.strerror}") from error
    if content[:4] != b"\x7fELF" or content[5:6] != b"\x01":
        raise TargetError(f"{path} is not a little-endian ELF image: it starts with {content[:6]!r}; build it again")
    wide = content[4] == 2
    (table,) = struct.unpack_from("<Q", content, 40) if wide else struct.unpack_from("<I", content, 32)
    size, count, names_index = struct.unpack_from("<3H", content, 58 if wide else 46)
    header = struct.Struct("<IIQQQQIIQQ" if wide else "<10I")
    rows = [header.unpack_from(content, table + i * size) for i in range(count)]
    names = content[rows[names_index][4] :]
    out = []
    for name, kind, flags, address, offset, length, link, *_ in rows:
        section = Section(
            name=names[name : names.index(0, name)].decode(),
            address=address,
            size_bytes=length,
            stored=kind != _NOBITS,
            content=b"" if kind == _NOBITS else content[offset : offset + length],
        )
        out.append((section, flags, kind, link))
    return out
