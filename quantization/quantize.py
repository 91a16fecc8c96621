"""Float checkpoint to int8 artifact: calibrate, fine-tune quantization-aware (or not), freeze, measure."""

from __future__ import annotations

import copy
import importlib.metadata
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_tse.artifact import Artifact
from edge_tse.errors import DataError
from edge_tse.nn.baselines import Baseline
from edge_tse.nn.front import TorchFront
from edge_tse.nn.student import Student
from edge_tse.quant import quantize as to_int8
from edge_tse.table import read_table
from edge_tse.universal import reaches
from quantization.arithmetic import Arithmetic, fastest
from quantization.checkpoint import Checkpoint, check_teacher, load_checkpoint, student_of
from quantization.freeze import freeze
from quantization.loop import Plan, Teacher, fit, launch
from quantization.qat import QuantDepthwise, QuantPointwise, WeightFormat, calibrate, quantized_twin
from quantization.run import TrainingRun, Watch
from quantization.stored import check_finite, load_state, save_state
from quantization.validation import validate

__all__ = [
    "SCHEMES",
    "Scheme",
    "calibration_batches",
    "fine_tune",
    "packed_bytes",
    "prepare",
    "quantize",
    "teacher_of",
    "twin_of",
    "with_reach",
]

_CALIBRATION_STEPS = range(10_000_000, 10_000_012)  # batches that no training run reaches
_GOLDEN_FRAMES = 512
_REACHED_VOICES = 2000
"""Least voices that the reach is taken over, where there are more: every n-th."""
_REACHED_FRAMES = 500
"""Frames from the beginning of each calibration mixture: 2 s."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to quantize, named as ``w<weight bits>a<activation bits>``."""

    steps: int
    """Fine-tuning steps; 0: post-training quantization."""
    lr: float = 2e-4
    calibration: str = "percentile-99.99"
    """Calibration of initial ranges of activations, see :data:`quantization.qat.CALIBRATIONS`."""
    pointwise: WeightFormat = field(default_factory=WeightFormat)
    depthwise: WeightFormat = field(default_factory=WeightFormat)
    distilled: bool = False
    """Whether fine-tuning also follows a float teacher: the checkpoint itself unless another is given."""


_FOUR_BITS = WeightFormat(bits=4)

SCHEMES: dict[str, Scheme] = {
    "w8a8": Scheme(steps=250),
    "w8a8-distilled": Scheme(steps=250, distilled=True),
    "w8a8-ptq": Scheme(steps=0),
    "w8a8-ptq-minmax": Scheme(steps=0, calibration="min-max"),
    "w8a8-smoke": Scheme(steps=3),
    "w4a8": Scheme(steps=250, pointwise=_FOUR_BITS),
    "w4a8-distilled": Scheme(steps=250, pointwise=_FOUR_BITS, distilled=True),
    "w4a8-ptq": Scheme(steps=0, pointwise=_FOUR_BITS),
}
"""Schemes by name. ``w4``: weights of pointwise layers in [-7, 7], held in int8 tensors, which every engine runs as they are."""


def quantize(
    checkpoint: Path,
    scheme_name: str,
    to: Path,
    data: Path,
    *,
    steps: int | None = None,
    resume: bool = False,
    teacher: Path | None = None,
    watch: Watch = lambda progress: None,
) -> Artifact:
    """Make artifact ``to`` from a checkpoint. Fine-tuning logs and resumes in the run's folder (``qat-NAME.csv``, ``qat-NAME.pt``).

    A checkpoint that comes without its run gets a folder beside ``to``. ``teacher`` is whom a distilled recipe follows instead of
    the checkpoint itself.

    The figures of float, post-training and fine-tuned models on validation talkers go into the artifact's provenance.
    """
    if scheme_name not in SCHEMES:
        raise DataError(f"unknown recipe {scheme_name!r}: one of {', '.join(SCHEMES)}")
    scheme = SCHEMES[scheme_name]
    if teacher and not scheme.distilled:
        distilled = ", ".join(name for name, other in SCHEMES.items() if other.distilled)
        raise DataError(f"recipe {scheme_name} has no use for a teacher: leave it out, or take one of {distilled}")
    total = scheme.steps if steps is None else steps
    source, run, folder = prepare(checkpoint, data, to.parent / f"{to.stem}-run", watch)
    student = student_of(source)
    teaches = teacher_of(source, teacher) if scheme.distilled else None
    twin = twin_of(student, calibration_batches(run, student), scheme)
    items = source.recipe.validation
    figures = {"float": validate(student, run, items), "ptq": validate(twin, run, items)}
    if total:
        of = {"checkpoint": source.digest, "steps": total, "teacher": load_checkpoint(teacher).digest if teacher else None}
        stored = folder / f"qat-{scheme_name}.pt"
        fine_tune(twin, run, scheme, total, stored, of=of, teacher=teaches, resume=resume, watch=watch)
        figures["qat"] = validate(twin, run, items)
    followed = " --teacher TEACHER" if teacher else ""
    provenance = _provenance(source.recipe.name, source.step, scheme_name, total, run, figures, followed)
    provenance["weights"] = {
        "bits": {"pointwise": scheme.pointwise.bits, "depthwise": scheme.depthwise.bits},
        "packed_bytes": packed_bytes(twin),
    }
    artifact = with_reach(freeze(twin.eval(), run.encoder, golden_features(student), provenance), run, student)
    artifact.save(to)
    return artifact


