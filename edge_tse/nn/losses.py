"""Training losses of the student, and of baselines. ``B`` items, ``E`` ears, ``N`` samples, ``T`` frames, ``G`` bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from edge_tse.nn.baselines import Baseline
from edge_tse.nn.front import TorchFront
from edge_tse.nn.student import Student

__all__ = ["Losses", "SoundLosses", "Taught", "Teaching", "Weights", "extraction_losses", "sound_losses"]

_CEILING = 1e-3  # -30 dB: an item better than this no longer pulls
_ABSENT_CEILING = 10**-2.5  # an absent target is suppressed by 25 dB at most: silence costs onsets elsewhere
_MAX_GAIN = 2.0  # sigmoid + tanh reach no further
_COMPRESSION = 0.3


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Relative weights of the terms; the output's error in dB has weight 1."""

    mask: float
    flow: float
    magnitude: float
    suppression: float = 0.0
    """Extra weight of the magnitude term where the output falls short of the target: taking too much is heard as gaps."""


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """Weights of a teacher's targets, each a squared difference of band gains."""

    output: float = 0.0
    mask: float = 0.0
    velocity: float = 0.0


class Taught(NamedTuple):
    """Targets of a teacher for a batch, ``[B, T, G]`` each; the gain is ``relu(mask + velocity)``."""

    mask: Tensor
    velocity: Tensor


class Losses(NamedTuple):
    """Losses as scalars, and their weighted sum."""

    total: Tensor
    output_db: Tensor
    mask_db: Tensor
    flow: Tensor
    magnitude: Tensor
    teacher: Tensor


