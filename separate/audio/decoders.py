"""The two packages that decode, under one face, with their errors translated.

    Sndfile   libsndfile: WAV and its relatives, FLAC, Ogg Vorbis
    Ffmpeg    PyAV: MP3, Opus, M4A, AAC, WMA, WebM, ALAC, joined Ogg files, and whatever libsndfile refuses

libsndfile could read MP3 too, but the decoder in it writes warnings to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from separate.audio.formats import OGG_ORDER
from separate.audio.headers import is_mp3, mp3_frames
from separate.errors import DependencyError, InputError

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet

__all__ = ["DEMUXERS", "DecodingError", "Ffmpeg", "Sndfile"]


class DecodingError(Exception):
    """A decoder gives up at `position`."""

    def __init__(self, what: str, position: int) -> None:
        super().__init__(what)
        self.position = position


class Sndfile:
    """A file as libsndfile reads it; raises soundfile's errors where it refuses, for another decoder to try."""

    tolerance = 0  # frames that may be missing before the song counts as cut short
    rounding = 0  # ... before it is said
    ends = True  # whether the file does not leave open where it ends

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        self._file = file
        self._calls = None if _has_descriptor(file) else _Calls(file)
        self._sound = self._open()
        subtype: str = self._sound.subtype
        # A FLAC encoded into a pipe states no length, and then libsndfile cannot seek. The end of an Opus file it gets
        # wrong when a block ends shortly before.
        if self._sound.frames >= 2**62 or not self._sound.seekable() or subtype == "OPUS":
            raise soundfile.SoundFileRuntimeError("better read by another decoder")
        self.rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        self.frames: int | None = self._sound.frames
        self._seeks_nearby = subtype == "VORBIS"  # libsndfile 1.2.2 may land beside the sample
        # libsndfile leaves the channels of Vorbis as Ogg has them.
        self._order = np.argsort(OGG_ORDER.get(self.channels, ())) if subtype == "VORBIS" else np.array([])
        self.is_float = subtype in {"FLOAT", "DOUBLE"}
        depth = re.search(r"(?:PCM|ALAC)_[SU]?(\d+)", subtype)
        self.bits = 32 if self.is_float else -(-int(depth[1]) // 8) * 8 if depth else 16
        self.container = self._sound.format.lower().replace("wavex", "wav")

    def blocks(self, start: int, stop: int, size: int) -> Iterator[NDArray[np.float32]]:
        """Seek where that is exact, else decode and drop what comes before `start`."""
        end = min(stop, self._sound.frames)
        position = min(start, self._sound.frames)
        try:
            with self._heard():
                self._sound.seek(0 if self._seeks_nearby else position)
            if self._seeks_nearby:
                for at in range(0, position, _STEP):
                    self._read(min(_STEP, position - at))
            while position < end:
                block = self._read(min(size, end - position))
                if not block.shape[1]:
                    return
                position += block.shape[1]
                yield block
        except soundfile.SoundFileError as error:
            raise DecodingError("decoding fails", self._last_good(position)) from error

    def _read(self, count: int) -> NDArray[np.float32]:
        with self._heard():
            block: NDArray[np.float32] = self._sound.read(count, dtype="float32", always_2d=True).T
        return block[self._order] if self._order.size else block  # channel, time

    def _last_good(self, position: int) -> int:
        """Go on from `position` in small steps until decoding fails again; a decoder that failed cannot seek."""
        self._file.seek(0)
        with contextlib.suppress(soundfile.SoundFileError), self._heard(), self._open() as fresh:
            fresh.seek(position)
            while count := len(fresh.read(1024)):
                position += count
        return position

    def _open(self) -> Any:
        if self._calls is None:
            return soundfile.SoundFile(self._file.fileno(), closefd=False)
        with self._heard():
            return soundfile.SoundFile(self._calls)

    @contextlib.contextmanager
    def _heard(self) -> Iterator[None]:
        """Raise what went wrong below libsndfile, before what libsndfile made of it."""
        try:
            yield
        finally:
            if self._calls is not None and self._calls.error is not None:
                raise self._calls.error

    def close(self) -> None:
        """Let go of libsndfile's handle, not of the file."""
        self._sound.close()


def _has_descriptor(file: BinaryIO) -> bool:
    """Tell whether libsndfile can read a file itself; else it calls Python, and loses errors and Ctrl-C on the way."""
    try:
        file.fileno()
    except io.UnsupportedOperation:
        return False
    return True


class _Calls:
    """A file for libsndfile to call: keeps the first error, and is at its end from then on."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: BaseException | None = None

    def readinto(self, buffer: Any) -> int:
        try:
            return 0 if self.error else int(self._file.readinto(buffer))
        except BaseException as error:
            self.error = error
            return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        with contextlib.suppress(OSError):  # before the beginning, in damaged files
            self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())


# What FFmpeg may take a file for: sound, and films with sound. Without the list, a text file could be a playlist that
# makes it open other files.
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,mov,matroska,mp3,mpc,mpc8,mpeg,mpegts,ogg,oma,rm,tak,"
    "truehd,tta,voc,w64,wav,wv"
)
# Junk between frames (tags of joined files, broken packets of a broadcast) is skipped, as players do; elsewhere it is
# damage.
_TOLERANT = {"mp3", "mpeg", "ts"}
# These say for sure how long a stream is. FFmpeg guesses for others, from the bit rate or the last time stamp.
_STATE_LENGTH = {"aiff", "ape", "caf", "flac", "m4a", "tak", "tta", "w64", "wav", "wma", "wv"}
_STEP = 65536
_SHORT_NAMES = {"mov,mp4,m4a,3gp,3g2,mj2": "m4a", "matroska,webm": "mkv", "mpegts": "ts", "asf": "wma"}


class _Seeks:
    """A file for FFmpeg, which looks for a damaged one's parts at places where no file has any.

    PyAV would print what the system says to that. A size at `size_at` reads as one that is not known.
    """

    name = "song"  # FFmpeg would take a suffix for a hint

    def __init__(self, file: BinaryIO, size_at: int | None) -> None:
        self._file, self._size_at = file, size_at
        self.read, self.tell = file.read if size_at is None else self._read, file.tell

    def _read(self, count: int) -> bytes:
        assert self._size_at is not None
        at = self._size_at - self._file.tell()
        data = bytearray(self._file.read(count))
        size = slice(max(at, 0), max(at + 4, 0))
        data[size] = b"\xff" * len(data[size])
        return bytes(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError) as error:
            if getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
                raise
            return -errno.EINVAL


class Ffmpeg:
    """A sound stream of a file as FFmpeg's libraries read it, from the beginning every time; counted from 0 on.

    `size_at`: where a size of 32 bits is that is not true: the sound goes on to the end of the file.
    """

    ends = True

    def __init__(self, file: BinaryIO, song: str, stream: int = 0, size_at: int | None = None) -> None:
        try:
            import av
        except (ImportError, OSError) as error:
            raise DependencyError(f"{song}: PyAV, which reads such files, does not load: pip install av") from error
        self._file, self._stream = file, stream
        self._size_at = size_at
        try:
            self._format = "mp3" if is_mp3(file) else None  # FFmpeg may take a very short one for something else
            with self._container() as container:
                streams = container.streams.audio
                if not streams:
                    raise InputError(f"{song}: has no sound in it")
                if stream >= len(streams):
                    raise InputError(f"{song}: has no sound stream {stream}, only {len(streams)}, counted from 0")
                known: Any = streams[stream].codec_context
                if known is None or not known.format:
                    raise InputError(f"{song}: its sound is protected, or in a codec that FFmpeg does not have")
                self._describe(container)
                self.frames = self._stated_frames(container)
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f"{song}: not a sound file that separate can read, or damaged or cut short; "
                "if it plays elsewhere, convert it to WAV"
            ) from error

    def _container(self) -> InputContainer:
        import av

        self._file.seek(0)
        file: Any = _Seeks(self._file, self._size_at)
        container: InputContainer = av.open(
            file, "r", self._format, options={"format_whitelist": DEMUXERS}, metadata_errors="replace"
        )
        return container

    def _describe(self, container: InputContainer) -> None:
        codec = container.streams.audio[self._stream].codec_context
        samples = codec.format.name.removesuffix("p")
        lossless = codec.codec.lossless  # WavPack, which knows both kinds, counts as lossless
        self.rate, self.channels = codec.rate, codec.channels
        self.is_float = lossless and samples in {"flt", "dbl"}
        depth = {"u8": 8, "s16": 16, "s32": 32 if self._fills_32_bits(codec) else 24}.get(samples, 32)
        self.bits = depth if lossless else 16
        self.container = _SHORT_NAMES.get(container.format.name, container.format.name)
        if codec.name == "opus" and self.container == "ogg":
            self.container = "opus"
        # Stated lengths are rounded, some to a frame and some to milliseconds; and a song is not thrown away for an end
        # that is missing, but it is said.
        self.tolerance = self.rate // 2
        self.rounding = self.rate // (500 if lossless or self.container == "m4a" else 20)

    def _fills_32_bits(self, codec: Any) -> bool:
        """Tell whether samples in 32 bits have so many: FFmpeg hands out 20 and 24 bits in 32 too."""
        extra = codec.extradata or b""
        if codec.name == "flac" and len(extra) >= 34:  # STREAMINFO, where 5 bits say how many, less 1
            return int.from_bytes(extra[12:14], "big") >> 4 & 31 > 23
        if codec.name == "wavpack":
            self._file.seek(0)
            head = self._file.read(32)
            return head[:4] == b"wvpk" and head[24] & 3 == 3  # bytes of a sample, less 1
        return "32" in codec.name

    def _stated_frames(self, container: InputContainer) -> int | None:
        stream = container.streams.audio[self._stream]
        stated = round(stream.duration * stream.time_base * self.rate) if stream.duration and stream.time_base else None
        if self.container == "mp3":
            counted = mp3_frames(self._file)  # FFmpeg disagrees where files were joined, and then it guesses
            self.tolerance, self.rounding = 3 * 1152, 1152
            return counted if counted and stated and abs(counted - stated) <= self.tolerance else None
        if self.container == "mkv":  # states the length of the longest stream
            if len(container.streams) > 1 or not container.duration:
                return None
            return round(container.duration * self.rate / 1_000_000)
        if self.container == "opus" and stated:  # the encoder's delay counts, and the header has it at byte 10
            return stated - int.from_bytes((stream.codec_context.extradata or b"")[10:12], "little")
        self._doubt = self.rate // 500  # MP4's edit lists count milliseconds, cut or rounded, in many files
        # iTunes states delay, padding and length in hexadecimal.
        gapless = re.match(r"\s*[\dA-F]+\s+[\dA-F]+\s+[\dA-F]+\s+([\dA-F]+)", container.metadata.get("iTunSMPB", ""))
        if stated and gapless and 0 < int(gapless[1], 16) < stated:
            self._doubt = 0
            return int(gapless[1], 16)
        return stated if self.container in _STATE_LENGTH else None

    def blocks(self, start: int, stop: int, size: int) -> Iterator[NDArray[np.float32]]:
        """Decode everything up to `stop` and drop what comes before `start`: FFmpeg's seeking is not exact."""
        position, held = 0, 0
        parts: list[NDArray[np.float32]] = []
        for samples in self._frames():
            wanted = samples[:, max(start - position, 0) : max(stop - position, 0)]
            position += samples.shape[1]
            if wanted.shape[1]:  # an empty view would keep its samples in memory
                parts.append(wanted)
                held += wanted.shape[1]
            if held >= size:
                joined = np.concatenate(parts, axis=1)  # channel, time
                whole = held - held % size
                for at in range(0, whole, size):
                    yield joined[:, at : at + size]
                parts, held = [joined[:, whole:]], held - whole
            if position >= stop:
                break
        if held:
            yield np.concatenate(parts, axis=1)

    def _frames(self) -> Iterator[NDArray[np.float32]]:
        """Decode from the beginning. FFmpeg leaves out the encoder's delay; its padding is left out here."""
        import av

        position = 0
        last: AudioFrame | None = None  # held back until it is known to be the last
        try:
            with self._container() as container:
                stream = container.streams.audio[self._stream]
                for packet in container.demux(stream):
                    for frame in self._decoded(packet):
                        if (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels):
                            raise DecodingError("the rate or the number of channels changes", position)
                        if last:
                            position += last.samples
                            yield _floats(last)
                        last, ticks = frame, packet.duration or 0
                step = stream.time_base or 1
        except av.FFmpegError as error:
            raise DecodingError("decoding fails", position + (last.samples if last else 0)) from error
        if last is None and self.container in _TOLERANT:  # MP4 and others may hold an empty song; these have none
            raise DecodingError("decoding fails", 0)
        if last:
            yield _floats(last)[:, : self._length_of_last(last.samples, ticks * step * self.rate, position)]

    def _decoded(self, packet: Packet[AudioStream]) -> list[AudioFrame]:
        import av

        try:
            return packet.decode()
        except av.InvalidDataError:
            if self.container in _TOLERANT:
                return []
            raise

    def _length_of_last(self, samples: int, stated: Fraction | int, position: int) -> int:
        """Count the samples of the last frame that belong to the song: the rest is the encoder's padding."""
        if self.container == "m4a" and 0 < stated < samples:  # MP4's last packet may be shorter than its frame
            return round(stated)
        if self.container == "m4a" and self.frames:
            left = self.frames - position
            if left > 0 and samples - left > self._doubt:
                return left
        if self.container == "mp3" and self.frames and position < self.frames:  # FFmpeg leaves it in very short songs
            return min(samples, self.frames - position)
        return samples

    def close(self) -> None:
        """Nothing is open between two calls of `blocks`."""


def _floats(frame: AudioFrame) -> NDArray[np.float32]:
    if frame.format.is_planar and frame.layout.nb_channels >= 8:
        from av import AudioResampler

        # PyAV 18.1 reads beyond the list of planes of such frames.
        (frame,) = AudioResampler(format=frame.format.packed).resample(frame)
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T  # channel, time
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32)
