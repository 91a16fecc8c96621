"""How well does an artifact do on talkers it never heard? Fixed trials, made anew from the data folder.

python -m benchmarks.quality --data DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import RESULTS
from edge_tse.artifact import Artifact
from edge_tse.report import Report, environment
from quantization.evaluate import evaluate
from quantization.trials import SPLITS, make_trials


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--artifact", default="small", metavar="NAME|FILE", help="a shipped model or a file")
    parser.add_argument("--engine", default="litert")
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", help="of the result, the artifact's if left out")
    given = parser.parse_args()
    artifact = Artifact.find(given.artifact)
    with tempfile.TemporaryDirectory() as folder:
        trials = make_trials(given.data, Path(folder), given.split, given.seed, given.per_condition)
        found = evaluate(trials, artifact, given.engine, jobs=given.jobs)
    figures = {
        "conditions": found["conditions"],
        "artifact": found["artifact"],
        "engine": found["engine"],
        "trials": {
            "split": given.split,
            "seed": given.seed,
            "per_condition": given.per_condition,
            "sha256": found["trials"]["sha256"],
        },
    }
    question = "How well does an artifact do on talkers it never heard?"
    report = Report(question=question, figures=figures, environment=environment())
    report.save(RESULTS / f"quality-{given.name or Path(given.artifact).stem}.json")
    print(report.to_json())


if __name__ == "__main__":
    main()
