"""Dilated Convolution with Dilated GRU for Music Source Separation (Liu and Yang, IJCAI 2019).

A stack of blocks that keep time at full resolution. In each, a dilated bidirectional GRU mixes all channels and reaches
far in time; a dilated grouped convolution refines its output; input, GRU and convolution are summed.

    magnitudes -> log(1 + m) -> conv -> block 1 -> block 2 -> block 3 -> conv -> magnitudes of all sources

The net sees one audio channel at a time, and with `sides` also what that channel does not share with the others.
Every variant of the paper's Tables 2 and 4 to 7 is a row of ABLATIONS. Inside, everything is (time, batch, width):
there, folding time for a dilated GRU is a view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.parallel import side_by_side
from separate.dsp.stft import STFT
from separate.models.layers import Bands
from separate.models.recurrent import recur
from separate.models.spectral import check_post, stems_from

__all__ = ["ABLATIONS", "D2GRU", "D2GRUConfig", "DilatedGRU"]

FEW = 8  # songs that the last layer answers for at once: all sources at full size are the peak of the memory
WIDE = 1024  # channels: from here on the weights of a GRU do not fit a processor's cache


@dataclass(frozen=True)
class D2GRUConfig:
    """The paper's model, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    sample_rate: int = 44100
    n_fft: int = 4096
    hop: int = 1024
    segment: float = 12.0  # seconds of a chunk
    context: float = 1.0  # of which so many at either end are only surroundings
    bins: int = 0  # the net hears bins below this one; 0: all
    bands: int = 0  # and these averaged to so many bands, which its masks have too; 0: no averaging
    sides: bool = False  # it hears, beside every channel, how far that is from the mean of all channels
    width: int = 2048
    layers: tuple[str, str] = ("gru", "conv")  # of a block: "gru", "conv", "pointwise" or "none"
    skip: str = "d2"  # "d2", "dense", "residual" or "none": see Block
    gru_dilation: tuple[int, ...] = (1, 1, 1)  # one number a block
    conv_dilation: tuple[int, ...] = (2, 4, 8)
    groups: int = 32
    merge: str = "sum"  # how the two directions of a GRU meet: "sum" at full width each, "concat" at half
    output: str = "log"  # "log": the net says log(1 + magnitude); "mask": it says a share of the mixture's magnitude
    active: int = -1  # run only the first so many blocks of a trained model; -1: all
    wiener: int = 1  # EM iterations; 0: ratio masks
    griffin_lim: int = 0  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        self._check_sizes()
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.width % self.groups or (self.merge == "concat" and self.width % 2):
            raise ValueError(f"a width of {self.width} does not split into {self.groups} groups and two directions")
        if len(self.layers) != 2 or not set(self.layers) <= {"gru", "conv", "pointwise", "none"}:
            raise ValueError(f"layers must be two of gru, conv, pointwise and none, got {self.layers!r}")
        if self.bands and self.output == "log":
            raise ValueError('bands need output = "mask": magnitudes cannot be interpolated from them')
        if not 0 <= 2 * self.context < self.segment:
            raise ValueError(f"a context of {self.context} s at either end fills a segment of {self.segment} s")
        check_post(self.wiener, self.griffin_lim)

    def _check_sizes(self) -> None:
        for name in ("width", "groups", "sample_rate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.sources:
            raise ValueError("sources must name at least one, got none")
        if self.n_fft < 4 or self.n_fft % 2 or not 1 <= self.hop <= self.n_fft // 4:
            raise ValueError(f"n_fft = {self.n_fft} must be even, and hop = {self.hop} from 1 to a quarter of it")
        for name in ("gru_dilation", "conv_dilation"):
            if any(dilation < 1 for dilation in getattr(self, name)):
                raise ValueError(f"{name} must be at least 1 in every block, got {getattr(self, name)}")
        blocks = len(self.gru_dilation)
        if blocks != len(self.conv_dilation):
            raise ValueError(f"gru_dilation has {blocks} blocks, conv_dilation {len(self.conv_dilation)}")
        if not -1 <= self.active <= blocks:
            raise ValueError(
                f"active must be from 0 to the {blocks} blocks there are, or -1 for all, got {self.active}"
            )
        if not 0 <= self.bins <= self.n_fft // 2 + 1 or self.bands < 0 or self.bands == 1:
            raise ValueError(f"bins = {self.bins} and bands = {self.bands} must fit {self.n_fft // 2 + 1} bins")


_CHOICES = {
    "skip": ("d2", "dense", "residual", "none"),
    "merge": ("sum", "concat"),
    "output": ("log", "mask"),
}

# The paper's variants: what each changes of D2GRUConfig.
ABLATIONS: dict[str, dict[str, Any]] = {
    # Table 2 and 5: the dilation of the GRUs
    "dilation-1": {},
    "dilation-2": {"gru_dilation": (2, 2, 2)},
    "dilation-4": {"gru_dilation": (4, 4, 4)},
    "dilation-2-4-8": {"gru_dilation": (2, 4, 8)},
    # Table 2: no GRU, no skips. Without a GRU nothing else would mix the groups, so there is one group.
    "stacked": {"layers": ("none", "conv"), "skip": "none", "groups": 1},
    # Table 4: the design of a block, at GRU dilation 2
    "dense": {"gru_dilation": (2, 2, 2), "skip": "dense"},
    "residual": {"gru_dilation": (2, 2, 2), "skip": "residual"},
    "conv-gru": {"gru_dilation": (2, 2, 2), "layers": ("conv", "gru")},
    "conv-conv": {"layers": ("pointwise", "conv")},
    # Table 6: the number of blocks, at GRU dilation 2
    "blocks-2": {"gru_dilation": (2, 2), "conv_dilation": (2, 4)},
    "blocks-4": {"gru_dilation": (2, 2, 2, 2), "conv_dilation": (2, 4, 8, 16)},
    # Table 7: a trained model with its top blocks removed
    "active-0": {"gru_dilation": (2, 2, 2), "active": 0},
    "active-1": {"gru_dilation": (2, 2, 2), "active": 1},
    "active-2": {"gru_dilation": (2, 2, 2), "active": 2},
}


class DilatedGRU(nn.Module):
    """A bidirectional GRU whose state comes from `dilation` frames ago.

    hₜ = GRU(xₜ, hₜ₋ₖ): frames 0, k, 2k, … never meet frames 1, k + 1, …, so the k interleaved sequences run side by
    side as one batch.
    """

    def __init__(self, width: int, dilation: int, merge: str) -> None:
        super().__init__()
        self.dilation = dilation
        self.concat = merge == "concat"
        hidden = width // 2 if self.concat else width
        self.ahead = nn.GRU(width, hidden)
        self.back = nn.GRU(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Run both directions: (time, batch, width) -> (time, batch, width)."""
        # The padding of the fold must not reach the state: turned round, it comes last here too.
        directions = [(self.ahead, x), (self.back, x.flip(0))]
        if x.is_cpu and not torch.is_grad_enabled():
            ahead, back = side_by_side(self.folded, directions)
        else:
            ahead, back = map(self.folded, directions)
        return torch.cat([ahead, back.flip(0)], 2) if self.concat else ahead + back.flip(0)

    def folded(self, direction: tuple[nn.GRU, Tensor]) -> Tensor:
        """Run one direction over the interleaved sequences: (time, batch, width) -> (time, batch, hidden)."""
        gru, x = direction
        time, batch, width = x.shape
        k = self.dilation
        x = F.pad(x, (0, 0, 0, 0, 0, -time % k))  # (rows · k, batch, width)
        x = x.reshape(-1, k * batch, width)  # (rows, k · batch, width)
        y = recur(gru, x) if x.is_cpu and not torch.is_grad_enabled() else gru(x)[0]
        return y.reshape(-1, batch, y.shape[2])[:time]


class Conv(nn.Module):
    """A convolution over time that keeps its length, with the leaky ReLU that all but the last one have."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and rectify: (time, batch, inputs) -> (time, batch, outputs)."""
        # Contiguous, as everything between convolutions is: products and sums of mixed layouts are slow.
        return F.leaky_relu(self.linear(x), 0.01).permute(2, 0, 1).contiguous()

    def linear(self, x: Tensor) -> Tensor:
        """Leave out the leaky ReLU: (time, batch, inputs) -> (batch, outputs, time)."""
        y: Tensor = self.conv(x.permute(1, 2, 0))
        return y


def layer(kind: str, config: D2GRUConfig, block: int) -> nn.Module:
    """One of the two layers of a block."""
    if kind == "gru":
        return DilatedGRU(config.width, config.gru_dilation[block], config.merge)
    if kind == "conv":
        return Conv(config.width, config.width, 3, config.conv_dilation[block], config.groups)
    return Conv(config.width, config.width, 1) if kind == "pointwise" else nn.Identity()


class Block(nn.Module):
    """Two layers and the skips around them; the paper's is "d2".

    d2:        a = first(x)          out = x + a + second(a)
    dense:     a = first(x) + x      out = x + a + second(a)
    residual:  a = first(x) + x      out =     a + second(a)
    none:      a = first(x)          out =         second(a)
    """

    def __init__(self, config: D2GRUConfig, block: int) -> None:
        super().__init__()
        self.first = layer(config.layers[0], config, block)
        self.second = layer(config.layers[1], config, block)
        self.skip = config.skip

    def forward(self, x: Tensor) -> Tensor:
        """Run both layers: (time, batch, width) -> (time, batch, width)."""
        a = self.first(x)
        if self.skip in ("dense", "residual"):
            a = a + x
        out: Tensor = self.second(a)
        if self.skip != "none":
            out = out + a
        return out + x if self.skip in ("d2", "dense") else out


class D2GRU(nn.Module):
    """The whole model, from mixture to stems."""

    overlap = 0.03  # chunks whose surroundings are heard need but a short fade from one to the next

    def __init__(self, config: D2GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.grid = config.hop * lcm(*config.gru_dilation)  # samples: on it, chunks see the song's frames, folded alike
        self.sums = not config.griffin_lim
        if config.width >= WIDE:
            self.batch = 16  # the GRUs read their weights for every step, and more chunks share them
        total = config.n_fft // 2 + 1
        self.bins = config.bins or total
        self.stft = STFT(config.n_fft, config.hop)
        self.bands = Bands(total, self.bins, config.bands) if config.bands else None
        self.input = Conv((config.bands or self.bins) * (1 + config.sides), config.width, 3)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(len(config.gru_dilation)))
        self.output = Conv(config.width, len(config.sources) * (config.bands or total), 3)

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time)."""
        mixture = self.stft(mix)  # (batch, channel, bin, frame)
        wiener, griffin_lim = self.config.wiener, self.config.griffin_lim
        return stems_from(mixture, self.songs(mixture), self.stft, mix.shape[-1], wiener, griffin_lim)

    def songs(self, mixture: Tensor) -> Iterator[Tensor]:
        """Estimate magnitudes with all songs at once in the net, but one after the other in full size.

        (batch, channel, bin, frame) -> for each of the batch (source, channel, bin, frame).
        """
        hidden = torch.split(self.hidden(mixture), FEW * mixture.shape[1], 1)
        for x, some in zip(torch.split(mixture, FEW), hidden, strict=True):
            for song, y in zip(x, self.said(some, x.shape[1]), strict=True):
                yield self.magnitudes(y, song.abs())

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate every source's magnitudes from the mixture's spectrogram.

        (batch, channel, bin, frame) -> (batch, source, channel, bin, frame).
        """
        return self.magnitudes(self.net(mixture), mixture.abs())

    def net(self, mixture: Tensor) -> Tensor:
        """Run the layers: (batch, channel, bin, frame) -> (batch, source, channel, bin or band, frame)."""
        return self.said(self.hidden(mixture), mixture.shape[1])

    def hidden(self, mixture: Tensor) -> Tensor:
        """Run all layers but the last: (batch, channel, bin, frame) -> (frame, batch · channel, width)."""
        heard = self.heard(mixture)  # (batch, channel, bin or band, frame)
        if self.config.sides:
            heard = torch.cat([heard, self.heard(mixture - mixture.mean(1, keepdim=True))], 2)
        x: Tensor = self.input(heard.flatten(0, 1).log1p().permute(2, 0, 1))  # (frame, batch · channel, width)
        active = self.config.active
        for block in self.blocks if active < 0 else self.blocks[:active]:
            x = block(x)
        return x

    def said(self, x: Tensor, channels: int) -> Tensor:
        """Run the last layer: (frame, batch · channel, width) -> (batch, source, channel, bin or band, frame)."""
        y = self.output.linear(x).float().contiguous()  # (batch · channel, source · bin, frame)
        return y.view(-1, channels, len(self.sources), y.shape[1] // len(self.sources), y.shape[2]).transpose(1, 2)

    def heard(self, x: Tensor) -> Tensor:
        """Keep what the net hears of a spectrogram: (..., bin, frame) -> (..., bin or band, frame)."""
        return self.bands.compress(x.abs()) if self.bands else x[..., : self.bins, :].abs()

    def magnitudes(self, y: Tensor, mixture: Tensor) -> Tensor:
        """Turn what the layers say, `y`, into magnitudes.

        (..., source, channel, bin or band, frame), (..., channel, bin, frame) -> (..., source, channel, bin, frame).
        """
        if self.config.output == "log":
            return y.clamp_(min=0).expm1_()  # in place: there is no larger tensor
        mask = y.sigmoid()
        return (self.bands.expand(mask) if self.bands else mask) * mixture.unsqueeze(-4)
