from __future__ import annotations

import pytest
import torch

from separate.dsp.masks import apply_masks, ratio_mask


@pytest.mark.parametrize("shape", [(4, 2, 5, 7), (3, 4, 2, 5, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_masks_are_shares_that_sum_to_one(shape: tuple[int, ...], power: float) -> None:
    magnitudes = torch.rand(shape, dtype=torch.float64)
    masks = ratio_mask(magnitudes, power)
    torch.testing.assert_close(masks.sum(-4), torch.ones(shape[:-4] + shape[-3:], dtype=torch.float64))
    torch.testing.assert_close(masks, magnitudes**power / (magnitudes**power).sum(-4, keepdim=True))


def test_nobodys_bin_is_shared_evenly() -> None:
    magnitudes = torch.rand(4, 1, 3, 3)
    magnitudes[:, 0, 1, 2] = 0
    masks = ratio_mask(magnitudes)
    assert (masks[:, 0, 1, 2] == 0.25).all()
    assert (masks[:, 0, 0, 0] != 0.25).all()


@pytest.mark.parametrize("level", [1e-30, 1e30])
def test_levels_do_not_matter(level: float) -> None:
    magnitudes = torch.rand(4, 2, 5, 7)
    torch.testing.assert_close(ratio_mask(magnitudes * level, power=2), ratio_mask(magnitudes, power=2))


def test_a_silent_source_gets_nothing() -> None:
    magnitudes = torch.rand(3, 2, 5, 7)
    magnitudes[1] = 0
    assert (ratio_mask(magnitudes)[1] == 0).all()


def test_estimates_sum_to_the_mixture() -> None:
    mixture = torch.randn(2, 2, 5, 7, dtype=torch.complex64)
    magnitudes = torch.rand(2, 4, 2, 5, 7)
    estimates = apply_masks(ratio_mask(magnitudes), mixture)
    assert estimates.shape == magnitudes.shape
    torch.testing.assert_close(estimates.sum(1), mixture)
    torch.testing.assert_close(estimates[1, 2], ratio_mask(magnitudes)[1, 2] * mixture[1])


def test_silence_has_a_gradient_that_is_a_number() -> None:
    magnitudes = torch.zeros(3, 1, 2, 4)
    magnitudes[..., 1, :] = torch.rand(3, 1, 4)
    magnitudes.requires_grad_()
    ratio_mask(magnitudes).square().sum().backward()  # type: ignore[no-untyped-call]
    assert magnitudes.grad is not None
    assert bool(magnitudes.grad.isfinite().all())
