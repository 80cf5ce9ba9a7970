"""What the versions of Demucs have in common: convolutions over time, and in 3 and 4 residual branches.

    x -> x + scale · GLU(norm(conv 1(attention(LSTM(GELU(norm(dilated conv(x))))))))

LSTM and attention are in the deep layers only. A branch is a few times narrower than the layer it sits in. Everything
is (row, channel, 1, time), a row being a song, or a frequency of one, with the channels next to each other in memory:
there a convolution is a matrix product without copies.

Products are cheap here, and passes over wide features are what takes the time. So the two halves of a GLU are computed
apart, and the norm before one is found from the narrow input of the convolution before that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models.inference import ROWS, Product, coarse, inferring
from separate.models.recurrent import remember

__all__ = ["HEADS", "LSTM", "DConv", "TimeConv", "TimeTransposed", "channels_last", "check_width", "gated", "rescale_"]

STEPS = 200  # that an LSTM hears at once
HEADS, DECAYS = 4, 4  # of local attention, and of each of its heads


class TimeConv(nn.Conv1d):
    """nn.Conv1d over (batch, channel, row, time)."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve: (batch, inputs, row, time) -> (batch, outputs, row, time / stride)."""
        stride, padding, dilation = (1, *self.stride), (0, int(self.padding[0])), (1, *self.dilation)
        if inferring(input) and bias is not None and (padding, dilation) == ((0, 0), (1, 1)):
            kernel, (_, inputs, rows, time) = weight.shape[2], input.shape
            if rows * time // stride[1] <= inputs * kernel // 4:
                # There is more weight than song, and a product lays its weights out faster than a convolution.
                windows = input.permute(0, 2, 3, 1).unfold(2, kernel, stride[1]).transpose(3, 4).flatten(3)
                low = coarse(input)
                product = Product(weight.transpose(1, 2).flatten(1), bias, low, ROWS)
                return product(windows.to(low)).permute(0, 3, 1, 2)
        return F.conv2d(input, weight.unsqueeze(2), bias, stride, padding, dilation)


