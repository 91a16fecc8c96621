"""Who may import what: the four packages, and every package that is not ours.

Read from the source, so that an import inside a function or under ``TYPE_CHECKING`` counts as much as one at the top.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OURS = {
    "edge_tse": {"edge_tse"},
    "quantization": {"edge_tse", "quantization"},
    "targets": {"edge_tse", "targets"},
    "firmware_bridge": {"edge_tse", "firmware_bridge"},
}
"""Package -> which of ours it may import. What edge_tse must reach otherwise, it imports or finds by name when a verb needs it."""

LEAVES = {
    "PIL": ("edge_tse/drawing.py",),
    "ai_edge_litert": ("edge_tse/engines/litert.py",),
    "brevitas": ("quantization/qat.py",),
    "clarity": ("quantization/hearing_scores.py",),
    "cryptography": ("firmware_bridge/image.py",),
    "distributed": ("quantization/workers.py",),
    "executorch": ("edge_tse/engines/executorch.py", "targets/pte.py", "targets/torch_graph.py"),
    "flatbuffers": ("targets/tflite.py",),
    "lightning_fabric": ("quantization/loop.py", "quantization/train.py"),
    "matplotlib": ("edge_tse/drawing.py",),
    "numpy": ("",),
    "onnx": ("edge_tse/engines/foreign_files.py", "targets/onnx.py"),
    "onnxruntime": ("edge_tse/engines/onnxrt.py",),
    "pesq": ("quantization/scores.py",),
    "pyaudio": ("edge_tse/live/portaudio.py",),
    "pystoi": ("quantization/scores.py",),
    "rich": ("edge_tse/cli/",),
    "scipy": ("quantization/mixing.py", "quantization/mixture.py", "quantization/trials.py"),
    "serial": ("firmware_bridge/link.py",),
    "soundfile": ("edge_tse/audio.py",),
    "soxr": ("edge_tse/audio.py",),
    "starlette": ("edge_tse/studio/server.py",),
    "tflite_micro": ("edge_tse/engines/tflm.py",),
    "tflite_runtime": ("edge_tse/engines/litert.py",),
    "torch": ("edge_tse/engines/executorch.py", "edge_tse/nn/", "quantization/", "targets/pte.py", "targets/torch_graph.py"),
    "typer": ("edge_tse/cli/",),
    "uvicorn": ("edge_tse/studio/server.py",),
}
"""Package of others -> the files, or folders, that may import it. What is not here is imported nowhere."""

BY_NAME = {"import_module", "_module"}
"""Functions that import what their first argument names."""

FOUND_BY_NAME = {
    "edge_tse/deployment/boards.py": {"firmware_bridge.runtime"},
    "edge_tse/deployment/offers.py": {"firmware_bridge.runtime", "targets.runtimes"},
}
"""File of edge_tse -> the modules above it that it finds by name: what the two others offer."""

LABORATORY = Path("edge_tse/cli/lab.py")
"""The one file of edge_tse that imports quantization, inside the functions that need it, so that their calls are typed."""

INCLUDED = {"edge_tse/_front.c": {"firmware_bridge/c/library/front_math.h"}}
"""C file -> headers of another package that it is built with. The operations of the front end are written once: a board takes them
from a folder that is complete without edge_tse, and the compiled part of edge_tse needs them when it is built, not when it runs."""


@cache
def sources() -> tuple[Path, ...]:
    """Every module of the four packages, relative to the root."""
    return tuple(sorted(path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py")))


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def imported(source: str) -> Iterator[tuple[str, bool, int]]:
    """Top-level name of each import of a module, whether it is written as an import (or named by a string), and its line."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], True, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).partition(".")[0], True, node.lineno
        elif isinstance(node, ast.Call) and node.args and isinstance(name := node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in BY_NAME and isinstance(name.value, str):
                yield name.value.partition(".")[0], False, node.lineno


def included(path: Path) -> Iterator[str]:
    """Headers of other packages that a C file includes, relative to the root."""
    headers = {header.name: header.relative_to(ROOT) for package in OURS for header in (ROOT / package).rglob("*.h")}
    for name in re.findall(r'^#include "([^"]+)"', (ROOT / path).read_text(), re.MULTILINE):
        header = headers.get(Path(name).name)
        if header is not None and header.parts[0] != path.parts[0]:
            yield header.as_posix()


def named(source: str) -> set[str]:
    """Modules of packages above edge_tse that a module names in a string."""
    above = tuple(f"{package}." for package in OURS if package != "edge_tse")
    modules = {path.with_suffix("").as_posix().replace("/", ".") for path in sources()}
    strings = {node.value for node in ast.walk(parsed(source)) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in strings & modules if text.startswith(above)}


def violations(path: Path, source: str) -> list[str]:
    """What a module at ``path`` may not import."""
    found = []
    for name, written, line in imported(source):
        if name in OURS:
            wrong = written and name not in OURS[path.parts[0]] and (path, name) != (LABORATORY, "quantization")
        elif name in sys.stdlib_module_names:
            wrong = False
        else:
            wrong = not path.as_posix().startswith(LEAVES.get(name, ()))
        if wrong:
            found.append(f"{path}:{line} imports {name}")
    return found


@pytest.mark.parametrize("path", sources(), ids=str)
def test_module_imports_only_what_it_may(path: Path) -> None:
    assert violations(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("edge_tse/voice.py", "import targets.tflite"),
        ("edge_tse/voice.py", "def f():\n    from quantization import evaluate"),
        ("targets/tflite.py", "from quantization.corpus import open_corpus"),
        ("quantization/train.py", "import firmware_bridge"),
        ("firmware_bridge/wire.py", "if TYPE_CHECKING:\n    from targets import tflite"),
        ("edge_tse/voice.py", "from torch import nn"),
        ("edge_tse/voice.py", "import_module('torch')"),
        ("edge_tse/voice.py", "importlib.import_module('torch.nn')"),
        ("edge_tse/engines/litert.py", "import soundfile"),
        ("edge_tse/voice.py", "import a_package_nobody_decided_on"),
        ("edge_tse/cli/lab.py", "def f():\n    from targets import tflite"),
        ("edge_tse/cli/verbs.py", "def f():\n    from quantization.train import train"),
    ],
)
def test_the_rule_has_teeth(path: str, source: str) -> None:
    assert len(violations(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("edge_tse/cli/lab.py", "def f():\n    from quantization.evaluate import evaluate"),
        ("edge_tse/nn/student.py", "import torch, json, numpy as np"),
        ("edge_tse/voice.py", "from . import frame\nfrom edge_tse.frame import FrameSpec"),
    ],
)
def test_the_rule_lets_pass_what_it_should(path: str, source: str) -> None:
    assert violations(Path(path), source) == []


