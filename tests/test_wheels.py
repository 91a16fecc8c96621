"""What `make wheels` leaves is whole, tagged as it is, and all that an empty folder needs, on each Python and each processor."""

from __future__ import annotations

import email
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from edge_tse import audio
from edge_tse.voice import load_voice
from tests.test_extras import COMPILED, ROOT, run, tracked

pytestmark = pytest.mark.slow

PROCESSORS = {"x86_64": 62, "aarch64": 183}
"""Processors, with the number that an ELF file has for each."""
PYTHONS = ("3.11", "3.12", "3.13")
CLIPS = ROOT / "edge_tse" / "assets" / "demo"
PACKAGES = ("edge_tse/", "quantization/", "targets/", "firmware_bridge/")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("ziglang", "build", "twine", "auditwheel", "wheel"):
        pytest.importorskip(name, reason=f"building wheels needs {name}: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, ROOT / ".ci" / "wheels.py", "--out", folder)
    return folder


def wheel_for(processor: str, folder: Path) -> Path:
    (found,) = folder.glob(f"*_{processor}.whl")
    return found


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("/")}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_the_wheel_holds_the_four_packages_and_nothing_else(made: Path, processor: str) -> None:
    wheel = wheel_for(processor, made)
    assert re.fullmatch(rf"edge_tse-[\d.]+-cp311-abi3-manylinux2014_{processor}\.manylinux_2_17_{processor}\.whl", wheel.name)
    inside = contents(wheel)
    ours = {name: content for name, content in inside.items() if ".dist-info/" not in name}
    wanted = {name for name in tracked() if name.startswith(PACKAGES) and name not in COMPILED.values()} | COMPILED.keys()
    assert set(ours) == wanted
    assert {"edge_tse/assets/small.etse", "edge_tse/assets/nano.etse", "firmware_bridge/c/library/kernels.c"} <= set(ours)
    assert all(content == (ROOT / name).read_bytes() for name, content in ours.items() if name not in COMPILED)
    beside = {name.partition(".dist-info/")[2] for name in inside.keys() - ours.keys()}
    assert beside == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_what_is_compiled_is_for_that_processor_and_says_nothing_of_this_machine(made: Path, processor: str) -> None:
    inside = contents(wheel_for(processor, made))
    for binary in map(inside.__getitem__, COMPILED):
        (machine,) = struct.unpack_from("<H", binary, 18)
        assert binary[:5] == b"\x7fELF\x02"
        assert machine == PROCESSORS[processor]
        assert [v for v in re.findall(rb"GLIBC_2\.(\d+)", binary) if int(v) > 17] == []
        assert str(Path.home()).encode() not in binary
        assert sys.prefix.encode() not in binary


def metadata_of(wheel: Path) -> Message:
    (text,) = [content for name, content in contents(wheel).items() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(text)


def test_metadata(made: Path) -> None:
    stated = metadata_of(wheel_for("x86_64", made))
    assert (stated["License-Expression"], stated["License-File"]) == ("Apache-2.0", "LICENSE")
    assert not [line for line in stated.get_all("Classifier", []) if line.startswith("License")]  # PEP 639: one place
    assert {f"Programming Language :: Python :: {version}" for version in PYTHONS} <= set(stated.get_all("Classifier", []))
    # No index, no host: none is known.
    assert stated.get_all("Project-URL", []) == []
    page = stated.get_payload()
    assert isinstance(page, str)
    assert not re.search(r"\]\((?!http)|!\[|<img", page), "the page of the package has links or pictures that only a clone has"


def test_the_page_of_the_package_names_every_extra_and_commands_that_exist() -> None:
    page = (ROOT / "docs" / "package.md").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`([\w-]+)`", row)}
    assert listed == set(extras) - {"dev"}
    from edge_tse.cli import main

    for verb in {line.split()[1] for line in re.findall(r"^    (edge-tse .*)$", page, re.MULTILINE)}:
        assert main([verb, "--help"]) == 0


def test_the_sdist_builds_what_it_should(made: Path) -> None:
    """Its wheels are those above; it has no half of the tests, and no built file."""
    (sdist,) = made.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "CHANGELOG.md", "docs/package.md", *COMPILED.values()} <= inside
    assert not [name for name in inside if name.startswith("tests/") or name.endswith((".so", ".pyc"))]


