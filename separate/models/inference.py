"""What inference on a processor does otherwise than training: products of laid-out weights, and no new memory.

A page of memory that is touched for the first time costs as much as the arithmetic on it. So what nobody needs
afterwards is overwritten, where no gradients are wanted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LEAST", "ROWS", "Product", "Room", "coarse", "gelu", "inferring", "orders", "plus", "tanh"]

ROWS = 256  # of a product at a time, so that what comes out is still in the cache when it is needed

VECTORS = 32  # numbers that a processor computes at once, at most

LEAST = 4  # rows: of fewer, torch's own products round otherwise than of more


class Product:
    """x -> x Wᵀ + b in some precision, for many x of about so many rows."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, rows: int) -> None:
        weight, self.bias = weight.to(dtype), bias.to(dtype)
        self.ordered = ordered(weight, rows)
        self.weight = weight if self.ordered is None else None

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        if self.weight is not None:
            missing = LEAST - x.shape[:-1].numel()
            if missing <= 0:
                return F.linear(x, self.weight, self.bias)
            rows = F.pad(x.flatten(0, -2), (0, 0, 0, missing))
            return torch.unflatten(F.linear(rows, self.weight, self.bias)[:-missing], 0, x.shape[:-1])
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.ordered, self.bias, "none", [], "")
        return y


class Room:
    """Places for large tensors of about one size, which those that are not needed any more leave to the next.

    The system's allocator forgets where a tensor was: of a few that come and go it would find ever other places.
    """

    def __init__(self, numbers: int, like: Tensor) -> None:
        self.numbers, self.like = numbers, like  # at most, in one place
        self.places: dict[int, Tensor] = {}
        self.free: list[Tensor] = []

    def take(self, *shape: int) -> Tensor:
        """Find a place for a new tensor."""
        place = self.free.pop() if self.free else self.like.new_empty(self.numbers)
        self.places[place.data_ptr()] = place
        return place[: torch.Size(shape).numel()].view(shape)

    def leave(self, x: Tensor, *others: Tensor) -> None:
        """Give the place of `x` to the next, unless it is that of one of the `others` too, or none of ours."""
        start = x.untyped_storage().data_ptr()
        if start in self.places and all(start != other.untyped_storage().data_ptr() for other in others):
            self.free.append(self.places.pop(start))


def ordered(weight: Tensor, rows: int) -> Tensor | None:
    """Lay out weights as oneDNN's products of so many rows want them; None where torch has no such products.

    They are those that `torch.compile` writes into its programs. From four rows on the order for many is the fastest.
    """
    ops, low = torch.ops.mkldnn, weight.dtype == torch.bfloat16
    known: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not known or not orders() or not (low or weight.dtype == torch.float32):
        return None
    try:
        if low and not ops._is_mkldnn_bf16_supported():
            return None
        found: Tensor = ops._reorder_linear_weight(weight.contiguous(), max(rows, 64) if rows > 3 else rows)
    except (AttributeError, RuntimeError):  # another version of torch
        return None
    return found


def orders() -> bool:
    """Tell whether this processor gains by an order of weights.

    Without AVX-512 it multiplies no faster for it, and rounds otherwise from one number of rows to the next.
    """
    return bool(torch.cpu.get_capabilities().get("avx512_f"))


def coarse(x: Tensor) -> torch.dtype:
    """Say in which precision to compute products of `x`: its own, or that of `torch.autocast`."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") and x.dtype == torch.float32 else x.dtype


def inferring(x: Tensor) -> bool:
    """Tell whether `x` is on a processor and no gradients are wanted."""
    return x.is_cpu and not torch.is_grad_enabled()


def gelu(x: Tensor) -> Tensor:
    """Compute GELU(x) of an x that nobody needs afterwards, for inference in its place."""
    y: Tensor = torch.ops.aten.gelu_(x) if inferring(x) else F.gelu(x)
    return y


def tanh(x: Tensor) -> Tensor:
    """Compute tanh x in place of an x that nobody needs afterwards, of whole vectors as 2 σ(2x) − 1, to 2e-7.

    torch's own, which is MKL's, takes four times as long on processors of another maker. But what does not fill vectors
    is rounded otherwise, and of another number of rows something else would not.
    """
    return x.tanh_() if x.shape[-1] % VECTORS else x.mul_(2).sigmoid_().mul_(2).sub_(1)


def plus(x: Tensor, y: Tensor) -> Tensor:
    """Add `y` to `x`, which nobody needs afterwards; the sum is as fine as the finer of both."""
    return x + y if x is y or x.dtype != y.dtype or torch.is_grad_enabled() else x.add_(y)
