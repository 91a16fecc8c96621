"""What does quantization cost? Float, post-training and fine-tuned models on the same mixtures of talkers none of them heard.

python -m benchmarks.quantization --data DIR --checkpoint quantization/checkpoints/small.pt

The calibration called best, and how the scales of 4-bit weights are found, are chosen on the talkers of the split ``choose`` by how
close the gain stays to the float model's; every row's improvement of SI-SDR is also taken there, so that what ships can be chosen
without the split ``report``, which the table is of. Integer rows are frozen artifacts, run by an engine with their int8 voice
model; the float row has nothing quantized, its encoder neither. A row that is on file with the same weights, mixtures and settings
is kept. ``--render`` only writes the page.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import RESULTS, interval, one_line, sensitivity
from benchmarks.readme_figures import TITLES, table
from edge_tse import audio
from edge_tse.metrics import si_sdr
from edge_tse.report import Report, environment
from quantization.checkpoint import Checkpoint, load_checkpoint, student_of
from quantization.evaluate import personal_listener
from quantization.float_listener import float_listener
from quantization.freeze import freeze
from quantization.qat import CALIBRATIONS, WeightFormat
from quantization.quantize import (
    SCHEMES,
    Scheme,
    calibration_batches,
    fine_tune,
    golden_features,
    packed_bytes,
    prepare,
    teacher_of,
    twin_of,
)
from quantization.run import TrainingProgress
from quantization.score_summary import summary
from quantization.scores import Listener, score
from quantization.trial_list import Trial, read_trials
from quantization.trials import CONDITIONS, make_trials

__all__ = ["ROWS", "Study", "candidates", "compare", "page"]

STORED = RESULTS / "quantization.json"
PAGE = Path(__file__).parent.parent / "docs" / "quantization.md"
DEFAULT_CONDITIONS = ("two_talkers", "two_talkers_noise")
TARGET_DB = 0.1
"""Largest loss that quantization may cause."""

ROWS = {
    "float": "float",
    "ptq-minmax": "int8, post-training, min-max",
    "ptq-best": "int8, post-training, best calibration",
    "qat": "int8, fine-tuned",
    "qat-distilled": "int8, fine-tuned and distilled",
    "w4-ptq": "4-bit pointwise weights, post-training",
    "w4-qat": "4-bit pointwise weights, fine-tuned",
    "w4-qat-distilled": "4-bit pointwise weights, fine-tuned and distilled",
}
_SCHEMES = {
    "ptq-minmax": "w8a8-ptq-minmax",
    "qat": "w8a8",
    "qat-distilled": "w8a8-distilled",
    "w4-ptq": "w4a8-ptq",
    "w4-qat": "w4a8",
    "w4-qat-distilled": "w4a8-distilled",
}
"""``ptq-best`` has the scheme that the split ``choose`` chose."""

Tell = Callable[[str, float], None]
"""Callback told the present task and its fraction done."""


def candidates() -> dict[str, Scheme]:
    """Post-training schemes that are compared, by name."""
    coarse = WeightFormat(per_channel=False)
    return {
        **{f"int8, {name}": Scheme(steps=0, calibration=name) for name in CALIBRATIONS},
        "int8, min-max, one scale per matrix": Scheme(steps=0, calibration="min-max", pointwise=coarse, depthwise=coarse),
        "4 bits, largest weight ends the range": Scheme(steps=0, pointwise=WeightFormat(bits=4)),
        "4 bits, weight scales of least error": Scheme(steps=0, pointwise=WeightFormat(bits=4, least_error=True)),
    }


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that a table depends on besides checkpoint and data."""

    seed: int
    per_condition: int
    conditions: tuple[str, ...]
    qat_steps: int
    probe_mixtures: int
    engine: str


