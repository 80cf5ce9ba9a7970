"""The structured solver against plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from separate.metrics import distortion
from separate.metrics.schur import toeplitz_cholesky, toeplitz_solve


def correlations(channels: int, lags: int, seed: int = 0) -> Tensor:
    """Correlate coloured noises that have something in common: r_ij[t] = Σ_n x_i[n] x_j[n + t]."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(channels, 4000, dtype=torch.float64, generator=random)
    x = torch.nn.functional.conv1d(x[None], torch.randn(channels, channels, 5, dtype=torch.float64, generator=random))
    spectrum = torch.fft.rfft(x[0], 16384)
    r: Tensor = torch.fft.irfft(spectrum.conj()[:, None] * spectrum, 16384)
    return r[..., :lags]


def dense(r: Tensor) -> Tensor:
    """T[(t, i), (s, j)], one entry after the other."""
    m, _, lags = r.shape
    t = torch.empty(lags, m, lags, m, dtype=r.dtype)
    for row in range(lags):
        for column in range(lags):
            t[row, :, column] = r[..., row - column] if row >= column else r[..., column - row].T
    return t.view(lags * m, lags * m)


@pytest.mark.parametrize(("channels", "lags"), [(1, 1), (1, 30), (2, 16), (5, 9)])
def test_the_factor_is_that_of_the_matrix(channels: int, lags: int) -> None:
    r = correlations(channels, lags)
    factor = toeplitz_cholesky(r)
    assert factor is not None
    assert torch.allclose(factor @ factor.mT, dense(r), rtol=1e-11, atol=1e-9)


def test_solutions_are_those_of_a_plain_solver() -> None:
    r = correlations(3, 20)
    d = torch.randn(3, 4, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    h = toeplitz_solve(r, d)
    assert h is not None
    plain = torch.linalg.solve(dense(r), d.permute(2, 0, 1).reshape(60, 4))
    assert torch.allclose(h.permute(2, 0, 1).reshape(60, 4), plain, rtol=1e-9, atol=1e-12)


def test_what_is_singular_is_not_solved() -> None:
    r = correlations(1, 20)
    twice = r.expand(2, 2, -1)
    assert toeplitz_solve(twice, torch.ones(2, 1, 20, dtype=torch.float64)) is None
    assert toeplitz_cholesky(torch.zeros(2, 2, 5, dtype=torch.float64)) is None


def test_many_equations_and_few_are_solved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    r = correlations(5, 420)  # over 2,048 equations
    d = torch.randn(5, 2, 420, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fast = distortion.solved(r, d)
    monkeypatch.setattr(distortion, "toeplitz_solve", lambda r, d: None)  # as if it had given up
    plain = distortion.solved(r, d)
    assert torch.allclose(fast, plain, rtol=1e-6, atol=1e-9 * float(plain.abs().max()))
