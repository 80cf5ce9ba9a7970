"""A part of a song: what is read of it, what is kept of its stems, and that they sum to it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from math import gcd
from queue import SimpleQueue
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from separate.audio.resample import Resampler
from separate.errors import InputError, UsageError
from separate.stream import Fifo

__all__ = ["Part", "Song", "beside", "check_finite", "check_samples", "part_of", "share_rest"]

RATES = range(1_000, 768_001)  # Hz, of songs in memory; files are read from 8 to 192 kHz
CHANNELS = 1024  # at most, as in files; an array of more has its axes swapped
LAST = 1e12  # seconds, 31,700 years: positions beyond it would not fit 64 bits


class Song(Protocol):
    """What can be separated: an open AudioReader, an ArraySong, or anything of yours that has these."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def rate(self) -> int:
        """Samples a second."""
        ...

    @property
    def channels(self) -> int:
        """Count the channels."""
        ...

    def blocks(self, start: int = 0, stop: int | None = None, size: int = 65536) -> Iterator[NDArray[np.float32]]:
        """Yield the samples from `start` to `stop` as blocks (channel, time)."""
        ...


@dataclass
class Part:
    """Samples `first` to `last` of a song, read with the music around them from `begin` to `stop`."""

    song: Song
    rate: int  # the song's
    target: int  # that of its stems
    first: int
    last: int | None  # None: the song's end
    begin: int
    stop: int | None
    read: int = 0

    def blocks(self, sent: Callable[[Tensor | None], None] | None = None) -> Generator[Tensor]:
        """Read the part and what is around it, as blocks (channel, time); `sent` gets them too, then None."""
        for block in self.song.blocks(self.begin, self.stop):
            check_samples(block := np.asarray(block), self.song.name)
            # Read-only ones are copied, too: torch would warn of them.
            check_finite(block := np.require(block, np.float32, ["C", "W"]), self.song.name)
            samples = torch.from_numpy(block)  # (channel, time)
            self.read += samples.shape[-1]
            if sent:
                sent(samples)
            yield samples
        if sent:
            sent(None)
        if self._scaled(self.begin + self.read) <= self._scaled(self.first):
            at = f" at {self.target} Hz" if self.target != self.rate else ""
            after = f" after {self.first / self.rate:g} s" if self.first else ""
            raise InputError(f"{self.song.name}: it holds no samples{at}{after}; nothing to separate")

    def cut(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Keep of the stems (source, channel, time) of all that was read only what lies in the part."""
        at = self._scaled(self.begin)
        first = self._scaled(self.first)
        for block in blocks:
            # No stem gets beyond what was read, but for the few samples that resampling there and back adds.
            known = self.begin + self.read
            end = self._scaled(known if self.last is None else min(known, self.last))
            kept = block[..., max(0, first - at) : max(0, end - at)]
            at += block.shape[-1]
            if kept.shape[-1]:
                yield kept

    def _scaled(self, samples: int) -> int:
        """Convert a position to the rate of the stems, rounding up as the resampler does."""
        return -(-samples * self.target // self.rate)


def part_of(song: Song, start: float, end: float | None, margin: float, rate: int | None) -> Part:
    """Find the samples from `start` to `end` seconds, with `margin` seconds around them; `rate` is for their stems."""
    if not 0 <= start < (LAST if end is None else end) <= LAST:
        raise UsageError(
            f"nothing lies between start {start:g} s and end {end} s; "
            f"end must come after start, from 0 on, and both be numbers up to {LAST:g}"
        )
    song_rate = whole_rate(song.rate, song.name)
    target = song_rate if rate is None else whole_rate(rate, "the stems")
    first = round(start * song_rate)
    # At their rate, too, stems have a sample at least: the next one from `first` on.
    shortest = -(-first * target // song_rate) * song_rate // target + 1
    last = None if end is None else max(shortest, round(end * song_rate))
    around = round(margin * song_rate)
    begin = max(0, first - around)
    return Part(
        song,
        rate=song_rate,
        target=target,
        first=first,
        last=last,
        begin=begin - begin % (song_rate // gcd(song_rate, target)),  # where both rates have a sample
        stop=None if last is None else last + around,
    )


def whole_rate(rate: float, whose: str) -> int:
    """Check a sample rate; 44100.0 is one, too."""
    if rate not in RATES:
        raise UsageError(f"{whose}: a rate is a whole number of Hz from {RATES[0]} to {RATES[-1]}, not {rate!r}")
    return int(rate)


def check_samples(samples: NDArray[Any], name: str) -> None:
    """Refuse arrays that are no sound: integers above all, which would be separated 32768 times too loud."""
    if samples.dtype.kind != "f":
        raise UsageError(
            f"{name}: its samples are {samples.dtype}, not floats between -1 and 1; divide those of int16 by 32768"
        )
    if samples.ndim != 2 or not 0 < len(samples) <= CHANNELS:
        raise UsageError(
            f"{name}: its samples are of shape {samples.shape}, not (channel, time); transpose or reshape them"
        )


def check_finite(samples: NDArray[np.float32], name: str) -> None:
    """Refuse samples that are no numbers: whatever a model computes from them is none either."""
    if not np.isfinite(samples).all():
        raise InputError(f"{name}: it holds NaN or infinite samples; replace them first")


def share_rest(stems: Tensor, mix: Tensor) -> Tensor:
    """Give what stems (source, channel, time) lack of their mix (channel, time) to all of them alike.

    That is the band that the model's sample rate cannot carry; then they sum to the song.
    """
    return stems + (mix - stems.sum(0)) / stems.shape[0]


def beside(
    stems: Iterable[Tensor], sent: SimpleQueue[Tensor | None], resampler: Resampler
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair blocks of stems (source, channel, time) with the same samples of the song they are of (channel, time).

    `sent` holds the song as it was read, ahead of its stems, then None; `resampler` brings it to their rate. Blocks
    are as long as both are ready, so nobody waits; samples beyond the song's end are dropped.
    """
    ready, song = Fifo(), Fifo()
    for block in stems:
        ready.push(block)
        while not sent.empty():
            read = sent.get()
            song.push(resampler.flush() if read is None else resampler.process(read))
        if count := min(ready.length, song.length):
            yield ready.peek(count), song.peek(count)
            ready.skip(count)
            song.skip(count)
