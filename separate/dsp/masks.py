"""Ratio masks: each source takes its share of every bin of the mixture."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["apply_masks", "ratio_mask"]


def ratio_mask(magnitudes: Tensor, power: float = 1.0) -> Tensor:
    r"""Turn the magnitudes of all sources into masks between zero and one that sum to one.

    .. math:: M_j = |Y_j|^p \, / \, \sum_i |Y_i|^p

    Where all sources are zero nothing says whose the mixture is, and each of the S sources gets 1/S.

    Args:
        magnitudes: non-negative estimates, (..., source, channel, bin, frame).
        power: the exponent p; 1 gives the usual ratio mask, 2 the single-channel Wiener filter.

    >>> magnitudes = torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1)
    >>> ratio_mask(magnitudes).flatten().tolist()
    [0.75, 0.25]
    """
    # Shares of the loudest source rather than bare magnitudes: powers of those would over- or underflow in float32.
    loudest = magnitudes.amax(dim=-4, keepdim=True)  # (..., 1, channel, bin, frame)
    silent = loudest <= 0
    shares = torch.where(silent, 1.0, magnitudes / loudest.masked_fill(silent, 1.0))  # no 0/0, whose gradient is none
    if power != 1:
        shares = shares.pow(power)
    return shares / shares.sum(dim=-4, keepdim=True)  # (..., source, channel, bin, frame)


def apply_masks(masks: Tensor, mixture: Tensor) -> Tensor:
    """Multiply the mixture (..., channel, bin, frame) by the masks (..., source, channel, bin, frame)."""
    return masks * mixture.unsqueeze(-4)  # (..., source, channel, bin, frame)
