"""The layers of a D2-GRU: GRUs that look some frames back, and dilated convolutions in groups.

For inference on a processor both are written out: what a card has kernels for costs many small steps there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.parallel import side_by_side
from separate.models.inference import ROWS, Product, Room, coarse, inferring
from separate.models.recurrent import recur
from separate.models.through_time import GRU

__all__ = ["Conv", "DilatedGRU", "Taps"]


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
        self.ahead = GRU(width, hidden)
        self.back = GRU(width, hidden)

    def forward(self, x: Tensor, room: Room | None = None) -> Tensor:
        """Run both directions: (time, batch, width) -> (time, batch, width); for inference in some room."""
        if not inferring(x):
            ahead, back = self.folded((self.ahead, x, False, None)), self.folded((self.back, x.flip(0), False, None))
            return torch.cat([ahead, back.flip(0)], 2) if self.concat else ahead + back.flip(0)
        size = self.rows(len(x)), x.shape[1], self.ahead.hidden_size
        room = room or Room(torch.Size(size).numel(), x)
        places = room.take(*size), room.take(*size)  # what threads take themselves would be theirs
        ahead, back = side_by_side(self.folded, [(self.ahead, x, False, places[0]), (self.back, x, True, places[1])])
        if self.concat:
            y = torch.cat([ahead, back], 2)
            room.leave(ahead)
        else:
            y = ahead.add_(back)
        room.leave(back)
        return y

    def rows(self, time: int) -> int:
        """Count so many frames with those that fill up the interleaved sequences."""
        return -(-time // self.dilation) * self.dilation

    def folded(self, direction: tuple[nn.GRU, Tensor, bool, Tensor | None]) -> Tensor:
        """Run one direction over the interleaved sequences: (time, batch, width) -> (time, batch, hidden).

        The padding of the fold must not reach the state: it comes last, or first for a GRU that runs backwards. For
        inference the answer, and its padding, have a place.
        """
        gru, x, backwards, place = direction
        time, batch, width = x.shape
        padding = self.rows(time) - time
        if padding:
            ends = (padding, 0) if backwards else (0, padding)
            x = F.pad(x, (0, 0, 0, 0, *ends))  # (rows, batch, width)
        x = x.reshape(-1, self.dilation * batch, width)  # (rows / k, k · batch, width)
        y: Tensor = gru(x)[0] if place is None else recur(gru, x, False, backwards, place.view(*x.shape[:2], -1))
        y = y.reshape(-1, batch, y.shape[2])
        return y[padding:] if backwards else y[:time]


class Conv(nn.Module):
    """A convolution over time that keeps its length, with the leaky ReLU that all but the last one have."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups)

    def forward(self, x: Tensor, room: Room | None = None) -> Tensor:
        """Convolve and rectify: (time, batch, inputs) -> (time, batch, outputs); for inference in some room."""
        return self.prepared(x, room)(x)

    def prepared(self, like: Tensor, room: Room | None = None) -> Callable[[Tensor], Tensor]:
        """Find the fastest `forward` for tensors like this one, to be used for several."""
        linear, rectified = self.answerer(like, room), F.leaky_relu_ if inferring(like) else F.leaky_relu
        # Contiguous, as everything between convolutions is: products and sums of mixed layouts are slow.
        return lambda x: rectified(linear(x), 0.01).contiguous()

    def answerer(self, like: Tensor, room: Room | None = None) -> Callable[[Tensor], Tensor]:
        """Find the fastest `linear` for tensors like this one."""
        return Taps(self.conv, like, room) if inferring(like) else self.linear

    def linear(self, x: Tensor) -> Tensor:
        """Leave out the leaky ReLU: (time, batch, inputs) -> (time, batch, outputs)."""
        y: Tensor = self.conv(x.permute(1, 2, 0))
        return y.permute(2, 0, 1)


class Taps:
    """A convolution over time as one product, of what all its taps hear, side by side: for inference on a processor.

    Frames then lie in memory as in a spectrogram, one after the other, and nothing has to be turned around.
    """

    def __init__(self, conv: nn.Conv1d, like: Tensor, room: Room | None = None) -> None:
        assert conv.bias is not None
        self.room = room
        self.taps, self.dilation, self.padding = conv.kernel_size[0], conv.dilation[0], int(conv.padding[0])
        self.dtype, self.outputs, self.groups = coarse(like), conv.out_channels, conv.groups
        weight = conv.weight.transpose(1, 2).flatten(1)  # (output, tap · input of its group)
        self.product: Callable[[Tensor], Tensor]
        if self.groups == 1:
            self.product = Product(weight, conv.bias, self.dtype, ROWS)
        else:
            weights = torch.unflatten(weight, 0, (self.groups, -1)).mT.to(self.dtype).contiguous()
            self.product = partial(torch.baddbmm, conv.bias.view(self.groups, 1, -1).to(self.dtype), batch2=weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve: (time, batch, inputs) -> (time, batch, outputs)."""
        size = *x.shape[:2], self.outputs
        y = self.room.take(*size) if self.room else x.new_empty(size)
        starts = range(0, self.taps * self.dilation, self.dilation)
        for one, out in zip(x.unbind(1), y.unbind(1), strict=True):  # (time, inputs), (time, outputs)
            padded = F.pad(one.to(self.dtype), (0, 0, self.padding, self.padding))
            groups = torch.unflatten(padded, 1, (self.groups, -1)).transpose(0, 1)  # (group, time, inputs of it)
            heard = torch.cat([groups[:, start : start + len(x)] for start in starts], 2)
            torch.unflatten(out, 1, (self.groups, -1)).copy_(self.product(heard).transpose(0, 1))
        return y
