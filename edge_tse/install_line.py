"""The line that installs an extra, as it works for whoever reads it: from a source tree, a wheel on a disk, or an index."""

from __future__ import annotations

import json
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from shutil import which
from urllib.parse import unquote, urlsplit

__all__ = ["install_line"]

_NAME = "edge-tse"
_ROOT = Path(__file__).parent.parent


def install_line(*extras: str) -> str:
    """Command that adds these extras to the environment that runs now; without any, edge-tse alone.

    A source tree, whether it was installed or only is on the path, is named by its folder, a wheel that lies on this machine by its
    file; what came from an index is asked for by its name.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    return f"{_pip()} install {_origin(wanted)}"


def _pip() -> str:
    """pip of this environment: by its name if that is the one that the shell finds."""
    found = which("pip")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return "pip"
    return f"{shlex.quote(_short(Path(sys.executable)))} -m pip"


def _origin(wanted: str) -> str:
    """What pip is to install: a folder, a file or a name, with the extras behind it."""
    if (_ROOT / "pyproject.toml").is_file():
        return f"-e {_quote(_ROOT, wanted)}"
    place = _installed_from()
    return f"'{_NAME}{wanted}'" if place is None else _quote(place, wanted)


def _installed_from() -> Path | None:
    """Folder or wheel that pip installed, if it is still there (``direct_url.json``, PEP 610); None for an index."""
    try:
        text = metadata.distribution(_NAME).read_text("direct_url.json")
        url = urlsplit(json.loads(text)["url"]) if text else None
    except (metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    if url is None or url.scheme != "file":
        return None
    path = Path(unquote(url.path))
    return path if path.exists() else None


def _quote(path: Path, wanted: str) -> str:
    short = _short(path)
    # pip takes a bare name for that of a package.
    return shlex.quote(f"{short if os.sep in short or short == '.' else f'.{os.sep}{short}'}{wanted}")


def _short(path: Path) -> str:
    """The path from here, where it lies below; not resolved, since the ``python`` of an environment is a link out of it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
