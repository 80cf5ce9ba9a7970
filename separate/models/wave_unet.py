"""Wave-U-Net: A Multi-Scale Neural Network for End-to-End Audio Source Separation (Stoller et al., ISMIR 2018).

Twelve levels of convolutions down, each followed by leaving out every second sample; twelve up, each after putting
samples in between by interpolation and joined by what the same level said on the way down.

    down: conv 15 -> every second sample        up: interpolate -> cat [level, skip] -> conv 5

The last convolution sees the mixture once more. With output "difference" it says all sources but the last one, which
is what they leave of the mixture. With padding "valid" nothing is invented at the ends of a convolution: instead the
net hears 65,527 samples on either side of what it says, and a chunk with as much context says what the whole song says.
The paper's models are rows of PRESETS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models.layers import STEREO, in_stereo
from separate.models.settings import check_choices, check_chunk, check_least

__all__ = ["PRESETS", "WaveUNet", "WaveUNetConfig"]


@dataclass(frozen=True)
class WaveUNetConfig:
    """The paper's M6, four sources in stereo, at 44.1 kHz, unless told otherwise."""

    sources: tuple[str, ...] = ("bass", "drums", "other", "vocals")
    sample_rate: int = 44100
    segment: float = 12.0  # seconds of a chunk
    context: float = 1.5  # of which so many at either end are only surroundings: all that the net hears of them
    stereo: bool = True  # both channels at once; False: each on its own
    levels: int = 12
    filters: int = 24  # of the first level; the others have as many times their number
    down_kernel: int = 15
    up_kernel: int = 5
    padding: str = "valid"  # "valid", or "same": zeros at the ends of every convolution
    up: str = "linear"  # interpolation: "linear", or "learned" for each filter
    output: str = "difference"  # "difference": the last source is what the others leave; "direct": a filter says it too

    def __post_init__(self) -> None:
        check_least(self, dict.fromkeys(("sample_rate", "levels", "filters", "down_kernel", "up_kernel"), 1))
        if self.down_kernel % 2 == 0 or self.up_kernel % 2 == 0:
            raise ValueError(f"down_kernel = {self.down_kernel} and up_kernel = {self.up_kernel} must be odd")
        check_choices(self, _CHOICES)
        if len(self.sources) < (2 if self.output == "difference" else 1):
            raise ValueError(f"sources are too few for output = {self.output!r}: {self.sources!r}")
        check_chunk(self.segment, self.context)


_CHOICES = {"padding": ("valid", "same"), "up": ("linear", "learned"), "output": ("difference", "direct")}
_VOICE = {"sources": ("accompaniment", "vocals")}
_LOW = {"sample_rate": 22050, "segment": 24.0, "context": 3.0}

# The paper's models: what each changes of WaveUNetConfig. Two sources, but for M6; 22.05 kHz, but for the high rate.
PRESETS: dict[str, dict[str, Any]] = {
    "m1": _VOICE | _LOW | {"stereo": False, "padding": "same", "output": "direct"},
    "m2": _VOICE | _LOW | {"stereo": False, "padding": "same"},
    "m3": _VOICE | _LOW | {"stereo": False},
    "m4": _VOICE | _LOW,
    "m5": _VOICE | _LOW | {"up": "learned"},
    "m5-high-rate": _VOICE | {"up": "learned"},
    "m6": _LOW,
}


class Up(nn.Module):
    """Put a sample between each two, at the same place in every channel.

    yₜ = s · xₜ + (1 − s) · xₜ₊₁: with linear interpolation s = ½, otherwise each channel learns its own.
    """

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1)) if learned else None  # s = sigmoid(weight) = ½ at first

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, time) -> (batch, channel, 2 · time − 1)."""
        share = 0.5 if self.weight is None else self.weight.sigmoid().to(x.dtype)
        between = torch.lerp(x[..., 1:], x[..., :-1], share)
        return torch.stack([x, F.pad(between, (0, 1))], 3).flatten(2)[..., :-1]


class WaveUNet(nn.Module):
    """The whole model, from mixture to stems."""

    def __init__(self, config: WaveUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = config.output == "difference"
        self.channels = STEREO if config.stereo else 1
        widths = [config.filters * level for level in range(1, config.levels + 2)]
        self.down = nn.ModuleList(
            self.conv(inputs, width, config.down_kernel)
            for inputs, width in zip([self.channels, *widths], widths, strict=False)
        )  # the last one is the bottom: nothing is left out after it
        self.up = nn.ModuleList(Up(width, config.up == "learned") for width in widths[:0:-1])
        self.merge = nn.ModuleList(
            self.conv(below + width, width, config.up_kernel)
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        said = len(config.sources) - (1 if self.sums else 0)
        self.output = nn.Conv1d(widths[0] + self.channels, said * self.channels, 1)

    def conv(self, inputs: int, outputs: int, kernel: int) -> nn.Conv1d:
        """Make a convolution, padded or not."""
        return nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2 if self.config.padding == "same" else 0)

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time).

        A net of stereo hears mono as two equal channels, and the two that come out are averaged; a net of one channel
        hears the channels one by one.
        """
        if self.config.stereo:
            return in_stereo(self.net, mix)
        batch, channels, length = mix.shape
        stems = self.net(mix.reshape(batch * channels, 1, length))  # (batch · channel, source, 1, time)
        return stems.view(batch, channels, len(self.sources), length).transpose(1, 2)

    def net(self, mix: Tensor) -> Tensor:
        """Run the layers: (batch, channel, time) -> (batch, source, channel, time)."""
        length = mix.shape[2]
        before, after = self.surroundings(length)
        mixture = F.pad(mix, (before, after))
        x, saved = mixture, []
        for level, conv in enumerate(self.down):
            x = F.leaky_relu(conv(x), 0.2)  # (batch, width, time)
            if level < self.config.levels:
                saved.append(x)
                x = x[..., ::2]
        for up, conv in zip(self.up, self.merge, strict=True):
            x = up(x)
            x = torch.cat([x, middle(saved.pop(), x.shape[2])], 1)
            x = F.leaky_relu(conv(x), 0.2)
        x = torch.cat([x, middle(mixture, x.shape[2])], 1)
        y = self.output(x).to(mix.dtype).tanh()[..., :length]
        y = y.reshape(len(mix), -1, self.channels, length)  # (batch, source, channel, time)
        y = y * mix.any(-1).any(-1)[:, None, None, None]  # the net says something of digital silence
        return torch.cat([y, mix.unsqueeze(1) - y.sum(1, keepdim=True)], 1) if self.sums else y

    def surroundings(self, length: int) -> tuple[int, int]:
        """Count the zeros before and after a mixture, so that the net says `length` samples or a few more of it.

        Those before do not depend on the length: chunks that start at multiples of 2^levels see the same samples left
        out that the whole song sees. With padding "same" there are only some after, so that every second sample and
        those between two make up an odd number on every level, as they do with "valid".
        """
        valid = self.config.padding == "valid"
        up, down = (self.config.up_kernel - 1, self.config.down_kernel - 1) if valid else (0, 0)
        before, needed = 0, length
        for level in range(self.config.levels):
            before += up // 2 << level
            needed = (needed + up) // 2 + 1  # so many between which there are enough
        needed += down
        before += down // 2 << self.config.levels
        for level in reversed(range(self.config.levels)):
            before += down // 2 << level
            needed = 2 * needed - 1 + down
        return before, needed - before - length


def middle(x: Tensor, length: int) -> Tensor:
    """Cut off as much before as after: (..., time) -> (..., length)."""
    return x.narrow(-1, (x.shape[-1] - length) // 2, length)
