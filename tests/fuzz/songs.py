"""Songs in every format that is read, and the tags in them."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from mutagen.flac import FLAC

from separate.audio.reader import AudioReader
from separate.audio.tag_writer import copy_tags
from tests.audio._in_songs import encode, music, write
from tests.fuzz.target import Seed, Seeds

SONGS: tuple[tuple[str, str, int, int], ...] = (
    *((".wav", kind, 44100, 2) for kind in ("WAV/PCM_16", "WAV/FLOAT", "WAVEX/PCM_24", "RF64/PCM_16", "WAV/IMA_ADPCM")),
    (".w64", "W64/PCM_16", 22050, 1),
    (".au", "AU/PCM_24", 22050, 1),
    (".caf", "CAF/ALAC_16", 22050, 1),
    *((".aiff", kind, 44100, 2) for kind in ("AIFF/PCM_16", "AIFF/FLOAT")),
    *((".flac", "FLAC/PCM_16", rate, channels) for rate, channels in ((44100, 2), (96000, 6))),
    (".ogg", "OGG/VORBIS", 44100, 2),
    (".opus", "OGG/OPUS", 48000, 2),
    *((suffix, "aac", 44100, 2) for suffix in (".m4a", ".aac", ".mp4", ".ts", ".mkv")),
    *((suffix, "libmp3lame", 44100, 2) for suffix in (".mp3", ".avi")),
    (".m4a", "alac", 44100, 2),
    (".webm", "libopus", 48000, 2),
    (".wma", "wmav2", 44100, 2),
    (".wv", "wavpack", 44100, 2),
    (".tta", "tta", 44100, 2),
    (".mp2", "mp2", 48000, 1),
    (".ac3", "ac3", 48000, 6),
    (".mov", "pcm_s24le", 44100, 2),
)
FRAMES = 3000


def songs() -> Seeds:
    """Write a few thousand samples in every format, with tags where there is room for some."""
    made = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tagged = write(folder / "tags.flac", music(100))
        flac: Any = FLAC
        tags = flac(tagged)
        tags.update(title="a title", artist=["one", "two"], tracknumber="3/12", date="2001")
        tags.save()
        for suffix, kind, rate, channels in SONGS:
            path = folder / f"song{suffix}"
            container, _, subtype = kind.partition("/")
            audio = music(FRAMES, channels, rate)
            write(path, audio, rate, subtype, container) if subtype else encode(path, audio, kind, rate)
            copy_tags(tagged, path, {".ogg": "ogg"}.get(suffix, suffix[1:]))
            made[f"{kind.replace('/', '-').lower()}-{rate}{suffix}"] = Seed(path.read_bytes())
        made["joined.ogg"] = Seed(2 * made["ogg-vorbis-44100.ogg"].body)
    return made


def read_song(path: Path) -> None:
    """Read a song as a run does: what it is, all of it, a part of it."""
    with AudioReader(path) as song:
        for _ in song.blocks():
            pass
        for _ in song.blocks(700, 2100, 333):
            pass


def read_tags(path: Path) -> None:
    """Copy what a song says of itself to another one."""
    target = path.with_name("target.flac")
    target.write_bytes(_plain())
    copy_tags(path, target, "flac", stem="vocals", in_title=True)


@cache
def _plain() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder, "song.flac"), music(500)).read_bytes()