def prepare(
    checkpoint: Path, data: Path, beside: Path, watch: Watch = lambda progress: None
) -> tuple[Checkpoint, TrainingRun, Path]:
    """A checkpoint, the data side of its run, and its folder: the checkpoint's own if its run is there, else ``beside``."""
    source = load_checkpoint(checkpoint)
    made = source.recipe.name
    if isinstance(source.student, Baseline):
        raise DataError(f"{checkpoint}: {made!r} is a baseline to compare with, no integer graph is made of it: take a student")
    if not isinstance(source.student, Student) or source.student.config.ahead:
        raise DataError(f"{checkpoint}: a network of {made!r} sees the future and cannot stream: distil it into a student")
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    if not (folder / "voices.pt").exists():
        folder = beside
        folder.mkdir(parents=True, exist_ok=True)
    return source, TrainingRun(source.recipe, data, folder, watch, source.encoder), folder


def teacher_of(source: Checkpoint, other: Path | None = None) -> Teacher:
    """The teacher of a fine-tuning: the float student, or that of another checkpoint with the same frames and voices.

    ``DataError`` if they differ, or the other one's network listens to layers of the encoder and the student does not.
    """
    if other is None:
        return Teacher(copy.deepcopy(source.student))
    found = load_checkpoint(other)
    check_teacher(other, found, source.recipe.student, "the checkpoint")
    theirs, ours = (made.encoder.state_dict() if made.encoder else {} for made in (found, source))
    if theirs.keys() != ours.keys() or not all(torch.equal(theirs[name], value) for name, value in ours.items()):
        raise DataError(
            f"{other}: its enrollment encoder is not the checkpoint's: choose the teacher that the checkpoint was trained with"
        )
    return Teacher(found.student)


def twin_of(student: Student, batches: list[tuple[Tensor, Tensor]], scheme: Scheme) -> Student:
    """The student after post-training quantization: where fine-tuning starts."""
    return quantized_twin(student, calibrate(student, batches, scheme.calibration), scheme.pointwise, scheme.depthwise)


