"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["disagreement", "mask_loss", "sdr_loss"]


def mask_loss(masks: Tensor, targets: Tensor, weight: Tensor, groups: Tensor) -> Tensor:
    """Measure the cross entropy between masks and every source's true share, where it matters.

    r = target / Σ targets,   L = −Σ w · Σ targets · (r log m + (1 − r) log(1 − m)) / Σ w · Σ targets

    It is least where a mask is the expected share, which is what serves a Wiener filter, and it keeps its gradient
    where a mask is sure and wrong. Every mix counts the same. Sources that are known only as the sum of their group
    are judged by the sum of their masks.

    masks, targets (frame, item, source, band); weight (item, band); groups (item, group, source).
    """
    total = targets.sum(2)  # (frame, item, band)
    shares = targets / total.clamp(min=1e-6).unsqueeze(2)
    importance = total * weight
    error = (cross_entropy(masks, shares).sum(2) * importance).sum((0, 2))  # (item)
    partial = (groups.sum(2) > 1).any(1).nonzero()[:, 0]
    if len(partial):
        # Masks that are more than the whole are held against each other: a sum of more than 1 would have no gradient.
        whole = masks[:, partial] / masks[:, partial].sum(2, keepdim=True).clamp(min=1)
        sums = (torch.einsum("igs,fisb->figb", groups[partial], x) for x in (whole, shares[:, partial]))
        together = (cross_entropy(*sums).sum(2) * importance[:, partial]).sum((0, 2))
        error = error.index_copy(0, partial, together)
    level = importance.sum((0, 2))
    return (error / (level + 1e-2 * level.mean() + 1e-6)).mean()


def sdr_loss(masks: Tensor, common: Tensor, power: Tensor, energy: Tensor, groups: Tensor, *more: float) -> Tensor:
    """Measure what is wrong with the stems that ratio masks cut out of the mixture X, beside the true stems S.

    m' = m / Σⱼ mⱼ,   L = mean over items, seconds and sources of log(Σ |S − m' X|² / Σ |S|²)

    Where m' is one number over a band, |S − m' X|² = |S|² − 2 m' Re(S X*) + m'² |X|², so sums over bands are all that
    need be known. A decibel is 0.23. Like the SDR that models are compared by, it looks at a second at a time: quiet
    ones count as much as loud ones. What is 20 dB below the mixture is as good as silent. The first sources may count
    `more` than once, each so many times: what is wrong with the voice is wrong with the karaoke track too.

    masks, common: Re(S X*), energy: |S|² (frame, item, source, band); power: |X|² (frame, item, band); groups (item,
    group, source).
    """
    masks = masks / masks.sum(2, keepdim=True).clamp(min=1e-6)
    if bool((groups.sum(2) > 1).any()):
        masks = torch.einsum("igs,fisb->figb", groups, masks)  # what is common is kept with the last of a group
    wrong = seconds(masks * (masks * power.unsqueeze(2) - 2 * common) + energy)  # (second, item, source)
    own = seconds(energy)
    quiet = 1e-2 * own.sum(2, keepdim=True) + 1e-6
    error = ((wrong.clamp(min=0) + quiet) / (own + quiet)).log().mean((0, 1))  # (source)
    counts = torch.ones_like(error)
    counts[: len(more)] = counts.new_tensor(more)
    return (counts * error).sum() / counts.sum()


def seconds(x: Tensor, frames: int = 40) -> Tensor:
    """Sum over bands and about a second of frames: (frame, item, source, band) -> (second, item, source)."""
    return torch.stack([part.sum(0) for part in x.sum(3).tensor_split(max(1, len(x) // frames))])


def cross_entropy(p: Tensor, share: Tensor) -> Tensor:
    """Compute −r log p − (1 − r) log(1 − p), less its least value, that of p = r."""
    p, r = p.clamp(1e-5, 1 - 1e-5), share.clamp(1e-5, 1 - 1e-5)
    return r * (r.log() - p.log()) + (1 - r) * ((1 - r).log() - (1 - p).log())


def disagreement(masks: Tensor, others: Tensor, energy: Tensor) -> Tensor:
    """Measure how far two opinions on the same frames differ, in amplitude, beside the stems that come of them.

    L = mean over items and sources of √(Σ e · (m − m')² / Σ e · m²), e the mixture's energy: 0.018 is −35 dB.

    masks, others (frame, item, source, band); energy (frame, item, band).
    """
    e = energy.unsqueeze(2)
    noise = ((masks - others) ** 2 * e).sum((0, 3))  # (item, source)
    signal = (masks.detach() ** 2 * e).sum((0, 3))
    return (noise / (signal + 1e-3 * signal.mean() + 1e-9) + 1e-6).sqrt().mean()
