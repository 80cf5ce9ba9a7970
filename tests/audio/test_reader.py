"""Every format, every length, every way in which a file can be wrong."""

import io
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import mutagen.mp4
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from separate.audio.reader import AUDIO_SUFFIXES, AudioReader
from separate.errors import InputError
from tests.audio._in_songs import Samples, cut, delay, encode, music, read, wav, write

LENGTH = 40_123

# container, suffix, libsndfile's format and subtype, bits, is_float, largest difference to the samples written
LOSSLESS = [
    ("wav", ".wav", "WAV", "PCM_U8", 8, False, 2**-7),
    ("wav", ".wav", "WAV", "PCM_16", 16, False, 2**-15),
    ("wav", ".wav", "WAV", "PCM_24", 24, False, 2**-22),
    ("wav", ".wav", "WAV", "PCM_32", 32, False, 2**-23),
    ("wav", ".wav", "WAV", "FLOAT", 32, True, 0),
    ("wav", ".wav", "WAV", "DOUBLE", 32, True, 0),
    ("wav", ".wav", "WAVEX", "PCM_24", 24, False, 2**-22),
    ("w64", ".w64", "W64", "PCM_16", 16, False, 2**-15),
    ("rf64", ".wav", "RF64", "PCM_16", 16, False, 2**-15),
    ("aiff", ".aiff", "AIFF", "PCM_16", 16, False, 2**-15),
    ("aiff", ".aif", "AIFF", "PCM_S8", 8, False, 2**-7),
    ("au", ".au", "AU", "PCM_24", 24, False, 2**-22),
    ("caf", ".caf", "CAF", "PCM_24", 24, False, 2**-22),
    ("flac", ".flac", "FLAC", "PCM_16", 16, False, 2**-15),
    ("flac", ".flac", "FLAC", "PCM_24", 24, False, 2**-22),
]


@pytest.mark.parametrize(("container", "suffix", "kind", "subtype", "bits", "is_float", "error"), LOSSLESS)
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (192_000, 6)])
def test_lossless_formats(
    tmp_path: Path, container: str, suffix: str, kind: str, subtype: str, bits: int, is_float: bool, error: float,
    rate: int, channels: int,
) -> None:  # fmt: skip
    length = LENGTH + (kind == "AIFF")  # libsndfile's own encoder counts the byte that pads an odd number
    audio = music(length, channels)
    path = write(tmp_path / f"song{suffix}", audio, rate, subtype, kind)
    with AudioReader(path) as song:
        assert (song.name, song.rate, song.channels, song.frames) == (str(path), rate, channels, length)
        assert (song.bits, song.is_float, song.container) == (bits, is_float, container)
        blocks = list(song.blocks())
    assert [block.dtype for block in blocks] == [np.float32]
    assert blocks[0].shape == audio.shape
    assert np.abs(blocks[0] - audio).max() <= error


@pytest.mark.parametrize("codec", ["alac", "flac", "pcm_s16le", "pcm_s24le", "pcm_f32le", "tta", "wavpack"])
def test_lossless_formats_that_ffmpeg_reads(tmp_path: Path, codec: str) -> None:
    suffix = {"alac": ".m4a", "flac": ".mkv", "tta": ".tta", "wavpack": ".wv"}.get(codec, ".mov")
    audio = music(LENGTH)
    path = encode(tmp_path / f"song{suffix}", audio, codec)
    with AudioReader(path) as song:
        assert (song.rate, song.channels, song.is_float) == (44100, 2, codec == "pcm_f32le")
        assert song.bits == {"alac": 24, "pcm_s24le": 24, "pcm_f32le": 32}.get(codec, 16)
        assert song.frames == pytest.approx(LENGTH, abs=0 if suffix != ".mkv" else 44)
    heard = read(path)
    assert heard.shape == audio.shape
    assert np.abs(heard - audio).max() < 0.01  # FFmpeg's samples were scaled by a little less than full scale
    assert delay(heard, audio) == 0


