"""Band-split transformers: BS-RoFormer (Lu et al., 2023) and Mel-Band RoFormer (Wang et al., 2023).

The spectrogram of both channels is cut into some sixty bands, each of which becomes one vector a frame. Transformers
listen along time, each band on its own, and along bands, each frame on its own. At last every band says a complex mask.

    spectrogram -> bands -> (time transformer -> band transformer) × depth -> complex masks × spectrogram

    BS-RoFormer        bands side by side, narrow at the bottom: a table of bins
    Mel-Band RoFormer  as many bands, of a mel scale: most bins are in two, whose masks are averaged

Published models are rows of PRESETS. Weights have the names that they have in published checkpoints.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.stft import STFT
from separate.models.layers import in_stereo
from separate.models.settings import check_dropout, check_frames, check_least

__all__ = ["PRESETS", "RoFormer", "RoFormerConfig", "mel_bands"]

# Bins of the 62 bands of BS-RoFormer's paper, for an n_fft of 2048.
BANDS = (2,) * 24 + (4,) * 12 + (12,) * 8 + (24,) * 8 + (48,) * 8 + (128, 129)
TOKENS = 2**14  # at once in a transformer, where no gradient is wanted: more of them only take memory


@dataclass(frozen=True)
class RoFormerConfig:
    """The BS-RoFormer for vocals that most published ones are like, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "accompaniment")
    rest: bool = True  # the last source is what the others leave of the song; False: it has a mask of its own too
    sample_rate: int = 44100
    segment: float = 8.0  # seconds of a chunk: what it was trained on
    context: float = 0.5  # of which so many at either end are only surroundings
    stereo: bool = True  # both channels at once; False: each on its own
    n_fft: int = 2048
    hop: int = 441
    bands: tuple[int, ...] = BANDS  # bins of each band
    mel: int = 0  # so many bands of a mel scale instead; 0: those of `bands`
    width: int = 512  # of a band's vector
    depth: int = 12  # blocks; of each of them
    linear_layers: int = 0  # layers of linear attention, along time and bands at once
    time_layers: int = 1  # layers along time
    band_layers: int = 1  # layers along bands
    heads: int = 8
    head_width: int = 64
    norm: str = "last"  # "last": one norm after all blocks; "each": one after every transformer
    mask_layers: int = 1  # hidden layers of what says a band's mask
    mask_expansion: int = 4  # how many times wider they are than a band's vector
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
        check_least(self, _LEAST)
        if len(self.sources) < (2 if self.rest else 1):
            raise ValueError(f"sources are too few for rest = {self.rest}: {self.sources!r}")
        if self.head_width % 2:
            raise ValueError(f"head_width must be even, as positions turn pairs of numbers, got {self.head_width}")
        if self.norm not in ("last", "each"):
            raise ValueError(f"norm must be last or each, got {self.norm!r}")
        check_dropout(self.dropout)
        bins = self.n_fft // 2 + 1
        table = self.table() if self.mel <= bins else [range(0)]
        ends = [0, *(band.stop for band in table)]
        if not all(table) or ends[-1] != bins or any(b.start > end for end, b in zip(ends, table, strict=False)):
            named = f"mel = {self.mel} bands" if self.mel else f"bands = {self.bands!r}"
            raise ValueError(f"{named} must have a bin each, and together the {bins} of n_fft = {self.n_fft}")

    def table(self) -> list[range]:
        """List the bins of each band."""
        if self.mel:
            return mel_bands(self.mel, self.n_fft, self.sample_rate)
        return [range(*ends) for ends in pairwise(accumulate(self.bands, initial=0))]


_LEAST = dict.fromkeys(("width", "depth", "heads", "head_width", "mask_expansion"), 1)
_LEAST |= dict.fromkeys(("mel", "linear_layers", "time_layers", "band_layers", "mask_layers"), 0)

_MEL = {"mel": 60, "norm": "each", "mask_layers": 2, "width": 384}
_FOUR = {"sources": ("drums", "bass", "other", "vocals"), "rest": False}

