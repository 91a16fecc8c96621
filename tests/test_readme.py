"""The README says what is so: its commands exist, its example runs, its figures are those on file."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import RESULTS, model_card
from benchmarks.readme_figures import END, PAGE, START, fill, moves_table, page, shipped_models, summary
from edge_tse import audio
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CLIPS = ROOT / "edge_tse" / "assets" / "demo"


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the README speaks of, in the working folder."""
    for name in ("alice1.wav", "alice2.wav"):
        audio.write(tmp_path / name, *audio.read(CLIPS / "slt-enroll.flac"))
    (wanted, rate_hz), (other, _) = (audio.read(CLIPS / f"{voice}-speech.flac") for voice in ("slt", "rms"))
    n = min(wanted.shape[1], other.shape[1])
    audio.write(tmp_path / "dinner.wav", wanted[:, :n] + other[:, :n], rate_hz)
    (tmp_path / "evening").mkdir()
    audio.write(tmp_path / "evening" / "supper.wav", wanted[:, :rate_hz] + other[:, :rate_hz], rate_hz)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_figures_are_those_on_file() -> None:
    """If this fails: ``python -m benchmarks.readme_figures``, after the benchmark that it names if a result is missing."""
    assert fill(README, summary(RESULTS, shipped_models())) == README
    assert page(RESULTS, shipped_models()) == PAGE.read_text()


@pytest.mark.parametrize("name", shipped_names())
def test_the_model_cards_are_the_models(name: str) -> None:
    """If this fails: ``python -m benchmarks.model_card``."""
    assert model_card.card(name, RESULTS) == model_card.path(name).read_text()


@pytest.mark.parametrize("name", shipped_names())
def test_the_metadata_of_a_card_is_what_the_card_says(name: str) -> None:
    """As a hub reads it: YAML between two lines of hyphens, at the very beginning."""
    before, front, text = model_card.path(name).read_text().split("---\n", 2)
    stated = yaml.safe_load(front)
    assert before == ""
    assert set(stated) == {"license", "library_name", "pipeline_tag", "tags", "datasets", "metrics"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (stated["license"], stated["library_name"]) == (project["license"].lower(), project["name"])
    assert stated["pipeline_tag"] == "audio-to-audio"
    assert [corpus for corpus in stated["datasets"] if f"\n- {corpus}: " not in text] == []
    assert stated["datasets"] == Artifact.shipped(name).provenance["corpora"]
    assert [score for score in stated["metrics"] if score.upper() not in text] == []
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in stated["tags"])


def test_the_commands_run(recordings: Path) -> None:
    """All but two: one needs a sound device, the other an emulator, and both have tests of their own."""
    lines = re.findall(r"^    \.venv/bin/(edge-tse .*)$", README, re.MULTILINE)
    commands = [shlex.split(line, comments=True)[1:] for line in lines]
    assert [command[0] for command in commands] == ["enroll", "extract", "extract", "live", "compile", "flash"]
    for command in commands:
        if command[0] not in ("live", "flash"):
            assert main(command) == 0
    talker, mixture = (audio.read(recordings / name)[0] for name in ("alice-only.wav", "dinner.wav"))
    assert talker.shape == mixture.shape
    assert not np.array_equal(talker, mixture)
    assert sorted(path.name for path in (recordings / "alice-only").iterdir()) == ["dinner.wav", "supper.wav"]


def test_the_example_runs(recordings: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    mixture, _ = audio.read(recordings / "dinner.wav")
    assert np.shape(names["talker"]) == mixture[0].shape


def test_the_page_of_python_runs(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)):
        exec(compile(code, f"docs/python.md {i}", "exec"), {})
    mixture, _ = audio.read(recordings / "dinner.wav")
    assert sum(map(int, capsys.readouterr().out.split())) == mixture.shape[1]


def test_what_it_names_exists() -> None:
    folders = re.findall(r"^\| `([a-z_/]+)/` \|", README, re.MULTILINE)
    assert len(folders) >= 7
    assert [name for name in folders if not (ROOT / name).is_dir()] == []
    for name in re.findall(r"`((?:quantization|edge_tse|docs|tests|benchmarks)/[\w/.]*)`|\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / (name[0] or name[1])).exists(), name
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^    make ([a-z]+)", README, re.MULTILINE)) == {"demo", "test"} <= targets
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (sentence,) = re.findall(r"`pip install '\.\[litert\]'`.*?`device-legacy`", README, re.DOTALL)
    assert set(re.findall(r"`([a-z-]+)`", sentence)) | {"litert"} == set(extras)


@pytest.mark.parametrize(
    "verb", sorted(set(re.findall(r"`(\w+)`", README.partition("| to | verbs |")[2].partition("    .venv")[0])))
)
def test_the_verbs_exist(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"edge-tse {verb}" in capsys.readouterr().out


def test_figures_go_between_the_marks() -> None:
    assert fill(f"a {START}old{END} b", "new") == f"a {START}\nnew\n{END} b"
    with pytest.raises(SystemExit, match="has no"):
        fill("nothing", "new")


def test_what_the_second_stage_does_is_read_from_the_figures() -> None:
    def said(deleted: float, inserted: float) -> str:
        flow, mask = {"deleted": deleted, "inserted": inserted}, {"deleted": 0.5, "inserted": 0.0}
        return moves_table({"mask": mask, "flow": flow, "target": {"deleted": 0.4, "inserted": 0.03}})

    assert "the mask deletes 50% and inserts 0%; the second stage mostly inserts: 1.0% deleted, 2.0% inserted" in said(0.01, 0.02)
    assert "deletes more than it inserts: 2.0% deleted, 1.0% inserted" in said(0.02, 0.01)
    assert "deletes more than it inserts: 0.0% deleted" in said(0.0, 0.0)
