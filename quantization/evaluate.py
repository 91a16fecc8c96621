"""Quality of an artifact on a list of trials: one mixture, one enrolled talker, one reference each. Imports no torch.

The list is a CSV with the columns ``id, mixture, enrollment, target, interferer, condition``; paths are relative to it. Several
enrollment clips (or interferers) are separated by ``;``. An empty or silent target means that the talker is absent: then what
counts is how much quieter the output is than the mixture. References line up with the mixture sample for sample, with its channels.
All scores are taken at the model's rate, of each ear; PESQ and ESTOI at 16 kHz.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import multiprocessing
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment import enroll_clips
from edge_tse.errors import AudioError, DataError, EngineError
from edge_tse.extract import extract
from edge_tse.metrics import attenuation_db, over_suppression, si_sdr
from edge_tse.report import environment, versions
from edge_tse.voice import personalize

__all__ = ["COLUMNS", "Trial", "evaluate", "read_trials"]

Float = NDArray[np.float32]
Item = dict[str, Any]
Scores = dict[str, float | None]
"""By metric; None where it could not be computed."""
Reasons = dict[str, str]
"""Why not, by metric."""

COLUMNS = ("id", "mixture", "enrollment", "target", "interferer", "condition")
RATE_HZ = 16000
"""What PESQ-WB and ESTOI are defined at."""
CLEAN_DB = 60.0
"""A mixture this close to the target is the target: there is nothing to improve."""
_CHUNK = 4  # trials per task of a worker: long enough to share a voice, short enough for the bar to move


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
    row: int
    """Line of the CSV, for messages."""


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
    return trials


def _trial(path: Path, line: int, row: dict[str, str | None]) -> Trial:
    cells = {column: (row.get(column) or "").strip() for column in COLUMNS}
    for column in ("id", "mixture", "enrollment", "condition"):
        if not cells[column]:
            raise DataError(f"{path}, row {line}, column {column}: is empty")
    files = {
        column: tuple(path.parent / name.strip() for name in cells[column].split(";") if name.strip())
        for column in ("mixture", "enrollment", "target", "interferer")
    }
    for column in ("mixture", "enrollment", "target"):
        for file in files[column]:
            if not file.is_file():
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
        row=line,
    )


def evaluate(
    trials_csv: Path,
    artifact: Artifact,
    engine: str = "litert",
    progress: Callable[[float], None] | None = None,
    limit: int | None = None,
    jobs: int = 1,
) -> dict[str, Any]:
    """Scores of every trial (``items``) and their summary by condition (``conditions``).

    ``progress`` is told the fraction done; ``limit`` takes the first so many trials; ``jobs`` processes share the work, with the
    same result (they are spawned: a script that asks for more than one needs a ``__main__`` guard). ``DataError`` names the row of
    a trial that cannot be used; one whose enrollment holds too little speech is counted as failed instead, with the reason.
    """
    path = Path(trials_csv)
    pesq, pystoi = _module("pesq"), _module("pystoi")
    del pesq, pystoi  # asked for now: not after an hour
    trials = read_trials(path)[:limit]
    items: list[Item] = []
    for item in _scored(trials, artifact, engine) if jobs == 1 else _shared(trials, artifact, engine, jobs):
        items.append(item)
        if progress is not None:
            progress(len(items) / len(trials))
    by_condition: dict[str, list[Item]] = {}
    for item in items:
        by_condition.setdefault(item["condition"], []).append(item)
    return {
        "conditions": {name: _summary(part) for name, part in by_condition.items()},
        "artifact": artifact.digest,
        "engine": open_network(artifact, engine).name,
        "trials": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": len(items)},
        "versions": {**versions(), **{name: metadata.version(name) for name in ("pesq", "pystoi")}},
        "environment": environment(),
        "items": items,
    }


def _shared(trials: Sequence[Trial], artifact: Artifact, engine: str, jobs: int) -> Iterator[Item]:
    """As :func:`_scored`, in processes that inherit nothing, so that no runtime is forked with its threads."""
    content = artifact.to_bytes()
    source = iter(trials)
    chunks = list(iter(lambda: list(islice(source, _CHUNK)), []))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_chunk, [content] * len(chunks), [engine] * len(chunks), chunks):
            yield from part


def _chunk(content: bytes, engine: str, trials: list[Trial]) -> list[Item]:
    return list(_scored(trials, Artifact.from_bytes(content), engine))


def _scored(trials: Sequence[Trial], artifact: Artifact, engine: str) -> Iterator[Item]:
    enrolled: tuple[Path, ...] = ()
    own: Engine | str = ""
    for trial in trials:
        if trial.enrollment != enrolled:  # one voice is kept: where a list repeats talkers, it does so in a row
            enrolled, own = trial.enrollment, _personal_engine(trial, artifact, engine)
        yield _score(trial, own)


def _personal_engine(trial: Trial, artifact: Artifact, engine: str) -> Engine | str:
    """Ready for the enrolled talker, or why this talker cannot be enrolled."""
    clips = [(path.name, *_read(trial, "enrollment", path)) for path in trial.enrollment]
    try:
        voice = enroll_clips(artifact.voice_model, clips).voice
    except AudioError as failure:
        return str(failure)
    own = personalize(artifact, voice)
    return Engine(own, open_network(own, engine))


def _score(trial: Trial, engine: Engine | str) -> Item:
    item: Item = {"id": trial.id, "condition": trial.condition, "absent": trial.target is None}
    if isinstance(engine, str):
        return {**item, "failed": engine, "scores": {}, "not_computed": {}}
    rate_hz = engine.frame.sample_rate_hz
    mixture = _read_at(rate_hz, trial, "mixture", trial.mixture)
    target = None if trial.target is None else _aligned(_read_at(rate_hz, trial, "target", trial.target), mixture, trial, "target")
    if target is not None and audio.is_silent(target):
        target = None
    try:
        estimate = extract(mixture, rate_hz, engine, name=str(trial.mixture)).signal
    except AudioError as failure:
        raise _bad(trial, "mixture", failure) from failure
    item["absent"] = target is None
    scores, reasons = _absent(estimate, mixture) if target is None else _present(trial, estimate, mixture, target, rate_hz)
    rounded = {name: value if value is None else round(value, 4) for name, value in scores.items()}
    return {**item, "failed": None, "scores": rounded, "not_computed": reasons}


def _absent(estimate: Float, mixture: Float) -> tuple[Scores, Reasons]:
    if audio.is_silent(mixture):
        return {"attenuation_db": None}, {"attenuation_db": "the mixture is silent"}
    return {"attenuation_db": attenuation_db(estimate, mixture)}, {}


def _present(trial: Trial, estimate: Float, mixture: Float, target: Float, rate_hz: int) -> tuple[Scores, Reasons]:
    before, after = si_sdr(mixture, target), si_sdr(estimate, target)
    scores: Scores = {"si_sdr_mixture": before, "si_sdr": after, "si_sdr_i": after - before}
    scores["over_suppression"] = over_suppression(estimate, target, rate_hz)
    reasons: Reasons = {}
    if before > CLEAN_DB:
        scores["si_sdr_i"] = None
        reasons["si_sdr_i"] = "the mixture is the target alone"
    wanted = audio.resample(target, rate_hz, RATE_HZ)
    for suffix, signal in (("", estimate), ("_mixture", mixture)):
        heard = audio.resample(signal, rate_hz, RATE_HZ)
        for name, measure in (("pesq_wb", _pesq_wb), ("estoi", _estoi)):
            try:
                scores[name + suffix] = float(np.mean([measure(w, h) for w, h in zip(wanted, heard, strict=True)]))
            except _NotComputableError as failure:
                scores[name + suffix] = None
                reasons[name + suffix] = str(failure)
    if trial.interferers:
        try:
            scores["wrong_talker"] = float(_resembles_another(trial, estimate, mixture, after, rate_hz))
        except (DataError, ValueError) as failure:
            scores["wrong_talker"] = None
            reasons["wrong_talker"] = str(failure)
    return scores, reasons


def _resembles_another(trial: Trial, estimate: Float, mixture: Float, after: float, rate_hz: int) -> bool:
    """Whether the output is nearer to an interfering talker than to the target."""
    for path in trial.interferers:
        other = _aligned(_read_at(rate_hz, trial, "interferer", path), mixture, trial, "interferer")
        if si_sdr(estimate, other) > after:
            return True
    return False


class _NotComputableError(Exception):
    """A metric that has no value for this signal, and why."""


def _pesq_wb(target: Float, estimate: Float) -> float:
    """ITU-T P.862.2 of one ear."""
    module = _module("pesq")
    try:
        score = float(module.pesq(RATE_HZ, target, estimate, "wb"))
    except (module.PesqError, ValueError, ZeroDivisionError) as failure:
        detail = failure.args[0] if failure.args else type(failure).__name__
        raise _NotComputableError(detail.decode() if isinstance(detail, bytes) else str(detail)) from failure
    if not np.isfinite(score):
        raise _NotComputableError("PESQ is not a number")
    return score


def _estoi(target: Float, estimate: Float) -> float:
    """Extended STOI of one ear.

    Jensen & Taal, "An algorithm for predicting the intelligibility of speech masked by modulated noise maskers", TASLP 2016.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # how pystoi says that there is too little speech
        try:
            return float(_module("pystoi").stoi(target, estimate, RATE_HZ, extended=True))
        except (RuntimeWarning, ValueError) as failure:
            raise _NotComputableError(" ".join(str(failure).split())) from failure


