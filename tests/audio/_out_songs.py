"""Signals, and decoders that are not ours, for the tests of what is written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from separate.audio.formats import OutputFormat, choose_format

EVERY = ["wav 16", "wav 24", "wav 32", "wav float", "flac 16", "flac 24", "ogg", "opus", "mp3", "m4a"]
LOSSLESS = EVERY[:6]
LOSSY = EVERY[6:]


def format_of(text: str) -> OutputFormat:
    name, _, bits = text.partition(" ")
    return choose_format(name, bits or None, 16, False)


def tones(channels: int, frames: int, rate: int = 48_000, level: float = 0.25) -> NDArray[np.float32]:
    """A tone of its own in every channel, and a little noise."""
    time = np.arange(frames) / rate
    noise = np.random.default_rng(frames).standard_normal((channels, frames)) * 0.002
    pitches = 200.0 * np.arange(1, channels + 1)[:, None]
    return ((np.sin(2 * np.pi * pitches * time) + noise) * level).astype(np.float32)


def decode(path: Path) -> tuple[NDArray[np.float64], int]:
    """Decode with libsndfile, M4A with ffmpeg's libraries as its edit list says."""
    if path.suffix == ".m4a":
        return decode_ffmpeg(path)
    samples, rate = soundfile.read(path, always_2d=True, dtype="float64")
    return samples.T, rate


def decode_ffmpeg(path: Path) -> tuple[NDArray[np.float64], int]:
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        blocks = [_samples(frame) for frame in file.decode(stream)]
        samples = np.concatenate(blocks, axis=1).astype(np.float64)
        if path.suffix == ".m4a":
            assert stream.time_base is not None
            assert stream.start_time == 0
            seconds: Any = Fraction(stream.duration or 0) * stream.time_base
            samples = samples[:, : int(seconds * stream.rate)]
        return samples, stream.rate


def _samples(frame: av.AudioFrame) -> NDArray[Any]:
    samples = frame.to_ndarray()
    return samples if frame.format.is_planar else samples.reshape(-1, frame.layout.nb_channels).T


def loudest(samples: NDArray[Any], rate: int) -> list[int]:
    """Which of the tones is in each channel."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.shape[1])))
    return [round(int(row.argmax()) * rate / samples.shape[1] / 200) - 1 for row in spectrum]
