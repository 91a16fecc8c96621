"""Deployment: the boards, the fit of a model on one, and the file that it loads."""

from __future__ import annotations

from edge_tse.deployment.compilation import Compiled, compile_for
from edge_tse.deployment.fit import Fit, fits
from edge_tse.deployment.target import Target, find_target, load_target, targets

__all__ = ["Compiled", "Fit", "Target", "compile_for", "find_target", "fits", "load_target", "targets"]
