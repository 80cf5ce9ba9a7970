"""Spectrograms for the eye: octaves are equally high, decibels become colours of even steps in lightness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from separate.player.columns import Columns

__all__ = ["HIGHEST", "LOWEST", "Spectrogram", "colours", "shades"]

LOWEST, HIGHEST = 32.0, 16_384.0  # Hz: nine octaves
ROWS, COLUMNS = 180, 1024  # at most 1024 columns
WINDOW, HOP = 4096, 1024  # samples
SHADES, RANGE = 64, 80.0  # from the loudest to what is 80 dB softer


class Spectrogram:
    """The energy of a stream in bands, the mean of its channels: `process(block) ... power()`."""

    def __init__(self, rate: int, channels: int) -> None:
        edges = np.geomspace(LOWEST, HIGHEST, ROWS + 1) / rate * WINDOW  # in bins, with fractions
        self._edges = np.minimum(edges, WINDOW // 2)
        self._window = np.hanning(WINDOW).astype(np.float32)
        # The first window is about the first sample.
        self._waiting = np.zeros((channels, WINDOW // 2), np.float32)
        self._columns = Columns(np.mean, HOP, COLUMNS)

    @property
    def step(self) -> int:
        """Samples a column."""
        return self._columns.step

    def process(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, (channel, time)."""
        self._waiting = np.concatenate([self._waiting, block], axis=1)
        count = (self._waiting.shape[1] - WINDOW) // HOP + 1
        if count > 0:
            windows = np.lib.stride_tricks.sliding_window_view(self._waiting, WINDOW, axis=1)[:, ::HOP][:, :count]
            self._columns.add(self._bands(windows))
            self._waiting = self._waiting[:, count * HOP :]

    def _bands(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sum the power of windows (channel, window, time) between the edges of bands: (window, band)."""
        power: NDArray[Any] = (np.abs(np.fft.rfft(windows * self._window)) ** 2).mean(axis=0)
        below = np.cumsum(np.pad(power, ((0, 0), (1, 1))), axis=1)  # all that is below a bin
        whole = self._edges.astype(int)
        at_edges = below[:, whole] + (self._edges - whole) * (below[:, whole + 1] - below[:, whole])
        bands: NDArray[np.float32] = np.maximum(np.diff(at_edges), 0).astype(np.float32)
        return bands

    def power(self) -> NDArray[np.float32]:
        """Return (band, column), the lowest band first."""
        self.process(np.zeros((len(self._waiting), WINDOW // 2), np.float32))
        return self._columns.all().T


def shades(power: NDArray[np.float32], loudest: float) -> NDArray[np.uint8]:
    """Turn power (band, column) into numbers of colours, the highest band on top; `loudest` gets the brightest."""
    decibels = 10 * np.log10(np.maximum(power, 1e-30) / max(loudest, 1e-20))
    levels = np.clip(1 + decibels / RANGE, 0, 1) * (SHADES - 1)
    return np.round(levels).astype(np.uint8)[::-1]


def colours() -> NDArray[np.uint8]:
    """Compute the colours (number, RGB), from night blue over red to pale yellow.

    They are equally spaced in the lightness of Oklab, so that equal steps in decibels look equal, in grey too. What
    sRGB cannot show is made paler until it can.
    """
    part = np.linspace(0, 1, SHADES)
    lightness = 0.13 + 0.83 * part
    hue = np.radians(280 + 180 * part**0.9)
    chroma = 0.03 + 0.17 * np.sin(np.pi * part**0.85)
    for _ in range(50):
        rgb = from_oklab(lightness, chroma * np.cos(hue), chroma * np.sin(hue))
        outside = ((rgb < 0) | (rgb > 1)).any(axis=1)
        chroma = np.where(outside, 0.96 * chroma, chroma)
    gamma = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.clip(rgb, 0.0031308, 1) ** (1 / 2.4) - 0.055)
    return np.round(255 * np.clip(gamma, 0, 1)).astype(np.uint8)


def from_oklab(lightness: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Convert Oklab to linear sRGB, (colour, RGB)."""
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=1,
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    result: NDArray[Any] = cones**3 @ to_rgb.T
    return result
