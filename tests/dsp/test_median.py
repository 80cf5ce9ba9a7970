from __future__ import annotations

import pytest
import torch

from separate.dsp.median import median


@pytest.mark.parametrize("count", [1, 3, 5, 7, 17, 31, 32 + 1, 99])
def test_it_is_torchs_median(count: int) -> None:
    planes = torch.randn(count, 4, 50, generator=torch.Generator().manual_seed(count))
    assert torch.equal(median(planes), planes.median(0).values)


def test_equal_and_infinite_numbers_have_an_order_too() -> None:
    planes = torch.tensor([[1.0, 0.0], [torch.inf, 2.0], [1.0, 2.0], [-torch.inf, 2.0], [5.0, torch.inf]])
    assert median(planes).tolist() == [1, 2]


def test_planes_may_be_views_and_are_left_alone() -> None:
    line = torch.randn(100, generator=torch.Generator().manual_seed(0))
    before = line.clone()
    windows = line.unfold(0, 5, 1)  # (time, window)
    assert torch.equal(median(windows.T), windows.median(1).values)
    assert torch.equal(line, before)


def test_an_even_number_has_no_middle() -> None:
    with pytest.raises(ValueError, match="these are 4"):
        median(torch.zeros(4, 2))
