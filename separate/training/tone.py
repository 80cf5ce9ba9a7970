"""Bring made stems near the spectra that stems of finished songs have, as whoever mixes a song does.

Samples know nothing of each other: a kick without a fundamental or a voice without treble teaches a net to look for
them elsewhere.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from separate.training.augment import RATE, equalise

__all__ = ["octaves", "toned"]

_EDGES = [0, 60, 120, 250, 500, 1000, 2000, 4000, 8000, 16000]  # Hz
_CENTRES = [40.0, 85.0, 173.0, 354.0, 707.0, 1414.0, 2828.0, 5657.0, 11314.0]
# Power of the octaves beside a stem's whole, dB: medians of 94 pieces of real songs, which the permissive model does
# not train on, and the standard deviation of what is drawn, about half of that of those pieces.
_STEMS = {
    "vocals": ([-38, -39, -16, -6.2, -4.4, -7.4, -13.5, -19, -24], [4, 4, 5, 2, 1.5, 2, 2.5, 3, 3]),
    "drums": ([-7, -5.3, -7, -13, -17, -19.5, -17.5, -16.5, -20], [2.5, 1.5, 1.5, 2, 2, 2, 2.5, 3, 4]),
    "bass": ([-12.5, -3.1, -5, -18, -30, -37, -43, -53, -59], [4, 1.5, 2, 3, 4, 5, 6, 5, 5]),
    "other": ([-32, -17.5, -7.5, -5.6, -7.2, -10, -12, -22, -38], [4, 5, 2.5, 1.5, 1.5, 2, 3, 4, 5]),
}
_MOST = 15.0  # dB


def octaves(x: Tensor) -> np.ndarray:
    """Measure the power of each octave of `x` (channel, time) beside its whole, dB."""
    power = torch.fft.rfft(x).abs().square().sum(0)
    hertz = RATE / 2 / (len(power) - 1)
    parts = np.array([float(power[int(a / hertz) : int(b / hertz)].sum()) for a, b in pairwise(_EDGES)])
    shares: np.ndarray = 10 * np.log10(parts / max(parts.sum(), 1e-12) + 1e-9)
    return shares


def toned(x: Tensor, stem: str, rng: np.random.Generator) -> Tensor:
    """Filter a stem so that its octaves are about as loud beside each other as in songs: (channel, time) -> same."""
    change = rng.normal(*_STEMS[stem]) - octaves(x)
    change -= np.median(change)  # how loud the whole is does not matter
    return equalise(x, _CENTRES, list(np.clip(change, -_MOST, _MOST)))
