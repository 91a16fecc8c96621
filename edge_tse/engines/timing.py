"""Step times in two parts: marshalling (tensors to a runtime and back), and the runtime itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_tse.golden import TimedStep

__all__ = ["time_step"]


def time_step(
    clock: Callable[[], float],
    take: Callable[[], object],
    invoke: Callable[[], object],
    give: Callable[[], tuple[NDArray[np.int8], ...]],
) -> TimedStep:
    """Run one step: ``take`` carries tensors to the runtime, ``give`` the outputs back."""
    began_s = clock()
    take()
    called_s = clock()
    invoke()
    returned_s = clock()
    outputs = give()
    return TimedStep(outputs, began_s, called_s, returned_s, clock())
