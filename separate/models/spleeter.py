"""Spleeter (Hennequin, Khlif, Voituret and Moussallam, JOSS 2020): one small U-Net a source, trained on 25,000 songs.

    magnitudes of 512 frames -> 6 × (conv, norm, activation) -> 6 × (transposed conv, activation, norm) -> mask
                                            └──── skips: what each conv says, before its norm ────┘

A net hears both channels of a song below 11 kHz (or 16 kHz), in segments of 512 frames, and masks their magnitudes. Of
the power of all sources each takes its share. What is above those bins is dropped, or gets a mask's mean over them.

Inside, everything is (batch, width, bin, frame). Convolutions are padded as TensorFlow pads them: of the three rows
that a stride of two needs, one comes before and two after. For weights of the original, a kernel (frame, bin, …) is
transposed to (…, bin, frame): `kernel.permute(3, 2, 1, 0)`, of convolutions and transposed convolutions alike. The
original's sixth norm on the way down is left out, as nothing hears it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.dsp.griffinlim import griffin_lim
from separate.dsp.masks import apply_masks, ratio_mask
from separate.dsp.stft import STFT, magnitude
from separate.models.settings import check_choices, check_dropout, check_frames, check_names, check_post
from separate.models.spectral import filtered

__all__ = ["PRESETS", "Spleeter", "SpleeterConfig"]


@dataclass(frozen=True)
class SpleeterConfig:
    """The published model of two stems, unless told otherwise."""

    sources: tuple[str, ...] = ("vocals", "accompaniment")
    sample_rate: int = 44100
    n_fft: int = 4096
    hop: int = 1024
    segment: float = 11.88  # seconds of a chunk: 512 frames
    context: float = 1.0  # of which so many at either end are only surroundings
    bins: int = 1024  # the nets hear those below this one: 11 kHz
    frames: int = 512  # that they hear at once
    widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)  # channels after each step down
    activation: str = "leaky"  # "leaky": leaky ReLU of 0.2 on the way down, ReLU up; "elu": ELU everywhere
    masks: str = "sigmoid"  # "sigmoid": each net for itself; "softmax": all nets share out the mixture
    above: str = "zeros"  # what a mask is above `bins`: "zeros", or the "average" of what it is below
    dropout: float = 0.5  # after the first three steps up, in training
    wiener: int = 0  # EM iterations; 0: ratio masks of powers
    griffin_lim: int = 0  # iterations; 0: the mixture's phase

    def __post_init__(self) -> None:
        check_names(self.sources)
        check_frames(self.sample_rate, self.n_fft, self.hop, self.segment, self.context)
        check_choices(self, _CHOICES)
        if not self.widths or any(width < 1 for width in self.widths):
            raise ValueError(f"widths must be at least 1 at every step, and one step at least, got {self.widths}")
        step = 2 ** len(self.widths)
        if self.bins < 1 or self.frames < 1 or self.bins % step or self.frames % step:
            raise ValueError(f"bins = {self.bins} and frames = {self.frames} must be multiples of {step}")
        if self.bins > self.n_fft // 2 + 1:
            raise ValueError(f"bins = {self.bins} must fit {self.n_fft // 2 + 1} bins")
        check_dropout(self.dropout)
        check_post(self.wiener, self.griffin_lim)


_CHOICES = {
    "activation": ("leaky", "elu"),
    "masks": ("sigmoid", "softmax"),
    "above": ("zeros", "average"),
}

_FOUR: dict[str, Any] = {"sources": ("vocals", "drums", "bass", "other"), "activation": "elu"}
_FIVE: dict[str, Any] = {
    "sources": ("vocals", "piano", "drums", "bass", "other"),
    "activation": "elu",
    "masks": "softmax",
}

# The published models: what each changes of SpleeterConfig. Those of 16 kHz have the same weights as the others.
PRESETS: dict[str, dict[str, Any]] = {
    "2stems": {},
    "4stems": _FOUR,
    "5stems": _FIVE,
    "2stems-16khz": {"bins": 1536},
    "4stems-16khz": _FOUR | {"bins": 1536},
    "5stems-16khz": _FIVE | {"bins": 1536},
}


def norm(width: int) -> nn.BatchNorm2d:
    """Normalise over a batch, with Keras' numbers."""
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class Down(nn.Conv2d):
    """A convolution that halves bins and frames, even numbers of both."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=5, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: (batch, inputs, bin, frame) -> (batch, outputs, bin / 2, frame / 2)."""
        return super().forward(F.pad(x, (1, 2, 1, 2)))


class Up(nn.ConvTranspose2d):
    """A transposed convolution that doubles bins and frames: it puts back what `Down` takes, also at the edges."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=5, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve: (batch, inputs, bin, frame) -> (batch, outputs, 2 · bin, 2 · frame)."""
        return super().forward(x, output_size)[..., :-1, :-1]


