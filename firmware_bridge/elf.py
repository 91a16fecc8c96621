"""Reader of ELF files: sections with their sizes, and addresses of functions."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from edge_tse.errors import TargetError
from edge_tse.files import read_bytes

__all__ = ["Section", "Symbol", "read_sections", "read_symbols"]

_ALLOCATED = 0x2
_NOBITS = 8
_SYMTAB = 2
_FUNCTION = 2
_ARM = 40
_HEADER_BYTES = {1: 52, 2: 64}
_MOST_BYTES = 256 * 2**20


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
    """Address without the bit that marks Thumb code."""
    size_bytes: int
    function: bool


def read_sections(path: Path) -> tuple[Section, ...]:
    """Sections that occupy memory, in order. ``TargetError`` if the file is not a little-endian ELF."""
    content, wide, _ = _image(path)
    return tuple(section for section, flags, _, _ in _sections(path, content, wide) if flags & _ALLOCATED and section.size_bytes)


def read_symbols(path: Path) -> tuple[Symbol, ...]:
    """Symbols by address. ``TargetError`` if the file is not a little-endian ELF, or was stripped."""
    content, wide, thumb = _image(path)
    sections = _sections(path, content, wide)
    for table, _, kind, link in sections:
        if kind != _SYMTAB:
            continue
        entry = struct.Struct("<IBBHQQ" if wide else "<IIIBBH")
        if link >= len(sections) or len(table.content) % entry.size:
            raise _damage(path, f"its symbols name section {link} of {len(sections)}, in {len(table.content)} bytes")
        names = sections[link][0].content
        symbols = []
        for fields in entry.iter_unpack(table.content):
            name, value, size, info = (fields[0], fields[4], fields[5], fields[1]) if wide else fields[:4]
            text = _text(path, names, name)
            function = info & 0xF == _FUNCTION
            if text and not text.startswith("$"):
                symbols.append(
                    Symbol(name=text, address=value & ~1 if thumb and function else value, size_bytes=size, function=function)
                )
        return tuple(sorted(symbols, key=lambda s: (s.address, s.name)))
    raise TargetError(f"{path} has no symbols: build it without stripping")


def _image(path: Path) -> tuple[bytes, bool, bool]:
    """Content of a file that begins as an ELF does; whether it has 64 bits, and whether it is for 32-bit Arm."""
    content = read_bytes(path, _MOST_BYTES, TargetError, "image")
    if content[:4] != b"\x7fELF" or content[5:6] != b"\x01" or content[4] not in (1, 2):
        raise TargetError(f"{path} is not a little-endian ELF image: it starts with {content[:6]!r}; build it again")
    if len(content) < _HEADER_BYTES[content[4]]:
        raise _damage(path, f"{len(content)} bytes, its header has {_HEADER_BYTES[content[4]]}")
    return content, content[4] == 2, struct.unpack_from("<H", content, 18)[0] == _ARM


def _sections(path: Path, content: bytes, wide: bool) -> list[tuple[Section, int, int, int]]:
    """Every section with flags, type and link."""
    (table,) = struct.unpack_from("<Q", content, 40) if wide else struct.unpack_from("<I", content, 32)
    size, count, names_index = struct.unpack_from("<3H", content, 58 if wide else 46)
    header = struct.Struct("<IIQQQQIIQQ" if wide else "<10I")
    if count and (size < header.size or table + count * size > len(content)):
        raise _damage(path, f"{count} sections of {size} bytes from byte {table} on, in {len(content)} bytes")
    if names_index >= max(count, 1):
        raise _damage(path, f"the names of its sections are in section {names_index} of {count}")
    rows = [header.unpack_from(content, table + i * size) for i in range(count)]
    names = content[rows[names_index][4] :] if rows else b""
    out = []
    for name, kind, flags, address, offset, length, link, *_ in rows:
        text = _text(path, names, name)
        if kind != _NOBITS and offset + length > len(content):
            raise _damage(path, f"section {text!r} ends at byte {offset + length} of {len(content)}")
        section = Section(
            name=text,
            address=address,
            size_bytes=length,
            stored=kind != _NOBITS,
            content=b"" if kind == _NOBITS else content[offset : offset + length],
        )
        out.append((section, flags, kind, link))
    return out


def _text(path: Path, names: bytes, at: int) -> str:
    """Name that begins at this offset."""
    end = names.find(0, at)
    if at >= len(names) or end < 0:
        raise _damage(path, f"a name begins at byte {at} of {len(names)} bytes of names and does not end")
    return names[at:end].decode(errors="replace")


def _damage(path: Path, what: str) -> TargetError:
    return TargetError(f"{path} is damaged: {what}; build it again")
