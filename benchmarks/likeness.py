"""What does it cost that two voices are alike, and does the confidence tell when the output is another talker?

python -m benchmarks.likeness --data DIR

Lines and probabilities are fitted to talkers of split ``choose`` and tested on those of ``report``. A second is *confused* where,
with the second before and the one after it, the output is nearer in SI-SDR to an interferer than to the target, or gains less than
-3 dB, or the target is not in the mixture; a recording likewise, as a whole. With ``--keep`` trials that are there are not made
again, and those that were observed are not observed again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks import RESULTS, one_line
from benchmarks.likeness_page import ASSETS, write_page
from edge_tse import audio
from edge_tse.artifact import Artifact, shipped_names
from edge_tse.enrollment.likeness import likeness
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError
from edge_tse.metrics import si_sdr
from edge_tse.recognition import Features, Recognizer
from edge_tse.report import Report, environment
from edge_tse.trust import ASSET, Calibration, LikenessCost, Trust
from edge_tse.voice import Voice, VoiceModel
from quantization.evaluate import personal_listener
from quantization.trial_list import Trial, read_sound, read_trials
from quantization.trials import SPLITS, make_trials

__all__ = ["calibrated", "caught", "confused", "cost_line", "reliability"]

Float = NDArray[np.float32]
Array = NDArray[np.float64]

CONDITIONS = {"two_talkers": 1, "two_ears": 2, "target_absent": 4, "target_alone": 8}
"""Condition -> of so many trials there is one of it."""
ALIKE = 0.2
"""Likeness from which a mixture counts as one of alike voices."""
WORSE_DB = -3.0
FALSE_ALARMS = 0.05
EDGES = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_RATE_HZ = 16000
_PENALTY = 1.0
"""Of squared weights of standardized features: 2,000 seconds barely feel it."""
_ANY = Calibration(voice=0, change=0, level=0, bias=0, doubtful=0)


def confused(estimate: Float, mixture: Float, target: Float | None, interferers: Sequence[Float]) -> bool | None:
    """Whether an output ``[ears, samples]`` is rather another talker than the target; None if the target is silent in it."""
    if target is None:
        return True
    if not target.any():
        return None
    mine = si_sdr(estimate, target)
    others = [si_sdr(estimate, other) for other in interferers if other.any()]
    return bool(others) and (mine < max(others) or mine - si_sdr(mixture, target) < WORSE_DB)


def observe(trial: Trial, artifact: Artifact) -> dict[str, Any]:
    """One trial: its gain and likeness, and what each second was judged by, with whether it is confused."""
    voice, listener = personal_listener(trial, artifact, "litert")
    if voice is None or isinstance(listener, str):
        return {"refused": True}
    mixture, _ = read_sound(trial, "mixture", trial.mixture)
    target = None if trial.target is None else read_sound(trial, "target", trial.target)[0]
    interferers = [read_sound(trial, "interferer", path)[0] for path in trial.interferers]
    estimate = listener(mixture)
    recognizer = Recognizer(artifact.voice_model, _ANY, voice)
    recognizer.push(mixture, estimate)
    began = time.process_time()
    features = recognizer.finish()
    cost_s = time.process_time() - began
    seconds: list[dict[str, Any]] = []
    for at, seen in enumerate(features):
        part = slice(max(0, at - 1) * _RATE_HZ, (at + 2) * _RATE_HZ)
        wrong = confused(
            estimate[:, part],
            mixture[:, part],
            None if target is None else target[:, part],
            [other[:, part] for other in interferers],
        )
        seconds.append({"seen": None if seen is None else list(seen), "confused": wrong})
    gain_db = None if target is None or not interferers else si_sdr(estimate, target) - si_sdr(mixture, target)
    return {
        "likeness": None if gain_db is None else _likeness(trial, artifact.voice_model, voice),
        "gain_db": gain_db,
        "confused": confused(estimate, mixture, target, interferers),
        "seconds": seconds,
        "cost_ms": cost_s * 1e3,
    }


def observations(data: Path, split: str, artifact: Artifact, count: int, seed: int, keep: Path) -> list[dict[str, Any]]:
    """Trials of a split, as :func:`observe` has them, all that is long to make kept in a folder."""
    out = []
    for condition, share in CONDITIONS.items():
        folder = keep / f"{split}-{seed}" / condition
        path = folder / "trials.csv"
        if not path.exists() or len(read_trials(path)) < count // share:
            make_trials(data, folder, split, seed, count // share, conditions=(condition,))
        stored = folder / f"{artifact.digest[:12]}.jsonl"
        lines = stored.read_text().splitlines() if stored.exists() else []
        known = {row["id"]: row for row in map(json.loads, lines)}
        with stored.open("a") as file:
            for trial in track(read_trials(path)[: count // share], f"{split}, {condition}", transient=True):
                if trial.id not in known:
                    known[trial.id] = {"id": trial.id, "condition": condition, **observe(trial, artifact)}
                    file.write(json.dumps(known[trial.id]) + "\n")
                    file.flush()
                if not known[trial.id].get("refused"):
                    out.append(known[trial.id])
    return out


def _likeness(trial: Trial, model: VoiceModel, voice: Voice) -> float | None:
    """Cosine of the enrolled voice and the one interferer's that is most like it; None if no interferer can be enrolled."""
    found = []
    for path in trial.interferers:
        try:
            found.append(likeness(model, voice, enroll_clips(model, [(path.name, *audio.read(path))]).voice))
        except AudioError:
            continue
    return max(found, default=None)


