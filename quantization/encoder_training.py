"""Training the enrollment encoder, and its embeddings of the training talkers, cached for extraction training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tse.errors import DataError
from edge_tse.frame import FrameSpec
from edge_tse.nn.encoder import AdditiveMargin, Encoder, GeneralizedEndToEnd
from edge_tse.nn.front import TorchFront
from edge_tse.voice import MIN_SPEECH_S, POOL, active_levels, pooled_levels
from quantization.arithmetic import fastest
from quantization.corpus import Speech
from quantization.narrowband import draw_pass_band
from quantization.recipes import EncoderRecipe

__all__ = ["Enrollments", "clip_levels", "embed_all", "equal_error_rate", "error_rate", "noise_levels", "train_encoder"]

Float = NDArray[np.float32]
Half = NDArray[np.float16]
Levels = dict[str, list[Half]]
"""Talker -> active pooled levels ``[frames, bands]`` of each utterance. As float16 they are right to 0.04 dB and half as large."""
Told = Callable[[int, int], None]
"""Callback told how many of how many talkers are done."""


@torch.no_grad()
def clip_levels(speech: Speech, frame: FrameSpec, talkers: list[str] | None = None, told: Told = lambda done, of: None) -> Levels:
    """Active levels of every utterance, through the torch front end."""
    front = TorchFront(frame)
    out: Levels = {}
    names = talkers or list(speech.spans)
    for done, talker in enumerate(names, 1):
        clips = []
        for start, stop in speech.spans[talker]:
            signal = torch.from_numpy(speech.cut(start, stop - (stop - start) % frame.hop))[None, None]
            levels = front.level(front.energy(front.analyze(signal)))[0, 0].numpy()
            clips.append(active_levels(levels).astype(np.float16))
        out[talker] = clips
        told(done, len(names))
    return out


@torch.no_grad()
def noise_levels(noises: Sequence[Float], frame: FrameSpec) -> list[Float]:
    """Pooled levels ``[frames, bands]`` of noise recordings ``[samples]``, silence included, to corrupt enrollments with."""
    front = TorchFront(frame)
    out = []
    for noise in noises:
        signal = torch.from_numpy(noise[: len(noise) // frame.hop * frame.hop])[None, None]
        levels = pooled_levels(front.level(front.energy(front.analyze(signal)))[0, 0].numpy())
        if len(levels):
            out.append(levels)
    return out


def _crop(rng: np.random.Generator, clips: Sequence[Half | Float], frames: int) -> Float:
    x: NDArray[np.floating[Any]] = clips[rng.integers(len(clips))]
    if len(x) < frames:
        x = np.concatenate(clips)
    start = int(rng.integers(max(1, len(x) - frames + 1)))
    return np.resize(x[start : start + frames], (frames, x.shape[1])).astype(np.float32)  # repeats what is too short


def _degrade(
    rng: np.random.Generator, x: Float, recipe: EncoderRecipe, noises: Sequence[Float] = (), others: Sequence[Half] = ()
) -> Float:
    """Degrade levels: microphone (tilt and bow over frequency), noise (a floor, a recording or babble of ``others``), telephone.

    The mean level is taken off.

    Powers add, so noise is added to levels: it costs no spectra. What is active was found on the clean clip.
    """
    ramp = np.linspace(-0.5, 0.5, x.shape[1], dtype=np.float32)
    x = x + ramp * rng.uniform(-recipe.tilt, recipe.tilt) + (4 * ramp**2) * rng.uniform(-recipe.tilt, recipe.tilt)
    if rng.random() < recipe.noisy:
        kinds = ["floor", *["recording"] * bool(noises), *["babble"] * (len(others) > 2)]
        kind = kinds[rng.integers(len(kinds))]
        if kind == "floor":
            floor = -rng.uniform(5, 30) / 40 + ramp * rng.uniform(-0.3, 0.3)
            noise = 10 ** (4 * floor) * rng.exponential(size=x.shape)
        else:
            if kind == "recording":
                noise = _power(_crop(rng, [noises[rng.integers(len(noises))]], len(x)))
            else:
                voices = (others[i] for i in rng.integers(len(others), size=int(rng.integers(3, 7))))
                noise = sum((_power(_crop(rng, [voice], len(x))) for voice in voices), np.zeros_like(x))
            noise *= _power(x).mean() / (noise.mean() + 1e-12) * 10 ** (-rng.uniform(*recipe.snr_db) / 10)
        x = np.log10(_power(x) + noise) / 4
    if rng.random() < recipe.narrow:
        x = _narrow(rng, x)
    return (x - x.mean()).astype(np.float32)


_BAND_CENTRES_HZ = FrameSpec().band_centres_hz


def _narrow(rng: np.random.Generator, x: Float) -> Float:
    """Levels after a telephone, a codec or a low sampling rate: nothing above an edge, often nothing below another.

    Powers outside the pass band fall by a slope from soft (24 dB an octave) to hard, down to a floor 20 to 80 dB below the mean.
    Where nothing at all is left, levels stand at -90 dBFS, the lowest there are: in usual recordings that is 30 dB below the mean.
    """
    low_hz, high_hz, walls = draw_pass_band(rng)
    slope = 20.0 if walls else 0.6  # in units of 40 dB an octave: a wall, or 24 dB
    octaves = np.log2(np.maximum(_BAND_CENTRES_HZ, 1.0))
    loss = slope * np.maximum(octaves - np.log2(high_hz), 0)
    if low_hz:
        loss = loss + slope * np.maximum(np.log2(low_hz) - octaves, 0)
    floor = x.mean() - rng.uniform(0.5, 2.0)
    rough = rng.uniform(0, 0.05)
    return np.maximum(x - loss.astype(np.float32), floor + rough * rng.standard_normal(x.shape)).astype(np.float32)


def _power(levels: Float) -> Float:
    """Energies of levels (40 dB = 1)."""
    return 10 ** (4 * levels)


def _criterion(recipe: EncoderRecipe, encoder: Encoder, talkers: int) -> torch.nn.Module:
    if recipe.loss == "ge2e":
        return GeneralizedEndToEnd()
    return AdditiveMargin(encoder.out.out_features, talkers, angular=recipe.loss == "aam", pull=recipe.pull)


def train_encoder(
    levels: Levels,
    recipe: EncoderRecipe,
    seed: int,
    device: torch.device,
    progress: Callable[[int, float], None] | None = None,
    noises: Sequence[Float] = (),
    start: Encoder | None = None,
) -> Encoder:
    """Tell (talker, speed) apart by the recipe's loss. ``progress(step, loss)`` is called every step.

    ``start`` is an encoder to go on from; the result is turned (an orthogonal map of the embedding, which no comparison of voices
    notices) so that its embeddings lie where those of ``start`` lie: a student that listened to that one can listen to this one.
    """
    torch.manual_seed(seed)
    talkers = [t for t in levels if sum(map(len, levels[t])) >= recipe.frames[0]]
    if len(talkers) < 2:
        period_s = POOL * FrameSpec().period_s
        longest_s = max((sum(map(len, clips)) for clips in levels.values()), default=0) * period_s
        raise DataError(
            f"{len(talkers)} of {len(levels)} talkers have enough speech to train on: the most that one has is {longest_s:.1f} s, "
            f"each of at least 2 needs {recipe.frames[0] * period_s:.1f} s; give recordings in which somebody talks"
        )
    if start is None:
        encoder = Encoder(levels[talkers[0]][0].shape[1], hidden=recipe.hidden, blocks=recipe.blocks)
    else:
        encoder = start.grown(max(recipe.hidden, start.hidden), max(recipe.blocks, len(start.blocks)))
    encoder = encoder.to(device)
    criterion = _criterion(recipe, encoder, len(talkers)).to(device)
    if start is not None and isinstance(criterion, AdditiveMargin):
        criterion.centres.data.copy_(_centres(encoder, levels, talkers))
    parameters = [*encoder.parameters(), *criterion.parameters()]
    others = [max(clips, key=len) for clips in levels.values() if any(map(len, clips))]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.15)

    def draw(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng([seed, 7, step])
        frames = int(rng.integers(*recipe.frames))
        if recipe.loss == "ge2e":
            different = rng.choice(len(talkers), size=min(len(talkers), recipe.batch // recipe.crops), replace=False)
            chosen = np.repeat(different, recipe.crops)
        else:
            chosen = rng.integers(len(talkers), size=recipe.batch)
        batch = np.stack([_degrade(rng, _crop(rng, levels[talkers[i]], frames), recipe, noises, others) for i in chosen])
        return torch.from_numpy(batch).to(device), torch.from_numpy(chosen).to(device)

    encoder.train()
    mixed = fastest(device.type, encoder).layers
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(draw, 0)
        for step in range(recipe.steps):
            batch, chosen = pending.result()
            pending = ahead.submit(draw, step + 1)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                embedding = encoder(batch)
            loss = criterion(embedding.float(), chosen)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 3.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if progress:
                progress(step, float(loss.detach()))
    encoder.eval()
    if start is not None:
        _turn(encoder, _centres(encoder, levels, talkers), _centres(start.to(device), levels, talkers))
    return encoder


@torch.no_grad()
def _centres(encoder: Encoder, levels: Levels, talkers: Sequence[str]) -> torch.Tensor:
    """``[talkers, dimension]``: the embedding of each talker's longest utterance, its first 15 s."""
    training, device = encoder.training, next(encoder.parameters()).device
    encoder.eval()
    longest = (max(levels[talker], key=len)[None, :940].astype(np.float32) for talker in talkers)
    found = torch.cat([encoder(torch.from_numpy(x).to(device)) for x in longest])
    encoder.train(training)
    return found


