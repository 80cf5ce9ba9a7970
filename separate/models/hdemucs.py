"""Hybrid Spectrogram and Waveform Source Separation (Hybrid Demucs, Défossez, 2021: version 3).

Two U-Nets that meet at the bottom, where both have come to one step every 1024 samples. One sees the waveform, the
other the spectrogram, real and imaginary parts as channels, and strides along its frequencies until one is left. What
both say is summed, as waveforms.

    waveform    -> time 0 -> time 1 -> time 2 -> time 3 -> conv ┐
    spectrogram -> freq 0 -> freq 1 -> freq 2 -> freq 3 -> freq 4 -> both 5 -> and all the way back, with skips

    encoder: conv 8, stride 4 -> norm -> GELU -> DConv -> conv 1 -> norm -> GLU
    decoder: + skip -> conv 3 -> norm -> GLU -> DConv -> transposed conv 8, stride 4 -> norm -> GELU

Inside, everything is (batch, channel, frequency, time) with the channels next to each other in memory; a waveform is a
spectrogram of one frequency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.spectrum import Spectrum
from separate.models.dconv import HEADS, DConv, TimeConv, TimeTransposed, channels_last, check_width, gated, rescale_
from separate.models.inference import gelu, inferring, plus
from separate.models.layers import STEREO, in_stereo
from separate.models.settings import check_choices, check_chunk, check_least, check_sources

__all__ = ["PRESETS", "HDemucs", "HDemucsConfig"]


@dataclass(frozen=True)
class HDemucsConfig:
    """The paper's model, unless told otherwise."""

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    sample_rate: int = 44100
    segment: float = 44.0  # seconds of a chunk
    context: float = 0.0  # of which so many at either end are only surroundings
    n_fft: int = 4096
    edges: str = "reflect"  # beyond a chunk's ends it hears its reflection, or "silence", as the models of 2021
    channels: int = 48  # of the first layer
    growth: float = 2.0  # channels of a layer per channel of the one before
    depth: int = 6
    kernel: int = 8
    stride: int = 4
    time_stride: int = 2  # of the layers below the meeting
    rewrite: bool = True  # the convolutions before the GLUs
    encoder_kernel: int = 1  # theirs
    decoder_kernel: int = 3
    norm_starts: int = 4  # the first layer with norms
    norm_groups: int = 4
    embedding: float = 0.2  # how loud every frequency is told where it is, after the first layer; 0: not at all
    embedding_scale: float = 10.0  # by which its weights are smaller: it learns that much faster
    dconv: str = "encoder"  # where residual branches are: "encoder", "decoder", "both" or "none"
    dconv_depth: int = 2  # branches of a layer
    dconv_compress: float = 4.0  # by which a branch is narrower
    dconv_attention: int = 4  # the first layer whose branches have it
    dconv_lstm: int = 4
    dconv_init: float = 1e-4
    rescale: float = 0.1  # convolutions start with a deviation closer to this; 0: as torch draws them

    def __post_init__(self) -> None:
        check_least(self, _LEAST)
        check_choices(self, _CHOICES)
        check_sources(self.sources)
        if self.stride % 2 or self.time_stride % 2 or self.kernel != 2 * self.stride:
            raise ValueError(
                f"stride = {self.stride} and time_stride = {self.time_stride} must be even, "
                f"and kernel = {self.kernel} twice the stride"
            )
        if self.encoder_kernel % 2 == 0 or self.decoder_kernel % 2 == 0:
            raise ValueError(
                f"encoder_kernel = {self.encoder_kernel} and decoder_kernel = {self.decoder_kernel} must be odd"
            )
        check_chunk(self.segment, self.context)
        for level in levels(self):
            level.check(self)


_LEAST: dict[str, float] = dict.fromkeys(("sample_rate", "depth", "time_stride", "encoder_kernel", "decoder_kernel"), 1)
_LEAST |= dict.fromkeys(("norm_starts", "dconv_depth", "dconv_attention", "dconv_lstm", "embedding", "rescale"), 0)
_LEAST |= {"n_fft": 16, "channels": 1, "growth": 1, "stride": 2, "norm_groups": 1, "dconv_compress": 1, "dconv_init": 0}
_LEAST |= {"embedding_scale": 1e-3, "context": 0}
_CHOICES = {"edges": ("reflect", "silence"), "dconv": ("encoder", "decoder", "both", "none")}

