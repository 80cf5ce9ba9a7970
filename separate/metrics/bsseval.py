"""BSS Eval v4: how near estimates come to references, and what keeps them from coming nearer.

Every source's estimate `y` is the sum of four signals, which distortion filters of 512 taps (`distortion.py`) tell
apart. With `p` the projection of `y` onto its own reference `s` and `q` that onto the references of all sources:

    y = s + (p − s) + (q − p) + (y − q)           target, spatial error, interference, artifacts

    SDR = |s|² / |y − s|²                         source to distortion
    ISR = |s|² / |p − s|²                         source image to spatial distortion
    SIR = |p|² / |q − p|²                         source to interference
    SAR = |q|² / |y − q|²                         source to artifacts

in decibels, for each frame. The filters are those of the whole track. A frame is filtered for itself: it begins in
silence, and the energies count what the filters ring on.

Method: Vincent, Gribonval and Févotte, "Performance measurement in blind audio source separation" (2006); version 4:
Stöter, Liutkus and Ito, "The 2018 Signal Separation Evaluation Campaign" (2018), whose program `museval` gives these
figures too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from separate.dsp.parallel import side_by_side
from separate.metrics.distortion import Read, Signals, correlations, distortion_filters

__all__ = ["Frames", "bss_eval", "bss_eval_from", "decibels"]

PIECE = 2**14  # Samples that go through one FFT, or a little more.


@dataclass(frozen=True)
class Frames:
    """Figures in decibels for each frame, (source, frame), in float64 on the CPU.

    In a frame where any reference or estimate is silent, or whose channels cancel each other, nothing is a number.
    """

    sdr: Tensor
    isr: Tensor
    sir: Tensor
    sar: Tensor


def bss_eval(
    references: Tensor, estimates: Tensor, *, window: int = 44100, hop: int = 44100, filter_length: int = 512
) -> Frames:
    """Measure estimates against references, frame by frame, as BSS Eval v4 does.

    Args:
        references: the true sources, (source, channel, time).
        estimates: one for each, in their order, (source, channel, time).
        window: samples of a frame. A track that is shorter is one frame; a last frame that is not full is left out.
        hop: samples from one frame to the next.
        filter_length: taps of the distortion filters.

    >>> references = torch.randn(2, 2, 20000)
    >>> estimates = references + 0.1 * references.flip(0)
    >>> bss_eval(references, estimates, window=10000, hop=10000, filter_length=32).sdr.round()
    tensor([[20., 20.],
            [20., 20.]], dtype=torch.float64)
    """
    if references.ndim != 3 or references.shape != estimates.shape or 0 in references.shape:
        raise ValueError(
            f"references and estimates are of one shape (source, channel, time): {tuple(references.shape)} and "
            f"{tuple(estimates.shape)} are not"
        )

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        return references[..., start:stop], estimates[..., start:stop]

    return bss_eval_from(read, references.shape[-1], window=window, hop=hop, filter_length=filter_length)


@torch.no_grad()
def bss_eval_from(
    read: Read, length: int, *, window: int = 44100, hop: int = 44100, filter_length: int = 512
) -> Frames:
    """Measure like `bss_eval` what need not be in memory: it is read a second or so at a time, twice.

    Args:
        read: from the first sample and the one after the last -> references and estimates, (source, channel, time).
        length: samples of the track.
        window: samples of a frame.
        hop: samples from one frame to the next.
        filter_length: taps of the distortion filters.
    """
    if min(length, window, hop, filter_length) < 1:
        raise ValueError(
            f"length, window, hop and filter_length are positive: not {length}, {window}, {hop} and {filter_length}"
        )
    signals = Signals(read, length)
    own, all_ = _filters(signals, filter_length)
    span = min(window, length)
    starts = range(0, length - span + 1, hop)
    reach = span + filter_length - 1
    count = -(-reach // PIECE)  # pieces of a frame
    size = _fast_size(-(-reach // count) + filter_length - 1)
    step = size - filter_length + 1
    own, all_ = torch.fft.rfft(own, size), torch.fft.rfft(all_, size)
    energies = torch.empty(9, signals.sources, len(starts), count, dtype=torch.float64, device=signals.device)

    def measure(piece: tuple[int, int]) -> None:
        frame, part = piece
        begin = starts[frame]
        start = begin + part * step - (filter_length - 1)  # What the filters remember comes first.
        samples = signals.between(start, start + size, begin, begin + span)
        energies[:, :, frame, part] = _energies(samples, own, all_, filter_length)

    side_by_side(measure, [(frame, part) for frame in range(len(starts)) for part in range(count)])
    s, distortion, spatial, p, interference, q, artifacts, *sounds = energies.sum(-1).cpu()
    silent = (torch.stack(sounds) == 0).any(0).any(0)
    ratios = [(s, distortion), (s, spatial), (p, interference), (q, artifacts)]
    return Frames(*(decibels(*ratio).masked_fill(silent, torch.nan) for ratio in ratios))


def decibels(signal: Tensor, noise: Tensor) -> Tensor:
    """Express a ratio of energies in decibels; without noise it is infinite, whatever the signal."""
    return 10 * torch.log10(signal / noise).masked_fill(noise == 0, torch.inf)


def _filters(signals: Signals, taps: int) -> tuple[Tensor, Tensor]:
    """Find the filters from each source's own reference, and from all, to its estimate.

    Returns:
        Both by the channel they start from: (channel, source, channel, tap) and (reference, source, channel, tap).
    """
    sources, channels = signals.sources, signals.channels
    r, d = correlations(signals, taps)
    all_ = distortion_filters(r, d).view(-1, sources, channels, taps)
    groups = [slice(channels * j, channels * (j + 1)) for j in range(sources)]
    own = torch.stack([distortion_filters(r[group, group], d[group, group]) for group in groups], dim=1)
    return own, all_


def _energies(samples: Tensor, own: Tensor, all_: Tensor, taps: int) -> Tensor:
    """Measure the parts of the estimates in one piece of samples (2, source, channel, time), with spectra of filters.

    Returns:
        Energies (9, source) of target, distortion, spatial error, p, interference, q and artifacts; the last two are
        those of the sums of channels, which are zero in silence.
    """
    spectra = torch.fft.rfft(samples[0])  # (source, channel, bin)
    p = _filtered(spectra.transpose(0, 1).unsqueeze(2), own, samples.shape[-1])[..., taps - 1 :]
    q = _filtered(spectra.flatten(0, 1)[:, None, None], all_, samples.shape[-1])[..., taps - 1 :]
    s, y = samples[..., taps - 1 :]
    parts = [s, y - s, p - s, p, q - p, q, y - q, s.sum(1, keepdim=True), y.sum(1, keepdim=True)]
    return torch.stack([torch.linalg.vector_norm(part, dim=(1, 2)).square() for part in parts])


def _filtered(spectra: Tensor, filters: Tensor, size: int) -> Tensor:
    """Sum up what comes out of filters, over the first axis, as samples."""
    total = spectra[0] * filters[0]
    for spectrum, filter_ in zip(spectra[1:], filters[1:], strict=True):
        total.addcmul_(spectrum, filter_)
    samples: Tensor = torch.fft.irfft(total, size)
    return samples


def _fast_size(least: int) -> int:
    """Find the next even size that the FFT is fast for: with no prime factors above five."""
    odd = [threes * fives for threes in (1, 3, 9, 27) for fives in (1, 5, 25, 125)]
    return min(n << max(1, (-(-least // n) - 1).bit_length()) for n in odd)
