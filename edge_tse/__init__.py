"""edge-tse: hear one enrolled talker, computed by an int8 network in 4 ms steps.

The public names below load the module that holds them on first use, so that ``import edge_tse`` costs nothing and needs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edge_tse.version import __version__ as __version__

if TYPE_CHECKING:
    from edge_tse.arrays import enroll, extract, extract_stream
    from edge_tse.artifact import Artifact
    from edge_tse.engines import Engine, open_network
    from edge_tse.errors import EdgeTseError
    from edge_tse.extraction import Extraction, Extractor, extract_signal
    from edge_tse.frame import FrameSpec
    from edge_tse.graph import IntegerGraph
    from edge_tse.personalization import personalize
    from edge_tse.recognition import Recognizer
    from edge_tse.report import Report, Timing
    from edge_tse.voice import Voice, load_voice, save_voice

__all__ = [
    "Artifact",
    "EdgeTseError",
    "Engine",
    "Extraction",
    "Extractor",
    "FrameSpec",
    "IntegerGraph",
    "Recognizer",
    "Report",
    "Timing",
    "Voice",
    "enroll",
    "extract",
    "extract_signal",
    "extract_stream",
    "load_voice",
    "open_network",
    "personalize",
    "save_voice",
]

_HOME = {
    "Artifact": "artifact",
    "EdgeTseError": "errors",
    "Engine": "engines",
    "Extraction": "extraction",
    "Extractor": "extraction",
    "FrameSpec": "frame",
    "IntegerGraph": "graph",
    "Recognizer": "recognition",
    "Report": "report",
    "Timing": "report",
    "Voice": "voice",
    "enroll": "arrays",
    "extract": "arrays",
    "extract_signal": "extraction",
    "extract_stream": "arrays",
    "load_voice": "voice",
    "open_network": "engines",
    "personalize": "personalization",
    "save_voice": "voice",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
