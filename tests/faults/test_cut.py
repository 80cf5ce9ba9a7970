"""Songs that are cut at every frame, or page: refused, or what is missing is said; never taken for whole songs."""

from __future__ import annotations

import errno
import io
import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest

from separate.audio.reader import AudioReader
from separate.errors import InputError
from tests.audio._in_songs import Samples, encode, music, read, write
from tests.conftest import Outcome
from tests.faults.conftest import TRIALS

Cli = Callable[..., Outcome]
Make = Callable[[Path, Samples], Path]
SOUND = music(30_000)

MADE: dict[str, Make] = {
    "wav": lambda path, sound: write(path, sound, subtype="PCM_16", kind="WAV"),
    "flac": lambda path, sound: write(path, sound, subtype="PCM_16", kind="FLAC"),
    "ogg": lambda path, sound: write(path, sound, subtype="VORBIS", kind="OGG"),
    "opus": lambda path, sound: write(path, sound, 48000, "OPUS", "OGG"),
    "mp3": lambda path, sound: write(path, sound, subtype="MPEG_LAYER_III", kind="MP3"),
    "m4a": lambda path, sound: encode(path, sound, "aac", kind="ipod"),
    "m4a, its table first": lambda path, sound: encode(path, sound, "aac", kind="ipod", movflags="faststart"),
    "alac": lambda path, sound: encode(path, sound, "alac", kind="ipod", movflags="faststart"),
    "webm": lambda path, sound: encode(path, sound, "libopus", 48000, kind="webm"),
    "wma": lambda path, sound: encode(path, sound, "wmav2", kind="asf"),
}
# Samples that may be missing from a file without a word, as its format states no better how long it is.
UNSAID = {"mp3": 1152, "webm": 48000 // 20}


def borders(path: Path) -> list[int]:
    """Find where the frames, pages or packets of a file begin and end; WAV has none, but every thousandth sample."""
    content = path.read_bytes()
    if content.startswith(b"OggS"):
        return [at for at in range(1, len(content)) if content.startswith(b"OggS", at)]
    if content.startswith(b"RIFF"):
        return list(range(44, len(content), 4000))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
        ends = {place for pos, size in packets if pos is not None for place in (pos, pos + size)}
        return sorted(place for place in ends if 0 < place < len(content))


@pytest.mark.parametrize("kind", MADE)
def test_every_border(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = MADE[kind](tmp_path / "whole", SOUND)
    content, whole = path.read_bytes(), read(path)
    with AudioReader(path) as song:
        assert song.warnings == []
    became = Counter[str]()
    for at in borders(path):
        TRIALS["a song cut at a border of frames or pages"] += 1
        (tmp_path / "cut").write_bytes(content[:at])
        try:
            with AudioReader(tmp_path / "cut") as song:
                heard = sum(block.shape[1] for block in song.blocks())
                said = song.warnings
        except InputError:
            became["refused"] += 1
            continue
        missing = whole.shape[1] - heard
        assert said or missing <= UNSAID.get(kind, 0), f"{missing} samples are missing, and nobody says so"
        became["said" if said else "unsaid"] += 1
    assert became["refused"] >= 1
    assert became.total() >= 3
    assert capfd.readouterr() == ("", "")


def test_a_shorter_song_is_said_and_separated(tmp_path: Path, cli: Cli, tiny: Path) -> None:
    for kind, said in (("ogg", "nothing marks its end"), ("m4a, its table first", "s before its stated length")):
        path = MADE[kind](tmp_path / "whole", SOUND)
        song = tmp_path / f"{kind[:3]}"
        song.write_bytes(path.read_bytes()[: borders(path)[-1]])
        done = cli(song, "-m", tiny, "-o", tmp_path / "out", "--wiener", 0, "--stems", "bass")
        assert done.code == 0, done.err
        assert re.search(rf"{song}: .*{said}; it may be cut short\n", done.err), done.err
        assert read(tmp_path / f"out/tiny/{kind[:3]}/bass.wav").shape == read(song).shape


class Broken(io.BytesIO):
    """A stream that cannot be read any further from some byte on, as that of a drive that was pulled out."""

    def __init__(self, content: bytes, good: int) -> None:
        super().__init__(content[:good])

    def read(self, size: int | None = -1, /) -> bytes:
        if chunk := super().read(size):
            return chunk
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "m4a"])
def test_a_stream_that_breaks_off(tmp_path: Path, kind: str) -> None:
    content = MADE[kind](tmp_path / "whole", SOUND).read_bytes()
    for good in np.random.default_rng(0).integers(0, len(content), 10):
        TRIALS["a read error"] += 1
        with pytest.raises(InputError, match=r"^song: cannot be read: Input/output error$"):
            AudioReader(Broken(content, int(good)), "song")


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs a file that cannot be read")
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "m4a"])
def test_a_file_that_cannot_be_read_any_more(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = MADE[kind](tmp_path / "whole", music(150_000))
    with open("/proc/self/mem", "rb", buffering=0) as unreadable, AudioReader(path) as song:
        blocks = song.blocks(size=1000)
        for _ in range(3):
            next(blocks)
        TRIALS["a read error"] += 1
        os.dup2(unreadable.fileno(), song._file.fileno())  # from here on, reading from it is an error of the system
        with pytest.raises(InputError, match=r"/whole: .* at 0:0\d\.\d\d\d") as error:
            list(blocks)
    assert len(str(error.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a"])
def test_a_pipe_that_is_closed_early(tmp_path: Path, kind: str) -> None:
    content = MADE[kind](tmp_path / "whole", SOUND).read_bytes()
    os.mkfifo(tmp_path / "pipe")
    for share in (0.0, 0.1, 0.5, 0.8):
        sender = Thread(target=(tmp_path / "pipe").write_bytes, args=(content[: int(share * len(content))],))
        sender.start()
        TRIALS["a pipe closed early"] += 1
        with pytest.raises(InputError, match=r"/pipe: .*(cut short|is empty)"):
            read(tmp_path / "pipe")
        sender.join()
