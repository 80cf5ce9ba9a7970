"""U-Nets with channel-wise subbands: the UNet-5 and UNet-6 of Liu, Xie, Wu and Yang (2020).

    x -> block -> halve, block -> ... -> double, block with the same scale's output beside -> ... -> conv

Each scale has half the bins and frames of the one above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models.layers import normed
from separate.models.settings import check_dropout
from separate.models.subband import Subband, SubbandConfig

__all__ = ["PRESETS", "UNet", "UNetConfig", "UNetModel"]


@dataclass(frozen=True)
class UNetConfig(SubbandConfig):
    """The paper's UNet-5 with 8 subbands, unless told otherwise."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels, one number a scale
    dropout: float = 0.1  # of whole channels, after every scale on the way up

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths must be two scales or more, of at least 1 channel, got {self.widths}")
        check_dropout(self.dropout)
        if (bins := self.n_fft // self.bands // 2 + 1) < 2 ** (len(self.widths) - 1):
            raise ValueError(f"{len(self.widths)} scales need more than the {bins} bins there are")


_6 = {"widths": (64, 128, 256, 512, 1024, 1024)}

# The rows of the paper's Table 2: what each changes of UNetConfig.
PRESETS: dict[str, dict[str, Any]] = {
    "unet-5-k1": {"bands": 1, "segment": 6.9},
    "unet-5-k2": {"bands": 2},
    "unet-5-k4": {"bands": 4},
    "unet-5-k8": {"bands": 8},
    "unet-6-k1": {**_6, "bands": 1, "segment": 6.9},
    "unet-6-k2": {**_6, "bands": 2},
    "unet-6-k4": {**_6, "bands": 4},
    "unet-6-k8": {**_6, "bands": 8},
}


class Convs(nn.Sequential):
    """Two convolutions that keep the size, each with normalisation and ReLU.

    For inference the normalisation is part of the convolution.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, input: Tensor) -> Tensor:
        """(batch, inputs, bin, frame) -> (batch, outputs, bin, frame)."""
        if self.training or torch.is_grad_enabled():
            return super().forward(input)  # type: ignore[no-any-return, no-untyped-call]
        for i in (0, 3):
            conv, norm = self[i], self[i + 1]
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            input = normed(conv, norm, input).relu_()
        return input


class UNet(nn.Module):
    """The net of one source: (batch, channel, bin, frame) -> the same."""

    def __init__(self, channels: int, widths: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.first = Convs(channels, widths[0])
        self.down = nn.ModuleList(Convs(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList()
        width = widths[-1]
        for i in reversed(range(len(widths) - 1)):
            self.up.append(Convs(widths[i] + width, widths[max(i - 1, 0)]))
            width = widths[max(i - 1, 0)]
        self.dropout = nn.Dropout2d(dropout)
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Estimate masks before the sigmoid: (batch, channel, bin, frame) -> the same."""
        frames = x.shape[-1]
        x = self.first(F.pad(x, (0, -frames % 2 ** len(self.down))))
        scales = [x]
        for convs in self.down:
            x = convs(F.max_pool2d(x, 2))
            scales.append(x)
        scales.pop()
        for convs in self.up:
            skip = scales.pop()
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = F.pad(x, (0, 0, 0, skip.shape[2] - x.shape[2]))  # a bin that pooling left over
            x = self.dropout(convs(torch.cat([skip, x], 1)))
        out: Tensor = self.last(x)
        return out[..., :frames]


class UNetModel(Subband):
    """The whole model, from mixture to stems."""

    def __init__(self, config: UNetConfig) -> None:
        nets = (UNet(4 * config.bands, config.widths, config.dropout) for _ in config.sources)
        super().__init__(config, nets, len(config.widths) - 1)
