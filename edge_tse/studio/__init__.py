"""The studio: a page on this machine that records voices, starts a live session and steers it while somebody listens."""

from __future__ import annotations

from edge_tse.studio.program import Program, Sitting
from edge_tse.studio.server import application, serve

__all__ = ["Program", "Sitting", "application", "serve"]
