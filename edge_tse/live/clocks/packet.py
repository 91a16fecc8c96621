"""A packet of one ear's sound, and the counters of a link."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EARS", "LinkHealth", "Packet"]

Float = NDArray[np.float32]

EARS = ("left", "right")
"""Names of the ears, in the order of the channels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Packet:
    """What one ear sent at once, and when it arrived."""

    sequence: int
    """Number of the packet, modulo 65,536."""
    counter: int
    """Samples that the sender's converter had counted before the first of these."""
    rate_hz: int
    """Nominal sample rate of the sender."""
    samples: Float
    """``[n]``"""
    arrived_s: float
    """Time of arrival by the receiver's clock."""
    waited_s: float = 0.0
    """Time between the last sample and the first attempt to send it, by the sender's own clock."""
    ear: str = ""
    """One of :data:`EARS`; empty where the sender does not know."""


@dataclass(frozen=True, kw_only=True)
class LinkHealth:
    """Counters and estimates of one link since the start."""

    packets: int
    lost: int
    """Packets that never came."""
    late: int
    """Packets that came after their sound was due."""
    duplicates: int
    reordered: int
    concealed_samples: int
    restarts: int
    """Times that the sender began to count anew, or paused its counter."""
    way_changes: int
    """Times that the shortest way of a packet became longer or shorter while the clocks went on as before."""
    drift_ppm: float
    """Rate of the sender's clock against the receiver's: positive, it is fast."""
    error_us: float
    """Standard error of the estimated time, as the filter states it."""
    converged_s: float | None
    """Time until that was first below 20 us; None: never."""
    buffer_ms: float | None
    """Buffer beyond the packet that would have been enough for 99.9 % of the last packets; None: there were none."""
