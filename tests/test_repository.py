"""What a clone holds: the fixed top level, nothing that only one machine has, and documents that say what is so."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_tse.version import __version__

ROOT = Path(__file__).parent.parent

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CITATION.cff",  # where the services and tools that make a citation of a repository look for it
    "CONTRIBUTING.md",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "docs",
    "edge_tse",
    "firmware_bridge",
    "pyproject.toml",
    "quantization",
    "targets",
    "tests",
}

LARGEST_BYTES = 5_000_000
"""Per file: an int8 artifact or a float checkpoint of the default model fits, a data set does not."""

FORBIDDEN = {
    "a path of one machine": r"(?<![\w.$}])/(?:work|root|home|opt|mnt|srv|Users)/\w",
    "a package host": r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|deb\.debian\.org|index-url[ =]|find-links[ =]",
}
"""What would work in one place only, or decide for others where they get their packages."""


def tracked() -> list[str]:
    """Paths in the repository."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    # A file that is deleted but not yet committed is still listed.
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def _offences(text: str) -> list[str]:
    return [f"{what}: {found.group()}" for what, pattern in FORBIDDEN.items() for found in re.finditer(pattern, text)]


def test_the_top_level_is_fixed() -> None:
    assert {name.partition("/")[0] for name in tracked()} <= TOP_LEVEL
    assert all((ROOT / name).exists() for name in TOP_LEVEL)


def test_no_file_names_a_machine_or_a_package_host() -> None:
    found = {}
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" in content[:8000] or name == Path(__file__).relative_to(ROOT).as_posix():
            continue
        if offences := _offences(content.decode()):
            found[name] = offences
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "see /srv/me/clone",
        'open("/home/me/x.wav")',
        "pip install --index-url https://x",
        "https://files.pythonhosted.org/x",
        "=/opt/wheels",
    ],
)
def test_what_is_forbidden_is_found(text: str) -> None:
    assert len(_offences(text)) == 1


@pytest.mark.parametrize("text", ["and/or work/home", "/usr/bin/env", "out/home/x", "https://pytorch.org", "../root/x", "./opt/x"])
def test_what_is_allowed_is_not(text: str) -> None:
    assert _offences(text) == []


def test_no_file_is_large() -> None:
    assert {name: size for name in tracked() if (size := (ROOT / name).stat().st_size) > LARGEST_BYTES} == {}


def test_decisions_are_numbered_without_gaps_and_have_their_parts() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert len(pages) >= 6
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert text.startswith(f"# {number:04} "), page.name
        assert page.name.startswith(f"{number:04}-"), page.name
        assert "**Decision.**" in text, page.name
        assert "**Why.**" in text, page.name


def test_the_licence_is_stated_alike_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def citation_errors(stated: dict[str, Any]) -> list[str]:
    """What the schema of the Citation File Format 1.2.0 would refuse, as far as it has the keys used here."""
    known = {"cff-version", "message", "title", "abstract", "type", "authors", "version", "license", "keywords", "date-released"}
    found = [f"key {key}" for key in stated.keys() - known]
    found += [f"no {key}" for key in {"cff-version", "message", "title", "authors"} - stated.keys()]
    found += [
        f"{key}: {value!r}"
        for key, value in stated.items()
        if key in known - {"authors", "keywords"} and not isinstance(value, str)
    ]
    if stated.get("cff-version") != "1.2.0":
        found.append("cff-version")
    if stated.get("type", "software") not in ("software", "dataset"):
        found.append("type")
    authors, keywords = stated.get("authors", []), stated.get("keywords", [""])
    if not authors or not all(set(author) == {"name"} and author["name"] for author in authors):
        found.append("authors")  # an entity: it has a name; a person would have given-names and family-names
    if not keywords or len(set(keywords)) != len(keywords) or not all(isinstance(word, str) for word in keywords):
        found.append("keywords")
    return found


def test_the_citation_is_sound_and_says_what_the_project_says() -> None:
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation_errors(stated) == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (stated["version"], stated["license"], stated["keywords"]) == (__version__, project["license"], project["keywords"])
    assert stated["authors"] == [{"name": "The edge-tse authors"}]


def test_unsound_citations_are_found() -> None:
    stated = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for wrong in (
        {"cff-version": 1.2},
        {"doi": "x"},
        {"authors": []},
        {"type": "model"},
        {"version": 0.1},
        {"keywords": ["a", "a"]},
    ):
        assert citation_errors(stated | wrong), wrong
    assert citation_errors({key: value for key, value in stated.items() if key != "message"}) == ["no message"]


def test_scripts_can_be_run_and_make_offers_what_is_documented() -> None:
    for script in (".ci/run", ".ci/system", ".ci/aarch64_python"):
        assert (ROOT / script).stat().st_mode & 0o111, script
        assert (ROOT / script).read_text().startswith("#!"), script
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = set(
        re.findall(r"\bmake ([a-z]+)\b(?! it)", (ROOT / "Makefile").read_text().partition("help:\n\t")[2].partition("\n\n")[0])
    )
    assert {"demo", "test", "lint", "clean"} <= asked <= targets
