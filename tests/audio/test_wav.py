from __future__ import annotations

import io
import os
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from separate.audio.formats import Bits
from separate.audio.wav import WavFile, WavStream, quantise
from tests.audio._out_songs import decode_ffmpeg, tones

DEPTHS: list[Bits] = [16, 24, 32, "float"]


def written(samples: np.ndarray[Any, np.dtype[np.float32]], rate: int, bits: Bits, block: int = 1000) -> bytes:
    file = io.BytesIO()
    wav = WavFile(file, rate=rate, channels=len(samples), bits=bits)
    for start in range(0, samples.shape[1], block):
        wav.write(samples[:, start : start + block])
    wav.close()
    return file.getvalue()


def chunks(data: bytes) -> dict[bytes, bytes]:
    """Walk the chunks as the specification of RIFF says; whatever does not add up fails."""
    name, size, kind = struct.unpack_from("<4sI4s", data)
    assert (name, kind, size + 8) == (b"RIFF", b"WAVE", len(data))
    found, place = {}, 12
    while place < len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        found[name] = data[place + 8 : place + 8 + size]
        assert len(found[name]) == size
        place += 8 + size + size % 2
    assert place == len(data)
    return found


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8, 17])
@pytest.mark.parametrize("frames", [0, 1, 4321])
def test_two_decoders_read_what_was_written(bits: Bits, channels: int, frames: int) -> None:
    samples = tones(channels, frames)
    data = written(samples, 44_100, bits)
    read, rate = soundfile.read(io.BytesIO(data), always_2d=True, dtype="float64")
    step = 0.0 if bits == "float" else 2.0 ** -int(bits)  # half of one step of the integers
    assert rate == 44_100
    assert read.shape == (frames, channels)
    assert np.abs(read.T - samples).max(initial=0) <= step
    found = chunks(data)
    assert len(found[b"data"]) == frames * channels * (4 if bits == "float" else bits // 8)
    extensible = struct.unpack_from("<H", found[b"fmt "])[0] == 0xFFFE
    assert extensible == (channels > 2 or bits in (24, 32))


@pytest.mark.parametrize("bits", DEPTHS)
def test_ffmpeg_reads_it_too(bits: Bits, tmp_path: Path) -> None:
    samples = tones(6, 4321)
    path = tmp_path / "song.wav"
    path.write_bytes(written(samples, 48_000, bits))
    read, rate = decode_ffmpeg(path)
    scale = {16: 2**15, 24: 2**31, 32: 2**31, "float": 1}[bits]
    assert rate == 48_000
    assert np.abs(read / scale - samples).max() < 2e-5


def test_the_standard_library_reads_16_bits() -> None:
    samples = tones(2, 999)
    with wave.open(io.BytesIO(written(samples, 22_050, 16))) as file:
        assert file.getparams()[:4] == (2, 2, 22_050, 999)
        assert np.array_equal(np.frombuffer(file.readframes(999), "<i2").reshape(-1, 2).T, quantise(samples, 16))


@pytest.mark.parametrize("bits", [16, 24])
def test_integers_survive(bits: int) -> None:
    full = 2 ** (bits - 1)
    integers = np.unique(
        np.concatenate([np.linspace(-full, full - 1, 70_000).astype(np.int64), [-full, -1, 0, full - 1]])
    )
    samples = (integers / full).astype(np.float32)
    assert np.array_equal(quantise(samples, bits), integers)


@given(st.floats(-4, 4, width=32), st.sampled_from([16, 24, 32]))
def test_rounding_is_to_the_nearest_and_ends_at_full_scale(sample: float, bits: int) -> None:
    full = 2 ** (bits - 1)
    (integer,) = quantise(np.array([sample], np.float32), bits).tolist()
    assert -full <= integer <= full - 1
    if abs(sample) <= 1:
        assert abs(integer - sample * full) <= (1 if sample == 1 or integer == full - 1 else 0.5)
    else:
        assert integer == (full - 1 if sample > 0 else -full)


class Sparse(io.FileIO):
    """A real file in which long silence is a hole: it takes no time and no room on the disk."""

    def write(self, data: Any) -> int:
        if len(data) > 1_000_000 and not any(data[:64]):
            return self.seek(len(data), os.SEEK_CUR) and len(data)
        return super().write(data)


@pytest.mark.slow
def test_past_4_gib_the_file_is_an_rf64(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    silence = np.zeros((16, 1_000_000), np.float32)
    end = tones(16, 1000)
    with Sparse(path, "w+") as file:
        wav = WavFile(file, rate=48_000, channels=16, bits="float")
        for _ in range(68):
            wav.write(silence)
        wav.write(end)
        wav.close()
    size = path.stat().st_size
    assert size > 2**32
    with path.open("rb") as head:
        assert head.read(16) == b"RF64\xff\xff\xff\xffWAVEds64"
        assert struct.unpack("<IQQQ", head.read(28)) == (28, size - 8, 68_001_000 * 64, 68_001_000)
    with soundfile.SoundFile(path) as sound:
        assert (sound.format, sound.frames, sound.channels) == ("RF64", 68_001_000, 16)
        sound.seek(68_000_000)
        assert np.array_equal(sound.read(dtype="float32").T, end)


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_pipe_gets_a_wav_of_open_length(bits: Bits, channels: int, tmp_path: Path) -> None:
    samples = tones(channels, 5001)
    end, start = os.pipe()
    with os.fdopen(start, "wb") as file:  # a pipe that really cannot seek; 120 kB would fill it, so write a part
        stream = WavStream(file, rate=44_100, channels=channels, bits=bits)
        stream.write(samples[:, :1000])
        stream.write(samples[:, 1000:1500])
        stream.close()
    with os.fdopen(end, "rb") as file:
        data = file.read()
    path = tmp_path / "piped.wav"
    path.write_bytes(data)
    read, rate = soundfile.read(path, always_2d=True)
    assert (rate, read.shape) == (44_100, (1500, channels))
    assert np.abs(read.T - samples[:, :1500]).max() <= 2**-16
    assert decode_ffmpeg(path)[0].shape == (channels, 1500)