def python_of(version: str) -> Path | None:
    """An interpreter of that version on this machine, on the path or among pyenv's."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" == version:
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = shutil.which(f"python{version}")
    for python in ([Path(found)] if found else []) + sorted(pyenv.glob(f"{version}.*/bin/python")):
        # pyenv puts a python of each version on the path that refuses to run.
        if not subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode:
            return python
    return None


@pytest.fixture
def installed(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Iterator[Path]:
    """The commands of a clean environment of that Python with the wheel in it, which is removed afterwards."""
    python = python_of(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param} on this machine")
    run(python, "-m", "venv", tmp_path / "venv")
    binaries = tmp_path / "venv" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", f"{wheel_for(os.uname().machine, made)}[litert,firmware]")
    yield binaries
    shutil.rmtree(tmp_path / "venv")


@pytest.mark.parametrize("installed", PYTHONS, indirect=True)
def test_from_an_empty_folder(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (empty := tmp_path / "empty").mkdir()
    shutil.copy(CLIPS / "slt-enroll.flac", empty / "alice.flac")
    shutil.copy(CLIPS / "slt-speech.flac", empty / "dinner.flac")

    def edge_tse(*words: str) -> str:
        return run(installed / "edge-tse", *words, cwd=empty).stdout

    run(installed / "python", "-m", "pip", "check")
    doctor = json.loads(edge_tse("doctor", "--json"))
    assert doctor["front_end"]["compiled"] is True
    # The line works from here: it names the wheel.
    (onnx,) = [extra["install"] for extra in doctor["extras"] if extra["extra"] == "onnx"]
    assert re.search(r"pip install '.*edge_tse-[\d.]+-cp311-abi3-.*\.whl\[onnx\]'$", onnx)
    edge_tse("demo", "--out", "demo", "--json")
    edge_tse("enroll", "alice.flac", "-o", "alice.voice", "--json")
    edge_tse("extract", "dinner.flac", "--voice", "alice.voice", "-o", "alice.wav", "--json")
    edge_tse("verify", "--json")
    edge_tse("compile", "--target", "linux-aarch64", "--voice", "alice.voice", "-o", "alice.tflite", "--json")
    edge_tse("verify", "alice.tflite", "--json")
    # Compiled from the C that the wheel brings.
    edge_tse("compile", "nano", "--target", "stm32h7", "-o", "nano.zip", "--json")
    made = {path.name for path in empty.iterdir()}
    assert {"demo", "alice.voice", "alice.wav", "alice.tflite", "alice.tflite.etse", "nano.zip"} <= made


@pytest.fixture(scope="module")
def foreign(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str | Path], Path]:
    """A Python for aarch64 on an emulator, and a folder with the wheel in it."""
    emulator = shutil.which("qemu-aarch64")
    if emulator is None or shutil.which("apt-get") is None:
        pytest.skip("qemu-aarch64 and Debian's packages for arm64 are needed to run an aarch64 Python here")
    folder = tmp_path_factory.mktemp("aarch64")
    run(ROOT / ".ci" / "aarch64_python", folder / "root")
    platforms = [f"--platform=manylinux_2_{n}_aarch64" for n in (17, 27, 28)] + ["--platform=manylinux2014_aarch64"]
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--python-version=3.11", *platforms)
    run(*pip, "--target", folder / "site", f"{wheel_for('aarch64', made)}[audio]")
    return [emulator, "-L", folder / "root", folder / "root" / "usr" / "bin" / "python3.11"], folder / "site"


def test_the_other_processor_gives_the_same_bits(
    foreign: tuple[list[str | Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Enroll and extract on an emulated aarch64: the sound is that of this machine, sample for sample.

    On the reference engine: LiteRT for aarch64 ends with a segmentation fault under qemu-user 7.2.
    """
    python, site = foreign
    digests = []
    for here, command in ((True, [sys.executable, "-m", "edge_tse"]), (False, [*python, "-m", "edge_tse"])):
        (folder := tmp_path / str(here)).mkdir()
        shutil.copy(CLIPS / "slt-enroll.flac", folder / "alice.flac")
        samples, rate_hz = audio.read(CLIPS / "slt-speech.flac")
        audio.write(folder / "dinner.wav", samples[:, :rate_hz], rate_hz)
        monkeypatch.setenv("PYTHONPATH", str(ROOT if here else site))
        run(*command, "enroll", "alice.flac", "-o", "alice.voice", cwd=folder)
        run(*command, "extract", "dinner.wav", "--voice", "alice.voice", "-o", "alice.wav", "--engine", "reference", cwd=folder)
        digests.append(hashlib.sha256((folder / "alice.wav").read_bytes()).hexdigest())
    assert digests[0] == digests[1]
    ours, theirs = (load_voice(tmp_path / str(here) / "alice.voice").embedding for here in (True, False))
    assert ours.tobytes() == theirs.tobytes()
    program = "import platform\nfrom edge_tse.front import compiled_state as s\nprint(platform.machine(), s()[0])"
    state = run(*python, "-c", program, cwd=tmp_path)  # a program on the command line imports from its folder first
    assert state.stdout == "aarch64 True\n"
