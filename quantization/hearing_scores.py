"""Scores for a listener with a hearing loss: HASPI (intelligibility) and HASQI (quality), version 2, through pyclarity.

Kates & Arehart, "The Hearing-Aid Speech Perception Index (HASPI) version 2", Speech Communication 131, 2021, and "The hearing-aid
speech quality index (HASQI) version 2", JAES 62(3), 2014. What is heard first passes NAL-R for the same audiogram (pyclarity's
filter, the reference for ours); what it is compared with is the talker alone, at a conversational 65 dB SPL. Of two ears the
better one counts. Only the prescription is applied: neither compression nor the limiter of :mod:`edge_tse.hearing.chain`.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.errors import EngineError
from edge_tse.hearing.prescription import CONVERSATION_DB_SPL, Audiogram
from edge_tse.install_line import install_line

__all__ = ["NAMES", "Ears", "check", "fixed_noise", "hearing_scores"]

Float = NDArray[np.float32]
Index = Callable[..., Any]
Ears = tuple[Audiogram, Audiogram]
"""Left and right."""

NAMES = ("haspi", "hasqi")
RATE_HZ = 16000
_HZ = (250, 500, 1000, 2000, 4000, 6000)
"""Frequencies at which both indices take the thresholds."""
_TAPS = 220  # as pyclarity's own baselines
_EQUALIZES_REFERENCE = 1  # HASQI's: the reference comes without NAL-R


def check() -> None:
    """``EngineError``, with what to install, if the indices cannot be computed here."""
    _indices()


def hearing_scores(
    target: Float, signals: Mapping[str, Float], rate_hz: int, ears: Ears
) -> tuple[dict[str, float | None], dict[str, str]]:
    """``haspi`` and ``hasqi`` with each suffix of ``signals``, in [0, 1], of the better ear; None and a reason if neither has any.

    Signals are ``[channels, n]``, aligned with the target; one channel is heard by both ears.
    """
    haspi, hasqi = _indices()
    wanted = audio.resample(target, rate_hz, RATE_HZ).astype(np.float64)
    # RMS 1 at the louder ear is the level of conversation, and the ears keep their difference.
    unit = 1 / max(float(np.sqrt(np.mean(channel**2))) for channel in wanted)
    scores: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for suffix, signal in signals.items():
        heard = audio.resample(signal, rate_hz, RATE_HZ).astype(np.float64)
        found: dict[str, list[float]] = {name: [] for name in NAMES}
        for number, ear in enumerate(ears if ears[0] != ears[1] or len(heard) > 1 else ears[:1]):
            x, y = (unit * each[min(number, len(each) - 1)] for each in (wanted, heard))
            loss = _audiogram(ear)
            aided = np.convolve(y, _nal_r(loss))
            try:
                found["haspi"].append(_compute(haspi, x, RATE_HZ, aided, RATE_HZ, loss, CONVERSATION_DB_SPL))
                found["hasqi"].append(_compute(hasqi, x, RATE_HZ, aided, RATE_HZ, loss, _EQUALIZES_REFERENCE, CONVERSATION_DB_SPL))
            except (ValueError, IndexError, RuntimeWarning) as failure:
                reasons |= {name + suffix: " ".join(str(failure).split()) for name in NAMES}
        for name in NAMES:
            scores[name + suffix] = max(found[name], default=None)
            if found[name]:
                reasons.pop(name + suffix, None)
    return scores, reasons


def _indices() -> tuple[Index, Index]:
    return _module("clarity.evaluator.haspi").haspi_v2, _module("clarity.evaluator.hasqi").hasqi_v2


def _compute(index: Index, *arguments: object) -> float:
    """First value that an index returns."""
    with fixed_noise(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # silence divides by nothing
        value = float(index(*arguments)[0])
    if not np.isfinite(value):
        raise ValueError("the index is not a number")
    return min(1.0, max(0.0, value))


@contextmanager
def fixed_noise() -> Iterator[None]:
    """Around a measure that dithers with NumPy's global generator: the same noise every time, and the generator put back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _audiogram(ear: Audiogram) -> object:
    return _module("clarity.utils.audiogram").Audiogram(levels=ear.at(_HZ), frequencies=np.array(_HZ))


def _nal_r(loss: object) -> NDArray[np.float64]:
    taps: NDArray[np.float64] = _module("clarity.enhancer.nalr").NALR(_TAPS, RATE_HZ).build(loss)[0]
    return taps


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise EngineError(
            f"{failure.name or 'pyclarity'} is not installed, --hearing needs it: "
            f"{install_line('hearing')} && pip install --no-deps pyclarity==0.9.0"
        ) from failure
