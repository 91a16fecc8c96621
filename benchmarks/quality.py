"""How well does an artifact, or a float checkpoint, do on talkers it never heard? Fixed trials, made anew from the data folder.

Deletion and insertion by the two stages of an artifact are measured on the same trials.

python -m benchmarks.quality --data DIR
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import RESULTS
from edge_tse.analysis import Moves
from edge_tse.artifact import Artifact
from edge_tse.report import Report, environment
from quantization.analyse import analyse
from quantization.evaluate import evaluate
from quantization.trials import CONDITIONS, HARDER, SPLITS, make_trials


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--artifact", default="small", metavar="NAME|FILE", help="model: a shipped one or a file")
    parser.add_argument("--checkpoint", type=Path, metavar="RUN", help="float model in place of an artifact")
    parser.add_argument("--steps", type=int, default=1, help="steps of a mask2flow checkpoint's flow")
    parser.add_argument("--solver", choices=("euler", "heun"), default="euler", help="solver of that flow")
    parser.add_argument("--engine", default="litert")
    parser.add_argument("--split", choices=SPLITS, default="report")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-condition", type=int, default=100)
    known = [*CONDITIONS, *HARDER]
    parser.add_argument(
        "--conditions", nargs="+", choices=known, default=known, metavar="NAME", help="conditions to score; all if left out"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", help="name of the result; the model's if left out")
    given = parser.parse_args()
    if given.steps < 1:
        parser.error(f"argument --steps: {given.steps} steps, at least 1 is needed")
    with tempfile.TemporaryDirectory() as folder:
        trials = make_trials(given.data, Path(folder), given.split, given.seed, given.per_condition, conditions=given.conditions)
        moved: dict[str, dict[str, Moves]] = {}
        if given.checkpoint is None:
            moved = analyse(trials, Artifact.find(given.artifact), given.engine)
            found = evaluate(trials, Artifact.find(given.artifact), given.engine, jobs=given.jobs)
        else:
            from quantization.checkpoint import load_checkpoint
            from quantization.float_listener import evaluate_checkpoint

            found = evaluate_checkpoint(trials, load_checkpoint(given.checkpoint), given.steps, given.solver)
    shares: dict[str, object] = {}
    if moved:
        shares["moves"] = {name: {stage: vars(m) for stage, m in stages.items()} for name, stages in moved.items()}
    figures: dict[str, object] = {
        "conditions": found["conditions"],
        **shares,
        **{key: found[key] for key in ("artifact", "checkpoint") if key in found},
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
    model = given.artifact if given.checkpoint is None else f"float-{given.checkpoint.resolve().stem}"
    report.save(RESULTS / f"quality-{given.name or Path(model).stem}.json")
    print(report.to_json())


if __name__ == "__main__":
    main()
