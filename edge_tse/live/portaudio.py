"""PortAudio, through PyAudio: the one place that imports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from edge_tse.errors import AudioError
from edge_tse.install_line import install_line

__all__ = ["portaudio", "silence_hosts"]


@contextmanager
def portaudio() -> Iterator[tuple[Any, ModuleType]]:
    """PortAudio, begun, and its module, until the end of the block. ``AudioError`` if PyAudio is not installed."""
    try:
        module = import_module("pyaudio")
    except ImportError as failure:
        raise AudioError(
            f"PyAudio is not installed, live sound needs it: apt-get install portaudio19-dev && {install_line('live')}"
        ) from failure
    with silence_hosts():
        audio = module.PyAudio()
    try:
        yield audio, module
    finally:
        audio.terminate()


@contextmanager
def silence_hosts() -> Iterator[None]:
    """Silence PortAudio's hosts, which write about every device that they do not find; none of it is for users."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
