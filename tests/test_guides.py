"""The guides: every command exists, what needs no hardware runs in an empty folder, and what it shows is what the page shows."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import RESULTS
from edge_tse.deployment.target import targets
from quantization.corpus import open_corpus
from tests.command import options_of
from tests.guides import GUIDES, ROOT, Command, commands_of, run_command, shows, write_corpus, write_recordings

PAGES = ("raspberry-pi", "train", "quantize", "your-network", "c", "board")
NEEDS = {
    "raspberry-pi": ("ai_edge_litert", "soundfile"),
    "train": ("torch", "brevitas", "lightning_fabric"),
    "quantize": ("torch", "brevitas", "lightning_fabric", "ai_edge_litert", "pesq"),
    "your-network": ("onnx", "onnxruntime", "ai_edge_litert"),
    "c": ("ziglang", "ai_edge_litert"),
    "board": ("ziglang", "ai_edge_litert"),
}
PROGRAMS = {"c": "cmake", "board": "qemu-system-arm"}
HERE = {"cp", "rm", "head", "sed", "cmake", "python", "build/talker"}
"""What a page may type besides edge-tse and run."""
EVERY = [(page, command) for page in PAGES for command in commands_of(GUIDES / f"{page}.md")]


def page_text(page: str) -> str:
    return (GUIDES / f"{page}.md").read_text()


def test_every_guide_is_in_the_index_and_tested() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert sorted(PAGES) == sorted(path.stem for path in GUIDES.glob("*.md"))
    assert [page for page in PAGES if index.count(f"(guides/{page}.md)") != 1] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_extras_exist(page: str) -> None:
    text = page_text(page)
    for link in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (GUIDES / link).exists(), link
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for found in re.findall(r"\[([a-z,]+)\]'", text) for name in found.split(",")}
    assert named <= set(extras)
    assert "## If it goes wrong" in text


@pytest.mark.parametrize(("page", "command"), EVERY, ids=lambda value: value.line[:60] if isinstance(value, Command) else value)
def test_a_command_exists(page: str, command: Command) -> None:
    words = command.words
    if words[0] == "edge-tse":
        given = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
        assert given <= options_of(words[1]), given - options_of(words[1])
        if "--target" in words:
            assert words[words.index("--target") + 1] in {*targets(), "onnx", "native-c"}
    elif not command.needs:
        assert words[0] in HERE, f"{words[0]} is run by no test: mark the line with '# hardware: ...'"
    if command.needs:
        assert command.seen == (), "nobody has seen what hardware shows"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    write_corpus(folder := tmp_path_factory.mktemp("corpus"))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_guide_runs_in_an_empty_folder(page: str, corpus: Path, tmp_path: Path) -> None:
    if missing := [name for name in NEEDS[page] if find_spec(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: pip install '.[all]'")
    if page in PROGRAMS and shutil.which(PROGRAMS[page]) is None:
        pytest.skip(f"{PROGRAMS[page]} is not installed: .ci/system emulators toolchain")
    text = page_text(page)
    if "alice.wav" in text:
        write_recordings(tmp_path)
    if "--data data" in text:
        (tmp_path / "data").symlink_to(corpus)
    if cmake := re.findall(r"```cmake\n(.*?)```", text, re.DOTALL):
        (tmp_path / "CMakeLists.txt").write_text(cmake[0])
    for command in commands_of(GUIDES / f"{page}.md"):
        if command.needs:
            continue
        code, said = run_command(command, tmp_path)
        assert code == 0, f"{command.line}\n{said}"
        assert shows(said, command.seen) == "", f"{command.line}\n{said}"


@pytest.mark.parametrize(
    ("command", "needs"), [(c, c.needs) for _, c in EVERY if c.needs], ids=lambda v: v.line[:60] if isinstance(v, Command) else "-"
)
def test_a_command_for_hardware(command: Command, needs: str) -> None:
    pytest.skip(f"needs {needs}: {command.line}")


def test_the_folder_of_the_page_is_read_as_the_page_says(corpus: Path) -> None:
    listed = [Path(line) for line in re.findall(r"^    data/(\S+)$", page_text("train"), re.MULTILINE)]
    assert len(listed) == 8
    found = open_corpus(corpus)
    files = {p.relative_to(corpus) for paths in (*found.speakers.values(), found.noises, found.hrirs) for p in paths}
    assert set(listed) <= files
    assert "studio/anna" in found.speakers
    assert found.unlabelled == {"passers_unlabelled/p1", "passers_unlabelled/p2"}
    fan = {path.stem for path in found.noises_train} & {"fan_00", "fan_01"}
    assert len(fan) in (0, 2)


def test_costs_of_the_raspberry_pi_are_those_on_file() -> None:
    for model in ("small", "nano"):
        cores = json.loads((RESULTS / f"firmware-{model}.json").read_text())["figures"]["cores"]
        counts = [cores[f"aarch64, {kind}"]["instructions_per_hop"] for kind in ("without dot product", "dot product")]
        row = f"| `{model}` | {counts[0]:,} instructions (emulated) | {counts[1]:,} instructions (emulated) |"
        assert row in page_text("raspberry-pi")


def test_what_is_not_shown_is_found() -> None:
    output = "one 1.5\n┌───┐\n│ two   │ 0123456789ab │\nthree"
    assert shows(output, ("one 2", "│ two │ ffffffffffff │", "three")) == ""
    assert shows(output, ("three", "one 1")) == "one 1"
    assert shows(output, ("four",)) == "four"
