"""WAV files, written as they come: PCM of 16, 24 and 32 bits and float, any length, also into a pipe.

    RIFF <size> WAVE   JUNK <28 bytes>   fmt <...>   fact <frames>   data <size> samples...
    RF64  2³²-1 WAVE   ds64 <sizes>      the same, when the file has grown past 4 GiB

The length is unknown until the end. A file's header is therefore written again when it is closed. A pipe's cannot
be: its sizes are 2³²-1, which readers take for "until the end".
"""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from separate.audio.formats import Bits

__all__ = ["WavFile", "WavStream", "quantise"]

_UNKNOWN = 2**32 - 1
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# Which loudspeakers n channels are for, in the order that FLAC fixes: FL FR FC LFE BL BR, ... 7 and 8 add the sides.
_SPEAKERS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}


class _Seekable(Protocol):
    def write(self, data: bytes, /) -> Any: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...


def quantise(block: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Round samples in [-1, 1] to integers of so many bits: x -> round(x · 2^(bits-1)), cut off at full scale.

    A sample that was read from a file of as many bits becomes the same integer again.
    """
    full = 2.0 ** (bits - 1)
    scaled: NDArray[np.floating] = block.astype(np.float64 if bits > 24 else np.float32)
    scaled *= full
    np.rint(scaled, out=scaled)
    np.clip(scaled, -full, full - 1, out=scaled)
    integers: NDArray[np.int32] = scaled.astype(np.int32)
    return integers


def _encode(block: NDArray[np.float32], bits: Bits) -> bytes:
    """Turn a block (channel, time) into little-endian samples, channel by channel for each moment."""
    interleaved = np.ascontiguousarray(block.T)  # [T, C]
    if bits == "float":
        return interleaved.astype("<f4", copy=False).tobytes()
    integers = quantise(interleaved, bits).astype("<i2" if bits == 16 else "<i4", copy=False)
    if bits == 24:
        return integers.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return integers.tobytes()


def _format_chunk(rate: int, channels: int, bits: Bits) -> bytes:
    width = 32 if bits == "float" else bits
    tag = _FLOAT if bits == "float" else _PCM
    frame = channels * width // 8
    shape = (channels, rate, min(rate * frame, _UNKNOWN), frame, width)
    if channels > 2 or bits in (24, 32):  # where Microsoft's specification asks for the long form
        extension = struct.pack("<HHIH", 22, width, _SPEAKERS.get(channels, 0), tag) + _SUBFORMAT_TAIL
        body = struct.pack("<HHIIHH", _EXTENSIBLE, *shape) + extension
    else:
        body = struct.pack("<HHIIHH", tag, *shape) + (b"\0\0" if tag == _FLOAT else b"")
    return _chunk(b"fmt ", body)


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body


class WavFile:
    """A WAV file that is being written to `file`, which can seek. `close` completes it but leaves `file` open."""

    def __init__(self, file: _Seekable, *, rate: int, channels: int, bits: Bits) -> None:
        self._file = file
        self._rate, self._channels, self._bits = rate, channels, bits
        self._frame = channels * (4 if bits == "float" else bits // 8)
        self._frames = 0
        file.write(self._header())

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block (channel, time)."""
        self._file.write(_encode(block, self._bits))
        self._frames += block.shape[1]

    def close(self) -> None:
        """Write the true sizes into the header."""
        self._file.write(b"\0" * (self._frames * self._frame % 2))  # chunks begin at even places
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(0, 2)

    def _header(self) -> bytes:
        data = self._frames * self._frame
        middle = _format_chunk(self._rate, self._channels, self._bits)
        if self._bits == "float":
            middle += _chunk(b"fact", struct.pack("<I", min(self._frames, _UNKNOWN)))
        size = len(b"WAVE") + 36 + len(middle) + 8 + data + data % 2
        if size < _UNKNOWN:
            riff, first = struct.pack("<4sI", b"RIFF", size), _chunk(b"JUNK", bytes(28))
        else:
            riff = struct.pack("<4sI", b"RF64", _UNKNOWN)
            first = _chunk(b"ds64", struct.pack("<QQQI", size, data, self._frames, 0))
        return riff + b"WAVE" + first + middle + struct.pack("<4sI", b"data", min(data, _UNKNOWN))


class WavStream:
    """A WAV that goes into a pipe, which cannot seek: as WavFile, but its header leaves the length open."""

    def __init__(self, file: BinaryIO, *, rate: int, channels: int, bits: Bits = "float") -> None:
        self._file = file
        self._bits = bits
        middle = _format_chunk(rate, channels, bits)
        if bits == "float":
            middle += _chunk(b"fact", struct.pack("<I", _UNKNOWN))
        file.write(struct.pack("<4sI", b"RIFF", _UNKNOWN) + b"WAVE" + middle + struct.pack("<4sI", b"data", _UNKNOWN))

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block (channel, time)."""
        self._file.write(_encode(block, self._bits))

    def close(self) -> None:
        """Hand the last samples on; the pipe stays open."""
        self._file.flush()
