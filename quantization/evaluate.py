"""Quality of an artifact on a list of trials, as scores of every trial with their summary. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.likeness import likeness
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError
from edge_tse.extraction import extract_signal
from edge_tse.personalization import personalize
from edge_tse.report import environment, versions
from edge_tse.voice import Voice, VoiceModel
from quantization import hearing_scores, scores
from quantization.journal import open_journal
from quantization.score_summary import by_condition, tails
from quantization.scores import Item, Listener, score
from quantization.trial_list import Trial, content_digest, enrollment_clips, read_trials
from quantization.workers import ALONE, Workers, results

__all__ = ["evaluate", "personal_listener"]

Float = NDArray[np.float32]


class _Scorer:
    """Scores of one trial. One voice is kept: where a list repeats talkers, it does so in a row."""

    def __init__(self, artifact: Artifact, engine: str, ears: hearing_scores.Ears | None) -> None:
        self._artifact, self._engine, self._ears = artifact, engine, ears
        self._enrolled: tuple[Path, ...] = ()
        self._voice: Voice | None = None
        self._listener: Listener | str = ""

    def __call__(self, trial: Trial) -> Item:
        artifact = self._artifact
        if trial.enrollment != self._enrolled:
            self._voice, self._listener = personal_listener(trial, artifact, self._engine)
            self._enrolled = trial.enrollment
        item = score(trial, artifact.frame.sample_rate_hz, self._listener, ears=self._ears)
        if self._voice is not None and not item["absent"]:
            item["similarity"] = _similarity(trial, artifact.voice_model, self._voice)
        return item

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a file's bytes, without a runtime."""
        return _scorer, (self._artifact.to_bytes(), self._engine, self._ears)


def _scorer(content: bytes, engine: str, ears: hearing_scores.Ears | None) -> _Scorer:
    return _Scorer(Artifact.from_bytes(content), engine, ears)


def evaluate(
    trials_csv: Path,
    artifact: Artifact,
    engine: str = "litert",
    progress: Callable[[float], None] | None = None,
    limit: int | None = None,
    workers: Workers = ALONE,
    ears: hearing_scores.Ears | None = None,
    journal: Path | None = None,
) -> dict[str, Any]:
    """Scores of every trial (``items``), their summary by condition (``conditions``) and of the hard ones (``tails``).

    ``ears`` are the audiograms of a listener: then there are HASPI and HASQI, too, at seconds of computing each.

    ``progress`` is told the fraction done; ``limit`` takes the first so many trials; ``workers`` share the work, with the same
    result (on another machine the files must have the same paths). ``journal`` names a file that keeps finished trials, from which
    a run that was killed goes on; remove it once the report is written. ``DataError`` names the row of a trial that cannot be used;
    one whose enrollment holds too little speech is counted as failed instead, with the reason.
    """
    path = Path(trials_csv)
    scores.check()  # now, not after an hour
    if ears is not None:
        hearing_scores.check()
    trials = read_trials(path)[:limit]
    audiograms = None if ears is None else {side: ear.thresholds for side, ear in zip(("left", "right"), ears, strict=True)}
    found = {
        "artifact": artifact.digest,
        "engine": open_network(artifact, engine).name,
        "trials": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": len(trials)},
        "versions": {
            **versions(),
            **{name: metadata.version(name) for name in ("pesq", "pystoi", *(["pyclarity"] if ears else []))},
        },
        "audiograms": audiograms,
    }
    job, tasks = _Scorer(artifact, engine, ears), {trial.id: trial for trial in trials}
    of = {**found, "sound": content_digest(trials)} if journal else {}
    with open_journal(journal, of) if journal else nullcontext() as kept:
        items = results(job, tasks, workers, kept, progress)
    return {
        "conditions": by_condition(items),
        "tails": tails(items),
        **found,
        "environment": environment(),
        "items": items,
    }


def personal_listener(trial: Trial, artifact: Artifact, engine: str) -> tuple[Voice | None, Listener | str]:
    """The enrolled talker with a listener for that one, or None and why this talker cannot be enrolled."""
    try:
        voice = enroll_clips(artifact.voice_model, enrollment_clips(trial)).voice
    except AudioError as failure:
        return None, str(failure)
    own = personalize(artifact, voice)
    return voice, partial(_extract, Engine(own, open_network(own, engine)))


def _extract(engine: Engine, mixture: Float) -> Float:
    return extract_signal(mixture, engine.frame.sample_rate_hz, engine).signal


def _similarity(trial: Trial, model: VoiceModel, voice: Voice) -> float | None:
    """Cosine between the enrolled voice and the interferer that is most like it; None if none of them can be enrolled."""
    found = []
    for path in trial.interferers:
        try:
            other = enroll_clips(model, [(path.name, *audio.read(path))]).voice
        except AudioError:
            continue
        found.append(likeness(model, voice, other))
    return round(max(found), 3) if found else None
