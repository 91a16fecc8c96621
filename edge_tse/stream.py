"""Streams: a hop of sound in and a hop of the talker out, the interface of a model on this machine and on a board."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_tse.frame import FrameSpec

if TYPE_CHECKING:
    from edge_tse.voice import Voice

__all__ = ["AnyEngine", "AnyStep", "GainStep", "VoicedEngine"]

Float = NDArray[np.float32]


class AnyStep(Protocol):
    """One stream from its beginning."""

    def __call__(self, hop: Float, /) -> Float:
        """Take float32 ``[ears, frame.hop]`` and give the same shape, ``frame.delay`` samples later."""

    def reset(self) -> None:
        """Forget the past: the next hop is the first."""


@runtime_checkable
class GainStep(AnyStep, Protocol):
    """A step that tells the gain it applied; a board does not."""

    @property
    def gain(self) -> Float:
        """Gain of the last hop, ``[bands]``."""


@runtime_checkable
class VoicedEngine(Protocol):
    """An engine that may hear somebody else while it runs: :class:`edge_tse.engines.Engine` on a universal model."""

    def switch_to(self, voice: Voice, /) -> Callable[[], None]:
        """Prepare a switch to this voice, which then takes effect with the next step and keeps the past."""


class AnyEngine(Protocol):
    """A personalized model that runs: :class:`edge_tse.engines.Engine` on this machine, ``DeviceEngine`` on a board."""

    @property
    def frame(self) -> FrameSpec:
        """Geometry of a step."""

    def start(self, ears: int) -> AnyStep:
        """Begin a stream of ``ears`` channels; the one before ends."""
