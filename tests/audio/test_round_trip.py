"""What is written is read again: every channel where it was, in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from separate.audio.formats import CONTAINERS, choose_format
from separate.audio.reader import AudioReader
from separate.audio.writer import StemWriter


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, count) for name, row in CONTAINERS.items() for count in range(1, min(row.channels, 8) + 1)],
)
def test_channels_stay_where_they_are(tmp_path: Path, name: str, channels: int) -> None:
    time = np.arange(24000) / 48000
    tones = np.stack([0.1 * (i + 1) * np.sin(2 * np.pi * (150 + 60 * i) * time) for i in range(channels)])
    if channels >= 6:
        tones[3] = 0.4 * np.sin(2 * np.pi * 50 * time)  # a channel of low notes only, and codecs rely on that
    path = tmp_path / f"song.{name}"
    settings = {"rate": 48000, "channels": channels, "format": choose_format(name, None, 16, False)}
    with StemWriter({"song": path}, **settings) as writer:  # type: ignore[arg-type]
        writer.write({"song": tones.astype(np.float32)})
    with AudioReader(path) as reader:
        again = np.concatenate(list(reader.blocks()), 1)
    assert again.shape == tones.shape
    likeness = np.abs(again @ (tones / np.linalg.norm(tones, axis=1, keepdims=True)).T)
    assert likeness.argmax(1).tolist() == list(range(channels))


@pytest.mark.parametrize(
    ("rate", "channels", "frames", "seed"),
    [(8000, 1, 1, 0), (16000, 2, 3, 0), (22050, 2, 10, 0), (22050, 1, 47, 0), (44100, 2, 101, 0), (48000, 2, 2, 1)],
)
def test_an_mp3_may_be_very_short(tmp_path: Path, rate: int, channels: int, frames: int, seed: int) -> None:
    """FFmpeg takes some of them for other formats, and leaves the padding of others."""
    noise = np.random.default_rng(seed).uniform(-0.3, 0.3, (channels, frames)).astype(np.float32)
    path = tmp_path / "song.mp3"
    with StemWriter({"song": path}, rate=rate, channels=channels, format=choose_format("mp3", None, 16, False)) as out:
        out.write({"song": noise})
    for tagged in (b"", b"ID3\x04\0\0\0\0\0\x10" + bytes(16)):
        path.write_bytes(tagged + path.read_bytes())
        with AudioReader(path) as reader:
            assert np.concatenate(list(reader.blocks()), 1).shape == noise.shape
            assert reader.container == "mp3"
