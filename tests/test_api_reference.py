"""The check of the API reference finds what leads nowhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pdoc")
SOURCE = Path(__file__).parent.parent / ".ci" / "api_reference.py"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_lead_nowhere(reference: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a.html").write_text('<p id="here"><a href="#here"></a><a href="a/b.html#there"></a><a href="#lost"></a>')
    (tmp_path / "a" / "b.html").write_text(
        '<p id="there"><a href="../a.html#here"></a><a href="../c.html"></a><a href="../a.html#no"></a><a href="https://x/y"></a>'
    )
    assert reference.broken_links(tmp_path) == [
        "a/b.html: ../a.html#no leads nowhere",
        "a/b.html: ../c.html leads nowhere",
        "a.html: #lost leads nowhere",
    ]


@pytest.mark.parametrize(
    ("target", "context", "found"),
    [
        ("extract", "edge_tse.arrays.enroll", "edge_tse.arrays.extract"),
        (".extract_signal", "edge_tse.arrays.enroll", "edge_tse.extraction.extract_signal"),
        ("VoiceModel.digest", "edge_tse.voice.Voice.encoder_digest", "edge_tse.voice.VoiceModel.digest"),
        ("POOL", "edge_tse.voice.enroll_signals", "POOL"),
        ("edge_tse.errors", "edge_tse.arrays", "edge_tse.errors"),
        ("numpy.ndarray", "edge_tse.arrays", "numpy.ndarray"),
        ("nobody", "edge_tse.arrays.enroll", None),
        (".nobody", "edge_tse.arrays.enroll", None),
        ("edge_tse.voice.nobody", "edge_tse.arrays.enroll", None),
    ],
)
def test_what_a_docstring_means(reference: ModuleType, target: str, context: str, found: str | None) -> None:
    known = {"edge_tse.arrays.extract", "edge_tse.extraction.extract_signal", "edge_tse.voice.VoiceModel.digest"}
    assert reference.resolve(target, context, known) == found
