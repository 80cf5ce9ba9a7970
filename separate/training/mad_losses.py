"""What training the Masker and Denoiser minimises: the objective of Mimilakis et al. (ICASSP 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["divergence", "mad_losses", "mad_target"]


def mad_target(mixture: Tensor, voice: Tensor) -> Tensor:
    """Say which magnitudes the net is to find, from those of the mixture, M, and of the voice alone, V.

    2 · M · V / (V + M), at most 1: twice what the share V / (V + M) lets through, so that a voice that is not quite in
    time or in level with the mixture does no harm. Any shape; silence is silence.
    """
    return (2 * mixture * voice / (voice + mixture).clamp_min(1e-12)).clamp(0, 1)


def divergence(target: Tensor, estimate: Tensor) -> Tensor:
    """Measure the generalised Kullback-Leibler divergence, summed over bins, averaged over everything else.

    D(Y ‖ Ŷ) = Σ Y log(Y / Ŷ) − Y + Ŷ

    Both are raised by what nobody hears, so that silence has a logarithm and a gradient. target, estimate (..., bin).
    """
    y, e = target + 1e-5, estimate + 1e-5
    return (y * (y / e).log() - y + e).sum(-1).mean()


def mad_losses(
    masked: Tensor,
    denoised: Tensor,
    target: Tensor,
    mask_weight: Tensor,
    denoiser_weight: Tensor,
    *,
    tau_rec: float = 1.5,
    tau_min: float = 0.25,
    lambda_mask: float = 1e-2,
    lambda_dec: float = 1e-4,
) -> Tensor:
    """Judge the magnitudes of the masker and of the denoiser: Eq. 9 and 10 of the paper.

    L = D(Y ‖ Ŷ) + λ_rec D(Y ‖ Ŷ_filt) + λ_mask ‖diag W_mask‖₁ + λ_dec ‖W_dec‖²
    λ_rec = 1 while D(Y ‖ Ŷ_filt) ≥ τ_rec and D(Y ‖ Ŷ) ≥ τ_min, else 0

    The masker is judged on its own until the two get along. The diagonal's penalty keeps a bin of the mask from only
    following one unit of the decoder, as a detector of voice activity would.

    Args:
        masked: Ŷ_filt, the magnitudes that `MaD.magnitudes` says first (..., bin).
        denoised: Ŷ, those it says second (..., bin).
        target: Y, from `mad_target` (..., bin).
        mask_weight: W_mask, `MaD.mask.weight`.
        denoiser_weight: W_dec, `MaD.denoiser_dec.weight`.
        tau_rec: τ_rec.
        tau_min: τ_min.
        lambda_mask: λ_mask.
        lambda_dec: λ_dec.
    """
    rec, loss = divergence(target, masked), divergence(target, denoised)
    apart = (rec >= tau_rec) & (loss >= tau_min)
    penalty = lambda_mask * mask_weight.diagonal().abs().sum() + lambda_dec * denoiser_weight.square().sum()
    return loss + torch.where(apart, rec, 0) + penalty
