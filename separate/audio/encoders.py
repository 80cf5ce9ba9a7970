"""One file being encoded: samples go in, bytes go to the disk, and no error on the way is lost.

libsndfile swallows what goes wrong in the file object below it. `_Sink` therefore keeps the first error, pretends that
all is well, and EncodedFile asks it after every step. Ctrl-C would be swallowed just as well, so that nothing here
should be called in the main thread, the only one which Python interrupts.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import soundfile
from mutagen.ogg import OggPage
from numpy.typing import NDArray

from separate.audio.fileset import output_error, shown
from separate.audio.formats import OGG_ORDER, OutputFormat
from separate.audio.stem_mp4 import StemMp4File
from separate.audio.url import Location
from separate.audio.wav import WavFile, quantise
from separate.errors import OutputError

__all__ = ["EncodedFile"]

_AAC_LAYOUT = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1"}
# Frames given to libsndfile at once. What its Vorbis encoder makes of a song depends on it, and some versions of it put
# all they are given on the stack.
_STEP = 16_384


class EncodedFile:
    """A file at `path`, made new or emptied, that blocks (channel, time) are encoded into.

    Raises:
        OutputError: it cannot be written; the message says so of `final`, the name that it will have.
    """

    def __init__(self, path: Path, final: Location, format: OutputFormat, *, rate: int, channels: int) -> None:
        try:
            self._sink = _Sink(path)
        except OSError as error:
            raise output_error(final, error) from error
        self._final = final
        self._format = format
        self._silence = np.zeros((channels, 1), np.float32)
        self._frames = 0
        self._encoder: _Encoder | None = None  # before it is open and when it is closed
        with self._errors():
            self._encoder = _encoder(self._sink, format, rate=rate, channels=channels)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block (channel, time)."""
        assert self._encoder is not None
        with self._errors():
            if block.shape[1]:
                self._encoder.write(block)
            self._frames += block.shape[1]

    def close(self) -> None:
        """Complete the file. The system has all of it when this returns without an error."""
        if not self._frames and not self._format.container.empty:
            self.write(self._silence)
        assert self._encoder is not None
        encoder, self._encoder = self._encoder, None
        with self._errors():
            encoder.close()
            self._check()
            self._sink.close()

    def abandon(self) -> None:
        """Let go of the file, whatever state it is in. Does nothing after `close`."""
        self._sink.dead = True
        if self._encoder is not None:
            with contextlib.suppress(Exception):
                self._encoder.close()
        with contextlib.suppress(OSError):
            self._sink.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise what went wrong below the codec, before what the codec made of it."""
        try:
            try:
                yield
            except (soundfile.SoundFileError, av.FFmpegError, AssertionError) as error:
                self._check()
                raise OutputError(f"{shown(self._final)}: cannot be encoded as {self._format}: {error}") from error
            except OSError as error:
                raise output_error(self._final, error) from error
            self._check()
        except BaseException:
            self.abandon()
            raise

    def _check(self) -> None:
        error = self._sink.error
        if isinstance(error, OSError):
            raise output_error(self._final, error) from error
        if error is not None:
            raise error


class _Encoder(Protocol):
    def write(self, block: NDArray[np.float32]) -> None: ...

    def close(self) -> None: ...


def _encoder(sink: _Sink, format: OutputFormat, *, rate: int, channels: int) -> _Encoder:
    if format.name == "m4a":
        return _AacFile(sink, rate=rate, channels=channels)
    if format.name == "stem.mp4":
        return StemMp4File(sink, rate=rate, channels=channels)
    if format.name == "wav" and format.bits is not None:
        return WavFile(sink, rate=rate, channels=channels, bits=format.bits)
    return _SoundFile(sink, format, rate=rate, channels=channels)


class _Sink:
    """A file for codecs that cannot be trusted with errors: keeps the first, and from then on swallows everything."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "w+b", buffering=0)  # noqa: SIM115 (closed in close)
        self.error: BaseException | None = None
        self.dead = False

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and not self.dead:
                rest = rest[self.file.write(rest) :]
        except BaseException as error:
            self.error, self.dead = error, True
        return size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def close(self) -> None:
        self.file.close()


