# mypy: allow-untyped-calls
# (mutagen is a package without types)
"""Copy what a song says about itself (title, artist, cover art, ...) into its stems.

Only what is listed in FIELDS is copied. What describes the signal of the input alone is not: ReplayGain and R128
loudness, encoder, gapless playback, length.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import mutagen
from mutagen import id3
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.flac import FLAC, Picture
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover, MP4Tags
from mutagen.ogg import OggFileType
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from separate.audio.decoders import DEMUXERS
from separate.audio.remote import open_song
from separate.audio.url import is_url, path_in

__all__ = ["FIELDS", "Tags", "copy_tags", "read_tags", "write_tags"]


_FREE = "----:com.apple.iTunes:"


class Field(NamedTuple):
    """What one tag is called in each family of formats, "" where it has no name."""

    name: str  # Vorbis comments and ours: FLAC, Ogg
    id3: str  # MP3, WAV, AIFF
    mp4: str  # M4A
    ffmpeg: str = ""  # anything else that ffmpeg's libraries read: WMA, WebM, RIFF's own tags


FIELDS = (
    Field("TITLE", "TIT2", "©nam", "title"),
    Field("SUBTITLE", "TIT3", _FREE + "SUBTITLE", "subtitle"),
    Field("ARTIST", "TPE1", "©ART", "artist"),
    Field("ALBUM", "TALB", "©alb", "album"),
    Field("ALBUMARTIST", "TPE2", "aART", "album_artist"),
    Field("TRACKNUMBER", "TRCK", "trkn", "track"),
    Field("DISCNUMBER", "TPOS", "disk", "disc"),
    Field("DATE", "TDRC", "©day", "date"),
    Field("ORIGINALDATE", "TDOR", _FREE + "ORIGINALDATE"),
    Field("GENRE", "TCON", "©gen", "genre"),
    Field("COMPOSER", "TCOM", "©wrt", "composer"),
    Field("LYRICIST", "TEXT", _FREE + "LYRICIST", "lyricist"),
    Field("CONDUCTOR", "TPE3", _FREE + "CONDUCTOR", "conductor"),
    Field("REMIXER", "TPE4", _FREE + "REMIXER"),
    Field("GROUPING", "TIT1", "©grp", "grouping"),
    Field("COMMENT", "COMM", "©cmt", "comment"),
    Field("LYRICS", "USLT", "©lyr", "lyrics"),
    Field("COPYRIGHT", "TCOP", "cprt", "copyright"),
    Field("LABEL", "TPUB", _FREE + "LABEL", "publisher"),
    Field("BPM", "TBPM", "tmpo", "tbpm"),
    Field("INITIALKEY", "TKEY", _FREE + "INITIALKEY"),
    Field("MOOD", "TMOO", _FREE + "MOOD"),
    Field("LANGUAGE", "TLAN", _FREE + "LANGUAGE", "language"),
    Field("ISRC", "TSRC", _FREE + "ISRC"),
    Field("COMPILATION", "TCMP", "cpil", "compilation"),
    Field("TITLESORT", "TSOT", "sonm"),
    Field("ARTISTSORT", "TSOP", "soar"),
    Field("ALBUMSORT", "TSOA", "soal"),
    Field("ALBUMARTISTSORT", "TSO2", "soaa"),
)
_TOTALS = {"TRACKNUMBER": ("TRACKTOTAL", "TOTALTRACKS"), "DISCNUMBER": ("DISCTOTAL", "TOTALDISCS")}
# Bytes that one picture can have: FLAC's blocks end there; for Ogg mutagen's time grows with the square, 3 s for 8 MB.
_LARGEST_COVER = {"flac": 2**24 - 1, "ogg": 2**23, "opus": 2**23}
_FRONT = 3  # the type of picture that is a front cover


@dataclass
class Cover:
    """One picture."""

    data: bytes
    mime: str
    kind: int = _FRONT
    description: str = ""


@dataclass
class Tags:
    """What a song says about itself: Vorbis names to values; numbers as "3/12"."""

    values: dict[str, list[str]] = field(default_factory=dict)
    covers: list[Cover] = field(default_factory=list)
    name: str = ""  # of the song's file, without its suffix
    trouble: str = ""  # one line about what could not be read


def copy_tags(
    source: str | Path, target: Path, format: str, *, stem: str | None = None, in_title: bool = False
) -> str | None:
    """Copy tags and cover art from a song to one of its stems: `read_tags`, then `write_tags`."""
    return write_tags(read_tags(source), target, format, stem=stem, in_title=in_title)


def read_tags(source: str | Path) -> Tags:
    """Read what a song in any format says about itself, a file or at a URL."""
    name = path_in(str(source)).stem
    try:
        tags = _read(source)
    except Exception as error:  # a parser given arbitrary bytes: mutagen's own errors and all that Python has
        return Tags(name=name, trouble=f"tags could not be read: {_first_line(error)}")
    return replace(tags, name=name)


def write_tags(tags: Tags, target: Path, format: str, *, stem: str | None = None, in_title: bool = False) -> str | None:
    """Write a song's tags and cover art into one of its stems, whose name need not say its format.

    Args:
        tags: the song's.
        target: an audio file, complete and closed.
        format: the target's format, by its name in `formats.CONTAINERS`.
        stem: added as the subtitle, so that players can tell the stems of a song apart.
        in_title: write the stem into the title as well, for players that show nothing else: "Song (karaoke)".

    Returns:
        One line about what could not be copied, or None: a song never fails for its tags.

    Raises:
        OSError: the target could not be written and is perhaps damaged.
    """
    if tags.trouble:
        return tags.trouble
    values = dict(tags.values)
    if stem is not None:
        values["SUBTITLE"] = [*values.get("SUBTITLE", []), stem]
        if in_title:
            values["TITLE"] = [f"{title} ({stem})" for title in values.get("TITLE", [tags.name])]
    try:
        return _write(replace(tags, values=values), target, format)
    except Exception as error:
        system = _system_error(error)
        if system is not None:
            raise system from error
        return f"tags could not be written: {_first_line(error)}"


def _system_error(error: BaseException) -> OSError | None:
    """Find the OSError that mutagen wrapped."""
    for candidate in (error, error.__cause__, error.__context__, *error.args):
        if isinstance(candidate, OSError) and candidate.errno is not None:
            return candidate
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(source: str | Path) -> Tags:
    if is_url(str(source)):
        with open_song(str(source)) as song:
            return _read_any(song)
    return _read_any(source)


def _read_any(source: str | Path | BinaryIO) -> Tags:
    try:
        file = mutagen.File(source)
    except mutagen.MutagenError:
        if (tags := _read_ffmpeg(source)).values:
            return tags
        raise
    if file is None or not file.tags:
        tags = _read_ffmpeg(source)
        tags.covers = _vorbis_covers(file) if file is not None else []
        return tags
    if isinstance(file.tags, id3.ID3):
        return _read_id3(file.tags)
    if isinstance(file.tags, MP4Tags):
        return _read_mp4(file.tags)
    if isinstance(file, FLAC | OggFileType):
        return Tags(_read_vorbis(file.tags), _vorbis_covers(file))
    tags = _read_ffmpeg(source)
    if isinstance(file.tags, APEv2):
        tags.covers = _ape_covers(file.tags)
    elif isinstance(file, ASF):
        tags.covers = _wma_covers(file.tags)
    return tags


def _read_id3(tags: Any) -> Tags:
    values: dict[str, list[str]] = {}
    for row in FIELDS:
        for frame in tags.getall(row.id3):
            if row.id3 == "COMM" and frame.desc.startswith("iTun"):  # loudness and gapless playback, not a comment
                continue
            texts = frame.genres if row.id3 == "TCON" else [frame.text] if row.id3 == "USLT" else frame.text
            values.setdefault(row.name, []).extend(map(str, texts))
    covers = [Cover(f.data, f.mime, int(f.type), f.desc) for f in tags.getall("APIC") if f.mime != "-->"]
    return Tags(values, covers)


def _read_vorbis(tags: Any) -> dict[str, list[str]]:
    values = {row.name: list(tags[row.name]) for row in FIELDS if row.name in tags}
    if "COMMENT" not in values and "DESCRIPTION" in tags:
        values["COMMENT"] = list(tags["DESCRIPTION"])
    for name, totals in _TOTALS.items():
        total = next((tags[key][0] for key in totals if key in tags), "")
        if name in values and total and "/" not in values[name][0]:
            values[name] = [f"{values[name][0]}/{total}"]
    return values


def _vorbis_covers(file: Any) -> list[Cover]:
    pictures = list(getattr(file, "pictures", []))
    for text in (file.tags or {}).get("metadata_block_picture", []):
        pictures.append(Picture(base64.b64decode(text)))
    return [Cover(p.data, p.mime, p.type, p.desc) for p in pictures if p.mime != "-->"]


def _ape_covers(tags: Any) -> list[Cover]:
    """Read the pictures of WavPack and Monkey's Audio: each the name of a file, a zero, and its bytes."""
    kinds = {"Cover Art (Front)": _FRONT, "Cover Art (Back)": _FRONT + 1}
    found = {kind: tags[key].value for key, kind in kinds.items() if key in tags}
    pictures = {kind: value.partition(b"\0")[2] for kind, value in found.items() if isinstance(value, bytes)}
    return [Cover(data, _mime(data), kind) for kind, data in pictures.items()]