def _summary(items: Sequence[Item]) -> dict[str, Any]:
    """One condition."""
    values: dict[str, list[float]] = {}
    missing: dict[str, Counter[str]] = {}
    for item in items:
        for name, value in item["scores"].items():
            if value is not None:
                values.setdefault(name, []).append(value)
        for name, reason in item["not_computed"].items():
            missing.setdefault(name, Counter())[reason] += 1
    failed = Counter(item["failed"] for item in items if item["failed"])
    ratios = ("si_sdr", "si_sdr_i", "attenuation_db")
    means = ("si_sdr_mixture", "pesq_wb", "pesq_wb_mixture", "estoi", "estoi_mixture", "over_suppression", "wrong_talker")
    return {
        "n": len(items),
        "absent": sum(item["absent"] for item in items),
        **{name: _spread(values.get(name)) for name in ratios},
        **{name: float(np.mean(values[name])) if name in values else None for name in means},
        "failed": dict(failed),
        "not_computed": {name: dict(reasons) for name, reasons in missing.items()},
    }


def _spread(values: list[float] | None) -> dict[str, float] | None:
    if not values:
        return None
    v = np.array(values)
    return {
        "mean": float(v.mean()),
        "median": float(np.median(v)),
        "p10": float(np.percentile(v, 10)),
        "below_zero": float(np.mean(v < 0)),
        "n": len(v),
    }


