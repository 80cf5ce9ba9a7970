"""Factorise a matrix of blocks that depend on the difference of their places only, fast.

Method: the generalised Schur algorithm (Kailath and Sayed, "Displacement structure: theory and applications", 1995). A
block Toeplitz matrix T less itself, shifted down and right by one block, has low rank:

    T − Z T Zᵀ = U Uᵀ − V Vᵀ,    U = T₀ C⁻ᵀ,    V = U without its first block

where T₀ is the first block column and C Cᵀ the first block. Each step turns U and V so that V's first block vanishes;
then U is a block column of the Cholesky factor, and, shifted down, with V what generates the rest. That takes n²
operations a channel where Cholesky's takes n³.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["toeplitz_cholesky", "toeplitz_solve"]

EXACT = 1e-10  # of the right-hand side: what a solution may leave over


def toeplitz_cholesky(r: Tensor) -> Tensor | None:
    """Find L with L Lᵀ = T for correlations r (channel, channel, lag); None if T is not positive definite.

    T[(t, i), (s, j)] = r_ij[t − s] for t ≥ s, and symmetric: channels are next to each other, lags by blocks.

    >>> r = torch.tensor([[[2.0, 1.0]]], dtype=torch.float64)
    >>> factor = toeplitz_cholesky(r)
    >>> (factor @ factor.T).round(decimals=9).tolist()
    [[2.0, 1.0], [1.0, 2.0]]
    """
    m, _, lags = r.shape
    first, failed = torch.linalg.cholesky_ex(r[..., 0])
    if failed:
        return None
    column = r.permute(2, 0, 1).reshape(lags * m, m)  # T's first block column, (lag · channel, channel)
    u = torch.linalg.solve_triangular(first, column.mT, upper=False)  # (channel, lag · channel): Uᵀ
    both = torch.stack([u, u])  # Uᵀ and Vᵀ
    both[1, :, :m] = 0
    factor = r.new_zeros(lags * m, lags * m)  # Lᵀ: a block row a step
    eye = torch.eye(m, dtype=r.dtype, device=r.device)
    for step in range(lags):
        rest = (lags - step) * m
        k = torch.linalg.solve(both[0, :, :m].mT, both[1, :, :m].mT)  # U₀ K = V₀
        turned, failures = torch.linalg.cholesky_ex(eye - torch.stack([k @ k.mT, k.mT @ k]))
        if failures.any():
            return None
        other = torch.stack([both[0] - k @ both[1], both[1] - k.mT @ both[0]])
        both = torch.linalg.solve_triangular(turned, other, upper=False)
        factor[step * m : (step + 1) * m, step * m :] = both[0]
        both = torch.stack([both[0, :, : rest - m], both[1, :, m:]])
    return factor.mT


def toeplitz_solve(r: Tensor, d: Tensor) -> Tensor | None:
    """Solve Σ_js r_ij[t − s] h_j[s] = d_i[t] for h: (channel, channel, lag), (channel, column, lag) -> as the latter.

    What the first solution leaves over is solved for once more. None: T is singular, or too near it to be exact.
    """
    factor = toeplitz_cholesky(r)
    if factor is None:
        return None
    spectrum = two_sided(r)

    def solve(right: Tensor) -> Tensor:
        rows: Tensor = right.permute(2, 0, 1).reshape(len(factor), -1)  # (lag · channel, column)
        rows = torch.linalg.solve_triangular(factor, rows, upper=False)
        rows = torch.linalg.solve_triangular(factor.mT, rows, upper=True)
        return rows.view(right.shape[2], right.shape[0], -1).permute(1, 2, 0)

    def left_over(h: Tensor) -> Tensor:
        lags = h.shape[2]
        product = torch.einsum("ijf,jcf->icf", spectrum, torch.fft.rfft(h, 2 * lags))
        said: Tensor = torch.fft.irfft(product, 2 * lags)
        return d - said[..., :lags]

    h = solve(d)
    h = h + solve(left_over(h))
    return h if bool(left_over(h).norm() <= EXACT * d.norm()) else None


def two_sided(r: Tensor) -> Tensor:
    """Transform correlations for lags from zero on, and with them those before: r_ij[−t] = r_ji[t]."""
    before = torch.cat([torch.zeros_like(r[..., :1]), r.transpose(0, 1)[..., 1:].flip(-1)], -1)
    spectrum: Tensor = torch.fft.rfft(torch.cat([r, before], -1))  # (channel, channel, bin)
    return spectrum
