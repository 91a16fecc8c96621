"""The verbs of boards: put a model on one, and talk to it. They join the others on the one command."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_tse.cli import output
from edge_tse.cli.verbs import ArtifactArgument, Json, app
from edge_tse.errors import AudioError, DeviceError, EngineError

if TYPE_CHECKING:
    from edge_tse.artifact import Artifact
    from edge_tse.target import Target
    from edge_tse.voice import Voice

__all__ = ["on_board"]

_IMAGE_MAGIC = b"edge-tse image"
_PHASES = ("erase", "write", "compare", "mark")
_TIMEOUT_S = 5.0
"""For an answer: an emulator on a busy machine is slow to start."""

TargetOption = Annotated[str, typer.Option("--target", metavar="NAME", help="The board: a name of `edge-tse targets`.")]
VoiceOption = Annotated[Path | None, typer.Option("--voice", metavar="FILE", help="Voice file made by `edge-tse enroll`.")]


@app.command()
def flash(
    target: TargetOption,
    artifact: Annotated[
        Path | None, typer.Argument(metavar="[ARTIFACT]", help="Model, or an image made before; the shipped model if left out.")
    ] = None,
    port: Annotated[
        str | None,
        typer.Option("--port", metavar="P", help="gdb://HOST:PORT, a probe, USER@HOST, or the file of an emulated board's memory."),
    ] = None,
    chip: Annotated[str | None, typer.Option("--chip", metavar="NAME", help="What pyOCD calls the chip.")] = None,
    via: Annotated[
        str | None, typer.Option("--via", metavar="TOOL", help="pyocd, dfu-util, adb or ssh instead of the target's own way.")
    ] = None,
    voice: VoiceOption = None,
    sign: Annotated[Path | None, typer.Option("--sign", metavar="KEY", help="Sign with this private Ed25519 key (PEM).")] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option("--trust", metavar="KEY", help="From now on the board takes only what this public key's owner signed."),
    ] = None,
    counter: Annotated[
        int | None,
        typer.Option("--counter", metavar="N", help="Security counter: a board that has kept N goes back to nothing lower."),
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Write the image here instead of onto a board.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build an image with the model in it, put it on a board, compare, and let it prove itself."""
    from edge_tse.files import check_output, write_bytes
    from edge_tse.target import find_target

    boards, images = _bridge("board"), _bridge("image")
    board = find_target(target)
    inputs = [path for path in (artifact, voice, sign) if path is not None]
    if image is not None:
        check_output(image, inputs)
    built, model = _image(boards, images, board, artifact, voice)
    if counter is not None:
        built = images.counted(built, counter)
    if sign is not None:
        built = images.sign(built, sign)
    content = images.pack_image(built)
    figures: dict[str, Any] = {
        "target": board.name,
        "core": board.core,
        "evidence": board.evidence,
        "model": built.model.hex(),
        "image_bytes": len(content),
        "digest": built.digest.hex(),
        "signed_by": built.key.hex() if built.signed else None,
        "counter": built.counter,
    }
    whose = f"signed by {built.key.hex()[:12]}" if built.signed else "not signed"
    what = f"{len(content)} bytes with model {built.model.hex()[:12]}, {whose}"
    if image is not None:
        images.check_for(built, target=board.name, core=board.core)
        write_bytes(image, content)
        output.result({**figures, "output": image}, as_json, f"{image}: {what}, for {board.name}")
        return
    trusted = None if trust is None else [images.public_key(key) for key in trust]
    parity: dict[str, Any] | None = None

    def prove(link: Any) -> None:
        nonlocal parity
        assert model is not None
        with closing(_greeted(link, board)) as device:
            parity = _proved(device, model, model)
            device.confirm()

    with output.progress("flashing", as_json) as tell:
        done = boards.flash(
            board,
            content,
            _state(),
            port=port,
            chip=chip,
            via=via,
            trusted=trusted,
            progress=lambda told: tell((_PHASES.index(told.phase) + told.done_bytes / told.total_bytes) / len(_PHASES)),
            prove=None if model is None else prove,
        )
    figures |= {"flasher": done.way, "slot": done.slot}
    slot = "" if done.slot is None else f", slot {'AB'[done.slot]}"
    lines = [f"{board.name}: {what}, by {done.way}{slot}; read back and compared"]
    if model is not None and done.way == "adb" and port is None:  # it answers without our being told where
        prove(boards.open_board(board, port, _state()))
    if parity is not None:
        figures["replayed"] = parity
        lines.append(f"{parity['frames']} golden frames over the link: worst {parity['worst_lsb']} LSB ({board.evidence})")
    elif done.slot is not None:
        lines.append(f"on trial until it has answered: edge-tse board --target {board.name}")
    else:
        lines.append(f"now: edge-tse board --target {board.name} --port PORT")
    output.result(figures, as_json, *lines)