def _read(trial: Trial, column: str, path: Path) -> tuple[Float, int]:
    try:
        return audio.read(path)
    except AudioError as failure:
        raise _bad(trial, column, failure) from failure


def _read_at(rate_hz: int, trial: Trial, column: str, path: Path) -> Float:
    signal, file_hz = _read(trial, column, path)
    return audio.resample(signal, file_hz, rate_hz)


def _aligned(signal: Float, mixture: Float, trial: Trial, column: str) -> Float:
    """A reference, cut or padded where resampling left it a sample off."""
    if signal.shape[0] != mixture.shape[0] or abs(signal.shape[1] - mixture.shape[1]) > 1:
        sizes = " and ".join(f"{x.shape[0]} x {x.shape[1]}" for x in (signal, mixture))
        raise _bad(trial, column, f"it must have the mixture's channels and length, they have {sizes} samples")
    out = np.zeros_like(mixture)
    n = min(signal.shape[1], mixture.shape[1])
    out[:, :n] = signal[:, :n]
    return out


def _bad(trial: Trial, column: str, reason: object) -> DataError:
    return DataError(f"trial {trial.id}, row {trial.row}, column {column}: {reason}")


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise EngineError(f"{name} is not installed, evaluation needs it: pip install 'edge-tse[eval]'") from failure
