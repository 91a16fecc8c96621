"""A compiled file is verified and timed as it is, by the record beside it."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_tse.artifact import Artifact
from edge_tse.cli import output
from edge_tse.deployment.compilation import compile_for
from edge_tse.deployment.compiled_file import find_compiled, record_path
from edge_tse.deployment.target import find_target, load_target
from edge_tse.errors import ArtifactError, EngineError
from edge_tse.voice import save_voice
from tests import graphs
from tests.command import Run

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install '.[litert]'")


@pytest.fixture(scope="module")
def model() -> Artifact:
    return graphs.artifact(graphs.NANO, frames=20)


@pytest.fixture(scope="module")
def once(model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("compiled") / "a.tflite"
    compile_for(find_target("litert"), model, to)
    return to


@pytest.fixture
def file(once: Path, tmp_path: Path) -> Path:
    """A compiled file and its record, of one's own."""
    for path in (once, record_path(once)):
        shutil.copy(path, tmp_path)
    return tmp_path / once.name


def test_the_artifact_is_had_back_to_the_last_bit(file: Path, model: Artifact) -> None:
    found = find_compiled(file)
    assert found is not None
    assert found.artifact.to_bytes() == model.to_bytes()
    assert found.content == file.read_bytes()
    assert (found.target.name, found.engine) == ("litert", "litert")


def test_the_record_is_an_artifact(run: Run, file: Path) -> None:
    assert run("verify", record_path(file)).code == 0


def test_verify_runs_the_very_file(run: Run, file: Path, model: Artifact) -> None:
    found = run("verify", file, "--json").json
    assert (found["engine"], found["worst_lsb"], found["artifact"]) == ("litert/xnnpack", 0, model.digest)
    assert found["compiled"] == str(file)
    assert "compiled for litert from" in re.sub(r"\s+", " ", run("verify", file).out)


def test_profile_times_it(run: Run, file: Path, model: Artifact) -> None:
    figures = run("profile", file, "--hops", "20", "--json").json["figures"]
    assert figures["artifact"] == model.digest
    assert figures["model"]["file_bytes"] == file.stat().st_size


def test_with_a_voice_folded_in(run: Run, model: Artifact, tmp_path: Path) -> None:
    save_voice(graphs.voice(model.voice_model), tmp_path / "a.voice")
    model.save(tmp_path / "model.etse")
    to = tmp_path / "a.tflite"
    made = run("compile", tmp_path / "model.etse", "--target", "host", "--voice", tmp_path / "a.voice", "-o", to, "--json").json
    assert made["record"] == str(record_path(to))
    assert run("verify", to, "--json").json["artifact"] == made["artifact"]


def test_onnx(run: Run, model: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")
    pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
    compile_for(find_target("onnx"), model, tmp_path / "a.onnx")
    assert run("verify", tmp_path / "a.onnx", "--json").json["engine"].startswith("onnx/")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "suffix"), [("executorch", "pte"), ("qemu-mps3-an547", "img")])
def test_other_runtimes(run: Run, model: Artifact, tmp_path: Path, target: str, suffix: str) -> None:
    pytest.importorskip("executorch" if suffix == "pte" else "ziglang", reason="what makes the file is not installed")
    if suffix == "img" and shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    compile_for(find_target(target), model, tmp_path / f"a.{suffix}")
    found = run("verify", tmp_path / f"a.{suffix}", "--json").json
    assert found["frames"] == 20
    assert found["engine"] in ("executorch/xnnpack", "native/mve")


