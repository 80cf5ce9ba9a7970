"""What spectrogram models could reach at best: masks and filters made from the true stems.

A mask made from the stems themselves bounds all models that mask the mixture's spectrogram, whatever they learnt. Songs
are worked through in stretches, so that memory does not grow with their length; the results do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from separate.dsp.masks import apply_masks, ratio_mask
from separate.dsp.parallel import side_by_side
from separate.dsp.stft import STFT
from separate.dsp.stretches import stretches
from separate.dsp.wiener import EPS, QUIET, mixture_covariance, power, separate_sources, spatial_covariance, whiten

__all__ = ["irm", "mwf"]


@torch.no_grad()
def irm(mixture: Tensor, stems: Mapping[str, Tensor], *, exponent: float = 2.0) -> dict[str, Tensor]:
    r"""Separate with the ideal ratio mask.

    .. math:: Y_j = X \, |S_j|^p \, / \, \sum_i |S_i|^p

    Args:
        mixture: waveforms, (channel, time).
        stems: the true ones in the mixture's shape, which share out the song.
        exponent: p; 2 is the higher ceiling and what the field calls IRM2, 1 is IRM1.

    Returns:
        An estimate (channel, time) of each stem.
    """
    return _in_stretches(mixture, stems, STFT(), lambda x, s: apply_masks(ratio_mask(s.abs(), exponent), x))


@torch.no_grad()
def mwf(mixture: Tensor, stems: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Separate with the multichannel Wiener filter whose model is measured on the true stems.

    .. math:: Y_j = v_j R_j \left(\sum_i v_i R_i\right)^{-1} X

    with the power v of each stem in each bin and frame, and its spatial covariance R in each bin of the whole song:
    `separate.dsp.wiener` defines both. Arguments and result are those of `irm`.
    """
    stft = STFT()
    loudness, R = _spatial_model(mixture, stems, stft)

    def filtered(x: Tensor, s: Tensor) -> Tensor:
        estimates = torch.empty_like(s)
        side_by_side(partial(_filter_bins, x, s, R, loudness, estimates), _blocks(s))
        return estimates

    return _in_stretches(mixture, stems, stft, filtered)


def _spatial_model(mixture: Tensor, stems: Mapping[str, Tensor], stft: STFT) -> tuple[Tensor, Tensor]:
    """Measure how loud a song is, as the Wiener filter does, and the covariances R (bin, source, row, row)."""
    loudness = torch.tensor(QUIET, dtype=torch.float64)
    bins, rows = stft.n_fft // 2 + 1, 2 * len(mixture)
    powers = torch.zeros(bins, len(stems), dtype=torch.float64)
    products = torch.zeros(bins, len(stems), rows, rows, dtype=torch.float64)
    for stretch in stretches(mixture.shape[1], stft.hop):
        x, s = _spectrograms(mixture, stems, stft, stretch.heard)
        loudness = torch.maximum(loudness, x.abs().amax().double().square() / 100)
        side_by_side(partial(_measure_bins, s[..., stretch.frames], powers, products), _blocks(s))
    return loudness, products / (EPS * loudness + powers)[..., None, None]


def _measure_bins(s: Tensor, powers: Tensor, products: Tensor, bins: slice) -> None:
    """Add what the stems have in a few bins of a stretch to the sums over the song."""
    y = _rows(s[:, :, bins])
    v = power(y)
    powers[bins] += v.sum(-1)
    products[bins] += spatial_covariance(y, v[..., :0], torch.ones(()))  # divided by 1 + nothing: the sum itself


def _filter_bins(x: Tensor, s: Tensor, R: Tensor, loudness: Tensor, estimates: Tensor, bins: slice) -> None:
    """Filter a few bins of a stretch."""
    v = power(_rows(s[:, :, bins]))
    noise = EPS**0.5 * loudness
    z = whiten(mixture_covariance(v, R[bins], noise), _rows(x[:, bins]), noise)
    real, imag = separate_sources(v, R[bins], z).chunk(2, dim=2)  # (bin, source, channel, frame)
    estimates[:, :, bins] = torch.complex(real, imag).movedim(0, 2)


def _rows(spec: Tensor) -> Tensor:
    """Turn a complex (..., channel, bin, frame) into the real (bin, ..., row, frame) of the Wiener filter."""
    spec = spec.movedim(-2, 0).to(torch.complex128)
    return torch.cat([spec.real, spec.imag], dim=-2)


def _blocks(s: Tensor) -> list[slice]:
    """Divide the bins of (source, channel, bin, frame) into blocks that fit the processor's cache."""
    sources, channels, bins, frames = s.shape
    step = max(1, 2**18 // (channels * (sources + 1) * frames))
    return [slice(start, start + step) for start in range(0, bins, step)]


def _in_stretches(
    mixture: Tensor, stems: Mapping[str, Tensor], stft: STFT, separate: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Separate a song by a function of the mixture's and the stems' spectrograms, stretch by stretch."""
    estimates = torch.empty(len(stems), *mixture.shape)
    for stretch in stretches(mixture.shape[1], stft.hop):
        x, s = _spectrograms(mixture, stems, stft, stretch.heard)
        audio = stft.inverse(separate(x, s), stretch.heard.stop - stretch.heard.start)  # (source, channel, time)
        estimates[..., stretch.kept] = audio[..., stretch.samples]
    return dict(zip(stems, estimates, strict=True))


def _spectrograms(mixture: Tensor, stems: Mapping[str, Tensor], stft: STFT, heard: slice) -> tuple[Tensor, Tensor]:
    return stft(mixture[:, heard]), stft(torch.stack([stem[:, heard] for stem in stems.values()]))
