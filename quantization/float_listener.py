"""A float checkpoint (a student or the published system) on trials, scored as :mod:`quantization.evaluate` scores an artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_tse.enrollment.recordings import enroll_clips
from edge_tse.errors import AudioError, DataError
from edge_tse.nn.mask2flow import Mask2Flow, Solver
from edge_tse.nn.network import voice_size
from edge_tse.nn.student import Student
from edge_tse.report import versions
from edge_tse.voice import VoiceModel
from quantization.checkpoint import Checkpoint
from quantization.freeze import float_voice_model
from quantization.journal import open_journal
from quantization.score_summary import by_condition, tails
from quantization.scores import Float, Item, Listener, score
from quantization.trial_list import Trial, content_digest, enrollment_clips, read_trials
from quantization.validation import estimate
from quantization.workers import ALONE, Workers, results

__all__ = ["enroll", "evaluate_checkpoint", "float_listener"]


def enroll(source: Checkpoint, trial: Trial) -> Tensor:
    """Voice of the trial's talker in the form that the checkpoint takes, ``[1, size]``.

    ``AudioError`` if the enrollment holds too little speech, ``DataError`` if the checkpoint has no encoder of its own.
    """
    if source.encoder is None:
        raise DataError(
            f"a checkpoint of {source.recipe.name!r} without encoder cannot enroll from sound: take one with an encoder"
        )
    if not isinstance(source.student, Student):
        arrays, config = {name: value.numpy() for name, value in source.encoder.arrays().items()}, source.student.config
        # No heads belong to a voice here; the widths of theirs say how long the unit vector is, and what follows it.
        arrays["code.weight"] = np.zeros((1, config.embedding), np.float32)
        arrays["local.mean"] = np.zeros(voice_size(config) - config.embedding, np.float32)
        model = VoiceModel(config.frame, len(source.encoder.blocks), arrays)
    else:
        model = float_voice_model(source.student, source.encoder)
    return torch.from_numpy(enroll_clips(model, enrollment_clips(trial)).voice.embedding)[None]


def float_listener(source: Checkpoint, trial: Trial, steps: int = 1, solver: Solver = "euler") -> Listener | str:
    """Listener for the talker of a trial, or why that talker cannot be enrolled; ``steps`` and ``solver`` are the flow's."""
    try:
        voice = enroll(source, trial)
    except AudioError as failure:
        return str(failure)
    frame = source.recipe.student.frame

    @torch.no_grad()
    def listen(mixture: Float) -> Float:
        n = mixture.shape[1]
        padded = np.zeros((len(mixture), -(-(n + frame.delay) // frame.hop) * frame.hop), np.float32)
        padded[:, :n] = mixture
        found: Float = estimate(source.student, torch.from_numpy(padded)[None], voice, steps, solver)[0, :, :n].numpy()
        return found

    return listen


class _Scorer:
    """Scores of one trial, on one thread: sums that several threads share out are not the same everywhere."""

    def __init__(self, source: Checkpoint, steps: int, solver: Solver, of_mixture: bool) -> None:
        self._source, self._steps, self._solver, self._of_mixture = source, steps, solver, of_mixture

    def __call__(self, trial: Trial) -> Item:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            listener = float_listener(self._source, trial, self._steps, self._solver)
            return score(trial, self._source.recipe.student.frame.sample_rate_hz, listener, of_mixture=self._of_mixture)
        finally:
            torch.set_num_threads(threads)


def evaluate_checkpoint(
    trials_csv: Path,
    source: Checkpoint,
    steps: int = 1,
    solver: Solver = "euler",
    progress: Callable[[float], None] | None = None,
    of_mixture: bool = True,
    workers: Workers = ALONE,
    journal: Path | None = None,
) -> dict[str, Any]:
    """Scores of every trial (``items``), by condition (``conditions``) and of the hard ones (``tails``).

    Without ``of_mixture`` the PESQ and ESTOI of the mixtures are left out: several settings on the same trials need them once.
    ``workers`` and ``journal`` are those of :func:`quantization.evaluate.evaluate`.
    """
    trials = read_trials(trials_csv)
    flow = f", {steps} {solver} step{'s' if steps > 1 else ''}" if isinstance(source.student, Mask2Flow) else ""
    found = {
        "checkpoint": {"recipe": source.recipe.name, "step": source.step, "of": source.recipe.steps},
        "engine": f"torch, float32{flow}",
        "trials": {"file": trials_csv.name, "sha256": hashlib.sha256(trials_csv.read_bytes()).hexdigest(), "rows": len(trials)},
    }
    of: dict[str, object] = {}
    if journal:
        of = {
            **found,
            "of_mixture": of_mixture,
            "versions": versions(),
            "weights": source.digest,
            "sound": content_digest(trials),
        }
    job, tasks = _Scorer(source, steps, solver, of_mixture), {trial.id: trial for trial in trials}
    with open_journal(journal, of) if journal else nullcontext() as kept:
        items = results(job, tasks, workers, kept, progress)
    return {
        "conditions": by_condition(items),
        "tails": tails(items),
        **found,
        "items": items,
    }
