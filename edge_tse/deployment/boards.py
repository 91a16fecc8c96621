"""Boards: types of what the firmware bridge offers (images, boards, links), found by name and used through these alone."""

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
from edge_tse.install_line import install_line
from edge_tse.live.links import EarLink
from edge_tse.stream import AnyEngine
from edge_tse.voice import Voice

__all__ = ["Board", "BoardImage", "Boards", "Delivered", "Proof", "Rehearsed", "boards", "state_folder"]


@dataclass(frozen=True, kw_only=True)
class BoardImage:
    """The file of an image for a board."""

    content: bytes
    model_id: str
    """First half of the digest of the artifact in it."""
    digest: str
    signed_by: str | None
    """Public key of the signer; None for an unsigned image."""
    counter: int
    """Security counter: a board that has kept an image starts none with a lower counter."""
    model: Artifact | None
    """The artifact in the image, if it was built here and not read from a file."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Result of golden frames that went over the link and back."""

    engine: str
    frames: int
    worst_lsb: int
    mismatch_rate: float


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """An image that was put onto a board, read back and compared."""

    way: str
    """Tool or link that put it there."""
    slot: int | None
    """Slot it was put into, on a board that has two."""
    proof: Proof | None
    """Result of the golden frames; None if the board could not be reached, or the artifact is not known. An image in a slot
    then stays on trial until the board has answered."""


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """What it would take to put an image onto a board, with nothing done."""

    flasher: str
    """Tool or link that would put it there."""
    slot: int | None
    """Slot that it would go into, on a board that has two."""
    steps: tuple[str, ...]
    """What would be done, in words or as commands."""


class Board(Protocol):
    """A flashed board on its link."""

    @property
    def name(self) -> str:
        """Kernels and target of the board, for people."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Statement of the board about itself: ``target``, ``core``, ``kernels``, ``model`` and its geometry."""

    @property
    def link(self) -> Mapping[str, int]:
        """Number of commands that were ``repeated`` and of frames that arrived ``damaged``."""

    def use(self, model: Artifact, voice: Voice | None) -> None:
        """Put this voice in force from the next frame on. ``DeviceError`` if the board refuses it."""

    def prove(self) -> Proof:
        """Replay golden frames of the model in use over the link. ``ParityError`` past the tolerance of the board's kernels."""

    def confirm(self) -> None:
        """Keep the image that the board has on trial."""

    def engine(self) -> AnyEngine:
        """The board as an engine. ``DeviceError`` if it runs another model than the one in use."""

    def stats(self) -> Mapping[str, object]:
        """Statistics that the board states about itself."""


class Boards(Protocol):
    """Interface of a package that builds images and drives boards."""

    def image(
        self, target: Target, source: Path | None, voice: Path | None, key: Path | None, counter: int | None = None
    ) -> BoardImage:
        """An image of a model (the shipped one if None) with a voice folded in, or one made before; with another security counter
        if one is given, signed if there is a key. ``TargetError`` if the counter is none."""

    def save(self, image: BoardImage, target: Target, to: Path) -> None:
        """Write the image to a file. ``TargetError`` if it is for another target."""

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
        """Put the image onto the board, restrict it to images signed by owners of ``trust``, and replay golden frames on it.

        ``ArtifactError`` if the image is not signed, or has no security counter, as the board asks.
        """

    def rehearse(
        self,
        image: BoardImage,
        target: Target,
        state: Path,
        *,
        port: str | None = None,
        chip: str | None = None,
        via: str | None = None,
        trust: Sequence[Path] | None = None,
    ) -> Rehearsed:
        """Check all that :meth:`deliver` checks before it touches the board, and say what it would do. Errors as there."""

    def connect(self, target: Target, port: str | None, state: Path, baud: int | None = None) -> AbstractContextManager[Board]:
        """The link to a flashed board, closed at the end; ``baud`` is that of a serial port.

        ``DeviceError`` if the board is another target's.
        """

    def listen(self, port: str) -> EarLink:
        """The earbud that sends at ``port``. ``LinkError`` if it does not open."""


def boards() -> Boards:
    """The firmware bridge's offer. ``EngineError`` if it, or a package that it needs, is not installed."""
    try:
        found: Boards = import_module("firmware_bridge.runtime").BOARDS
    except ModuleNotFoundError as failure:
        raise EngineError(f"{failure.name} is not installed, this verb needs it: {install_line('firmware')}") from failure
    return found


def state_folder() -> Path:
    """Folder in which emulated boards keep their memory (XDG base directory specification)."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "edge-tse"