@torch.no_grad()
def _turn(encoder: Encoder, own_ND: torch.Tensor, wanted_ND: torch.Tensor) -> None:
    """Rotate the embedding nearest to another one of the same talkers (orthogonal Procrustes: Schonemann, Psychometrika 1966)."""
    left, _, right = torch.linalg.svd(wanted_ND.T @ own_ND)
    turn = left @ right
    encoder.out.weight.copy_(turn @ encoder.out.weight)
    encoder.out.bias.copy_(turn @ encoder.out.bias)


@dataclass(frozen=True)
class Enrollments:
    """Cached voices per talker and utterance, ``[crops, size]`` each: extraction training does not run the encoder."""

    by_talker: dict[str, list[Float]]
    dimension: int | None = None
    """Leading values that are a unit vector, the others are averages of the encoder's layers; None: all of them."""

    @cached_property
    def size(self) -> int:
        """Values of a voice."""
        return next(clip.shape[1] for clips in self.by_talker.values() for clip in clips)

    @cached_property
    def every(self) -> Float:
        """All crops of all talkers, ``[n, size]``."""
        return np.concatenate([clip for clips in self.by_talker.values() for clip in clips])

    @cached_property
    def centres(self) -> dict[str, Float]:
        """A unit vector for each talker: the mean of all its embeddings."""
        means = {t: np.concatenate(clips)[:, : self.dimension].sum(axis=0) for t, clips in self.by_talker.items()}
        return {t: (m / (np.linalg.norm(m) + 1e-9)).astype(np.float32) for t, m in means.items()}

    @cached_property
    def _spread(self) -> Float:
        return self.every[:, self.dimension or self.size :].std(axis=0)

    def draw(self, rng: np.random.Generator, talker: str, exclude: int, blur: float = 0.0) -> Float:
        """A voice of ``talker`` from utterances other than ``exclude``: the mean of one to three crops, a unit vector first.

        ``blur`` moves it that far in a random direction: training talkers are few, and those to come lie between them. Averages of
        layers move by as much, in units of their spread.
        """
        clips = self.by_talker[talker]
        allowed = [i for i in range(len(clips)) if i != exclude and len(clips[i])] or [
            i for i in range(len(clips)) if len(clips[i])
        ]
        crops = [clips[i][rng.integers(len(clips[i]))] for i in rng.choice(allowed, size=int(rng.integers(1, 4)))]
        mean, averages = np.split(np.mean(crops, axis=0), [self.dimension or self.size])
        if blur:
            away = rng.standard_normal(len(mean))
            mean = mean / np.linalg.norm(mean) + blur * away / np.linalg.norm(away)
            if len(averages):
                averages = averages + blur * self._spread * rng.standard_normal(len(averages))
        return np.concatenate([mean / np.linalg.norm(mean), averages]).astype(np.float32)


