"""Choice of the faster arithmetic by trying: bfloat16 has hardware of its own on some machines and is emulated on others.

A CPU that states bfloat16 instructions need not be faster: one was two to three times as fast in it, another is half as fast.
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

    layers: bool
    """Whether layers take bfloat16 (sums, moments and losses stay float32)."""
    steps: bool
    """Whether the optimizer's Newton-Schulz iteration takes bfloat16."""
    times_ms: dict[str, float]
    """Times of a layer, forwards and backwards, and of an iteration, in each arithmetic; empty where nothing was tried."""

    def __str__(self) -> str:
        return ", ".join(f"{what} in {('float32', 'bfloat16')[b]}" for what, b in (("layers", self.layers), ("steps", self.steps)))


@cache
def fastest(device: str) -> Arithmetic:
    """The faster arithmetic, tried once a process, in 1 s: a layer of the shipped models' size and an iteration for its weights.

    A GPU takes bfloat16 untried. Differences are of factors, so runs on one machine decide alike and resume bit for bit.
    """
    if device != "cpu":
        return Arithmetic(layers=True, steps=True, times_ms={})
    layer, x = nn.Linear(128, 208), torch.randn(4, 750, 128)

    def train(mixed: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = layer(x.detach().requires_grad_())
        out.sum().backward()

    times = {
        "layer_float32": _best_ms(lambda: train(False)),
        "layer_bfloat16": _best_ms(lambda: train(True)),
        "step_float32": _best_ms(lambda: orthogonalize(layer.weight.detach(), torch.float32)),
        "step_bfloat16": _best_ms(lambda: orthogonalize(layer.weight.detach(), torch.bfloat16)),
    }
    return Arithmetic(
        layers=times["layer_bfloat16"] < times["layer_float32"],
        steps=times["step_bfloat16"] < times["step_float32"],
        times_ms=times,
    )


def _best_ms(run: Callable[[], object], seconds: float = 0.2) -> float:
    """Shortest time of as many turns as fit, so that other programs count little."""
    best, until = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < until or math.isinf(best):
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return 1e3 * best


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
                update = orthogonalize(weight.grad.lerp(held, momentum), self._dtype)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update, alpha=-0.2 * lr * math.sqrt(max(weight.shape)))
