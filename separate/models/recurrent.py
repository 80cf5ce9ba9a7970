"""GRUs and wide LSTMs for inference on a processor: weights laid out once for all steps.

    gates = W x + b of some steps at once;   then, step by step, a GRU:
    r, z  = σ(gates_r + U_r h + c_r), σ(gates_z + U_z h + c_z)
    n     = tanh(gates_n + r (U_n h + c_n))
    h     = n + z (h − n)

    an LSTM, of which all gates have U h + c added:
    c     = σ(gates_f) c + σ(gates_i) tanh(gates_n)
    h     = σ(gates_o) tanh(c)

A step's products are thin: as many rows as there are sequences. With weights in the order in which the processor wants
them they are two to three times as fast, from four rows on, and what a step leaves is still in the cache at the next.
Processors that gain nothing by an order run torch's own layers, but for what these do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.device import worthwhile
from separate.models.inference import LEAST, ROWS, Product, coarse, inferring, orders, tanh
from separate.models.through_time import remember_through_time

__all__ = ["recur", "remember"]

# Units from which on an LSTM's weights come from memory at every step. Of fewer, torch's own is the faster, which knows
# bfloat16 only on processors that do.
WIDE = 1536
# Units from which on one that learns is faster by one product for the gradient of its weights.
LEARNS = 1024


def recur(gru: nn.GRU, x: Tensor, fed_back: bool = False, backwards: bool = False, y: Tensor | None = None) -> Tensor:
    """Run a GRU that starts at zero, with the first step or the last one: (step, row, inputs) -> (step, row, hidden).

    Products are computed in the precision of x, or of `torch.autocast`, the state in float32 or better. If the input is
    fed back, it is added to the state after every step. The answer may find its place in `y`.
    """
    low = coarse(x)
    if not fed_back and not orders() and low in (torch.float32, torch.float64):
        return recur_as_torch(gru, x, backwards)
    weight_x, weight_h, bias_x, bias_h = gru.all_weights[0]
    of_input = Product(weight_x, bias_x, low, ROWS)
    of_state = Product(weight_h, bias_h, low, x.shape[1])
    fine, hidden = torch.promote_types(x.dtype, torch.float32), gru.hidden_size
    if y is None:
        y = x.new_empty(*x.shape[:2], hidden)
    h = torch.zeros(x.shape[1], hidden, dtype=fine)
    turn = turned(backwards)
    for inputs, outputs, gates in blocks(x, y, of_input, low, turn):
        x_rz, x_n = torch.split(gates, [2 * hidden, hidden], 2)
        for now, now_rz, now_n, out in turn(list(zip(inputs, x_rz, x_n, outputs, strict=True))):
            h_rz, h_n = torch.split(of_state(h.to(low)).to(fine), [2 * hidden, hidden], 1)
            r, z = (now_rz + h_rz).sigmoid_().chunk(2, 1)
            n = tanh(torch.addcmul(now_n, r, h_n))
            h = torch.lerp(n, h, z, out=out) if out.dtype == fine else torch.lerp(n, h, z)  # n + z (h − n)
            if fed_back:
                h += now
            if h is not out:
                out.copy_(h)
    return y


def recur_as_torch(gru: nn.GRU, x: Tensor, backwards: bool) -> Tensor:
    """Run a GRU as torch does, which is the faster where an order of weights is no gain; as above."""
    x = x.flip(0) if backwards else x
    missing = max(0, LEAST - x.shape[1])
    y: Tensor = gru(F.pad(x, (0, 0, 0, missing)))[0][:, : x.shape[1]]
    return y.flip(0) if backwards else y


def remember(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run an LSTM that starts at zero: (step, row, inputs) -> (step, row, directions · hidden)."""
    if lstm.hidden_size >= LEARNS and x.device.type == "cpu" and torch.is_grad_enabled() and not lstm.dropout:
        return remember_through_time(lstm, x)
    own = (lstm.hidden_size >= WIDE and orders()) or worthwhile(coarse(x), x.device) != coarse(x)
    if not own or not inferring(x):
        y: Tensor = lstm(x)[0]
        return y
    directions = 1 + lstm.bidirectional
    for layer in range(lstm.num_layers):
        y = x.new_empty(*x.shape[:2], directions * lstm.hidden_size)
        for i, out in enumerate(y.chunk(directions, 2)):
            one_direction(lstm.all_weights[directions * layer + i], x, out, backwards=i == 1)
        x = y
    return x


def one_direction(weights: Sequence[Tensor], x: Tensor, y: Tensor, backwards: bool) -> None:
    """Run one direction of a layer of an LSTM: (step, row, inputs) to (step, row, hidden)."""
    low = coarse(x)
    weight_x, weight_h, bias_x, bias_h = weights
    of_input = Product(weight_x, bias_x, low, ROWS)
    of_state = Product(weight_h, bias_h, low, x.shape[1])
    fine = torch.promote_types(x.dtype, torch.float32)
    h = c = torch.zeros(y.shape[1:], dtype=fine)
    turn = turned(backwards)
    for _, outputs, gates in blocks(x, y, of_input, low, turn):
        for now, out in turn(list(zip(gates, outputs, strict=True))):
            i, f, n, o = (now + of_state(h.to(low)).to(fine)).chunk(4, 1)
            c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), tanh(n))
            h = o.sigmoid() * tanh(c.clone())
            out.copy_(h)


def turned(backwards: bool) -> Callable[[Any], Any]:
    """Get what goes through a list from the first or from the last."""
    return reversed if backwards else iter


def blocks(
    x: Tensor, y: Tensor, of_input: Product, low: torch.dtype, turn: Callable[[Any], Any]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Go through some steps at a time: what goes in, where what comes out belongs, the input's part of the gates."""
    fine, count = torch.promote_types(x.dtype, torch.float32), max(1, ROWS // x.shape[1])
    for inputs, outputs in turn(list(zip(torch.split(x, count), torch.split(y, count), strict=True))):
        yield inputs, outputs, of_input(inputs.to(low)).to(fine)