class Study:
    """One checkpoint: its rows are computed as they are asked for."""

    def __init__(self, checkpoint: Path, data: Path, work: Path, settings: Settings, teacher: Path | None, tell: Tell) -> None:
        self.settings, self.tell, self._data, self._work, self._teacher = settings, tell, data, work, teacher
        self.source: Checkpoint
        self.source, self._run, _ = prepare(checkpoint, data, work / checkpoint.stem, self._watch)
        self._folder = work / f"rows-{self.source.recipe.name}"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._batches = calibration_batches(self._run, student_of(self.source))
        self.trials_csv = self._trials("report", settings.per_condition, settings.conditions)
        self.trials = read_trials(self.trials_csv)
        chosen_csv = self._trials("choose", settings.per_condition, settings.conditions)
        self.chosen_by = read_trials(chosen_csv)
        self.facts = {
            "checkpoint": self.source.digest,
            "step": self.source.step,
            "weights": self.source.student.resident_weights,
            "teacher": load_checkpoint(teacher).digest if teacher else None,
            "trials": _digest(self.trials_csv) + _digest(chosen_csv),
        }

    def key(self, name: str) -> str:
        """Key of a row, or of the calibrations: changes with everything that it depends on."""
        scheme = SCHEMES[_SCHEMES[name]] if name in _SCHEMES else None
        depends: dict[str, object] = {"checkpoint": self.facts["checkpoint"]}
        if name in ("calibrations", "ptq-best"):
            depends |= {"mixtures": self.settings.probe_mixtures, "seed": self.settings.seed}
            depends |= {"candidates": {which: dataclasses.asdict(one) for which, one in candidates().items()}}
        if name != "calibrations":
            depends |= {"trials": self.facts["trials"], "engine": self.settings.engine if name != "float" else None}
        if scheme is not None:
            depends |= {"scheme": dataclasses.asdict(scheme)}
            depends |= {"steps": self.settings.qat_steps} if scheme.steps else {}
            depends |= {"teacher": self.facts["teacher"]} if scheme.distilled else {}
        return hashlib.sha256(json.dumps([name, depends]).encode()).hexdigest()[:16]

    def calibrations(self) -> dict[str, dict[str, float]]:
        """Each of :func:`candidates` on mixtures of the split ``choose``."""
        mixtures = read_trials(self._trials("choose", self.settings.probe_mixtures, ("two_talkers",)))
        probe = sensitivity.Probe(self.source, mixtures)
        out = {}
        for i, (name, scheme) in enumerate(candidates().items()):
            self.tell(f"calibrating: {name}", i / len(candidates()))
            out[name] = probe.measure(twin_of(student_of(self.source), self._batches, scheme).eval())
        return out

    def row(self, name: str, best: str) -> dict[str, Any]:
        """Figures over all trials, and SI-SDR improvements of each trial of both splits.

        ``best`` of :func:`candidates` is that of ``ptq-best``.
        """
        made: dict[str, Any] = {"measured": datetime.now(UTC).isoformat(timespec="seconds")}
        if name == "float":
            listeners: Callable[[Trial], Listener | str] = partial(float_listener, self.source)
        else:
            scheme = candidates()[best] if name == "ptq-best" else SCHEMES[_SCHEMES[name]]
            twin = twin_of(student_of(self.source), self._batches, scheme)
            steps = self.settings.qat_steps if scheme.steps else 0
            if steps:
                teacher = teacher_of(self.source, self._teacher) if scheme.distilled else None
                stored = self._folder / f"{name}-{self.key(name)}.pt"
                fine_tune(twin, self._run, scheme, steps, stored, teacher=teacher, resume=True, watch=self._watch)
            provenance = {"recipe": self.source.recipe.name, "scheme": name, "fine_tuning_steps": steps}
            artifact = freeze(twin.eval(), self._run.encoder, golden_features(student_of(self.source)), provenance)
            artifact.save(self._folder / f"{name}.etse")
            made |= {"steps": steps, "bytes": artifact.graph.weight_bytes, "packed_bytes": packed_bytes(twin)}
            listeners = lambda trial: personal_listener(trial, artifact, self.settings.engine)[1]  # noqa: E731
        items = []
        for i, trial in enumerate(self.trials):
            self.tell(f"{ROWS[name]}: scoring", i / len(self.trials))
            items.append(score(trial, 16000, listeners(trial), of_mixture=name == "float"))
        kept = ("si_sdr_i", "pesq_wb", "pesq_wb_mixture", "estoi", "estoi_mixture", "over_suppression", "onset_damping_db")
        figures = summary(items)
        made |= {"n": figures["n"], "failed": figures["failed"], **{k: figures[k] for k in (*kept, "wrong_talker")}}
        made["gains_db"] = {item["id"]: item["scores"].get("si_sdr_i") for item in items}
        return made | {"choose_gains_db": {trial.id: self._gain_db(trial, listeners(trial)) for trial in self.chosen_by}}

    def _gain_db(self, trial: Trial, listener: Listener | str) -> float | None:
        """Improvement of SI-SDR; None where the talker cannot be enrolled."""
        if isinstance(listener, str) or trial.target is None:
            return None
        rate_hz = self.source.recipe.student.frame.sample_rate_hz
        mixture, target = (audio.resample(*audio.read(path), rate_hz) for path in (trial.mixture, trial.target))
        return round(si_sdr(listener(mixture), target) - si_sdr(mixture, target), 4)

    def _trials(self, split: str, count: int, conditions: tuple[str, ...]) -> Path:
        """Trials, made once: an item depends on seed, condition and number alone."""
        folder = (
            self._work / f"{split}-{self.settings.seed}-{count}-{hashlib.sha256(' '.join(conditions).encode()).hexdigest()[:6]}"
        )
        if not (folder / "trials.csv").exists():
            made = partial(self.tell, f"mixtures of the split {split}")
            make_trials(self._data, folder, split, self.settings.seed, count, made, conditions)
        return folder / "trials.csv"

    def _watch(self, progress: TrainingProgress) -> None:
        self.tell(progress.phase, progress.step / max(1, progress.steps or 1))


