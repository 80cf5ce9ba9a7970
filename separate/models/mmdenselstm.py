"""MMDenseLSTM: dense blocks at many scales and in several bands, and recurrent ones where the scale is coarse.

Takahashi, Goswami and Mitsufuji, "MMDenseLSTM: an efficient combination of convolutional and recurrent neural networks
for audio source separation" (2018).

    magnitudes -> a net a band -> joined along the bins -+
        |                                                +-> dense block -> conv -> magnitudes
        +-------> a net for all bins --------------------+

Each source has nets of its own. Bands, growths, layers and units are the published ones. What was left open is our
choice: a recurrent block follows the dense one of its scale and adds one channel to it, and 1×1 convolutions bring the
bands, which end with different widths, to that of the lowest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.stft import STFT
from separate.models.densenet import DenseBlock
from separate.models.recurrent import remember
from separate.models.settings import check_dropout, check_frames, check_post, check_sources
from separate.models.spectral import Used, separate_magnitudes

__all__ = ["MMDenseLSTM", "MMDenseLSTMConfig"]


@dataclass(frozen=True)
class MMDenseLSTMConfig:
    """The published model, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    sample_rate: int = 44100
    n_fft: int = 4096
    hop: int = 1024
    segment: float = 12.45  # seconds of a chunk: so long that at the default overlap they start on the grid
    context: float = 1.5  # of which so many at either end are only surroundings
    bands: tuple[int, ...] = (380, 644, 1025)  # bins: low, to 4.1 kHz; middle, to 11 kHz; high
    first: tuple[int, ...] = (32, 32, 32, 8)  # channels of the first convolutions: low, middle, high, all bins
    growth: tuple[int, ...] = (14, 4, 2, 7)  # of the layers of dense blocks: low, middle, high, all bins
    low: tuple[int, ...] = (5, 5, 5, 5, 5, 5, 5)  # layers of each dense block: down, bottom, up
    low_units: tuple[int, ...] = (0, 0, 0, 128, 0, 128, 0)  # of its recurrent block, both directions together
    middle: tuple[int, ...] = (4, 4, 4, 4, 4, 4, 4)
    middle_units: tuple[int, ...] = (0, 0, 0, 32, 0, 0, 0)
    high: tuple[int, ...] = (1, 1, 1, 1, 1)
    high_units: tuple[int, ...] = (0, 0, 8, 0, 0)
    full: tuple[int, ...] = (3, 3, 4, 5, 5, 5, 4, 3, 3)
    full_units: tuple[int, ...] = (0, 0, 0, 0, 128, 0, 0, 128, 0)
    last: tuple[int, int] = (12, 3)  # growth and layers of the block that joins them
    dropout: float = 0.1
    wiener: int = 1  # EM iterations; 0: ratio masks
    griffin_lim: int = 0  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        check_sources(self.sources)
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
        if len(self.bands) != 3 or sum(self.bands) != self.n_fft // 2 + 1:
            raise ValueError(f"bands must be three that share {self.n_fft // 2 + 1} bins, got {self.bands}")
        if len(self.first) != 4 or len(self.growth) != 4 or min(*self.first, *self.growth, *self.last) < 1:
            raise ValueError(f"first and growth must be four numbers each, got {self.first} and {self.growth}")
        for name, bins in (*zip(("low", "middle", "high"), self.bands, strict=True), ("full", sum(self.bands))):
            layers, units = getattr(self, name), getattr(self, f"{name}_units")
            if len(layers) % 2 == 0 or min(layers) < 1 or bins >> (len(layers) // 2) < 1:
                raise ValueError(f"{name} must be an odd number of blocks that {bins} bins allow, got {layers}")
            if len(units) != len(layers) or min(units) < 0 or any(unit % 2 for unit in units):
                raise ValueError(f"{name}_units must be even, one number for each of {layers}, got {units}")
        check_dropout(self.dropout)
        check_post(self.wiener, self.griffin_lim)


class LSTMBlock(nn.Module):
    """A feature of all bins, followed through time in both directions, and added as one more channel."""

    def __init__(self, inputs: int, bins: int, units: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, 1, 1)
        self.lstm = nn.LSTM(bins, units // 2, bidirectional=True)
        self.linear = nn.Linear(units, bins)

    def forward(self, x: Tensor) -> Tensor:
        """Add the channel: (batch, inputs, bin, frame) -> (batch, inputs + 1, bin, frame)."""
        feature = self.conv(F.relu(self.norm(x)))[:, 0]  # (batch, bin, frame)
        y = self.linear(remember(self.lstm, feature.permute(2, 0, 1)))  # (frame, batch, bin)
        return torch.cat([x, y.permute(1, 2, 0).unsqueeze(1)], 1)


class BandNet(nn.Module):
    """The net of a band: blocks at scales that each have half the bins and frames of the one above."""

    def __init__(
        self, bins: int, first: int, growth: int, layers: tuple[int, ...], units: tuple[int, ...], dropout: float
    ) -> None:
        super().__init__()
        bottom = len(layers) // 2
        self.first = nn.Conv2d(2, first, 3, padding=1)
        self.blocks = nn.ModuleList()
        widths = [first]  # of what goes into each block, but for what stands beside it
        for i, unit in enumerate(units):
            scale = min(i, len(layers) - 1 - i)
            beside = widths[scale + 1] if i > bottom else 0
            block: list[nn.Module] = [DenseBlock(widths[i] + beside, growth, layers[i], dropout)]
            if unit:
                block.append(LSTMBlock(growth, bins >> scale, unit))
            self.blocks.append(nn.Sequential(*block))
            widths.append(growth + bool(unit))
        self.down = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths[1 : bottom + 1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for width in widths[bottom + 1 : -1])
        self.width = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Run all scales: (batch, 2, bin, frame) -> (batch, width, bin, frame)."""
        bottom = len(self.down)
        x = self.first(x)
        scales = []
        for block, down in zip(self.blocks[:bottom], self.down, strict=True):
            x = block(x)
            scales.append(x)
            x = F.max_pool2d(down(x), 2)
        x = self.blocks[bottom](x)
        for up, block in zip(self.up, self.blocks[bottom + 1 :], strict=True):
            beside = scales.pop()
            x = up(x)
            x = F.pad(x, (0, 0, 0, beside.shape[2] - x.shape[2]))  # a bin that pooling left over
            x = block(torch.cat([x, beside], 1))
        return x


class SourceNet(nn.Module):
    """All nets of a source: (batch, 2, bin, frame) -> the same, its magnitudes."""

    def __init__(self, config: MMDenseLSTMConfig) -> None:
        super().__init__()
        self.bands = list(config.bands)
        layers = (config.low, config.middle, config.high, config.full)
        units = (config.low_units, config.middle_units, config.high_units, config.full_units)
        sizes = zip((*config.bands, sum(config.bands)), config.first, config.growth, layers, units, strict=True)
        *parts, self.full = (BandNet(*size, config.dropout) for size in sizes)
        self.parts = nn.ModuleList(parts)
        width = parts[0].width
        self.join = nn.ModuleList(nn.Conv2d(part.width, width, 1) for part in parts)
        growth, count = config.last
        self.last = DenseBlock(width + self.full.width, growth, count, config.dropout)
        self.output = nn.Conv2d(growth, 2, 1)
        self.step = 2 ** (max(map(len, layers)) // 2)

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate magnitudes: (batch, 2, bin, frame) -> the same."""
        frames = mixture.shape[-1]
        x = F.pad(mixture, (0, -frames % self.step))  # so that pooling leaves no frame over
        parts = zip(self.join, self.parts, torch.split(x, self.bands, 2), strict=True)
        joined = torch.cat([join(part(band)) for join, part, band in parts], 2)
        y = self.output(self.last(torch.cat([joined, self.full(x)], 1)))
        return F.relu(y[..., :frames])


class MMDenseLSTM(nn.Module):
    """The whole model, from mixture to stems. Its nets hear two channels: a mono song is heard on both."""

    trims = True

    def __init__(self, config: MMDenseLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = not config.griffin_lim
        self.stft = STFT(config.n_fft, config.hop)
        self.nets = nn.ModuleList(SourceNet(config) for _ in config.sources)
        halvings = max(map(len, (config.low, config.middle, config.high, config.full))) // 2
        self.grid = config.hop * 2**halvings  # samples: on it, chunks see the song's frames at the coarsest scale too

    def forward(self, mix: Tensor, used: Used = None) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time), silent but for what is `used`."""
        return separate_magnitudes(mix, self.stft, self.estimate, self.config.wiener, self.config.griffin_lim, used)

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate every source's magnitudes.

        (batch, channel, bin, frame) -> (batch, source, channel, bin, frame).
        """
        loud = self.config.n_fft / 4  # the magnitude of a sine at full scale: the nets hear it as 1
        heard = mixture.expand(-1, 2, -1, -1) / loud
        y = torch.stack([net(heard) for net in self.nets], 1).to(mixture.dtype) * loud
        return y if mixture.shape[1] == 2 else y.mean(2, keepdim=True)
