"""The archive of C sources as build systems take it: what can be built here is built and run, the rest is held to its rules."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from edge_tse.artifact import Artifact
from edge_tse.deployment.runtime import runtime_named
from edge_tse.deployment.target import load_target
from edge_tse.personalization import personalize
from edge_tse.version import __version__
from firmware_bridge.archive import PACKAGE, packaged_files
from firmware_bridge.build import LIBRARY, SOURCES, zig
from firmware_bridge.codegen import generate, voice_patch
from tests import graphs

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "docs" / "integration" / "example.c"
PORTING = ROOT / "docs" / "porting.md"
ZEPHYR = PACKAGE / "zephyr"
STREAM = "etse_stream.c"
COMPILED = ["model.c", "frame.c", *SOURCES, STREAM]
"""Every source of an archive, in the order in which descriptions name them."""
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes", "-Wmissing-prototypes", "-Werror")

pytest.importorskip("ziglang", reason="compiling C needs ziglang: pip install '.[firmware]'")


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return graphs.artifact()


@pytest.fixture(scope="module")
def archive(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edge-tse compile` wrote, unpacked."""
    folder = tmp_path_factory.mktemp("archive") / "edge-tse"
    content = runtime_named("native-c").write(artifact, load_target("stm32h7")).content
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        packed.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The example's sound, compiled by hand."""
    program = tmp_path_factory.mktemp("by_hand") / "example"
    sources = sorted((archive / "src").glob("*.c"))
    flags = ("-std=c11", "-O2", "-ffp-contract=off", "-fno-math-errno", f"-I{archive / 'src'}")
    built(*zig(), *flags, *WARNINGS, EXAMPLE, *sources, "-o", program)
    return played(program)