def compare(row: dict[str, Any], reference: dict[str, Any], gains: str = "gains_db") -> tuple[float, float]:
    """Mean difference of SI-SDR improvement to another row over the same mixtures, and half its 95 % interval, in dB."""
    both = [(row[gains][i], reference[gains].get(i)) for i in row[gains]]
    differences = np.array([a - b for a, b in both if a is not None and b is not None])
    if len(differences) < 2:
        return (float(differences.mean()) if len(differences) else math.nan), math.nan
    return interval(differences)


NOTE = """\
SI-SDRi is the improvement of SI-SDR over the mixture in dB, of talkers that no row was trained or calibrated on. "To float" is the
mean difference over the same mixtures with its 95 % interval, "on `choose`" that over as many of the split on which decisions are
taken. Over-suppressed is the share of the talker's active frames from which too much was taken (TSOS), onset how much more of the
talker is lost in the first 150 ms after a pause than later. Fine-tuned rows also had more training than float had: what they gain
over it is that, and not the rounding."""


def page(report: dict[str, Any], layers: dict[str, Any] | None) -> str:
    """Markdown of what is on file."""
    sources = "`benchmarks/results/quantization.json` and `sensitivity.json`"
    parts = [
        "# What quantization costs",
        f"Written by `python -m benchmarks.quantization` from {sources}; none of it is typed.",
        NOTE,
    ]
    for name, model in report["figures"]["models"].items():
        parts += _model(name, model)
    for name, model in layers["figures"]["models"].items() if layers else ():
        parts += _sensitivity(name, model)
    here = report["environment"]
    versions = ", ".join(f"{name} {here['versions'][name]}" for name in ("torch", "brevitas", "numpy") if name in here["versions"])
    parts.append(f"Last measured {here['measured'][:10]}, one core of {here['cpu']} (hardware); {versions}.")
    return "\n\n".join(parts) + "\n"