class _SoundFile:
    """FLAC, Ogg Vorbis, Opus and MP3, by libsndfile."""

    def __init__(self, sink: _Sink, format: OutputFormat, *, rate: int, channels: int) -> None:
        settings: dict[str, tuple[str, str, dict[str, Any]]] = {
            "flac": ("FLAC", f"PCM_{format.bits}", {}),
            "ogg": ("OGG", "VORBIS", {"compression_level": 0.2}),  # quality 8
            "opus": ("OGG", "OPUS", {"compression_level": 0.512}),  # 256 - 0.512 · 250 = 128 kbit/s a channel
            "mp3": ("MP3", "MPEG_LAYER_III", {"compression_level": 0.0, "bitrate_mode": "CONSTANT"}),
        }
        container, subtype, quality = settings[format.name]
        self._sink = sink
        self._bits = format.bits
        self._order = OGG_ORDER.get(channels) if container == "OGG" else None
        self._serial: int | None = 0 if container == "OGG" else None
        self._rest = np.empty((0, channels), np.float32)
        self._file = soundfile.SoundFile(sink, "w", rate, channels, subtype, format=container, **quality)

    def write(self, block: NDArray[np.float32]) -> None:
        if self._order:
            block = block[list(self._order)]
        waiting = np.concatenate([self._rest, block.T])  # [T, C]
        whole = len(waiting) - len(waiting) % _STEP
        for start in range(0, whole, _STEP):
            self._encode(waiting[start : start + _STEP])
        self._rest = waiting[whole:]

    def _encode(self, step: NDArray[np.float32]) -> None:
        if self._serial is not None:
            self._serial = zlib.crc32(step.data, self._serial)
        self._file.write(self._samples(step))

    def _samples(self, block: NDArray[np.float32]) -> NDArray[Any]:
        # libsndfile would scale by 2^(bits-1) - 1, which changes samples that fit; integers it takes as they are.
        if self._bits == 16:
            return quantise(block, 16).astype(np.int16)
        if self._bits == 24:
            return quantise(block, 24) << 8
        return block

    def close(self) -> None:
        if len(self._rest):
            self._encode(self._rest)
        self._file.close()
        if self._serial is not None and not self._sink.dead:
            _number(self._sink.file, self._serial)


def _number(file: FileIO, serial: int) -> None:
    """Write `serial` into every page of an Ogg file: libsndfile takes a random one, but equal songs are equal files."""
    file.seek(0)
    with contextlib.suppress(EOFError):
        while True:
            page: Any = OggPage(file)  # type: ignore[no-untyped-call]
            page.serial = serial
            file.seek(page.offset)
            file.write(page.write())


class _AacFile:
    """AAC in MP4, by ffmpeg's libraries. The edit list tells a decoder which samples are the song."""

    def __init__(self, sink: _Sink, *, rate: int, channels: int) -> None:
        self._rate, self._layout = rate, _AAC_LAYOUT[channels]
        self._frames = 0
        # The edit list counts in this time scale: the default, milliseconds, would round the song's length.
        self._file = av.open(sink, "w", format="ipod", options={"movie_timescale": str(rate)})
        # 6144 bits a channel is the most that a frame of 1024 samples may have.
        bit_rate = channels * min(128_000, 6144 * rate // 1024)
        self._stream = self._file.add_stream("aac", rate=rate, layout=self._layout, bit_rate=bit_rate)
        self._stream.time_base = Fraction(1, rate)

    def write(self, block: NDArray[np.float32]) -> None:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._frames
        self._frames += block.shape[1]
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._file.mux(self._stream.encode(None))
        self._file.close()
