"""Figures of whole signals: one equation a function.

    SDR    of energies alone, as in the music demixing challenges           `sdr`
    SI-SDR which does not mind how loud an estimate is                      `si_sdr`
    NSDR   what separating brought over the mixture, in SDR of version 3    `nsdr`
    GNSDR  that of many tracks, the longer ones counting more               `gnsdr`

All are in decibels, float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from separate.metrics.bsseval3 import bss_eval_sources

__all__ = ["gnsdr", "nsdr", "sdr", "si_sdr"]

DELTA = 1e-7  # keeps the ratio finite in silence; the value of the challenges.


def sdr(references: Tensor, estimates: Tensor) -> Tensor:
    r"""Compare the energy of references with that of what estimates miss, over all channels and the whole track.

    .. math:: 10 \log_{10} \frac{\sum s^2 + 10^{-7}}{\sum (s - y)^2 + 10^{-7}}

    Args:
        references: the true signals, (..., channel, time).
        estimates: one for each, (..., channel, time).

    >>> sdr(torch.ones(2, 1000), 0.9 * torch.ones(2, 1000)).round()
    tensor(20., dtype=torch.float64)
    """
    s, y = references.double(), estimates.double()
    return 10 * torch.log10((s.square().sum((-2, -1)) + DELTA) / ((s - y).square().sum((-2, -1)) + DELTA))


def si_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    r"""Compare the energy of references, as loud as they are in the estimates, with that of what else is in those.

    .. math:: 10 \log_{10} \frac{\sum (\alpha s)^2}{\sum (\alpha s - y)^2},
        \qquad \alpha = \frac{\sum s\, y}{\sum s^2}

    All channels share one scale, and means are not removed. A silent signal has no figure: not a number.

    Args:
        references: the true signals, (..., channel, time).
        estimates: one for each, (..., channel, time).

    >>> sine = torch.sin(torch.arange(1000) * torch.pi / 50)
    >>> si_sdr(sine[None], 3 * sine[None] + 0.3 * sine.roll(25)).round()
    tensor(20., dtype=torch.float64)
    """
    s, y = references.double().flatten(-2), estimates.double().flatten(-2)
    target = (s * y).sum(-1, keepdim=True) / s.square().sum(-1, keepdim=True) * s
    return 10 * torch.log10(target.square().sum(-1) / (target - y).square().sum(-1))


def nsdr(references: Tensor, estimates: Tensor, mixture: Tensor, *, filter_length: int = 512) -> Tensor:
    r"""Measure by how much separating raised the SDR of version 3 over that of the mixture itself.

    .. math:: \mathrm{NSDR} = \mathrm{SDR}(y, s) - \mathrm{SDR}(x, s)

    Args:
        references: the true sources, (source, time).
        estimates: one for each, (source, time).
        mixture: what was separated, (time,).
        filter_length: taps of the distortion filters.
    """
    before = bss_eval_sources(references, mixture.expand_as(references), filter_length=filter_length)
    return bss_eval_sources(references, estimates, filter_length=filter_length).sdr - before.sdr


def gnsdr(nsdrs: Tensor, lengths: Tensor) -> Tensor:
    r"""Average the NSDR of tracks, each as often as it is long.

    .. math:: \mathrm{GNSDR} = \frac{\sum_n w_n \mathrm{NSDR}_n}{\sum_n w_n}

    Args:
        nsdrs: of each source of each track, (track, source).
        lengths: of the tracks, (track,).

    >>> gnsdr(torch.tensor([[10.0, 4.0], [4.0, 4.0]]), torch.tensor([1, 2]))
    tensor([6., 4.], dtype=torch.float64)
    """
    weights = lengths.double().unsqueeze(-1)
    return (weights * nsdrs.double()).sum(0) / weights.sum()