def _wma_covers(tags: Any) -> list[Cover]:
    """Read the pictures of WMA: each its type, its size, two texts that end with zeros, and its bytes."""
    covers = []
    for picture in tags.get("WM/Picture", []):
        with contextlib.suppress(struct.error, ValueError, TypeError):  # an odd picture costs no other tag
            kind, size = struct.unpack_from("<BI", picture.value)
            at = len(picture.value) - size
            mime, description = picture.value[5:at].decode("utf-16-le").split("\0")[:2]
            covers.append(Cover(picture.value[at:], mime, kind, description))
    return covers


def _read_mp4(tags: Any) -> Tags:
    values: dict[str, list[str]] = {}
    for row in FIELDS:
        if row.mp4 in ("trkn", "disk"):
            texts = [f"{number}/{total}" if total else str(number) for number, total in tags.get(row.mp4, []) if number]
        elif row.mp4 == "cpil":
            texts = ["1"] if tags.get("cpil") else []
        elif row.mp4.startswith(_FREE):
            keys = [key for key in tags if key.lower() == row.mp4.lower()]
            texts = [bytes(value).decode("utf-8", "replace") for key in keys for value in tags[key]]
        else:
            texts = [str(value) for value in tags.get(row.mp4, [])]
        if texts:
            values[row.name] = texts
    return Tags(values, [Cover(bytes(data), _mime(bytes(data))) for data in tags.get("covr", [])])