@pytest.mark.parametrize("bits", [24, 32])
@pytest.mark.parametrize(("suffix", "codec", "kind"), [("flac", "flac", "s32"), ("wv", "wavpack", "s32p")])
def test_integers_of_32_bits(tmp_path: Path, suffix: str, codec: str, kind: str, bits: int) -> None:
    path = tmp_path / f"song.{suffix}"
    samples = (music(4096).astype(np.float64) * 2**31).astype(np.int32) >> (32 - bits) << (32 - bits)
    packed = samples if kind == "s32p" else samples.T.reshape(1, -1)
    with av.open(str(path), "w") as container:
        options = {"strict": "experimental", "bits_per_raw_sample": str(bits)}
        stream: Any = container.add_stream(codec, rate=44100, layout="stereo", options=options)
        stream.format = kind
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(packed), kind, "stereo")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with AudioReader(path) as song:
        assert (song.bits, song.is_float) == (bits, False)
    assert np.array_equal(read(path), samples.astype(np.float32) / np.float32(2**31))


SNDFILE = {"ogg": ("VORBIS", "OGG", 44100), "opus": ("OPUS", "OGG", 48000), "mp3": ("MPEG_LAYER_III", "MP3", 44100)}
FFMPEG = {
    "webm": ("libopus", 48000),
    "mka": ("libopus", 48000),
    "lame.mp3": ("libmp3lame", 44100),
    "wma": ("wmav2", 44100),
}


def lossy(folder: Path, kind: str, audio: Samples) -> Path:
    path = folder / f"song.{kind}"
    if kind in SNDFILE:
        subtype, container, rate = SNDFILE[kind]
        return write(path, audio, rate, subtype, container)
    codec, rate = FFMPEG.get(kind, ("aac", 44100))
    options = {"movflags": "faststart"} if "faststart" in kind else {}
    return encode(path, audio, codec, rate, **options)


@pytest.mark.parametrize("kind", ["ogg", "opus", "mp3", "lame.mp3", "m4a", "mp4", "faststart.m4a", "webm"])
@pytest.mark.parametrize("length", [LENGTH, 70_000, 44_032])
def test_lossy_formats_have_no_delay_and_no_padding(tmp_path: Path, kind: str, length: int) -> None:
    audio = music(length)
    path = lossy(tmp_path, kind, audio)
    with AudioReader(path) as song:
        assert song.frames == pytest.approx(length, abs=1000 if kind == "webm" else 50)
        assert (song.channels, song.bits, song.is_float) == (2, 16, False)
        assert song.container == {"webm": "mkv", "mp4": "m4a"}.get(kind, path.suffix[1:])
    heard = read(path)
    assert heard.shape == audio.shape
    assert delay(heard, audio) == 0
    assert np.corrcoef(heard[0], audio[0])[0, 1] > 0.95


@pytest.mark.parametrize("kind", ["aac", "wma", "ts", "mka"])
def test_formats_that_state_no_delay_keep_all_samples(tmp_path: Path, kind: str) -> None:
    heard = read(lossy(tmp_path, kind, music(LENGTH)))
    assert heard.shape[1] == pytest.approx(LENGTH, abs=2 * 2048)


@pytest.mark.parametrize("padding", [1, 50, 700])
def test_notes_of_delay_and_padding_as_in_itunes_are_followed(tmp_path: Path, padding: int) -> None:
    audio = music(43 * 1024)
    length = audio.shape[1] - padding
    path = encode(tmp_path / "song.m4a", audio, "aac", use_editlist="0")
    assert read(path).shape[1] == 44 * 1024
    mp4: Any = mutagen.mp4  # untyped
    tags = mp4.MP4(path)
    note = f" 00000000 00000400 {padding:08X} {length:016X}" + " 00000000" * 8
    tags["----:com.apple.iTunes:iTunSMPB"] = mp4.MP4FreeForm(note.encode())
    tags.save()
    heard = read(path)
    assert heard.shape[1] == length
    assert delay(heard, audio) == 0


