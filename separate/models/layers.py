"""Layers that two or more architectures use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["STEREO", "Bands", "fold_weight_norm", "in_stereo", "line_of", "normed", "weight_norm_"]

STEREO = 2

_G, _V = "parametrizations.weight.original0", "parametrizations.weight.original1"


def line_of(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Find what a norm multiplies by, and what it adds then, for inference."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Convolve and normalise in one go, for inference: (batch, inputs, bin, frame) -> (batch, outputs, bin, frame).

    γ (w * x + b − μ) / √(σ² + ε) + β is a convolution too.
    """
    scale, bias = line_of(norm)
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def in_stereo(net: Callable[[Tensor], Tensor], song: Tensor) -> Tensor:
    """Run a net of two channels: mono is heard as two equal ones, and the two that come out are averaged.

    (batch, channel, ...) -> (batch, source, channel, ...).
    """
    channels = song.shape[1]
    if channels > STEREO:
        raise ValueError(f"a net of two channels cannot hear {channels}")
    stems = net(song.expand(-1, STEREO, *song.shape[2:]))
    return stems if channels == STEREO else stems.mean(2, keepdim=True)


def weight_norm_(model: nn.Module) -> None:
    """Split the weight of every convolution in `model` into length and direction, for training.

    w = g · v / ‖v‖, one g an output channel. `fold_weight_norm` puts the weights back together.
    """
    for layer in list(model.modules()):
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            parametrizations.weight_norm(layer)


def fold_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn every split weight of a state dict back into a plain one: w = g · v / ‖v‖."""
    folded = {}
    for name, value in state.items():
        if name.endswith(_G):
            v = state[name.removesuffix(_G) + _V]
            norm = v.float().flatten(1).norm(dim=1).reshape(value.shape)
            folded[name.removesuffix(_G) + "weight"] = (v.float() * (value.float() / norm)).to(value.dtype)
        elif not name.endswith(_V):
            folded[name] = value
    return folded


class Bands(nn.Module):
    """Bins of a spectrogram ↔ fewer bands: one a bin at the bottom, ever wider ones above.

    Band centres: c(b) = b below b₀, and b₀ · exp((b − b₀) / b₀) above, with b₀ so that the last band sits on bin
    `bins` − 1: the spacing grows smoothly from one bin. A bin between two centres belongs to both, by its distance to
    each, so that `expand` interpolates and a constant stays one. Bins from `bins` upwards take the last band's value.
    Both directions compute in float32, under `torch.autocast` too, or in float64 where that is what comes in.

    >>> bands = Bands(total=9, bins=9, bands=5)
    >>> bands.expand(torch.ones(5, 1)).squeeze()
    tensor([1., 1., 1., 1., 1., 1., 1., 1., 1.])
    """

    weight: Tensor
    left: Tensor
    share: Tensor

    def __init__(self, total: int, bins: int, bands: int) -> None:
        super().__init__()
        centres = torch.tensor(band_centres(bins, bands), dtype=torch.float64)
        bin_ = torch.arange(total, dtype=torch.float64).clamp(max=bins - 1)
        left = torch.searchsorted(centres, bin_).clamp(1, bands - 1) - 1
        share = (bin_ - centres[left]) / (centres[left + 1] - centres[left])
        weight = torch.zeros(bands, total, dtype=torch.float64)
        weight[left, torch.arange(total)] = 1 - share
        weight[left + 1, torch.arange(total)] = share
        self.bins = bins
        self.register_buffer("weight", weight.float(), persistent=False)  # (band, bin)
        self.register_buffer("left", left, persistent=False)  # (bin,): the nearest centre below
        self.register_buffer("share", share.float(), persistent=False)  # (bin,): how much the one above it counts

    def compress(self, x: Tensor) -> Tensor:
        """Average bins into bands: (..., bin, frame) -> (..., band, frame)."""
        x = x[..., : self.bins, :].to(torch.promote_types(x.dtype, torch.float32))
        weight = self.weight[:, : self.bins].to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return (weight / weight.sum(1, keepdim=True)) @ x

    def expand(self, x: Tensor) -> Tensor:
        """Interpolate bands into bins: (..., band, frame) -> (..., bin, frame)."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x[..., self.left, :].lerp_(x[..., self.left + 1, :], self.share[:, None].to(x.dtype))


def band_centres(bins: int, bands: int) -> list[float]:
    """Find the centres of `bands` bands over `bins` bins, in bins."""
    if bands >= bins:
        return [b * (bins - 1) / (bands - 1) for b in range(bands)]
    low, high = 1e-3, float(bands)
    for _ in range(60):  # the last centre falls as the corner rises: bisect
        corner = (low + high) / 2
        exponent = (bands - 1 - corner) / corner
        if exponent > math.log(1e9) or corner * math.exp(exponent) > bins - 1:
            low = corner
        else:
            high = corner
    centres = [b if b < corner else corner * math.exp((b - corner) / corner) for b in range(bands)]
    return [*centres[:-1], float(bins - 1)]