def _read_ffmpeg(source: str | Path | BinaryIO) -> Tags:
    """Read the tags of formats that mutagen does not know, as ffmpeg's libraries name them."""
    if not isinstance(source, str | Path):
        source.seek(0)
    try:
        # FFmpeg would take what stands before a colon in a relative path for a protocol.
        opened: Any = os.path.abspath(source) if isinstance(source, str | Path) else source
        with av.open(opened, options={"format_whitelist": DEMUXERS}, metadata_errors="surrogateescape") as file:
            metadata = {key.lower(): _text(value) for key, value in file.metadata.items()}
    except (av.FFmpegError, OSError):
        return Tags()
    return Tags({row.name: [metadata[row.ffmpeg]] for row in FIELDS if metadata.get(row.ffmpeg)})


def _text(value: str) -> str:
    """Take for the letters of Windows what is no UTF-8: RIFF's own tags do not say what they are written in."""
    data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _mime(data: bytes) -> str:
    kinds = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"RIFF": "image/webp"}
    return next((mime for magic, mime in kinds.items() if data.startswith(magic)), "")


# -- writing ----------------------------------------------------------------------------------------------------------


def _write(tags: Tags, target: Path, format: str) -> str | None:
    values = {name: clean for name, texts in tags.values.items() if (clean := list(_clean(texts)))}
    if not values and not tags.covers:
        return None
    if format in ("mp3", "wav"):
        _write_id3(values, tags.covers, target, format)
        return None
    if format in ("m4a", "stem.mp4"):
        return _write_mp4(values, tags.covers, target)
    return _write_vorbis(values, tags.covers, target, format)