@pytest.fixture(scope="module")
def songs() -> Iterator[dict[str, tuple[Path, Samples]]]:
    """A file of every kind of decoding, with all of its samples."""
    with tempfile.TemporaryDirectory() as folder:
        root, made = Path(folder), {}
        audio = music(150_000)
        for kind in ("ogg", "opus", "mp3", "m4a", "webm"):
            path = lossy(root, kind, audio)
            made[kind] = path, read(path)
        for name, subtype in (("a.wav", "PCM_16"), ("b.flac", "PCM_24"), ("c.wav", "MS_ADPCM")):
            path = write(root / name, audio, 44100, subtype)
            made[name] = path, read(path)
        yield made


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["ogg", "opus", "mp3", "m4a", "webm", "a.wav", "b.flac", "c.wav"]),
    start=st.integers(0, 160_000),
    length=st.none() | st.integers(0, 100_000),
    size=st.integers(500, 200_000),
)
def test_any_part_in_blocks_of_any_size(
    songs: dict[str, tuple[Path, Samples]], kind: str, start: int, length: int | None, size: int
) -> None:
    path, whole = songs[kind]
    stop = None if length is None else start + length
    with AudioReader(path) as song:
        blocks = list(song.blocks(start, stop, size))
    assert all(block.shape[1] == size for block in blocks[:-1])
    assert all(0 < block.shape[1] <= size for block in blocks)
    assert np.array_equal(np.concatenate([whole[:, :0], *blocks], axis=1), whole[:, start:stop])


@pytest.mark.parametrize("kind", ["ogg", "m4a", "a.wav"])
def test_every_call_of_blocks_starts_anew(songs: dict[str, tuple[Path, Samples]], kind: str) -> None:
    path, whole = songs[kind]
    with AudioReader(path) as song:
        next(song.blocks(70_000))
        next(song.blocks())
        assert np.array_equal(np.concatenate(list(song.blocks()), axis=1), whole)


@pytest.mark.parametrize(("start", "size"), [(-1, 10), (0, 0)])
def test_positions_that_make_no_sense(songs: dict[str, tuple[Path, Samples]], start: int, size: int) -> None:
    with AudioReader(songs["a.wav"][0]) as song, pytest.raises(ValueError, match="start must be 0 or more"):
        next(song.blocks(start, None, size))


# Streams


