"""The data side of a training run: decoded corpus, encoder, cached enrollments, and mixtures by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from edge_tse.errors import DataError
from edge_tse.nn.encoder import Encoder
from edge_tse.nn.network import voice_size
from quantization.checkpoint import encoder_of
from quantization.corpus import SPEEDS, decode, mono_at, open_corpus
from quantization.encoder_training import Enrollments, clip_levels, embed_all, equal_error_rate, noise_levels, train_encoder
from quantization.external import Embeddings, enrollable
from quantization.mixing import Batch, Mixer
from quantization.recipes import EncoderRecipe, Recipe
from quantization.stored import check_finite, load_state, save_state

__all__ = ["TrainingProgress", "TrainingRun", "Watch", "tensors_of"]


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Progress of a long run."""

    phase: str
    step: int
    steps: int | None
    """Number of steps; None: there is no planned end."""
    figures: dict[str, float]
    note: str = ""
    """Line for people that is no step: what was taken from an earlier run, and from where."""


Watch = Callable[[TrainingProgress], None]


class TrainingRun:
    """The data side of a run: decoded corpus, encoder, cached enrollments, mixtures by step."""

    def __init__(
        self,
        made: Recipe,
        data: Path,
        folder: Path,
        watch: Watch,
        encoder: Encoder | None = None,
        embeddings: Embeddings | None = None,
        device: torch.device | str = "cpu",
        *,
        refine: bool = False,
        heard: int = 0,
    ) -> None:
        """``refine``: the encoder is where the recipe's own training of one begins, else it is used as it is. ``heard``: steps of
        the runs that the weights come from; this one's mixtures come after theirs.
        """
        self.recipe, self._heard = made, heard
        self.corpus = open_corpus(data)
        held = len(self.corpus.validation_speakers)
        if held < 2:
            raise DataError(f"{data}: {held} named talkers are left for validation, 2 are needed: add talkers")
        frame = made.student.frame

        cache = folder.absolute().parent / "cache"  # "." has no parent but itself
        stored = folder / "voices.pt"
        speeds = embeddings.speeds if embeddings else _speeds(stored) if made.encoder is None else SPEEDS
        self.speech = decode(
            self.corpus,
            self.corpus.train_speakers,
            frame.sample_rate_hz,
            speeds,
            cache=cache,
            progress=_teller(watch, "decode"),
            reused=_reuser(watch, "decoded speech of the training talkers"),
        )
        self.validation = decode(
            self.corpus,
            self.corpus.validation_speakers,
            frame.sample_rate_hz,
            (1.0,),
            cache=cache,
            progress=_teller(watch, "decode"),
            reused=_reuser(watch, "decoded speech of the validation talkers"),
        )
        self.encoder, self.enrollments, self.held_out = _enrollments(self, stored, watch, encoder, embeddings, refine)
        if made.encoder is None:
            self.speech = enrollable(self.speech, self.enrollments, "training")
            self.validation = enrollable(self.validation, self.held_out, "validation")
        self.eer = equal_error_rate(self.held_out)
        noises, heads = self.corpus.noises_train, self.corpus.hrirs_train
        self.mixer = Mixer(self.speech, made.scene, frame, made.seed, noises, heads, device, self.enrollments.centres)

    def tensors(self, step: int, size: int, rank: int, ranks: int) -> tuple[Tensor, ...]:
        """Mixture, target, voice and flow time of this process's part of a step."""
        step += self._heard
        batch = self.mixer.batch(step, size, rank, ranks)
        return tensors_of(batch, self.enrollments, self.recipe.seed, step, self.recipe.blur)


def _teller(watch: Watch, phase: str) -> Callable[[int, int], None]:
    return lambda done, of: watch(TrainingProgress(phase=phase, step=done, steps=of, figures={}))


def _reuser(watch: Watch, what: str) -> Callable[[Path], None]:
    return lambda path: watch(TrainingProgress(phase="", step=0, steps=None, figures={}, note=f"{what}: taken from {path}"))


_UNSAID = {"hidden": 256, "blocks": 4}
"""What older files of voices do not say of their encoder: all were of one size."""


