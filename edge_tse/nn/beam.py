"""The beam of :mod:`edge_tse.beam` in torch: whole signals at once, differentiable in the masks that point it.

``B`` items, 2 ears, ``T`` frames, ``K`` bins. A recursion that forgets is a running sum of what was scaled up before and is scaled
down after, so the frames of a stretch are made together. Stretches are short: what a stretch needs then stays in a processor's
second cache.

On a CPU that is done in C, a few times as fast, by one pass through all of it (``_beam.c``). That is optional, as the front end's
is: without it, on a GPU, and where something else goes through the filters, torch does it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edge_tse.beam import COVARIANCE_LIFT, LOADING, LOADING_FLOOR, NOISE_KEEPS, TARGET_KEEPS, TRACE_FLOOR

try:
    from edge_tse.nn import _beam
except ImportError:  # no compiler where this was installed
    COMPILED = False
else:
    COMPILED = True

__all__ = ["COMPILED", "HopBeam", "beamform"]

_TARGET_KEEPS, _NOISE_KEEPS = float(TARGET_KEEPS), float(NOISE_KEEPS)
_LOADING, _LOADING_FLOOR = float(LOADING), float(LOADING_FLOOR / COVARIANCE_LIFT)
_TRACE_FLOOR = float(TRACE_FLOOR)
_STRETCH = 64
"""Frames made together."""
_ROWS = 8
"""Values of two covariances."""


class _Covariance(NamedTuple):
    """A Hermitian 2 x 2 matrix per frame and bin, ``[B, T, K]`` each."""

    left: Tensor
    right: Tensor
    real: Tensor
    """Real part of left times the conjugate of right."""
    imaginary: Tensor


class _Ears(NamedTuple):
    """Spectra of two ears, ``[B, T, K]`` each."""

    left_real: Tensor
    left_imaginary: Tensor
    right_real: Tensor
    right_imaginary: Tensor

    @staticmethod
    def stretches(spectra: Tensor) -> list[_Ears]:
        """Split ``complex [B, 2, T, K]``."""
        parts = (x[:, ear].contiguous().split(_STRETCH, dim=1) for ear in (0, 1) for x in (spectra.real, spectra.imag))
        return [_Ears(*stretch) for stretch in zip(*parts, strict=True)]

    @property
    def products(self) -> _Covariance:
        """Products of both ears in each frame."""
        a, b, c, d = self
        return _Covariance(a * a + b * b, c * c + d * d, a * c + b * d, b * c - a * d)


class _Memory:
    """A covariance that forgets; :meth:`before` each frame of a stretch, then of the next."""

    def __init__(self, keeps: float, like: Tensor) -> None:
        frames = torch.arange(1, _STRETCH + 1, device=like.device, dtype=torch.float32)[:, None]
        self._up, self._down = (1 - keeps) * keeps**-frames, keeps**frames
        nothing = torch.zeros_like(like[:, :1])
        self.now = _Covariance(nothing, nothing, nothing, nothing)

    def before(self, products: _Covariance, weight_BTK: Tensor) -> _Covariance:
        """Recursion ``c <- keeps * c + (1 - keeps) * weight * products``, as it stands *before* each frame."""
        frames = weight_BTK.shape[1]
        weight_BTK, down = weight_BTK * self._up[:frames], self._down[:frames]
        after = [((weight_BTK * new).cumsum(dim=1) + now) * down for new, now in zip(products, self.now, strict=True)]
        before = (torch.cat([now, x[:, :-1]], dim=1) for now, x in zip(self.now, after, strict=True))
        self.now = _Covariance(*(x[:, -1:] for x in after))
        return _Covariance(*before)


def beamform(spectra: Tensor, part_BTK: Tensor, unit: float, heard: Tensor | None = None) -> Tensor:
    """Beam towards the talker, whose part of each bin is in [0, 1]: ``complex [B, 2, T, K]``, each ear as heard there.

    ``W = N^-1 S / tr(N^-1 S)``, ``y = W^H x``, from the covariances of the hop before, in which a full-scale sine is 1. ``heard``
    is what goes through the filters instead of the sound that points them: a part of it, to see what becomes of that.
    """
    single_on_cpu = spectra.dtype == torch.complex64 and spectra.device.type == "cpu"
    if COMPILED and single_on_cpu and heard is None and not spectra.requires_grad:
        made: Tensor = _Compiled.apply(spectra, part_BTK, unit)
        return made
    target, noise = (_Memory(keeps, part_BTK) for keeps in (_TARGET_KEEPS, _NOISE_KEEPS))
    pointing = _Ears.stretches(spectra)
    through = pointing if heard is None else _Ears.stretches(heard)
    out = []
    for points, goes, part in zip(pointing, through, part_BTK.split(_STRETCH, dim=1), strict=True):
        products = points.products
        s = target.before(products, part.square() * unit)
        n = noise.before(products, (1 - part).square() * unit)
        out.append(_filter(s, n, goes))
    return torch.cat(out, dim=2)


class _Compiled(torch.autograd.Function):
    """What :func:`beamform` says, in C, with the gradient of the parts."""

    @staticmethod
    def forward(ctx: Any, spectra: Tensor, part_BTK: Tensor, unit: float) -> Tensor:
        ears, part = torch.view_as_real(spectra.resolve_conj()).contiguous(), part_BTK.detach().float().contiguous()
        items, frames, bins = part.shape
        ctx.constants = (unit, _TARGET_KEEPS, _NOISE_KEEPS, _LOADING, _LOADING_FLOOR, _TRACE_FLOOR)
        keeps = ctx.needs_input_grad[1]
        past = torch.empty(items, frames + 1 if keeps else 1, _ROWS, bins)
        past[:, 0] = 0
        out = torch.empty_like(ears)
        for each in zip(ears.numpy(), part.numpy(), past.numpy(), out.numpy(), strict=True):
            _beam.beam(frames, bins, ctx.constants, *each)
        ctx.save_for_backward(ears, part, past if keeps else None)
        return torch.view_as_complex(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[None, Tensor, None]:
        ears, part, past = ctx.saved_tensors
        items, frames, bins = part.shape
        slopes = torch.view_as_real(by_out.resolve_conj()).contiguous()
        by_part, by_past = torch.empty_like(part), torch.zeros(items, _ROWS, bins)
        arrays = (x.numpy() for x in (ears, part, past, slopes, by_past, by_part))
        for each in zip(*arrays, strict=True):
            _beam.slope(frames, bins, ctx.constants, *each)
        return None, by_part, None


class HopBeam:
    """The beam a hop at a time, as a device makes it: what was heard may then point the filters of the next hop.

    ``unit`` is that of a full-scale sine, ``keeps`` the weights of the past in the covariances of talker and noise.
    """

    def __init__(self, items: int, bins: int, unit: float, keeps: tuple[float, float] = (_TARGET_KEEPS, _NOISE_KEEPS)) -> None:
        like = torch.zeros(items, 1, bins)
        self._target, self._noise = (_Memory(weight, like) for weight in keeps)
        self._unit = unit

    def filter(self, spectra: Tensor) -> Tensor:
        """Both ears of a hop through the filters of the hop before, ``complex [B, 2, 1, K]``."""
        (ears,) = _Ears.stretches(spectra)
        return _filter(self._target.now, self._noise.now, ears)

    def learn(self, spectra: Tensor, part_B1K: Tensor) -> None:
        """Take a hop into the covariances, in each bin of which ``part`` in [0, 1] is the talker's."""
        (ears,) = _Ears.stretches(spectra)
        self._target.before(ears.products, part_B1K.square() * self._unit)
        self._noise.before(ears.products, (1 - part_B1K).square() * self._unit)


