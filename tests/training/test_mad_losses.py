"""The objective of the Masker and Denoiser: its terms by hand, its switch, its gradients."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor

from separate.models.mad import MaD, MaDConfig
from separate.training.mad_losses import divergence, mad_losses, mad_target

NOTHING = torch.zeros(2, 2)


def test_the_target_is_what_twice_the_share_lets_through_but_no_more_than_one() -> None:
    mixture, voice = torch.tensor([0.3, 0.5, 0.8, 4.0, 0.0]), torch.tensor([0.1, 0.0, 0.4, 4.0, 0.0])
    expected = [2 * 0.3 * 0.1 / 0.4, 0.0, 2 * 0.8 * 0.4 / 1.2, 1.0, 0.0]
    torch.testing.assert_close(mad_target(mixture, voice), torch.tensor(expected))


def test_the_divergence_by_hand() -> None:
    target, estimate = torch.tensor([[1.0, 0.0], [2.0, 3.0]]), torch.tensor([[2.0, 0.5], [2.0, 1.0]])
    frames = [log(1 / 2) - 1 + 2 + 0.5, 3 * log(3) - 3 + 1]
    assert float(divergence(target, estimate)) == pytest.approx(sum(frames) / 2, rel=1e-4)
    assert float(divergence(target, target)) == 0


def test_the_divergence_is_least_at_the_target() -> None:
    target = torch.rand(5, 3, 7, generator=torch.Generator().manual_seed(0))
    for change in (0.5, 0.9, 1.1, 2.0):
        assert float(divergence(target, change * target)) > 0


def test_a_dead_estimate_has_a_finite_loss_and_a_gradient() -> None:
    estimate = torch.zeros(1, 4, requires_grad=True)
    loss = divergence(torch.ones(1, 4), estimate)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert estimate.grad is not None
    assert bool((estimate.grad < 0).all())
    assert bool(estimate.grad.isfinite().all())


# An estimate of twice the target, 1, costs log(1/2) − 1 + 2 = 0.307 a bin: 5 bins exceed τ_rec, 1 exceeds τ_min.
@pytest.mark.parametrize(
    ("masked_bins", "denoised_bins", "counts"),
    [(10, 10, True), (10, 0, False), (4, 10, False), (5, 1, True)],
    ids=["both bad", "denoised well", "masked well", "just bad enough"],
)
def test_the_masker_is_judged_while_both_are_bad(masked_bins: int, denoised_bins: int, counts: bool) -> None:
    target = torch.ones(3, 1, 10)

    def wrong(bins: int) -> Tensor:
        return target + (torch.arange(10) < bins)

    each = 1 - log(2)
    expected = denoised_bins * each + masked_bins * each * counts
    loss = mad_losses(wrong(masked_bins), wrong(denoised_bins), target, NOTHING, NOTHING)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_the_penalties_by_hand_and_both_have_a_gradient() -> None:
    mask = torch.tensor([[3.0, 9.0], [9.0, -2.0], [9.0, 9.0]], requires_grad=True)
    denoiser = torch.tensor([[1.0, 2.0], [3.0, -4.0]], requires_grad=True)
    target = torch.ones(1, 1, 3)
    loss = mad_losses(target, target, target, mask, denoiser)
    assert loss.item() == pytest.approx(1e-2 * 5 + 1e-4 * 30)
    loss.backward()  # type: ignore[no-untyped-call]
    assert mask.grad is not None
    assert denoiser.grad is not None
    torch.testing.assert_close(mask.grad, 1e-2 * torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]))
    torch.testing.assert_close(denoiser.grad, 2e-4 * denoiser.detach())


def test_it_teaches_a_model() -> None:
    torch.manual_seed(0)
    model = MaD(MaDConfig(n_fft=64, window=33, hop=8, bins=12, hidden=16, sequence=9, margin=2, iterations=1))
    model.initialise()
    mixture = torch.rand(9, 6, 33)
    target = mad_target(mixture, mixture * (torch.arange(33) < 16))[2:-2]  # the voice is the lower half
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        masked, denoised = model.magnitudes(mixture)
        loss = mad_losses(masked, denoised, target, model.mask.weight, model.denoiser_dec.weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
