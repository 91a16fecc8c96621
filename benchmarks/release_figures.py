"""Every figure of a release, of the models that ship: accuracy side by side, then times with the machine to itself, then the pages.

python -m benchmarks.release_figures --data DIR --work WORK [--peers FOLDER]

It takes hours. One that was stopped goes on: ``WORK`` notes what is done, and of which models, and has the output of each step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from benchmarks import one_line
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.files import write_bytes

__all__ = ["PAGES", "Doer", "Steps", "accuracy", "failures", "times"]

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "quantization" / "checkpoints" / "small.pt"
PER_CONDITION = "60"
PAGES = ("readme_figures", "model_card", "contracts", "live_figures", "scale_page", "peers_page")
"""What writes pages from the results: in seconds, so always."""
Steps = dict[str, list[str]]
"""Names, and the arguments of ``python -m`` for each."""


def accuracy(data: Path, work: Path, peers: Path | None) -> list[Steps]:
    """What does not depend on how busy the machine is. Steps of one entry follow each other: they add to one file."""
    corpus, models = ["--data", str(data)], shipped_names()
    quality = [
        {f"quality-{name}": ["benchmarks.quality", *corpus, "--artifact", name, "--per-condition", PER_CONDITION]}
        for name in models
    ]
    likeness = {f"likeness-{name}": ["benchmarks.likeness", *corpus, "--artifact", name, "--keep", str(work)] for name in models}
    voices = [
        {"enrollment": ["benchmarks.enrollment", *corpus]},
        {"scene_enrollment": ["benchmarks.scene_enrollment", *corpus, "--per-condition", "30"]},
    ]
    pointing = ["benchmarks.pointing", *corpus, "--checkpoint", str(CHECKPOINT)]
    images = [{f"firmware-{name}": ["benchmarks.firmware", "--artifact", name]} for name in models]
    around = ["benchmarks.two_ears", *corpus, "--checkpoint", str(CHECKPOINT), "--work", str(work / "two_ears")]
    against = ["benchmarks.peers_quality", *corpus, "--peers", str(peers), "--per-condition", "40"]
    return [
        likeness,
        *quality,
        {"two_ears": around},
        {"pointing": pointing},
        *voices,
        *([{"peers_quality": against}] if peers else []),
        {"parity": ["benchmarks.parity", *corpus]},
        *images,
        {"npu": ["benchmarks.npu"]},
    ]


def times(peers: Path | None) -> Steps:
    """What is timed, one after the other."""
    against = ["--peers", str(peers)] if peers else []
    return {"compute": ["benchmarks.compute", *against], "streams": ["benchmarks.streams"], "realtime": ["benchmarks.realtime"]}


class Doer:
    """Does steps that were not done for these models yet: ``digests`` by name."""

    def __init__(self, work: Path, digests: dict[str, str], told: Callable[[str], None]) -> None:
        self._work, self._digests, self._told = work, digests, told

    def __call__(self, steps: Steps) -> str:
        """Do them in order; returns what is to be said of the first that did not end well, with which they stop, or nothing."""
        for name, arguments in steps.items():
            note = self._work / f"{name}.done"
            if note.exists() and json.loads(note.read_text()) == self._digests:
                self._told(f"{name}: done before")
                continue
            if failure := self.again({name: arguments}):
                return failure
            write_bytes(note, json.dumps(self._digests).encode())
        return ""

    def again(self, steps: Steps) -> str:
        """As a call, whether they were done or not."""
        for name, arguments in steps.items():
            began, output = time.monotonic(), self._work / f"{name}.log"
            with output.open("w") as file:
                command, alone = [sys.executable, "-m", *arguments], {**os.environ, "OMP_NUM_THREADS": "1"}
                code = subprocess.run(command, cwd=ROOT, env=alone, stdout=file, stderr=file, check=False).returncode
            took = f"{time.monotonic() - began:.0f} s"
            if code:
                return f"{name}: exit code {code} after {took}: {output} says why"
            self._told(f"{name}: {took}")
        return ""


def failures(do: Callable[[Steps], str], entries: Sequence[Steps], workers: int) -> list[str]:
    """Do all entries, ``workers`` at a time; what failed, once everything else is done."""
    with ThreadPoolExecutor(workers) as pool:
        return [failure for failure in pool.map(do, entries) if failure]


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; returns the exit code: 1 if a step failed, and then no page is written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.release_figures", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder for notes and outputs, to go on from")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="folder of the files that benchmarks/peers/*.toml name")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="steps of accuracy at a time")
    given = parser.parse_args(arguments)
    work, data = given.work.absolute(), given.data.absolute()
    peers = given.peers.absolute() if given.peers else None
    work.mkdir(parents=True, exist_ok=True)
    do = Doer(work, {name: Artifact.shipped(name).digest for name in shipped_names()}, Console(highlight=False, markup=False).print)
    failed = failures(do, accuracy(data, work, peers), given.workers)
    failed += failures(do, [{name: step} for name, step in times(peers).items()], 1)
    if not failed:
        failed = failures(do.again, [{name: [f"benchmarks.{name}"] for name in PAGES}], 1)
    for line in failed:
        sys.stderr.write(f"release_figures: {line}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
