"""A tone is where its frequency says, as loud as it is, however the song was cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from separate.player.spectrogram import HIGHEST, HOP, LOWEST, RANGE, ROWS, SHADES, Spectrogram, shades
from tests.player.conftest import tone


def row_of(hertz: float) -> int:
    return int(np.log(hertz / LOWEST) / np.log(HIGHEST / LOWEST) * ROWS)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
@pytest.mark.parametrize("hertz", [220.0, 1000.0, 3000.0])
def test_a_tone_is_in_its_row(rate: int, hertz: float) -> None:
    picture = Spectrogram(rate, 2)
    picture.process(tone(hertz, 1.0, rate))
    power = picture.power()
    middle = power[:, power.shape[1] // 2]
    assert abs(int(middle.argmax()) - row_of(hertz)) <= 2
    if rate == 8000:
        assert middle[row_of(4200) :].max() == 0  # what the rate cannot hold


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9000), min_size=1, max_size=6))
def test_any_blocks(sizes: list[int]) -> None:
    samples = np.random.default_rng(0).standard_normal((2, sum(sizes))).astype(np.float32)
    whole, pieces = Spectrogram(44100, 2), Spectrogram(44100, 2)
    whole.process(samples)
    for piece in np.split(samples, np.cumsum(sizes), axis=1):
        pieces.process(piece)
    assert whole.power() == pytest.approx(pieces.power(), rel=1e-5)


def test_a_hit_is_in_its_column() -> None:
    samples = np.zeros((1, 40 * HOP), np.float32)
    samples[0, 20 * HOP + 3] = 1
    picture = Spectrogram(44100, 1)
    picture.process(samples)
    assert picture.power().sum(axis=0).argmax() == 20


def test_opposite_channels_do_not_cancel() -> None:
    picture = Spectrogram(44100, 2)
    picture.process(tone(440, 0.5) * np.array([[1], [-1]], np.float32))
    assert picture.power().max() > 1


def test_shades_are_decibels() -> None:
    power = np.array([[1.0, 10 ** (-RANGE / 20), 10 ** (-RANGE / 10), 0.0]], np.float32)
    assert shades(power, 1.0).tolist() == [[SHADES - 1, (SHADES - 1 + 1) // 2, 0, 0]]
    assert shades(np.zeros((2, 2), np.float32), 0.0).tolist() == [[0, 0], [0, 0]]