# What the authors published, or put into bags: its files say their settings themselves.
PRESETS: dict[str, dict[str, Any]] = {
    "hdemucs_mmi": {},  # 83,637,832 parameters
    "hdemucs-2021": {"edges": "silence"},  # of the time of the Music Demixing Challenge
}


@dataclass(frozen=True)
class Level:
    """Where a layer is, and what that makes of it."""

    index: int
    width: int  # channels
    bins: int  # frequencies that come in; at 1 both branches have met
    kernel: int
    stride: int
    padding: int
    norm: bool
    hop: int  # samples of the song per step of time, after the layer that merges

    @property
    def merges(self) -> bool:
        """Tell whether frequencies come to one here, and the waveform joins them."""
        return self.bins > 1 and self.padding == 0

    def check(self, config: HDemucsConfig) -> None:
        """Refuse what cannot be built."""
        if config.n_fft % 8 or (self.bins > self.kernel and self.bins % self.stride):
            raise ValueError(f"n_fft = {config.n_fft} gives {self.bins} frequencies, no whole steps of a layer")
        if self.merges and self.hop * 4 != config.n_fft:
            raise ValueError(f"n_fft = {config.n_fft} must be {self.hop * 4}, or the two branches do not meet")
        attention = self.index >= config.dconv_attention
        compress = 0 if config.dconv == "none" else config.dconv_compress
        check_width(self.width, config.norm_groups * self.norm, compress, HEADS * attention)


def levels(config: HDemucsConfig) -> list[Level]:
    """Lay out the layers, from the first to the deepest."""
    bins, width, found = config.n_fft // 2, config.channels, []
    for i in range(config.depth):
        kernel, stride = config.kernel, config.stride
        padding = kernel // 4
        if bins == 1:
            kernel, stride, padding = 2 * config.time_stride, config.time_stride, config.time_stride // 2
        elif bins <= kernel:
            kernel, padding = bins, 0
        hop = config.stride ** (i + 1)
        found.append(Level(i, width, bins, kernel, stride, padding, i >= config.norm_starts, hop))
        bins = 1 if bins <= config.kernel else bins // config.stride
        width = int(config.growth * width)
    return found


class Down(nn.Module):
    """The convolution that an encoder layer begins with; all there is of the waveform's last one."""

    def __init__(self, config: HDemucsConfig, level: Level, inputs: int, waveform: bool) -> None:
        super().__init__()
        self.along_time = waveform or level.bins == 1
        self.conv: nn.Module
        if waveform:
            self.conv = TimeConv(inputs, level.width, config.kernel, config.stride, config.kernel // 4)
        elif self.along_time:
            self.conv = TimeConv(inputs, level.width, level.kernel, level.stride, level.padding)
        else:
            self.conv = nn.Conv2d(inputs, level.width, (level.kernel, 1), (level.stride, 1), (level.padding, 0))
        self.stride = config.stride if waveform else level.stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, frequency, time) -> (batch, width, frequency / stride, time), or along time."""
        if self.along_time:
            x = F.pad(x, (0, -x.shape[3] % self.stride))
        y: Tensor = self.conv(x)
        return y


class Encoder(Down):
    """A layer on the way down."""

    def __init__(self, config: HDemucsConfig, level: Level, inputs: int, waveform: bool = False) -> None:
        super().__init__(config, level, inputs, waveform)
        self.norm1 = norm(config, level, level.width)
        self.dconv = branches(config, level, "encoder")
        if config.rewrite:
            self.rewrite: nn.Module = convolution(config.encoder_kernel, level, self.along_time)
            self.norm2 = norm(config, level, 2 * level.width)
        else:
            self.rewrite = self.norm2 = nn.Identity()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(batch, inputs, frequency, time) -> (batch, width, ...); `other` is the waveform where the two meet."""
        y = super().forward(x)
        if other is not None:
            y = y + other
        y = self.dconv(gelu(self.norm1(y)))
        return rewritten(self.rewrite, self.norm2, y)


