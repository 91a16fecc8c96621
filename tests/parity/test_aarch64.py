"""A 64-bit Arm, emulated: the same file on LiteRT gives the integers that were recorded here.

Debian's Python for arm64 is unpacked into a folder, not installed, and runs under qemu-user; no root, no chroot.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import pytest

from edge_tse.artifact import verify
from edge_tse.engines.litert import LiteRTNetwork
from edge_tse.golden import TOLERANCE_LSB
from targets.tflite import emit
from tests import graphs

ROOT = Path(__file__).parents[2]
QEMU = shutil.which("qemu-aarch64")
TOOLS = ("apt-get", "dpkg", "qemu-aarch64")

# From 2.2 on the wheels crash under qemu-user, and SME does not work there. flatbuffers as here: another version lays the same file
# out in another order.
WHEELS = ("ai-edge-litert>=2.1,<2.2", "backports.strenum", f"flatbuffers=={metadata.version('flatbuffers')}", "numpy==2.1.3")
CPU = "max,sme=off"
PYTHON = "python3.11"
DEBS = (
    *(f"{PYTHON}-minimal", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib"),
    *("libbz2-1.0", "libc6", "libcrypt1", "libexpat1", "libffi8", "libgcc-s1", "libgomp1", "liblzma5"),
    *("libsqlite3-0", "libssl3", "libstdc++6", "libuuid1", "zlib1g"),
)


def attempt(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"an arm64 userland cannot be had here: {' '.join(command[:3])}: {(done.stderr or done.stdout).strip()[-300:]}")


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that is an arm64 Python with NumPy and LiteRT, and edge-tse from this checkout."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install qemu-user, on Debian 12")
    folder = tmp_path_factory.mktemp("arm64")
    for part in ("state/lists/partial", "cache/archives/partial", "root", "wheels", "site"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": str(folder / "state"),
        "Dir::State::status": str(folder / "status"),
        "Dir::Cache": str(folder / "cache"),
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    attempt([*apt, "update"], folder)
    attempt([*apt, "download", *DEBS], folder)
    for deb in folder.glob("*.deb"):
        attempt(["dpkg", "-x", str(deb), "root"], folder)
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)] + ["manylinux2014_aarch64", "any"]
    tags = [word for platform in platforms for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip"]
    flags = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--python-version", "311"]
    attempt([*pip, "download", *flags, *tags, "--dest", "wheels", *WHEELS], folder)
    for wheel in (folder / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(folder / "site")
    root = folder / "root"
    paths = f"PYTHONPATH={ROOT}:{folder / 'site'}"
    return [str(QEMU), "-cpu", CPU, "-L", str(root), "-E", paths, str(root / "usr/bin" / PYTHON), "-B"]


@pytest.mark.slow  # it downloads; some 20 s in all
@pytest.mark.parametrize("kernels", ["xnnpack", "builtin_ref"])
def test_the_same_file_on_an_arm(arm: list[str], tmp_path: Path, kernels: str) -> None:
    artifact = graphs.artifact(graphs.SMALL, frames=2000)
    artifact.save(tmp_path / "a.etse")
    (tmp_path / "a.tflite").write_bytes(emit(artifact.graph, {}))
    script = str(Path(__file__).with_name("legacy_run.py"))
    command = [*arm, script, str(tmp_path / "a.etse"), str(tmp_path / "a.tflite"), kernels]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    here = LiteRTNetwork(artifact.graph, kernels=kernels)
    assert report["name"] == here.name == f"litert/{kernels}"
    assert report["same_file"]
    assert report["frames"] == 2000
    assert report["worst_lsb"] <= TOLERANCE_LSB[report["name"]]
    # Not only as near: every kernel set differs from the golden integers exactly where it does here.
    wanted = asdict(verify(artifact, here))
    assert (report["worst_lsb"], report["mismatch_rate"]) == (wanted["worst_lsb"], wanted["mismatch_rate"])


@pytest.mark.slow
def test_it_is_an_arm(arm: list[str]) -> None:
    done = subprocess.run([*arm, "-c", "import platform; print(platform.machine())"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "aarch64"
