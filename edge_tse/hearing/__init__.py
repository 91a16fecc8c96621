"""The hearing aid after extraction: the share of the room left in, the gain that the wearer's ears need, and the loudness limit."""

from __future__ import annotations

from edge_tse.hearing.calibration import Calibration, load_calibration, save_calibration
from edge_tse.hearing.chain import Chain, Hearing, load_hearing
from edge_tse.hearing.limiter import Limiter
from edge_tse.hearing.openings import Alarm, OwnVoice
from edge_tse.hearing.prescription import Audiogram, parse_audiogram

__all__ = [
    "Alarm",
    "Audiogram",
    "Calibration",
    "Chain",
    "Hearing",
    "Limiter",
    "OwnVoice",
    "load_calibration",
    "load_hearing",
    "parse_audiogram",
    "save_calibration",
]
