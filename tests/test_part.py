"""What a song may be: samples of any float type, and whole rates; all else is refused in a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from separate import ArraySong, InputError, UsageError
from separate.part import part_of
from tests.conftest import music


class Own:
    """A song of one's own: what `samples` are, at once."""

    name, channels = "own", 2

    def __init__(self, samples: Any, rate: Any = 44100) -> None:
        self.samples, self.rate = samples, rate

    def blocks(self, start: int = 0, stop: int | None = None, size: int = 65536) -> Iterator[NDArray[np.float32]]:
        yield self.samples[:, start:stop]


def read(song: Any) -> torch.Tensor:
    return torch.cat(list(part_of(song, 0, None, 1.0, None).blocks()), 1)


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
@pytest.mark.parametrize("song", [Own, ArraySong])
def test_floats_of_any_precision_become_float32(song: Any, dtype: str) -> None:
    samples = music(0.1, 44100).astype(dtype)
    got = read(song(samples, 44100))
    assert got.dtype == torch.float32
    assert np.array_equal(got.numpy(), samples.astype(np.float32))


@pytest.mark.parametrize("song", [Own, ArraySong])
def test_samples_that_are_float32_already_are_not_copied(song: Any) -> None:
    samples = music(0.1, 44100)
    block = next(part_of(song(samples, 44100), 0, None, 1.0, None).blocks())
    assert np.shares_memory(block.numpy(), samples)


@pytest.mark.parametrize("song", [Own, ArraySong])
def test_samples_that_may_not_be_written_to_are_no_reason_to_warn(song: Any) -> None:
    samples = music(0.1, 44100, channels=1)
    samples.flags.writeable = False
    assert np.array_equal(read(song(samples, 44100)).numpy(), samples)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint8, np.bool_, np.complex64])
@pytest.mark.parametrize("song", [Own, ArraySong])
def test_samples_that_are_no_floats_are_refused(song: Any, dtype: type) -> None:
    with pytest.raises(UsageError, match=r"not floats between -1 and 1; divide those of int16 by 32768"):
        read(song(np.zeros((2, 100), dtype), 44100))


@pytest.mark.parametrize("shape", [(2, 3, 100), (0, 100), (1025, 100)])
@pytest.mark.parametrize("song", [Own, ArraySong])
def test_arrays_that_are_no_channels_of_samples_are_refused(song: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"its samples are of shape \(.*100\), not \(channel, time\)"):
        read(song(np.zeros(shape), 44100))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("song", [Own, ArraySong])
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_samples_that_are_no_numbers_are_refused(song: Any, bad: float) -> None:
    with pytest.raises(InputError, match="it holds NaN or infinite samples; replace them first"):
        read(song(np.full((1, 100), bad), 44100))


@pytest.mark.parametrize(("rate", "target"), [(44100, 48000), (48000, 44100), (44100, 8000), (8000, 11025)])
def test_what_is_read_begins_where_both_rates_have_a_sample(rate: int, target: int) -> None:
    for start in (0.0, 0.3, 1.2345, 3.21):
        part = part_of(ArraySong(np.zeros(10), rate), start, None, 1.0, target)
        assert part.begin * target % rate == 0
        assert max(0, part.first - 2 * rate) <= part.begin <= max(0, part.first - rate)
    assert part_of(ArraySong(np.zeros(10), rate), 1.2345, None, 1.0, None).begin == round(1.2345 * rate) - rate


@pytest.mark.parametrize("rate", [44100, 44100.0, np.int64(44100), np.float32(44100), 1000, 768000])
def test_whole_rates(rate: Any) -> None:
    part = part_of(ArraySong(np.zeros(10), rate), 0.5, 1, 0.0, rate)
    assert (part.rate, part.target, part.first) == (rate, rate, rate / 2)
    assert type(part.rate) is type(part.target) is int


@pytest.mark.parametrize("rate", [0, -44100, 3, 999, 768001, 22050.5, np.nan, np.inf, "44100", None])
def test_rates_that_are_none_are_refused(rate: Any) -> None:
    with pytest.raises(UsageError, match="array: a rate is a whole number of Hz from 1000 to 768000, not "):
        part_of(ArraySong(np.zeros(10), rate), 0, None, 0.0, None)
    if rate is not None:
        with pytest.raises(UsageError, match="the stems: a rate is a whole number of Hz"):
            part_of(ArraySong(np.zeros(10), 44100), 0, None, 0.0, rate)