def _enrollments(
    run: TrainingRun, stored: Path, watch: Watch, encoder: Encoder | None, embeddings: Embeddings | None, refine: bool
) -> tuple[Encoder | None, Enrollments, Enrollments]:
    """Encoder (trained now unless given) and voices of all talkers; the file ``stored`` keeps them between runs."""
    made = run.recipe
    stated = dataclasses.asdict(made.encoder) if made.encoder else {}
    stated.pop("goes_on", None)  # says with what it began, not how
    how = stated or None
    if stored.exists() and embeddings is None:
        state = load_state(stored, "file of voices")
        check_finite(stored, state, ("encoder", "train", "validation"))
        if missing := {"encoder", "train", "validation"} - state.keys():
            raise DataError(f"{stored}: there is no {', '.join(sorted(missing))} in it: delete the file, it is made again")
        found = state.get("how")
        if (found and {**_UNSAID, **found}) != how:
            raise DataError(
                f"{stored}: its enrollments are not made as {made.name!r} makes them: choose another folder, or delete the file"
            )
        encoder = None if state["encoder"] is None else encoder_of(made, state["encoder"])
        trained, held_out = (
            Enrollments({t: [v.numpy() for v in vs] for t, vs in state[k].items()}, made.student.embedding)
            for k in ("train", "validation")
        )
        if trained.size == voice_size(made.student):
            _reuser(watch, "encoder and voices" if encoder else "voices")(stored)
            return encoder, trained, held_out
    if embeddings is not None:
        encoder, trained, held_out = None, embeddings.of(run.corpus, run.speech), embeddings.of(run.corpus, run.validation)
    elif made.encoder is None:
        raise DataError(f"{stored.parent}: its embeddings of {made.student.embedding} values are not there: give --embeddings DIR")
    else:
        encoder, trained, held_out = _encode(run, made.encoder, watch, encoder, refine)
    tensors = [{t: [torch.from_numpy(v) for v in vs] for t, vs in e.by_talker.items()} for e in (trained, held_out)]
    state = {"how": how, "encoder": encoder.state_dict() if encoder else None, "train": tensors[0], "validation": tensors[1]}
    save_state(stored, state)
    return encoder, trained, held_out


def _encode(
    run: TrainingRun, how: EncoderRecipe, watch: Watch, encoder: Encoder | None, refine: bool
) -> tuple[Encoder, Enrollments, Enrollments]:
    """Voices of all talkers by the encoder, which is trained now unless given."""
    made, frame = run.recipe, run.recipe.student.frame
    noises = noise_levels([mono_at(path, frame.sample_rate_hz) for path in run.corpus.noises_train], frame)
    known = [t for t in run.speech.spans if t.rpartition("@")[0] not in run.corpus.unlabelled]
    levels = clip_levels(run.speech, frame, known, _teller(watch, "levels"))
    if encoder is None or refine:
        encoder = train_encoder(
            levels,
            how,
            made.seed,
            torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            lambda step, loss: watch(TrainingProgress(phase="encoder", step=step + 1, steps=how.steps, figures={"loss": loss})),
            noises,
            encoder,
        )
    local = voice_size(made.student) > made.student.embedding
    trained = embed_all(encoder, levels, frame, how, made.seed, noises=noises, local=local, told=_teller(watch, "enroll"))
    held_out = embed_all(encoder, clip_levels(run.validation, frame), frame, how, made.seed, noises=noises, local=local)
    return encoder.cpu(), trained, held_out


def _speeds(stored: Path) -> tuple[float, ...]:
    """Speeds of the talkers that a file of voices holds."""
    if not stored.exists():
        return SPEEDS
    there = {name.rpartition("@")[2] for name in load_state(stored, "file of voices").get("train", {})}
    return tuple(speed for speed in SPEEDS if f"{speed:g}" in there)


def tensors_of(batch: Batch, enrollments: Enrollments, seed: int, step: int, blur: float = 0.0) -> tuple[Tensor, ...]:
    voices, times = [], []
    for place, talker, utterance in zip(batch.place, batch.talker, batch.utterance, strict=True):
        rng = np.random.default_rng([seed, step, place, 13])
        voices.append(enrollments.draw(rng, talker, int(utterance), blur))
        times.append(rng.random())
    return (
        batch.mixture,
        batch.target,
        torch.from_numpy(np.stack(voices)),
        torch.tensor(times, dtype=torch.float32),
    )