class TestRefusals:
    def test_another_file_of_the_same_name(self, run: Run, file: Path) -> None:
        file.write_bytes(file.read_bytes() + b"\0")
        complaint = run("verify", file).complaint
        assert "is not the file that" in complaint
        assert complaint.endswith("compile it again\n")

    def test_an_artifact_that_is_no_record(self, file: Path, model: Artifact) -> None:
        model.save(record_path(file))
        with pytest.raises(ArtifactError, match="names no compiled file"):
            find_compiled(file)

    def test_a_record_of_something_else(self, file: Path, model: Artifact) -> None:
        kept = Artifact.load(record_path(file))
        stated = {**kept.provenance["compiled"], "artifact": "0" * 64}
        replace(model, provenance={**model.provenance, "compiled": stated}).save(record_path(file))
        with pytest.raises(ArtifactError, match="it names '000000000000"):
            find_compiled(file)

    @pytest.mark.parametrize(("key", "value"), [("target", 3), ("runtime", "abacus"), ("sha256", None), ("more", "x")])
    def test_a_record_that_nobody_wrote(self, file: Path, model: Artifact, key: str, value: object) -> None:
        kept = Artifact.load(record_path(file))
        stated = {**kept.provenance["compiled"], key: value}
        replace(model, provenance={**model.provenance, "compiled": stated}).save(record_path(file))
        with pytest.raises(ArtifactError, match=key):
            find_compiled(file)

    def test_without_its_record(self, run: Run, file: Path) -> None:
        record_path(file).unlink()
        assert "a.tflite.etse, which `compile` writes beside its files, is not there" in run("verify", file).complaint

    def test_an_engine_of_another_format(self, run: Run, file: Path) -> None:
        assert "--engine onnx does not load it" in run("verify", file, "--engine", "onnx").complaint
        assert "--engine onnx does not load it" in run("profile", file, "--engine", "onnx").complaint

    def test_a_target_beside_the_file(self, run: Run, file: Path) -> None:
        assert "leave --target and --voice out" in run("profile", file, "--target", "host").complaint

    def test_the_record_is_over_no_input(self, run: Run, model: Artifact, tmp_path: Path) -> None:
        model.save(tmp_path / "a.tflite.etse")
        done = run("compile", tmp_path / "a.tflite.etse", "--target", "litert", "-o", tmp_path / "a.tflite")
        assert "is also the input" in done.complaint

    @pytest.mark.slow
    def test_what_nothing_here_runs(self, run: Run, model: Artifact, tmp_path: Path) -> None:
        pytest.importorskip("ethosu", reason="Vela is not installed")
        compile_for(load_target("ethos-u55-128"), model, tmp_path / "a.tflite")
        found = find_compiled(tmp_path / "a.tflite")
        assert found is not None
        with (
            pytest.raises(EngineError, match=r"nothing on this machine runs .*: what it was made of is .*a\.tflite\.etse"),
            found.open(),
        ):
            pass
        assert "runs on no engine of this machine: `edge-tse profile" in run("profile", tmp_path / "a.tflite").complaint


class TestSteps:
    def test_compile_tells_its_steps(self, model: Artifact, tmp_path: Path) -> None:
        told: list[str] = []
        compile_for(find_target("litert"), model, tmp_path / "a.tflite", tell=told.append)
        assert [step.partition(" ")[0] for step in told] == ["writing", "replaying"]

    def test_a_line_now_and_then_where_nobody_watches(self, capfd: pytest.CaptureFixture[str]) -> None:
        with output.steps(as_json=False, every_s=0.05) as tell, output.quietly():
            tell("writing a file")
            time.sleep(0.3)
        lines = capfd.readouterr().err.splitlines()
        assert lines
        assert all(re.fullmatch(r"edge-tse: writing a file, \d+ s", line) for line in lines)

    def test_nothing_for_short_work_or_with_json(self, capfd: pytest.CaptureFixture[str]) -> None:
        for as_json in (False, True):
            with output.steps(as_json) as tell:
                tell("writing a file")
        assert capfd.readouterr().err == ""

    def test_on_a_terminal(self) -> None:
        program = "from edge_tse.cli.output import quietly, steps\nimport time\n"
        program += "with steps(False) as tell, quietly():\n    tell('writing a file')\n    time.sleep(0.5)\n"
        terminal, end = pty.openpty()
        try:
            subprocess.run([sys.executable, "-c", program], stderr=end, check=True)
            assert b"writing a file" in os.read(terminal, 4096)
        finally:
            os.close(terminal)
            os.close(end)
