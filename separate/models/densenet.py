"""MDenseNet and MMDenseNet with channel-wise subbands, as in Liu, Xie, Wu and Yang (2020).

    x -> conv -> block -> halve, block -> ... -> double, block with the same scale's output beside -> ... -> block, conv

A block is densely connected: each of its layers sees all that came before it. An MMDenseNet (Takahashi and Mitsufuji,
2017) has a net for the lower half of the bins, one for the upper half and one for all of them, side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models.settings import check_dropout
from separate.models.subband import Subband, SubbandConfig

__all__ = ["PRESETS", "MDenseNet", "MDenseNetConfig", "MDenseNetModel"]
__all__ += ["MMDenseNet", "MMDenseNetConfig", "MMDenseNetModel"]


@dataclass(frozen=True)
class MDenseNetConfig(SubbandConfig):
    """The paper's MDenseNet with 8 subbands, unless told otherwise."""

    first: int = 32  # channels of the first convolution
    growth: tuple[int, ...] = (14, 16, 16, 16, 16, 16, 16, 16, 16)  # of each block's layers: down, bottom, up
    layers: int = 4  # of a block
    last: tuple[int, int] = (32, 2)  # growth and layers of the block before the masks
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_blocks(self, self.growth, (self.layers,), self.n_fft // self.bands // 2 + 1)


@dataclass(frozen=True)
class MMDenseNetConfig(SubbandConfig):
    """The paper's MMDenseNet, which has no subbands but nets of their own for both halves of the spectrum."""

    bands: int = 1
    segment: float = 6.9
    first: int = 32
    low: tuple[int, ...] = (14, 16, 16, 16, 16, 16, 16)  # growth, as above
    high: tuple[int, ...] = (10, 10, 10, 10, 10, 10, 16)
    full: tuple[int, ...] = (6, 6, 6, 6, 6, 6, 6)
    layers: tuple[int, int, int] = (4, 3, 2)  # of a block: low, high, full
    last: tuple[int, int] = (32, 2)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for growth in (self.low, self.high, self.full):
            check_blocks(self, growth, self.layers, (self.n_fft // self.bands // 2 + 1) // 2)
        if self.low[-1] != self.high[-1]:
            raise ValueError(f"low and high are joined: their last growth must be one, got {self.low} and {self.high}")
        if len(self.layers) != 3:
            raise ValueError(f"layers must be three numbers: of low, high and full, got {self.layers}")


def check_blocks(
    config: MDenseNetConfig | MMDenseNetConfig, growth: tuple[int, ...], layers: tuple[int, ...], bins: int
) -> None:
    """Refuse what makes no net for so many bins."""
    if len(growth) % 2 == 0 or min(growth) < 1:
        raise ValueError(f"growth must be an odd number of blocks, at least 1 in each, got {growth}")
    if min(config.first, *layers, *config.last) < 1 or len(config.last) != 2:
        raise ValueError(f"first, layers and last must be at least 1, got {config.first}, {layers} and {config.last}")
    if (bins - 3) >> (len(growth) // 2) < 1:
        raise ValueError(f"growth = {growth} halves too often: there are {bins} bins")
    check_dropout(config.dropout)


# The rows of the paper's Table 2: what each changes of MDenseNetConfig. Its MMDenseNet is MMDenseNetConfig as it is.
PRESETS: dict[str, dict[str, Any]] = {
    "mdensenet-k1": {"bands": 1, "segment": 6.9},
    "mdensenet-k2": {"bands": 2},
    "mdensenet-k4": {"bands": 4},
    "mdensenet-k8": {"bands": 8},
}


class DenseLayer(nn.Module):
    """Normalisation, ReLU, a convolution that keeps the size, and dropout."""

    def __init__(self, inputs: int, growth: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer: (batch, inputs, bin, frame) -> (batch, growth, bin, frame)."""
        y: Tensor = self.dropout(self.conv(F.relu(self.norm(x), inplace=True)))
        return y


class DenseBlock(nn.Module):
    """Layers that see the block's input and all layers before them; the output is the last layer's alone."""

    def __init__(self, inputs: int, growth: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + i * growth, growth, dropout) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers: (batch, inputs, bin, frame) -> (batch, growth, bin, frame)."""
        first, *others = self.layers
        y: Tensor = first(x)
        for layer in others:
            x = torch.cat([x, y], 1)
            y = layer(x)
        return y


class DenseUNet(nn.Module):
    """Dense blocks at scales that each have half the bins and frames of the one above."""

    def __init__(
        self, inputs: int, first: int, kernel: tuple[int, int], growth: tuple[int, ...], layers: int, dropout: float
    ) -> None:
        super().__init__()
        bottom = len(growth) // 2
        self.first = nn.Conv2d(inputs, first, kernel)  # not padded
        self.down = nn.ModuleList(nn.Conv2d(width, width, 1) for width in growth[:bottom])
        self.up = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for width in growth[bottom:-1])
        skips = (0,) * (bottom + 1) + growth[:bottom][::-1]
        widths = [before + skip for before, skip in zip((first, *growth), skips, strict=False)]
        self.blocks = nn.ModuleList(DenseBlock(w, g, layers, dropout) for w, g in zip(widths, growth, strict=True))

    def forward(self, x: Tensor) -> Tensor:
        """Run all scales: (batch, inputs, bin, frame) -> (batch, growth of the last block, bin, frame)."""
        frames, bottom = x.shape[-1], len(self.down)
        # A frame left over by halving would shift all frames of that scale, and what a chunk says would depend on how
        # long it is: fill up.
        margin = self.first.kernel_size[1] - 1
        scale = 2**bottom
        x = F.pad(x, (0, margin + max(1, -(-(frames - margin) // scale)) * scale - frames))
        size = x.shape
        x = self.first(x)
        skips = []
        for block, down in zip(self.blocks[:bottom], self.down, strict=True):
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(down(x), 2)
        x = self.blocks[bottom](x)
        for up, block in zip(self.up, self.blocks[bottom + 1 :], strict=True):
            skip = skips.pop()
            x = block(torch.cat([fit(up(x), skip.shape), skip], 1))
        return fit(x, size)[..., :frames]


def fit(x: Tensor, size: torch.Size) -> Tensor:
    """Repeat the lowest bin and the first frame until there are as many as in `size`, as the paper's nets do."""
    return F.pad(x, (size[3] - x.shape[3], 0, size[2] - x.shape[2], 0), mode="replicate")


class MDenseNet(nn.Module):
    """The net of one source: (batch, channel, bin, frame) -> the same, masks before the sigmoid."""

    def __init__(self, config: MDenseNetConfig) -> None:
        super().__init__()
        channels = 4 * config.bands
        self.net = DenseUNet(channels, config.first, (3, 3), config.growth, config.layers, config.dropout)
        self.last = last(config.growth[-1], config.last, channels, config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Estimate masks: (batch, channel, bin, frame) -> the same."""
        y: Tensor = self.last(self.net(x))
        return y


class MMDenseNet(nn.Module):
    """The net of one source, made of three: (batch, channel, bin, frame) -> the same, masks before the sigmoid."""

    def __init__(self, config: MMDenseNetConfig) -> None:
        super().__init__()
        channels, first, dropout = 4 * config.bands, config.first, config.dropout
        low, high, full = config.layers
        self.low = DenseUNet(channels, first, (4, 3), config.low, low, dropout)
        self.high = DenseUNet(channels, first, (3, 3), config.high, high, dropout)
        self.full = DenseUNet(channels, first, (4, 3), config.full, full, dropout)
        self.last = last(config.low[-1] + config.full[-1], config.last, channels, dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Estimate masks: (batch, channel, bin, frame) -> the same."""
        half = x.shape[2] // 2
        halves = torch.cat([self.low(x[:, :, :half]), self.high(x[:, :, half:])], 2)
        y: Tensor = self.last(torch.cat([halves, self.full(x)], 1))
        return y


def last(inputs: int, block: tuple[int, int], channels: int, dropout: float) -> nn.Sequential:
    """Make what turns features into masks."""
    growth, layers = block
    return nn.Sequential(DenseBlock(inputs, growth, layers, dropout), nn.Conv2d(growth, channels, 1))


class MDenseNetModel(Subband):
    """The whole model, from mixture to stems."""

    def __init__(self, config: MDenseNetConfig) -> None:
        super().__init__(config, (MDenseNet(config) for _ in config.sources), len(config.growth) // 2)


class MMDenseNetModel(Subband):
    """The whole model, from mixture to stems."""

    def __init__(self, config: MMDenseNetConfig) -> None:
        halvings = max(len(config.low), len(config.high), len(config.full)) // 2
        super().__init__(config, (MMDenseNet(config) for _ in config.sources), halvings)
