from __future__ import annotations

import pytest
import torch

from separate.training.losses import cross_entropy, mask_loss, sdr_loss

ALONE = torch.eye(4).expand(3, 4, 4)  # every source of three items is known


def case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(5, 3, 4, 7, generator=generator)
    return targets / targets.sum(2, keepdim=True), targets


def test_it_is_zero_at_the_truth_and_nowhere_less() -> None:
    shares, targets = case()
    weight = torch.ones(3, 7)
    assert float(mask_loss(shares, targets, weight, ALONE)) == pytest.approx(0, abs=1e-6)
    for change in (0.9, 1.1):
        assert float(mask_loss(shares * change, targets, weight, ALONE)) > 1e-3


def test_the_expected_share_is_best() -> None:
    p = torch.linspace(0.01, 0.99, 99)
    shares = torch.tensor([[0.0], [0.3], [0.9]])
    assert float(p[cross_entropy(p, shares).mean(0).argmin()]) == pytest.approx(0.4, abs=0.006)


def test_every_mix_counts_the_same_however_loud() -> None:
    shares, targets = case()
    weight = (torch.rand(7) + 0.5).expand(3, 7)
    wrong = shares.roll(1, 2)
    loud = targets * torch.tensor([1.0, 10.0, 0.3])[None, :, None, None]
    one, other = (float(mask_loss(wrong, t, weight, ALONE)) for t in (targets, loud))
    assert other == pytest.approx(one, rel=0.05)


def test_sources_known_as_a_sum_are_judged_by_the_sum() -> None:
    shares, targets = case()
    weight = torch.ones(3, 7)
    together = targets.clone()
    together[:, :, 3] += together[:, :, 2]
    together[:, :, 2] = 0
    pair = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]]).expand(3, 4, 4)
    assert float(mask_loss(shares, together, weight, pair)) == pytest.approx(0, abs=1e-5)
    assert float(mask_loss(shares, together, weight, ALONE)) > 0.1
    one_of_three = torch.cat([pair[:1], ALONE[1:]])
    mixed = torch.cat([together[:, :1], targets[:, 1:]], 1)
    assert float(mask_loss(shares, mixed, weight, one_of_three)) == pytest.approx(0, abs=1e-5)
    wrong = shares.roll(1, 2)
    alone = mask_loss(wrong[:, 1:], targets[:, 1:], weight[1:], ALONE[1:])
    both = mask_loss(wrong, mixed, weight, one_of_three)
    first = mask_loss(wrong[:, :1], together[:, :1], weight[:1], pair[:1])
    assert float(both) == pytest.approx(float(2 * alone + first) / 3, rel=0.02)


def test_a_sum_of_masks_of_more_than_one_has_a_gradient() -> None:
    shares = torch.tensor([0.7, 0.1, 0.1, 0.1]).view(1, 1, 4, 1)
    together = torch.tensor([0.7, 0.0, 0.0, 0.3]).view(1, 1, 4, 1)
    rest = torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]]])
    masks = torch.full((1, 1, 4, 1), 0.5, requires_grad=True)
    loss = mask_loss(masks, together, torch.ones(1, 1), rest)
    loss.backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert bool((masks.grad[:, :, 1:] > 1e-3).all())  # less of each
    assert float(masks.grad[:, :, 0]) < -1e-3  # more of the voice
    assert float(mask_loss(shares, together, torch.ones(1, 1), rest)) == pytest.approx(0, abs=1e-6)


def test_what_is_not_audible_does_not_count() -> None:
    shares, targets = case()
    weight = torch.ones(3, 7)
    weight[:, 4:] = 0
    wrong = shares.clone()
    wrong[..., 4:] = 0.1
    assert float(mask_loss(wrong, targets, weight, ALONE)) == pytest.approx(0, abs=1e-6)


def test_silence_costs_nothing_and_has_a_gradient() -> None:
    masks = torch.full((5, 3, 4, 7), 0.5, requires_grad=True)
    loss = mask_loss(masks, torch.zeros(5, 3, 4, 7), torch.ones(3, 7), ALONE)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert masks.grad is not None
    assert bool(masks.grad.isfinite().all())


def test_sdr_loss_is_that_of_stems_cut_out_of_the_mixture() -> None:
    torch.manual_seed(1)
    stems = torch.randn(50, 2, 3, 9, dtype=torch.complex64) * torch.tensor([1, 0.5, 2])[:, None]  # f, item, source, b
    mixture = stems.sum(2)
    masks = torch.rand(50, 2, 3, 9)
    common = (stems * mixture.unsqueeze(2).conj()).real
    power, energy = mixture.abs().square(), stems.abs().square()
    cut = masks / masks.sum(2, keepdim=True) * mixture.unsqueeze(2)
    ratio = (stems - cut).abs().square().sum((0, 3)) / energy.sum((0, 3))
    alone = torch.eye(3).expand(2, 3, 3)
    assert float(sdr_loss(masks, common, power, energy, alone)) == pytest.approx(float(ratio.log().mean()), abs=0.05)
    errors = ratio.log().mean(0)  # (source)
    heavy = float(sdr_loss(masks, common, power, energy, alone, 3, 2))
    assert heavy == pytest.approx(float((3 * errors[0] + 2 * errors[1] + errors[2]) / 6), abs=0.05)
    # Scale does not count, the expected share is best, and it knows the sum of a group as well as its parts.
    assert float(sdr_loss(0.1 * masks, common, power, energy, alone)) == pytest.approx(
        float(sdr_loss(masks, common, power, energy, alone)), abs=1e-5
    )
    best = torch.tensor([1, 0.25, 4])[:, None].expand_as(masks) / 5.25
    least = float(sdr_loss(best, common, power, energy, alone))
    assert all(float(sdr_loss(best**p, common, power, energy, alone)) > least for p in (0.5, 2.0))
    groups = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 1, 1]]).expand(2, 3, 3)
    zero = torch.zeros_like(common[:, :, :1])
    merged = torch.cat([common[:, :, :1], zero, common[:, :, 1:].sum(2, keepdim=True)], 2)
    together = torch.cat([stems[:, :, :1], stems[:, :, 1:].sum(2, keepdim=True)], 2).abs().square()
    whole = torch.stack([together[:, :, 0], torch.zeros_like(together[:, :, 0]), together[:, :, 1]], 2)
    said = sdr_loss(masks, merged, power, whole, groups)
    voice, rest = together.sum((0, 3)).T
    first = (stems[:, :, 0] - cut[:, :, 0]).abs().square().sum((0, 2)) / voice
    # What one source gets too much, the rest gets too little.
    expected = (first.log() + (first * voice / rest).log()).mean() / 3
    assert float(said) == pytest.approx(float(expected), abs=0.05)


def test_sdr_loss_counts_quiet_seconds_as_much_as_loud_ones() -> None:
    torch.manual_seed(2)
    stems = torch.randn(80, 2, 2, 9, dtype=torch.complex64)
    stems[40:] *= 0.01
    mixture, masks, alone = stems.sum(2), torch.rand(80, 2, 2, 9), torch.eye(2).expand(2, 2, 2)
    common = (stems * mixture.unsqueeze(2).conj()).real
    power, energy = mixture.abs().square(), stems.abs().square()

    def loss(part: slice) -> float:
        return float(sdr_loss(masks[part], common[part], power[part], energy[part], alone))

    halves = [loss(slice(40)), loss(slice(40, 80))]
    assert loss(slice(80)) == pytest.approx(sum(halves) / 2, abs=1e-5)
    assert abs(halves[0] - halves[1]) > 1e-3
