"""Names that a program that loads the shipped model must know, from the model itself.

``python -m benchmarks.contracts`` writes it between two marks in ``docs/integration.md``. With ``--check`` nothing is written; exit
code 1 says that the page is out of date.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import readme_figures
from benchmarks.readme_figures import table
from edge_tse.artifact import Artifact
from edge_tse.graph import IntegerGraph, Tensor

PAGE = Path(__file__).parent.parent / "docs" / "integration.md"
START, END = "<!-- contracts:start -->", "<!-- contracts:end -->"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One input, output or state."""

    role: str
    """``input``, ``voice`` (in the universal form), ``output`` or ``state``."""
    key: str
    """Key in the signature of a ``.tflite``; the output of a state has ``.next`` behind it."""
    tensors: tuple[str, ...]
    """Names in the graph, and in every file: a state has the one that goes in and the one that comes out."""
    tensor: Tensor


def rows(graph: IntegerGraph) -> list[Row]:
    """Rows in the order of every file: inputs without the states, outputs, states."""
    ends = (("input", graph.inputs), ("voice", tuple(graph.voice)), ("output", graph.outputs))
    found = [Row(role=role, key=n, tensors=(n,), tensor=graph.tensors[n]) for role, names in ends for n in names]
    states = [Row(role="state", key=s.name, tensors=(s.input, s.output), tensor=graph.tensors[s.input]) for s in graph.states]
    return found + states


def block(artifact: Artifact) -> str:
    """Markdown: geometry, and every name with its shape, scale and zero point."""
    frame = artifact.frame
    geometry = {
        "ETSE_SAMPLE_RATE_HZ": frame.sample_rate_hz,
        "ETSE_HOP": frame.hop,
        "ETSE_WINDOW": frame.window,
        "ETSE_SYNTHESIS": frame.synthesis,
        "ETSE_DELAY": frame.delay,
        "ETSE_EARS": frame.ears,
        "ETSE_BANDS": frame.bands,
        "ETSE_SPATIAL_BANDS": frame.spatial_bands,
        "ETSE_FEATURES": frame.features,
    }
    names = [
        (
            row.role,
            f"`{row.key}`",
            " → ".join(f"`{name}`" for name in row.tensors),
            f"{row.tensor.frames} × {row.tensor.channels}",
            f"{row.tensor.scale:.9g}",
            str(row.tensor.zero_point),
        )
        for row in rows(artifact.graph)
    ]
    head = ("role", "signature", "tensor", "frames × channels", "scale", "zero point")
    parts = [
        f"Of the shipped model, {artifact.digest[:12]}:",
        table(("geometry", "value"), [(f"`{name}`", str(value)) for name, value in geometry.items()]),
        table(head, names),
    ]
    return "\n\n".join(part.strip() for part in parts)


def fill(text: str, names: str) -> str:
    """The page with the text between the marks replaced."""
    return readme_figures.fill(text, names, START, END)


def main() -> int:
    """Write, or check."""
    return readme_figures.renew(PAGE, fill(PAGE.read_text(), block(Artifact.shipped())))


if __name__ == "__main__":
    sys.exit(main())
