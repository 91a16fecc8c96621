"""Drawings with matplotlib, which is imported when something is drawn: a sheet to draw on, and the picture that it becomes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from edge_tse.errors import EdgeTseError

__all__ = ["norm_around_zero", "sheet", "small_png"]


def sheet(inches: tuple[float, float], paper: str) -> tuple[Any, Any]:
    """An empty figure and its canvas."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as failure:
        raise EdgeTseError("matplotlib is not installed, the picture needs it: pip install 'edge-tse[litert]'") from failure
    figure = Figure(figsize=inches, dpi=110, layout="constrained", facecolor=paper)
    return figure, FigureCanvasAgg(figure)


def small_png(pixels: Any) -> bytes:
    """PNG with a palette of 256 colours: nothing visible is lost in two colour maps, and the page is less than half as long."""
    from PIL import Image  # matplotlib brings it

    image = Image.fromarray(np.asarray(pixels)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def norm_around_zero(low: float, high: float) -> Any:
    """Colour range from ``low`` to ``high`` with 0 in the middle."""
    from matplotlib.colors import TwoSlopeNorm

    return TwoSlopeNorm(0.0, low, high)
