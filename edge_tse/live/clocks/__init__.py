"""Two earbuds, two clocks: packets of each ear over a link of its own become sound of both ears at the same moments."""

from __future__ import annotations

from edge_tse.live.clocks.aligner import Aligner
from edge_tse.live.clocks.clock import Clock, Line
from edge_tse.live.clocks.ear import Ear
from edge_tse.live.clocks.packet import EARS, LinkHealth, Packet
from edge_tse.live.clocks.simulation import Air, Crystal, Heard, receive, simulate

__all__ = ["EARS", "Air", "Aligner", "Clock", "Crystal", "Ear", "Heard", "Line", "LinkHealth", "Packet", "receive", "simulate"]