class TimeTransposed(nn.ConvTranspose1d):
    """nn.ConvTranspose1d over (batch, channel, row, time)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve: (batch, inputs, row, time) -> (batch, outputs, row, time · stride + rest)."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        if inferring(input) and kernel == 2 * stride and self.out_channels * kernel <= 2 * self.in_channels:
            # So few outputs leave vectors of a convolution half empty: a product of all taps' does not.
            assert self.bias is not None
            weight, none = self.weight.permute(2, 1, 0).flatten(0, 1), self.bias.new_zeros(kernel * self.out_channels)
            low = coarse(input)
            product = Product(weight, none, low, ROWS)
            first, second = product(input.permute(0, 2, 3, 1).to(low)).chunk(2, 3)
            y = F.pad(first, (0, 0, 0, 1))  # (batch, row, time + 1, stride · outputs)
            y[:, :, 1:] += second
            y += self.bias.repeat(stride)
            return torch.unflatten(y, 3, (stride, -1)).flatten(2, 3).permute(0, 3, 1, 2)
        return F.conv_transpose2d(input, self.weight.unsqueeze(2), self.bias, (1, *self.stride))


class LSTM(nn.Module):
    """A bidirectional LSTM over time, and a linear layer back to the width of its input."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers, bidirectional=True)
        self.linear = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(row, width, 1, time) -> (row, width, 1, time)."""
        x = x.squeeze(2).permute(2, 0, 1)  # (time, row, width)
        with torch.autocast(x.device.type, enabled=False):  # it would convert its weights at every step
            y = self.linear(remember(self.lstm, x.to(self.linear.weight.dtype)))
        return channels_last(y.permute(1, 2, 0))


class FramedLSTM(LSTM):
    """The same in a residual branch: in stretches of 200 steps, of which the inner 100 count."""

    def __init__(self, width: int) -> None:
        super().__init__(width, layers=2)

    def forward(self, x: Tensor) -> Tensor:
        """(row, width, 1, time) -> (row, width, 1, time)."""
        rows, width, _, time = x.shape
        if time <= STEPS:
            return x + super().forward(x)
        hop = STEPS // 2
        count = -(-time // hop)
        frames = F.pad(x, (0, (count - 1) * hop + STEPS - time)).unfold(3, STEPS, hop)  # (row, width, 1, count, step)
        y = super().forward(frames.permute(0, 3, 1, 2, 4).flatten(0, 1))  # (row · count, width, 1, step)
        y = y.view(rows, count, width, STEPS).transpose(1, 2)  # (row, width, count, step)
        inner = y[..., hop // 2 : -hop // 2].flatten(2)  # what the first one hears before is used too
        whole = torch.cat([y[:, :, 0, : hop // 2], inner, y[:, :, -1, -hop // 2 :]], 2)
        return x + whole[..., :time].unsqueeze(2)


class LocalAttention(nn.Module):
    """Attention to other times, the less the further away: how much less, each time says for itself.

    dots[t, s] = k[t] · q[s] / √d − |t − s| slope[s],    slope = Σ_f f σ(decay_f) / (2 √decays)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.content = nn.Conv1d(width, width, 1)
        self.query = nn.Conv1d(width, width, 1)
        self.key = nn.Conv1d(width, width, 1)
        self.query_decay = nn.Conv1d(width, HEADS * DECAYS, 1)
        self.proj = nn.Conv1d(width, width, 1)
        with torch.no_grad():  # far sight to begin with
            self.query_decay.weight.mul_(0.01)
            assert self.query_decay.bias is not None
            self.query_decay.bias.fill_(-2)

    def forward(self, x: Tensor) -> Tensor:
        """(row, width, 1, time) -> (row, width, 1, time)."""
        rows, width, _, time = x.shape
        y = x.squeeze(2)
        query, key, content = (self.heads(layer(y)) for layer in (self.query, self.key, self.content))
        fine = torch.promote_types(y.dtype, torch.float32)
        decay = self.heads(self.query_decay(y)).to(fine).sigmoid()  # (row, head, time, decay)
        rank = torch.arange(1, DECAYS + 1, device=x.device, dtype=fine)
        slope = (decay * rank).sum(3) / (2 * DECAYS**0.5)  # (row, head, time)
        at = torch.arange(time, device=x.device, dtype=fine)
        dots = query @ key.mT / key.shape[3] ** 0.5 - (at[:, None] - at).abs() * slope.unsqueeze(3)
        itself = torch.eye(time, device=x.device, dtype=torch.bool)
        weights = dots.masked_fill_(itself, -100).softmax(3)  # (row, head, time, time): of all others
        heard = (weights.to(content.dtype) @ content).mT.reshape(rows, width, time)
        return x + channels_last(self.proj(heard))

    def heads(self, x: Tensor) -> Tensor:
        """(row, head · width, time) -> (row, head, time, width)."""
        return torch.unflatten(x, 1, (HEADS, -1)).mT


class Scale(nn.Module):
    """A factor for every channel, small to begin with."""

    def __init__(self, width: int, init: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor) -> Tensor:
        """(row, channel, 1, time) -> (row, channel, 1, time)."""
        return self.scale[:, None, None].to(x.dtype) * x


