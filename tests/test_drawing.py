"""Pictures keep the colours that they were drawn with."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from edge_tse.drawing import colours, small_png

INK, PAPER = "#1f2630", "#ffffff"


def test_the_rarest_colour_of_a_map_stays_what_it_is() -> None:
    """One pixel of the largest gain among a million others: a palette by frequency loses it."""
    rng = np.random.default_rng(0)
    levels = colormaps["cividis"](rng.random((900, 1000)))
    levels[450, 500] = colormaps["PuOr_r"](1.0)
    drawn = np.rint(255 * levels).astype(np.uint8)
    content = small_png(drawn, colours(INK, PAPER, "cividis", "PuOr_r"))
    kept = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(kept[450, 500] - drawn[450, 500, :3]).max() <= 2
    assert np.abs(kept - drawn[..., :3]).max() <= 8


@pytest.mark.parametrize("maps", [(), ("cividis",), ("cividis", "PuOr_r")])
def test_ink_and_paper_are_always_there(maps: tuple[str, ...]) -> None:
    found = colours(INK, PAPER, *maps)
    assert len(found) <= 256
    assert {(0x1F, 0x26, 0x30), (255, 255, 255)} <= {tuple(map(int, colour)) for colour in found}
