from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.metrics.bsseval3 import Figures, bss_eval_sources
from tests.metrics.peers import mir_eval, worst

LENGTH = 6000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def leaky(references: Tensor) -> Tensor:
    return 0.9 * references + 0.2 * references.sum(0) + 0.1 * noise(*references.shape, seed=2)


def stacked(figures: Figures) -> Tensor:
    return torch.stack([figures.sdr, figures.sir, figures.sar])


def coloured(x: Tensor) -> Tensor:
    return F.conv1d(F.pad(x.unsqueeze(1), (19, 0)), torch.exp(-torch.arange(20) / 4).view(1, 1, -1)).squeeze(1)


CASES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "leaky": lambda x: (x, leaky(x)),
    "coloured": lambda x: (coloured(x), leaky(coloured(x))),
    "one source": lambda x: (x[:1], leaky(x)[:1]),
    "unrelated": lambda x: (x, noise(*x.shape, seed=3)),
    "equal": lambda x: (x, x),
    "filtered": lambda x: (x, coloured(x)),
    "exchanged": lambda x: (x, leaky(x).flip(0)),
    "the mixture": lambda x: (x, x.sum(0).expand_as(x)),
    "identical sources": lambda x: (torch.stack([x[0], x[0]]), leaky(x)),
    "a source half of another": lambda x: (torch.stack([x[0], -0.5 * x[0]]), leaky(x)),
    "silent for a while": lambda x: (x * (torch.arange(LENGTH) > 2000), leaky(x)),
    "very quiet": lambda x: (1e-4 * x, 1e-4 * leaky(x)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_mir_eval(case: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    references, estimates = case(noise(2, LENGTH))
    assert worst(stacked(bss_eval_sources(references, estimates)), mir_eval(references, estimates)) < 0.01


def test_agrees_with_mir_eval_on_three_sources() -> None:
    references = coloured(noise(3, LENGTH))
    estimates = leaky(references)
    assert worst(stacked(bss_eval_sources(references, estimates)), mir_eval(references, estimates)) < 0.01


def test_a_filter_is_forgiven_but_no_interference() -> None:
    references = noise(2, LENGTH)
    estimates = coloured(references) + 0.1 * references.flip(0)
    figures = bss_eval_sources(references, estimates, filter_length=32)
    energies = (coloured(references).square().sum(1), 0.01 * references.flip(0).square().sum(1))
    torch.testing.assert_close(figures.sir, 10 * torch.log10(energies[0] / energies[1]).double(), rtol=0, atol=0.2)


def test_with_a_silent_source_nothing_is_a_number() -> None:
    references = noise(2, LENGTH)
    estimates = leaky(references)
    silent = references * torch.tensor([[1.0], [0.0]])
    assert stacked(bss_eval_sources(silent, estimates, filter_length=8)).isnan().all()
    assert stacked(bss_eval_sources(references, silent, filter_length=8)).isnan().all()


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\) and \(2, 6\)"):
        bss_eval_sources(torch.zeros(2, 5), torch.zeros(2, 6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_agrees_on_a_gpu() -> None:
    references = noise(2, LENGTH)
    here = bss_eval_sources(references, leaky(references), filter_length=64)
    there = bss_eval_sources(references.cuda(), leaky(references).cuda(), filter_length=64)
    assert worst(stacked(there), stacked(here)) < 1e-6
