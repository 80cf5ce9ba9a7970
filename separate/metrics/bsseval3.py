"""BSS Eval v3 for monaural sources: one figure a track, which forgives an estimate any filter of 512 taps.

With `p` the projection of an estimate `y` onto its own reference, delayed by up to 511 samples, and `q` that onto the
references of all sources (`distortion.py`):

    SDR = |p|² / |y − p|²                         source to distortion
    SIR = |p|² / |q − p|²                         source to interference
    SAR = |q|² / |y − q|²                         source to artifacts

in decibels. What a projection leaves is orthogonal to it, so the energies follow from the normal equations without a
signal being filtered: |p|² = hᵀD, |y − p|² = |y|² − |p|², and |q − p|² = |q|² − |p|².

Method: Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation" (2006), as in
`bss_eval_sources` of the authors' programs and of `mir_eval`. An estimate that lacks a band is not blamed for it: use
version 4 where you may choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separate.metrics.bsseval import decibels
from separate.metrics.distortion import Signals, correlations, distortion_filters

__all__ = ["Figures", "bss_eval_sources"]

ROUNDING = 1e-13  # of an energy: what is less is nothing.


@dataclass(frozen=True)
class Figures:
    """Figures in decibels, (source,), in float64 on the CPU: no numbers if any reference or estimate is silent."""

    sdr: Tensor
    sir: Tensor
    sar: Tensor


@torch.no_grad()
def bss_eval_sources(references: Tensor, estimates: Tensor, *, filter_length: int = 512) -> Figures:
    """Measure monaural estimates against references over the whole track, as BSS Eval v3 does.

    Args:
        references: the true sources, (source, time).
        estimates: one for each, in their order, (source, time).
        filter_length: taps of the distortion filters.

    >>> references = torch.randn(2, 20000)
    >>> estimates = references + 0.1 * references.flip(0)
    >>> bss_eval_sources(references, estimates, filter_length=32).sir.round()
    tensor([20., 20.], dtype=torch.float64)
    """
    if references.ndim != 2 or references.shape != estimates.shape or 0 in references.shape:
        raise ValueError(
            f"references and estimates are of one shape (source, time): {tuple(references.shape)} and "
            f"{tuple(estimates.shape)} are not"
        )

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        return references[:, None, start:stop], estimates[:, None, start:stop]

    r, d = correlations(Signals(read, references.shape[-1]), filter_length)
    p = torch.stack([_projected(r[j : j + 1, j : j + 1], d[j : j + 1, j : j + 1]).squeeze(0) for j in range(len(r))])
    q = _projected(r, d)
    y = torch.linalg.vector_norm(estimates.to(r.device), dim=-1, dtype=torch.float64).square()
    silent = ((y == 0) | (r[..., 0].diagonal() == 0)).any()
    pairs = [(p, _rest(y, p)), (p, _rest(q, p)), (q, _rest(y, q))]
    return Figures(*(decibels(*pair).masked_fill(silent, torch.nan).cpu() for pair in pairs))


def _projected(r: Tensor, d: Tensor) -> Tensor:
    """Measure the energy of the estimates' projections, by correlations of references and estimates."""
    return (distortion_filters(r, d) * d).sum((0, 2))


def _rest(whole: Tensor, part: Tensor) -> Tensor:
    """Subtract energies; where nothing but rounding is left, leave nothing."""
    rest = whole - part
    return rest.masked_fill(rest < ROUNDING * whole, 0)
