"""Growth of a trained student into a larger one that begins with all it has learned (Net2Net, Chen et al., ICLR 2016)."""

from __future__ import annotations

from dataclasses import replace

import torch

from edge_tse.frame import FrameSpec
from edge_tse.nn.stage import StageConfig
from edge_tse.nn.student import Student, StudentConfig

__all__ = ["can_grow", "grow"]

_SECOND = ("from_", "refine.", "velocity_", "films.refine")


def can_grow(small: StudentConfig, large: StudentConfig) -> bool:
    """Whether a student of ``large`` can compute the function of one of ``small``: no part smaller, no tap or block elsewhere."""
    return (
        (small.embedding, small.code) == (large.embedding, large.code)
        and (small.frame == large.frame or (not small.frame.beam and small.frame == _plain(large.frame)))
        and not small.local  # which blocks listen to which layers depends on how many there are
        and set(_offsets(small)) <= set(_offsets(large))
        and _holds(small.mask, large.mask)
        and (_holds(small.refine, large.refine) or _begins_anew(small, large))
    )


def _plain(frame: FrameSpec) -> FrameSpec:
    return replace(frame, beam=False, level_invariant=False)


def _begins_anew(small: StudentConfig, large: StudentConfig) -> bool:
    """Whether the second stage starts anew: with a beam it decides more than one without."""
    return large.frame.beam and not small.frame.beam


def _holds(small: StageConfig, large: StageConfig) -> bool:
    return (
        small.channels <= large.channels
        and small.hidden <= large.hidden
        and large.dilations[: len(small.dilations)] == small.dilations
    )


def _offsets(config: StudentConfig) -> list[int]:
    """Offsets of a block's taps in units of its dilation: ``-2, -1, 0`` if it is causal with three."""
    future = config.taps // 2 if config.ahead else 0
    return [k - (config.taps - 1) + future for k in range(config.taps)]


@torch.no_grad()
def grow(small: Student, config: StudentConfig) -> Student:
    """A student of ``config`` that computes the function of ``small`` until it is trained.

    New channels, hidden units and blocks start as in any new student, but nothing that was there listens to them: weights from new
    to old are zero. Where the beam is new, so is the second stage, and what was learned is the mask. ``ValueError`` unless
    :func:`can_grow`.
    """
    if not can_grow(small.config, config):
        raise ValueError("a student of this configuration cannot hold the smaller one")
    large = Student(config)
    taps = [_offsets(config).index(offset) for offset in _offsets(small.config)]
    holders = large.state_dict()  # the parameters themselves, by name; what only they have is new
    kept = small.state_dict()
    if _begins_anew(small.config, config):
        kept = {name: old for name, old in kept.items() if not name.startswith(_SECOND)}
    for name, old in kept.items():
        new = holders[name]
        if name.endswith("depthwise.weight"):
            new[:, : old.shape[1]] = 0
            new[taps, : old.shape[1]] = old
        elif name.startswith("films."):  # rows are all scales, then all shifts
            for of_new, of_old in zip(new.chunk(2), old.chunk(2), strict=True):
                of_new[: len(of_old)] = of_old
        else:
            if old.ndim == 2:
                new[: len(old)] = 0  # old rows listen to no new column
            new[tuple(slice(n) for n in old.shape)] = old
    return large
