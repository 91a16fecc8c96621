from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

_Constants: TypeAlias = tuple[float, float, float, float, float, float]
_Float: TypeAlias = NDArray[np.float32]

def beam(frames: int, bins: int, constants: _Constants, ears: _Float, part: _Float, past: _Float, out: _Float, /) -> None: ...
def slope(
    frames: int,
    bins: int,
    constants: _Constants,
    ears: _Float,
    part: _Float,
    past: _Float,
    by_out: _Float,
    by_past: _Float,
    by_part: _Float,
    /,
) -> None: ...
