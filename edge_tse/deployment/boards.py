"""Boards: what the firmware bridge offers to put a model on one and to talk to it, found by name and used through these types."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from edge_tse.artifact import Artifact
from edge_tse.deployment.target import Target
from edge_tse.errors import EngineError
from edge_tse.stream import AnyEngine
from edge_tse.voice import Voice

__all__ = ["Board", "BoardImage", "Boards", "Delivered", "Proof", "boards", "state_folder"]


@dataclass(frozen=True, kw_only=True)
class BoardImage:
    """The file of an image for a board."""

    content: bytes
    model_id: str
    """First half of the digest of the artifact in it."""
    digest: str
    signed_by: str | None
    """Public key; None for an image that nobody signed."""
    counter: int
    """Security counter: a board that has kept it goes back to nothing lower."""
    model: Artifact | None
    """What is in it, if it was built here and not read from a file."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Golden frames that went over the link and back."""

    engine: str
    frames: int
    worst_lsb: int
    mismatch_rate: float


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """An image that was put onto a board, read back and compared."""

    way: str
    """What put it there."""
    slot: int | None
    """Which of two, where there are two."""
    proof: Proof | None
    """None where nothing tells how to reach the board, or what is in the image: in a slot it is on trial until it has answered."""


class Board(Protocol):
    """A flashed board on its link."""

    @property
    def name(self) -> str:
        """Its kernels and its target, for people."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What it says of itself: ``target``, ``core``, ``kernels``, ``model`` and its geometry."""

    @property
    def link(self) -> Mapping[str, int]:
        """Commands that were ``repeated`` and frames that arrived ``damaged``."""

    def use(self, model: Artifact, voice: Voice | None) -> None:
        """The model that was flashed, with this voice in force from the next frame on. ``DeviceError`` if it refuses the voice."""

    def prove(self) -> Proof:
        """Golden frames of what is in use, over the link. ``ParityError`` past what its kernels state."""

    def confirm(self) -> None:
        """The image on it does what it should: a board that has it on trial keeps it."""

    def engine(self) -> AnyEngine:
        """The board in place of a network here. ``DeviceError`` if it runs another model than what is in use."""

    def stats(self) -> Mapping[str, object]:
        """How it does, in its own words."""


class Boards(Protocol):
    """What a package offers that builds images and drives boards."""

    def image(
        self, target: Target, source: Path | None, voice: Path | None, key: Path | None, counter: int | None = None
    ) -> BoardImage:
        """An image of a model (the shipped one if None) with a voice folded in, or one made before; with another security counter
        if one is given, signed if there is a key. ``TargetError`` if the counter is none."""

    def save(self, image: BoardImage, target: Target, to: Path) -> None:
        """Write it. ``TargetError`` if it is for another target."""

    def deliver(
        self,
        image: BoardImage,
        target: Target,
        state: Path,
        *,
        port: str | None = None,
        chip: str | None = None,
        via: str | None = None,
        trust: Sequence[Path] | None = None,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Delivered:
        """Put it onto the board, which from then on takes only what owners of ``trust`` signed, and let the board prove itself.

        ``ArtifactError`` if the image is not signed, or has no security counter, as the board asks.
        """

    def connected(self, target: Target, port: str | None, state: Path) -> AbstractContextManager[Board]:
        """The link to a flashed board, given back at the end. ``DeviceError`` if it is another target's."""


def boards() -> Boards:
    """What the firmware bridge offers. ``EngineError`` if it, or a package that it needs, is not installed."""
    try:
        found: Boards = import_module("firmware_bridge.runtime").BOARDS
    except ModuleNotFoundError as failure:
        raise EngineError(f"{failure.name} is not installed, this verb needs it: pip install 'edge-tse[firmware]'") from failure
    return found


def state_folder() -> Path:
    """Where emulated boards keep their memory (XDG base directory specification)."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "edge-tse"
