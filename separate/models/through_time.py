"""GRUs that learn: backpropagation through time that reads and writes their large weights as seldom as can be.

    uₜ = U sₜ₋₁ + c                      gₜ = W xₜ + b, of all steps at once
    r, z  = σ(gᵣ + uᵣ), σ(g_z + u_z)     n = tanh(gₙ + r uₙ)
    sₜ    = n + z (sₜ₋₁ − n) + aₜ        aₜ: what is fed back, or nothing

Backwards only the gradient δₜ of the state goes from step to step. The rest is of all steps at once, the gradient of U
above all: one product, where torch adds a matrix as large as U at every step. For the 2048 units of the paper's D2-GRU
and a few sequences that is most of what a step costs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["GRU", "through_time"]

# Units from which on it is the faster on a processor.
WIDE = 512


class GRU(nn.GRU):
    """A layer of torch's in one direction, whose wide weights learn as above on a processor."""

    def forward(self, x: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run all steps: (step, row, inputs), (1, row, hidden) -> (step, row, hidden), the last (1, row, hidden)."""
        if self.hidden_size < WIDE or x.device.type != "cpu" or not torch.is_grad_enabled():
            y, last = super().forward(x, start)  # type: ignore[has-type]
            return y, last
        y = through_time(self, x, None if start is None else start[0])
        return y, y[-1:]


def through_time(gru: nn.GRU, x: Tensor, start: Tensor | None = None, fed_back: bool = False) -> Tensor:
    """Run a GRU such that it can learn: (step, row, inputs), state (row, hidden) -> (step, row, hidden).

    If its input is fed back, it is added to every state. Under `torch.autocast` products are computed in lower
    precision, but not the state.
    """
    weight_x, weight_h, bias_x, bias_h = gru.all_weights[0]
    state = x.new_zeros(x.shape[1], gru.hidden_size) if start is None else start
    y: Tensor = _Recurrence.apply(F.linear(x, weight_x, bias_x), weight_h, bias_h, state, x if fed_back else None)  # type: ignore[no-untyped-call]
    return y


class _Recurrence(torch.autograd.Function):
    """All steps of a GRU, given the input's part of the gates."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor, start: Tensor, added: Tensor | None) -> Tensor:
        """(step, row, 3 · hidden), (3 · hidden, hidden), (3 · hidden), (row, hidden), (step, row, hidden) -> states."""
        steps, rows, size = gates.shape[0], gates.shape[1], weight.shape[1]
        low = gates.dtype
        used, c = weight.to(low), bias.to(low)
        turned = used.mT.contiguous()  # thin products by it take two thirds of the time
        rzn = gates.to(start.dtype, copy=True)  # becomes the gates' values
        heard = start.new_empty(steps, rows, size)  # uₙ
        states = start.new_empty(steps + 1, rows, size)
        states[0] = start
        for t in range(steps):
            u = torch.addmm(c, states[t].to(low), turned).to(start.dtype)
            rz, n = rzn[t, :, : 2 * size], rzn[t, :, 2 * size :]
            r, z = rz.add_(u[:, : 2 * size]).sigmoid_().chunk(2, 1)
            heard[t] = u[:, 2 * size :]
            n.addcmul_(r, heard[t]).tanh_()
            torch.lerp(n, states[t], z, out=states[t + 1])
            if added is not None:
                states[t + 1] += added[t]
        ctx.save_for_backward(rzn, heard, states, used)
        ctx.fed_back, ctx.low, ctx.wanted = added is not None, low, (weight.dtype, bias.dtype)
        return states[1:].clone()  # whoever changes what comes out must not change what was saved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        """Go back through the steps with the gradient of the states, then through all gates at once."""
        rzn, heard, states, used = ctx.saved_tensors
        r, z, n = rzn.chunk(3, 2)
        before = states[:-1]
        of_n = (1 - z) * (1 - n * n)
        slopes = torch.stack(
            [of_n * heard * r * (1 - r), (before - n) * z * (1 - z), of_n * r], 2
        )  # of u's three parts
        delta = torch.empty_like(above)
        d = torch.zeros_like(above[0])
        for t in range(len(above) - 1, -1, -1):
            torch.add(d, above[t], out=delta[t])
            back = (slopes[t] * delta[t].unsqueeze(1)).flatten(1).to(ctx.low) @ used
            d = torch.addcmul(back.to(d.dtype), delta[t], z[t])
        of_u = slopes * delta.unsqueeze(2)  # (step, row, 3, hidden)
        of_gates = torch.cat([of_u[:, :, :2].flatten(2), delta * of_n], 2)
        flat = of_u.flatten(2).flatten(0, 1)
        of_weight = flat.to(ctx.low).mT @ before.flatten(0, 1).to(ctx.low)
        of_bias = flat.sum(0)
        weight_type, bias_type = ctx.wanted
        added = delta if ctx.fed_back else None
        return of_gates.to(ctx.low), of_weight.to(weight_type), of_bias.to(bias_type), d, added