class Pipe(io.RawIOBase):
    """What comes through a pipe: it cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.content.readinto(buffer)


@pytest.mark.parametrize("kind", ["ogg", "mp3", "m4a", "a.wav", "b.flac"])
def test_streams_of_every_format(songs: dict[str, tuple[Path, Samples]], kind: str) -> None:
    path, whole = songs[kind]
    pipe, memory = Pipe(path.read_bytes()), io.BytesIO(path.read_bytes())
    assert np.array_equal(read(pipe), whole)
    assert np.array_equal(read(memory), whole)
    assert not memory.closed


@pytest.mark.parametrize("kind", ["m4a", "a.wav"])
def test_standard_input_and_its_name(songs: dict[str, tuple[Path, Samples]], kind: str) -> None:
    path, whole = songs[kind]
    code = (
        "from separate.audio.reader import AudioReader as A\n"
        "with A('-') as song: print(song.name, sum(block.shape[1] for block in song.blocks()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=path.read_bytes(), capture_output=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.decode().split() == ["-", str(whole.shape[1])]
    assert done.stderr == b""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe(tmp_path: Path, songs: dict[str, tuple[Path, Samples]]) -> None:
    path, whole = songs["m4a"]
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(
        [sys.executable, "-c", f"open({str(tmp_path / 'pipe')!r}, 'wb').write(open({str(path)!r}, 'rb').read())"]
    ):
        assert np.array_equal(read(tmp_path / "pipe"), whole)


def test_a_stream_is_named_as_told() -> None:
    with pytest.raises(InputError, match=r"^from the web: is empty"):
        AudioReader(io.BytesIO(), "from the web")


# Short songs


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "W64", "RF64", "AU", "CAF"])
def test_no_samples_are_an_empty_song(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "song", music(0), subtype="PCM_16", kind=kind)
    with AudioReader(path) as song:
        assert (song.frames, list(song.blocks())) == (0, [])


def test_no_samples_and_a_chunk_behind_them(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(wav(b"", 0, after=b"LIST" + struct.pack("<I", 4) + b"INFO"))
    with AudioReader(path) as song:
        assert (song.frames, list(song.blocks())) == (0, [])


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus", "ogg"])
def test_one_sample_is_a_song(tmp_path: Path, kind: str) -> None:
    subtype = {"mp3": "MPEG_LAYER_III", "opus": "OPUS"}.get(kind)
    path = write(tmp_path / f"song.{kind}", music(1), 48000, subtype, "OGG" if kind == "opus" else None)
    assert read(path).shape == (2, 1)


# Files that are wrong


@contextmanager
def complaint(what: str) -> Iterator[None]:
    """Expect an error of one line."""
    with pytest.raises(InputError) as caught:
        yield
    assert re.search(what, str(caught.value))
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


def test_not_found(tmp_path: Path) -> None:
    with complaint("none.wav: no such file$"):
        AudioReader(tmp_path / "none.wav")


def test_a_folder(tmp_path: Path) -> None:
    with complaint("is a folder, not a song$"):
        AudioReader(tmp_path)


def test_no_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "song.wav", music(100))
    path.chmod(0)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:  # whom permissions do not stop
        os.seteuid(65534)
    try:
        with complaint("song.wav: no permission to read it$"):
            AudioReader(path)
    finally:
        if root:
            os.seteuid(0)
        path.chmod(stat.S_IRUSR)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"To be, or not to be\n" * 500, "not a sound file"),
        (b"RIFF", "not a sound file"),
        (wav(b"", 0)[:30], "not a sound file"),
        (b"ffconcat version 1.0\nfile song.aac\n", "not a sound file"),
        (np.random.default_rng(0).bytes(100_000), "not a sound file"),
    ],
)
@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a"])
def test_what_is_no_sound(
    tmp_path: Path, content: bytes, what: str, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    encode(tmp_path / "song.aac", music(5000), "aac")
    (tmp_path / f"bad{suffix}").write_bytes(content)
    with complaint(rf"bad\{suffix}: {what}"):
        AudioReader(tmp_path / f"bad{suffix}")
    assert capfd.readouterr() == ("", "")


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    audio = music(LENGTH)
    path = encode(tmp_path / "song.m4a", audio, "aac")
    assert read(path.rename(tmp_path / "song.mp3")).shape == audio.shape


def test_video_without_sound(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "film.mp4"), "w") as film:
        stream: Any = film.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        film.mux(stream.encode())
    with complaint("has no sound in it"):
        AudioReader(tmp_path / "film.mp4")


def test_a_codec_that_nobody_knows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = encode(tmp_path / "song.m4a", music(5000), "aac")
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"drms").replace(b"esds", b"free"))
    with complaint("its sound is protected, or in a codec that FFmpeg does not have"):
        AudioReader(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("rate", [4000, 7999, 192_001, 384_000])
def test_rates_out_of_range(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "song.wav", music(100), rate)
    with complaint(f"its rate of {rate} Hz is outside of 8 to 192 kHz"):
        AudioReader(path)


TRUNCATED = ["flac", "mp3", "lame.mp3", "faststart.m4a", "webm"]


@pytest.mark.parametrize("kind", TRUNCATED)
def test_a_file_cut_short_says_how_far_it_got(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    audio = music(150_000)
    path = write(tmp_path / "song.flac", audio) if kind == "flac" else lossy(tmp_path, kind, audio)
    whole = read(path)
    cut(path, 0.6)
    got: list[Samples] = []
    with complaint(r"at 0:0[12]\.\d\d\d of 0:03\.\d\d\d; the file is damaged or cut short"), AudioReader(path) as song:
        got.extend(song.blocks())
    heard = np.concatenate(got, axis=1)
    assert np.array_equal(heard, whole[:, : heard.shape[1]])
    assert read(path, 0, 50_000).shape[1] == 50_000  # before the cut, all is well
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["ogg", "opus", "m4a"])
def test_a_cut_that_shows_at_once(tmp_path: Path, kind: str) -> None:
    path = cut(lossy(tmp_path, kind, music(100_000)), 0.7)
    with complaint("cut short"):
        AudioReader(path)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "W64", "RF64", "AU", "CAF"])
def test_a_header_that_promises_more_than_there_is(tmp_path: Path, kind: str) -> None:
    path = cut(write(tmp_path / "song", music(10_000), subtype="PCM_16", kind=kind), 0.5)
    with complaint(r"its header promises 40,\d\d\d bytes of sound, the file has 1[79],\d\d\d; it is cut short"):
        AudioReader(path)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFDB])
@pytest.mark.parametrize("outer", [0, 36, 0xFFFFFFFF, 0x7FFFF024])
def test_a_streams_header_means_to_the_end(tmp_path: Path, size: int, outer: int) -> None:
    samples = (music(1000, 1)[0] * 32767).astype("<i2")
    path = tmp_path / "song.wav"
    path.write_bytes(wav(samples.tobytes(), size, outer))
    assert np.array_equal(read(path)[0], samples / np.float32(32768))
    with AudioReader(path) as song:
        assert (song.rate, song.channels, song.frames, song.bits) == (8000, 1, 1000, 16)
        assert (song.container, song.is_float) == ("wav", False)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFF000, 5_000_000_000 % 2**32])
def test_songs_that_are_too_long_for_their_header_are_read_to_the_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "song.wav"
    with path.open("wb") as file:
        file.write(wav(b"", size, min(size + 36, 0xFFFFFFFF)))
        file.truncate(44 + 5_000_000_000)  # silence, which takes no room on the disk
    with AudioReader(path) as song:
        assert song.frames == 2_500_000_000


def test_any_other_size_beyond_the_end_is_a_lie(tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    path.write_bytes(wav(bytes(2000), 2002))
    with complaint("promises 2,002 bytes of sound, the file has 2,000"):
        AudioReader(path)
    path.write_bytes(wav(bytes(2000), 0xC0000000))
    with complaint("promises 3,221,225,472 bytes"):
        AudioReader(path)


def test_a_flac_that_states_no_length(tmp_path: Path) -> None:
    audio = music(LENGTH)
    path = write(tmp_path / "song.flac", audio, subtype="PCM_24")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with AudioReader(path) as song:
        assert (song.frames, song.bits, song.container) == (None, 24, "flac")
    assert np.abs(read(path) - audio).max() < 2**-22


@pytest.mark.parametrize("kind", ["b.flac", "ogg", "m4a", "webm"])
def test_damage_in_the_middle(
    tmp_path: Path, songs: dict[str, tuple[Path, Samples]], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(songs[kind][0].read_bytes())
    half = len(content) // 2
    content[half : half + 6000] = np.random.default_rng(3).bytes(6000)
    (tmp_path / "song").write_bytes(content)
    with complaint(r"at 0:0\d\.\d\d\d of 0:03\.\d\d\d; the file is damaged"):
        read(tmp_path / "song")
    assert capfd.readouterr() == ("", "")


def test_joined_songs_are_read_to_the_end(tmp_path: Path) -> None:
    """libsndfile would stop after the first; an MP3's header counts only the first."""
    one = write(tmp_path / "one.ogg", music(60_000), subtype="VORBIS")
    two = write(tmp_path / "two.ogg", music(50_000), subtype="VORBIS")
    (tmp_path / "both.ogg").write_bytes(one.read_bytes() + two.read_bytes())
    assert read(tmp_path / "both.ogg").shape[1] == pytest.approx(110_000, abs=2000)
    song = lossy(tmp_path, "lame.mp3", music(60_000)).read_bytes()
    (tmp_path / "both.mp3").write_bytes(song + song)
    assert read(tmp_path / "both.mp3").shape[1] == pytest.approx(120_000, abs=4000)


