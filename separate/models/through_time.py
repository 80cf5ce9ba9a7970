"""GRUs and LSTMs that learn: backpropagation through time that reads and writes large weights as seldom as can be.

    uₜ = U sₜ₋₁ + c                      gₜ = W xₜ + b, of all steps at once

    a GRU:
    r, z  = σ(gᵣ + uᵣ), σ(g_z + u_z)     n = tanh(gₙ + r uₙ)
    sₜ    = n + z (sₜ₋₁ − n) + aₜ        aₜ: what is fed back, or nothing

    an LSTM, of which all gates are g + u:
    mₜ    = σ(f) mₜ₋₁ + σ(i) tanh(n)     sₜ = σ(o) tanh(mₜ)

Backwards only the gradient δₜ of the state goes from step to step. The rest is of all steps at once, the gradient of U
above all: one product, where torch adds a matrix as large as U at every step. For the 2048 units of the paper's D2-GRU,
and of Demucs, and a few sequences that is most of what a step costs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["GRU", "remember_through_time", "through_time"]

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


def remember_through_time(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run an LSTM of any layers such that it can learn: (step, row, inputs) -> (step, row, directions · hidden).

    It starts at zero, and nothing is dropped between its layers.
    """
    directions = 1 + lstm.bidirectional
    for layer in range(lstm.num_layers):
        sides = []
        for backwards in range(directions):
            weight_x, weight_h, bias_x, bias_h = lstm.all_weights[directions * layer + backwards]
            gates = F.linear(x.flip(0) if backwards else x, weight_x, bias_x)
            y: Tensor = _Memory.apply(gates, weight_h, bias_h)  # type: ignore[no-untyped-call]
            sides.append(y.flip(0) if backwards else y)
        x = torch.cat(sides, 2)
    return x


class _Memory(torch.autograd.Function):
    """All steps of an LSTM in one direction, given the input's part of the gates."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(step, row, 4 · hidden), (4 · hidden, hidden), (4 · hidden) -> (step, row, hidden)."""
        steps, rows, size = gates.shape[0], gates.shape[1], weight.shape[1]
        low, fine = gates.dtype, torch.promote_types(gates.dtype, torch.float32)
        used, c = weight.to(low), bias.to(low)
        turned = used.mT.contiguous()
        ifno = gates.to(fine, copy=True)  # becomes the gates' values
        memory, states = (torch.zeros(steps + 1, rows, size, dtype=fine, device=gates.device) for _ in range(2))
        for t in range(steps):
            ifno[t] += torch.addmm(c, states[t].to(low), turned)
            i, f, n, o = ifno[t].chunk(4, 1)
            for gate in (i, f, o):
                gate.sigmoid_()
            n.tanh_()
            torch.addcmul(f * memory[t], i, n, out=memory[t + 1])
            torch.mul(o, memory[t + 1].tanh(), out=states[t + 1])
        ctx.save_for_backward(ifno, memory, states, used)
        ctx.low, ctx.wanted = low, (weight.dtype, bias.dtype)
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Go back through the steps with the gradients of state and memory."""
        ifno, memory, states, used = ctx.saved_tensors
        i, f, n, o = ifno.chunk(4, 2)
        heard = memory[1:].tanh()
        # What a gate's gradient is, for one in the memory (three of them) or in the state.
        slopes = torch.stack([n * i * (1 - i), memory[:-1] * f * (1 - f), i * (1 - n * n), heard * o * (1 - o)], 2)
        through = o * (1 - heard * heard)  # from the state to the memory
        of_gates = torch.empty_like(ifno)
        d, kept = torch.zeros_like(above[0]), torch.zeros_like(above[0])
        for t in range(len(above) - 1, -1, -1):
            delta = d + above[t]
            kept = torch.addcmul(kept, delta, through[t])
            parts = torch.stack([kept, kept, kept, delta], 1)  # (row, 4, hidden)
            torch.mul(slopes[t].flatten(1), parts.flatten(1), out=of_gates[t])
            d = (of_gates[t].to(ctx.low) @ used).to(d.dtype)
            kept = kept * f[t]
        flat = of_gates.flatten(0, 1)
        of_weight = flat.to(ctx.low).mT @ states[:-1].flatten(0, 1).to(ctx.low)
        weight_type, bias_type = ctx.wanted
        return of_gates.to(ctx.low), of_weight.to(weight_type), flat.sum(0).to(bias_type)
