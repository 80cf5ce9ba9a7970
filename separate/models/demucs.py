"""Music Source Separation in the Waveform Domain (Demucs, Défossez et al., 2019: version 1).

Six layers down, each a quarter of the length at twice the channels; a bidirectional LSTM; six layers up, each with a
skip from the layer that it mirrors. No spectrogram anywhere: samples in, samples of all sources out.

    encoder: conv 8, stride 4 -> ReLU -> conv 1 -> GLU
    decoder: + skip -> conv 3 -> GLU -> transposed conv 8, stride 4 -> ReLU

No convolution is padded. Instead the mixture is, to a length of which no layer leaves a sample over: in front always by
the same, so that frames lie on one grid whatever the length. Every variant of the paper's Table 2 is a row of
ABLATIONS. Inside, everything is (batch, channel, 1, time) with the channels next to each other in memory, where a
convolution is a matrix product without copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from separate.models.dconv import TimeConv, TimeTransposed, channels_last, rescale_
from separate.models.layers import STEREO, in_stereo
from separate.models.recurrent import remember
from separate.models.settings import check_choices, check_chunk, check_least, check_sources

__all__ = ["ABLATIONS", "PRESETS", "Demucs", "DemucsConfig"]


@dataclass(frozen=True)
class DemucsConfig:
    """The paper's model of 64 channels, unless told otherwise."""

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    sample_rate: int = 44100
    segment: float = 16.0  # seconds of a chunk; the paper trains on 10 s
    context: float = 0.5  # of which so many at either end are only surroundings
    channels: int = 64  # of the first layer
    growth: float = 2.0  # channels of a layer per channel of the one before
    depth: int = 6
    kernel: int = 8
    stride: int = 4
    rewrite: bool = True  # a convolution of kernel 1 in the encoder
    decoder_kernel: int = 3  # of the convolution that comes first in the decoder
    activation: str = "glu"  # after these two: "glu" or "relu"
    up: str = "transposed"  # the way up: "transposed" convolutions, or "linear" interpolation and convolutions
    lstm_layers: int = 2
    rescale: float = 0.1  # convolutions start with a deviation closer to this; 0: as torch draws them
    normalize: bool = True  # the net hears every chunk at the same level

    def __post_init__(self) -> None:
        check_least(self, _LEAST)
        check_sources(self.sources)
        if self.kernel < self.stride:
            raise ValueError(f"a kernel of {self.kernel} leaves samples out at a stride of {self.stride}")
        check_choices(self, _CHOICES)
        check_chunk(self.segment, self.context)


_LEAST = {"channels": 2, "growth": 1, "lstm_layers": 0, "rescale": 0}
_LEAST |= dict.fromkeys(("sample_rate", "depth", "stride", "decoder_kernel"), 1)
_CHOICES = {"activation": ("glu", "relu"), "up": ("transposed", "linear")}

# The models that the authors released.
PRESETS: dict[str, dict[str, Any]] = {
    "demucs": {},  # 265,679,496 parameters
    "demucs-100": {"channels": 100},  # 648,548,208
}

# The paper's Table 2: what each row changes of DemucsConfig. Its "MSE loss" changes the training, not the model.
ABLATIONS: dict[str, dict[str, Any]] = {
    "reference": {},
    "upsample-convolution": {"up": "linear"},
    "relu": {"activation": "relu"},
    "depth-12": {"depth": 12, "kernel": 4, "stride": 2, "growth": 2**0.5},
    "no-lstm": {"lstm_layers": 0},
    "no-rescaling": {"rescale": 0.0},
    "no-encoder-convolution": {"rewrite": False},
    "decoder-kernel-1": {"decoder_kernel": 1},
}


class BLSTM(nn.Module):
    """A bidirectional LSTM, and a linear layer back to the width of its input."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, bidirectional=True)
        self.linear = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, 1, time) -> (batch, width, 1, time)."""
        x = x.squeeze(2).permute(2, 0, 1)  # (time, batch, width)
        return channels_last(self.linear(remember(self.lstm, x)).permute(1, 2, 0))


