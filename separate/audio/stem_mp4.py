"""One file with a song and its four stems, as DJ software reads it: Native Instruments' .stem.mp4.

It is an MP4 with these boxes:

    ftyp  mdat                       five streams of AAC in MP4, each stereo, 256 kbit/s
    moov  trak                       the mixture: what players play that know nothing of stems
          trak trak trak trak        drums, bass, other, vocals: marked as disabled
          udta  meta                 title, artist, cover art (separate.audio.tag_writer)
                stem                 JSON: names and colours of the stems, and what a player does to their sum
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["STREAMS", "StemMp4File"]

STREAMS = ("mixture", "drums", "bass", "other", "vocals")
_BIT_RATE = 256_000
_COLOURS = {"drums": "#009E73", "bass": "#D55E00", "other": "#CC79A7", "vocals": "#56B4E9"}
# A player may put these behind the sum of the stems. They are off, so that the sum is the song.
_COMPRESSOR = {"enabled": False, "input_gain": 0.0, "output_gain": 0.0, "threshold": 0.0, "dry_wet": 0.0}
_COMPRESSOR |= {"attack": 0.003, "release": 0.3, "ratio": 3.0, "hp_cutoff": 300.0}
_LIMITER = {"enabled": False, "threshold": 0, "ceiling": 0, "release": 0.05}
_MANIFEST = {
    "version": 1,
    "mastering_dsp": {"compressor": _COMPRESSOR, "limiter": _LIMITER},
    "stems": [{"name": name.capitalize(), "color": _COLOURS[name]} for name in STREAMS[1:]],
}


class _Sink(Protocol):
    def write(self, data: Any, /) -> int: ...

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def tell(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


class StemMp4File:
    """A .stem.mp4 that is being encoded. Its `channels` are those of all streams, in the order of STREAMS.

    Stems of a mono song become stereo, which is all that the format has.
    """

    def __init__(self, sink: _Sink, *, rate: int, channels: int) -> None:
        self._sink = sink
        self._rate, self._channels = rate, channels
        self._frames = 0
        # Edit lists count in this time scale: the default, milliseconds, would round the song's length.
        self._file = av.open(sink, "w", format="ipod", options={"movie_timescale": str(rate)})
        self._streams = [self._file.add_stream("aac", rate=rate, layout="stereo", bit_rate=_BIT_RATE) for _ in STREAMS]
        for stream in self._streams:
            stream.time_base = Fraction(1, rate)

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block (stream · channel, time)."""
        streams = block.reshape(len(STREAMS), -1, block.shape[1])  # (stream, channel, time)
        for stream, samples in zip(self._streams, streams, strict=True):
            stereo = np.ascontiguousarray(np.broadcast_to(samples, (2, samples.shape[1])))
            frame = av.AudioFrame.from_ndarray(stereo, format="fltp", layout="stereo")
            frame.sample_rate, frame.time_base, frame.pts = self._rate, Fraction(1, self._rate), self._frames
            self._file.mux(stream.encode(frame))
        self._frames += block.shape[1]

    def close(self) -> None:
        """Complete the streams, and say what they are."""
        for stream in self._streams:
            self._file.mux(stream.encode(None))
        self._file.close()
        _add_manifest(self._sink)


def _add_manifest(sink: _Sink) -> None:
    """Put the JSON into moov/udta/stem. ffmpeg writes moov last, so that nothing has to make room."""
    at = 0
    kind, size = _head(sink, at)
    while kind and kind != b"moov":
        at += size
        kind, size = _head(sink, at)
    sink.seek(at + 8)
    body = sink.read(size - 8) if kind else b""
    if len(body) < size - 8 or not kind:  # the disk was full before, which the sink tells whoever asks it
        return
    inside = list(_boxes(body))
    manifest = _box(b"stem", json.dumps(_MANIFEST).encode())
    data = b"".join(body for kind, body in inside if kind == b"udta")
    others = b"".join(_box(kind, body) for kind, body in inside if kind != b"udta")
    sink.seek(at)
    sink.write(_box(b"moov", others + _box(b"udta", data + manifest)))


def _head(sink: _Sink, at: int) -> tuple[bytes, int]:
    """Read the name and the size of a file's box; b"" where there is none."""
    sink.seek(at)
    head = sink.read(16)
    size, kind = struct.unpack(">I4s", head[:8]) if len(head) == 16 else (0, b"")
    if size == 1:  # 4 GiB and more
        (size,) = struct.unpack(">Q", head[8:])
    return (kind, size) if size >= 8 else (b"", 0)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of the boxes in a box."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + size]
        at += size


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body
