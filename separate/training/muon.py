"""Muon (Jordan et al., 2024): momentum, of which a matrix takes all directions alike.

    b  = β b + (1 − β) g
    W -= rate · 0.2 √max(rows, columns) · U Vᵀ,    where U S Vᵀ = (1 − β) g + β b

U Vᵀ is found nearly enough by five steps of X -> a X + (b A + c A²) X with A = X Xᵀ, which bring every singular value
close to one. The factor makes steps as large as Adam's are (Liu et al., 2025).

torch has it too, but multiplies in bfloat16 everywhere: where a processor has to imitate that, a step of it takes ten
times as long as all the rest of training.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from separate.device import worthwhile

__all__ = ["Muon", "orthogonal"]

A, B, C = 3.4445, -4.7750, 2.0315  # of the polynomial: as steep at zero as can be


class Muon(torch.optim.Optimizer):
    """Muon for matrices."""

    def __init__(self, weights: Iterable[Tensor], lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state, keep = self.state[weight], group["momentum"]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                mean = state["momentum_buffer"].lerp_(weight.grad, 1 - keep)
                change = orthogonal(torch.lerp(weight.grad, mean, keep))
                weight.sub_(change, alpha=group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(g: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of a matrix to between about 0.7 and 1.2."""
    x = g.to(worthwhile(torch.bfloat16, g.device))
    tall = len(x) > x.shape[1]
    if tall:
        x = x.T
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = torch.addmm(x, torch.addmm(a, a, a, beta=B, alpha=C), x, beta=A)
    return (x.T if tall else x).to(g.dtype)