def cost_line(likeness: Array, gain_db: Array, typical: float) -> LikenessCost:
    """Least squares of gain over likeness."""
    slope, intercept = (float(x) for x in np.polyfit(likeness, gain_db, 1))
    most = float(likeness.max())
    return LikenessCost(
        typical=round(typical, 3),
        gain_db=round(intercept + slope * typical, 3),
        slope_db=round(slope, 3),
        most=round(most, 3),
    )


def calibrated(seen: Array, right: NDArray[np.bool_]) -> Calibration:
    """Logistic regression of ``right [n]`` on features ``[n, 3]`` by Newton's method, and the threshold of 5 % false alarms."""
    scaled = seen / [1, 1, 10]
    mean, deviation = scaled.mean(axis=0), scaled.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    x = np.column_stack([(scaled - mean) / deviation, np.ones(len(seen))])
    penalty = np.diag([_PENALTY] * (x.shape[1] - 1) + [0.0])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        w += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + penalty, x.T @ (right - p) - penalty @ w)
    weights = w[:-1] / deviation
    voice, change, level = (round(float(value), 3) for value in weights)
    found = Calibration(voice=voice, change=change, level=level, bias=round(float(w[-1] - weights @ mean), 3), doubtful=0.0)
    p = np.array([found.probability(*row) for row in seen])
    return replace(found, doubtful=round(float(np.quantile(p[right], FALSE_ALARMS)), 3))


