"""GRUs for inference on a processor: weights laid out once for all steps, independent runs side by side.

    gates = W x + b of some steps at once;   then, step by step:
    r, z  = σ(gates_r + U_r h + c_r), σ(gates_z + U_z h + c_z)
    n     = tanh(gates_n + r (U_n h + c_n))
    h     = n + z (h − n)

A step's products are thin: as many rows as there are sequences. With weights in the order in which the processor wants
them they are two to three times as fast, from four rows on, and what a step leaves is still in the cache at the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ROWS", "Product", "coarse", "recur"]

ROWS = 256  # of the product that finds the gates of some steps at once


class Product:
    """x -> x Wᵀ + b in some precision, for many x of about so many rows."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, rows: int) -> None:
        self.weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.ordered = ordered(self.weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if self.ordered is None:
            return F.linear(x, self.weight, self.bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.ordered, self.bias, "none", [], "")
        return y


def ordered(weight: Tensor, rows: int) -> Tensor | None:
    """Lay out weights as oneDNN's products of so many rows want them; None where torch has no such products.

    They are those that `torch.compile` writes into its programs. From four rows on the order for many is the fastest.
    """
    ops, low = torch.ops.mkldnn, weight.dtype == torch.bfloat16
    known: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not known or not (low or weight.dtype == torch.float32):
        return None
    try:
        if low and not ops._is_mkldnn_bf16_supported():
            return None
        found: Tensor = ops._reorder_linear_weight(weight.contiguous(), max(rows, 64) if rows > 3 else rows)
    except (AttributeError, RuntimeError):  # another version of torch
        return None
    return found


def coarse(x: Tensor) -> torch.dtype:
    """Say in which precision to compute products of `x`: its own, or that of `torch.autocast`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") and x.dtype == torch.float32 else x.dtype


def recur(gru: nn.GRU, x: Tensor, fed_back: bool = False, backwards: bool = False) -> Tensor:
    """Run a GRU that starts at zero, with the first step or the last one: (step, row, inputs) -> (step, row, hidden).

    Products are computed in the precision of x, or of `torch.autocast`, the state in float32 or better. If the input is
    fed back, it is added to the state after every step.
    """
    low = coarse(x)
    weight_x, weight_h, bias_x, bias_h = gru.all_weights[0]
    of_input = Product(weight_x, bias_x, low, ROWS)
    of_state = Product(weight_h, bias_h, low, x.shape[1])
    fine, hidden = torch.promote_types(x.dtype, torch.float32), gru.hidden_size
    y = x.new_empty(*x.shape[:2], hidden)
    h = torch.zeros(x.shape[1], hidden, dtype=fine)
    count = max(1, ROWS // x.shape[1])
    turn: Callable[[Any], Any] = reversed if backwards else iter
    for inputs, outputs in turn(list(zip(torch.split(x, count), torch.split(y, count), strict=True))):
        gates = of_input(inputs.to(low)).to(fine)  # (step, row, 3 · hidden)
        x_rz, x_n = torch.split(gates, [2 * hidden, hidden], 2)
        for now, now_rz, now_n, out in turn(list(zip(inputs, x_rz, x_n, outputs, strict=True))):
            h_rz, h_n = torch.split(of_state(h.to(low)).to(fine), [2 * hidden, hidden], 1)
            r, z = (now_rz + h_rz).sigmoid_().chunk(2, 1)
            n = torch.addcmul(now_n, r, h_n).tanh_()
            h = torch.lerp(n, h, z, out=out) if out.dtype == fine else torch.lerp(n, h, z)  # n + z (h − n)
            if fed_back:
                h += now
            if h is not out:
                out.copy_(h)
    return y
