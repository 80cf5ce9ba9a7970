from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from separate.audio.encoders import EncodedFile
from separate.audio.formats import supported_rate
from separate.audio.wav import quantise
from separate.errors import OutputError
from tests.audio._out_songs import EVERY, LOSSLESS, LOSSY, decode, decode_ffmpeg, format_of, loudest, tones


def encode(path: Path, samples: np.ndarray, text: str, rate: int, block: int) -> None:
    file = EncodedFile(path, path, format_of(text), rate=rate, channels=len(samples))
    for start in range(0, samples.shape[1], block):
        file.write(samples[:, start : start + block])
    file.close()


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize(
    ("rate", "channels", "frames", "block"),
    [
        (44_100, 1, 1, 1),
        (44_100, 2, 2, 1),
        (48_000, 2, 1023, 500),
        (48_000, 2, 1024, 1024),
        (48_000, 1, 1025, 2000),
        (44_100, 2, 44_101, 101),
        (22_050, 2, 20_000, 20_000),
        (8_000, 1, 9_999, 3_333),
        (96_000, 2, 50_001, 16_384),
        (192_000, 2, 50_001, 50_001),
    ],
)
def test_the_length_is_right_to_the_sample(
    text: str, rate: int, channels: int, frames: int, block: int, tmp_path: Path
) -> None:
    rate = supported_rate(format_of(text), rate)
    path = tmp_path / f"song.{format_of(text).name}"
    encode(path, tones(channels, frames, rate), text, rate, block)
    read, read_rate = decode(path)
    assert read_rate == rate
    assert read.shape == (channels, frames)


@pytest.mark.parametrize("text", LOSSLESS)
def test_lossless_formats_hold_the_rounded_samples(text: str, tmp_path: Path) -> None:
    path = tmp_path / f"song.{format_of(text).name}"
    samples = tones(2, 30_000, level=0.99)
    encode(path, samples, text, 48_000, 777)
    bits = format_of(text).bits
    assert bits is not None
    expected = samples if bits == "float" else quantise(samples, bits) / 2.0 ** (bits - 1)
    assert np.array_equal(decode(path)[0], expected)


@pytest.mark.parametrize(("text", "signal_to_noise"), [("ogg", 30), ("opus", 20), ("mp3", 40), ("m4a", 30)])
def test_lossy_formats_are_close_and_neither_early_nor_late(text: str, signal_to_noise: float, tmp_path: Path) -> None:
    path = tmp_path / f"song.{text}"
    samples = tones(2, 96_000)
    encode(path, samples, text, 48_000, 5_000)
    noise = decode(path)[0] - samples
    assert 10 * np.log10(np.square(samples).sum() / np.square(noise).sum()) > signal_to_noise


@pytest.mark.parametrize("text", LOSSY)
def test_lossy_formats_are_of_high_quality(text: str, tmp_path: Path) -> None:
    path = tmp_path / f"song.{text}"
    noise = np.random.default_rng(1).standard_normal((2, 96_000)).astype(np.float32) * 0.1
    encode(path, noise, text, 48_000, 96_000)
    assert 220 < path.stat().st_size * 8 / 2 / 1000 < 400  # kbit/s


@pytest.mark.parametrize(
    ("text", "channels"),
    [(text, n) for text in EVERY for n in range(3, 9) if n <= format_of(text).container.channels],
)
def test_every_channel_goes_to_its_loudspeaker(text: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"song.{format_of(text).name}"
    samples = tones(channels, 48_000)
    if channels >= 6:
        samples[3] = tones(1, 48_000)[0] / 2  # codecs keep only the low tones of the channel for low tones
    encode(path, samples, text, 48_000, 10_000)
    expected = [0 if channels >= 6 and i == 3 else i for i in range(channels)]
    if channels == 8:  # PyAV reads beyond the end of frames with eight planes
        read, rate = decode(path)
        if text in ("ogg", "opus"):
            expected = [expected[i] for i in (0, 2, 1, 6, 7, 4, 5, 3)]
    else:
        read, rate = decode_ffmpeg(path)  # which knows the loudspeakers of each format
    assert loudest(read, rate) == expected


@pytest.mark.parametrize("text", EVERY)
def test_the_same_samples_are_the_same_bytes(text: str, tmp_path: Path) -> None:
    samples = tones(2, 60_000)
    encode(tmp_path / "one", samples, text, 48_000, 60_000)
    encode(tmp_path / "two", samples, text, 48_000, 1_001)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("text", ["ogg", "opus"])
def test_different_songs_can_be_chained(text: str, tmp_path: Path) -> None:
    for name, level in (("one", 0.2), ("two", 0.3)):
        encode(tmp_path / name, tones(1, 5_000, level=level), text, 48_000, 5_000)
    serials = {(tmp_path / name).read_bytes()[14:18] for name in ("one", "two")}
    assert len(serials) == 2


@pytest.mark.parametrize("text", EVERY)
def test_a_full_disk_is_reported(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    final = tmp_path / "song"
    with pytest.raises(OutputError) as raised:
        encode(full, tones(2, 300_000), text, 48_000, 10_000)
    assert str(raised.value).startswith("/dev/full: cannot be written: No space left on device; make room")
    with pytest.raises(OutputError, match="song: cannot be written: No space left"):
        _write_little(full, final, text)
    assert capfd.readouterr() == ("", "")


def _write_little(path: Path, final: Path, text: str) -> None:
    file = EncodedFile(path, final, format_of(text), rate=48_000, channels=2)
    file.write(tones(2, 10))  # which codecs hold back until the end
    file.close()


@pytest.mark.parametrize("text", EVERY)
def test_an_abandoned_file_makes_no_noise(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "song"
    file = EncodedFile(path, path, format_of(text), rate=48_000, channels=2)
    file.write(tones(2, 20_000))
    before = path.stat().st_size
    file.abandon()
    file.abandon()
    assert path.stat().st_size == before
    assert capfd.readouterr() == ("", "")
