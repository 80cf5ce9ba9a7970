"""Read a song: any format, in blocks, exact to the sample.

Here is what a decoder does not do: standard input, the checks for files that lie or stop early, the messages. The first
bytes of a file decide which decoder reads it, never its suffix.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from separate.audio.decoders import DecodingError, Ffmpeg, Sndfile
from separate.audio.fileset import shown
from separate.audio.headers import LastPage, data_chunk, last_ogg_page
from separate.audio.remote import open_song
from separate.audio.url import is_url, plain
from separate.errors import InputError

__all__ = ["AUDIO_SUFFIXES", "AudioReader"]

AUDIO_SUFFIXES = frozenset(
    {".aac", ".ac3", ".aif", ".aifc", ".aiff", ".ape", ".au", ".bwf", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mp2"}
    | {
        ".mp3",
        ".mp4",
        ".oga",
        ".ogg",
        ".opus",
        ".rf64",
        ".snd",
        ".tta",
        ".w64",
        ".wav",
        ".wave",
        ".webm",
        ".wma",
        ".wv",
    }
)
"""What a walk through a folder takes for songs. A file named by the user may have any suffix."""

_LOWEST_RATE, _HIGHEST_RATE = 8_000, 192_000


class AudioReader:
    """A song, open for reading; a context manager.

    `source` is a path, a URL, `-` for standard input, or a binary stream; streams are copied to an anonymous temporary
    file first, because most formats are read from both ends. `name` is what messages call the song. `stream` is the
    sound stream to read of a container that has several, counted from 0 on.

    `frames` is exact for what libsndfile reads, what the file states for the rest (where M4A may be a few samples off),
    and None where nothing but decoding can tell. `bits` is the source's bit depth, 16 for lossy formats. `warnings` are
    lines about an end that may be missing, without the song's name; complete when it has been read.
    """

    def __init__(
        self, source: str | os.PathLike[str] | BinaryIO, name: str | None = None, stream: int | None = None
    ) -> None:
        if isinstance(source, str | os.PathLike):
            self.name = name or os.fspath(source)
        else:
            self.name = name or str(getattr(source, "name", "<stream>"))
        self._song = shown(self.name)
        self._in_use = threading.Lock()
        self._file = _open(source, self._song)
        try:
            self._decoder = (
                _decoder(self._file, self._song) if stream is None else Ffmpeg(self._file, self._song, stream)
            )
        except BaseException:
            self._file.close()
            raise
        self.rate = self._decoder.rate
        self.channels = self._decoder.channels
        self.frames = self._decoder.frames
        self.bits = self._decoder.bits
        self.is_float = self._decoder.is_float
        self.container = self._decoder.container
        self.warnings = [] if self._decoder.ends else ["nothing marks its end; it may be cut short"]
        if not _LOWEST_RATE <= self.rate <= _HIGHEST_RATE:
            self.close()
            raise InputError(f"{self._song}: its rate of {self.rate} Hz is outside of 8 to 192 kHz; resample it first")

    def blocks(self, start: int = 0, stop: int | None = None, size: int = 65536) -> Iterator[NDArray[np.float32]]:
        """Yield samples `start` to `stop` as blocks of (channel, time): `size` samples each, the last one shorter.

        Every call starts anew, so only one iterator at a time may be in use.
        """
        if start < 0 or size < 1:
            raise ValueError(f"start must be 0 or more and size 1 or more, not {start} and {size}")
        end = sys.maxsize if stop is None else stop
        position = start
        try:
            for block in self._guarded(self._decoder.blocks(start, end, size)):
                self._check_finite(block, position)
                position += block.shape[1]
                yield block
        except DecodingError as error:
            raise self._cut_short(error.position, str(error)) from error
        except OSError as error:
            raise InputError(
                f"{self._song}: reading fails at {self._clock(position)}: {error.strerror or error}"
            ) from error
        missing = min(end, self.frames or 0) - position
        if missing > self._decoder.tolerance:
            raise self._cut_short(position, "the sound stops")
        if missing > self._decoder.rounding:
            stops = f"its sound stops {missing / self.rate:.3f} s before its stated length; it may be cut short"
            self.warnings = [stops]

    def _guarded(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Decode under the lock, so that nobody closes the file meanwhile; a closed file has no more blocks."""
        while True:
            with self._in_use:
                block = None if self._file.closed else next(blocks, None)
            if block is None:
                return
            yield block

    def close(self) -> None:
        """Close the file, once a thread that reads it is through with its block; a stream passed in stays open."""
        with self._in_use:
            self._decoder.close()
            self._file.close()

    def _check_finite(self, block: NDArray[np.float32], position: int) -> None:
        finite = np.isfinite(block).all(axis=0)
        if not finite.all():
            first = int(finite.argmin())
            bad = next(value for value in block[:, first] if not np.isfinite(value))
            where = f"sample {position + first} ({self._clock(position + first)})"
            raise InputError(f"{self._song}: {where} is {bad}, not a number that can be played; export the song again")

    def _cut_short(self, position: int, what: str) -> InputError:
        of = f" of {self._clock(self.frames)}" if self.frames else ""
        return InputError(
            f"{self._song}: {what} at {self._clock(position)}{of}; the file is damaged or cut short: get it again"
        )

    def _clock(self, frames: int) -> str:
        minutes, rest = divmod(frames, 60 * self.rate)
        return f"{minutes}:{int(rest / self.rate * 1000) / 1000:06.3f}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(source: str | os.PathLike[str] | BinaryIO, song: str) -> BinaryIO:
    try:
        if not isinstance(source, str | os.PathLike):
            return _spooled(source)
        if os.fspath(source) == "-":
            return _spooled(sys.stdin.buffer)
        if is_url(os.fspath(source)):
            return _at_url(os.fspath(source))
        file = open(plain(os.fspath(source)), "rb", buffering=0)  # noqa: SIM115 - AudioReader.close closes it
        if file.seekable():
            file.name = "song"  # FFmpeg would take the suffix for a hint
            return file
        with file:
            return _spooled(file)
    except FileNotFoundError as error:
        raise InputError(f"{song}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{song}: is a folder, not a song") from error
    except PermissionError as error:
        raise InputError(f"{song}: no permission to read it") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{song}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _at_url(song: str) -> BinaryIO:
    file: Any = open_song(song)
    file.name = "song"
    return cast(BinaryIO, file)


