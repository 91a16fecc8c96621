"""The verbs of boards: put a model on one, and talk to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tse.cli import output
from edge_tse.cli.options import ArtifactArgument, BaudOption, Json, Panel, app, artifact_of, given_paths, target_names
from edge_tse.errors import AudioError, TargetError

if TYPE_CHECKING:
    from edge_tse.deployment.boards import BoardImage, Delivered, Rehearsed
    from edge_tse.deployment.target import Target
    from edge_tse.stream import AnyEngine

__all__ = ["board", "flash"]

TargetOption = Annotated[
    str, typer.Option("--target", metavar="NAME", autocompletion=target_names, help="Board: a name of `edge-tse targets`.")
]
VoiceOption = Annotated[Path | None, typer.Option("--voice", metavar="FILE", help="Voice file made by `edge-tse enroll`.")]
_Flashed = Annotated[
    Path | None, typer.Argument(metavar="[ARTIFACT]", help="Model, or an image made before; the shipped model if left out.")
]
_Way = Annotated[
    str | None,
    typer.Option(
        "--port",
        metavar="P",
        help="Way to the board: gdb://HOST:PORT, a probe, USER@HOST, or the memory file of an emulated board.",
    ),
]
_Chip = Annotated[str | None, typer.Option("--chip", metavar="NAME", help="Name that pyOCD has for the chip.")]
_Via = Annotated[
    str | None,
    typer.Option("--via", metavar="TOOL", help="Tool to flash with, instead of the target's own: pyocd, dfu-util, adb or ssh."),
]
_Key = Annotated[Path | None, typer.Option("--sign", metavar="KEY", help="Sign with this private Ed25519 key (PEM).")]
_Trusted = Annotated[
    list[Path] | None,
    typer.Option("--trust", metavar="KEY", help="Let the board take only images signed by this public key's owner from now on."),
]
_Counter = Annotated[
    int | None,
    typer.Option(
        "--counter", metavar="N", help="Security counter of the image: a board that has kept N starts no image with less."
    ),
]
_ImageFile = Annotated[Path | None, typer.Option("--image", metavar="FILE", help="File to write the image to, instead of a board.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Build and check the image, say what would be done, and touch no board.")]
_Link = Annotated[
    str | None,
    typer.Option(
        "--port",
        metavar="P",
        help="Port of the board: a serial device, gdb://HOST:PORT, socket://HOST:PORT, fifo:FOLDER or exec:COMMAND.",
    ),
]
_Mixture = Annotated[
    Path | None, typer.Option("--mixture", metavar="FILE", help="Sound file from which the board extracts the talker.")
]
_Talker = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Sound file to write the talker to, with --mixture.")
]
_Ping = Annotated[bool, typer.Option("--ping", help="Only print the board's identity and statistics.")]


@app.command(rich_help_panel=Panel.BOARD)
def flash(
    target: TargetOption,
    artifact: _Flashed = None,
    port: _Way = None,
    chip: _Chip = None,
    via: _Via = None,
    voice: VoiceOption = None,
    sign: _Key = None,
    trust: _Trusted = None,
    counter: _Counter = None,
    image: _ImageFile = None,
    dry_run: _DryRun = False,
    as_json: Json = False,
) -> None:
    """Build an image with the model, flash it, read it back, and replay the golden frames on the board."""
    from edge_tse.deployment.boards import boards, state_folder
    from edge_tse.deployment.target import find_target
    from edge_tse.files import check_output

    bridge, board = boards(), find_target(target)
    if image is not None:
        of_a_board = {"--dry-run": dry_run, "--port": port, "--chip": chip, "--via": via, "--trust": trust}
        if given := [name for name, value in of_a_board.items() if value]:
            raise TargetError(f"--image writes a file and touches no board: leave {given[0]} out")
        check_output(image, given_paths(artifact, voice, sign))
    made = bridge.image(board, artifact, voice, sign, counter)
    figures, what = _describe(made, board)
    if image is not None:
        bridge.save(made, board, image)
        output.result({**figures, "output": image}, as_json, f"{image}: {what}, for {board.name}")
        return
    if dry_run:
        plan = bridge.rehearse(made, board, state_folder(), port=port, chip=chip, via=via, trust=trust)
        output.result(figures | {"dry_run": True} | vars(plan), as_json, *_report_plan(plan, board, what))
        return
    with output.progress("flashing", as_json) as tell:
        done = bridge.deliver(made, board, state_folder(), port=port, chip=chip, via=via, trust=trust, progress=tell)
    figures |= {"flasher": done.way, "slot": done.slot}
    if done.proof is not None:
        figures["replayed"] = vars(done.proof)
    output.result(figures, as_json, *_report_delivery(done, board, what))


def _report_plan(plan: Rehearsed, board: Target, what: str) -> list[str]:
    """Report what a flash would do."""
    first = f"{board.name}: {what}, by {plan.flasher}; nothing was touched, this would be done:"
    return [first, *(f"    {step}" for step in plan.steps)]


def _report_delivery(done: Delivered, board: Target, what: str) -> list[str]:
    """Report how an image was delivered, and the next command to type."""
    slot = "" if done.slot is None else f", slot {'AB'[done.slot]}"
    lines = [f"{board.name}: {what}, by {done.way}{slot}; read back and compared"]
    if done.proof is not None:
        lines.append(f"{done.proof.frames} golden frames over the link: worst {done.proof.worst_lsb} LSB ({board.evidence})")
    elif done.slot is not None:
        lines.append(f"on trial until it has answered: edge-tse board --target {board.name}")
    else:
        lines.append(f"now: edge-tse board --target {board.name} --port PORT")
    return lines


def _describe(made: BoardImage, target: Target) -> tuple[dict[str, object], str]:
    """An image as figures, and as rows for people."""
    figures: dict[str, object] = {
        "target": target.name,
        "core": target.core,
        "evidence": target.evidence,
        "model": made.model_id,
        "image_bytes": len(made.content),
        "digest": made.digest,
        "signed_by": made.signed_by,
        "counter": made.counter,
    }
    whose = f"signed by {made.signed_by[:12]}" if made.signed_by is not None else "not signed"
    return figures, f"{len(made.content)} bytes with model {made.model_id[:12]}, {whose}"


@app.command(rich_help_panel=Panel.BOARD)
def board(
    target: TargetOption,
    artifact: ArtifactArgument = None,
    port: _Link = None,
    voice: VoiceOption = None,
    mixture: _Mixture = None,
    to: _Talker = None,
    ping: _Ping = False,
    baud: BaudOption = None,
    as_json: Json = False,
) -> None:
    """Identify a flashed board, give it a voice, replay the golden frames through it, or let it extract."""
    from edge_tse.deployment.boards import boards, state_folder
    from edge_tse.deployment.target import find_target
    from edge_tse.voice import load_voice

    known, bridge = find_target(target), boards()
    if ping and given_paths(artifact, voice, mixture, to):
        raise TargetError("--ping only asks a board who it is: leave it out, or the model, --voice, --mixture and --output")
    _check(mixture, to, given_paths(artifact, voice))
    spoken = None if voice is None else load_voice(voice)
    model = None if ping else artifact_of(artifact)
    figures: dict[str, object] = {"target": known.name, "evidence": known.evidence}
    with bridge.connect(known, port, state_folder(), baud) as device:
        who = device.identity
        figures["board"] = who
        rows = {"board": f"{who['target']}, {who['core']}, kernels {who['kernels']}", "model": str(who["model"])[:12]}
        if model is not None:
            device.use(model, spoken)
            figures["replayed"] = vars(proof := device.prove())
            rows["golden frames"] = f"{proof.frames}, worst {proof.worst_lsb} LSB"
        device.confirm()
        if model is not None and mixture is not None and to is not None:
            figures |= _extract(device.engine(), mixture, to, as_json)
            rows["talker"] = str(to)
        stats = device.stats()
        figures |= {"stats": stats, "link": device.link}
        rows |= {name.replace("_", " "): _format(value) for name, value in stats.items()}
    output.result(figures, as_json, output.table(f"{known.name} ({known.evidence})", rows))


def _check(mixture: Path | None, to: Path | None, inputs: list[Path]) -> None:
    """Check --mixture and --output before a board is looked for."""
    from edge_tse import audio
    from edge_tse.files import check_output

    if (mixture is None) != (to is None):
        raise AudioError("--mixture and --output belong together: give both or neither")
    if mixture is not None and to is not None:
        audio.check_format(to)
        check_output(to, [mixture, *inputs], AudioError)


def _extract(engine: AnyEngine, mixture: Path, to: Path, as_json: bool) -> dict[str, object]:
    from edge_tse import audio
    from edge_tse.cli.extraction import remark_on
    from edge_tse.extract_file import extract_file

    with output.progress("extracting", as_json) as tell:
        got = extract_file(audio.Stored(mixture), to, engine, progress=tell, inputs=[mixture])
    remark_on(got, str(mixture), to, engine.frame.level_invariant)
    # Seen from here, with the link in it: what the board itself needs stands in its stats.
    clipped = {"input_clipped_samples": got.clipped_samples, "output_clipped_samples": got.clipped_output}
    return {"output": to, "seconds": got.seconds, **clipped, "host_seen": got.timing.figures()}


def _format(value: object) -> str:
    if isinstance(value, dict):
        return f"{value['mean']:.0f} {value['unit']} on average, {value['worst']} at worst"
    return f"{value:,}" if isinstance(value, int) else str(value)
