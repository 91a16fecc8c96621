"""Names of what is made of many files: one for each, none of them twice, and no input among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tse.audio import FOREIGN, SUFFIXES
from edge_tse.errors import AudioError
from edge_tse.files import check_output

__all__ = ["Destination", "destinations"]


@dataclass(frozen=True)
class Destination:
    """A recording, and the file that is made of it."""

    source: Path
    to: Path


def destinations(given: Sequence[Path], folder: Path, inputs: Iterable[Path] = ()) -> list[Destination]:
    """A WAV in ``folder`` for each file that was given, and for each sound file in folders that were, below these the same way.

    What is in ``folder`` already, of an earlier run, is not taken for a recording, nor are hidden files. ``AudioError`` if two
    would become the same file, if one would replace a recording or one of ``inputs``, or if ``folder`` cannot be one.
    """
    if folder.exists() and not folder.is_dir():
        raise AudioError(f"{folder} is a file, and several recordings become several: give the name of a folder")
    if folder.suffix.lower() in SUFFIXES and not folder.is_dir():
        raise AudioError(f"{folder} is the name of one sound file, and several recordings become several: give that of a folder")
    made: dict[Path, Path] = {}
    seen: set[Path] = set()
    for source, name in _named(given, folder.resolve()):
        if source.resolve() in seen:
            continue
        seen.add(source.resolve())
        to = folder / name.with_suffix(".wav")
        if to in made:
            raise AudioError(f"{made[to]} and {source} would both become {to}: give each a folder of its own")
        made[to] = source
    known = {_identity(path) for path in (*seen, *inputs)} - {None}
    for to, source in made.items():
        if _identity(to) in known:
            raise AudioError(f"{to}, which {source} would become, is also an input: choose another folder")
        if to.parent.is_dir():
            check_output(to, error=AudioError)
    return [Destination(source, to) for to, source in made.items()]


def _named(given: Sequence[Path], folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each recording, and its name below the folder."""
    for path in given:
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        found = False
        for source in sorted(path.rglob("*")):
            name = source.relative_to(path)
            hidden = any(part.startswith(".") for part in name.parts)
            if hidden or source.suffix.lower() not in (*SUFFIXES, *FOREIGN) or not source.is_file():
                continue
            if not source.resolve().is_relative_to(folder) or path.resolve().is_relative_to(folder):
                found = True
                yield source, name
        if not found:
            raise AudioError(f"{path}: there is no sound file in this folder: give one that has some")


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file has under each of its names; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
