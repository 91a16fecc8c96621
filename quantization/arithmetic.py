"""Choice of the faster arithmetic by trying: bfloat16 has hardware of its own on some machines and is emulated on others.

A CPU that states bfloat16 instructions need not be faster: one was two to three times as fast in it, another is half as fast.
Sums come out otherwise in each, so what is begun in one arithmetic goes on in it: its checkpoint says which.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Arithmetic", "Muon", "fastest", "orthogonalize"]


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Arithmetic of matrix products, and the measurement that decided it."""

    device: str
    """Type of the device that it was chosen for: ``cpu``, ``cuda``."""
    layers: bool
    """Whether layers take bfloat16 (sums, moments and losses stay float32)."""
    steps: bool
    """Whether the optimizer's Newton-Schulz iteration takes bfloat16."""
    times_ms: dict[str, float]
    """Times of a layer, forwards and backwards, and of an iteration, in each arithmetic; empty where nothing was tried."""

    def __str__(self) -> str:
        return ", ".join(f"{what} in {('float32', 'bfloat16')[b]}" for what, b in (("layers", self.layers), ("steps", self.steps)))


_WORTH_IT = 0.8


def fastest(device: str, network: nn.Module, begun: Arithmetic | None = None) -> Arithmetic:
    """The faster arithmetic to train a network in, or that in which it was ``begun`` on such a device.

    A GPU takes bfloat16 untried. A CPU tries a layer of the size of the network's largest and an iteration for its weights (on one,
    that takes 0.6 ms in either for 128 x 208, but 4.4 in float32 and 1.1 in bfloat16 for 224 x 368), and turns from float32, or
    from what was begun, to the other where that saves a fifth of the time. Smaller differences are of the moment, by which one
    machine would decide now so, now so; larger ones are another machine's, whose sums are others in any case.
    """
    if device != "cpu":
        return Arithmetic(device=device, layers=True, steps=True, times_ms={})
    shapes = (weight.flatten(1).shape for weight in network.parameters() if weight.ndim > 1)
    times_ms = _tried(*max(shapes, key=math.prod))
    known = begun if begun is not None and begun.device == device else None

    def bfloat16(what: str, own: bool) -> bool:
        now, other = (times_ms[f"{what}_{('float32', 'bfloat16')[b]}"] for b in (own, not own))
        return own if other > _WORTH_IT * now else not own

    layers = bfloat16("layer", known is not None and known.layers)
    return Arithmetic(device=device, layers=layers, steps=bfloat16("step", known is not None and known.steps), times_ms=times_ms)


@cache
def _tried(outputs: int, inputs: int) -> dict[str, float]:
    """Times in ms of a layer and of an iteration in each arithmetic, tried once a process, in 1 s."""
    layer, x = nn.Linear(inputs, outputs), torch.randn(4, 750, inputs)

    def train(mixed: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = layer(x.detach().requires_grad_())
        out.sum().backward()

    return {
        "layer_float32": _best_ms(lambda: train(False)),
        "layer_bfloat16": _best_ms(lambda: train(True)),
        "step_float32": _best_ms(lambda: orthogonalize(layer.weight.detach(), torch.float32)),
        "step_bfloat16": _best_ms(lambda: orthogonalize(layer.weight.detach(), torch.bfloat16)),
    }


def _best_ms(run: Callable[[], object], seconds: float = 0.2) -> float:
    """Shortest time of as many turns as fit, so that other programs count little."""
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until or math.isinf(best):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return 1e3 * best


_FORGOTTEN = 1e-20
"""Momentum that counts as none. What a unit that no longer fires has left of it halves every 14 steps, and after 1,700 of them is
denormal: products of such numbers took 0.57 s of a step of 1.0 (decision 0063)."""
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalize(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrix with singular values about 1, by five quintic Newton-Schulz iterations (Jordan et al., "Muon", 2024)."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Muon):
    """Muon as in PyTorch, but in either arithmetic instead of always in bfloat16; its rate is matched to AdamW's."""

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float, bfloat16: bool) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self._dtype = torch.bfloat16 if bfloat16 else torch.float32

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step down the gradients that are there; ``closure`` is not supported."""
        for group in self.param_groups:
            momentum, lr = group["momentum"], group["lr"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                held = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                torch.hardshrink(held, _FORGOTTEN, out=held)
                update = orthogonalize(weight.grad.lerp(held, momentum), self._dtype)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * lr * math.sqrt(max(weight.shape)))
