from __future__ import annotations

import pytest
import torch

from separate.dsp import hpss, repet
from separate.evaluation import baselines

RATE = 8000


@pytest.fixture
def mix() -> torch.Tensor:
    return torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))


def test_the_mixture_is_divided_by_the_number_of_stems(mix: torch.Tensor) -> None:
    estimates = baselines.mixture(mix, RATE)
    assert list(estimates) == ["vocals", "drums", "bass", "other", "accompaniment"]
    assert all(torch.equal(estimate, mix / 4) for estimate in estimates.values())
    pair = baselines.mixture(mix, RATE, ("vocals", "accompaniment"))
    assert list(pair) == ["vocals", "accompaniment"]
    assert all(torch.equal(estimate, mix / 2) for estimate in pair.values())


def test_what_repeats_is_the_accompaniment(mix: torch.Tensor) -> None:
    background, foreground = repet.repet(mix, RATE)
    estimates = baselines.repet(mix, RATE)
    assert list(estimates) == ["vocals", "accompaniment"]
    assert torch.equal(estimates["vocals"], foreground)
    assert torch.equal(estimates["accompaniment"], background)


def test_hits_are_the_drums_and_all_stems_sum_to_the_mixture(mix: torch.Tensor) -> None:
    estimates = baselines.hpss(mix, RATE)
    assert list(estimates) == ["vocals", "drums", "bass", "other"]
    assert torch.equal(estimates["drums"], hpss.hpss(mix, RATE)[1])
    torch.testing.assert_close(sum(estimates.values()), mix)