def extraction_losses(
    student: Student,
    front: TorchFront,
    mixture_BEN: Tensor,
    target_BEN: Tensor,
    voice_BE: Tensor,
    t_B: Tensor,
    weights: Weights,
    taught: Taught | None = None,
    teaching: Teaching = Teaching(),
) -> Losses:
    """All losses of one batch.

    * output: error of the waveform after one Euler step, relative to the target, in dB (for an absent target: energy of the
      output relative to the mixture);
    * mask: the same for stage 1 alone, in the band domain;
    * flow: rectified-flow regression (Liu et al., "Flow straight and fast", ICLR 2023) of the velocity ``m* - m`` at t = 0 and at
      ``t_B``, weighted by compressed band energy, the mask held fixed as the start of the path;
    * magnitude: compressed band magnitudes, for what the dB terms leave unheard; lopsided against over-suppression (the asymmetric
      loss of LGR-TSE);
    * teacher: distance of mask, velocity and gain from a teacher's, weighted like the flow (nothing without one).
    """
    # Energies of mixture and target by band, and the gain that would fit best.
    spectra = front.analyze(mixture_BEN)
    wanted = front.analyze(target_BEN)
    ears = spectra.shape[1]
    power, cross, clean = (ears * x for x in (front.loudness(spectra), front.product(spectra, wanted), front.loudness(wanted)))
    best = (cross / (power + 1e-12)).clamp(0, _MAX_GAIN)

    # The student's decisions for the mixture.
    moves = student.listen(front, spectra, voice_BE)
    mask, velocity, gain = moves.mask, moves.velocity, moves.gain
    start = mask.detach()
    talker = moves.apply(front, spectra)
    estimate = front.synthesize(talker)

    # output and mask: relative errors of the waveform, and of the first stage in the band domain.
    output_db = _sound_error(estimate, target_BEN, mixture_BEN, front.frame.delay)
    banded = (mask.square() * power - 2 * mask * cross + clean).clamp_min(0).sum(dim=(1, 2))
    mask_db = _decibel(banded, clean.sum(dim=(1, 2)), power.sum(dim=(1, 2)))

    # flow: the way from the mask to the best gain, at its start and at a random time of it.
    importance = power.pow(_COMPRESSION)
    importance = importance / importance.mean(dim=(1, 2), keepdim=True).clamp_min(1e-9)  # an item may be silent
    if moves.beam is None:
        flow = (importance * (velocity - (best - start)).square()).mean()
        # Random t costs a second pass of the refiner: the first quarter of every item carries it.
        early = slice(0, max(1, mask.shape[1] // 4))
        t = t_B[:, None, None]
        between = (1 - t) * start[:, early] + t * best[:, early]
        later, _ = student.predict_velocity(moves.hidden[:, early], between, voice_BE, t_B, features_BTF=moves.features[:, early])
        flow = flow + (importance[:, early] * (later - (best - start)[:, early]).square()).mean()
        loud = power.sqrt() + 1e-5
        heard = gain * loud
    else:  # what the velocity adds to a beam is no longer the way from the mask to the best gain
        flow = output_db.new_zeros(())
        loud = power.sqrt() + 1e-5
        heard = (ears * front.loudness(talker) + 1e-12).sqrt()

    # magnitude: compressed, what is missing weighs more than what is left over.
    magnitude = _magnitude_error(heard, clean.sqrt(), loud, weights.suppression)
    total = output_db.mean() + weights.mask * mask_db.mean() + weights.flow * flow + weights.magnitude * magnitude
    # teacher: moves against a teacher's, where there is one.
    teacher = torch.zeros_like(total)
    if taught:
        pairs = (
            (teaching.output, gain, functional.relu(taught.mask + taught.velocity)),
            (teaching.mask, mask, taught.mask),
            (teaching.velocity, velocity, taught.velocity),
        )
        for weight, own, theirs in pairs:
            if weight:
                teacher = teacher + weight * (importance * (own - theirs).square()).mean()
    return Losses(total + teacher, output_db.mean(), mask_db.mean(), flow, magnitude, teacher)


class SoundLosses(NamedTuple):
    """Losses of a baseline as scalars, and their weighted sum."""

    total: Tensor
    output_db: Tensor
    magnitude: Tensor


def sound_losses(baseline: Baseline, mixture_BEN: Tensor, target_BEN: Tensor, voice_BV: Tensor, weights: Weights) -> SoundLosses:
    """The terms of :func:`extraction_losses` that need only sound: the output's error, and compressed magnitudes of bands."""
    front, delay = baseline.front, baseline.delay
    estimate = baseline(mixture_BEN, voice_BV)
    output_db = _sound_error(estimate, target_BEN, mixture_BEN, delay)

    def amplitude(sound_BEN: Tensor) -> Tensor:
        return (sound_BEN.shape[1] * front.loudness(front.analyze(sound_BEN)) + 1e-12).sqrt()

    aligned = functional.pad(estimate[..., delay:], (0, delay))
    magnitude = _magnitude_error(amplitude(aligned), amplitude(target_BEN), amplitude(mixture_BEN) + 1e-5, weights.suppression)
    return SoundLosses(output_db.mean() + weights.magnitude * magnitude, output_db.mean(), magnitude)


def _sound_error(estimate_BEN: Tensor, target_BEN: Tensor, mixture_BEN: Tensor, delay: int) -> Tensor:
    """Error ``[B]`` in dB of an output that is ``delay`` samples late."""
    aligned = target_BEN[..., :-delay]
    error = (estimate_BEN[..., delay:] - aligned).square().sum(dim=(1, 2))
    energy = aligned.square().sum(dim=(1, 2))
    return _decibel(error, energy, mixture_BEN.square().sum(dim=(1, 2)))


def _magnitude_error(heard_BTG: Tensor, clean_BTG: Tensor, loud_BTG: Tensor, suppression: float) -> Tensor:
    """Squared difference of compressed amplitudes of bands, relative to the mixture's, what is missing weighing more."""
    surplus = (heard_BTG + 1e-6).pow(_COMPRESSION) - (clean_BTG + 1e-6).pow(_COMPRESSION)
    error = surplus.square() + suppression * functional.relu(-surplus).square()
    return (error.mean(dim=(1, 2)) / loud_BTG.pow(2 * _COMPRESSION).mean(dim=(1, 2))).mean()


def _decibel(error_B: Tensor, wanted_B: Tensor, mixture_B: Tensor) -> Tensor:
    """Error over target in dB with a floor; error over mixture where there is no target."""
    absent = wanted_B <= 1e-9 * mixture_B
    reference = torch.where(absent, mixture_B, wanted_B) + 1e-9
    floor = torch.where(absent, _ABSENT_CEILING, _CEILING)
    return 10 * (error_B / reference + floor).log10()
