"""Muon: all directions of a matrix alike, and the same steps as torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from separate.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32), (1, 7)])
def test_all_directions_become_alike(shape: tuple[int, int]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(g))
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert orthogonal(g).dtype == g.dtype
    assert not orthogonal(torch.zeros(shape)).any()


def test_its_steps_are_those_of_torch() -> None:
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((48, 32), (16, 64))]
    ours, theirs = ([nn.Parameter(w.clone()) for w in start] for _ in range(2))
    pairs = (
        (ours, Muon(ours, lr=0.01)),
        (theirs, torch.optim.Muon(theirs, lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")),
    )
    for step in range(6):
        for weights, optimiser in pairs:
            for w in weights:
                w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(step)) + 0.1 * w.detach()
            optimiser.step()
    for our, their, before in zip(ours, theirs, start, strict=True):
        assert (our - their).norm() < 0.02 * (their - before).norm()  # torch's products are in bfloat16


def test_it_goes_on_from_a_saved_state() -> None:
    w = nn.Parameter(torch.ones(4, 3))
    whole = Muon([w], lr=0.1)
    for step in range(2):
        w.grad = torch.eye(4, 3) * (step + 1)
        whole.step()
        if not step:
            again = nn.Parameter(w.detach().clone())
            resumed = Muon([again], lr=0.1)
            resumed.load_state_dict(whole.state_dict())
    again.grad = torch.eye(4, 3) * 2
    resumed.step()
    assert torch.equal(w, again)


def test_what_has_no_gradient_stays() -> None:
    w = nn.Parameter(torch.ones(4, 3))
    Muon([w]).step()
    assert torch.equal(w, torch.ones(4, 3))