def test_tags_behind_an_mp3_are_no_damage(tmp_path: Path) -> None:
    path = lossy(tmp_path, "mp3", music(LENGTH))
    path.write_bytes(path.read_bytes() + b"TAG" + b"a song".ljust(125))
    assert read(path).shape[1] == LENGTH


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1e300, "inf")])
@pytest.mark.parametrize("at", [0, 1, 88_200])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float, shown: str, at: int) -> None:
    audio = music(100_000).astype(np.float64)
    audio[1, at] = audio[0, at + 5] = value
    soundfile.write(tmp_path / "song.wav", audio.T, 44100, "DOUBLE")
    time = f"{at // 44100}.000"
    with complaint(rf"sample {at} \(0:0{time}\) is {shown}, not a number"):
        read(tmp_path / "song.wav")
    assert read(tmp_path / "song.wav", at + 6).shape[1] == 100_000 - at - 6


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "mp3"])
def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, kind: str) -> None:
    audio = music(400_000)
    path = lossy(tmp_path, kind, audio) if kind in {"m4a", "mp3"} else write(tmp_path / f"song.{kind}", audio)
    with AudioReader(path) as song:
        blocks = song.blocks()
        next(blocks)
        os.truncate(path, path.stat().st_size // 2)
        with complaint(r"at 0:0\d\.\d\d\d of 0:09\.\d\d\d; the file is damaged or cut short"):
            list(blocks)


NAMES = [
    "with space.wav",
    'it\'s "quoted".wav',
    "two\nlines.wav",
    "🎵 Größe 音楽.wav",
    "x" * 246 + ".wav",
    "-",
    "file:a.wav",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("codec", ["", "aac"])
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str) -> None:
    audio = music(LENGTH)
    made = encode(tmp_path / "made.m4a", audio, codec) if codec else write(tmp_path / "made.wav", audio)
    made.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with AudioReader(f"./{name}") as song:
        assert song.name == f"./{name}"
        assert sum(block.shape[1] for block in song.blocks()) == LENGTH
    cut(tmp_path / name, 0.5)
    shown = f"./{name}".replace("\n", r"\n")
    with complaint(f"^{re.escape(shown)}: "):
        read(f"./{name}")


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names are text there")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path / "made.wav", music(100)).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    assert read(path).shape == (2, 100)
    path.write_bytes(b"")
    with complaint(r"/\\udcff\.wav: is empty"):
        AudioReader(path)


def test_a_name_that_no_file_can_have() -> None:
    with complaint(r"a\\x00b: cannot be read"):
        AudioReader("a\0b")
    with complaint("x: cannot be read: "):
        AudioReader("x" * 5000)


def test_the_file_is_closed_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"no song")
    for _ in range(3):
        with pytest.raises(InputError):
            AudioReader(tmp_path / "song.wav")  # a file left open would be a ResourceWarning, and that an error


def test_suffixes_of_every_format_are_walked() -> None:
    assert {suffix for _, suffix, *_ in LOSSLESS} <= AUDIO_SUFFIXES
    assert {".mp3", ".m4a", ".ogg", ".opus", ".aac", ".wma", ".webm", ".mp4"} <= AUDIO_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in AUDIO_SUFFIXES)
