"""All that a page and a report show of a song, from one pass through its files: every stem in step with the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from separate.audio.fileset import shown
from separate.audio.reader import AudioReader
from separate.errors import InputError
from separate.player.columns import Columns
from separate.player.folder import Part, Song
from separate.player.sound import Mp3
from separate.player.spectrogram import Spectrogram

if TYPE_CHECKING:
    from separate.dsp.loudness import Loudness

__all__ = ["Listening", "Track", "listen"]

ORIGINAL = "original"
STEP, COLUMNS = 256, 2048  # of waveforms: samples of the finest column, and how many there are at most
LONGEST = 120  # minutes of all tracks together: a page of 150 MB, which browsers decode into 1.3 GB
APART = 1.0  # seconds that stems may differ in length: lossy formats add a little

Array = NDArray[np.float32]


@dataclass
class Track:
    """What is known of a stem, or of the song itself."""

    name: str
    frames: int
    sound: bytes  # MP3, after the lead-in; empty if there is no page
    peaks: Array  # (column, 2): the highest sample, and the root of the mean square
    peaks_step: int  # samples a column
    power: Array  # (band, column)
    power_step: int
    energy: float
    loudness: float | None  # LUFS


@dataclass
class Listening:
    """The stems of a song, and the song if it is there."""

    rate: int
    frames: int
    tracks: list[Track]
    original: Track | None
    null_error: float | None  # decibels: energy of the stems' sum minus the song, against the song's

    @property
    def seconds(self) -> float:
        """How long the longest stem is."""
        return self.frames / self.rate


def listen(
    song: Song,
    *,
    sound: bool = True,
    loudness: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> Listening:
    """Read the stems of a song, and the song itself in step with them.

    Args:
        song: the files.
        sound: encode it for a page, too.
        loudness: measure it, which needs torch.
        progress: is told what share is done.

    Raises:
        InputError: a file cannot be read, or they are not stems of one song, or too long for a page.
    """
    with ExitStack() as stack:
        recorders = [
            Recorder(name, stack.enter_context(AudioReader(path)), Part(), sound, loudness)
            for name, path in song.stems.items()
        ]
        rate = common_rate([recorder.reader for recorder in recorders])
        expected = {r.reader.name: r.reader.frames / rate for r in recorders if r.reader.frames is not None}
        check_lengths(expected)
        if song.original:
            original = stack.enter_context(AudioReader(song.original))
            recorders.append(Recorder(ORIGINAL, original, song.part, sound, loudness))
        length = max(expected.values(), default=1.0)
        check_size(recorders[0].reader.name, length, len(recorders) if sound else 0)
        # A song whose rate or channels are not its stems' is not their sum, nor if they were not turned down alike.
        alike = len({(recorder.reader.rate, recorder.reader.channels) for recorder in recorders}) == 1
        alike &= song.part.gain is not None
        error = 0.0
        for blocks in steps(recorders):
            if recorders[0].seconds > length:  # it was not known before, or wrong
                length = recorders[0].seconds
                check_size(recorders[0].reader.name, length, len(recorders) if sound else 0)
            if song.original and alike:
                error += energy_of(difference(blocks))
            progress(recorders[0].seconds / max(length, 1e-9))
        check_lengths({recorder.reader.name: recorder.seconds for recorder in recorders})
        tracks = [recorder.track() for recorder in recorders]
    whole = tracks.pop() if song.original else None
    null = decibels(error, whole.energy) if whole and alike else None
    return Listening(rate, max(track.frames for track in tracks), tracks, whole, null)


class Recorder:
    """One file on its way to a track: `advance()` until it returns nothing, then `track()`."""

    def __init__(self, name: str, reader: AudioReader, part: Part, sound: bool, loudness: bool) -> None:
        self.name = name
        self.reader = reader
        self.gain = np.float32(1.0 if part.gain is None else part.gain)
        self.frames = 0
        self.energy = 0.0
        first = round(part.start * reader.rate)
        last = None if part.end is None else max(first + 1, round(part.end * reader.rate))  # as it was separated
        self.blocks = reader.blocks(first, last)
        self.sound = Mp3(reader.rate, reader.channels) if sound else None
        self.loudness = meter(reader) if loudness else None
        self.peaks = Columns(np.max, STEP, COLUMNS)
        self.means = Columns(np.mean, STEP, COLUMNS)
        self.spectrogram = Spectrogram(reader.rate, reader.channels)

    @property
    def seconds(self) -> float:
        """How much was read so far."""
        return self.frames / self.reader.rate

    def advance(self) -> Array:
        """Read and measure the next block (channel, time); nothing of it is left at the end."""
        block = next(self.blocks, None)
        if block is None:
            return np.zeros((self.reader.channels, 0), np.float32)
        block = block * self.gain
        self.frames += block.shape[1]
        self.energy += energy_of(block)
        steps = np.pad(np.abs(block), ((0, 0), (0, -block.shape[1] % STEP))).reshape(len(block), -1, STEP)
        self.peaks.add(steps.max(axis=(0, 2))[:, None])
        self.means.add((steps**2).mean(axis=(0, 2))[:, None])
        self.spectrogram.process(block)
        if self.sound:
            self.sound.write(block)
        if self.loudness:
            import torch

            self.loudness.process(torch.from_numpy(block))
        return block

    def track(self) -> Track:
        """Return what was recorded."""
        if not self.frames:
            raise InputError(f"{shown(self.reader.name)}: has no samples; there is nothing to listen to")
        return Track(
            self.name,
            self.frames,
            self.sound.close() if self.sound else b"",
            np.concatenate([self.peaks.all(), np.sqrt(self.means.all())], axis=1),
            self.peaks.step,
            self.spectrogram.power(),
            self.spectrogram.step,
            self.energy,
            self.loudness.integrated() if self.loudness else None,
        )


def meter(reader: AudioReader) -> Loudness:
    """Make a loudness meter; torch is loaded for it."""
    from separate.dsp.loudness import Loudness

    return Loudness(reader.rate, reader.channels)


def steps(recorders: Sequence[Recorder]) -> Iterator[list[Array]]:
    """Advance all files together, each in a thread of its own, and yield a block of each."""
    with ThreadPoolExecutor(len(recorders)) as pool:
        while True:
            blocks = list(pool.map(Recorder.advance, recorders))
            if not any(block.size for block in blocks):
                return
            yield blocks


def common_rate(readers: Sequence[AudioReader]) -> int:
    """Return the rate of all stems."""
    first, *others = readers
    for other in others:
        if other.rate != first.rate:
            raise InputError(
                f"{shown(other.name)}: its rate is {other.rate} Hz and that of {shown(first.name)} {first.rate} Hz; "
                "put only the stems of one song into a folder"
            )
    return first.rate


def check_lengths(seconds: Mapping[str, float]) -> None:
    """Refuse files that do not belong to one song, by their lengths."""
    if not seconds:
        return
    short, long = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    if seconds[long] - seconds[short] > APART:
        raise InputError(
            f"{shown(short)}: lasts {seconds[short]:.1f} s and {shown(long)} {seconds[long]:.1f} s; "
            "put only the stems of one song, and that song, into a folder"
        )


def check_size(name: str, seconds: float, tracks: int) -> None:
    """Refuse what no browser could hold."""
    minutes = seconds / 60
    if minutes * tracks > LONGEST:
        raise InputError(
            f"{shown(name)}: {tracks} tracks of {minutes:.0f} minutes are too much for a page, whose limit is "
            f"{LONGEST} minutes of all together; separate parts of the song with --start and --end"
        )


def difference(blocks: list[Array]) -> Array:
    """Subtract the last block, the song's, from the sum of the stems'; any of them may end earlier."""
    total = np.zeros((len(blocks[0]), max(block.shape[1] for block in blocks)), np.float64)
    for block in blocks[:-1]:
        total[:, : block.shape[1]] += block
    total[:, : blocks[-1].shape[1]] -= blocks[-1]
    return total


def energy_of(block: NDArray[Any]) -> float:
    """Sum the squares of samples."""
    return float(np.square(block, dtype=np.float64).sum())


def decibels(part: float, whole: float) -> float:
    """Compare two energies."""
    return 10 * log10(max(part, 1e-30) / max(whole, 1e-30))
