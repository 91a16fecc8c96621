"""Training losses of :mod:`edge_tse.nn.mask2flow`.

``B`` items, ``E`` ears, ``N`` samples, ``T`` frames, ``M`` mel bands, ``D`` dimensions of a voice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from edge_tse.nn.mask2flow import Mask2Flow
from edge_tse.nn.mel import MelFront

__all__ = ["FlowLosses", "FlowWeights", "destination", "flow_losses"]


@dataclass(frozen=True, kw_only=True)
class FlowWeights:
    """Weights of the losses, and the end of the flow; the defaults are the paper's, but for ``early``."""

    mask: float = 1.0
    """Weight of the masked spectrogram's squared error."""
    flow: float = 1.0
    """Weight of the velocity's squared error."""
    early: float = 0.3
    """Share of items trained at t = 0 exactly, where the one step is taken: without them some items fail there."""
    loudness: float = 0.0
    """A level counts as the mixture's amplitude to twice this power (0: all count the same)."""
    phase_sensitive: bool = False
    """End at the best real gain on the mixture instead of at the target's level. Without a vocoder the phase is the mixture's:
    where it is wrong, less of it is nearer to the target."""
    deepest_db: float | None = None
    """Deepest deletion: a mean of logarithms lies far below the logarithm of a mean, and silence is expensive."""


class FlowLosses(NamedTuple):
    """Losses as scalars, and their weighted sum."""

    total: Tensor
    mask: Tensor
    flow: Tensor


def destination(front: MelFront, mixture_BEN: Tensor, target_BEN: Tensor, weights: FlowWeights) -> tuple[Tensor, Tensor]:
    """Levels of the mixture and of the flow's end, ``[B, T, M]`` each."""
    spectra, wanted = front.analyze(mixture_BEN), front.analyze(target_BEN)
    energy = front.energy(spectra)
    level = front.level(energy, energy)
    if weights.phase_sensitive:
        best = (front.product(spectra, wanted) / (energy + 1e-12)).clamp_min(0)
        end = front.level(best.square() * energy, energy)
    else:
        end = front.level(front.energy(wanted), energy)
    if weights.deepest_db is not None:
        end = end.maximum(level - weights.deepest_db / 20)
    return level, end


def flow_losses(
    system: Mask2Flow, mixture_BEN: Tensor, target_BEN: Tensor, voice_BD: Tensor, t_B: Tensor, weights: FlowWeights
) -> FlowLosses:
    """Both losses of one batch; the mask is held fixed as the start of the path, so that each stage learns from its own.

    Rectified flow (Liu et al., "Flow straight and fast", ICLR 2023). ``t_B`` is uniform in [0, 1); its first part becomes t = 0.
    """
    level, end = destination(system.front, mixture_BEN, target_BEN, weights)
    importance = 10 ** (2 * weights.loudness * level)
    importance = importance / importance.mean(dim=(1, 2), keepdim=True)

    masked = system.apply_mask(level, voice_BD)
    mask = (importance * (masked - end).square()).mean()

    start = masked.detach()
    t = functional.relu(t_B - weights.early) / (1 - weights.early)
    state = start.lerp(end, t[:, None, None])
    velocity = system.velocity(state, level, voice_BD, t)
    flow = (importance * (velocity - (end - start)).square()).mean()
    return FlowLosses(weights.mask * mask + weights.flow * flow, mask, flow)
