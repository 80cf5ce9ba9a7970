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
    if power != 1:  # of the loudest source: powers of bare magnitudes would over- or underflow in float32
        loudest = magnitudes.amax(dim=-4, keepdim=True)  # (..., 1, channel, bin, frame)
        magnitudes = (magnitudes / loudest.masked_fill(loudest <= 0, 1)).pow(power)
    total = magnitudes.sum(dim=-4, keepdim=True)  # (..., 1, channel, bin, frame)
    silent = total <= 0
    masks = magnitudes / total.masked_fill_(silent, 1)  # no 0/0, whose gradient is none
    return masks.masked_fill_(silent, 1 / magnitudes.shape[-4])  # (..., source, channel, bin, frame)


def apply_masks(masks: Tensor, mixture: Tensor) -> Tensor:
    """Multiply the mixture (..., channel, bin, frame) by the masks (..., source, channel, bin, frame)."""
    # In real numbers: torch would first turn the masks into complex ones.
    parts = torch.view_as_real(mixture.contiguous()).unsqueeze(-5)  # (..., 1, channel, bin, frame, 2)
    return torch.view_as_complex(masks.unsqueeze(-1) * parts)  # (..., source, channel, bin, frame)