# The shapes of published models: what each changes of RoFormerConfig.
PRESETS: dict[str, dict[str, Any]] = {
    "bs-roformer": {},  # 159,758,028 parameters
    "bs-roformer-384": {"width": 384, "hop": 512, "segment": 131584 / 44100, "context": 0.125},  # 98,194,764
    "bs-roformer-four": _FOUR | {"width": 384, "depth": 8, "mask_expansion": 2, "segment": 11.0},  # 131,704,100
    "mel-band-roformer": _MEL | {"depth": 6},  # 228,202,788
    "mel-band-roformer-12": _MEL,  # 251,869,572
}


def mel_bands(count: int, n_fft: int, sample_rate: int) -> list[range]:
    """List the bins of each triangle of a mel filter bank, from zero to half the sample rate.

    Slaney's scale: linear below 1000 Hz, 15 mel, and then 27 mel for every factor of 6.4.
    """
    top = sample_rate / 2
    step = math.log(6.4) / 27
    last = 15 + math.log(top / 1000) / step if top >= 1000 else top * 3 / 200
    mels = [last * i / (count + 1) for i in range(count + 2)]
    edges = [1000 * math.exp((mel - 15) * step) if mel >= 15 else mel * 200 / 3 for mel in mels]
    bands = []
    for low, high in zip(edges, edges[2:], strict=False):
        first, end = math.floor(low * n_fft / sample_rate) + 1, math.ceil(high * n_fft / sample_rate)
        bands.append(range(first, max(first, end)))
    # The very ends lie where a triangle is zero, and yet belong to the first and the last band.
    bands[0] = range(bands[0].stop)
    bands[-1] = range(bands[-1].start, n_fft // 2 + 1)
    return bands


class RMSNorm(nn.Module):
    """Vectors at a length of √width, times a gain for each of their numbers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise: (..., width) -> (..., width)."""
        scaled: Tensor = F.normalize(x, dim=-1) * (self.gamma * x.shape[-1] ** 0.5)
        return scaled


def rotation(tokens: int, head_width: int, like: Tensor) -> Tensor:
    """Say how far each position turns each pair of numbers: (token, head_width / 2), complex.

    Pair k of position t turns by t · 10000^(−2k / head_width): a product of two turned vectors depends on how far apart
    they are, not on where.
    """
    speed = 10000.0 ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float64), speed)
    turn = torch.polar(torch.ones_like(angle), angle)
    return turn.to(torch.complex128 if like.dtype == torch.float64 else torch.complex64).to(like.device)


