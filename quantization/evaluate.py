"""Quality of an artifact on a list of trials: one mixture, one enrolled talker, one reference each. Imports no torch.

The list is a CSV with the columns ``id, mixture, enrollment, target, interferer, condition``; paths are relative to it. Several
enrollment clips (or interferers) are separated by ``;``. An empty or silent target means that the talker is absent: then what
counts is how much quieter the output is than the mixture. References line up with the mixture sample for sample, with its channels.
All scores are taken at the model's rate, of each ear; PESQ and ESTOI at 16 kHz.

A mean hides the talkers who are lost, so the report also holds the tails: by ratio of target to interferers, by how like their
voices are, and by sex where a column ``sexes`` tells (the target's first, then the interferers', separated by ``;``).
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
from functools import partial
from importlib import metadata
from itertools import islice, pairwise, repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError, DataError, EngineError
from edge_tse.extract import extract
from edge_tse.metrics import attenuation_db, onset_damping_db, over_suppression, si_sdr
from edge_tse.personalization import personalize
from edge_tse.report import environment, versions
from edge_tse.voice import Voice, VoiceModel
from quantization import hearing_scores

__all__ = [
    "COLUMNS",
    "Listener",
    "Trial",
    "enrollment_clips",
    "evaluate",
    "personal_listener",
    "read_trials",
    "score",
    "summary",
    "tails",
]

Float = NDArray[np.float32]
Item = dict[str, Any]
Scores = dict[str, float | None]
"""Scores by metric; None where one could not be computed."""
Reasons = dict[str, str]
"""Reasons by metric why a score is missing."""
Listener = Callable[[Float], Float]
"""Function from mixture ``[ears, samples]`` at the model's rate to the talker, as long."""

COLUMNS = ("id", "mixture", "enrollment", "target", "interferer", "condition")
RATE_HZ = 16000
"""Rate at which PESQ-WB and ESTOI are defined."""
CLEAN_DB = 60.0
"""A mixture this close to the target is the target: there is nothing to improve."""
SIR_EDGES_DB = (-5.0, -2.5, 0.0, 2.5, 5.0)
SIMILARITY_EDGES = (-1.0, 0.0, 0.2, 0.4, 1.0)
"""Edges of classes of the cosine between the enrolled voice and the interferer that is most like it."""
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
    sexes: tuple[str, ...]
    """Sexes of the target and of each interferer, as the list tells; an empty string where it does not know."""
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


def evaluate(
    trials_csv: Path,
    artifact: Artifact,
    engine: str = "litert",
    progress: Callable[[float], None] | None = None,
    limit: int | None = None,
    jobs: int = 1,
    ears: hearing_scores.Ears | None = None,
) -> dict[str, Any]:
    """Scores of every trial (``items``), their summary by condition (``conditions``) and of the hard ones (``tails``).

    ``ears`` are the audiograms of a listener: then there are HASPI and HASQI, too, at seconds of computing each.

    ``progress`` is told the fraction done; ``limit`` takes the first so many trials; ``jobs`` processes share the work, with the
    same result (they are spawned: a script that asks for more than one needs a ``__main__`` guard). ``DataError`` names the row of
    a trial that cannot be used; one whose enrollment holds too little speech is counted as failed instead, with the reason.
    """
    path = Path(trials_csv)
    pesq, pystoi = _module("pesq"), _module("pystoi")
    del pesq, pystoi  # asked for now: not after an hour
    if ears is not None:
        hearing_scores.check()
    trials = read_trials(path)[:limit]
    items: list[Item] = []
    for item in _scored(trials, artifact, engine, ears) if jobs == 1 else _shared(trials, artifact, engine, jobs, ears):
        items.append(item)
        if progress is not None:
            progress(len(items) / len(trials))
    by_condition: dict[str, list[Item]] = {}
    for item in items:
        by_condition.setdefault(item["condition"], []).append(item)
    return {
        "conditions": {name: summary(part) for name, part in by_condition.items()},
        "tails": tails(items),
        "artifact": artifact.digest,
        "engine": open_network(artifact, engine).name,
        "trials": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": len(items)},
        "versions": {
            **versions(),
            **{name: metadata.version(name) for name in ("pesq", "pystoi", *(["pyclarity"] if ears else []))},
        },
        "audiograms": None if ears is None else {side: ear.thresholds for side, ear in zip(("left", "right"), ears, strict=True)},
        "environment": environment(),
        "items": items,
    }