class Demucs(nn.Module):
    """The whole model, from mixture to stems."""

    def __init__(self, config: DemucsConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.batch = 8  # the LSTM reads its 134 million weights for every step, and more chunks share them
        self.sums = False
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inputs, width = STEREO, config.channels
        for i in range(config.depth):
            outputs = inputs if i else len(config.sources) * STEREO
            self.encoder.append(encoder_layer(config, inputs, width))
            self.decoder.insert(0, decoder_layer(config, width, outputs, last=i == 0))
            inputs, width = width, int(config.growth * width)
        self.lstm = BLSTM(inputs, config.lstm_layers) if config.lstm_layers else nn.Identity()
        if config.rescale:
            rescale_(self, config.rescale)

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time).

        Mono is heard as two equal channels, and the two that come out are averaged.
        """
        return in_stereo(self.separated, mix)

    def separated(self, mix: Tensor) -> Tensor:
        """Separate at the net's own level: (batch, 2, time) -> (batch, source, 2, time)."""
        if not self.config.normalize:
            return self.net(mix)
        mono = mix.mean(1, keepdim=True)  # (batch, 1, time)
        mean = mono.mean(2, keepdim=True)
        std = mono.std(2, correction=min(1, mono.shape[2] - 1), keepdim=True)  # 0 in silence, and of one sample
        return self.net((mix - mean) / (std + 1e-5)) * std.unsqueeze(1) + mean.unsqueeze(1)

    def net(self, mix: Tensor) -> Tensor:
        """Run the layers: (batch, 2, time) -> (batch, source, 2, time)."""
        length = mix.shape[2]
        missing = self.valid_length(length) - length
        x = channels_last(F.pad(mix, (self.before, missing - self.before)))
        linear = self.config.up == "linear"
        saved = []
        for encode in self.encoder:
            x = encode(x)  # (batch, width, 1, time)
            saved.append(x)
            if linear:
                x = x[..., :: self.config.stride]
        x = self.lstm(x)
        for decode in self.decoder:
            if linear:
                size = (1, (x.shape[3] - 1) * self.config.stride + 1)
                x = F.interpolate(x, size, mode="bilinear", align_corners=True)
            x = decode(x + trimmed(saved.pop(), x.shape[3]))
        stems: Tensor = x[..., :length].to(mix.dtype).reshape(len(x), len(self.sources), STEREO, length)
        return stems

    def valid_length(self, length: int) -> int:
        """Find the length of an input that no layer leaves a sample of, and whose output has at least `length`.

        Down the encoder a kernel steps by its stride from one end to the other; the first convolution of every layer of
        the decoder takes the ends off again.
        """
        kernel, stride, ends = self.config.kernel, self.config.stride, self.config.decoder_kernel - 1
        for _ in range(self.config.depth):
            if self.config.up == "linear":
                length = 1 + math.ceil((length - 1 + kernel - 1 + ends) / stride)
            else:
                length = max(1, 1 + math.ceil((length - kernel) / stride)) + ends
        for _ in range(self.config.depth):
            length = (length - 1) * stride + kernel
        return length

    @cached_property
    def before(self) -> int:
        """How much shorter an output is at either end than an input of a valid length."""
        kernel, stride, ends = self.config.kernel, self.config.stride, self.config.decoder_kernel - 1
        length = valid = self.valid_length(1)
        for _ in range(self.config.depth):
            length = (length - kernel) // stride + 1
        for _ in range(self.config.depth):
            if self.config.up == "linear":
                length = (length - 1) * stride + 1 - ends - (kernel - 1)
            else:
                length = (length - ends - 1) * stride + kernel
        return (valid - length) // 2


def encoder_layer(config: DemucsConfig, inputs: int, width: int) -> nn.Sequential:
    """One layer down: (batch, inputs, 1, time) -> (batch, width, 1, time / stride)."""
    stride = config.stride if config.up == "transposed" else 1
    layers: list[nn.Module] = [TimeConv(inputs, width, config.kernel, stride), nn.ReLU(inplace=True)]
    if config.rewrite:
        layers += gated(config, width, 1)
    return nn.Sequential(*layers)


def decoder_layer(config: DemucsConfig, width: int, outputs: int, last: bool) -> nn.Sequential:
    """One layer up: (batch, width, 1, time) -> (batch, outputs, 1, time · stride)."""
    layers = gated(config, width, config.decoder_kernel)
    if config.up == "transposed":
        layers.append(TimeTransposed(width, outputs, config.kernel, config.stride))
    else:
        layers.append(TimeConv(width, outputs, config.kernel))
    return nn.Sequential(*layers, *([] if last else [nn.ReLU(inplace=True)]))


def gated(config: DemucsConfig, width: int, kernel: int) -> list[nn.Module]:
    """Make a convolution that keeps the width, and its activation."""
    if config.activation == "glu":
        return [TimeConv(width, 2 * width, kernel), nn.GLU(1)]
    return [TimeConv(width, width, kernel), nn.ReLU(inplace=True)]


def trimmed(x: Tensor, length: int) -> Tensor:
    """Keep the middle: (..., time) -> (..., length)."""
    return x.narrow(-1, (x.shape[-1] - length) // 2, length)