def fine_tune(
    twin: Student,
    run: TrainingRun,
    scheme: Scheme,
    steps: int,
    stored: Path,
    *,
    of: Mapping[str, object] | None = None,
    teacher: Teacher | None = None,
    resume: bool = False,
    watch: Watch = lambda progress: None,
) -> None:
    """Train ``twin`` in place. ``stored`` (a ``.pt``) keeps its state every two minutes and at the end, the log lies beside it.

    ``of`` is what it is made of, in values that JSON knows: what was made of anything else is not gone on with. ``DataError`` then,
    and if it was stopped before its last step, with what to do.
    """
    state: dict[str, Any] = {"step": 0, "resume": None}
    begun_in: Arithmetic | None = None
    made_of = dict(of or {})
    if resume and stored.exists():
        state = load_state(stored, "half-made model")
        check_finite(stored, state, ("student",))
        found = state.get("of", {})
        if differs := [key for key in made_of if not isinstance(found, dict) or key not in found or found[key] != made_of[key]]:
            raise DataError(f"{stored} is of another fine-tuning, its {differs[0]} differs: begin without --resume")
        try:
            twin.load_state_dict(state["student"])
            if "arithmetic" in state:  # older ones do not say
                begun_in = read_table(Arithmetic, state["arithmetic"], f"{stored}: arithmetic", DataError)
            state = {"step": int(state["step"]), "resume": state["resume"]}
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{stored} is of another model or recipe ({type(error).__name__}): begin without --resume") from error

    fabric = launch()
    arithmetic = fabric.broadcast(fastest(fabric.device.type, twin, begun_in))

    def save(step: int, optimizers: list[dict[str, Any]]) -> None:
        so_far = {"of": made_of, "step": step, "resume": optimizers, "arithmetic": asdict(arithmetic)}
        save_state(stored, {**so_far, "student": twin.state_dict()})

    reached = fit(
        run,
        twin,
        Plan(steps=steps, lr=scheme.lr, warmup=min(50, steps // 4)),
        fabric,
        save,
        stored.with_suffix(".csv"),
        phase="fine-tuning",
        arithmetic=arithmetic,
        start=state["step"],
        optimizer_state=state["resume"],
        teacher=teacher,
        watch=watch,
    )
    if reached < steps:
        raise DataError(f"stopped at step {reached} of {steps}: run the same command with --resume to go on")


def packed_bytes(twin: Student) -> int:
    """Flash that the weights would take with no bit unused, with their biases (int32) and scales (float32)."""
    layers = [m for m in twin.modules() if isinstance(m, QuantPointwise | QuantDepthwise)]
    return sum(math.ceil(m.holder.weight.numel() * m.form.bits / 8) + 8 * m.holder.weight.shape[0] for m in layers)


def calibration_batches(run: TrainingRun, student: Student) -> list[tuple[Tensor, Tensor]]:
    """Features and voices of training mixtures, mono and binaural; the beam's features are made with a float student."""
    front = TorchFront(run.recipe.student.frame)
    student.eval()
    out = []
    with torch.no_grad():
        for step in _CALIBRATION_STEPS:
            mixture, _, voice, _ = run.tensors(step, 4, 0, 1)
            out.append((student.listen(front, front.analyze(mixture), voice).features, voice))
    return out


def with_reach(artifact: Artifact, run: TrainingRun, student: Student) -> Artifact:
    """The artifact with the reach of its universal form: voices of the training talkers, and mixtures of them."""
    embed = artifact.voice_model.modulation
    voices = run.enrollments.every
    chosen = voices[:: max(1, len(voices) // _REACHED_VOICES)]
    source = artifact.graph.tensors[artifact.graph.inputs[0]]
    heard = (
        (embed(voice), to_int8(rows, source.scale, source.zero_point))
        for features, spoken in calibration_batches(run, student)
        for rows, voice in zip(features.numpy()[:, :_REACHED_FRAMES], spoken.numpy(), strict=True)
    )
    return replace(artifact, reach=reaches(artifact.graph, [embed(voice) for voice in chosen], heard))


@torch.no_grad()
def golden_features(student: Student) -> NDArray[np.int8]:
    """Golden frames that replay everywhere: a gliding buzz and noise bursts in two ears. No recording travels with the model.

    A beam, where there is one, runs and is pointed by the float student for a voice of nobody.
    """
    frame = student.config.frame
    rng = np.random.default_rng(2026)
    samples = np.arange(_GOLDEN_FRAMES * frame.hop) / frame.sample_rate_hz
    pitch = 120 * (1 + 0.3 * np.sin(2 * math.pi * 0.7 * samples))
    buzz = np.sign(np.sin(2 * math.pi * np.cumsum(pitch) / frame.sample_rate_hz)) * (np.sin(2 * math.pi * 2.3 * samples) > -0.3)
    noise = rng.standard_normal(len(samples)) * (np.sin(2 * math.pi * 1.1 * samples) > 0)
    left = 0.05 * buzz + 0.02 * noise
    right = 0.03 * np.roll(buzz, 5) + 0.03 * noise
    heard = np.stack([left, right]).astype(np.float32)
    if not (frame.beam or frame.level_invariant):
        return to_int8(frame.frame_features(frame.analyze(heard)), 1 / 127)
    front, nobody = TorchFront(frame), torch.full((1, student.config.voice_size), student.config.voice_size**-0.5)
    features = student.eval().listen(front, front.analyze(torch.from_numpy(heard)[None]), nobody).features
    return to_int8(features[0].numpy(), 1 / 127)


def _provenance(
    recipe: str, trained: int, scheme: str, steps: int, run: TrainingRun, figures: dict[str, dict[str, float]], followed: str
) -> dict[str, Any]:
    sets = sorted({name.rpartition("/")[0] for name in run.corpus.train_speakers})
    return {
        "recipe": recipe,
        "steps": trained,
        "scheme": scheme,
        "fine_tuning_steps": steps,
        "command": [
            f"edge-tse train {recipe} -o RUN --data DATA --steps {trained}",
            f"edge-tse quantize RUN --recipe {scheme} -o ARTIFACT --data DATA --steps {steps}{followed}",
        ],
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        "corpora": sets,
        "talkers": {"train": len(run.corpus.train_speakers), "validation": len(run.corpus.validation_speakers)},
        "encoder_eer": run.eer,
        "validation_si_sdr_i_db": figures,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "brevitas", "numpy")},
    }
