"""Dilated Convolution with Dilated GRU for Music Source Separation (Liu and Yang, IJCAI 2019).

A stack of blocks that keep time at full resolution. In each, a dilated bidirectional GRU mixes all channels and reaches
far in time; a dilated grouped convolution refines its output; input, GRU and convolution are summed.

    magnitudes -> log(1 + m) -> conv -> block 1 -> block 2 -> block 3 -> conv -> magnitudes of all sources

The net sees one audio channel at a time, and with `sides` also what that channel does not share with the others. With a
`level` it hears loud and quiet songs alike.
Every variant of the paper's Tables 2 and 4 to 7 is a row of ABLATIONS. Inside, everything is (time, batch, width):
there, folding time for a dilated GRU is a view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.masks import ratio_mask
from separate.dsp.stft import STFT, magnitude
from separate.models.dilated import Conv, DilatedGRU
from separate.models.inference import Room, inferring, plus
from separate.models.layers import Bands
from separate.models.settings import check_choices, check_frames, check_least, check_post, check_sources
from separate.models.spectral import Span, Used, gathered, spans, stems_from

__all__ = ["ABLATIONS", "D2GRU", "D2GRUConfig", "DilatedGRU"]

RMS = 0.14  # of what a net with a `level` hears: that of the mixes which ours were trained with
FLOOR = 1e-4  # of that, which a song of digital silence is not made any louder than
WIDE = 1024  # channels: from here on the weights of a GRU do not fit a processor's cache


@dataclass(frozen=True)
class D2GRUConfig:
    """The paper's model, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "drums", "bass", "other")
    sample_rate: int = 44100
    n_fft: int = 4096
    hop: int = 1024
    segment: float = 20.0  # seconds of a chunk
    context: float = 0.5  # of which so many at either end are only surroundings
    bins: int = 0  # the net hears bins below this one; 0: all
    bands: int = 0  # and these averaged to so many bands, which its masks have too; 0: no averaging
    level: float = 0.0  # seconds to either side that decide how loud a frame is to it; 0: as loud as the song is
    sides: bool = False  # it hears, beside every channel, how far that is from the mean of all channels
    width: int = 2048
    layers: tuple[str, str] = ("gru", "conv")  # of a block: "gru", "conv", "pointwise" or "none"
    skip: str = "d2"  # "d2", "dense", "residual" or "none": see Block
    gru_dilation: tuple[int, ...] = (1, 1, 1)  # one number a block
    conv_dilation: tuple[int, ...] = (2, 4, 8)
    groups: int = 32
    merge: str = "sum"  # how the two directions of a GRU meet: "sum" at full width each, "concat" at half
    output: str = "log"  # "log": the net says log(1 + magnitude); "mask": it says a share of the mixture's magnitude
    gains: bool = False  # its masks were learnt by the stems that they cut out: to a Wiener filter, shares of power
    active: int = -1  # run only the first so many blocks of a trained model; -1: all
    wiener: int = 1  # EM iterations; 0: ratio masks
    griffin_lim: int = 0  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        self._check_sizes()
        check_choices(self, _CHOICES)
        if self.width % self.groups or (self.merge == "concat" and self.width % 2):
            raise ValueError(f"a width of {self.width} does not split into {self.groups} groups and two directions")
        if len(self.layers) != 2 or not set(self.layers) <= {"gru", "conv", "pointwise", "none"}:
            raise ValueError(f"layers must be two of gru, conv, pointwise and none, got {self.layers!r}")
        if self.bands and self.output == "log":
            raise ValueError('bands need output = "mask": magnitudes cannot be interpolated from them')
        if not 0 <= self.level <= self.context:
            raise ValueError(f"level must be from 0 to the context of {self.context} s, got {self.level}")
        if self.level and self.output == "log":
            raise ValueError('level needs output = "mask": magnitudes would be as loud as what is heard')
        if self.gains and self.output == "log":
            raise ValueError('gains needs output = "mask": magnitudes are none')
        check_post(self.wiener, self.griffin_lim)

    def _check_sizes(self) -> None:
        check_least(self, {"width": 1, "groups": 1})
        check_sources(self.sources)
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
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


def layer(kind: str, config: D2GRUConfig, block: int) -> nn.Module:
    """One of the two layers of a block."""
    if kind == "gru":
        return DilatedGRU(config.width, config.gru_dilation[block], config.merge)
    if kind == "conv":
        return Conv(config.width, config.width, 3, config.conv_dilation[block], config.groups)
    return Conv(config.width, config.width, 1) if kind == "pointwise" else Nothing()


