"""What models have in common that give every source a net of its own, none of which knows of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from separate.dsp.stft import STFT
from separate.models.spectral import Used, separate_magnitudes

__all__ = ["Solo"]


class Solo(nn.Module):
    """Stereo nets, from the mixture's magnitudes to those of a source, and a filter behind them.

    A mono song is heard on both channels, and the two answers are averaged.
    """

    trims = True

    def __init__(self, config: Any, net: Callable[[Any], nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = not config.griffin_lim
        self.stft = STFT(config.n_fft, config.hop)
        self.nets = nn.ModuleDict({source: net(config) for source in config.sources})

    def forward(self, mix: Tensor, used: Used = None) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time), silent but for what is `used`."""
        return separate_magnitudes(mix, self.stft, self.songs, self.config.wiener, self.config.griffin_lim, used)

    def songs(self, mixture: Tensor) -> Iterator[Tensor]:
        """Yield the magnitudes of one song after the other, as they are finished one by one.

        (batch, channel, bin, frame) -> for each of the batch (source, channel, bin, frame).
        """
        stereo = mixture.expand(-1, 2, -1, -1)  # two channels stay as they are
        by_source = [net(stereo) for net in self.nets.values()]
        for song in zip(*by_source, strict=True):
            m = torch.stack(song)
            yield m.mean(1, keepdim=True) if mixture.shape[1] == 1 else m

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate every source's magnitudes.

        (batch, channel, bin, frame) -> (batch, source, channel, bin, frame).
        """
        return torch.stack(list(self.songs(mixture)))
