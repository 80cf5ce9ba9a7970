# mypy: allow-untyped-calls
# (mutagen is a package without types)
"""A .stem.mp4 has five streams of the song's length, and says what they are as DJ software reads it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
from mutagen.mp4 import MP4Cover
from numpy.typing import NDArray

from separate.audio.encoders import EncodedFile
from separate.audio.formats import STEM_MP4, OutputFormat, choose_format, supported_rate
from separate.audio.reader import AudioReader
from separate.audio.stem_mp4 import STREAMS, _add_manifest
from separate.audio.writer import StemWriter
from separate.errors import OutputError, UsageError

FORMAT = OutputFormat(STEM_MP4, None)


def tones(length: int, rate: int = 44100, channels: int = 2) -> NDArray[np.float32]:
    """Five streams, one above the other, a tone of its own in each."""
    time = np.arange(length) / rate
    rows = [np.sin(2 * np.pi * 200 * (1 + row) * time) / 8 for row in range(len(STREAMS) * channels)]
    return np.array(rows, np.float32)


def write(
    path: Path, samples: NDArray[np.float32], rate: int = 44100, *, size: int = 7000, song: Path | None = None
) -> StemWriter:
    with StemWriter({"stems": path}, rate=rate, channels=len(samples), format=FORMAT, tags_from=song) as writer:
        for start in range(0, samples.shape[1], size):
            writer.write({"stems": samples[:, start : start + size]})
    return writer


def stream(path: Path, number: int) -> NDArray[np.float32]:
    with AudioReader(path, stream=number) as reader:
        return np.concatenate(list(reader.blocks()), axis=1)


def error(decoded: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """What the codec added, in dB, but for the ends, where a tone is cut off."""
    middle = slice(2048, -2048)
    return float(10 * np.log10(np.mean((decoded - expected)[:, middle] ** 2) / np.mean(expected[:, middle] ** 2)))


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        assert 8 <= size <= len(data) - at
        yield kind, data[at + 8 : at + size]
        at += size


def manifest(path: Path) -> dict[str, object]:
    movie = dict(boxes(path.read_bytes()))[b"moov"]
    found: dict[str, object] = json.loads(dict(boxes(dict(boxes(movie))[b"udta"]))[b"stem"])
    return found


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 1024, 30_001])
def test_five_streams_as_long_as_the_song(tmp_path: Path, rate: int, channels: int, length: int) -> None:
    path = tmp_path / "song.stem.mp4"
    samples = tones(length, rate, channels)
    write(path, samples, rate)
    with av.open(str(path)) as file:
        streams = file.streams.audio
        assert len(streams) == len(file.streams) == 5
        assert {(each.codec_context.name, each.rate, each.channels) for each in streams} == {("aac", rate, 2)}
        assert len({each.duration for each in streams}) == 1
    for number in range(5):
        decoded = stream(path, number)
        assert decoded.shape == (2, length)
        if length > 2048:
            assert error(decoded, samples[number * channels : (number + 1) * channels]) < -30


def test_the_manifest_is_that_of_other_stem_files(tmp_path: Path) -> None:
    write(tmp_path / "song.stem.mp4", tones(5000))
    found = manifest(tmp_path / "song.stem.mp4")
    assert found["version"] == 1
    assert [stem["name"] for stem in found["stems"]] == ["Drums", "Bass", "Other", "Vocals"]  # type: ignore[attr-defined]
    package = find_spec("stempeg")  # imported, it would ask for a program called ffmpeg
    if package is None or package.origin is None:
        pytest.skip("needs the song in stempeg")
    made = manifest(Path(package.origin).parent / "data" / "The Easton Ellises - Falcon 69.stem.mp4")
    assert found.keys() == made.keys()
    assert [stem.keys() for stem in found["stems"]] == [stem.keys() for stem in made["stems"]]  # type: ignore[attr-defined]
    for part in ("compressor", "limiter"):
        ours, native = found["mastering_dsp"][part], made["mastering_dsp"][part]  # type: ignore[index]
        assert ours.keys() == native.keys()
        assert ours["enabled"] is False


def test_only_the_mixture_is_played_by_players_that_know_no_stems(tmp_path: Path) -> None:
    write(tmp_path / "song.stem.mp4", tones(5000))
    movie = dict(boxes((tmp_path / "song.stem.mp4").read_bytes()))[b"moov"]
    tracks = [dict(boxes(body)) for kind, body in boxes(movie) if kind == b"trak"]
    assert [struct.unpack(">I", track[b"tkhd"][:4])[0] & 1 for track in tracks] == [1, 0, 0, 0, 0]


def test_tags_and_cover_art_are_the_songs(tmp_path: Path) -> None:
    song, path = tmp_path / "song.m4a", tmp_path / "song.stem.mp4"
    write_m4a(song)
    tags = mutagen.File(song)
    tags["©nam"], tags["©ART"], tags["trkn"] = ["A Song"], ["Someone"], [(3, 12)]
    picture = b"\x89PNG\r\n\x1a\n" + bytes(300_000)
    tags["covr"] = [MP4Cover(picture, MP4Cover.FORMAT_PNG)]
    tags.save()
    writer = write(path, tones(30_001), song=song)
    assert not writer.warnings
    found = mutagen.File(path)
    assert (found["©nam"], found["©ART"], found["trkn"]) == (["A Song"], ["Someone"], [(3, 12)])
    assert bytes(found["covr"][0]) == picture
    assert manifest(path)["version"] == 1
    assert [stream(path, number).shape for number in range(5)] == [(2, 30_001)] * 5


def write_m4a(path: Path) -> None:
    with StemWriter({"song": path}, rate=44100, channels=2, format=choose_format("m4a", None, 16, False)) as writer:
        writer.write({"song": tones(5000)[:2]})


def test_loud_stems_are_turned_down_together(tmp_path: Path) -> None:
    samples = tones(20_000)
    samples[9] *= 16  # a stem of 2.0
    writer = write(tmp_path / "song.stem.mp4", samples)
    assert writer.gain == pytest.approx(0.5, rel=1e-3)
    for number in range(5):
        decoded = stream(tmp_path / "song.stem.mp4", number)
        assert error(decoded, writer.gain * samples[2 * number : 2 * number + 2]) < -20


def test_rates_that_dj_software_knows() -> None:
    assert [supported_rate(FORMAT, rate) for rate in (8000, 44100, 48000, 96000)] == [44100, 44100, 48000, 48000]
    with pytest.raises(UsageError, match=r"--bits 24: stem\.mp4 is lossy"):
        choose_format("stem.mp4", "24", 16, False)


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_full_disk_is_told(length: int) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    file = EncodedFile(full, full, FORMAT, rate=48_000, channels=10)
    with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left on device; make room"):
        write_and_close(file, tones(length))


def write_and_close(file: EncodedFile, samples: NDArray[np.float32]) -> None:
    file.write(samples)
    file.close()


def test_a_box_of_more_than_4_gib_is_stepped_over(tmp_path: Path) -> None:
    """As ffmpeg writes the samples of some hours: their box has the long form of a size."""
    path = tmp_path / "song.stem.mp4"
    write(path, tones(5000))
    parts = list(boxes(path.read_bytes()))
    movie = dict(boxes(dict(parts)[b"moov"]))
    bare = b"".join(box(kind, body) for kind, body in movie.items() if kind != b"udta")  # tracks alike are one
    long = struct.pack(">I4sQ", 1, b"mdat", 16 + 100) + bytes(100)
    path.write_bytes(box(b"ftyp", b"M4A ") + long + box(b"moov", bare))
    with path.open("r+b") as file:
        _add_manifest(file)
    data = path.read_bytes()[12 + len(long) :]
    assert json.loads(dict(boxes(dict(boxes(dict(boxes(data))[b"moov"]))[b"udta"]))[b"stem"])["version"] == 1


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body