class Up(nn.Module):
    """The transposed convolution that a decoder layer ends with; all there is of the waveform's first one."""

    def __init__(self, config: HDemucsConfig, level: Level, outputs: int, waveform: bool) -> None:
        super().__init__()
        self.along_time = waveform or level.bins == 1
        self.padding = config.kernel // 4 if waveform else level.padding
        self.last = level.index == 0
        self.conv_tr: nn.Module
        if waveform:
            self.conv_tr = TimeTransposed(level.width, outputs, config.kernel, config.stride)
        elif self.along_time:
            self.conv_tr = TimeTransposed(level.width, outputs, level.kernel, level.stride)
        else:
            self.conv_tr = nn.ConvTranspose2d(level.width, outputs, (level.kernel, 1), (level.stride, 1))
        self.norm2 = norm(config, level, outputs)

    def forward(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """(batch, width, frequency, time) -> (batch, outputs, frequency · stride, time), or along time to `length`.

        And what was there before the way up, where the branches part.
        """
        y: Tensor = self.norm2(self.conv_tr(x))
        if self.along_time:
            y = y[..., self.padding : self.padding + length]
        else:
            y = y[:, :, self.padding : y.shape[2] - self.padding]
        return y if self.last else gelu(y), x


class Decoder(Up):
    """A layer on the way up."""

    def __init__(self, config: HDemucsConfig, level: Level, outputs: int, waveform: bool = False) -> None:
        super().__init__(config, level, outputs, waveform)
        if config.rewrite:
            self.rewrite: nn.Module = convolution(config.decoder_kernel, level, self.along_time)
            self.norm1 = norm(config, level, 2 * level.width)
        else:
            self.rewrite = self.norm1 = nn.Identity()
        self.dconv = branches(config, level, "decoder")

    def forward(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """As above."""
        return super().forward(self.dconv(rewritten(self.rewrite, self.norm1, x)), length)


def convolution(kernel: int, level: Level, along_time: bool) -> nn.Module:
    """Make the convolution before a GLU, which doubles the channels."""
    if along_time:
        return TimeConv(level.width, 2 * level.width, kernel, padding=kernel // 2)
    return nn.Conv2d(level.width, 2 * level.width, kernel, padding=kernel // 2)


def rewritten(conv: Any, norm: nn.Module, x: Tensor) -> Tensor:
    """Compute GLU(norm(conv x)), where a layer has such a convolution: (batch, width, ...) -> (batch, width, ...)."""
    if isinstance(conv, nn.Identity):
        return x
    if isinstance(norm, nn.Identity):
        return gated(conv, x)
    return F.glu(norm(conv(x)), 1)


def norm(config: HDemucsConfig, level: Level, width: int) -> nn.Module:
    """Make the norm that deep layers have."""
    return nn.GroupNorm(config.norm_groups, width) if level.norm else nn.Identity()


def branches(config: HDemucsConfig, level: Level, side: str) -> nn.Module:
    """Make the residual branches of a layer, if that side has any."""
    if config.dconv not in (side, "both"):
        return nn.Identity()
    lstm, attention = level.index >= config.dconv_lstm, level.index >= config.dconv_attention
    return DConv(level.width, config.dconv_depth, config.dconv_compress, config.dconv_init, lstm, attention)


class FrequencyEmbedding(nn.Module):
    """What every frequency is told of where it is."""

    def __init__(self, bins: int, width: int, scale: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(bins, width)
        self.scale = scale
        weight = self.embedding.weight.data
        if not weight.is_meta:  # neighbours start alike
            weight.copy_(weight.cumsum(0) / torch.arange(1, bins + 1).sqrt().unsqueeze(1) / scale)

    def forward(self) -> Tensor:
        """-> (width, frequency, 1)."""
        return self.embedding.weight.mT.unsqueeze(2) * self.scale


class HDemucs(nn.Module):
    """The whole model, from mixture to stems."""

    grid = 1  # chunks start anywhere, as its authors cut songs
    overlap = 0.25  # and so much of one is in the next
    around = 0  # and it hears nothing of what is around one
    freq_emb: FrequencyEmbedding

    def __init__(self, config: HDemucsConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = False
        self.spectrum = Spectrum(config.n_fft, config.edges == "reflect")
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()  # of the spectrogram, and of both
        self.tencoder, self.tdecoder = nn.ModuleList(), nn.ModuleList()  # of the waveform
        inputs, outputs = STEREO, len(config.sources) * STEREO
        for level in levels(config):
            first = 1 + (level.index == 0)  # the spectrogram is complex
            self.encoder.append(Encoder(config, level, first * inputs))
            self.decoder.insert(0, Decoder(config, level, first * outputs))
            if level.bins > 1:
                self.tencoder.append((Down if level.merges else Encoder)(config, level, inputs, waveform=True))
                self.tdecoder.insert(0, (Up if level.merges else Decoder)(config, level, outputs, waveform=True))
            if level.index == 0 and config.embedding:
                bins = level.bins // level.stride
                self.freq_emb = FrequencyEmbedding(bins, level.width, config.embedding_scale)
            inputs = outputs = level.width
        self.meeting = next((level.index for level in levels(config) if level.merges), -1)
        if config.rescale:
            rescale_(self, config.rescale)

    def forward(self, mix: Tensor, around: int = 0) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time).

        `around` samples at either end are surroundings, of which it hears as many as it likes and separates none. Mono
        is heard as two equal channels, and the two that come out are averaged.
        """
        length = mix.shape[2] - 2 * around
        missing = self.heard(length) - length
        before = missing // 2 if around else 0
        heard = F.pad(mix, (before - around, missing - before - around))
        return one_by_one(self.separated, heard)[..., before : before + length]

    def heard(self, length: int) -> int:
        """Say how many samples it hears to separate `length` of them."""
        return length

    def separated(self, mix: Tensor) -> Tensor:
        """Add up what both branches say: (batch, 2, time) -> (batch, source, 2, time)."""
        spectrum, mean, std = standardized(self.spectrum(mix))
        waveform, mean_t, std_t = standardized(channels_last(mix))
        x, xt = self.net(spectrum, waveform)  # (batch, source · 4, frequency, frame), (batch, source · 2, 1, time)
        stems = self.spectrum.inverse(x, mix.shape[2], mean, std)
        stems += torch.addcmul(mean_t, xt.to(mix.dtype), std_t).squeeze(2)
        return torch.unflatten(stems, 1, (len(self.sources), STEREO))

    def net(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layers: (batch, 4, frequency, frame) and (batch, 2, 1, time) -> the same of all stems."""
        saved, saved_t = [], []  # how long each layer's input is, and what it says
        for i, encode in enumerate(self.encoder):
            length, other = x.shape[3], None
            if i < len(self.tencoder):
                length_t, xt = xt.shape[3], self.tencoder[i](xt)
                saved_t.append((length_t, xt))
                other = xt if i == self.meeting else None
            x = encode(x, other)
            if i == 0 and self.config.embedding:
                x = plus(x, (self.config.embedding * self.freq_emb()).to(x.dtype))
            saved.append((length, x))
        x, xt = self.between(x, xt)
        for decode in self.decoder:
            length, skip = saved.pop()
            x, y = decode(plus(x, skip), length)
            if len(saved) < len(self.tdecoder):
                decode_t = self.tdecoder[len(self.tdecoder) - 1 - len(saved)]
                length_t, skip = saved_t.pop()
                xt, _ = decode_t(y if len(saved) == self.meeting else plus(xt, skip), length_t)
        return x, xt

    def between(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Turn round at the bottom: all there is to know comes by the skips."""
        return torch.zeros_like(x), torch.zeros_like(xt)


def standardized(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bring each of a batch to mean 0 and deviation 1: it, mean, deviation."""
    mean, std = x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)
    return (x - mean) / (std + 1e-5), mean, std


def one_by_one(net: Callable[[Tensor], Tensor], songs: Tensor) -> Tensor:
    """Run a large net of stereo on one song after the other where that takes no longer and less memory: on a CPU."""
    if not inferring(songs):
        return in_stereo(net, songs)
    return torch.cat([in_stereo(net, song) for song in torch.split(songs, 1)])