def _model(name: str, model: dict[str, Any]) -> list[str]:
    given, rows = model["settings"], model["rows"]
    lines = []
    for slug, row in rows.items():
        gain = row["si_sdr_i"]
        differences: tuple[str, ...] = ("", "")
        if slug != "float" and "float" in rows:
            compared = (compare(row, rows["float"], gains) for gains in ("gains_db", "choose_gains_db"))
            differences = tuple("{:+.2f} ± {:.2f}".format(*found) for found in compared)
        lines.append(
            (
                ROWS[slug] + (f", {row['steps']} steps" if row.get("steps") else ""),
                *(_number(gain and gain[key], 2) for key in ("mean", "median", "p10")),
                *differences,
                _number(row["pesq_wb"], 2),
                _number(row["estoi"], 3),
                "-" if row["over_suppression"] is None else f"{row['over_suppression']:.1%}",
                _number(row["onset_damping_db"] and row["onset_damping_db"]["median"], 2),
                f"{row['bytes'] / 1000:,.0f}" if "bytes" in row else f"{4 * model['weights'] / 1000:,.0f}",
                f"{row['packed_bytes'] / 1000:,.0f}" if "packed_bytes" in row else "",
            )
        )
    head = (
        "",
        "SI-SDRi mean",
        "median",
        "p10",
        "to float",
        "on `choose`",
        "PESQ-WB",
        "ESTOI",
        "over-suppressed",
        "onset, dB",
        "kB",
        "kB packed",
    )
    conditions = " and ".join(TITLES[c].replace("two talkers and noise", "two talkers with noise") for c in given["conditions"])
    n = next(iter(rows.values()))["n"]
    teacher = f"`{model['teacher'][:12]}`" if model["teacher"] else "the float model itself"
    of = f"float weights `{model['checkpoint'][:12]}`, step {model['step']:,}, {model['weights']:,} resident weights"
    how = f"integer rows run by {given['engine']}; distilled from {teacher}"
    parts = [
        f"## {name}",
        f"{n} mixtures of the split `report`, seed {given['seed']}: {conditions}; {of}; {how}.",
        table(head, lines),
        _verdict(rows),
    ]
    if model["calibrations"]:
        scores = sorted(model["calibrations"].items(), key=lambda item: -item[1]["gain_snr_db"])
        on = f"Post-training on {given['probe_mixtures']} mixtures of the split `choose`"
        what = "the final gain of the float model over its error, and SI-SDR lost"
        parts += [
            f'{on}: {what}. Best is "{model["best"]}". Activations have one scale per tensor: all that the engines know.',
            table(
                ("calibration", "gain over error, dB", "SI-SDR lost, dB"),
                [(which, f"{s['gain_snr_db']:.1f}", f"{s['si_sdr_loss_db']:.3f}") for which, s in scores],
            ),
        ]
    return [part for part in parts if part]


def _verdict(rows: dict[str, Any]) -> str:
    """Sentence on whether the aim is met, from the figures."""
    said: dict[str, list[str]] = {}
    for slug in ("ptq-best", "qat", "qat-distilled", "w4-qat", "w4-qat-distilled"):
        if slug in rows and "float" in rows:
            mean, half = compare(rows[slug], rows["float"])
            if mean - half >= -TARGET_DB:
                verdict = f"Within {TARGET_DB:g} dB of float or above it"
            elif mean + half < -TARGET_DB:
                verdict = f"More than {TARGET_DB:g} dB below float"
            else:
                verdict = f"Not to be told from {TARGET_DB:g} dB below float with so few mixtures"
            said.setdefault(verdict, []).append(ROWS[slug])
    if not said:
        return ""
    text = ". ".join(f"{verdict}: {'; '.join(which)}" for verdict, which in said.items())
    best = _best(rows)
    return f"{text}." + (f" Best of the int8 rows on `choose`: {ROWS[best]}." if best else "")


def _best(rows: dict[str, Any]) -> str | None:
    """The int8 row that gains most over float on the split ``choose``; None before there is one."""
    eight = [slug for slug in ("ptq-minmax", "ptq-best", "qat", "qat-distilled") if slug in rows]
    return max(eight, key=lambda slug: compare(rows[slug], rows["float"], "choose_gains_db")[0], default=None)


