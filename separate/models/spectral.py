"""What every model of magnitude spectrograms does around its net: there, clean up, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from separate.dsp.griffinlim import griffin_lim
from separate.dsp.masks import apply_masks, ratio_mask
from separate.dsp.stft import STFT
from separate.dsp.wiener import share_residual, wiener

__all__ = ["check_post", "separate_magnitudes", "stems_from"]

Net = Callable[[Tensor], Iterable[Tensor]]


def separate_magnitudes(mix: Tensor, stft: STFT, net: Net, iterations: int, gl_iterations: int) -> Tensor:
    """Separate `mix` with a net that estimates each source's magnitudes from the mixture's.

    mix (batch, channel, time) -> stems (batch, source, channel, time). The net sees (batch, channel, bin, frame) and
    answers with (source, channel, bin, frame) for each song: best one at a time, as they are finished here one at a
    time, because the spectrograms of all sources of all songs at once would be the peak of the memory.
    """
    mixture = stft(mix)  # (batch, channel, bin, frame)
    return stems_from(mixture, net(mixture.abs()), stft, mix.shape[-1], iterations, gl_iterations)


def stems_from(
    mixture: Tensor, magnitudes: Iterable[Tensor], stft: STFT, length: int, iterations: int, gl_iterations: int
) -> Tensor:
    """Turn the sources' magnitudes into stems of `length` samples, for nets that see the mixture with its phases.

    mixture (batch, channel, bin, frame), magnitudes (source, channel, bin, frame) of each song -> as above.
    """
    stems = []
    for x, m in zip(mixture, magnitudes, strict=True):
        if gl_iterations:
            audible = m.masked_fill(x == 0, 0)  # a net may claim something of digital silence
            stems.append(griffin_lim(audible, x.expand_as(m), stft, length, gl_iterations))
        else:
            stems.append(stft.inverse(filtered(x, m, iterations), length))
    return torch.stack(stems)


def filtered(mixture: Tensor, magnitudes: Tensor, iterations: int) -> Tensor:
    """Cut the sources out of the mixture by Wiener filter, or by ratio masks if `iterations` is 0; they sum to it.

    (channel, bin, frame), (source, channel, bin, frame) -> (source, channel, bin, frame).
    """
    if iterations == 0:
        return apply_masks(ratio_mask(magnitudes), mixture)
    # What the filter's regularisation kept back, in bins that no source claims, goes to all alike.
    return share_residual(mixture, wiener(mixture, magnitudes, iterations))


def check_post(iterations: int, gl_iterations: int) -> None:
    """Refuse what makes no sense of the two settings that every such model has."""
    if iterations < 0 or gl_iterations < 0:
        raise ValueError(f"wiener and griffin_lim count iterations, got {iterations} and {gl_iterations}")
