"""Float checkpoint to int8 artifact: calibrate, fine-tune quantization-aware (or not), freeze, measure."""

from __future__ import annotations

import importlib.metadata
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tse.artifact import Artifact
from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec
from edge_tse.nn.front import Front
from edge_tse.nn.student import Student
from edge_tse.quant import quantize as to_int8
from quantization.freeze import freeze
from quantization.qat import calibrate, quantized_twin
from quantization.train import Plan, Run, Watch, fit, launch, load_checkpoint, save_state, validate

__all__ = ["SCHEMES", "Scheme", "quantize"]

_CALIBRATION_STEPS = range(10_000_000, 10_000_012)  # batches that no training run reaches
_GOLDEN_FRAMES = 512


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to quantize, named as ``w<weight bits>a<activation bits>``."""

    steps: int
    """Fine-tuning steps; 0: post-training quantization."""
    lr: float = 2e-4
    percentile: float = 99.99
    """Of magnitudes over the calibration batches, taken as the initial range; 100: min-max."""


SCHEMES: dict[str, Scheme] = {
    "w8a8": Scheme(steps=250),
    "w8a8-ptq": Scheme(steps=0),
    "w8a8-ptq-minmax": Scheme(steps=0, percentile=100.0),
    "w8a8-smoke": Scheme(steps=3),
}


def quantize(
    checkpoint: Path,
    scheme_name: str,
    to: Path,
    data: Path,
    *,
    steps: int | None = None,
    resume: bool = False,
    watch: Watch = lambda progress: None,
) -> Artifact:
    """Make ``to`` from a checkpoint. Fine-tuning logs and resumes in the run's folder (``qat-NAME.csv``, ``qat-NAME.pt``).

    A checkpoint that comes without its run gets a folder beside ``to``.

    The figures of float, post-training and fine-tuned models on validation talkers go into the artifact's provenance.
    """
    if scheme_name not in SCHEMES:
        raise DataError(f"unknown recipe {scheme_name!r}: one of {', '.join(SCHEMES)}")
    scheme = SCHEMES[scheme_name]
    total = scheme.steps if steps is None else steps
    source = load_checkpoint(checkpoint)
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if not (folder / "voices.pt").exists():
        folder = to.parent / f"{to.stem}-run"
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(source.recipe, data, folder, watch, source.encoder)
    front = Front(source.recipe.student.frame)
    ranges = calibrate(source.student, _features(run, front), scheme.percentile)
    twin = quantized_twin(source.student, ranges)
    figures = {"float": validate(source.student, run), "ptq": validate(twin, run)}
    if total:
        _fine_tune(twin, run, Plan(steps=total, lr=scheme.lr, warmup=min(50, total // 4)), folder, scheme_name, resume, watch)
        figures["qat"] = validate(twin, run)
    artifact = freeze(
        twin.eval(),
        run.encoder,
        golden_features(source.recipe.student.frame),
        _provenance(source.recipe.name, source.step, scheme_name, total, run, figures),
    )
    artifact.save(to)
    return artifact


def _fine_tune(twin: Student, run: Run, plan: Plan, folder: Path, scheme: str, resume: bool, watch: Watch) -> None:
    stored = folder / f"qat-{scheme}.pt"
    state: dict[str, Any] = {"step": 0, "resume": None}
    if resume and stored.exists():
        state = torch.load(stored, map_location="cpu", weights_only=True)
        twin.load_state_dict(state["student"])

    def save(step: int, optimizers: list[dict[str, Any]]) -> None:
        save_state(stored, {"step": step, "resume": optimizers, "student": twin.state_dict()})

    reached = fit(
        run,
        twin,
        plan,
        launch(),
        save,
        folder / f"qat-{scheme}.csv",
        phase="fine-tuning",
        start=state["step"],
        optimizer_state=state["resume"],
        watch=watch,
    )
    if reached < plan.steps:
        raise DataError(f"stopped at step {reached} of {plan.steps}: run the same command with --resume to go on")


def _features(run: Run, front: Front) -> list[tuple[Tensor, Tensor]]:
    """Calibration batches: training mixtures, mono and binaural."""
    out = []
    with torch.no_grad():
        for step in _CALIBRATION_STEPS:
            mixture, _, voice, _ = run.tensors(step, 4, 0, 1)
            out.append((front.features(front.analyze(mixture)), voice))
    return out


def golden_features(frame: FrameSpec) -> NDArray[np.int8]:
    """Frames that replay everywhere: a gliding buzz and noise bursts in two ears. No recording travels with the model."""
    rng = np.random.default_rng(2026)
    samples = np.arange(_GOLDEN_FRAMES * frame.hop) / frame.sample_rate_hz
    pitch = 120 * (1 + 0.3 * np.sin(2 * math.pi * 0.7 * samples))
    buzz = np.sign(np.sin(2 * math.pi * np.cumsum(pitch) / frame.sample_rate_hz)) * (np.sin(2 * math.pi * 2.3 * samples) > -0.3)
    noise = rng.standard_normal(len(samples)) * (np.sin(2 * math.pi * 1.1 * samples) > 0)
    left = 0.05 * buzz + 0.02 * noise
    right = 0.03 * np.roll(buzz, 5) + 0.03 * noise
    spectra = frame.analyze(np.stack([left, right]).astype(np.float32))
    return to_int8(frame.frame_features(spectra), 1 / 127)


def _provenance(
    recipe: str, trained: int, scheme: str, steps: int, run: Run, figures: dict[str, dict[str, float]]
) -> dict[str, Any]:
    sets = sorted({name.rpartition("/")[0] for name in run.corpus.train_speakers})
    return {
        "recipe": recipe,
        "steps": trained,
        "scheme": scheme,
        "fine_tuning_steps": steps,
        "command": [
            f"edge-tse train {recipe} -o RUN --data DATA --steps {trained}",
            f"edge-tse quantize RUN --recipe {scheme} -o ARTIFACT --data DATA --steps {steps}",
        ],
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "corpora": sets,
        "talkers": {"train": len(run.corpus.train_speakers), "validation": len(run.corpus.validation_speakers)},
        "encoder_eer": run.eer,
        "validation_si_sdr_i_db": figures,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "brevitas", "numpy")},
    }