_LONGEST_S = 15.0
"""Longest enrollment crop; the shortest is what a user may enroll with."""
_LEAST_FRAMES = 20
"""Least frames of an utterance that is used at all."""


@torch.no_grad()
def embed_all(
    encoder: Encoder,
    levels: Levels,
    frame: FrameSpec,
    recipe: EncoderRecipe,
    seed: int,
    *,
    noises: Sequence[Float] = (),
    crops: int = 3,
    local: bool = False,
    told: Told = lambda done, of: None,
) -> Enrollments:
    """Voices of each utterance (its first 15 s) and of ``crops`` degraded pieces of it, 2 to 15 s of speech or as much as there is.

    A share of the pieces (``recipe.noisy``) is corrupted by a noise floor, by one of ``noises`` or by babble of the other talkers.
    ``local`` keeps the averages of the encoder's layers too.
    """
    device = next(encoder.parameters()).device
    rng = np.random.default_rng([seed, 11])
    pooled_s = POOL * frame.period_s
    shortest, longest = round(MIN_SPEECH_S / pooled_s), round(_LONGEST_S / pooled_s)
    others = [max(clips, key=len) for clips in levels.values() if any(map(len, clips))]

    def voices(batch: Float) -> Float:
        unit, averages = encoder.describe(torch.from_numpy(batch).to(device))
        return torch.cat([unit, averages.flatten(1)] if local else [unit], dim=1).cpu().numpy()

    out: dict[str, list[Float]] = {}
    for done, (talker, clips) in enumerate(levels.items(), 1):
        embedded = []
        for clip in clips:
            if len(clip) < _LEAST_FRAMES:
                embedded.append(voices(np.zeros((1, _LEAST_FRAMES, clip.shape[-1]), np.float32))[:0])
                continue
            length = int(rng.integers(shortest, longest + 1))
            length = min(length, max(shortest, round(0.6 * len(clip))), len(clip))  # pieces differ where the utterance allows it
            pieces = np.stack([_degrade(rng, _crop(rng, [clip], length), recipe, noises, others) for _ in range(crops)])
            embedded.append(np.concatenate([voices(clip[None, :longest].astype(np.float32)), voices(pieces)]))
        out[talker] = embedded
        told(done, len(levels))
    return Enrollments(out, encoder.out.out_features)


def equal_error_rate(enrollments: Enrollments) -> float:
    """Share of errors where false acceptances equal false rejections, over all pairs of whole utterances of different files."""
    vectors, names = [], []
    for talker, clips in enrollments.by_talker.items():
        for clip in clips:
            if len(clip):
                vectors.append(clip[0, : enrollments.dimension])
                names.append(talker)
    v, n = np.stack(vectors), np.array(names)
    upper = np.triu_indices(len(n), 1)
    return error_rate((v @ v.T)[upper], (n[:, None] == n[None])[upper])


def error_rate(scores: NDArray[np.floating[Any]], same: NDArray[np.bool_]) -> float:
    """Equal-error rate of comparisons: their ``scores``, higher for the like, and whether both sides are the ``same`` talker."""
    order = np.argsort(scores)
    rejected = np.cumsum(same[order]) / same.sum()
    accepted = 1 - np.cumsum(~same[order]) / (~same).sum()
    i = int(np.argmin(np.abs(rejected - accepted)))
    return float((rejected[i] + accepted[i]) / 2)
