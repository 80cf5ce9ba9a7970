"""The BLSTM of the blend by Uhlich, Porcu, Giron, Enenkl, Kemp, Takahashi and Mitsufuji (ICASSP 2017).

    magnitudes -> scale -> BLSTM -> BLSTM -> BLSTM -> linear -> scale -> ReLU: magnitudes of one source

It is the recurrent half of "Improving music source separation based on deep neural networks through data augmentation
and network blending". A net for every source, none of which knows of the others, then a multichannel Wiener filter.
Each hears all bins of both channels of a stereo song at once and says the source's magnitudes themselves, no mask.
Means and scales of each bin, which the paper takes from its training data, are parameters here, as in Open-Unmix,
which grew out of this net.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from separate.models.recurrent import remember
from separate.models.settings import check_dropout, check_frames, check_least, check_names, check_post
from separate.models.solo import Solo

__all__ = ["BLSTM", "PRESETS", "BLSTMConfig"]


@dataclass(frozen=True)
class BLSTMConfig:
    """Three layers of 250 units a direction, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    sample_rate: int = 44100
    n_fft: int = 4096
    hop: int = 1024
    segment: float = 30.0  # seconds of a chunk
    context: float = 1.5  # of which so many at either end are only surroundings
    hidden: int = 250  # units of an LSTM in each direction
    layers: int = 3
    dropout: float = 0.0  # between the layers, in training
    wiener: int = 1  # EM iterations; 0: ratio masks
    griffin_lim: int = 0  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        check_names(self.sources)
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
        check_least(self, {"hidden": 1, "layers": 1})
        check_dropout(self.dropout)
        check_post(self.wiener, self.griffin_lim)


# What each changes of BLSTMConfig.
PRESETS: dict[str, dict[str, Any]] = {"250": {}, "500": {"hidden": 500}}


class Net(nn.Module):
    """One source's net."""

    def __init__(self, config: BLSTMConfig) -> None:
        super().__init__()
        bins, dropout = config.n_fft // 2 + 1, config.dropout if config.layers > 1 else 0.0
        self.input_mean = nn.Parameter(torch.zeros(bins))
        self.input_scale = nn.Parameter(torch.ones(bins))
        self.lstm = nn.LSTM(2 * bins, config.hidden, config.layers, bidirectional=True, dropout=dropout)
        self.linear = nn.Linear(2 * config.hidden, 2 * bins)
        self.output_scale = nn.Parameter(torch.ones(bins))

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate one source's magnitudes: (batch, 2, bin, frame) -> (batch, 2, bin, frame)."""
        x = (mixture - self.input_mean[:, None]) * self.input_scale[:, None]
        x = remember(self.lstm, x.flatten(1, 2).permute(2, 0, 1))  # (frame, batch, 2 · hidden)
        y = torch.baddbmm(self.linear.bias[:, None], self.linear.weight.expand(x.shape[1], -1, -1), x.permute(1, 2, 0))
        y = y.to(mixture.dtype).view(mixture.shape)
        return (y * self.output_scale[:, None]).relu()


class BLSTM(Solo):
    """The whole model, from mixture to stems."""

    def __init__(self, config: BLSTMConfig) -> None:
        super().__init__(config, Net)
