"""Profiling: where the time and the memory of a step go, and the page that shows it."""

from __future__ import annotations

from edge_tse.profiling.operator_times import OperatorTime
from edge_tse.profiling.profile import compare, load_profile

__all__ = ["OperatorTime", "compare", "load_profile"]
