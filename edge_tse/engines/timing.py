"""Step times in two parts: marshalling (tensors to a runtime and back), and the runtime itself."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["time_step"]


def time_step(
    clock: Callable[[], float],
    take: Callable[[], object],
    invoke: Callable[[], object],
    give: Callable[[], object] | None = None,
) -> tuple[float, float]:
    """Run one step and return seconds spent (marshalling, invoking) by ``clock``; without ``give`` nothing is carried back."""
    start = clock()
    take()
    called = clock()
    invoke()
    returned = clock()
    if give is None:
        return called - start, returned - called
    give()
    return called - start + clock() - returned, returned - called
