from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from separate.metrics.simple import gnsdr, nsdr, sdr, si_sdr
from tests.metrics.peers import mir_eval


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 500), (3, 2, 500), (4, 3, 1, 500)])
def test_sdr_is_a_ratio_of_energies(shape: tuple[int, ...]) -> None:
    references = noise(*shape)
    errors = noise(*shape, seed=1) * torch.linspace(0.01, 1, math.prod(shape[:-2])).view(*shape[:-2], 1, 1)
    expected = 20 * torch.log10(references.flatten(-2).norm(dim=-1) / errors.flatten(-2).norm(dim=-1))
    figures = sdr(references, references + errors)
    assert figures.dtype == torch.float64
    torch.testing.assert_close(figures, expected.double(), rtol=0, atol=1e-4)


def test_sdr_is_finite_in_silence() -> None:
    assert sdr(torch.zeros(1, 9), torch.zeros(1, 9)).item() == 0
    assert sdr(torch.zeros(1, 10), torch.ones(1, 10)).item() == pytest.approx(-80, abs=1e-4)
    assert sdr(torch.ones(1, 10), torch.ones(1, 10)).item() == pytest.approx(80, abs=1e-4)


@pytest.mark.parametrize("gain", [1e-3, 0.5, 1, -2, 100])
def test_si_sdr_does_not_mind_gain(gain: float) -> None:
    reference, estimate = noise(2, 500).double(), noise(2, 500).double() + noise(2, 500, seed=1)
    assert si_sdr(reference, gain * estimate).item() == pytest.approx(si_sdr(reference, estimate).item(), abs=1e-9)


def test_si_sdr_measures_what_is_orthogonal() -> None:
    angle = torch.arange(1000, dtype=torch.float64) * math.pi / 50
    sine, cosine = torch.sin(angle)[None], torch.cos(angle)[None]
    for level in (-30, 0, 17):
        assert si_sdr(sine, 3 * (sine + 10 ** (-level / 20) * cosine)).item() == pytest.approx(level, abs=1e-9)


def test_si_sdr_of_silence_is_not_a_number() -> None:
    assert si_sdr(torch.zeros(1, 9), torch.ones(1, 9)).isnan()
    assert si_sdr(torch.ones(1, 9), torch.zeros(1, 9)).isnan()


def test_nsdr_agrees_with_mir_eval() -> None:
    references = noise(2, 4000) * torch.tensor([[1.0], [0.4]])
    estimates = references + 0.1 * references.sum(0) + 0.05 * noise(2, 4000, seed=1)
    mixture = references.sum(0)
    before = mir_eval(references, mixture.expand_as(references))[0]
    torch.testing.assert_close(
        nsdr(references, estimates, mixture), mir_eval(references, estimates)[0] - before, rtol=0, atol=0.01
    )


def test_the_mixture_is_no_improvement_on_itself() -> None:
    references = noise(2, 2000)
    mixture = references.sum(0)
    assert nsdr(references, mixture.expand_as(references), mixture, filter_length=8).tolist() == [0, 0]


def test_gnsdr_weighs_tracks_by_length() -> None:
    figures = gnsdr(torch.tensor([[12.0, 1.0], [3.0, 1.0], [0.0, 4.0]]), torch.tensor([100, 200, 300]))
    assert figures.tolist() == pytest.approx([3.0, 2.5])
