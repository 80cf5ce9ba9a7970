"""What every model of magnitude spectrograms does around its net: there, clean up, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from separate.dsp.griffinlim import griffin_lim
from separate.dsp.masks import apply_masks, ratio_mask
from separate.dsp.stft import STFT, magnitude
from separate.dsp.wiener import share_residual, wiener

__all__ = ["Span", "Used", "gathered", "separate_magnitudes", "spans", "stems_from"]

Net = Callable[[Tensor], Iterable[Tensor]]
Used = Sequence[range] | None  # samples of each chunk that will be used; None: all of them


def separate_magnitudes(
    mix: Tensor, stft: STFT, net: Net, iterations: int, gl_iterations: int, used: Used = None
) -> Tensor:
    """Separate `mix` with a net that estimates each source's magnitudes from the mixture's.

    mix (batch, channel, time) -> stems (batch, source, channel, time), silent but for what is `used`. The net sees
    (batch, channel, bin, frame) and answers with (source, channel, bin, frame) for each song: best one at a time, as
    they are finished here one at a time, because the spectrograms of all sources of all songs at once would be the
    peak of the memory.
    """
    mixture = stft(mix)  # (batch, channel, bin, frame)
    parts = spans(mix, stft, used, gl_iterations)
    said = zip(mixture, net(magnitude(mixture)), parts, strict=True)
    estimates = ((song[..., part.frames], m[..., part.frames]) for song, m, part in said)
    return gathered(stems_from(estimates, stft, parts, iterations, gl_iterations), len(mix))


@dataclass(frozen=True)
class Span:
    """The samples of a chunk that are used, and the frames that they are made of."""

    samples: range
    frames: slice
    start: int  # of the waveform that these frames make up, in the chunk
    length: int  # of that waveform
    chunk: int  # samples of the chunk


def spans(mix: Tensor, stft: STFT, used: Used, gl_iterations: int) -> list[Span]:
    """Find what must be computed of each chunk of a mix (batch, channel, time); of one for Griffin-Lim, everything."""
    length = mix.shape[-1]
    reach, total = stft.n_fft // 2 // stft.hop + 1, stft.frames(length)  # frames to either side of a sample, and in all
    found = []
    for samples in used if used and not gl_iterations else [range(length)] * len(mix):
        first = max(0, samples.start // stft.hop - reach)
        stop = min(total, (samples.stop - 1) // stft.hop + 1 + reach)
        start = first * stft.hop
        heard = length - start if stop == total else (stop - first - 1) * stft.hop
        found.append(Span(samples, slice(first, stop), start, heard, length))
    return found


def stems_from(
    estimates: Iterable[tuple[Tensor, Tensor]],
    stft: STFT,
    parts: Sequence[Span],
    iterations: int,
    gl_iterations: int,
) -> Iterator[Tensor]:
    """Turn the sources' magnitudes into stems, for nets that see the mixture with its phases.

    Of each song's part the mixture (channel, bin, frame) and magnitudes (source, channel, bin, frame) -> of each song
    (source, channel, time), silent but for what is used.
    """
    for (x, m), part in zip(estimates, parts, strict=True):
        said = audible(m, x) if gl_iterations or iterations else m
        if gl_iterations:
            stem = griffin_lim(said, x.expand_as(m), stft, part.length, gl_iterations)
        else:
            stem = stft.inverse(filtered(x, said, iterations), part.length)
        stem[..., : part.samples.start - part.start] = 0
        stem[..., part.samples.stop - part.start :] = 0
        yield F.pad(stem, (part.start, part.chunk - part.start - part.length))


def gathered(stems: Iterator[Tensor], count: int) -> Tensor:
    """Put the stems of so many songs, (source, channel, time), in one place: they are as large as anything here."""
    all_ = torch.empty(0)
    for i, stem in enumerate(stems):
        if not i:
            all_ = stem.new_empty(count, *stem.shape)
        all_[i] = stem
    return all_


def audible(magnitudes: Tensor, mixture: Tensor) -> Tensor:
    """Leave out what a net claims of digital silence."""
    silent = mixture == 0
    return magnitudes.masked_fill(silent, 0) if bool(silent.any()) else magnitudes


def filtered(mixture: Tensor, magnitudes: Tensor, iterations: int) -> Tensor:
    """Cut the sources out of the mixture by Wiener filter, or by ratio masks if `iterations` is 0; they sum to it.

    (channel, bin, frame), (source, channel, bin, frame) -> (source, channel, bin, frame).
    """
    if iterations == 0:
        return apply_masks(ratio_mask(magnitudes), mixture)
    # What the filter's regularisation kept back, in bins that no source claims, goes to all alike.
    return share_residual(mixture, wiener(mixture, magnitudes, iterations))
