"""Songs as files, for the tests of what is read: made by the encoders in libsndfile and FFmpeg."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from separate.audio.reader import AudioReader

Samples = NDArray[np.float32]


def music(frames: int, channels: int = 2, rate: int = 44100) -> Samples:
    """Tones under noise that swells and fades: every place sounds different, so that a shift of one sample shows."""
    time = np.arange(frames) / rate
    swell = np.sin(np.pi * np.arange(frames) / max(frames, 1)) ** 2
    noise = np.random.default_rng(7).standard_normal((channels, frames))
    smooth = np.apply_along_axis(np.convolve, 1, noise, np.hanning(9) / 5, "same")[:, :frames] if frames else noise
    pitches = 330.0 * np.arange(1, channels + 1)[:, None]
    mixed: Samples = (
        (0.2 * np.sin(2 * np.pi * pitches * time) + 0.25 * smooth * swell).clip(-0.9, 0.9).astype(np.float32)
    )
    return mixed


def write(path: Path, audio: Samples, rate: int = 44100, subtype: str | None = None, kind: str | None = None) -> Path:
    """Write with libsndfile, in small blocks because its Vorbis encoder crashes on large ones."""
    with soundfile.SoundFile(path, "w", rate, audio.shape[0], subtype, format=kind) as file:
        for at in range(0, audio.shape[1], 4096):
            file.write(audio[:, at : at + 4096].T)
    return path


def encode(path: Path, audio: Samples, codec: str, rate: int = 44100, kind: str | None = None, **options: str) -> Path:
    """Write with FFmpeg's libraries."""
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.layout = {1: "mono", 2: "stereo", 6: "5.1"}[audio.shape[0]]
        stream.bit_rate = 192_000
        if codec in {"tta", "wavpack"}:  # which would begin with 8 bits
            stream.format = "s16" if codec == "tta" else "s16p"
        wanted = stream.codec_context.format.name
        for at in range(0, audio.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(_as(audio[:, at : at + 1024], wanted), wanted, stream.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _as(audio: Samples, kind: str) -> NDArray[Any]:
    made: NDArray[Any] = audio
    if kind.startswith("s"):
        bits = int(kind[1:3])
        made = (audio.astype(np.float64) * (2 ** (bits - 1) - 256)).round().astype(f"i{bits // 8}")
    return np.ascontiguousarray(made if kind.endswith("p") else made.T.reshape(1, -1))


def wav(samples: bytes, size: int, outer: int | None = None, after: bytes = b"") -> bytes:
    """Build a mono 16-bit WAV of 8 kHz whose header says `size`, whatever there is."""
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    body += b"data" + struct.pack("<I", size) + samples + after
    return b"RIFF" + struct.pack("<I", len(body) if outer is None else outer) + body


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of a file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    return path


def read(source: Any, start: int = 0, stop: int | None = None, size: int = 65536) -> Samples:
    with AudioReader(source) as song:
        blocks = [np.empty((song.channels, 0), np.float32), *song.blocks(start, stop, size)]
    return np.concatenate(blocks, axis=1)


def delay(heard: Samples, played: Samples) -> int:
    """Count the samples by which `heard` comes late."""
    n = 2 * max(heard.shape[1], played.shape[1])
    both = np.fft.rfft(heard[0], n) * np.conj(np.fft.rfft(played[0], n))
    late = int(np.fft.irfft(both, n).argmax())
    return late - n if late > n // 2 else late
