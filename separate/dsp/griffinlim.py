"""Griffin-Lim: find the phase that belongs to a magnitude spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor

from separate.dsp.parallel import side_by_side
from separate.dsp.stft import STFT, magnitude

__all__ = ["griffin_lim", "spectral_convergence"]

BLOCK = 64  # frames


@torch.no_grad()
def griffin_lim(magnitudes: Tensor, start: Tensor, stft: STFT, length: int, iterations: int) -> Tensor:
    r"""Turn magnitudes into waveforms, improving a first guess of the phase.

    Not every spectrogram is that of a waveform: frames overlap and have to agree. Each iteration goes to the nearest
    waveform and back, and keeps only the phase,

    .. math:: P \leftarrow \frac{Z}{|Z|}, \quad Z = \mathrm{STFT}(\mathrm{STFT}^{-1}(M \, P))

    and by that the magnitudes of the waveform come closer and closer to M. Method: Griffin and Lim, "Signal estimation
    from modified short-time Fourier transform" (1984).

    Args:
        magnitudes: the non-negative M, (..., bin, frame).
        start: a complex spectrogram whose phase is the first P: the mixture's, as a rule; broadcast to `magnitudes`.
        stft: the transform that made both.
        length: samples in the waveforms.
        iterations: how often to improve the phase; zero joins the magnitudes with the phase of `start`.

    Returns:
        Waveforms, (..., time).

    >>> stft = STFT(n_fft=512, hop=128)
    >>> tone = torch.sin(0.05 * torch.arange(8000))
    >>> spec = stft(tone)
    >>> torch.allclose(griffin_lim(spec.abs(), spec, stft, length=8000, iterations=2), tone, atol=1e-5)
    True
    """

    def waveforms(row: tuple[Tensor, Tensor]) -> Tensor:
        magnitudes, start = row
        spec = _scale(start.clone(), magnitudes)
        for _ in range(iterations):
            spec = _scale(stft.forward(stft.inverse(spec, length)), magnitudes)
        return stft.inverse(spec, length)

    start = start.expand_as(magnitudes)
    if not magnitudes.is_cpu:
        return waveforms((magnitudes, start))
    each = (x.reshape(-1, *x.shape[-2:]) for x in (magnitudes, start))
    found = side_by_side(waveforms, list(zip(*each, strict=True)))  # no waveform waits for another
    return torch.stack(found).view(*magnitudes.shape[:-2], length)


@torch.no_grad()
def spectral_convergence(waveforms: Tensor, magnitudes: Tensor, stft: STFT) -> Tensor:
    r"""Measure how far the magnitudes of waveforms (..., time) are from the wanted M (..., bin, frame).

    .. math:: \| \, |\mathrm{STFT}(x)| - M \, \|_F \, / \, \| M \|_F

    Zero is perfect. Griffin-Lim lowers it at every iteration. There is one value for each waveform.
    """
    error: Tensor = torch.linalg.matrix_norm(stft.forward(waveforms).abs() - magnitudes)
    norm: Tensor = torch.linalg.matrix_norm(magnitudes)
    return error.div(norm.clamp_min(torch.finfo(norm.dtype).tiny))  # (...)


def _scale(spec: Tensor, magnitudes: Tensor) -> Tensor:
    """Scale every entry of a complex spectrogram to another magnitude, in place; the phase of zero is zero.

    On a processor some frames at a time, which stay in its cache.
    """
    size = BLOCK if spec.is_cpu else spec.shape[-1]
    flat = spec.shape[-2:]
    rows = spec.view(-1, *flat).mT, magnitudes.reshape(-1, *flat).mT  # each (row, frame, bin)
    for row, wanted in zip(*rows, strict=True):
        for part, m in zip(torch.split(row, size), torch.split(wanted, size), strict=True):
            own = magnitude(part)
            if bool(own.amin() == 0):
                part.real.copy_(torch.where(own == 0, m, part.real))
                own = torch.where(own == 0, m, own)
            part.mul_(m / own.clamp_min_(torch.finfo(own.dtype).tiny))
    return spec
