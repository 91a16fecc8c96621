"""Extras: what is installed imports, what is declared resolves, and the wheel does the main job on its own."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from edge_tse.cli import doctor

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "cyclonedx-bom": "cyclonedx_py",
    "cyclonedx-python-lib": "cyclonedx",
    "lightning-fabric": "lightning_fabric",
    "pip-audit": "pip_audit",
    "pyserial": "serial",
    "pyyaml": "yaml",
    "pytest-cov": "pytest_cov",
    "pytest-randomly": "pytest_randomly",
    "pytest-xdist": "xdist",
    "tflite-micro": "tflite_micro",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""Distribution -> module, where the names differ."""


def distributions(*extras: str) -> list[str]:
    """Everything these extras name, without versions and without edge-tse itself."""
    names = {re.split(r"[\[<>=;~! ]", line)[0] for extra in extras for line in EXTRAS[extra]}
    return sorted(names - {"edge-tse"})


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def test_extras_have_their_names() -> None:
    together = {"litert", "audio", "train", "executorch", "onnx", "tflm", "firmware", "eval", "hearing", "cluster"}
    assert set(EXTRAS) == together | {"live", "studio", "device-legacy", "all", "dev"}


def test_the_doctor_looks_for_every_extra() -> None:
    """By packages that it really installs. A set of others, and what wants an environment of its own, are not looked for."""
    assert set(doctor.EXTRAS) == set(EXTRAS) - {"all", "dev", "device-legacy"}
    strange = {extra: set(known) - set(distributions(extra)) for extra, (_, known) in doctor.EXTRAS.items()}
    assert {extra: names for extra, names in strange.items() if names - {"ethos-u-vela"}} == {}


def test_all_is_all_that_goes_together() -> None:
    assert EXTRAS["all"] == ["edge-tse[litert,audio,train,executorch,onnx,tflm,firmware,eval,hearing,cluster]"]


def test_torch_has_one_version() -> None:
    """executorch is built against one and does not say which."""
    stated = {line for lines in EXTRAS.values() for line in lines if line.startswith("torch=")}
    assert len(stated) == 1


@pytest.mark.parametrize("name", distributions(*EXTRAS))
def test_what_is_installed_imports(name: str) -> None:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    # In a process of its own: two of them may not like each other's libraries, and warnings of theirs are not ours.
    run(sys.executable, "-c", f"import {MODULES.get(name, name)}")


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["all", "device-legacy"])
def test_extras_install_together_and_import(extra: str, environment: Path) -> None:
    """``all`` holds every other extra, so each of them installs too."""
    if extra == "device-legacy" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime 2.14 has no wheel for Python 3.12 and later")
    run(environment, "-m", "pip", "install", "--quiet", f"{ROOT}[{extra}]")
    run(environment, "-m", "pip", "check")
    listed = json.loads(run(environment, "-m", "pip", "list", "--format", "json").stdout)
    versions = {item["name"].lower(): item["version"] for item in listed}
    if extra == "device-legacy":
        assert versions["numpy"].startswith("1.")
        wanted = distributions("device-legacy")
    else:
        assert "tflite-runtime" not in versions
        wanted = distributions(*(set(EXTRAS) - {"device-legacy", "dev", "live", "studio"}))
        assert len(wanted) > 15
    for name in wanted:
        run(environment, "-c", f"import {MODULES.get(name, name)}")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Path]:
    """The Python of a fresh virtual environment, which is removed afterwards: some hold gigabytes."""
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    yield tmp_path / "venv" / "bin" / "python"
    shutil.rmtree(tmp_path / "venv")


def tracked() -> list[str]:
    """Paths in the repository that exist."""
    return [name for name in run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is in the repository, so that no stray file gets in and no build folder stays."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in tracked():
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "source")
    (found,) = folder.glob("*.whl")
    return found


COMPILED = {"edge_tse/_front.abi3.so": "edge_tse/_front.c", "edge_tse/nn/_beam.abi3.so": "edge_tse/nn/_beam.c"}
"""What is compiled, and from what."""


def platform_tag() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def able_to_compile() -> bool:
    return shutil.which("cc") is not None and (Path(sysconfig.get_path("include")) / "Python.h").is_file()


@pytest.mark.slow
def test_the_wheel_holds_the_four_packages_whole(wheel: Path) -> None:
    packages = ("edge_tse/", "quantization/", "targets/", "firmware_bridge/")
    with zipfile.ZipFile(wheel) as file:
        inside = {name for name in file.namelist() if ".dist-info/" not in name}
    # What is compiled goes in compiled, where there is a compiler, for every Python from 3.11 on.
    compiled = inside & COMPILED.keys()
    assert inside - compiled == {name for name in tracked() if name.startswith(packages) and name not in COMPILED.values()}
    assert wheel.name.endswith(f"-cp311-abi3-{platform_tag()}.whl")
    assert compiled == COMPILED.keys() or not able_to_compile()
    assert {"edge_tse/assets/small.etse", "edge_tse/py.typed", "targets/tflite.py"} <= inside


def check_bill(text: str, wheel: Path, names: set[str]) -> None:
    """A bill of materials is CycloneDX, and names the wheel, its models and what is installed with it."""
    pytest.importorskip("cyclonedx", reason="checking a bill needs cyclonedx-python-lib: pip install '.[dev]'")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    content = json.loads(text)
    subject = content["metadata"]["component"]
    assert f"{subject['name']}-{subject['version']}".replace("edge-tse", "edge_tse") in wheel.name
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    models = {part["name"] for part in content["components"] if part["type"] == "machine-learning-model"}
    assert {"edge_tse/assets/small.etse", "quantization/checkpoints/small.pt"} <= models
    listed = {part["name"].lower() for part in content["components"]} - models
    assert names - {"pip", "setuptools", "edge-tse"} <= listed
    assert "file:" not in text


@pytest.mark.slow
def test_the_wheel_does_the_main_job_without_torch(wheel: Path, environment: Path, tmp_path: Path) -> None:
    binaries = environment.parent
    run(environment, "-m", "pip", "install", "--quiet", f"{wheel}[litert]")
    run(environment, "-m", "pip", "check")
    listed = json.loads(run(environment, "-m", "pip", "list", "--format", "json").stdout)
    names = {item["name"].lower() for item in listed}
    assert "edge-tse" in names
    assert not names & {"torch", "brevitas", "scipy", "tensorflow"}
    # Elsewhere than in the repository: what runs is what was installed.
    doctor = json.loads(run(binaries / "edge-tse", "doctor", "--json", cwd=tmp_path).stdout)
    assert {engine["engine"] for engine in doctor["engines"] if engine["runs"]} == {"litert", "reference"}
    assert all("pip install" in engine["detail"] for engine in doctor["engines"] if not engine["runs"])
    with zipfile.ZipFile(wheel) as file:
        assert doctor["front_end"]["compiled"] is ("edge_tse/_front.abi3.so" in file.namelist()), doctor["front_end"]["detail"]
    check_bill(run(sys.executable, ROOT / ".ci" / "wheel_bill.py", wheel, environment).stdout, wheel, names)
    run(binaries / "edge-tse", "verify", "--json", cwd=tmp_path)
    run(binaries / "edge-tse", "demo", "--out", tmp_path / "demo", "--json", cwd=tmp_path)
    page = (tmp_path / "demo" / "index.html").read_text()
    assert "data:audio/" in page
    assert 'src="http' not in page
