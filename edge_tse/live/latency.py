"""Latency of a session, by geometry alone: before there is one."""

from __future__ import annotations

import math
from math import gcd

from edge_tse.frame import FrameSpec
from edge_tse.live.loop import Latency, Loop
from edge_tse.live.resampling import Resampler

__all__ = ["ahead", "device_hop", "session_latency"]


def session_latency(frame: FrameSpec, loop: Loop) -> Latency:
    """Latency of a session with this geometry in its parts, before there is a session."""
    return ahead(frame, loop)[2]


def device_hop(frame: FrameSpec, loop: Loop) -> int:
    """Samples of the device in a hop, rounded up."""
    return math.ceil(frame.hop * (loop.rate_hz / frame.sample_rate_hz))


def ahead(frame: FrameSpec, loop: Loop) -> tuple[int, int, Latency]:
    """Position of the talker's first sample, and the latency in samples of the device and in its parts."""
    device_hz, model_hz = loop.rate_hz, frame.sample_rate_hz
    delay_s = Resampler(device_hz, model_hz, 1).delay_s + Resampler(model_hz, device_hz, 1).delay_s
    ratio, hop = loop.rate_hz / frame.sample_rate_hz, device_hop(frame, loop)
    resampling = math.ceil(delay_s * loop.rate_hz)
    shared = gcd(loop.block, hop) if loop.steady and not resampling else 1
    margin = round(loop.margin_s * loop.rate_hz)
    # Once a block is in, the engine has until the next to turn it into hops: 0015 shows that this many samples always suffice.
    start = loop.block + hop - shared + resampling + margin
    # Samples of the device between a sound in a block and the same sound in another.
    samples = start + round(frame.delay * ratio)
    seconds = frame.algorithmic_latency_s, resampling / loop.rate_hz, margin / loop.rate_hz
    latency = Latency(
        algorithmic_s=seconds[0],
        resampling_s=seconds[1],
        margin_s=seconds[2],
        turnaround_s=samples / loop.rate_hz - sum(seconds),
    )
    return start, samples, latency