def _clean(texts: Iterable[str]) -> Iterable[str]:
    """Drop what no family of formats can hold: halves of characters and zeros, and values with nothing in them."""
    for text in texts:
        kept = text.replace("\0", "").encode("utf-8", "replace").decode()
        if kept.strip():
            yield kept


def _write_id3(values: dict[str, list[str]], covers: list[Cover], target: Path, format: str) -> None:
    file: Any = (MP3 if format == "mp3" else WAVE)(target)
    if file.tags is None:
        file.add_tags()
    for row in FIELDS:
        if row.name not in values:
            continue
        frame = getattr(id3, row.id3)
        if row.id3 == "COMM":
            file.tags.add(frame(encoding=3, lang="XXX", desc="", text=values[row.name]))
        elif row.id3 == "USLT":
            file.tags.add(frame(encoding=3, lang="XXX", desc="", text="\n\n".join(values[row.name])))
        else:
            file.tags.add(frame(encoding=3, text=values[row.name]))
    for number, cover in enumerate(covers):
        # Frames of one description replace each other.
        description = cover.description if number == 0 else f"{cover.description} {number}".strip()
        mime = cover.mime or _mime(cover.data)
        file.tags.add(id3.APIC(encoding=3, mime=mime, type=cover.kind, desc=description, data=cover.data))
    file.save()


def _write_vorbis(values: dict[str, list[str]], covers: list[Cover], target: Path, format: str) -> str | None:
    file: Any = {"flac": FLAC, "ogg": OggVorbis, "opus": OggOpus}[format](target)
    if file.tags is None:
        file.add_tags()
    for name, texts in values.items():
        number, _, total = texts[0].partition("/")
        if name in _TOTALS and total:
            file.tags[name], file.tags[_TOTALS[name][0]] = number, total
        else:
            file.tags[name] = texts
    encoded, warning = [], None
    for cover in covers:
        picture = Picture()
        picture.data, picture.type, picture.desc = cover.data, cover.kind, cover.description
        picture.mime = cover.mime or _mime(cover.data)
        block = picture.write()
        if len(block) > _LARGEST_COVER[format]:
            warning = f"cover art left out: its {len(cover.data) / 1e6:.0f} MB are too much for {format}"
        elif format == "flac":
            file.add_picture(picture)
        else:
            encoded.append(base64.b64encode(block).decode("ascii"))
    if encoded:
        file.tags["METADATA_BLOCK_PICTURE"] = encoded
    file.save()
    return warning


def _write_mp4(values: dict[str, list[str]], covers: list[Cover], target: Path) -> str | None:
    file: Any = MP4(target)
    if file.tags is None:
        file.add_tags()
    for row in FIELDS:
        if row.name not in values:
            continue
        texts = values[row.name]
        if row.mp4 in ("trkn", "disk"):
            if found := re.match(r"\s*(\d{1,5})(?:\s*/\s*(\d{1,5}))?", texts[0]):
                file.tags[row.mp4] = [(min(int(found[1]), 65535), min(int(found[2] or 0), 65535))]
        elif row.mp4 == "tmpo":
            if found := re.match(r"\s*(\d{1,4})(?:[.,]\d+)?\s*$", texts[0]):
                file.tags["tmpo"] = [round(float(texts[0].replace(",", ".")))]
        elif row.mp4 == "cpil":
            file.tags["cpil"] = texts[0].strip().lower() in ("1", "true", "yes")
        elif row.mp4.startswith(_FREE):
            file.tags[row.mp4] = [text.encode() for text in texts]
        else:
            file.tags[row.mp4] = texts
    kinds = {"image/jpeg": MP4Cover.FORMAT_JPEG, "image/png": MP4Cover.FORMAT_PNG}
    fitting = [MP4Cover(c.data, kinds[_mime(c.data)]) for c in covers if _mime(c.data) in kinds]
    if fitting:
        file.tags["covr"] = fitting
    file.save()
    return "cover art left out: m4a takes JPEG and PNG only" if len(fitting) < len(covers) else None