def _spooled(stream: BinaryIO) -> BinaryIO:
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - AudioReader.close closes it
    try:
        shutil.copyfileobj(stream, file, 1 << 20)
    except BaseException:
        file.close()
        raise
    file.name = "song"
    return file


_SNDFILE_MAGIC = {b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd", b"fLaC", b"OggS"}


def _decoder(file: BinaryIO, song: str) -> Sndfile | Ffmpeg:
    """Choose who reads the file, after the checks that neither of them makes."""
    try:
        file.seek(0)
        magic = file.read(4)
        chunk = data_chunk(file)
        last = last_ogg_page(file) if magic == b"OggS" else LastPage()
    except OSError as error:
        raise InputError(f"{song}: cannot be read: {error.strerror or error}") from error
    if not magic:
        raise InputError(f"{song}: is empty (0 bytes)")
    if chunk and chunk.promised is not None and chunk.promised > chunk.found:
        raise InputError(
            f"{song}: its header promises {chunk.promised:,} bytes of sound, the file has {chunk.found:,}; "
            "it is cut short: get it again"
        )
    if not last.whole:
        raise InputError(f"{song}: ends in the middle of an Ogg page; it is cut short: get it again")
    # libsndfile reads one stream of a joined Ogg file, and nothing where a stream's header says 0.
    decoder: Sndfile | Ffmpeg | None = None
    endless = chunk if chunk and chunk.promised is None and chunk.found else None
    if magic in _SNDFILE_MAGIC and last.single and not endless:
        with contextlib.suppress(soundfile.SoundFileError):
            decoder = Sndfile(file)
    decoder = decoder or Ffmpeg(file, song, size_at=endless.size_at if endless else None)
    if not last.single:
        decoder.frames = None  # the last song's length is not that of all
    decoder.ends = last.ends
    return decoder
