"""Griffin-Lim: find the phase that belongs to a magnitude spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor

from separate.dsp.stft import STFT

__all__ = ["griffin_lim", "spectral_convergence"]


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
    phase = _phase(start)
    for _ in range(iterations):
        phase = _phase(stft.forward(stft.inverse(magnitudes * phase, length)))
    return stft.inverse(magnitudes * phase, length)


@torch.no_grad()
def spectral_convergence(waveforms: Tensor, magnitudes: Tensor, stft: STFT) -> Tensor:
    r"""Measure how far the magnitudes of waveforms (..., time) are from the wanted M (..., bin, frame).

    .. math:: \| \, |\mathrm{STFT}(x)| - M \, \|_F \, / \, \| M \|_F

    Zero is perfect. Griffin-Lim lowers it at every iteration. There is one value for each waveform.
    """
    error: Tensor = torch.linalg.matrix_norm(stft.forward(waveforms).abs() - magnitudes)
    norm: Tensor = torch.linalg.matrix_norm(magnitudes)
    return error.div(norm.clamp_min(torch.finfo(norm.dtype).tiny))  # (...)


def _phase(spec: Tensor) -> Tensor:
    """Scale every entry of a complex spectrogram to a magnitude of one; the phase of zero is zero."""
    return torch.where(spec == 0, 1, spec.sgn())