class UNet(nn.Module):
    """One source's net."""

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__()
        widths = config.widths
        inputs = [2, *widths[:-1]]
        outputs = [*widths[-2::-1], 1]  # of the steps up, each of which but the first also hears a skip
        heard = [widths[-1], *(2 * width for width in outputs[:-1])]
        self.down = nn.ModuleList(Down(a, b) for a, b in zip(inputs, widths, strict=True))
        self.down_norm = nn.ModuleList(norm(width) for width in widths[:-1])
        self.up = nn.ModuleList(Up(a, b) for a, b in zip(heard, outputs, strict=True))
        self.up_norm = nn.ModuleList(norm(width) for width in outputs)
        self.mask = nn.Conv2d(1, 2, kernel_size=4, dilation=2, padding=3)
        elu = config.activation == "elu"
        self.activation_down = nn.ELU() if elu else nn.LeakyReLU(0.2)
        self.activation_up = nn.ELU() if elu else nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, m: Tensor) -> Tensor:
        """Say how much of the mixture is the source, before sigmoid or softmax: keeps (batch, 2, bin, frame)."""
        skips = []
        for down, down_norm in zip(self.down[:-1], self.down_norm, strict=True):
            skips.append(down(m))
            m = self.activation_down(down_norm(skips[-1]))
        m = self.down[-1](m)
        for step, (up, up_norm) in enumerate(zip(self.up, self.up_norm, strict=True)):
            m = up_norm(self.activation_up(up(m)))
            m = self.dropout(m) if step < 3 else m
            m = torch.cat([skips.pop(), m], 1) if skips else m
        y: Tensor = self.mask(m)
        return y


class Spleeter(nn.Module):
    """The whole model, from mixture to stems.

    Its nets are stereo. A mono song is heard on both channels, and the two answers are averaged.
    """

    def __init__(self, config: SpleeterConfig) -> None:
        super().__init__()
        self.config = config
        self.sources, self.sample_rate = config.sources, config.sample_rate
        self.segment, self.context = config.segment, config.context
        self.sums = config.above == "average" and not config.griffin_lim
        self.stft = STFT(config.n_fft, config.hop)
        self.nets = nn.ModuleDict({source: UNet(config) for source in config.sources})

    def forward(self, mix: Tensor) -> Tensor:
        """Separate: (batch, channel, time) -> (batch, source, channel, time)."""
        length, iterations = mix.shape[-1], self.config.griffin_lim
        mixture = self.stft(mix)  # (batch, channel, bin, frame)
        stems = []
        for x, m in zip(mixture, self.songs(magnitude(mixture)), strict=True):
            y = self.shares(x, m)  # (source, channel, bin, frame)
            if iterations:
                stems.append(griffin_lim(magnitude(y), x.expand_as(y), self.stft, length, iterations))
            else:
                stems.append(self.stft.inverse(y, length))
        return torch.stack(stems)

    def songs(self, mixture: Tensor) -> Iterator[Tensor]:
        """Yield the magnitudes of one song after the other, in the bins that the nets hear.

        (batch, channel, bin, frame) -> for each of the batch (source, channel, lower bin, frame).
        """
        heard = mixture[:, :, : self.config.bins].expand(-1, 2, -1, -1)  # mono becomes two channels; two stay
        batch, frames, together = len(heard), heard.shape[-1], self.config.frames
        m = F.pad(heard, (0, -frames % together)).unfold(3, together, together)  # (batch, 2, bin, segment, frame)
        segments = m.permute(0, 3, 1, 2, 4).flatten(0, 1)  # (batch · segment, 2, bin, frame)
        said = torch.stack([net(segments) for net in self.nets.values()], 1).to(m.dtype)
        masks = said.softmax(1) if self.config.masks == "softmax" else said.sigmoid()
        masks = masks.view(batch, -1, *masks.shape[1:])  # (batch, segment, source, 2, bin, frame)
        for song, mask in zip(heard, masks, strict=True):
            y = mask.permute(1, 2, 3, 0, 4).flatten(-2)[..., :frames] * song
            yield y.mean(1, keepdim=True) if mixture.shape[1] == 1 else y

    def estimate(self, mixture: Tensor) -> Tensor:
        """Estimate every source's magnitudes in the bins that the nets hear.

        (batch, channel, bin, frame) -> (batch, source, channel, lower bin, frame).
        """
        return torch.stack(list(self.songs(mixture)))

    def shares(self, mixture: Tensor, magnitudes: Tensor) -> Tensor:
        """Cut the sources out of the mixture, by Wiener filter or by ratio masks, and continue them upwards.

        (channel, bin, frame), (source, channel, lower bin, frame) -> (source, channel, bin, frame).
        """
        below, above = mixture.tensor_split([self.config.bins], dim=1)
        masks = ratio_mask(magnitudes, power=2)
        low = filtered(below, magnitudes, self.config.wiener) if self.config.wiener else apply_masks(masks, below)
        mean = masks.mean(2, keepdim=True)  # (source, channel, 1, frame)
        return torch.cat([low, apply_masks(mean if self.config.above == "average" else 0 * mean, above)], 2)
