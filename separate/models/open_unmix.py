"""Open-Unmix (Stöter, Uhlich, Liutkus and Mitsufuji, JOSS 2019): one bidirectional LSTM a source, and a Wiener filter.

    magnitudes below 16 kHz -> scale -> linear -> tanh -> LSTM -> linear -> linear -> scale -> mask on the magnitudes
                                                  └──────────────┘

A net for every source, none of which knows of the others. Each hears both channels of a stereo song at once, and says
for every bin, also for those that it does not hear, by how much to multiply the mixture. Names of weights are those of
the published files, behind "nets.vocals." and so on.

Inside, everything is (batch, width, frame), as spectrograms are, and only the LSTM sees another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from separate.dsp.parallel import side_by_side
from separate.models.inference import ROWS, Product, coarse, inferring
from separate.models.layers import line_of
from separate.models.recurrent import remember
from separate.models.settings import check_dropout, check_frames, check_least, check_names, check_post
from separate.models.solo import Solo

__all__ = ["PRESETS", "OpenUnmix", "OpenUnmixConfig"]


@dataclass(frozen=True)
class OpenUnmixConfig:
    """The published "umxhq", unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    sample_rate: int = 44100
    n_fft: int = 4096
    hop: int = 1024
    segment: float = 30.0  # seconds of a chunk
    context: float = 1.5  # of which so many at either end are only surroundings
    bins: int = 1487  # it hears those below this one: 16 kHz; 0: all
    hidden: int = 512  # width of all layers; each direction of an LSTM has half of it
    layers: int = 3  # of the LSTM
    bidirectional: bool = True  # False: the LSTM hears only the past, at full width
    dropout: float = 0.4  # between the layers of the LSTM, in training
    wiener: int = 1  # EM iterations; 0: ratio masks
    griffin_lim: int = 0  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        check_names(self.sources)
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
        check_least(self, {"hidden": 1, "layers": 1})
        if self.bidirectional and self.hidden % 2:
            raise ValueError(f"a width of {self.hidden} does not split into two directions")
        if not 0 <= self.bins <= self.n_fft // 2 + 1:
            raise ValueError(f"bins = {self.bins} must fit {self.n_fft // 2 + 1} bins")
        check_dropout(self.dropout)
        check_post(self.wiener, self.griffin_lim)


# The published models: what each changes of OpenUnmixConfig.
PRESETS: dict[str, dict[str, Any]] = {
    "umx": {},  # trained on MUSDB18, whose songs end at 16 kHz
    "umxhq": {},  # trained on MUSDB18-HQ
    "umxl": {"hidden": 1024},
}


