"""Drawings with matplotlib, which is imported when something is drawn: a sheet to draw on, and the picture that it becomes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse.errors import EdgeTseError
from edge_tse.install_line import install_line

__all__ = ["colours", "norm_around_zero", "sheet", "small_png"]

_COLOURS, _GREYS = 256, 16


def sheet(inches: tuple[float, float], paper: str) -> tuple[Any, Any]:
    """An empty figure and its canvas."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as failure:
        raise EdgeTseError(f"matplotlib is not installed, the picture needs it: {install_line('litert')}") from failure
    figure = Figure(figsize=inches, dpi=110, layout="constrained", facecolor=paper)
    return figure, FigureCanvasAgg(figure)


def small_png(pixels: Any, colours: NDArray[np.uint8]) -> bytes:
    """PNG of pixels ``[height, width, 4]`` in these colours ``[at most 256, 3]``, each pixel in the nearest one.

    A page with such a picture is less than half as long. The colours are those that were drawn with: a palette chosen by how often
    a colour occurs (median cut) turned the rarest gains, the largest, from orange into slate.
    """
    from PIL import Image  # matplotlib brings it

    shown = np.asarray(pixels)[..., :3].astype(np.int32)
    used, place = np.unique(shown @ (65536, 256, 1), return_inverse=True)
    chosen = np.empty(len(used), np.uint8)
    for part in np.array_split(np.arange(len(used)), 1 + len(used) // 4096):
        rgb = np.stack([used[part] >> 16, used[part] >> 8 & 255, used[part] & 255], axis=1)
        chosen[part] = np.square(rgb[:, None] - colours[None].astype(np.int32)).sum(axis=-1).argmin(axis=1)
    image = Image.fromarray(chosen[place].reshape(shown.shape[:2]), mode="P")
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def colours(ink: str, paper: str, *maps: str) -> NDArray[np.uint8]:
    """256 colours ``[256, 3]`` to draw with: ink and paper in 16 steps, and the rest of each of these maps of matplotlib."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    steps = np.linspace(0, 1, _GREYS)[:, None]
    greys = np.array(to_rgb(ink)) * (1 - steps) + np.array(to_rgb(paper)) * steps
    each = (_COLOURS - _GREYS) // max(1, len(maps))
    taken = [colormaps[name](np.linspace(0, 1, each))[:, :3] for name in maps]
    found: NDArray[np.uint8] = np.rint(255 * np.concatenate([greys, *taken])).astype(np.uint8)
    return found


def norm_around_zero(low: float, high: float) -> Any:
    """Colour range from ``low`` to ``high`` with 0 in the middle."""
    from matplotlib.colors import TwoSlopeNorm

    return TwoSlopeNorm(0.0, low, high)
