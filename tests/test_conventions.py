"""What people know from other commands: help in groups, -h, completion, a version at once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_tse.cli.recipes import recipes, schemes
from tests.command import Run

README = (Path(__file__).parent.parent / "README.md").read_text()
HEADING = re.compile(r"^╭─ (.*?) ─*╮$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def in_panels(page: str) -> dict[str, list[str]]:
    """First word of each entry, by the heading of its panel."""
    parts = HEADING.split(page)[1:]
    return {name: re.findall(r"^│ (?:\* )? *([\w-]+) ", text, re.MULTILINE) for name, text in zip(*[iter(parts)] * 2, strict=True)}


class TestHelp:
    def test_verbs_are_grouped_as_in_the_readme(self, run: Run) -> None:
        shown = in_panels(run("--help").out)
        del shown["Options"]
        table = README.partition("| to | verbs |")[2].partition("\n\n")[0]
        for row in table.splitlines()[2:]:
            _, purpose, verbs, _ = row.split("|")
            (group,) = [name for name in shown if name.lower() == purpose.strip()]
            assert set(re.findall(r"`(\w+)`(?! studio)", verbs.partition(":")[0])) <= set(shown.pop(group)), group
        assert shown == {}

    def test_no_verb_is_left_without_a_group(self, run: Run) -> None:
        assert "Commands" not in in_panels(run("--help").out)

    def test_options_of_live_are_grouped(self, run: Run) -> None:
        shown = in_panels(run("live", "--help").out)
        assert len(shown) >= 6
        assert all(len(options) <= 9 for options in shown.values())
        assert {"--input", "--output"} <= set(shown["Sound devices"])
        assert {"--audiogram", "--ambient-db"} <= set(shown["The wearer, and the room"])

    @pytest.mark.parametrize("words", [[], ["extract"], ["live"], ["train"]])
    def test_h_is_help(self, run: Run, words: list[str]) -> None:
        short, long = run(*words, "-h"), run(*words, "--help")
        assert short.code == 0
        assert short.out == long.out

    def test_train_and_quantize_list_their_recipes(self, run: Run) -> None:
        page = run("train", "--help").out
        assert all(f" {name}: " in page for name in recipes())
        page = run("quantize", "--help").out
        assert all(re.search(rf"[ :]{re.escape(name)}[,.]", page) for name in schemes())


def test_what_is_listed_is_what_there_is() -> None:
    """Help pages read the names from the sources, without PyTorch."""
    pytest.importorskip("torch", reason="PyTorch is not installed: the recipes cannot be imported")
    from quantization.quantize import SCHEMES
    from quantization.recipes import RECIPES

    assert list(recipes()) == list(RECIPES)
    assert all(recipes().values())
    assert list(schemes()) == list(SCHEMES)


class TestCompletion:
    @pytest.mark.parametrize(
        ("shell", "registers"),
        [
            ("bash", "complete -o default -F _edge_tse_completion edge-tse"),
            ("zsh", "compdef _edge_tse_completion edge-tse"),
            ("fish", "complete --command edge-tse"),
        ],
    )
    def test_scripts(self, run: Run, shell: str, registers: str) -> None:
        done = run("completion", shell)
        assert done.code == 0
        assert registers in done.out
        assert done.out == run("completion", shell, "--json").json["script"] + "\n"

    def test_zsh_finds_it_in_its_folder(self, run: Run) -> None:
        assert run("completion", "zsh").out.startswith("#compdef edge-tse\n")

    def test_an_unknown_shell(self, run: Run) -> None:
        assert "'tcsh' is not one of" in run("completion", "tcsh").complaint

    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("edge-tse comp", ["compile", "completion"]),
            ("edge-tse compile --univ", ["--universal"]),
            ("edge-tse compile --target qemu-mps2", ["qemu-mps2-an386", "qemu-mps2-an500"]),
            ("edge-tse verify na", ["nano"]),
            ("edge-tse verify --engine ref", ["reference"]),
            ("edge-tse train mask2flow_p", ["mask2flow_paper", "mask2flow_paper_v2"]),
            ("edge-tse quantize x.pt --recipe w4a8-", ["w4a8-distilled", "w4a8-ptq"]),
        ],
    )
    def test_bash_is_offered(self, line: str, offered: list[str]) -> None:
        asked = {"_EDGE_TSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = subprocess.run(
            [sys.executable, "-m", "edge_tse"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == offered

    def test_bash_itself_completes(self, run: Run, tmp_path: Path) -> None:
        if shutil.which("bash") is None:
            pytest.skip("bash is not installed")
        (tmp_path / "edge-tse").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_tse "$@"\n')
        (tmp_path / "edge-tse").chmod(0o755)
        typed = 'COMP_WORDS=(edge-tse verify na); COMP_CWORD=2; _edge_tse_completion edge-tse; echo "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", f"{run('completion', 'bash').out}{typed}"],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "nano\n"


class TestVersion:
    def test_short_cut_and_way_round_say_the_same(self, run: Run) -> None:
        done = subprocess.run([sys.executable, "-m", "edge_tse", "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == run("--version").out

    @pytest.mark.alone
    def test_within_150_ms(self) -> None:
        """Of the command's own: what the bare interpreter takes to start is the machine's."""

        def seconds(*words: str) -> float:
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=True)
            return time.perf_counter() - began

        bare = min(seconds("-c", "pass") for _ in range(5))
        assert min(seconds("-m", "edge_tse", "--version") for _ in range(5)) - bare < 0.15