class Net(nn.Module):
    """One source's net."""

    def __init__(self, config: OpenUnmixConfig) -> None:
        super().__init__()
        total = config.n_fft // 2 + 1
        self.bins, width = config.bins or total, config.hidden
        self.input_mean = nn.Parameter(torch.zeros(self.bins))  # is added: what training found, with its sign turned
        self.input_scale = nn.Parameter(torch.ones(self.bins))
        self.fc1 = nn.Linear(2 * self.bins, width, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.lstm = nn.LSTM(
            width,
            width // 2 if config.bidirectional else width,
            config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.fc2 = nn.Linear(2 * width, width, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.fc3 = nn.Linear(width, 2 * total, bias=False)
        self.bn3 = nn.BatchNorm1d(2 * total)
        self.output_scale = nn.Parameter(torch.ones(total))
        self.output_mean = nn.Parameter(torch.ones(total))

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate one source's magnitudes: (batch, 2, bin, frame) -> (batch, 2, bin, frame)."""
        x = (mixture[:, :, : self.bins] + self.input_mean[:, None]) * self.input_scale[:, None]
        x = self.bn1(self.fc1.weight @ x.flatten(1, 2)).tanh()  # (batch, width, frame)
        y = remember(self.lstm, x.permute(2, 0, 1)).permute(1, 2, 0)  # (batch, width, frame)
        x = self.bn2(self.fc2.weight @ torch.cat([x, y], 1)).relu()  # (batch, width, frame)
        y = self.bn3(self.fc3.weight @ x).to(mixture.dtype).unflatten(1, (2, -1))  # (batch, 2, bin, frame)
        return torch.addcmul(self.output_mean[:, None], y, self.output_scale[:, None]).relu() * mixture


class Inference:
    """A net for inference on a processor, which has heard all songs of a batch and answers for one after the other.

    It computes what `Net` does. Norms and the output's scale are part of the weights, which are laid out once; all but
    the LSTM is (frame, width), as spectrograms lie in memory, and done for some frames at a time, which stay in the
    cache. The input's scale is no part of the weights: without the mean of what is heard, products are more exact.
    """

    def __init__(self, mixture: Tensor, net: Net) -> None:
        low = coarse(mixture)
        scale, shift = line_of(net.bn1)
        fc1 = Product(net.fc1.weight * scale[:, None], shift, low, ROWS)
        scale, shift = line_of(net.bn2)
        self.fc2 = Product(net.fc2.weight * scale[:, None], shift, low, ROWS)
        scale, shift = (v * net.output_scale.repeat(2) for v in line_of(net.bn3))
        self.fc3 = Product(net.fc3.weight * scale[:, None], shift + net.output_mean.repeat(2), low, ROWS)
        self.mixture = mixture
        batch, _, _, frames = mixture.shape
        self.x = torch.empty(frames, batch, net.fc1.out_features, dtype=low)
        for song, x in zip(mixture, self.x.unbind(1), strict=True):
            for block, out in zip(torch.split(song[:, : net.bins], ROWS, 2), torch.split(x, ROWS), strict=True):
                heard = (block.permute(2, 0, 1) + net.input_mean) * net.input_scale  # (frame, 2, bin)
                torch.tanh(fc1(heard.to(low).flatten(1).contiguous()), out=out)
        self.y = remember(net.lstm, self.x)  # (frame, batch, width)

    def answer(self, i: int, m: Tensor) -> None:
        """Write one source's magnitudes of song `i` to (2, bin, frame)."""
        frames = (torch.split(v[:, i], ROWS) for v in (self.x, self.y))
        bins = (torch.split(v, ROWS, 2) for v in (self.mixture[i], m))
        for x, y, mixture, out in zip(*frames, *bins, strict=True):
            mask = self.fc3(self.fc2(torch.cat([x, y], 1)).relu_()).relu_()  # (frame, 2 · bin)
            torch.mul(mask.view(len(mask), 2, -1).permute(1, 2, 0), mixture, out=out)


def room(mixture: Tensor, sources: int) -> Tensor:
    """Make room for all sources' magnitudes, which lie frame by frame as spectrograms do.

    (..., channel, bin, frame) -> (..., source, channel, bin, frame).
    """
    *batch, channels, bins, frames = mixture.shape
    return mixture.new_empty(*batch, sources, channels, frames, bins).mT


class OpenUnmix(Solo):
    """The whole model, from mixture to stems."""

    def __init__(self, config: OpenUnmixConfig) -> None:
        super().__init__(config, Net)

    def songs(self, mixture: Tensor) -> Iterator[Tensor]:
        """Yield the magnitudes of one song after the other.

        (batch, channel, bin, frame) -> for each of the batch (source, channel, bin, frame).
        """
        if self.training or not inferring(mixture):
            yield from super().songs(mixture)
            return
        stereo = mixture.expand(-1, 2, -1, -1)  # two channels stay as they are
        nets = side_by_side(partial(Inference, stereo), list(self.nets.values()))
        for i in range(len(stereo)):
            m = room(stereo[i], len(nets))
            side_by_side(
                lambda piece: piece[0].answer(*piece[1:]), [(net, i, out) for net, out in zip(nets, m, strict=True)]
            )
            yield m.mean(1, keepdim=True) if mixture.shape[1] == 1 else m

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate every source's magnitudes.

        (batch, channel, bin, frame) -> (batch, source, channel, bin, frame).
        """
        m = room(mixture, len(self.nets))
        for i, song in enumerate(self.songs(mixture)):
            m[i] = song
        return m
