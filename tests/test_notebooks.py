"""The notebooks run, from what the package ships, and print what stands in them.

``python -m tests.test_notebooks`` writes what they print now.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


class Audio:
    """IPython's, as far as a notebook needs it: the sound has to be playable."""

    def __init__(self, data: Any, *, rate: int) -> None:
        samples = np.asarray(data)
        assert samples.ndim == 1 or (samples.ndim == 2 and samples.shape[0] == 2), "Audio takes [n] or [2, n]"
        assert np.isfinite(samples).all()
        self.seconds = samples.shape[-1] / rate


def display_module() -> dict[str, ModuleType]:
    display = ModuleType("IPython.display")
    display.Audio = Audio  # type: ignore[attr-defined]
    return {"IPython": ModuleType("IPython"), "IPython.display": display}


def printed(notebook: dict[str, Any]) -> list[str]:
    """What each cell of code prints, run from first to last in one namespace."""
    names: dict[str, Any] = {}
    out = []
    for cell in (cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        tree = ast.parse("".join(cell["source"]))
        with contextlib.redirect_stdout(io.StringIO()) as told:
            exec(compile(tree, cell["id"], "exec"), names)
        out.append(told.getvalue())
    return out


def stored(notebook: dict[str, Any]) -> list[str]:
    """What each cell of code printed when the notebook was written."""
    code = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    return ["".join(line for output in cell["outputs"] for line in output["text"]) for cell in code]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_prints_what_stands_in_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("soundfile")
    for name, module in display_module().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(path.read_text())
    assert printed(notebook) == stored(notebook)
    assert list(tmp_path.iterdir()) == [], "a notebook leaves nothing behind"


def test_there_is_one_and_it_prints() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["one-talker"]
    assert sum(map(bool, stored(json.loads(NOTEBOOKS[0].read_text())))) >= 5


def write() -> None:
    """Store in each notebook what it prints."""
    sys.modules.update(display_module())
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for cell, text in zip(code, printed(notebook), strict=True):
            lines = text.splitlines(keepends=True)
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
