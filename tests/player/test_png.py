"""PNG files hold what was drawn: FFmpeg's decoder says so."""

from __future__ import annotations

from io import BytesIO

import av
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from separate.player.png import png
from separate.player.spectrogram import SHADES, colours


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32))
def test_every_pixel_comes_back(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, SHADES, (height, width), np.uint8)
    with av.open(BytesIO(png(pixels, colours())), "r", format="png_pipe") as file:
        (frame,) = file.decode(video=0)
    assert np.array_equal(frame.to_ndarray(format="rgb24"), colours()[pixels])


def test_colours_grow_lighter_in_even_steps() -> None:
    linear = (colours() / 255.0).clip(0, 1)
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    # Björn Ottosson's matrices from linear sRGB to the lightness of Oklab.
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    cones = np.array(to_cones) @ linear.T
    lightness = np.array([0.2104542553, 0.7936177850, -0.0040720468]) @ np.cbrt(cones)
    assert np.diff(lightness).min() > 0.005
    assert np.diff(lightness).max() < 0.022
    assert lightness[0] < 0.2
    assert lightness[-1] > 0.94
