"""What was finished before a run was killed: one JSON line per result, so that the next start does not compute it again."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edge_tse.errors import DataError
from edge_tse.report import to_json

__all__ = ["Journal", "open_journal", "plain"]


class Journal:
    """Results by name, each on the disk before the next one is taken."""

    def __init__(self, file: IO[str], found: dict[str, Any]) -> None:
        self._file = file
        self.found = found
        """Results of earlier starts."""

    def add(self, name: str, result: Any) -> None:
        """Add a result, on the disk when this returns."""
        self._file.write(json.dumps({"name": name, "result": result}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path, of: Mapping[str, object]) -> Iterator[Journal]:
    """The journal at ``path``, new or of an earlier start. Remove the file once the results are kept elsewhere.

    ``of`` says what is computed, in values that JSON knows. ``DataError`` if the file is about anything else, or in use. A last
    line that a kill cut short counts as not written.
    """
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as failure:
        raise DataError(f"{path} cannot be kept: {failure.strerror or failure}; choose another output") from failure
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as failure:
            raise DataError(f"{path} is in use by another run: wait for it, or choose another output") from failure
        yield Journal(file, _found(path, file, json.loads(to_json(dict(of)))))


def plain(value: object) -> Any:
    """The value as it comes back from a file: so that a result that was kept and one that was not are the same."""
    return json.loads(json.dumps(value))


def _found(path: Path, file: IO[str], head: dict[str, Any]) -> dict[str, Any]:
    file.seek(0)
    try:
        whole = file.read().rpartition("\n")[0]
        stated, *lines = [json.loads(line) for line in whole.split("\n")] if whole else [head]
        if stated.keys() == head.keys() and not lines:  # nothing is lost with it, whatever it was of
            file.truncate(0)
            file.write(json.dumps(head) + "\n")
            file.flush()
            return {}
        found = {line["name"]: line["result"] for line in lines}
        differs = next((key for key in head if stated[key] != head[key]), "")
    except (ValueError, TypeError, KeyError, AttributeError) as failure:
        raise DataError(f"{path} is no journal of this work: remove it, or choose another output") from failure
    if differs:
        raise DataError(f"{path} keeps the results of another run, its {differs} differs: remove it, or choose another output")
    file.truncate(len((whole + "\n").encode()))
    return found
