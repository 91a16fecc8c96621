"""Sound out of containers that libsndfile does not know (telephones, browsers, films), through ffmpeg where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_tse.audio import FOREIGN, Stored
from edge_tse.errors import AudioError

__all__ = ["opened"]

# A file that claims to be a film may be a playlist of other files and addresses: nothing but containers of sound is opened.
_CONTAINERS = "mov,matroska,webm,aac,ac3,eac3,amr,amrnb,amrwb,ogg,asf,mp3,wav,flac"
_INSTALL = "install it (`apt-get install ffmpeg`)"


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """The sound in a file, decoded into one of its own for as long as the block lasts where only ffmpeg reads it.

    ``AudioError`` as of :class:`.Stored`, and for a file that needs ffmpeg where there is none, or that it refuses.
    """
    if path.suffix.lower() not in FOREIGN or not path.is_file() or path.stat().st_size == 0:
        yield Stored(path)
        return
    try:
        sound: Stored | None = Stored(path)
    except AudioError:
        sound = None
    if sound is not None:
        yield sound
        return
    with tempfile.TemporaryDirectory(prefix="edge-tse-") as folder:
        decoded = Path(folder) / "decoded.wav"
        _decode(path, decoded)
        yield Stored(decoded, str(path))


def _decode(path: Path, to: Path) -> None:
    """Write the first sound of a film or a recording as float WAV, at its own rate."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(
            f"{path} needs ffmpeg, which is not installed: {_INSTALL}, or convert it elsewhere with "
            f"`ffmpeg -i {path.name} {path.stem}.wav`"
        )
    source = ("-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS, "-i", f"file:{path.resolve()}")
    made = ("-map", "0:a:0", "-vn", "-c:a", "pcm_f32le", "-rf64", "auto", "-f", "wav", f"file:{to}")
    done = subprocess.run(
        [program, "-nostdin", "-hide_banner", "-v", "error", *source, *made],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise AudioError(
            f"{path}: ffmpeg finds no sound in it ({said[-1] if said else f'code {done.returncode}'}): export it again"
        )
