"""Questions with answers on file: ``python -m benchmarks.NAME`` measures and writes ``results/NAME.json``.

A figure in the README or in a decision record comes from one of these files, never from memory.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESULTS", "interval"]

RESULTS = Path(__file__).parent / "results"


def interval(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Mean of differences over the same mixtures, and half its 95 % interval."""
    return float(differences.mean()), float(1.96 * differences.std(ddof=1) / math.sqrt(len(differences)))