def built(*command: object, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


def played(program: Path) -> bytes:
    """Two ears of noise through the example."""
    sound = np.random.default_rng(7).integers(-20000, 20000, (1003, 2)).astype("<i2").tobytes()
    out = subprocess.run([str(program), "2"], input=sound, capture_output=True, timeout=20, check=True).stdout
    assert len(out) == len(sound)
    assert np.abs(np.frombuffer(out, "<i2").astype(int)).max() > 500
    return out


def needs(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {package}")
    return path


def test_an_archive_is_library_model_and_descriptions(archive: Path) -> None:
    found = {path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()}
    generated = {f"src/{name}" for name in ("model.h", "model.c", "frame.c")}
    assert found == {*packaged_files(), *generated, "sbom.cdx.json"}
    assert {path.name for path in (archive / "src").iterdir()} >= {path.name for path in LIBRARY.iterdir()}
    assert not [name for name in found if b"@VERSION@" in (archive / name).read_bytes()]
    assert (archive / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_description_names_the_same_sources(archive: Path) -> None:
    cmake, zephyr = ((archive / name).read_text() for name in ("CMakeLists.txt", "zephyr/CMakeLists.txt"))
    assert re.findall(r"src/(\w+\.c)", cmake) == COMPILED
    assert re.findall(r"\$\{EDGE_TSE_C\}/(\w+\.c)", zephyr) == COMPILED
    pack = ElementTree.parse(archive / "edge-tse.edge-tse-c.pdsc")
    listed = [file.attrib["name"] for file in pack.iter("file") if file.attrib["category"] == "source"]
    assert listed == [f"src/{name}" for name in COMPILED]
    # Arduino and PlatformIO compile whatever is in the folder.
    assert sorted(path.name for path in (archive / "src").glob("*.c")) == sorted(COMPILED)
    for text in (cmake, zephyr, (archive / "library.json").read_text()):
        assert "-ffp-contract=off" in text


CONSUMER = """
cmake_minimum_required(VERSION 3.15)
project(product LANGUAGES C)
{found}
add_executable(product {example})
target_link_libraries(product PRIVATE edge_tse::edge_tse)
"""


def installed(archive: Path, folder: Path, *options: str) -> Path:
    needs("cmake", "cmake")
    needs("cc", "gcc")
    prefix = folder / "prefix"
    built("cmake", "-S", archive, "-B", folder / "library", f"-DCMAKE_INSTALL_PREFIX={prefix}", *options)
    built("cmake", "--build", folder / "library", "--target", "install")
    return prefix


@pytest.mark.slow
def test_cmake_finds_what_was_installed(archive: Path, expected: bytes, tmp_path: Path) -> None:
    prefix = installed(archive, tmp_path)
    (tmp_path / "product").mkdir()
    lines = CONSUMER.format(found=f"find_package(edge_tse {__version__} REQUIRED)", example=EXAMPLE)
    (tmp_path / "product" / "CMakeLists.txt").write_text(lines)
    built("cmake", "-S", tmp_path / "product", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    built("cmake", "--build", tmp_path / "build")
    assert played(tmp_path / "build" / "product") == expected


@pytest.mark.slow
def test_cmake_takes_the_folder(archive: Path, expected: bytes, tmp_path: Path) -> None:
    needs("cmake", "cmake")
    needs("cc", "gcc")
    lines = CONSUMER.format(found=f"add_subdirectory({archive} edge_tse)", example=EXAMPLE)
    (tmp_path / "CMakeLists.txt").write_text(lines)
    built("cmake", "-S", tmp_path, "-B", tmp_path / "build", "-DEDGE_TSE_STREAM=OFF", "-DEDGE_TSE_PORTABLE=ON")
    built("cmake", "--build", tmp_path / "build")
    assert played(tmp_path / "build" / "product") == expected


@pytest.mark.slow
def test_pkg_config_knows_what_was_installed(archive: Path, expected: bytes, tmp_path: Path) -> None:
    needs("pkg-config", "pkgconf")
    prefix = installed(archive, tmp_path).rename(tmp_path / "elsewhere")  # as `cmake --install --prefix` and packages have it
    (described,) = prefix.rglob("edge_tse.pc")
    told = built("pkg-config", "--cflags", "--libs", described).split()
    assert built("pkg-config", "--modversion", described).strip() == __version__
    built("cc", "-std=c11", *WARNINGS, EXAMPLE, *told, "-o", tmp_path / "product")
    assert played(tmp_path / "product") == expected


def test_platformio_layout_builds(archive: Path, expected: bytes, tmp_path: Path) -> None:
    """As PlatformIO does: everything in ``srcDir``, with the flags of the description, and its own defaults before them."""
    described = json.loads((archive / "library.json").read_text())
    assert described["version"] == __version__
    build = described["build"]
    assert all((archive / build["includeDir"] / header).is_file() for header in described["headers"])
    assert all((archive / each["base"] / name).is_file() for each in described["examples"] for name in each["files"])
    sources = sorted((archive / build["srcDir"]).glob("*.c"))
    include = f"-I{archive / build['includeDir']}"
    built(*zig(), "-std=gnu11", *build["flags"], *WARNINGS, include, EXAMPLE, *sources, "-o", tmp_path / "product")
    assert played(tmp_path / "product") == expected


FUSED = re.compile(r"	vfn?m[as]\.f32")
"""What rounds once. ``vmla`` rounds twice, on these cores."""


def fused(archive: Path, folder: Path, *flags: str) -> int:
    """Fused multiply-adds in the library, compiled for a Cortex-M7 as an IDE does."""
    compiler = needs("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi")
    core = ("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16")
    count = 0
    for source in sorted((archive / "src").glob("*.c")):
        binary = folder / f"{source.stem}.o"
        built(compiler, *core, "-std=gnu11", "-Os", *flags, *WARNINGS, f"-I{archive / 'src'}", "-c", source, "-o", binary)
        count += len(FUSED.findall(built("arm-none-eabi-objdump", "-d", binary)))
    return count


@pytest.mark.slow
def test_builds_that_take_no_flags_round_once_all_the_same(archive: Path, tmp_path: Path) -> None:
    """Arduino and CMSIS packs: without ``-ffp-contract=off``, which gcc would otherwise need."""
    assert fused(archive, tmp_path) > 0  # else nothing below could be found
    assert fused(archive, tmp_path, "-DARDUINO=10819") == 0
    assert fused(archive, tmp_path, "-D_RTE_") == 0


def test_arduino_layout_builds(archive: Path, tmp_path: Path) -> None:
    fields = dict(line.split("=", 1) for line in (archive / "library.properties").read_text().splitlines())
    required = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert required <= set(fields)
    assert fields["version"] == __version__
    assert (archive / "src" / fields["includes"]).is_file()
    (sketch,) = archive.glob("examples/*/*.ino")
    assert sketch.stem == sketch.parent.name  # or the IDE does not find it
    (tmp_path / "Arduino.h").write_text(
        "#pragma once\nunsigned long micros(void);\nstruct Port { void begin(long); void println(unsigned long); };\n"
        "extern Port Serial;\nvoid setup();\nvoid loop();\n"
    )
    compiler = [*zig()[:-1], "c++"]
    include = (f"-I{tmp_path}", f"-I{archive / 'src'}", "-include", "Arduino.h")
    flags = ("-std=gnu++17", "-Wall", "-Wextra", "-Werror")
    built(*compiler, *flags, *include, *("-x", "c++", "-c", sketch), "-o", tmp_path / "sketch.o")


def test_the_cmsis_pack_names_what_there_is(archive: Path) -> None:
    """No tool checks it here: names, versions and places alone."""
    (described,) = archive.glob("*.pdsc")
    pack = ElementTree.parse(described).getroot()
    assert described.name == f"{pack.findtext('vendor')}.{pack.findtext('name')}.pdsc"
    versions = [e.attrib["version"] for e in pack.iter("release")] + [e.attrib["Cversion"] for e in pack.iter("component")]
    assert versions == [__version__, __version__]
    conditions = {condition.attrib["id"] for condition in pack.iter("condition")}
    assert {component.attrib["condition"] for component in pack.iter("component")} == conditions
    assert all((archive / file.attrib["name"]).exists() for file in pack.iter("file"))
    assert (archive / str(pack.findtext("license"))).is_file()
    assert f"{pack.findtext('vendor')}.{pack.findtext('name')}.{__version__}.pack" in (archive / "README.md").read_text()


def test_zephyr_module_and_workspace() -> None:
    yaml = pytest.importorskip("yaml", reason="reading module.yml needs PyYAML: pip install pyyaml")
    module = yaml.safe_load((ZEPHYR / "module.yml").read_text())
    assert module == {"name": "edge-tse", "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"}, "samples": ["samples"]}
    assert (PACKAGE / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (PACKAGE / module["build"]["kconfig"]).is_file()
    manifest = yaml.safe_load((PACKAGE / "west.yml").read_text())["manifest"]
    (project,) = manifest["projects"]
    assert project["remote"] in {remote["name"] for remote in manifest["remotes"]}
    sample = yaml.safe_load((PACKAGE / "samples" / "zephyr" / "sample.yaml").read_text())
    (test,) = sample["tests"].values()
    assert all(re.compile(line) for line in test["harness_config"]["regex"])


def test_zephyr_options_are_those_that_exist() -> None:
    defined = set(re.findall(r"^config (\w+)$", (ZEPHYR / "Kconfig").read_text(), re.MULTILINE))
    used = set(re.findall(r"CONFIG_(\w+)", (ZEPHYR / "CMakeLists.txt").read_text()))
    assert used == defined
    sample = (PACKAGE / "samples" / "zephyr" / "prj.conf").read_text()
    documented = set(re.findall(r"CONFIG_(EDGE_TSE\w*)", PORTING.read_text() + sample))
    assert documented <= defined
    assert {"EDGE_TSE", "EDGE_TSE_STREAM"} <= documented


STUBS = """
cmake_minimum_required(VERSION 3.20)
function(zephyr_library_named name)
  message(STATUS "library ${name}")
endfunction()
function(zephyr_library_sources)
  message(STATUS "sources ${ARGN}")
endfunction()
function(zephyr_library_sources_ifdef condition)
  if(${${condition}})
    message(STATUS "sources ${ARGN}")
  endif()
endfunction()
foreach(kind library_compile_options library_compile_definitions compile_definitions include_directories)
  cmake_language(EVAL CODE "function(zephyr_${kind})\\nmessage(STATUS \\"${kind} \\${ARGN}\\")\\nendfunction()")
endforeach()
"""


def evaluated(archive: Path, folder: Path, **options: str) -> dict[str, list[str]]:
    """What CMake makes of the module, in a Zephyr that only says what it is told."""
    settings = {"EDGE_TSE": "y", "EDGE_TSE_STREAM": "y", "EDGE_TSE_STREAM_FRAMES": "0", **options}
    lines = [f'set(CONFIG_{name} "{value}")' for name, value in settings.items()]
    script = folder / "script.cmake"
    script.write_text("\n".join([STUBS, *lines, f'include("{archive / "zephyr" / "CMakeLists.txt"}")']))
    told: dict[str, list[str]] = {}
    for line in built("cmake", "-P", script).splitlines():
        kind, _, values = line.removeprefix("-- ").partition(" ")
        told.setdefault(kind, []).extend(values.split(";"))
    return told


def test_cmake_evaluates_the_zephyr_module(archive: Path, tmp_path: Path) -> None:
    needs("cmake", "cmake")
    told = evaluated(archive, tmp_path)
    assert told["library"] == ["edge_tse"]
    assert all(Path(source).is_file() for source in told["sources"])
    assert [Path(source).name for source in told["sources"]] == COMPILED
    assert "compile_definitions" not in told
    assert "library_compile_definitions" not in told
    other = evaluated(archive, tmp_path, EDGE_TSE_STREAM="", EDGE_TSE_PORTABLE="y")
    assert [Path(source).name for source in other["sources"]] == COMPILED[:-1]
    assert other["library_compile_definitions"] == ["ETSE_PORTABLE"]
    assert evaluated(archive, tmp_path, EDGE_TSE_STREAM_FRAMES="2048")["compile_definitions"] == ["ETSE_STREAM_FRAMES=2048"]
    assert evaluated(archive, tmp_path, EDGE_TSE="") == {}


def test_the_zephyr_sample_runs_in_a_kernel_that_counts(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "zephyr").mkdir()
    (tmp_path / "zephyr" / "kernel.h").write_text(
        "#pragma once\n#include <stdint.h>\n#include <stdio.h>\n#define printk printf\n"
        "static inline uint32_t k_cycle_get_32(void) { static uint32_t n; return n += 7; }\n"
        "static inline uint32_t sys_clock_hw_cycles_per_sec(void) { return 64000000; }\n"
    )
    sample = archive / "samples" / "zephyr" / "src" / "main.c"
    sources = sorted((archive / "src").glob("*.c"))
    flags = ("-std=c11", "-O2", "-ffp-contract=off", f"-I{tmp_path}", f"-I{archive / 'src'}", *WARNINGS)
    built(*zig(), *flags, sample, *sources, "-o", tmp_path / "sample")
    assert built(tmp_path / "sample") == "slowest hop: 7 of 32000 cycles\n"


def test_a_folded_voice_and_a_refused_patch_are_told_apart(artifact: Artifact, tmp_path: Path) -> None:
    """The program says which of the two it is, and what to do."""
    voice = graphs.voice(artifact.voice_model)
    (tmp_path / "voice.etsv").write_bytes(voice_patch(artifact, voice))
    own = personalize(artifact, voice)
    for name, text in generate(own).items():
        (tmp_path / name).write_text(text)
    sources = [*(tmp_path / name for name in ("model.c", "frame.c")), *(LIBRARY / name for name in SOURCES)]
    flags = ("-std=c11", "-O2", "-ffp-contract=off", f"-I{tmp_path}", f"-I{LIBRARY}", *WARNINGS)
    built(*zig(), *flags, EXAMPLE, *sources, "-o", tmp_path / "example")
    done = subprocess.run([tmp_path / "example", "1", tmp_path / "voice.etsv"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this model has a voice built in: compile it without one" in done.stderr