class Nothing(nn.Module):
    """No layer."""

    def forward(self, x: Tensor, room: Room | None = None) -> Tensor:
        """Return what came."""
        return x


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

    def forward(self, x: Tensor, room: Room | None = None) -> Tensor:
        """Run both layers: (time, batch, width) -> (time, batch, width); for inference in some room."""
        a = self.first(x, room)
        if self.skip in ("dense", "residual"):
            a = a + x
        out: Tensor = self.second(a, room)
        if self.skip != "none":
            out = plus(out, a)
            if room:
                room.leave(a, x, out)
        return plus(out, x) if self.skip in ("d2", "dense") else out


class D2GRU(nn.Module):
    """The whole model, from mixture to stems."""

    trims = True
    overlap = 0.03  # chunks whose surroundings are heard need but a short fade from one to the next

    def __init__(self, config: D2GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.grid = config.hop * lcm(*config.gru_dilation)  # samples: on it, chunks see the song's frames, folded alike
        self.sums = not config.griffin_lim
        if config.width >= WIDE:
            # The GRUs read their weights for every step, and more chunks share them, the last one too.
            self.batch, self.even = 16, True
        total = config.n_fft // 2 + 1
        self.bins = config.bins or total
        self.stft = STFT(config.n_fft, config.hop)
        self.bands = Bands(total, self.bins, config.bands) if config.bands else None
        self.input = Conv((config.bands or self.bins) * (1 + config.sides), config.width, 3)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(len(config.gru_dilation)))
        self.output = Conv(config.width, len(config.sources) * (config.bands or total), 3)

    def forward(self, mix: Tensor, used: Used = None) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time), silent but for what is `used`."""
        return gathered(self.each(mix, used), len(mix))

    def each(self, mix: Tensor, used: Used = None) -> Iterator[Tensor]:
        """Separate: (batch, channel, time) -> for each of the batch (source, channel, time), as above."""
        wiener, griffin_lim = self.config.wiener, self.config.griffin_lim
        parts = spans(mix, self.stft, used, griffin_lim)
        return stems_from(self.songs(mix, parts), self.stft, parts, wiener, griffin_lim)

    def songs(self, mix: Tensor, parts: Sequence[Span]) -> Iterator[tuple[Tensor, Tensor]]:
        """Estimate magnitudes with all songs at once in the blocks, but one after the other in full size.

        (batch, channel, time) -> for each of the batch, of the frames of its part, the spectrogram (channel, bin,
        frame) and magnitudes (source, channel, bin, frame). To transform a song twice costs less than memory for all.
        """
        channels, hidden = mix.shape[1], self.hidden(mix)
        answer = self.output.answerer(hidden)
        for song, of, part in zip(mix, torch.split(hidden, channels, 1), parts, strict=True):
            # One frame more to either side, which the last layer hears.
            first, stop = max(0, part.frames.start - 1), part.frames.stop + 1
            said = answer(of[first:stop])[part.frames.start - first :]  # (frame, channel, outputs)
            y = self.parts(said[: part.frames.stop - part.frames.start])
            mixture = self.stft(song)[..., part.frames]
            yield mixture, self.magnitudes(y.movedim(1, 0), mixture)

    def hidden(self, mix: Tensor) -> Tensor:
        """Run all layers but the last: (batch, channel, time) -> (frame, batch · channel, width)."""
        batch, channels, length = mix.shape
        frames = self.stft.frames(length) + max(self.config.gru_dilation, default=1)  # to fill up interleaved sequences
        room = Room(frames * batch * channels * self.config.width, mix) if inferring(mix) else None
        return self.deep(self.shallow(mix, room), room)

    def shallow(self, mix: Tensor, room: Room | None) -> Tensor:
        """Run what comes before the blocks, where there is room on one song after the other.

        (batch, channel, time) -> (frame, batch · channel, width).
        """
        if not room:
            x: Tensor = self.input(self.listen(self.stft(mix)))
            return x
        layer = self.input.prepared(mix)
        x = room.take(self.stft.frames(mix.shape[2]), *mix.shape[:2], self.config.width)
        for song, out in zip(mix, x.unbind(1), strict=True):
            out.copy_(layer(self.listen(self.stft(song[None]))))
        return x.flatten(1, 2)

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate every source's magnitudes from the mixture's spectrogram.

        (batch, channel, bin, frame) -> (batch, source, channel, bin, frame).
        """
        return self.magnitudes(self.net(mixture), mixture)

    def net(self, mixture: Tensor) -> Tensor:
        """Run the layers: (batch, channel, bin, frame) -> (batch, source, channel, bin or band, frame)."""
        x = self.deep(self.input(self.listen(mixture)))
        y = self.parts(self.output.answerer(x)(x))  # (batch · channel, source, bin or band, frame)
        return torch.unflatten(y, 0, (-1, mixture.shape[1])).transpose(1, 2)

    def listen(self, mixture: Tensor) -> Tensor:
        """Prepare for the net what it hears: (batch, channel, bin, frame) -> (frame, batch · channel, inputs)."""
        heard = self.heard(mixture)  # (batch, channel, bin or band, frame)
        gain = self.gain(heard) if self.config.level else None
        if self.config.sides:
            heard = torch.cat([heard, self.heard(mixture - mixture.mean(1, keepdim=True))], 2)
        if gain is not None:
            heard *= gain
        return heard.flatten(0, 1).log1p_().permute(2, 0, 1)

    def deep(self, x: Tensor, room: Room | None = None) -> Tensor:
        """Run the blocks: (frame, batch · channel, width) -> (frame, batch · channel, width)."""
        active = self.config.active
        for block in self.blocks if active < 0 else self.blocks[:active]:
            y = block(x, room)
            if room:
                room.leave(x, y)
            x = y
        return x

    def gain(self, heard: Tensor) -> Tensor:
        """Find the gain that brings each frame's surroundings to RMS.

        (batch, channel, bin or band, frame) -> (batch, 1, 1, frame).

        How loud a song is does not say what is in it, and nets that learnt at one level fail at others. The mean of the
        power around a frame, and of that the geometric mean over as long, moves slowly. Chunks whose context is as long
        find what the whole song finds. Masks apply to the song as it is: there is nothing to restore.
        """
        reach = round(self.config.level * self.sample_rate / self.config.hop) // 2  # frames, of either mean
        window = 2 * reach + 1, 1, reach  # its length, step, and padding
        unit = self.config.n_fft / 2 * self.stft.window.square().sum()  # power of a frame of white noise
        power = self.power(heard).mean(1) / unit  # (batch, frame)
        power = F.avg_pool1d(power, *window, count_include_pad=False).clamp_min((FLOOR * RMS) ** 2)
        level = F.avg_pool1d(power.log(), *window, count_include_pad=False)
        return (RMS * (-level / 2).exp())[:, None, None]

    def power(self, heard: Tensor) -> Tensor:
        """Add up the power of what is heard: (batch, channel, bin or band, frame) -> (batch, channel, frame)."""
        if not self.bands:
            return heard.square().sum(2)
        bins = self.bands.weight[:, : self.bins].sum(1).to(heard.dtype)  # of each band
        return torch.einsum("bcif,i->bcf", heard.square(), bins)

    def deepened(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add to the weights of a net with fewer blocks those that it lacks, such that nothing changes at first.

        A GRU whose candidate is always zero stays silent, and so does a convolution of silence without a bias: of a
        block with all its skips, the input remains. To train it further costs less than to train a deep net.
        """
        if self.config.layers != ("gru", "conv") or self.config.skip != "d2":
            return state
        mine = self.state_dict().items()
        new = {name: weight.clone() for name, weight in mine if name.startswith("blocks.") and name not in state}
        for name, weight in new.items():
            if ".first." in name:
                weight.chunk(3)[2].zero_()
            elif name.endswith(".second.conv.bias"):
                weight.zero_()
        return state | new

    def parts(self, said: Tensor) -> Tensor:
        """Tell apart what the last layer says: (frame, item, outputs) -> (item, source, bin or band, frame)."""
        return torch.unflatten(said.float(), 2, (len(self.sources), -1)).permute(1, 2, 3, 0)

    def heard(self, x: Tensor) -> Tensor:
        """Keep what the net hears of a spectrogram: (..., bin, frame) -> (..., bin or band, frame)."""
        return self.bands.compress(magnitude(x)) if self.bands else magnitude(x[..., : self.bins, :])

    def magnitudes(self, y: Tensor, mixture: Tensor) -> Tensor:
        """Turn what the layers say, `y`, of a mixture's spectrogram into magnitudes.

        (..., source, channel, bin or band, frame), (..., channel, bin, frame) -> (..., source, channel, bin, frame).
        """
        if self.config.output == "log":
            return y.clamp_(min=0).expm1_()  # in place: there is no larger tensor
        mask = self.bands.expand(y.sigmoid()) if self.bands else y.sigmoid()
        if self.config.wiener or self.config.griffin_lim:  # which take magnitudes as they are, where a net may have
            mask = ratio_mask(mask)  # learnt no more than how its masks compare
        if self.config.wiener and self.config.gains:
            mask = mask.sqrt_()
        return mask * magnitude(mixture).unsqueeze(-4)
