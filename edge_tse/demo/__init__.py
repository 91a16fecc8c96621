"""The demonstration: cases to extract from, and the sound, the picture and the page that it leaves."""

from __future__ import annotations

from edge_tse.demo.cases import Case, Outcome, Shown, Sound, case_of, own_case, shipped_cases
from edge_tse.demo.demonstration import run

__all__ = ["Case", "Outcome", "Shown", "Sound", "case_of", "own_case", "run", "shipped_cases"]
