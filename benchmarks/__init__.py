"""Questions with answers on file: ``python -m benchmarks.NAME`` measures and writes ``results/NAME.json``.

A figure in the README or in a decision record comes from one of these files, never from memory.
"""

from pathlib import Path

__all__ = ["RESULTS"]

RESULTS = Path(__file__).parent / "results"
