"""What browsers decode begins, after the lead-in, with the song's first sample, in any rate and number of channels."""

from __future__ import annotations

from io import BytesIO

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from separate.player.sound import CHIRP, LEAD, Mp3, browser_rate, lead_in


def decoded(data: bytes) -> NDArray[np.float32]:
    with av.open(BytesIO(data), "r") as file:
        blocks = [np.atleast_2d(frame.to_ndarray()) for frame in file.decode(audio=0)]
    return np.concatenate(blocks, axis=1)


def start_of(sound: NDArray[np.float32]) -> int:
    """Find the first sample of the song as the page does."""
    start, length, *_ = CHIRP
    correlation = np.correlate(sound[0, :LEAD], lead_in()[start : start + length])
    return int(correlation.argmax()) - start + LEAD


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6, 8, 10])
def test_the_song_is_where_the_chirp_says(rate: int, channels: int) -> None:
    time = np.arange(rate) / rate
    song = np.zeros((channels, rate), np.float32)
    song[:2] = 0.3 * np.sin(2 * np.pi * 300 * time) * np.sin(np.pi * time) ** 2  # loudest at half a second
    file = Mp3(rate, channels)
    for start in range(0, rate, 3001):
        file.write(song[:, start : start + 3001])
    sound = decoded(file.close())
    assert len(sound) == min(channels, 2)
    heard = sound[:, start_of(sound) :]
    assert heard.shape[1] == pytest.approx(file.rate, abs=1200)
    wanted = np.interp(np.arange(file.rate) / file.rate, time, song[0])
    error = heard[0, : file.rate - 100] - wanted[: file.rate - 100]
    assert 10 * np.log10((wanted**2).mean() / (error**2).mean()) > 20


@pytest.mark.parametrize(
    ("rate", "heard"), [(8000, 48_000), (11_025, 44_100), (44_100, 44_100), (88_200, 44_100), (192_000, 48_000)]
)
def test_rates_that_browsers_know(rate: int, heard: int) -> None:
    assert browser_rate(rate) == heard


def test_two_minutes_are_two_megabytes() -> None:
    rng = np.random.default_rng(0)
    file = Mp3(44100, 2)
    for _ in range(5):
        file.write(rng.normal(0, 0.1, (2, 44100)).astype(np.float32))
    assert len(file.close()) * 8 / 5 < 200_000  # noise is the worst there is