def _filter(s: _Covariance, n: _Covariance, ears: _Ears) -> Tensor:
    """Apply the filters of two covariances, ``complex [B, 2, T, K]``."""
    # A filter does not depend on how large they are: with a trace of 1 no gradient of their products leaves float32.
    (s, _), (n, floor) = _unit_trace(s), _unit_trace(n)
    load = _LOADING * (n.left + n.right) + floor
    n1, n2 = n.left + load, n.right + load
    along = n.real * s.real + n.imaginary * s.imaginary
    across = n.imaginary * s.real - n.real * s.imaginary
    # B = adj(N) S; its trace is real.
    b11, b22 = n2 * s.left - along, n1 * s.right - along
    b12, b12i = n2 * s.real - s.right * n.real, n2 * s.imaginary - s.right * n.imaginary
    b21, b21i = n1 * s.real - s.left * n.real, s.left * n.imaginary - n1 * s.imaginary
    determinant = n1 * n2 - n.real.square() - n.imaginary.square()
    share = torch.reciprocal(b11 + b22 + _TRACE_FLOOR * determinant)
    a, b, c, d = (x * share for x in ears)
    left = torch.complex(b11 * a - across * b + b21 * c + b21i * d, b11 * b + across * a + b21 * d - b21i * c)
    right = torch.complex(b12 * a + b12i * b + b22 * c + across * d, b12 * b - b12i * a + b22 * d - across * c)
    return torch.stack([left, right], dim=1)


def _unit_trace(c: _Covariance) -> tuple[_Covariance, Tensor]:
    """The covariance with a trace of 1, or as near to that as the floor lets silence come; the floor in the same unit."""
    unit = (c.left + c.right + _LOADING_FLOOR).detach().reciprocal()
    return _Covariance(*(x * unit for x in c)), _LOADING_FLOOR * unit
