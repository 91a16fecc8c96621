"""Delivery of a model to a board that proves itself, and the board as an engine, as :mod:`edge_tse.deployment.boards` asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from edge_tse.artifact import Artifact, verify
from edge_tse.deployment.boards import BoardImage, Delivered, Proof, Rehearsed
from edge_tse.deployment.target import Target
from edge_tse.errors import ArtifactError, DeviceError
from edge_tse.files import write_bytes
from edge_tse.personalization import personalize
from edge_tse.voice import Voice, load_voice
from firmware_bridge.board import flash, image_for, open_board
from firmware_bridge.codegen import voice_patch
from firmware_bridge.cores import CORES
from firmware_bridge.device import Device, DeviceEngine, DeviceNetwork, stats_figures
from firmware_bridge.earbud import Earbud
from firmware_bridge.flash import FlashProgress
from firmware_bridge.image import MAGIC, Image, check_for, pack_image, parse, public_key, sign, with_counter
from firmware_bridge.link import Link, open_link
from firmware_bridge.rehearsal import rehearse

__all__ = ["Delivery", "LinkedBoard"]

_PHASES = ("erase", "write", "compare", "mark")
_TIMEOUT_S = 5.0
"""Timeout of an answer: an emulator on a busy machine is slow to start."""


class LinkedBoard:
    """A flashed board on its link, and the model that it runs."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._flashed: Artifact | None = None
        self._wanted: Artifact | None = None

    @property
    def name(self) -> str:
        """Kernels and target of the board, for people."""
        return f"native/{self._device.hello.kernels} on {self._device.hello.target}"

    @property
    def identity(self) -> Mapping[str, object]:
        """Content of its hello, the model as hexadecimal digits."""
        return {**asdict(self._device.hello), "model": self._device.hello.model.hex()}

    @property
    def link(self) -> Mapping[str, int]:
        """Commands that were repeated and frames that arrived damaged."""
        return {"repeated": self._device.repeated, "damaged": self._device.damaged}

    def use(self, model: Artifact, voice: Voice | None) -> None:
        """Put this voice in force from the next frame on."""
        self._flashed = self._wanted = model
        if voice is None:
            return
        self._wanted = personalize(model, voice)
        room = self._device.hello.voice_patch_bytes
        if not room:
            self._flashed = self._wanted  # built in when it was flashed
            return
        patch = voice_patch(model, voice)
        if len(patch) != room:
            raise DeviceError(f"{self._device.name} takes voices of {room} bytes, this edge-tse makes {len(patch)}: flash it", 0)
        self._device.set_voice(patch)

    def prove(self) -> Proof:
        """Replay golden frames of the model in use over the link. ``ParityError`` past the tolerance of the board's kernels."""
        assert self._flashed is not None, "a model is in use"
        assert self._wanted is not None
        network = DeviceNetwork(self._device, self._flashed)
        parity = verify(self._wanted, network)
        return Proof(engine=network.name, frames=parity.frames, worst_lsb=parity.worst_lsb, mismatch_rate=parity.mismatch_rate)

    def confirm(self) -> None:
        """Keep the image that the board has on trial."""
        self._device.confirm()

    def engine(self) -> DeviceEngine:
        """The board as an engine."""
        assert self._flashed is not None, "a model is in use"
        return DeviceEngine(self._device, self._flashed)

    def stats(self) -> Mapping[str, object]:
        """Statistics that the board states about itself."""
        return stats_figures(self._device.stats())


class Delivery:
    """Images for boards, delivery onto a board, and the link to the program that then runs there."""

    def image(
        self, target: Target, source: Path | None, voice: Path | None, key: Path | None, counter: int | None = None
    ) -> BoardImage:
        """An image of a model, or one made before; with another security counter if one is given, signed if there is a key."""
        built, model = _build(target, source, voice)
        if counter is not None:
            built = with_counter(built, counter)
        if key is not None:
            built = sign(built, key)
        return BoardImage(
            content=pack_image(built),
            model_id=built.model.hex(),
            digest=built.digest.hex(),
            signed_by=built.key.hex() if built.signed else None,
            counter=built.counter,
            model=model,
        )

    def save(self, image: BoardImage, target: Target, to: Path) -> None:
        """Write the image to a file. ``TargetError`` if it is for another target."""
        check_for(parse(image.content), target=target.name, core=target.core)
        write_bytes(to, image.content)

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
        """Put the image onto the board and, where its link is known, let it prove itself and then keep it."""
        model, proofs = image.model, list[Proof]()

        def tell(told: FlashProgress) -> None:
            progress((_PHASES.index(told.phase) + told.done_bytes / told.total_bytes) / len(_PHASES))

        def prove(link: Link) -> None:
            assert model is not None
            with _greet(link, target) as board:
                board.use(model, None)
                proofs.append(board.prove())
                board.confirm()

        trusted = None if trust is None else [public_key(key) for key in trust]
        proved = None if model is None else prove
        done = flash(target, image.content, state, port=port, chip=chip, via=via, trusted=trusted, progress=tell, prove=proved)
        mailbox = target.name in CORES and CORES[target.name].mailbox
        # It answers where it was flashed, or without our being told where.
        if model is not None and ((done.way == "gdb" and mailbox) or (done.way == "adb" and port is None)):
            prove(open_board(target, port, state))
        return Delivered(way=done.way, slot=done.slot, proof=proofs[0] if proofs else None)

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
        """Check the image for the board, and say what :meth:`deliver` would do."""
        trusted = None if trust is None else [public_key(key) for key in trust]
        return rehearse(target, image.content, state, port=port, chip=chip, via=via, trusted=trusted)

    @contextmanager
    def connect(self, target: Target, port: str | None, state: Path, baud: int | None = None) -> Iterator[LinkedBoard]:
        """The link to a flashed board, given back at the end. ``DeviceError`` if it is another target's."""
        with _greet(open_board(target, port, state, baud), target) as board:
            yield board

    def listen(self, port: str) -> Earbud:
        """The earbud that sends at ``port``. ``LinkError`` if it does not open."""
        return Earbud(open_link(port))


@contextmanager
def _greet(link: Link, target: Target) -> Iterator[LinkedBoard]:
    """The board behind a link, which is closed at the end. ``DeviceError`` if it is another target's."""
    try:
        device = Device(link, timeout_s=_TIMEOUT_S)
    except BaseException:
        link.close()
        raise
    with closing(device):
        theirs = device.hello.target
        if theirs != target.name:
            raise DeviceError(f"{device.name} is a {theirs}, not a {target.name}: give --target {theirs}", 0)
        yield LinkedBoard(device)


def _build(target: Target, source: Path | None, voice: Path | None) -> tuple[Image, Artifact | None]:
    """An image, and the model in it if it was built here. ``ArtifactError`` for a voice with an image that is there."""
    if source is not None and source.is_file():
        with source.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC.encode():
                if voice is not None:
                    raise ArtifactError(f"{source} is an image made before, no voice is folded into it any more: leave --voice out")
                file.seek(0)
                return parse(file.read(), str(source)), None
    model = Artifact.find(source)
    if voice is not None:
        model = personalize(model, load_voice(voice))
    return image_for(model, target), model
