"""Harmonic and percussive sound told apart by median filters: the baseline for drums."""

from __future__ import annotations

from functools import partial
from math import log2

import torch
from torch import Tensor

from separate.dsp.masks import ratio_mask
from separate.dsp.median import median
from separate.dsp.parallel import side_by_side
from separate.dsp.stft import STFT
from separate.dsp.stretches import stretches

__all__ = ["hpss"]


@torch.no_grad()
def hpss(mix: Tensor, rate: int, *, window: int = 17, power: float = 2.0) -> tuple[Tensor, Tensor]:
    r"""Separate waveforms (channel, time) into their harmonic and their percussive part, which sum to them.

    In a spectrogram a tone is a line along time and a hit a line along frequency. A median over time, H, wipes out
    hits; a median over frequency, P, wipes out tones; and each part takes its share of every bin:

    .. math:: y_H = X \, H^p / (H^p + P^p), \quad
              H[k, m] = \operatorname{median}_{|i| \le L/2} |X[k, m + i]|, \quad
              P[k, m] = \operatorname{median}_{|i| \le L/2} |X[k + i, m]|

    Method: FitzGerald, "Harmonic/percussive separation using median filtering" (2010).

    Args:
        mix: waveforms, (channel, time).
        rate: samples a second. A frame takes 93 ms, or what is next to it and a power of two.
        window: L, the length of both medians in frames and bins, an odd number.
        power: the exponent p; 2 gives a Wiener filter.

    Returns:
        The harmonic and the percussive part, (channel, time) each.
    """
    n_fft = 2 ** round(log2(0.093 * rate))
    stft = STFT(n_fft, n_fft // 4).to(mix.device)
    harmonic = torch.empty_like(mix)
    for stretch in stretches(mix.shape[1], stft.hop, context=4 + window // 2):
        harmonic[:, stretch.kept] = _harmonic(mix[:, stretch.heard], stft, window, power)[:, stretch.samples]
    return harmonic, mix - harmonic


def _harmonic(mix: Tensor, stft: STFT, window: int, power: float) -> Tensor:
    spec = stft(mix)  # (channel, bin, frame)
    magnitudes = _reflected(_reflected(spec.abs(), 1, window // 2), 2, window // 2)
    step = max(1, 2**14 // (spec.shape[0] * spec.shape[2]))  # the planes of a median stay in the processor's cache
    blocks = [slice(first, min(first + step, spec.shape[1])) for first in range(0, spec.shape[1], step)]
    side_by_side(partial(_keep_harmonic, spec, magnitudes, window, power), blocks)
    return stft.inverse(spec, mix.shape[1])


def _keep_harmonic(spec: Tensor, magnitudes: Tensor, window: int, power: float, bins: slice) -> None:
    """Mask some bins of a spectrogram, in place; its magnitudes go on beyond it by half a window on all sides."""
    reach = window // 2
    around = magnitudes[:, bins.start : bins.stop + 2 * reach]
    over_time = around[:, reach : around.shape[1] - reach].unfold(2, window, 1)  # (channel, bin, frame, window)
    over_frequency = around[..., reach : around.shape[2] - reach].unfold(1, window, 1)
    medians = torch.stack([median(planes.movedim(-1, 0)) for planes in (over_time, over_frequency)])
    spec[:, bins] *= ratio_mask(medians, power)[0]


def _reflected(x: Tensor, dim: int, reach: int) -> Tensor:
    """Continue x beyond both ends of an axis by reflection, and by the last number where it is too short."""
    last = x.shape[dim] - 1
    index = torch.arange(-reach, last + 1 + reach, device=x.device).abs()
    return x.index_select(dim, (last - (last - index).abs()).clamp_min(0))