def _shared(
    trials: Sequence[Trial], artifact: Artifact, engine: str, jobs: int, ears: hearing_scores.Ears | None
) -> Iterator[Item]:
    """Scores as of :func:`_scored`, in processes that inherit nothing, so that no runtime is forked with its threads."""
    content = artifact.to_bytes()
    source = iter(trials)
    chunks = list(iter(lambda: list(islice(source, _CHUNK)), []))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_chunk, repeat(content), repeat(engine), repeat(ears), chunks):
            yield from part


def _chunk(content: bytes, engine: str, ears: hearing_scores.Ears | None, trials: list[Trial]) -> list[Item]:
    return list(_scored(trials, Artifact.from_bytes(content), engine, ears))


def _scored(trials: Sequence[Trial], artifact: Artifact, engine: str, ears: hearing_scores.Ears | None) -> Iterator[Item]:
    enrolled: tuple[Path, ...] = ()
    voice: Voice | None = None
    listener: Listener | str = ""
    for trial in trials:
        if trial.enrollment != enrolled:  # one voice is kept: where a list repeats talkers, it does so in a row
            enrolled, (voice, listener) = trial.enrollment, personal_listener(trial, artifact, engine)
        item = score(trial, artifact.frame.sample_rate_hz, listener, ears=ears)
        if voice is not None and not item["absent"]:
            item["similarity"] = _similarity(trial, artifact.voice_model, voice)
        yield item


def personal_listener(trial: Trial, artifact: Artifact, engine: str) -> tuple[Voice | None, Listener | str]:
    """The enrolled talker with a listener for that one, or None and why this talker cannot be enrolled."""
    try:
        voice = enroll_clips(artifact.voice_model, enrollment_clips(trial)).voice
    except AudioError as failure:
        return None, str(failure)
    own = personalize(artifact, voice)
    return voice, partial(_extracted, Engine(own, open_network(own, engine)))


def _extracted(engine: Engine, mixture: Float) -> Float:
    return extract(mixture, engine.frame.sample_rate_hz, engine).signal


def _similarity(trial: Trial, model: VoiceModel, voice: Voice) -> float | None:
    """Cosine between the enrolled voice and the interferer that is most like it; None if none of them can be enrolled."""
    found = []
    for path in trial.interferers:
        try:
            other = enroll_clips(model, [(path.name, *audio.read(path))]).voice
        except AudioError:
            continue
        found.append(float(voice.embedding @ other.embedding))
    return round(max(found), 3) if found else None


def enrollment_clips(trial: Trial) -> list[tuple[str, Float, int]]:
    """Name, ``[channels, samples]`` and rate in Hz of each enrollment clip: for :func:`edge_tse.enrollment.enroll_clips`."""
    return [(path.name, *_read(trial, "enrollment", path)) for path in trial.enrollment]


def score(
    trial: Trial,
    rate_hz: int,
    listener: Listener | str,
    *,
    of_mixture: bool = True,
    ears: hearing_scores.Ears | None = None,
) -> Item:
    """Scores of a ``listener`` on a trial at ``rate_hz``; a string says why there is no output, and the trial counts as failed.

    Without ``of_mixture`` PESQ, ESTOI and what ``ears`` get of the mixture, the same for every listener, are left out.
    ``DataError`` as :func:`evaluate`.
    """
    item: Item = {"id": trial.id, "condition": trial.condition, "absent": trial.target is None}
    if isinstance(listener, str):
        return {**item, "failed": listener, "scores": {}, "not_computed": {}}
    mixture = _read_at(rate_hz, trial, "mixture", trial.mixture)
    target = None if trial.target is None else _aligned(_read_at(rate_hz, trial, "target", trial.target), mixture, trial, "target")
    if target is not None and audio.is_silent(target):
        target = None
    try:
        estimate = listener(mixture)
    except AudioError as failure:
        raise _bad(trial, "mixture", failure) from failure
    item["absent"] = target is None
    if target is None:
        scores, reasons = _absent(estimate, mixture)
    else:
        scores, reasons = _present(trial, estimate, mixture, target, rate_hz, of_mixture)
        if ears is not None:
            signals = {"": estimate} | ({"_mixture": mixture} if of_mixture else {})
            indices, missing = hearing_scores.hearing_scores(target, signals, rate_hz, ears)
            scores, reasons = scores | indices, reasons | missing
        item |= _circumstances(trial, mixture, target, rate_hz)
    rounded = {name: value if value is None else round(value, 4) for name, value in scores.items()}
    return {**item, "failed": None, "scores": rounded, "not_computed": reasons}


