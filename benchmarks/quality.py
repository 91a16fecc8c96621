"""How well does an artifact, or a float checkpoint, do on talkers it never heard? Fixed trials, made anew from the data folder.

Deletion and insertion by the two stages of an artifact are measured on the same trials.

python -m benchmarks.quality --data DIR

A run that was killed goes on where it was: finished mixtures are kept beside the result until that is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import RESULTS, add_workers, mixtures, one_line, workers_of
from edge_tse.analysis import Moves
from edge_tse.artifact import Artifact
from edge_tse.cli.output import progress
from edge_tse.report import Report, environment
from quantization.analyse import analyse
from quantization.evaluate import evaluate
from quantization.trials import CONDITIONS, HARDER, SPLITS, make_trials


@one_line
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
    add_workers(parser)
    parser.add_argument("--name", help="name of the result; the model's if left out")
    given = parser.parse_args()
    if given.steps < 1:
        parser.error(f"argument --steps: {given.steps} steps, at least 1 is needed")
    workers = workers_of(parser, given)
    model = given.artifact if given.checkpoint is None else f"float-{given.checkpoint.resolve().stem}"
    result = RESULTS / f"quality-{given.name or Path(model).stem}.json"
    journal = result.with_name(f"{result.name}.journal")
    with mixtures(given.folder) as folder:
        trials = make_trials(given.data, folder, given.split, given.seed, given.per_condition, conditions=given.conditions)
        moved: dict[str, dict[str, Moves]] = {}
        with progress("scoring", False) as tell:
            if given.checkpoint is None:
                found = evaluate(trials, Artifact.find(given.artifact), given.engine, tell, workers=workers, journal=journal)
            else:
                from quantization.checkpoint import load_checkpoint
                from quantization.float_listener import evaluate_checkpoint

                source = load_checkpoint(given.checkpoint)
                found = evaluate_checkpoint(trials, source, given.steps, given.solver, tell, workers=workers, journal=journal)
        if given.checkpoint is None:
            with progress("analysing", False) as tell:
                moved = analyse(trials, Artifact.find(given.artifact), given.engine, tell, workers)
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
    report.save(result)
    journal.unlink(missing_ok=True)
    print(report.to_json())


if __name__ == "__main__":
    sys.exit(main())
