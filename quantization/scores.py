"""Scores of one trial: SI-SDR, PESQ, ESTOI and the rest, at the rate of the model, of each ear. Imports no torch.

PESQ and ESTOI are taken at 16 kHz. Where the talker is absent, what counts is how much quieter the output is than the mixture.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import AudioError, DataError, EngineError
from edge_tse.install_line import install_line
from edge_tse.metrics import attenuation_db, onset_damping_db, over_suppression, si_sdr
from quantization import hearing_scores
from quantization.hearing_scores import fixed_noise
from quantization.trial_list import Trial, read_sound, trial_error

__all__ = ["Item", "Listener", "align", "check", "read_at", "score"]

Float = NDArray[np.float32]
Item = dict[str, Any]
Scores = dict[str, float | None]
"""Scores by metric; None where one could not be computed."""
Reasons = dict[str, str]
"""Reasons by metric why a score is missing."""
Listener = Callable[[Float], Float]
"""Function from mixture ``[ears, samples]`` at the model's rate to the talker, as long."""

RATE_HZ = 16000
"""Rate at which PESQ-WB and ESTOI are defined."""
CLEAN_DB = 60.0
"""A mixture this close to the target is the target: there is nothing to improve."""


def check() -> None:
    """``EngineError``, with what to install, if a package that computes a score is missing."""
    for package in ("pesq", "pystoi"):
        _module(package)


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
    ``DataError`` names the row of a trial that cannot be used.
    """
    item: Item = {"id": trial.id, "condition": trial.condition, "absent": trial.target is None}
    if isinstance(listener, str):
        return {**item, "failed": listener, "scores": {}, "not_computed": {}}
    mixture = read_at(rate_hz, trial, "mixture", trial.mixture)
    target = None if trial.target is None else align(read_at(rate_hz, trial, "target", trial.target), mixture, trial, "target")
    if target is not None and audio.is_silent(target):
        target = None
    if target is not None and (dead := [ear for ear, sound in enumerate(target, 1) if not sound.any()]):
        reason = f"channel {dead[0]} of {len(target)} is silent, so that ear has no score: take that channel out of all files"
        raise trial_error(trial, "target", reason)
    try:
        estimate = listener(mixture)
    except AudioError as failure:
        raise trial_error(trial, "mixture", failure) from failure
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
        others = [align(read_at(rate_hz, trial, "interferer", path), mixture, trial, "interferer") for path in trial.interferers]
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
        other = align(read_at(rate_hz, trial, "interferer", path), mixture, trial, "interferer")
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
    with warnings.catch_warnings(), fixed_noise():
        warnings.simplefilter("error", RuntimeWarning)  # how pystoi says that there is too little speech
        try:
            return float(_module("pystoi").stoi(target, estimate, RATE_HZ, extended=True))
        except (RuntimeWarning, ValueError) as failure:
            raise _NotComputableError(" ".join(str(failure).split())) from failure


def read_at(rate_hz: int, trial: Trial, column: str, path: Path) -> Float:
    """``[channels, samples]`` of a file that ``column`` names, at this rate; ``DataError`` with the row if it cannot be read."""
    signal, file_hz = read_sound(trial, column, path)
    return audio.resample(signal, file_hz, rate_hz)


def align(signal: Float, mixture: Float, trial: Trial, column: str) -> Float:
    """A reference, cut or padded where resampling left it a sample off; ``DataError`` with the row for one of another size."""
    if signal.shape[0] != mixture.shape[0] or abs(signal.shape[1] - mixture.shape[1]) > 1:
        sizes = " and ".join(f"{x.shape[0]} x {x.shape[1]}" for x in (signal, mixture))
        raise trial_error(trial, column, f"it must have the mixture's channels and length, they have {sizes} samples")
    out = np.zeros_like(mixture)
    n = min(signal.shape[1], mixture.shape[1])
    out[:, :n] = signal[:, :n]
    return out


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise EngineError(f"{name} is not installed, evaluation needs it: {install_line('eval')}") from failure
