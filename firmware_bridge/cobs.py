"""COBS: bytes without a zero among them, so that a zero can end a frame.

S. Cheshire and M. Baker, "Consistent overhead byte stuffing", IEEE/ACM Transactions on Networking 7(2), 1999.
"""

from __future__ import annotations

__all__ = ["LONGEST_RUN", "stuff", "unstuff"]

LONGEST_RUN = 254
"""Bytes that one added byte speaks for, at most."""


def stuff(raw: bytes) -> bytes:
    """Each run without a zero behind a byte that says how far it is to the next.

    At most ``len(raw) // LONGEST_RUN + 1`` bytes more than ``raw``.
    """
    out = bytearray()
    for run in raw.split(b"\0"):
        while len(run) >= LONGEST_RUN:
            out += b"\xff" + run[:LONGEST_RUN]
            run = run[LONGEST_RUN:]
        out += bytes([len(run) + 1]) + run
    return bytes(out)


def unstuff(stuffed: bytes) -> bytes | None:
    """Inverse of :func:`stuff`; None for what it cannot have made."""
    out = bytearray()
    at = 0
    while at < len(stuffed):
        distance = stuffed[at]
        run = stuffed[at + 1 : at + distance]
        if not distance or len(run) != distance - 1:
            return None
        out += run
        at += distance
        if distance <= LONGEST_RUN and at < len(stuffed):
            out.append(0)
    return bytes(out)
