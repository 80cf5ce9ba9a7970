"""Hybrid Transformers for Music Source Separation (HTDemucs, Rouard, Massa and Défossez, 2022: version 4).

Hybrid Demucs with four layers, and between its two ways down and up a transformer, in which each branch hears itself
and the other in turn.

    spectrogram -> 4 layers -> 8 · time tokens ┐ self ┐ cross ┐ self ┐ cross ┐ self ┐ -> 4 layers
    waveform    -> 4 layers ->     time tokens ┘ self ┘ cross ┘ self ┘ cross ┘ self ┘ -> 4 layers

    self:  x + scale · attention(norm x)           -> x + scale · feed-forward(norm x) -> norm
    cross: x + scale · attention(norm x, norm y)   -> x + scale · feed-forward(norm x) -> norm

It knows songs of the length it was trained on only: a shorter chunk is heard with what is around it, or silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.parallel import side_by_side
from separate.models.dconv import Scale, TimeConv, channels_last
from separate.models.hdemucs import HDemucs, HDemucsConfig, levels
from separate.models.inference import Product, coarse, gelu, inferring
from separate.models.settings import check_dropout, check_least

__all__ = ["PRESETS", "HTDemucs", "HTDemucsConfig"]

QUERIES = 256  # at once in bfloat16: as many as fit the cache with all that they attend to


@dataclass(frozen=True)
class HTDemucsConfig(HDemucsConfig):
    """The published model of four stems, unless told otherwise."""

    segment: float = 7.8  # seconds of a chunk: what it was trained on
    depth: int = 4
    dconv: str = "both"
    dconv_compress: float = 8.0
    dconv_init: float = 1e-3
    bottom: int = 512  # channels of the transformer; 0: those of the deepest layer
    layers: int = 5
    heads: int = 8
    hidden: float = 4.0  # by which the middle of a feed-forward net is wider
    cross_first: bool = False  # whether layers 0, 2, 4 hear the other branch, rather than 1 and 3
    position: float = 1.0  # how loud every token is told where it is
    max_period: float = 10000.0  # of the slowest of the waves that tell it
    dropout: float = 0.0  # in training

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, {"bottom": 0, "position": 0, "layers": 1, "heads": 1, "hidden": 1, "max_period": 1})
        check_dropout(self.dropout)
        width = self.bottom or levels(self)[-1].width
        if width % self.heads or width % 4 or width < 8:
            raise ValueError(f"heads = {self.heads}, and four waves to tell a place, do not divide {width} channels")
        if any(level.bins == 1 or level.merges for level in levels(self)):
            raise ValueError(f"depth = {self.depth} leaves one frequency of n_fft = {self.n_fft}")


# The models that the authors published.
PRESETS: dict[str, dict[str, Any]] = {
    "htdemucs": {},  # 41,984,456 parameters
    "htdemucs_6s": {"sources": ("drums", "bass", "other", "vocals", "guitar", "piano"), "bottom": 0},  # 27,414,996
}


class Linear:
    """x -> x Wᵀ + b; for inference on a CPU by oneDNN, in float32 a sixth faster than as `F.linear` does it.

    Weights stay laid out until there are others.
    """

    def __init__(self) -> None:
        self.kept: tuple[object, tuple[Tensor, Tensor], Product] | None = None

    def __getstate__(self) -> dict[str, None]:
        """Leave out what is laid out, which can be neither copied nor pickled: the copy lays out its own."""
        return {"kept": None}

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(batch, token, inputs) -> (batch, token, outputs)."""
        if not inferring(x) or weight.is_inference():
            return F.linear(x, weight, bias)
        dtype = coarse(x)
        now = dtype, *((each.data_ptr(), len(each), each._version) for each in (weight, bias))
        kept = self.kept
        if kept is None or kept[0] != now:
            # With the weights themselves, whose place in memory is theirs alone for so long.
            self.kept = kept = now, (weight, bias), Product(weight, bias, dtype, x.shape[1])
        return kept[2](x.to(dtype))