def _sensitivity(name: str, model: dict[str, Any]) -> list[str]:
    ordered = sorted(
        ((layer, f) for layer, f in model["layers"].items() if layer not in ("nothing", "everything")),
        key=lambda item: item[1]["gain_snr_db"],
    )
    shown = ordered[:10]
    rest = ""
    if quiet := ordered[10:]:
        rest = f"; the other {len(quiet)} keep the gain {quiet[0][1]['gain_snr_db']:.1f} dB or more above their error"
    where = f"on {model['n']} mixtures of the split `choose` (`python -m benchmarks.sensitivity`)"
    most = f"The ten that cost most{rest}."
    rows = (("everything", model["layers"]["everything"]), *shown)
    return [
        f"## Layer by layer: {name}",
        f"One layer quantized (`{model['scheme']}`), the rest float (weights `{model['checkpoint'][:12]}`), {where}. {most}",
        table(
            ("layer", "gain over error, dB", "SI-SDR lost, dB"),
            [(f"`{layer}`", f"{f['gain_snr_db']:.1f}", f"{f['si_sdr_loss_db']:.3f}") for layer, f in rows],
        ),
        f"![Error of the final gain by layer]({sensitivity.drawing(name).name})",
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None


def _models() -> dict[str, Any]:
    found = _load(STORED)
    return found["figures"]["models"] if found else {}


def _write(name: str, model: dict[str, Any]) -> None:
    """Write the table after each row: one that was cut short is on file with its page."""
    models = _models() | {name: model}
    Report(question="What does quantization cost?", figures={"models": models}, environment=environment()).save(STORED)
    _render()


def _render() -> bool:
    """The page of what is on file; whether something is."""
    found = _load(STORED)
    if found is not None:
        PAGE.write_text(page(found, _load(sensitivity.STORED)))
    return found is not None


def measure(study: Study, rows: Sequence[str], model: dict[str, Any] | None, save: Callable[[dict[str, Any]], None]) -> None:
    """Fill in what ``model`` (a part of an earlier result) lacks; ``save`` is called after each row."""
    key = study.key("calibrations")
    known = model or {}
    model = {**study.facts, "settings": vars(study.settings) | {"conditions": list(study.settings.conditions)}}
    same = known.get("calibrations_key") == key
    model["calibrations_key"], model["calibrations"] = key, known["calibrations"] if same else study.calibrations()
    eight = {name: figures for name, figures in model["calibrations"].items() if name.startswith("int8")}
    model["best"] = max(eight, key=lambda name: eight[name]["gain_snr_db"])
    kept = {name: row for name, row in known.get("rows", {}).items() if row["key"] == study.key(name)}
    model["rows"] = {}
    for name in ROWS:
        if name in kept:
            model["rows"][name] = kept[name]
        elif name in rows:
            model["rows"][name] = {"key": study.key(name), **study.row(name, model["best"])}
            save(model)
    save(model)


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write result and page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantization", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", metavar="FILE", help="float model of any size, or the folder of a run"
    )
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="teacher of distilled rows; the checkpoint itself if left out")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(DEFAULT_CONDITIONS))
    parser.add_argument("--per-condition", type=int, default=24, metavar="N")
    parser.add_argument("--qat-steps", type=int, default=100, metavar="N")
    parser.add_argument("--probe-mixtures", type=int, default=16, metavar="N", help="mixtures of the split choose for calibrations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="litert")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/quantization"), metavar="FOLDER", help="folder for caches and mixtures"
    )
    parser.add_argument("--fresh", action="store_true", help="compute every row anew")
    parser.add_argument("--render", action="store_true", help="only write the page, from the result on file")
    given = parser.parse_args(arguments)
    if not given.render:
        if not given.data or not given.checkpoint:
            parser.error("--data and --checkpoint are needed, or --render")
        settings = Settings(
            seed=given.seed,
            per_condition=given.per_condition,
            conditions=tuple(given.conditions),
            qat_steps=given.qat_steps,
            probe_mixtures=given.probe_mixtures,
            engine=given.engine,
        )
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        for checkpoint in given.checkpoint:
            with Progress(*columns, transient=True) as bars:
                task = bars.add_task(str(checkpoint), total=1.0)
                tell = partial(_tell, bars, task, checkpoint.name)
                study = Study(checkpoint, given.data, given.work, settings, given.teacher, tell)
                name = study.source.recipe.name
                measure(study, given.rows, None if given.fresh else _models().get(name), partial(_write, name))
    if not _render():
        sys.stderr.write(f"quantization: {STORED} is not there: measure first, with --data and --checkpoint\n")
        return 2
    print(f"written to {PAGE}")
    return 0


def _tell(bars: Progress, task: Any, of: str, what: str, done: float) -> None:
    bars.update(task, description=f"{of}: {what}", completed=done)


if __name__ == "__main__":
    sys.exit(main())
