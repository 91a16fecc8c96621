"""Profiling: time and memory of a step by part and operator, and the page that shows them."""

from __future__ import annotations

from edge_tse.profiling.operator_times import OperatorTime
from edge_tse.profiling.profile import compare, load_profile

__all__ = ["OperatorTime", "compare", "load_profile"]
