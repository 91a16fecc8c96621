"""`make release`, on one format of the smaller model: digests, a valid bill, a second run that goes on, and what is left out."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from edge_tse.artifact import Artifact
from edge_tse.deployment import compilation
from edge_tse.deployment.compiled_file import find_compiled
from edge_tse.personalization import universal

pytest.importorskip("ai_edge_litert", reason="a .tflite is replayed by ai-edge-litert: pip install '.[litert]'")

SOURCE = Path(__file__).parent.parent / ".ci" / "release.py"
NAME = "edge-tse-nano.tflite"
Release = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks there for its annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def release(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Release:
    def run(*formats: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["release.py", *formats, "--models", "nano", "--out", str(tmp_path)])
        code = script.main()
        return code, capsys.readouterr().out

    return run


def test_a_release_is_whole_and_a_second_run_goes_on(script: ModuleType, release: Release, tmp_path: Path) -> None:
    code, said = release("tflite")
    assert code == 0
    assert "all formats" in said
    content = (tmp_path / NAME).read_bytes()
    compiled = find_compiled(tmp_path / NAME)
    assert compiled is not None
    assert compiled.artifact.digest == universal(Artifact.shipped("nano")).digest
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tmp_path.iterdir()
        if path.name not in ("SHA256SUMS", ".release.json")
    }
    assert set(sums) == {NAME, f"{NAME}.etse", "edge-tse-models.cdx.json"}
    changed = (tmp_path / NAME).stat().st_mtime_ns
    assert "kept, it is up to date" in release("tflite")[1]
    assert (tmp_path / NAME).stat().st_mtime_ns == changed
    # A damaged file, and one of other sources, are made anew.
    (tmp_path / NAME).write_bytes(content[:-1])
    assert "kept" not in release("tflite")[1]
    assert (tmp_path / NAME).read_bytes() == content
    journal = tmp_path / ".release.json"
    journal.write_text(json.dumps({NAME: "another"}))
    assert "kept" not in release("tflite")[1]


def test_the_bill_is_valid_and_names_the_files(script: ModuleType, release: Release, tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="checking a bill needs cyclonedx-python-lib: pip install '.[dev]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    release("tflite")
    text = (tmp_path / "edge-tse-models.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    (model,) = json.loads(text)["components"]
    assert model["version"] == Artifact.shipped("nano").digest[:16]
    ((name, digest),) = [(file["name"], file["hashes"][0]["content"]) for file in model["components"]]
    assert (name, digest) == (NAME, hashlib.sha256((tmp_path / NAME).read_bytes()).hexdigest())


def test_a_missing_runtime_is_said_and_what_lay_there_is_not_passed_off(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edge-tse-nano.onnx").write_bytes(b"of an earlier day")
    known = compilation.lacking
    monkeypatch.setattr(compilation, "lacking", lambda needs: ("onnx",) if "onnx" in needs else known(needs))
    code, said = release("onnx", "tflite")
    assert code == 1
    assert "edge-tse-nano.onnx: left out: onnx is not installed" in said
    assert "INCOMPLETE: 1 left out" in said
    assert (tmp_path / NAME).exists()
    assert "nano.onnx" not in (tmp_path / "SHA256SUMS").read_text()


def test_an_unknown_format_is_refused(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        release("wasm")
    assert ended.value.code == 2
    assert "no format wasm: choose from tflite, onnx, pte, c, plugin" in capsys.readouterr().err
