"""The beam of :mod:`edge_tse.beam` in torch: whole signals at once, differentiable in the masks that point it.

``B`` items, 2 ears, ``T`` frames, ``K`` bins. A recursion that forgets is a running sum of what was scaled up before and is scaled
down after, so all frames are made together.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from edge_tse.beam import COVARIANCE_LIFT, LOADING, LOADING_FLOOR, NOISE_KEEPS, TARGET_KEEPS, TRACE_FLOOR

__all__ = ["Covariance", "beamed", "covariance"]

_LOADING, _LOADING_FLOOR = float(LOADING), float(LOADING_FLOOR / COVARIANCE_LIFT)
_TRACE_FLOOR = float(TRACE_FLOOR)
_CHUNK = 1000
"""Frames summed at a time: 0.996 ** -1000 is 55, far within float32."""


class Covariance(NamedTuple):
    """A Hermitian 2 x 2 matrix per frame and bin, ``[B, T, K]`` each."""

    left: Tensor
    right: Tensor
    real: Tensor
    """Real part of left times the conjugate of right."""
    imaginary: Tensor
    floor: Tensor | float = _LOADING_FLOOR
    """Least loading."""


def _running(x_BTK: Tensor, keeps: float) -> Tensor:
    """Recursion ``s[t] = keeps * s[t - 1] + (1 - keeps) * x[t]``, as it stands *before* each frame."""
    out = []
    carry = torch.zeros_like(x_BTK[:, :1])
    for chunk in x_BTK.split(_CHUNK, dim=1):
        n = torch.arange(chunk.shape[1], device=chunk.device, dtype=torch.float32)[None, :, None]
        grown = (chunk * ((1 - keeps) * keeps ** -(n + 1))).cumsum(dim=1)
        after = (grown + carry) * keeps ** (n + 1)
        out.append(torch.cat([carry, after[:, :-1]], dim=1))
        carry = after[:, -1:]
    return torch.cat(out, dim=1)


def covariance(spectra: Tensor, weight_BTK: Tensor, unit: float, keeps: float) -> Covariance:
    """Covariance of two ears ``complex [B, 2, T, K]``, each frame weighted, before each frame; a full-scale sine is 1."""
    left, right = spectra[:, 0], spectra[:, 1]
    w = weight_BTK * unit
    parts = (
        left.real.square() + left.imag.square(),
        right.real.square() + right.imag.square(),
        left.real * right.real + left.imag * right.imag,
        left.imag * right.real - left.real * right.imag,
    )
    return Covariance(*(_running(w * part, keeps) for part in parts))


def _unit_trace(c: Covariance) -> Covariance:
    """The covariance with a trace of 1, or as near to that as the floor lets silence come."""
    unit = (c.left + c.right + _LOADING_FLOOR).detach().reciprocal()
    return Covariance(c.left * unit, c.right * unit, c.real * unit, c.imaginary * unit, _LOADING_FLOOR * unit)


def beamed(spectra: Tensor, part_BTK: Tensor, unit: float, heard: Tensor | None = None) -> Tensor:
    """Beam towards the talker, whose part of each bin is in [0, 1]: ``complex [B, 2, T, K]``, each ear as heard there.

    ``W = N^-1 S / tr(N^-1 S)``, ``y = W^H x``, from the covariances of the hop before. ``heard`` is what goes through the filters
    instead of the sound that points them: a part of it, to see what becomes of that.
    """
    s = covariance(spectra, part_BTK.square(), unit, float(TARGET_KEEPS))
    n = covariance(spectra, (1 - part_BTK).square(), unit, float(NOISE_KEEPS))
    # A filter does not depend on how large they are: with a trace of 1 no gradient of their products leaves float32.
    s, n = _unit_trace(s), _unit_trace(n)
    load = _LOADING * (n.left + n.right) + n.floor
    n1, n2 = n.left + load, n.right + load
    along = n.real * s.real + n.imaginary * s.imaginary
    across = n.imaginary * s.real - n.real * s.imaginary
    # B = adj(N) S; its trace is real.
    b11, b22 = n2 * s.left - along, n1 * s.right - along
    b12 = torch.complex(n2 * s.real - s.right * n.real, n2 * s.imaginary - s.right * n.imaginary)
    b21 = torch.complex(n1 * s.real - s.left * n.real, s.left * n.imaginary - n1 * s.imaginary)
    determinant = n1 * n2 - n.real.square() - n.imaginary.square()
    share = torch.reciprocal(b11 + b22 + _TRACE_FLOOR * determinant)
    through = spectra if heard is None else heard
    left, right = through[:, 0] * share, through[:, 1] * share
    return torch.stack(
        [torch.complex(b11, across) * left + b21.conj() * right, b12.conj() * left + torch.complex(b22, -across) * right], dim=1
    )
