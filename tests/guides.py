"""Guides as they are typed: commands of their console blocks, what they show, and the recordings that they name."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edge_tse import audio
from tests.speech import RATE, utterance, write_surroundings

__all__ = ["GUIDES", "Command", "commands_of", "run_command", "shows", "write_corpus", "write_recordings"]

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"
CLIPS = ROOT / "edge_tse" / "assets" / "demo"
SETS = {
    "studio": "anna ben carla david emma felix",
    "car": "greta henry ida jonas karin lukas",
    "phone": "maria nils olga paul rosa tim",
}


@dataclass(frozen=True, kw_only=True)
class Command:
    """A line that is typed."""

    line: str
    needs: str
    """Hardware that it needs; empty where it runs here."""
    seen: tuple[str, ...]
    """Lines that the page shows of its output."""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line, comments=True)


def commands_of(page: Path) -> Iterator[Command]:
    """Every command of the page's console blocks, in order."""
    for block in re.findall(r"^```console\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, *seen = part.splitlines()
            line, _, needs = typed.partition("# hardware: ")
            yield Command(line=line.strip(), needs=needs.strip(), seen=tuple(text for text in seen if text.strip()))


def shows(output: str, seen: tuple[str, ...]) -> str:
    """The first line of a page that the output does not have after the lines before it; empty if it has them all.

    Numbers and digests differ between machines, spaces and frames of tables between terminals.
    """
    found = iter([_form(line) for line in output.splitlines()])
    return next((line for line in seen if not any(_form(line) in other for other in found)), "")


def _form(line: str) -> str:
    text = re.sub(r"\b([0-9a-f]{12}|[0-9a-f]{16})\b", "#", line)
    text = re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    return " ".join(re.sub(r"[─-╿]", " ", text).split())


def run_command(command: Command, folder: Path) -> tuple[int, str]:
    """Exit code, and what was written, of a command that is typed in ``folder``; ``~/edge-tse`` is this checkout."""
    home, programs = folder / ".home", folder / ".programs"
    if not home.exists():
        home.mkdir()
        (home / "edge-tse").symlink_to(ROOT)
        programs.mkdir()
        for name, call in {"edge-tse": f'"{sys.executable}" -m edge_tse', "python": f'"{sys.executable}"'}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
            (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_STATE_HOME": str(folder / ".state"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        ["bash", "-euc", command.line],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def write_recordings(folder: Path) -> None:
    """Alice alone, and a dinner at which another talks, 16 kHz, 16 bits."""
    audio.write(folder / "alice.wav", *audio.read(CLIPS / "slt-enroll.flac"))
    (wanted, rate_hz), (other, _) = (audio.read(CLIPS / f"{voice}-speech.flac") for voice in ("slt", "rms"))
    n = min(wanted.shape[1], other.shape[1])
    soundfile.write(folder / "dinner.wav", (wanted[:, :n] + other[:, :n]).T, rate_hz, subtype="PCM_16")


def write_corpus(folder: Path) -> None:
    """A folder to train on, as ``docs/guides/train.md`` lays it out: enough talkers for a list of trials."""
    talkers = [(kind, name) for kind, names in SETS.items() for name in names.split()]
    for number, (kind, name) in enumerate([*talkers, ("passers_unlabelled", "p1"), ("passers_unlabelled", "p2")]):
        place = folder / "speech" / kind / name
        place.mkdir(parents=True)
        for take in (1, 2):
            soundfile.write(place / f"{take:03d}.wav", utterance(number, take, 7.0), RATE)
    write_surroundings(folder)