def test_what_is_above_is_found_by_name_in_few_places() -> None:
    found = {path.as_posix(): named((ROOT / path).read_text()) for path in sources() if path.parts[0] == "edge_tse"}
    assert {path: names for path, names in found.items() if names} == FOUND_BY_NAME


def test_the_laboratory_is_imported_inside_functions() -> None:
    tree = ast.parse((ROOT / LABORATORY).read_text())
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and str(n.module).startswith("quantization")]
    assert {str(n.module) for n in imports} == {
        f"quantization.{name}"
        for name in ("analyse", "evaluate", "examples", "float_analysis", "quantize", "train", "trial_list", "workers")
    }
    assert all(id(n) in inside for n in imports)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Front doors (``__init__``) aside: a package's own imports of what it re-exports are no dependency of anything."""
    modules = {path.with_suffix("").as_posix().replace("/", "."): path for path in sources() if path.name != "__init__.py"}
    arrows: dict[str, set[str]] = {}
    for module, path in modules.items():
        statements = [node for node in ast.walk(parsed((ROOT / path).read_text())) if isinstance(node, ast.ImportFrom)]
        named = {f"{node.module}.{alias.name}" for node in statements for alias in node.names} | {str(n.module) for n in statements}
        arrows[module] = named & modules.keys()
    assert sum(map(len, arrows.values())) > 400
    TopologicalSorter(arrows).prepare()  # CycleError names the circle


def test_verbs_are_thin() -> None:
    """Lines of what they do; what they take is as long as the options are many."""
    verbs = {
        node.name: node.end_lineno - node.body[0].lineno + 1
        for path in sources()
        if path.as_posix().startswith("edge_tse/cli/")
        for node in ast.walk(parsed((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno
        and any("app.command" in ast.unparse(d) for d in node.decorator_list)
    }
    assert len(verbs) >= 19
    assert {name: lines for name, lines in verbs.items() if lines > 30} == {}


def test_c_includes_headers_of_its_own_package() -> None:
    every = [path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.[ch]")]
    found = {path.as_posix(): set(included(path)) for path in every}
    assert {path: headers for path, headers in found.items() if headers} == INCLUDED


def test_every_leaf_exists_and_imports_what_it_is_listed_for() -> None:
    """A list that outlives its reason would allow what nobody needs."""
    reasons = {(path.as_posix(), name) for path in sources() for name, _, _ in imported((ROOT / path).read_text())}
    stale = [
        (package, leaf)
        for package, leaves in LEAVES.items()
        for leaf in leaves
        if not any(path.startswith(leaf) and name == package for path, name in reasons)
    ]
    assert stale == []
