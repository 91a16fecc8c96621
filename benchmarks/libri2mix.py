"""What does a model gain on Libri2Mix or Libri3Mix, the field's own test? min mode, 16 kHz, the enrollments of the published lists.

python -m benchmarks.libri2mix --root DIR --enrollment FILE -o report.json

DIR is what LibriMix (Cosentino et al., 2020) writes, the folder that holds ``wav16k/min/test`` with ``mix_clean`` (or
``mix_both``), ``s1``, ``s2`` and, for three talkers, ``s3``. FILE is the list ``map_mixture2enrollment`` of the SpeakerBeam recipe
(``..._3spk`` for three talkers), which the recipes of ESPnet and WeSep use too: lines of mixture, utterance of the target, and
enrollment, the last as ``s1/MIXTURE`` of the same split or as a path of a sound file below DIR. Every talker of a mixture is the
target once. SI-SDR, PESQ-WB and ESTOI are those of `evaluate`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from benchmarks import add_workers, mixtures, one_line, workers_of
from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.cli.lab import condition_tables
from edge_tse.cli.output import progress, result, table
from edge_tse.errors import DataError
from edge_tse.files import check_output, write_bytes
from edge_tse.report import to_json
from quantization.evaluate import evaluate
from quantization.trial_list import COLUMNS

RATE_HZ = 16000
LISTED = ("mix_clean", "mix_both")
"""Folders of mixtures: talkers alone, and talkers with noise of WHAM!."""


def librimix_trials(root: Path, enrollment: Path, to: Path, split: str = "test", mixed: str = "mix_clean") -> Path:
    """Write the trials of a LibriMix tree as a list for :func:`quantization.evaluate.evaluate`, in the order of the published list.

    ``DataError`` names the line of a list that does not fit the tree, or the rate that is not 16 kHz.
    """
    base = root / "wav16k" / "min" / split
    if not (base / mixed).is_dir():
        raise DataError(f"there is no folder {base / mixed}: --root names the folder that holds wav16k/min")
    try:
        lines = [line.split() for line in enrollment.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as failure:
        raise DataError(f"cannot read the enrollments {enrollment}: {getattr(failure, 'strerror', None) or failure}") from failure
    rows = [_row(root, base, mixed, f"{enrollment}, line {n}", line) for n, line in enumerate(lines, 1) if line]
    if not rows:
        raise DataError(f"{enrollment} holds 0 enrollments: give lines of mixture, utterance and enrollment")
    rate_hz = audio.read(Path(rows[0]["mixture"]))[1]
    if rate_hz != RATE_HZ:
        raise DataError(f"{rows[0]['mixture']} has {rate_hz} Hz, the protocol is {RATE_HZ}: give the tree of 16 kHz")
    with to.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return to


def _row(root: Path, base: Path, mixed: str, place: str, line: list[str]) -> dict[str, str]:
    if len(line) != 3:
        raise DataError(f"{place}: {len(line)} words, 3 are needed: mixture, utterance, enrollment")
    mixture, utterance, enrolled = line
    talkers = mixture.split("_")
    if utterance not in talkers:
        raise DataError(f"{place}: utterance {utterance} is not in mixture {mixture}")
    sources = [base / f"s{i}" / f"{mixture}.wav" for i in range(1, len(talkers) + 1)]
    enrolls = root / enrolled if Path(enrolled).suffix else base / f"{enrolled}.wav"
    heard = base / mixed / f"{mixture}.wav"
    for path in (heard, *sources, enrolls):
        if not path.is_file():
            raise DataError(f"{place}: there is no file {path}")
    place_of_target = talkers.index(utterance)
    if enrolls == sources[place_of_target]:
        raise DataError(f"{place}: the enrollment is the target itself: it would be heard before it is asked for")
    return {
        "id": f"{mixture} {utterance}",
        "mixture": str(heard.resolve()),
        "enrollment": str(enrolls.resolve()),
        "target": str(sources[place_of_target].resolve()),
        "interferer": ";".join(str(path.resolve()) for i, path in enumerate(sources) if i != place_of_target),
        "condition": f"Libri{len(talkers)}Mix {mixed}",
    }


def score_tables(figures: dict[str, Any]) -> list[Any]:
    """Tables for people: what the field publishes of this test, then what `evaluate` shows."""
    rows = {}
    for name, found in figures["conditions"].items():
        pairs = [f"{label} {_number(found[f'{key}_mixture'])} → {_number(found[key])}" for label, key in PAIRS]
        gain = found["si_sdr_i"] or {}
        rows[f"{name}, {found['n']} targets"] = ", ".join([f"SI-SDRi {_number(gain.get('mean'))} dB", *pairs])
    return [table("Means", rows), *condition_tables(figures)]


PAIRS = (("PESQ-WB", "pesq_wb"), ("ESTOI", "estoi"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


@one_line
def main(arguments: list[str] | None = None) -> int:
    """Score, print, and write the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR")
    parser.add_argument("--enrollment", type=Path, required=True, metavar="FILE", help="list map_mixture2enrollment")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON", help="report to write")
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--mixtures", choices=LISTED, default="mix_clean")
    parser.add_argument("--artifact", type=Path, metavar="NAME|FILE", help="model; `small` if left out")
    parser.add_argument("--engine", default="litert")
    parser.add_argument("--limit", type=int, metavar="N", help="the first so many targets; all if left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    add_workers(parser)
    given = parser.parse_args(arguments)
    workers = workers_of(parser, given)
    journal = given.output.with_name(f"{given.output.name}.journal")
    check_output(given.output, [given.enrollment])
    model = Artifact.find(given.artifact)
    with mixtures(given.folder) as folder, progress("scoring", given.json) as tell:
        trials = librimix_trials(given.root, given.enrollment, folder / "trials.csv", given.split, given.mixtures)
        figures = evaluate(trials, model, given.engine, tell, given.limit, workers, journal=journal)
    write_bytes(given.output, (to_json(figures) + "\n").encode())
    journal.unlink(missing_ok=True)
    result(figures, given.json, *score_tables(figures), f"{given.output}: the whole report")
    return 0


if __name__ == "__main__":
    sys.exit(main())