@app.command()
def board(
    target: TargetOption,
    artifact: ArtifactArgument = None,
    port: Annotated[
        str | None,
        typer.Option("--port", metavar="P", help="Serial device, socket://HOST:PORT, fifo:FOLDER or exec:COMMAND."),
    ] = None,
    voice: VoiceOption = None,
    mixture: Annotated[
        Path | None, typer.Option("--mixture", metavar="FILE", help="Let the board extract the talker from this sound file.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where the talker goes, with --mixture.")
    ] = None,
    ping: Annotated[bool, typer.Option("--ping", help="Only ask who it is and how it does.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a flashed board who it is, give it a voice, replay the golden frames through it, or let it work."""
    from edge_tse.files import check_output
    from edge_tse.target import find_target
    from edge_tse.voice import load_voice

    if (mixture is None) != (to is None):
        raise AudioError("--mixture and --output belong together: give both or neither")
    known = find_target(target)
    boards, devices = _bridge("board"), _bridge("device")
    if mixture is not None and to is not None:
        from edge_tse import audio

        audio.check_format(to)
        check_output(to, [path for path in (mixture, artifact, voice) if path is not None], AudioError)
    spoken = None if voice is None else load_voice(voice)
    model = None if ping else _model(artifact)
    figures: dict[str, Any] = {"target": known.name, "evidence": known.evidence}
    rows: dict[str, str] = {}
    with closing(_device(boards, known, port)) as device:
        hello = device.hello
        figures["board"] = {**vars(hello), "model": hello.model.hex()}
        rows |= {"board": f"{hello.target}, {hello.core}, kernels {hello.kernels}", "model": hello.model.hex()[:12]}
        if model is None:
            device.confirm()
        else:
            flashed, wanted = _in_force(device, model, spoken)
            figures["replayed"] = parity = _proved(device, flashed, wanted)
            device.confirm()
            rows["golden frames"] = f"{parity['frames']}, worst {parity['worst_lsb']} LSB"
            if mixture is not None and to is not None:
                figures |= _extracted(devices.DeviceEngine(device, flashed), mixture, to, as_json)
                rows["talker"] = str(to)
        stats = devices.stats_figures(device.stats())
        figures |= {"stats": stats, "link": {"repeated": device.repeated, "damaged": device.damaged}}
        rows |= {name.replace("_", " "): _shown(value) for name, value in stats.items()}
    output.result(figures, as_json, output.table(f"{known.name} ({known.evidence})", rows))


@contextmanager
def on_board(target: str, port: str | None, model: Artifact, voice: Voice) -> Iterator[tuple[Any, str]]:
    """A flashed board with this voice in force, as an engine for a live session, and its name.

    ``EngineError`` without a target, ``DeviceError`` if the board runs another model.
    """
    from edge_tse.target import find_target

    if not target:
        raise EngineError("--engine device needs --target, a name of `edge-tse targets`")
    with closing(_device(_bridge("board"), find_target(target), port)) as device:
        flashed, _ = _in_force(device, model, voice)
        device.confirm()
        yield _bridge("device").DeviceEngine(device, flashed), f"native/{device.hello.kernels} on {device.hello.target}"


def _image(boards: Any, images: Any, target: Target, path: Path | None, voice: Path | None) -> tuple[Any, Artifact | None]:
    """An image, and the model in it if it was built here."""
    from edge_tse.voice import load_voice, personalize

    if path is not None and path.is_file():
        with path.open("rb") as file:
            if file.read(len(_IMAGE_MAGIC)) == _IMAGE_MAGIC:
                file.seek(0)
                return images.parse(file.read(), str(path)), None
    model = _model(path)
    if voice is not None:
        model = personalize(model, load_voice(voice))
    return boards.image_for(model, target), model


def _in_force(device: Any, model: Artifact, voice: Any) -> tuple[Artifact, Artifact]:
    """The model as it was flashed, and as it is once this voice is in force."""
    from edge_tse.voice import personalize

    if voice is None:
        return model, model
    personal = personalize(model, voice)
    if not device.hello.voice_patch_bytes:
        return personal, personal  # built in when it was flashed
    patch = _bridge("codegen").voice_patch(model, voice)
    if len(patch) != device.hello.voice_patch_bytes:
        raise DeviceError(
            f"{device.name} takes voices of {device.hello.voice_patch_bytes} bytes, this edge-tse makes {len(patch)}: flash it",
            0,
        )
    device.set_voice(patch)
    return model, personal


def _proved(device: Any, flashed: Artifact, wanted: Artifact) -> dict[str, Any]:
    """Golden frames of ``wanted`` over the link; ``ParityError`` past what its kernels state."""
    from edge_tse.golden import verify

    network = _bridge("device").DeviceNetwork(device, flashed)
    parity = verify(wanted, network)
    return {
        "engine": network.name,
        "frames": parity.frames,
        "worst_lsb": parity.worst_lsb,
        "mismatch_rate": parity.mismatch_rate,
    }


def _extracted(engine: Any, mixture: Path, to: Path, as_json: bool) -> dict[str, Any]:
    from edge_tse import audio
    from edge_tse.extract import extract

    signal, rate_hz = audio.read(mixture)
    with output.progress("extracting", as_json) as tell:
        got = extract(signal, rate_hz, engine, name=str(mixture), progress=tell)
    audio.write(to, got.signal, rate_hz, inputs=[mixture])
    # Seen from here, with the link in it: what the board itself needs stands in its stats.
    return {"output": to, "seconds": got.signal.shape[1] / rate_hz, "host_seen": got.timing.figures()}


def _device(boards: Any, target: Target, port: str | None) -> Any:
    return _greeted(boards.open_board(target, port, _state()), target)


def _greeted(link: Any, target: Target) -> Any:
    """The device behind a link, which is closed if it is none, or another target."""
    try:
        device = _bridge("device").Device(link, timeout_s=_TIMEOUT_S)
    except BaseException:
        link.close()
        raise
    if device.hello.target != target.name:
        device.close()
        raise DeviceError(f"{device.name} is a {device.hello.target}, not a {target.name}: give --target {device.hello.target}", 0)
    return device


def _model(path: Path | None) -> Artifact:
    from edge_tse.artifact import Artifact

    return Artifact.find(path)


def _state() -> Path:
    """Where emulated boards keep their memory (XDG base directory specification)."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "edge-tse"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.0f} {value['unit']} on average, {value['worst']} at worst"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _bridge(name: str) -> Any:
    """A module of the firmware bridge, which the runtime does not depend on."""
    try:
        return importlib.import_module(f"firmware_bridge.{name}")
    except ModuleNotFoundError as failure:
        raise EngineError(f"{failure.name} is not installed, this verb needs it: pip install 'edge-tse[firmware]'") from failure
