"""Quality of an artifact on a list of trials, as scores of every trial with their summary. Imports no torch."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import metadata
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tse import audio
from edge_tse.artifact import Artifact
from edge_tse.engines import Engine, open_network
from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError
from edge_tse.extraction import extract_signal
from edge_tse.personalization import personalize
from edge_tse.report import environment, versions
from edge_tse.voice import Voice, VoiceModel
from quantization import hearing_scores, scores
from quantization.score_summary import summary, tails
from quantization.scores import Item, Listener, score
from quantization.trial_list import Trial, enrollment_clips, read_trials

__all__ = ["evaluate", "personal_listener"]

Float = NDArray[np.float32]
_CHUNK = 4  # trials per task of a worker: long enough to share a voice, short enough for the bar to move


def evaluate(
    trials_csv: Path,
    artifact: Artifact,
    engine: str = "litert",
    progress: Callable[[float], None] | None = None,
    limit: int | None = None,
    jobs: int = 1,
    ears: hearing_scores.Ears | None = None,
) -> dict[str, Any]:
    """Scores of every trial (``items``), their summary by condition (``conditions``) and of the hard ones (``tails``).

    ``ears`` are the audiograms of a listener: then there are HASPI and HASQI, too, at seconds of computing each.

    ``progress`` is told the fraction done; ``limit`` takes the first so many trials; ``jobs`` processes share the work, with the
    same result (they are spawned: a script that asks for more than one needs a ``__main__`` guard). ``DataError`` names the row of
    a trial that cannot be used; one whose enrollment holds too little speech is counted as failed instead, with the reason.
    """
    path = Path(trials_csv)
    scores.check()  # now, not after an hour
    if ears is not None:
        hearing_scores.check()
    trials = read_trials(path)[:limit]
    items: list[Item] = []
    for item in _score(trials, artifact, engine, ears) if jobs == 1 else _share(trials, artifact, engine, jobs, ears):
        items.append(item)
        if progress is not None:
            progress(len(items) / len(trials))
    by_condition: dict[str, list[Item]] = {}
    for item in items:
        by_condition.setdefault(item["condition"], []).append(item)
    return {
        "conditions": {name: summary(part) for name, part in by_condition.items()},
        "tails": tails(items),
        "artifact": artifact.digest,
        "engine": open_network(artifact, engine).name,
        "trials": {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": len(items)},
        "versions": {
            **versions(),
            **{name: metadata.version(name) for name in ("pesq", "pystoi", *(["pyclarity"] if ears else []))},
        },
        "audiograms": None if ears is None else {side: ear.thresholds for side, ear in zip(("left", "right"), ears, strict=True)},
        "environment": environment(),
        "items": items,
    }


def _share(trials: Sequence[Trial], artifact: Artifact, engine: str, jobs: int, ears: hearing_scores.Ears | None) -> Iterator[Item]:
    """Scores as of :func:`_score`, in processes that inherit nothing, so that no runtime is forked with its threads."""
    content = artifact.to_bytes()
    source = iter(trials)
    chunks = list(iter(lambda: list(islice(source, _CHUNK)), []))
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(_chunk, repeat(content), repeat(engine), repeat(ears), chunks):
            yield from part


def _chunk(content: bytes, engine: str, ears: hearing_scores.Ears | None, trials: list[Trial]) -> list[Item]:
    return list(_score(trials, Artifact.from_bytes(content), engine, ears))


def _score(trials: Sequence[Trial], artifact: Artifact, engine: str, ears: hearing_scores.Ears | None) -> Iterator[Item]:
    enrolled: tuple[Path, ...] = ()
    voice: Voice | None = None
    listener: Listener | str = ""
    for trial in trials:
        if trial.enrollment != enrolled:  # one voice is kept: where a list repeats talkers, it does so in a row
            enrolled, (voice, listener) = trial.enrollment, personal_listener(trial, artifact, engine)
        item = score(trial, artifact.frame.sample_rate_hz, listener, ears=ears)
        if voice is not None and not item["absent"]:
            item["similarity"] = _similarity(trial, artifact.voice_model, voice)
        yield item


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
        found.append(float(voice.embedding @ other.embedding))
    return round(max(found), 3) if found else None
