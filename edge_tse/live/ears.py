"""Watch over the ears of a running session: remarks of :mod:`edge_tse.condition`, each said once, when it has lasted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_tse.condition import examine

__all__ = ["EarWatch"]

Float = NDArray[np.float32]


class EarWatch:
    """Says each remark on the ears' condition once, when it has lasted; it is given what both ears heard now and then."""

    def __init__(self, rate_hz: int, level_invariant: bool = False, lasts_s: float = 5.0) -> None:
        self._rate_hz, self._invariant, self._lasts_s = rate_hz, level_invariant, lasts_s
        self._since: dict[str, float] = {}
        self._said: set[str] = set()

    def __call__(self, heard: Float, now_s: float) -> list[str]:
        """Examine ``[ears, samples]`` up to ``now_s`` and return new remarks. Silence says nothing: nobody may be talking."""
        found = examine(heard, self._rate_hz)
        if found.level_dbfs < -60 and found.dead_ear is None:
            return []
        kinds = found.remarks_by_kind(self._invariant)
        self._since = {kind: self._since.get(kind, now_s) for kind in kinds}
        due = [kind for kind, since in self._since.items() if now_s - since >= self._lasts_s and kind not in self._said]
        self._said.update(due)
        return [kinds[kind] for kind in due]
