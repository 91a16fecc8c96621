"""tflite-runtime 2.14, the last of its name, in an environment of its own: the same file, within the stated tolerance."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from edge_tse.golden import TOLERANCE_LSB
from targets.tflite import emit
from tests import graphs

ROOT = Path(__file__).parents[2]


def requirements() -> list[str]:
    """What the extra ``device-legacy`` adds, without edge-tse itself and what only files of sound need."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [r for r in extras["device-legacy"] if not r.startswith(("edge-tse", "flatbuffers"))]
    return [*named, f"flatbuffers=={metadata.version('flatbuffers')}"]  # another version lays the same file out in another order


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 has no wheel for Python 3.12 and later")
    folder = tmp_path_factory.mktemp("legacy")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the environment cannot be made here: {done.stderr.strip().splitlines()[-1]}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["xnnpack", "builtin_ref"])
def test_the_same_file_on_tflite_runtime(python: Path, tmp_path: Path, kernels: str) -> None:
    artifact = graphs.artifact(graphs.SMALL, frames=1000)
    artifact.save(tmp_path / "a.etse")
    (tmp_path / "a.tflite").write_bytes(emit(artifact.graph, {}))
    command = [
        str(python),
        str(Path(__file__).with_name("legacy_run.py")),
        *(str(tmp_path / n) for n in ("a.etse", "a.tflite")),
        kernels,
    ]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["name"] == f"tflite-runtime/{'builtin' if kernels == 'xnnpack' else kernels}"
    assert report["numpy"].startswith("1.")
    assert report["same_file"]
    assert report["frames"] == 1000
    assert report["worst_lsb"] <= TOLERANCE_LSB[report["name"]]
