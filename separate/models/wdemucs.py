"""Demucs on waveforms alone, as of version 3 (Défossez, 2021): the half of a winning bag that sees no spectrogram.

Samples at twice the rate; six layers down, each a quarter of the length at twice the channels, with residual branches;
six layers up, each with a skip from the layer that it mirrors; and half the rate again.

    encoder: conv 8, stride 4 -> norm -> GELU -> DConv -> conv 1 -> norm -> GLU
    decoder: + skip -> conv 3 -> norm -> GLU -> DConv -> transposed conv 8, stride 4 -> norm -> GELU

No strided convolution is padded. Instead it hears more than it separates: so much that no layer leaves a sample over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models.dconv import HEADS, LSTM, DConv, TimeConv, TimeTransposed, channels_last, check_width, rescale_
from separate.models.hdemucs import one_by_one
from separate.models.layers import STEREO
from separate.models.settings import check_choices, check_chunk, check_least, check_sources

__all__ = ["PRESETS", "WDemucs", "WDemucsConfig"]

ZEROS = 24  # of the sinc on either side, in the resampling filter
ROLLOFF = 0.945  # where it cuts off, of the highest frequency there is


@dataclass(frozen=True)
class WDemucsConfig:
    """The published model, unless told otherwise."""

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    sample_rate: int = 44100
    segment: float = 44.0  # seconds of a chunk
    context: float = 0.0  # of which so many at either end are only surroundings
    resample: bool = True  # the net hears twice the rate
    normalize: bool = True  # and every chunk at the same level
    channels: int = 64  # of the first layer
    growth: float = 2.0  # channels of a layer per channel of the one before
    depth: int = 6
    kernel: int = 8
    stride: int = 4
    rewrite: bool = True  # the convolutions before the GLUs
    decoder_kernel: int = 3  # theirs in the decoder
    gelu: bool = True  # after strided convolutions; else ReLU
    glu: bool = True  # after the others; else ReLU
    lstm_layers: int = 0  # between the ways down and up
    norm_starts: int = 4  # the first layer with norms
    norm_groups: int = 4
    dconv: str = "encoder"  # where residual branches are: "encoder", "decoder", "both" or "none"
    dconv_depth: int = 2  # branches of a layer
    dconv_compress: float = 4.0  # by which a branch is narrower
    dconv_attention: int = 4  # the first layer whose branches have it
    dconv_lstm: int = 4
    dconv_init: float = 1e-4
    rescale: float = 0.1  # convolutions start with a deviation closer to this; 0: as torch draws them

    def __post_init__(self) -> None:
        check_least(self, _LEAST)
        check_sources(self.sources)
        check_choices(self, _CHOICES)
        if self.kernel < self.stride or self.decoder_kernel % 2 == 0:
            raise ValueError(
                f"kernel = {self.kernel} must be at least stride = {self.stride}, "
                f"and decoder_kernel = {self.decoder_kernel} odd"
            )
        check_chunk(self.segment, self.context)
        width = self.channels
        for i in range(self.depth):
            groups, heads = self.norm_groups * (i >= self.norm_starts), HEADS * (i >= self.dconv_attention)
            check_width(width, groups, 0 if self.dconv == "none" else self.dconv_compress, heads)
            width = int(self.growth * width)


_LEAST: dict[str, float] = dict.fromkeys(("sample_rate", "channels", "growth", "depth", "stride", "decoder_kernel"), 1)
_LEAST |= dict.fromkeys(("norm_starts", "dconv_depth", "dconv_attention", "dconv_lstm", "lstm_layers", "rescale"), 0)
_LEAST |= {"kernel": 1, "norm_groups": 1, "dconv_compress": 1, "dconv_init": 0, "context": 0}
_CHOICES = {"dconv": ("encoder", "decoder", "both", "none")}

PRESETS: dict[str, dict[str, Any]] = {"wdemucs": {}}  # 133,753,064 parameters


class Resampler(nn.Module):
    """Twice the rate, or half of it, by a sinc in a window of cosine squared; edges are held.

    h[n] = sinc(r n / d) cos²(π r n / (2 d Z)) over |r n / d| < Z, divided by its sum; r the rolloff, Z its zeros.
    """

    kernel: Tensor

    def __init__(self, new: int, old: int) -> None:
        super().__init__()
        self.old = old
        self.reach = math.ceil(ZEROS * old / ROLLOFF)
        n = torch.arange(-self.reach, self.reach + old) / old
        t = ((n - torch.arange(new).unsqueeze(1) / new) * ROLLOFF).clamp(-ZEROS, ZEROS)
        kernel = t.sinc() * (math.pi * t / (2 * ZEROS)).cos().square()
        self.register_buffer("kernel", (kernel / kernel.sum(1, keepdim=True)).unsqueeze(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, time) -> (batch, channel, time · new / old)."""
        length = x.shape[2] * len(self.kernel) // self.old
        with torch.autocast(x.device.type, enabled=False):  # samples, not features
            padded = F.pad(x, (self.reach, self.reach + self.old), "replicate").flatten(0, 1).unsqueeze(1)
            y = F.conv1d(padded, self.kernel.to(x.dtype), stride=self.old)  # (batch · channel, new, time)
        return torch.unflatten(y.mT.flatten(1), 0, x.shape[:2])[..., :length]