def _circumstances(trial: Trial, mixture: Float, target: Float, rate_hz: int) -> Item:
    """Circumstances that may make a trial hard."""
    out: Item = {}
    if len(trial.sexes) > 1 and all(trial.sexes):
        out["same_sex"] = trial.sexes[0] in trial.sexes[1:]
    try:
        others = [
            _aligned(_read_at(rate_hz, trial, "interferer", path), mixture, trial, "interferer") for path in trial.interferers
        ]
    except DataError:  # scores["wrong_talker"] says so
        return out
    if others and (power := float(sum(np.sum(np.square(x, dtype=np.float64)) for x in others))):
        out["sir_db"] = round(10 * float(np.log10(np.sum(np.square(target, dtype=np.float64)) / power)), 2)
    return out


def _absent(estimate: Float, mixture: Float) -> tuple[Scores, Reasons]:
    if audio.is_silent(mixture):
        return {"attenuation_db": None}, {"attenuation_db": "the mixture is silent"}
    return {"attenuation_db": attenuation_db(estimate, mixture)}, {}


def _present(
    trial: Trial, estimate: Float, mixture: Float, target: Float, rate_hz: int, of_mixture: bool
) -> tuple[Scores, Reasons]:
    before, after = si_sdr(mixture, target), si_sdr(estimate, target)
    scores: Scores = {"si_sdr_mixture": before, "si_sdr": after, "si_sdr_i": after - before}
    scores["over_suppression"] = over_suppression(estimate, target, rate_hz)
    reasons: Reasons = {}
    try:
        scores["onset_damping_db"] = onset_damping_db(estimate, target, rate_hz)
    except ValueError as failure:
        scores["onset_damping_db"] = None
        reasons["onset_damping_db"] = str(failure)
    if before > CLEAN_DB:
        scores["si_sdr_i"] = None
        reasons["si_sdr_i"] = "the mixture is the target alone"
    wanted = audio.resample(target, rate_hz, RATE_HZ)
    for suffix, signal in (("", estimate), *([("_mixture", mixture)] if of_mixture else [])):
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


def tails(items: Sequence[Item]) -> dict[str, dict[str, dict[str, Any]]]:
    """SI-SDR improvement of trials with interferers by what makes them hard: ``{circumstance: {class: figures}}``.

    Circumstances are ``sir_db``, ``similarity`` and ``sex``; a class that no trial falls into is left out.
    """
    there = [item for item in items if item["scores"].get("si_sdr_i") is not None and "sir_db" in item]
    classes: dict[str, dict[str, list[Item]]] = {
        "sir_db": _classes(there, "sir_db", SIR_EDGES_DB),
        "similarity": _classes([item for item in there if item.get("similarity") is not None], "similarity", SIMILARITY_EDGES),
        "sex": {
            name: [item for item in there if item.get("same_sex") is same] for name, same in (("same", True), ("other", False))
        },
    }
    return {
        circumstance: {name: _tail(part) for name, part in parts.items() if part}
        for circumstance, parts in classes.items()
        if any(parts.values())
    }


def _classes(items: Sequence[Item], key: str, edges: Sequence[float]) -> dict[str, list[Item]]:
    """Classes of values, from each edge up to the next; the first and the last class are open."""
    place = np.digitize([item[key] for item in items], edges[1:-1])
    return {
        f"{low:g} to {high:g}": [item for item, at in zip(items, place, strict=True) if at == i]
        for i, (low, high) in enumerate(pairwise(edges))
    }


def _tail(items: Sequence[Item]) -> dict[str, Any]:
    confused = [item["scores"]["wrong_talker"] for item in items if item["scores"].get("wrong_talker") is not None]
    gain = _spread([item["scores"]["si_sdr_i"] for item in items])
    return {"si_sdr_i": gain, "wrong_talker": float(np.mean(confused)) if confused else None}


def summary(items: Sequence[Item]) -> dict[str, Any]:
    """Summary of items, of one condition or several together."""
    values: dict[str, list[float]] = {}
    missing: dict[str, Counter[str]] = {}
    for item in items:
        for name, value in item["scores"].items():
            if value is not None:
                values.setdefault(name, []).append(value)
        for name, reason in item["not_computed"].items():
            missing.setdefault(name, Counter())[reason] += 1
    failed = Counter(item["failed"] for item in items if item["failed"])
    ratios = ("si_sdr", "si_sdr_i", "attenuation_db", "onset_damping_db")
    means = ["si_sdr_mixture", "pesq_wb", "pesq_wb_mixture", "estoi", "estoi_mixture", "over_suppression", "wrong_talker"]
    means += [name + suffix for name in hearing_scores.NAMES for suffix in ("", "_mixture") if name + suffix in values]
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
        "p5": float(np.percentile(v, 5)),
        "p10": float(np.percentile(v, 10)),
        "p90": float(np.percentile(v, 90)),
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