class Attention(nn.Module):
    """Multi-head attention; weights as in nn.MultiheadAttention, which holds all dot products in memory at once."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.first, self.second, self.last = Linear(), Linear(), Linear()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Hear `other`, for each token of x: (batch, token, width), (batch, other, width) -> (batch, token, width)."""
        width = x.shape[2]
        if other is x:
            q, k, v = self.first(x, self.in_proj_weight, self.in_proj_bias).chunk(3, 2)
        else:
            q = self.first(x, self.in_proj_weight[:width], self.in_proj_bias[:width])
            k, v = self.second(other, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, 2)
        q, k, v = (torch.unflatten(part, 2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        if q.dtype == torch.bfloat16 and inferring(q):
            y = attend(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0)
        return self.last(y.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute softmax(q kᵀ / √d) v in bfloat16 on a CPU, where torch's own takes as long as in float32.

    Three times (batch, head, token, width) -> (batch, head, token, width).
    """
    q = q / q.shape[3] ** 0.5
    y = torch.empty_like(q, memory_format=torch.contiguous_format)

    def head(parts: tuple[Tensor, ...]) -> None:
        queries, keys, values = (part.contiguous() for part in parts[:3])  # of one head: (token, width)
        for some, out in zip(torch.split(queries, QUERIES), torch.split(parts[3], QUERIES), strict=True):
            torch.mm((some @ keys.mT).softmax(1), values, out=out)

    side_by_side(head, list(zip(*(part.flatten(0, 1) for part in (q, k, v, y)), strict=True)))
    return y


class SongNorm(nn.GroupNorm):
    """nn.GroupNorm of one group over (batch, token, width): all tokens together."""

    def __init__(self, width: int) -> None:
        super().__init__(1, width)

    def forward(self, input: Tensor) -> Tensor:
        """(batch, token, width) -> (batch, token, width)."""
        return super().forward(input.mT.unsqueeze(2)).squeeze(2).mT


class Layer(nn.Module):
    """What both kinds of layers have: a feed-forward net and scales."""

    def __init__(self, config: HTDemucsConfig, width: int) -> None:
        super().__init__()
        hidden = int(width * config.hidden)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = Linear(), Linear()
        self.norm_out = SongNorm(width)
        self.gamma_1, self.gamma_2 = Scale(width, 1e-4), Scale(width, 1e-4)
        self.dropout = config.dropout

    def rest(self, x: Tensor, heard: Tensor, norm: nn.Module) -> Tensor:
        """Add what attention heard, and the feed-forward net: (batch, token, width) -> (batch, token, width)."""
        x = torch.addcmul(x, self.gamma_1.scale, self.dropped(heard))
        y = gelu(self.first(norm(x), self.linear1.weight, self.linear1.bias))
        y = self.second(self.dropped(y), self.linear2.weight, self.linear2.bias)
        out: Tensor = self.norm_out(torch.addcmul(x, self.gamma_2.scale, self.dropped(y)))
        return out

    def dropped(self, x: Tensor) -> Tensor:
        """Drop some, in training."""
        return F.dropout(x, self.dropout, self.training)


class SelfLayer(Layer):
    """A layer in which a branch hears itself."""

    def __init__(self, config: HTDemucsConfig, width: int) -> None:
        super().__init__(config, width)
        self.self_attn = Attention(width, config.heads, config.dropout)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """(batch, token, width) -> (batch, token, width)."""
        y = self.norm1(x)
        return self.rest(x, self.self_attn(y, y), self.norm2)


class CrossLayer(Layer):
    """A layer in which a branch hears the other."""

    def __init__(self, config: HTDemucsConfig, width: int) -> None:
        super().__init__(config, width)
        self.cross_attn = Attention(width, config.heads, config.dropout)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """(batch, token, width), (batch, another, width) -> (batch, token, width)."""
        return self.rest(x, self.cross_attn(self.norm1(x), self.norm2(other)), self.norm3)


class CrossTransformer(nn.Module):
    """Layers for both branches side by side."""

    def __init__(self, config: HTDemucsConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.norm_in, self.norm_in_t = nn.LayerNorm(width), nn.LayerNorm(width)
        kinds = [CrossLayer if i % 2 != config.cross_first else SelfLayer for i in range(config.layers)]
        self.layers = nn.ModuleList(kind(config, width) for kind in kinds)
        self.layers_t = nn.ModuleList(kind(config, width) for kind in kinds)

    def forward(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, width, frequency, frame), (batch, width, 1, time) -> the same."""
        width, bins, frames = x.shape[1:]
        period, loud = self.config.max_period, self.config.position
        place = grid_waves(width, bins, frames, period, x.device).to(x.dtype)  # (frequency · frame, width)
        place_t = waves(width, xt.shape[3], period, x.device).to(x.dtype)  # (time, width)
        y = self.norm_in(x.permute(0, 2, 3, 1).flatten(1, 2)) + loud * place  # (batch, token, width)
        yt = self.norm_in_t(xt.squeeze(2).mT) + loud * place_t
        for layer, layer_t in zip(self.layers, self.layers_t, strict=True):
            y, yt = layer(y, yt), layer_t(yt, y)
        return torch.unflatten(y, 1, (bins, frames)).permute(0, 3, 1, 2), channels_last(yt.mT)


def waves(width: int, length: int, period: float, device: torch.device) -> Tensor:
    """Tell where something is in time, by cosines and sines of ever longer periods: (length, width)."""
    at = torch.arange(length, device=device).unsqueeze(1)
    phase = at / period ** (torch.arange(width // 2, device=device) / (width // 2 - 1))
    return torch.cat([phase.cos(), phase.sin()], 1)


def grid_waves(width: int, bins: int, frames: int, period: float, device: torch.device) -> Tensor:
    """Tell in half of the channels when something is, in the others how high: (bins · frames, width)."""
    rate = torch.exp(torch.arange(0.0, width // 2, 2, device=device) * -(math.log(period) / (width // 2)))

    def waves_of(count: int) -> Tensor:
        phase = torch.arange(0.0, count, device=device).unsqueeze(1) * rate
        return torch.stack([phase.sin(), phase.cos()], 2).flatten(1)  # (count, width / 2)

    time = waves_of(frames).expand(bins, -1, -1)
    height = waves_of(bins).unsqueeze(1).expand(-1, frames, -1)
    return torch.cat([time, height], 2).flatten(0, 1)


class HTDemucs(HDemucs):
    """The whole model, from mixture to stems."""

    def __init__(self, config: HTDemucsConfig) -> None:
        super().__init__(config)
        self.trained = round(config.segment * config.sample_rate)
        self.around = (self.trained + 1) // 2
        inner = levels(config)[-1].width
        width = config.bottom or inner
        self.channel_upsampler = TimeConv(inner, width, 1) if config.bottom else nn.Identity()
        self.channel_upsampler_t = TimeConv(inner, width, 1) if config.bottom else nn.Identity()
        self.crosstransformer = CrossTransformer(config, width)
        self.channel_downsampler = TimeConv(width, inner, 1) if config.bottom else nn.Identity()
        self.channel_downsampler_t = TimeConv(width, inner, 1) if config.bottom else nn.Identity()

    def heard(self, length: int) -> int:
        """Say how many samples it hears to separate `length` of them: as many as in training."""
        return max(length, self.trained)

    def between(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Hear each other: (batch, width, frequency, frame), (batch, width, 1, time) -> the same."""
        x, xt = self.crosstransformer(self.channel_upsampler(x), self.channel_upsampler_t(xt))
        return self.channel_downsampler(x), self.channel_downsampler_t(xt)
