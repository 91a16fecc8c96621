"""The verb that opens the studio."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edge_tse.cli.options import CalibrationOption, Panel, app

__all__ = ["studio"]


@app.command(rich_help_panel=Panel.WEAR)
def studio(
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Folder of the voices and of what is recorded.")] = Path(),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port on this machine; any free one if 0.")
    ] = 0,
    presets: Annotated[Path | None, typer.Option("--presets", metavar="TOML", help="Named settings to switch to.")] = None,
    calibration: CalibrationOption = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Open a page to record voices, to listen live and to steer what is heard."""
    from edge_tse.errors import AudioError
    from edge_tse.live.steering import load_presets
    from edge_tse.studio.program import Program
    from edge_tse.studio.server import Studio, serve

    if not folder.is_dir():
        raise AudioError(f"{folder} is no folder: make it, or choose another with --folder")
    if presets is not None:
        load_presets(presets)
    used = [None if path is None else path.resolve() for path in (presets, calibration)]

    def tell(address: str) -> None:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        sys.stderr.write("edge-tse: the studio runs until Ctrl-C; nothing leaves this machine\n")

    serve(Studio(Program(folder.resolve()), *used), port, tell=tell, opens=browser)