def turned(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the pairs of every vector: (..., token, head_width) -> (..., token, head_width)."""
    pairs = torch.view_as_complex(x.to(turn.real.dtype).reshape(*x.shape[:-1], -1, 2))  # (..., token, head_width / 2)
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Attention of all tokens to all, whose heads are each let through by a gate."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads, self.dropout = config.heads, config.dropout
        self.norm = RMSNorm(config.width)
        self.to_qkv = nn.Linear(config.width, 3 * inner, bias=False)
        self.to_gates = nn.Linear(config.width, config.heads)
        self.to_out = nn.Sequential(nn.Linear(inner, config.width, bias=False), nn.Dropout(config.dropout))

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """(sequence, token, width) -> (sequence, token, width)."""
        x = self.norm(x)
        q, k, v = self.to_qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = turned(q, turn), turned(k, turn)  # (sequence, head, token, head_width)
        dropout = self.dropout if self.training else 0.0
        heard = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        gates = self.to_gates(x).sigmoid().transpose(1, 2).unsqueeze(-1)  # (sequence, head, token, 1)
        out: Tensor = self.to_out((heard * gates).transpose(1, 2).flatten(2))
        return out


class LinearAttention(nn.Module):
    """Attention among the numbers of a head instead of among tokens (El-Nouby et al., 2021): linear in their count."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        inner = config.heads * config.head_width
        self.heads = config.heads
        self.norm = RMSNorm(config.width)
        self.to_qkv = nn.Sequential(nn.Linear(config.width, 3 * inner, bias=False))
        self.temperature = nn.Parameter(torch.zeros(config.heads, 1, 1))
        self.to_out = nn.Sequential(nn.Identity(), nn.Linear(inner, config.width, bias=False))

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """(sequence, token, width) -> (sequence, token, width)."""
        q, k, v = self.to_qkv(self.norm(x)).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 4, 1)
        q, k = F.normalize(q, dim=-1) * self.temperature.exp(), F.normalize(k, dim=-1)
        likeness = (8 * q @ k.transpose(-1, -2)).softmax(-1)  # (sequence, head, head_width, head_width)
        out: Tensor = self.to_out((likeness @ v).permute(0, 3, 1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Two linear layers, the first four times as wide."""

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        wide, narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.net = nn.Sequential(RMSNorm(width), wide, nn.GELU(), nn.Dropout(dropout), narrow, nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        out: Tensor = self.net(x)
        return out


class Transformer(nn.Module):
    """Layers of attention and feed-forward, each added to what comes in."""

    def __init__(self, config: RoFormerConfig, attention: type[Attention | LinearAttention], layers: int) -> None:
        super().__init__()
        pairs = (nn.ModuleList([attention(config), FeedForward(config)]) for _ in range(layers))
        self.head_width = config.head_width
        self.layers = nn.ModuleList(pairs)
        self.norm = RMSNorm(config.width) if config.norm == "each" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run sequences that do not know each other: (sequence, token, width) -> (sequence, token, width)."""
        turn = rotation(x.shape[1], self.head_width, x)
        if torch.is_grad_enabled():
            return self.run(x, turn)
        return torch.cat([self.run(part, turn) for part in torch.split(x, max(1, TOKENS // x.shape[1]))])

    def run(self, x: Tensor, turn: Tensor) -> Tensor:
        """Run all layers: (sequence, token, width) -> (sequence, token, width)."""
        for layer in self.layers:
            attention, feed_forward = layer.children()
            x = x + attention(x, turn)
            x = x + feed_forward(x)
        out: Tensor = self.norm(x)
        return out


class BandSplit(nn.Module):
    """Every band's numbers as one vector, of a width that all bands share."""

    def __init__(self, numbers: Sequence[int], width: int) -> None:
        super().__init__()
        self.numbers = list(numbers)  # of each band
        self.to_features = nn.ModuleList(nn.Sequential(RMSNorm(n), nn.Linear(n, width)) for n in numbers)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frame, numbers of all bands) -> (batch, frame, band, width)."""
        parts = zip(self.to_features, torch.split(x, self.numbers, -1), strict=True)
        # What transformers add to keeps its precision under torch.autocast; what they compute need not.
        return torch.stack([feature(part).to(x.dtype) for feature, part in parts], 2)


class MaskEstimator(nn.Module):
    """Every band's vector as the band's mask: of one source, a complex number for each bin and channel."""

    def __init__(self, config: RoFormerConfig, numbers: Sequence[int]) -> None:
        super().__init__()
        self.to_freqs = nn.ModuleList(nn.Sequential(mlp(config, 2 * n), nn.GLU(-1)) for n in numbers)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frame, band, width) -> (batch, frame, numbers of all bands)."""
        return torch.cat([mask(band) for mask, band in zip(self.to_freqs, x.unbind(2), strict=True)], -1)


def block(config: RoFormerConfig) -> nn.ModuleList:
    """Make the transformers of a block: of both axes at once if there is one, along time, along bands."""
    kinds: list[tuple[type[Attention | LinearAttention], int]]
    kinds = [(LinearAttention, config.linear_layers)] if config.linear_layers else []
    kinds += [(Attention, config.time_layers), (Attention, config.band_layers)]
    return nn.ModuleList(Transformer(config, kind, layers) for kind, layers in kinds)


def mlp(config: RoFormerConfig, outputs: int) -> nn.Sequential:
    """Make the layers that say a mask: (..., width) -> (..., outputs)."""
    layers: list[nn.Module] = []
    inputs, hidden = config.width, config.mask_expansion * config.width
    for _ in range(config.mask_layers):
        layers += [nn.Linear(inputs, hidden), nn.Tanh()]
        inputs = hidden
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class RoFormer(nn.Module):
    """The whole model, from mixture to stems."""

    bins: Tensor
    count: Tensor

    def __init__(self, config: RoFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = config.rest
        self.grid = config.hop
        self.batch = 1  # a chunk of sixty bands fills any device
        self.stft = STFT(config.n_fft, config.hop)
        bands = config.table()
        bins = [bin_ for band in bands for bin_ in band]
        count = [number for _, number in sorted(Counter(bins).items())]
        self.register_buffer("bins", torch.tensor(bins), persistent=False)  # of the first band, the second, and so on
        self.register_buffer("count", torch.tensor(count), persistent=False)  # in how many bands a bin is
        numbers = [2 * (2 if config.stereo else 1) * len(band) for band in bands]  # real and imaginary, left and right
        self.band_split = BandSplit(numbers, config.width)
        self.layers = nn.ModuleList(block(config) for _ in range(config.depth))
        self.final_norm = RMSNorm(config.width) if config.norm == "last" else nn.Identity()
        masks = len(config.sources) - config.rest
        self.mask_estimators = nn.ModuleList(MaskEstimator(config, numbers) for _ in range(masks))

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time).

        To a stereo model mono is two equal channels, and the two that come out are averaged.
        """
        if not self.config.stereo:
            stems = self.net(mix.flatten(0, 1).unsqueeze(1))  # (batch · channel, source, 1, time)
            stems = stems.view(*mix.shape[:2], -1, mix.shape[2]).transpose(1, 2)
        else:
            stems = in_stereo(self.net, mix)
        return torch.cat([stems, mix.unsqueeze(1) - stems.sum(1, keepdim=True)], 1) if self.config.rest else stems

    def net(self, mix: Tensor) -> Tensor:
        """Estimate what has masks: (batch, 1 or 2, time) -> (batch, source, 1 or 2, time)."""
        spectrum = self.stft(mix).transpose(1, 3)  # (batch, frame, bin, channel)
        x = torch.view_as_real(spectrum[:, :, self.bins]).flatten(2)  # (batch, frame, numbers of all bands)
        x = self.band_split(x)  # (batch, frame, band, width)
        for transformers in self.layers:
            *linear, time, band = transformers.children()
            for both in linear:
                x = both(x.flatten(1, 2)).view_as(x)
            x = alone(time, x.transpose(1, 2)).transpose(1, 2)
            x = alone(band, x)
        x = self.final_norm(x)
        stems = [self.masked(spectrum, estimator(x), mix.shape[2]) for estimator in self.mask_estimators]
        return torch.stack(stems, 1)

    def masked(self, spectrum: Tensor, masks: Tensor, length: int) -> Tensor:
        """Cut a source out of the mixture's spectrum. A bin's mask is the mean of what its bands say.

        (batch, frame, bin, channel), (batch, frame, numbers of all bands) -> (batch, channel, time).
        """
        parts = masks.to(spectrum.real.dtype).view(*masks.shape[:2], len(self.bins), -1, 2)  # of each band's bins
        total = parts.new_zeros(*spectrum.shape, 2).index_add_(2, self.bins, parts)
        mask = torch.view_as_complex(total / self.count[:, None, None])  # (batch, frame, bin, channel)
        return self.stft.inverse((spectrum * mask).transpose(1, 3), length)


def alone(transformer: nn.Module, x: Tensor) -> Tensor:
    """Let each row of tokens hear itself only: (batch, row, token, width) -> (batch, row, token, width)."""
    # Contiguous, or torch multiplies matrices one row after the other: half as fast.
    out: Tensor = transformer(x.flatten(0, 1).contiguous())
    return out.view(x.shape)