class DConv(nn.Module):
    """Residual branches, one after the other: the first hears neighbours, the next ever further ones."""

    def __init__(self, width: int, depth: int, compress: float, init: float, lstm: bool, attention: bool) -> None:
        super().__init__()
        inner = int(width / compress)
        self.layers = nn.ModuleList()
        for i in range(depth):
            branch: list[nn.Module] = [
                TimeConv(width, inner, 3, dilation=2**i, padding=2**i),
                RowNorm(inner),
                nn.GELU(),
                *([FramedLSTM(inner)] if lstm else []),
                *([LocalAttention(inner)] if attention else []),
                TimeConv(inner, 2 * width, 1),
                nn.GroupNorm(1, 2 * width),
                nn.GLU(1),
                Scale(width, init),
            ]
            self.layers.append(nn.Sequential(*branch))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channel, frequency, time) -> (batch, channel, frequency, time): a row of its own each frequency.

        Nobody needs x afterwards.
        """
        rows = x.permute(0, 2, 3, 1).flatten(0, 1).unsqueeze(1).permute(0, 3, 1, 2)  # (row, channel, 1, time)
        for layer in self.layers:
            *narrow, conv, norm, _, scale = cast("Iterable[Any]", layer)
            y = rows
            for part in narrow:
                y = part(y)
            add = rows.addcmul_ if inferring(rows) else rows.addcmul  # new memory takes longer than the sum
            rows = add(*normed_gate(y, conv, norm, scale.scale))
        return rows.permute(0, 2, 3, 1).reshape(*x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)


class RowNorm(nn.GroupNorm):
    """nn.GroupNorm of one group over (row, channel, 1, time): a row at once, as it lies in memory."""

    def __init__(self, width: int) -> None:
        super().__init__(1, width)

    def forward(self, input: Tensor) -> Tensor:
        """(row, channel, 1, time) -> (row, channel, 1, time)."""
        x = input.permute(0, 2, 3, 1)  # (row, 1, time, channel)
        weight, bias = (each.expand(x.shape[1:]).contiguous() for each in (self.weight, self.bias))
        return F.layer_norm(x, x.shape[1:], weight, bias, self.eps).permute(0, 3, 1, 2)


def normed_gate(x: Tensor, conv: nn.Conv1d, norm: nn.GroupNorm, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the factors of scale · GLU(norm(conv x)), where the convolution has a kernel of 1, and is wide.

    With x' = (x, 1) and W' = (W, b) it gives W' x'. Over all outputs o and times t that has the mean w̄ · x̄ and the mean
    square Σᵢⱼ (W'ᵀ W' / O)ᵢⱼ (Σₜ x' x'ᵀ / T)ᵢⱼ, with w̄ and x̄ the means over o and over t. So the normed is again such a
    product: γ (W' x' − μ) / σ + β = γ W' (x' / σ) − γ (μ / σ) + β.

    (row, inner, 1, time) -> twice (row, width, 1, time).
    """
    assert conv.bias is not None
    fine = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        rows = F.pad(x.squeeze(2).mT.to(fine), (0, 1), value=1.0)  # (row, time, inner + 1)
        weight = torch.cat([conv.weight.squeeze(2), conv.bias.unsqueeze(1)], 1).to(fine)  # (outputs, inner + 1)
        squares = rows.mT @ rows / rows.shape[1]
        mean = squares[:, -1] @ weight.mean(0)
        var = (squares * (weight.mT @ weight / len(weight))).sum((1, 2)) - mean.square()
        inverse = (var.clamp_min(0) + norm.eps).rsqrt()
        rows = torch.cat([rows, mean[:, None, None].expand(-1, rows.shape[1], 1)], 2) * inverse[:, None, None]
    # All rows are one for a convolution, to which many short ones cost three times as much.
    whole = rows.to(x.dtype).view(1, 1, -1, rows.shape[2]).permute(0, 3, 1, 2)  # (1, inner + 2, 1, row · time)
    weight = norm.weight.unsqueeze(1) * F.pad(weight, (0, 1), value=-1.0)
    (to_value, to_gate), (value, gate) = weight[..., None, None].chunk(2), norm.bias.chunk(2)
    to_value = to_value * scale[:, None, None, None]
    halves = F.conv2d(whole, to_value, value * scale), F.conv2d(whole, to_gate, gate).sigmoid_()
    shape = (len(x), 1, -1, len(to_value))
    first, second = (half.permute(0, 2, 3, 1).reshape(shape).permute(0, 3, 1, 2) for half in halves)
    return first, second


def gated(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Compute GLU(conv x), the halves apart: (batch, inputs, row, time) -> (batch, width, row, time)."""
    assert conv.bias is not None
    halves = zip(conv.weight.chunk(2), conv.bias.chunk(2), strict=True)
    value, gate = (conv._conv_forward(x, weight, bias) for weight, bias in halves)
    gate.sigmoid_()
    out: Tensor = value.mul_(gate) if inferring(value) else value * gate
    return out


def check_width(width: int, groups: int, compress: float, heads: int) -> None:
    """Refuse a layer whose channels its norm's groups, or a residual branch's heads, cannot share; 0 is for none."""
    if groups and width % groups:
        raise ValueError(f"norm_groups = {groups} do not divide the {width} channels of a layer")
    inner = int(width / compress) if compress else heads
    if compress and (inner < 1 or (heads and inner % heads)):
        raise ValueError(
            f"dconv_compress = {compress} leaves {inner} of {width} channels in a residual branch: too few, or not "
            f"to be shared by {heads} heads of attention"
        )


def rescale_(model: nn.Module, reference: float) -> None:
    """Divide weight and bias of every convolution by √α, where α = std(weight) / `reference`."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d | nn.Conv2d | nn.ConvTranspose2d):
            if layer.weight.is_meta:  # it will be loaded
                continue
            scale = (layer.weight.detach().std() / reference).sqrt()
            for parameter in layer.parameters():
                parameter.data /= scale


def channels_last(x: Tensor) -> Tensor:
    """Lay out channels next to each other in memory: (batch, channel, time) -> (batch, channel, 1, time)."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