class WDemucs(nn.Module):
    """The whole model, from mixture to stems."""

    grid = 1  # chunks start anywhere, as its authors cut songs
    overlap = 0.25  # and so much of one is in the next

    def __init__(self, config: WDemucsConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = False
        self.around = self.heard(1)  # it hears at most so many samples more than it separates
        self.up: nn.Module = Resampler(2, 1) if config.resample else nn.Identity()
        self.down: nn.Module = Resampler(1, 2) if config.resample else nn.Identity()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs, width = STEREO, config.channels
        for i in range(config.depth):
            self.encoder.append(encoder_layer(config, i, inputs, width))
            self.decoder.insert(0, decoder_layer(config, i, width, inputs if i else len(config.sources) * STEREO))
            inputs, width = width, int(config.growth * width)
        self.lstm = LSTM(inputs, config.lstm_layers) if config.lstm_layers else nn.Identity()
        if config.rescale:
            rescale_(self, config.rescale)

    def forward(self, mix: Tensor, around: int = 0) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time).

        `around` samples at either end are surroundings, of which it hears as many as it likes and separates none. Mono
        is heard as two equal channels, and the two that come out are averaged.
        """
        length = mix.shape[2] - 2 * around
        missing = self.heard(length) - length
        before = missing // 2
        if around:
            mix = F.pad(mix, (before - around, missing - before - around))
        stems = one_by_one(self.separated, mix)
        return stems[..., before : before + length] if around else stems

    def separated(self, mix: Tensor) -> Tensor:
        """Separate at the net's own level: (batch, 2, time) -> (batch, source, 2, time)."""
        mean, std = torch.zeros(1, device=mix.device), torch.ones(1, device=mix.device)
        x = mix
        if self.config.normalize:
            mono = mix.mean(1, keepdim=True)
            mean = mono.mean(2, keepdim=True)  # (batch, 1, 1)
            std = mono.std(2, correction=min(1, mono.shape[2] - 1), keepdim=True)  # 0 in silence, and of one sample
            x = (x - mean) / (std + 1e-5)
        length = mix.shape[2]
        missing = self.heard(length) - length
        x = self.up(F.pad(x, (missing // 2, missing - missing // 2)))
        x = self.down(self.net(channels_last(x)).squeeze(2).to(mix.dtype).contiguous())
        return torch.unflatten(trimmed(x, length) * std + mean, 1, (len(self.sources), STEREO))

    def net(self, x: Tensor) -> Tensor:
        """Run the layers: (batch, 2, 1, time) -> (batch, source · 2, 1, time)."""
        saved = []
        for encode in self.encoder:
            x = encode(x)
            saved.append(x)
        x = self.lstm(x)
        for decode in self.decoder:
            x = decode(x + trimmed(saved.pop(), x.shape[3]))
        return x

    def heard(self, length: int) -> int:
        """Say how many samples it hears to separate `length` of them: no layer leaves any over."""
        kernel, stride, rate = self.config.kernel, self.config.stride, 1 + self.config.resample
        length *= rate
        for _ in range(self.config.depth):
            length = max(1, -(-(length - kernel) // stride) + 1)
        for _ in range(self.config.depth):
            length = (length - 1) * stride + kernel
        return -(-length // rate)


def encoder_layer(config: WDemucsConfig, index: int, inputs: int, width: int) -> nn.Sequential:
    """One layer down: (batch, inputs, 1, time) -> (batch, width, 1, time / stride)."""
    layers = [TimeConv(inputs, width, config.kernel, config.stride), norm(config, index, width), rectifier(config)]
    if config.dconv in ("encoder", "both"):
        layers.append(branches(config, index, width))
    if config.rewrite:
        layers += gated(config, index, width, 1)
    return nn.Sequential(*layers)


def decoder_layer(config: WDemucsConfig, index: int, width: int, outputs: int) -> nn.Sequential:
    """One layer up: (batch, width, 1, time) -> (batch, outputs, 1, time · stride)."""
    layers = gated(config, index, width, config.decoder_kernel) if config.rewrite else []
    if config.dconv in ("decoder", "both"):
        layers.append(branches(config, index, width))
    layers.append(TimeTransposed(width, outputs, config.kernel, config.stride))
    if index > 0:
        layers += [norm(config, index, outputs), rectifier(config)]
    return nn.Sequential(*layers)


def gated(config: WDemucsConfig, index: int, width: int, kernel: int) -> list[nn.Module]:
    """Make a convolution that keeps the width, and what comes after it."""
    wide = 2 * width if config.glu else width
    conv = TimeConv(width, wide, kernel, padding=kernel // 2)
    return [conv, norm(config, index, wide), nn.GLU(1) if config.glu else nn.ReLU()]


def norm(config: WDemucsConfig, index: int, width: int) -> nn.Module:
    """Make the norm that deep layers have."""
    return nn.GroupNorm(config.norm_groups, width) if index >= config.norm_starts else nn.Identity()


def rectifier(config: WDemucsConfig) -> nn.Module:
    """Make what comes after a strided convolution."""
    return nn.GELU() if config.gelu else nn.ReLU()


def branches(config: WDemucsConfig, index: int, width: int) -> nn.Module:
    """Make the residual branches of a layer."""
    lstm, attention = index >= config.dconv_lstm, index >= config.dconv_attention
    return DConv(width, config.dconv_depth, config.dconv_compress, config.dconv_init, lstm, attention)


def trimmed(x: Tensor, length: int) -> Tensor:
    """Keep the middle: (..., time) -> (..., length)."""
    return x.narrow(-1, (x.shape[-1] - length) // 2, length)
