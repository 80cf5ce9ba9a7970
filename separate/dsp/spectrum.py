"""The short-time Fourier transform as Hybrid Demucs sees it: one frame a hop, as a convolution of that stride has."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Spectrum"]


class Spectrum(nn.Module):
    """The short-time Fourier transform, by frames at odd multiples of half a hop: as many as hops, none for the edges.

    A song of `length` samples has ⌈length / hop⌉ frames, just as convolutions of that stride give. The highest bin is
    left out. X = STFT / √n_fft.
    """

    window: Tensor

    def __init__(self, n_fft: int, reflect: bool) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, n_fft // 4
        self.edge = self.hop // 2 * 3
        self.reflect = reflect
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, channel, time) -> (batch, 2 · channel, frequency, frame): real, imaginary, real, imaginary."""
        batch, channels, length = audio.shape
        after = self.edge + -length % self.hop
        x = self.mirrored(audio, after) if self.reflect else F.pad(audio, (self.edge, after))
        window = self.window.to(audio.dtype)
        spec = torch.stft(
            x.flatten(0, 1), self.n_fft, self.hop, window=window, center=False, normalized=True, return_complex=True
        )
        spec = torch.unflatten(spec[:, :-1], 0, (batch, channels)).permute(0, 2, 3, 1)  # (batch, bin, frame, channel)
        return torch.view_as_real(spec.contiguous()).flatten(3).permute(0, 3, 1, 2)

    def mirrored(self, audio: Tensor, after: int) -> Tensor:
        """Continue a song by its reflection; by silence before that, if it is shorter than what is to be reflected."""
        missing = max(0, max(self.edge, after) - audio.shape[2] + 1)
        right = min(after, missing)
        x = F.pad(audio, (missing - right, right))
        return F.pad(x, (self.edge - (missing - right), after - right), "reflect")

    def inverse(self, parts: Tensor, length: int, mean: Tensor | float = 0.0, std: Tensor | float = 1.0) -> Tensor:
        """Transform parts · std + mean back: (batch, 2 · channel, frequency, frame) -> (batch, channel, length).

        A few frames at a time, which stay in the processor's cache; in float32 or better.
        """
        (batch, channels, _, frames), start = parts.shape, self.edge if self.reflect else 0
        window = self.window.to(torch.promote_types(parts.dtype, torch.float32))
        audio = window.new_zeros(batch, channels // 2, frames + 3, self.hop)
        step = max(1, (2**20 if parts.is_cpu else 2**27) // (batch * channels * self.n_fft))
        for first in range(0, frames, step):
            some = parts[..., first : first + step].to(window.dtype) * std + mean
            pairs = torch.unflatten(some.permute(0, 2, 3, 1).contiguous(), 3, (-1, 2))
            spec = torch.view_as_complex(pairs).permute(0, 3, 2, 1)  # (batch, channel, frame, bin)
            waves = torch.fft.irfft(spec, self.n_fft, norm="ortho")  # the highest bin is silent
            overlap_add_(audio[:, :, first:], waves, window)
        # Two silent frames at either end weigh too: but at an end too early they are not all the window needs.
        weight = window.new_zeros(frames + 7, self.hop)
        overlap_add_(weight, window.expand(frames + 4, -1), window)
        there = slice(start, start + length)
        return audio.flatten(-2)[..., there] / weight[2:].flatten()[there]


def overlap_add_(audio: Tensor, waves: Tensor, window: Tensor) -> None:
    """Add windowed frames, four hops each: (..., frame, sample) to (..., hop, sample)."""
    hops = torch.unflatten(waves, -1, (4, -1)).unbind(-2)
    for i, (quarter, w) in enumerate(zip(hops, window.view(4, -1), strict=True)):
        audio[..., i : i + waves.shape[-2], :].addcmul_(quarter, w)
