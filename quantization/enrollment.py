"""Training the enrollment encoder, and its embeddings of the training talkers, cached for extraction training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edge_tse.frame import FrameSpec
from edge_tse.nn.encoder import AdditiveMargin, Encoder
from edge_tse.nn.front import Front
from edge_tse.voice import active_levels
from quantization.corpus import Speech
from quantization.recipes import EncoderRecipe

__all__ = ["Enrollments", "clip_levels", "embed_all", "equal_error_rate", "train_encoder"]

Float = NDArray[np.float32]
Levels = dict[str, list[Float]]
"""Talker -> active pooled levels ``[frames, bands]`` of each utterance."""


@torch.no_grad()
def clip_levels(speech: Speech, frame: FrameSpec, talkers: list[str] | None = None) -> Levels:
    """Active levels of every utterance, through the torch front end."""
    front = Front(frame)
    out: Levels = {}
    for talker in talkers or list(speech.spans):
        clips = []
        for span in speech.spans[talker]:
            length = (span[1] - span[0]) // frame.hop * frame.hop
            signal = torch.from_numpy(speech.cut(span, 0, length))[None, None]
            levels = front.level(front.energy(front.analyze(signal)))[0, 0].numpy()
            clips.append(active_levels(levels))
        out[talker] = clips
    return out


def _crop(rng: np.random.Generator, clips: list[Float], frames: int) -> Float:
    x = clips[rng.integers(len(clips))]
    if len(x) < frames:
        x = np.concatenate(clips)
    start = int(rng.integers(max(1, len(x) - frames + 1)))
    return np.resize(x[start : start + frames], (frames, x.shape[1]))  # repeats what is too short


def _degrade(rng: np.random.Generator, x: Float, recipe: EncoderRecipe) -> Float:
    """Another microphone (tilt and bow over frequency) and a noise floor; mean level removed again."""
    ramp = np.linspace(-0.5, 0.5, x.shape[1], dtype=np.float32)
    x = x + ramp * rng.uniform(-recipe.tilt, recipe.tilt) + (4 * ramp**2) * rng.uniform(-recipe.tilt, recipe.tilt)
    if rng.random() < recipe.noisy:
        floor = -rng.uniform(5, 30) / 40 + ramp * rng.uniform(-0.3, 0.3)
        x = np.log10(10 ** (4 * x) + 10 ** (4 * floor) * rng.exponential(size=x.shape)) / 4
    return (x - x.mean()).astype(np.float32)


def train_encoder(
    levels: Levels,
    recipe: EncoderRecipe,
    seed: int,
    device: torch.device,
    progress: Callable[[int, float], None] | None = None,
) -> Encoder:
    """Classify (talker, speed) with an additive margin. ``progress(step, loss)`` is called every step."""
    torch.manual_seed(seed)
    talkers = [t for t in levels if sum(map(len, levels[t])) >= recipe.frames[0]]
    encoder = Encoder(bands=levels[talkers[0]][0].shape[1]).to(device)
    margin = AdditiveMargin(encoder.out.out_features, len(talkers)).to(device)
    parameters = [*encoder.parameters(), *margin.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.15)
    encoder.train()
    for step in range(recipe.steps):
        rng = np.random.default_rng([seed, 7, step])
        frames = int(rng.integers(*recipe.frames))
        chosen = rng.integers(len(talkers), size=recipe.batch)
        batch = np.stack([_degrade(rng, _crop(rng, levels[talkers[i]], frames), recipe) for i in chosen])
        loss = margin(encoder(torch.from_numpy(batch).to(device)), torch.from_numpy(chosen).to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 3.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if progress:
            progress(step, float(loss.detach()))
    return encoder.eval()


@dataclass(frozen=True)
class Enrollments:
    """Cached embeddings per talker and utterance, ``[crops, dimension]`` each: extraction training does not run the encoder."""

    by_talker: dict[str, list[Float]]

    def draw(self, rng: np.random.Generator, talker: str, exclude: int, blur: float = 0.0) -> Float:
        """An enrollment of ``talker`` from utterances other than ``exclude``: the mean of one to three crops, a unit vector.

        ``blur`` moves it that far in a random direction: training talkers are few, and those to come lie between them.
        """
        clips = self.by_talker[talker]
        allowed = [i for i in range(len(clips)) if i != exclude and len(clips[i])] or [
            i for i in range(len(clips)) if len(clips[i])
        ]
        crops = [clips[i][rng.integers(len(clips[i]))] for i in rng.choice(allowed, size=int(rng.integers(1, 4)))]
        mean = np.mean(crops, axis=0)
        if blur:
            away = rng.standard_normal(len(mean))
            mean = mean / np.linalg.norm(mean) + blur * away / np.linalg.norm(away)
        return (mean / np.linalg.norm(mean)).astype(np.float32)


@torch.no_grad()
def embed_all(
    encoder: Encoder, levels: Levels, recipe: EncoderRecipe, seed: int, crops: int = 2, longest: int = 400
) -> Enrollments:
    """Embeddings of each utterance (its first ``longest`` frames) and of ``crops`` degraded pieces of it."""
    device = next(encoder.parameters()).device
    rng = np.random.default_rng([seed, 11])
    out: dict[str, list[Float]] = {}
    for talker, clips in levels.items():
        embedded = []
        for clip in clips:
            if len(clip) < 20:
                embedded.append(np.zeros((0, encoder.out.out_features), np.float32))
                continue
            whole = encoder(torch.from_numpy(clip[None, :longest]).to(device))
            length = int(np.clip(len(clip) * 0.6, 20, longest // 2))
            pieces = np.stack([_degrade(rng, _crop(rng, [clip], length), recipe) for _ in range(crops)])
            embedded.append(torch.cat([whole, encoder(torch.from_numpy(pieces).to(device))]).cpu().numpy())
        out[talker] = embedded
    return Enrollments(out)


def equal_error_rate(enrollments: Enrollments) -> float:
    """Share of errors where false acceptances equal false rejections, over all pairs of whole utterances of different files."""
    vectors, names = [], []
    for talker, clips in enrollments.by_talker.items():
        for clip in clips:
            if len(clip):
                vectors.append(clip[0])
                names.append(talker)
    v, n = np.stack(vectors), np.array(names)
    upper = np.triu_indices(len(n), 1)
    score, same = (v @ v.T)[upper], (n[:, None] == n[None])[upper]
    order = np.argsort(score)
    rejected = np.cumsum(same[order]) / same.sum()
    accepted = 1 - np.cumsum(~same[order]) / (~same).sum()
    i = int(np.argmin(np.abs(rejected - accepted)))
    return float((rejected[i] + accepted[i]) / 2)
