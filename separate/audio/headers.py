"""What the bytes of a sound file promise about its length, read without decoding.

Decoders take a file that is cut short for a shorter song. These functions are how the reader knows better.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

__all__ = ["DataChunk", "LastPage", "data_chunk", "is_mp3", "last_ogg_page", "mp3_frames"]


class DataChunk(NamedTuple):
    """The samples of an uncompressed file, in bytes."""

    promised: int | None  # None: a stream's header, which means 'to the end of the file'
    found: int
    size_at: int | None = None  # where in a WAV's header the first of these is


class _Layout(NamedTuple):
    """How a family of files writes its chunks: a name, a size, a body, padded to a multiple of `align`."""

    name_bytes: int
    size: str  # as struct writes it
    first: int  # where the first chunk starts
    data: bytes  # the name of the chunk with the samples
    align: int = 2
    size_counts_header: bool = False


_RIFF = _Layout(4, "<I", 12, b"data")
_LAYOUTS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"RIFX": _Layout(4, ">I", 12, b"data"),
    b"FORM": _Layout(4, ">I", 12, b"SSND"),
    b"caff": _Layout(4, ">q", 8, b"data", align=1),
    b"riff": _Layout(16, "<Q", 40, b"data", align=8, size_counts_header=True),  # Wave64
}
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def data_chunk(file: BinaryIO) -> DataChunk | None:
    """Find the samples of a WAV, RF64, Wave64, AIFF, CAF or AU file; None if it is none of these, or has none."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12).ljust(12, b"\0")
    if head[:4] == b".snd":
        offset, size = struct.unpack(">II", head[4:])
        return DataChunk(None if size == 0xFFFFFFFF else size, max(0, end - offset))
    if head == _ASF[:12]:
        return _asf(file, end)
    layout = _LAYOUTS.get(head[:4])
    return layout and _walk(file, layout, end)


def _asf(file: BinaryIO, end: int) -> DataChunk | None:
    """Read how long a WMA file says that it is, all of it; who writes into a pipe cannot know."""
    at = 30
    for _ in range(1000):
        file.seek(at)
        head = file.read(108).ljust(108, b"\0")
        if head[:16] == _ASF_PROPERTIES:
            size, flags = struct.unpack("<40xQ40xI", head[:92])
            return DataChunk(None if flags & 1 else size, end)
        at += max(24, int.from_bytes(head[16:24], "little"))
        if at >= end:
            break
    return None


def _walk(file: BinaryIO, layout: _Layout, end: int) -> DataChunk | None:
    header = layout.name_bytes + struct.calcsize(layout.size)
    at, long_size = layout.first, 0
    for _ in range(1000):  # real files have about ten chunks; a file of zeros would have millions
        if at + header > end:
            break
        file.seek(at)
        head = file.read(header)
        name, (size,) = head[:4], struct.unpack(layout.size, head[layout.name_bytes :])
        size -= header if layout.size_counts_header else 0
        if name == b"ds64":  # RF64 keeps the sizes that do not fit 32 bits here: the whole file's, then the data's
            long_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == layout.data:
            found = end - at - header
            if size == 0xFFFFFFFF and long_size:
                return DataChunk(long_size, found)
            promised = None if _is_streamed(file, layout, size, end, found) else size
            return DataChunk(promised, found, at + 4 if layout.data == b"data" and layout.size[1] == "I" else None)
        if size < 0:
            break
        at += header + size + -size % layout.align
    return None


def _is_streamed(file: BinaryIO, layout: _Layout, size: int, end: int, found: int) -> bool:
    """Tell whether a size stands for 'unknown', as writers into a pipe have to write it."""
    if layout.size[1] != "I":
        return size == -1
    if layout is _RIFF and end > 2**32 + 8:  # no size that this header has room for is that of such a file
        return True
    # All ones or the largest signed number, whole or rounded down to a page or a block: ffmpeg, sox, arecord.
    if size and not (0x7FFFF000 <= size <= 0x80000000 or size >= 0xFFFFF000):
        return False
    file.seek(4)
    outer: int = struct.unpack(layout.size, file.read(4))[0]
    honest = abs(outer + 8 - end) <= 1  # its outer chunk ends where the file ends
    return size > found or (found > 0 and not honest)


class LastPage(NamedTuple):
    """What the end of an Ogg file says."""

    whole: bool = True
    single: bool = True  # it is of the stream that the file begins with; not so in joined files and in video
    ends: bool = True  # it is marked as the last one; not so where a recording was stopped, or the file cut


def last_ogg_page(file: BinaryIO) -> LastPage:
    """Look at the last page of an Ogg file."""
    file.seek(0)
    first = file.read(18)
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 65307))  # the largest page there can be
    tail = file.read(65307)
    at = tail.rfind(b"OggS")
    if at < 0:
        return LastPage()  # something else follows the sound: not a cut
    page = tail[at:]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return LastPage(whole=False)
    body = sum(page[27 : 27 + page[26]])
    return LastPage(len(page) >= 27 + page[26] + body, page[14:18] == first[14:18], bool(page[5] & 4))


def mp3_frames(file: BinaryIO) -> int | None:
    """Read how many samples a channel of an MP3 has, without the encoder's delay and padding, if its first frame says.

    A length guessed from the bit rate, as players show it for other files, is no promise.
    """
    frame = _first_mp3_frame(file)
    frame_samples = 1152 if len(frame) > 1 and frame[1] & 0x08 else 576  # MPEG 1, or 2 and 2.5
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54]) * frame_samples
    at = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
    if at < 0 or len(frame) < at + 144 or not frame[at + 7] & 1:
        return None
    samples = int.from_bytes(frame[at + 8 : at + 12]) * frame_samples
    if frame[at + 7] & 0x0F == 0x0F and frame[at + 120 : at + 124].isalnum():  # LAME's part, which others write too
        both = int.from_bytes(frame[at + 141 : at + 144])
        samples -= (both >> 12) + (both & 0xFFF)
    return max(samples, 0)


def is_mp3(file: BinaryIO) -> bool:
    """Tell whether a file begins with a frame of MP3 that says how long the song is: nothing else looks like that."""
    frame = _first_mp3_frame(file)
    return frame[:1] == b"\xff" and frame[1:2] >= b"\xe0" and mp3_frames(file) is not None


def _first_mp3_frame(file: BinaryIO) -> bytes:
    """Read what follows an MP3's tags."""
    file.seek(0)
    head = file.read(10)
    at = 0
    if head[:3] == b"ID3" and len(head) == 10:
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(at)
    return file.read(512)
