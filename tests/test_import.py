"""What ``import edge_tse`` costs and brings."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

import pytest

import edge_tse

HEAVY = ("torch", "brevitas", "soundfile", "soxr", "typer", "rich", "matplotlib", "ai_edge_litert", "tflite_runtime", "scipy")


def fresh(program: str) -> str:
    """Output of a program in a new interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import edge_tse",
        "from edge_tse import Artifact, Engine, Extractor, FrameSpec, Voice, enroll, extract, open_network, personalize",
        "import edge_tse.reference, edge_tse.artifact, edge_tse.voice, edge_tse.engines, edge_tse.arrays, edge_tse.demo",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    loaded = json.loads(fresh(f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"))
    assert "edge_tse" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_help_loads_no_engine_and_no_torch() -> None:
    program = "import json, sys\nfrom edge_tse.cli import main\nassert main(['extract', '--help']) == 0\nprint()\n"
    program += "print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(fresh(program).splitlines()[-1])
    assert [name for name in HEAVY if name in loaded and name not in ("typer", "rich")] == []


def test_import_is_fast() -> None:
    """The best of five starts, so that a busy machine does not fail it; 150 ms is what a command line may wait unnoticed."""
    program = "import time\nt = time.perf_counter()\nimport edge_tse\nprint(time.perf_counter() - t)"
    assert min(float(fresh(program)) for _ in range(5)) < 0.15


def test_public_names() -> None:
    assert edge_tse.__all__ == sorted(edge_tse.__all__)
    assert set(edge_tse._HOME) == set(edge_tse.__all__)
    for name in edge_tse.__all__:
        assert getattr(edge_tse, name).__name__ == name
        assert name in dir(edge_tse)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        edge_tse.nonsense  # noqa: B018


def test_version() -> None:
    assert edge_tse.__version__ == "0.2.0"
    assert metadata.version("edge-tse") == edge_tse.__version__