def caught(score: Array, wrong: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """Share of the wrong ones below a threshold, and of the right ones: false alarms."""
    below = score < threshold
    return {
        "n": len(score),
        "confused": int(wrong.sum()),
        "caught": float(below[wrong].mean()) if wrong.any() else None,
        "false_alarms": float(below[~wrong].mean()) if not wrong.all() else None,
    }


def reliability(probability: Array, right: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Stated and true share of right ones, by what was stated."""
    place = np.clip(np.digitize(probability, EDGES) - 1, 0, len(EDGES) - 2)
    rows = []
    for i, (low, high) in enumerate(pairwise(EDGES)):
        here = place == i
        if here.any():
            stated, true = float(probability[here].mean()), float(right[here].mean())
            rows.append({"from": low, "to": high, "n": int(here.sum()), "stated": stated, "right": true})
    return rows


def alternatives(trials: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Share of confused seconds that fewer features catch, on the talkers that they are fitted to: what the choice rests on."""
    seen, wrong = _seconds(trials)
    out = {}
    for names in (("voice",), ("change", "level_db"), ("voice", "change"), Features._fields):
        used = seen * [name in names for name in Features._fields]
        found = calibrated(used, ~wrong)
        out[", ".join(names)] = caught(np.array([found.probability(*row) for row in used]), wrong, found.doubtful)["caught"]
    return out


def _seconds(trials: Iterable[dict[str, Any]]) -> tuple[Array, NDArray[np.bool_]]:
    """Features ``[n, 3]`` and whether each is confused, of the seconds that are judged."""
    known = [
        (second["seen"], second["confused"])
        for trial in trials
        for second in trial["seconds"]
        if second["seen"] is not None and second["confused"] is not None
    ]
    return np.array([seen for seen, _ in known], np.float64).reshape(-1, len(Features._fields)), np.array(
        [w for _, w in known], bool
    )


def _recordings(trials: Sequence[dict[str, Any]], chosen: Calibration) -> tuple[Array, NDArray[np.bool_]]:
    """Mean probability of each recording, and whether it is confused."""
    rows = []
    for trial in trials:
        known = [chosen.probability(*second["seen"]) for second in trial["seconds"] if second["seen"] is not None]
        if known and trial["confused"] is not None:
            rows.append((float(np.mean(known)), trial["confused"]))
    return np.array([p for p, _ in rows]), np.array([w for _, w in rows], bool)


def _gains(trials: Iterable[dict[str, Any]], condition: str) -> tuple[Array, Array]:
    rows = [(t["likeness"], t["gain_db"]) for t in trials if t["condition"] == condition and t["likeness"] is not None]
    both = np.array(rows, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def tested(name: str, choose: list[dict[str, Any]], report: list[dict[str, Any]]) -> tuple[Trust, dict[str, Any]]:
    """Fits to one split, and figures of the other."""
    typical = float(np.median([t["likeness"] for t in choose if t["likeness"] is not None]))
    lines = {ears: cost_line(*_gains(choose, condition), typical) for ears, condition in _EARS.items()}
    seen, wrong = _seconds(choose)
    chosen = calibrated(seen, ~wrong)
    trust = Trust(model=name, one_ear=lines["one_ear"], two_ears=lines["two_ears"], confidence=chosen)
    scores, whole = _recordings(choose, chosen)
    recording_threshold = float(np.quantile(scores[~whole], FALSE_ALARMS))
    seen, wrong = _seconds(report)
    p = np.array([chosen.probability(*row) for row in seen])
    by_condition = {}
    parts = {condition: [t for t in report if t["condition"] == condition] for condition in CONDITIONS}
    parts["alike"] = [t for t in parts["two_talkers"] + parts["two_ears"] if (t["likeness"] or 0) >= ALIKE]
    for condition, part in parts.items():
        own, own_wrong = _seconds(part)
        own_p = np.array([chosen.probability(*row) for row in own])
        alone, alone_wrong = _recordings(part, chosen)
        by_condition[condition] = {
            "trials": len(part),
            "seconds": caught(own_p, own_wrong, chosen.doubtful),
            "recordings": caught(alone, alone_wrong, recording_threshold),
        }
    judged = sum(second["seen"] is not None for t in report for second in t["seconds"])
    every = sum(len(t["seconds"]) for t in report)
    figures = {
        "likeness": {ears: _bins(*_gains(report, condition), lines[ears]) for ears, condition in _EARS.items()},
        "seconds": caught(p, wrong, chosen.doubtful),
        "recordings": caught(*_recordings(report, chosen), recording_threshold),
        "recording_threshold": recording_threshold,
        "conditions": by_condition,
        "reliability": reliability(p, ~wrong),
        "alternatives": alternatives(choose),
        "not_judged": 1 - judged / every,
        "cost_ms_per_s": sum(t["cost_ms"] for t in report) / every,
        "trials": {"choose": len(choose), "report": len(report)},
    }
    return trust, figures


_EARS = {"one_ear": "two_talkers", "two_ears": "two_ears"}
_BINS = (-1.0, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 1.0)


def _bins(likeness: Array, gain_db: Array, line: LikenessCost) -> dict[str, Any]:
    """Gain by likeness against what the line says of it."""
    rows = []
    for low, high in pairwise(_BINS):
        here = (likeness >= low) & (likeness < high)
        if here.any():
            expected = float(np.mean([line.expected_db(x) for x in likeness[here]]))
            ends = {"from": float(max(low, likeness.min())), "to": float(min(high, likeness.max()))}
            half = float(1.96 * gain_db[here].std(ddof=1) / np.sqrt(here.sum())) if here.sum() > 1 else None
            rows.append(
                {**ends, "n": int(here.sum()), "gain_db": float(gain_db[here].mean()), "half": half, "expected_db": expected}
            )
    return {"correlation": float(np.corrcoef(likeness, gain_db)[0, 1]), "rows": rows}


@one_line
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write result, asset and page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.likeness", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--artifact", default="small", metavar="NAME", help="shipped model")
    parser.add_argument("--per-condition", type=int, default=200, metavar="N", help="mixtures of two talkers; fewer of the others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for trials and observations, to go on from")
    given = parser.parse_args(arguments)
    artifact = Artifact.shipped(given.artifact)
    with tempfile.TemporaryDirectory() as folder:
        keep = given.keep or Path(folder)
        choose, report = (observations(given.data, split, artifact, given.per_condition, given.seed, keep) for split in SPLITS)
    trust, figures = tested(given.artifact, choose, report)
    figures = {"artifact": artifact.digest, "seed": given.seed, "per_condition": given.per_condition, **figures}
    Report(question=__doc__.splitlines()[0], figures=figures, environment=environment()).save(
        RESULTS / f"likeness-{given.artifact}.json"
    )
    _store(artifact.digest, trust)
    write_page()
    print(json.dumps(figures, indent=1))
    return 0


def _store(digest: str, trust: Trust) -> None:
    """Put what was measured of a shipped model into the asset, and drop what was of models that are no longer shipped."""
    path = ASSETS / ASSET
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[digest] = asdict(trust)
    shipped = {Artifact.shipped(name).digest for name in shipped_names()}
    content = {name: kept[name] for name in sorted(kept, key=lambda d: kept[d]["model"]) if name in shipped}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
