"""A list of trials, one mixture with one enrolled talker and one reference each, as a CSV.

Its columns are ``id, mixture, enrollment, target, interferer, condition``; paths are relative to it. Several enrollment clips (or
interferers) are separated by ``;``. An empty or silent target means that the talker is absent. References line up with the mixture
sample for sample, with its channels. A column ``sexes`` may tell the target's sex and then the interferers', separated by ``;``.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import AudioError, DataError

__all__ = ["COLUMNS", "Trial", "content_digest", "enrollment_clips", "read_sound", "read_trials", "trial_error"]

Float = NDArray[np.float32]

COLUMNS = ("id", "mixture", "enrollment", "target", "interferer", "condition")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One row."""

    id: str
    mixture: Path
    enrollment: tuple[Path, ...]
    target: Path | None
    """The talker alone; None where absent."""
    interferers: tuple[Path, ...]
    condition: str
    sexes: tuple[str, ...]
    """Sexes of the target and of each interferer, as the list tells; an empty string where it does not know."""
    row: int
    """Line of the CSV, for messages."""

    @property
    def sounds(self) -> tuple[Path, ...]:
        """All files that the row names, of which an interferer may be missing."""
        return (self.mixture, *self.enrollment, *([self.target] if self.target else []), *self.interferers)


def read_trials(path: Path) -> list[Trial]:
    """The rows of a CSV.

    ``DataError`` names row and column: a column that is missing, a cell that is empty, a file that is not there. Interferers only
    serve to tell whom the output resembles, so a missing one is no error.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ()) and c != "interferer"]
            if missing:
                there = ", ".join(reader.fieldnames or ["none"])
                raise DataError(f"{path} has no column {missing[0]}, it has {there}: name the columns {', '.join(COLUMNS)}")
            trials = [_trial(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise DataError(f"cannot read the trials {path}: {getattr(failure, 'strerror', None) or failure}") from failure
    if not trials:
        raise DataError(f"{path} holds 0 trials: give at least one row under its header")
    rows: dict[str, int] = {}
    for trial in trials:
        if trial.id in rows:
            raise DataError(
                f"{path}: row {trial.row} has the id {trial.id} of row {rows[trial.id]}: it would count twice, rename it"
            )
        rows[trial.id] = trial.row
    return trials


def _trial(path: Path, line: int, row: dict[str, str | None]) -> Trial:
    cells = {column: (row.get(column) or "").strip() for column in (*COLUMNS, "sexes")}
    for column in ("id", "mixture", "enrollment", "condition"):
        if not cells[column].strip("; "):
            raise DataError(f"{path}, row {line}, column {column}: is empty")
    files = {
        column: tuple(path.parent / name.strip() for name in cells[column].split(";") if name.strip())
        for column in ("mixture", "enrollment", "target", "interferer")
    }
    for column in ("mixture", "enrollment", "target"):
        for file in files[column]:
            if not _is_file(file):
                raise DataError(f"{path}, row {line}, column {column}: there is no file {file}")
        if column != "enrollment" and len(files[column]) > 1:
            raise DataError(f"{path}, row {line}, column {column}: {len(files[column])} files, only enrollment takes more than one")
    return Trial(
        id=cells["id"],
        mixture=files["mixture"][0],
        enrollment=files["enrollment"],
        target=next(iter(files["target"]), None),
        interferers=files["interferer"],
        condition=cells["condition"],
        sexes=tuple(sex.strip() for sex in cells["sexes"].split(";")) if cells["sexes"] else (),
        row=line,
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def content_digest(trials: Iterable[Trial]) -> str:
    """SHA-256 of the sound of all files that the trials name, in hexadecimal: other files under like names are other trials."""
    total = hashlib.sha256()
    for trial in trials:
        for path in trial.sounds:
            if _is_file(path):
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def enrollment_clips(trial: Trial) -> list[tuple[str, Float, int]]:
    """Name, ``[channels, samples]`` and rate in Hz of each enrollment clip: for :func:`edge_tse.enrollment.enroll_clips`."""
    return [(path.name, *read_sound(trial, "enrollment", path)) for path in trial.enrollment]


def read_sound(trial: Trial, column: str, path: Path) -> tuple[Float, int]:
    """``[channels, samples]`` and rate in Hz of a file that ``column`` names; ``DataError`` with the row if it cannot be read."""
    try:
        return audio.read(path)
    except AudioError as failure:
        raise trial_error(trial, column, failure) from failure


def trial_error(trial: Trial, column: str, reason: object) -> DataError:
    """Error to raise for a trial that cannot be used: it names id, row and column."""
    return DataError(f"trial {trial.id}, row {trial.row}, column {column}: {reason}")
