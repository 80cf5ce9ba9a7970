# mypy: allow-untyped-calls
# (mutagen is a package without types)
"""Read what a song in any format says about itself."""

from __future__ import annotations

import base64
import contextlib
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import av
import mutagen
from mutagen import id3
from mutagen.apev2 import APETextValue, APEv2
from mutagen.asf import ASF
from mutagen.flac import FLAC, Picture
from mutagen.mp4 import MP4Tags
from mutagen.ogg import OggFileType
from mutagen.wave import WAVE

from separate.audio.decoders import DEMUXERS
from separate.audio.remote import open_song
from separate.audio.tags import FIELDS, FREE, FRONT, TOTALS, Cover, Tags, first_line, mime_of
from separate.audio.url import is_url, path_in

__all__ = ["read_tags"]

# What Vorbis comments are called by programs that call them otherwise, where they have not their usual names.
OTHERWISE = {"DATE": "YEAR", "ALBUMARTIST": "ALBUM ARTIST", "COMMENT": "DESCRIPTION", "LYRICS": "UNSYNCEDLYRICS"}
# What tags are called in WavPack and Monkey's Audio, where it is not their Vorbis name.
APE = {
    "ALBUMARTIST": "Album Artist",
    "TRACKNUMBER": "Track",
    "DISCNUMBER": "Disc",
    "DATE": "Year",
    "REMIXER": "MixArtist",
}


def read_tags(source: str | Path) -> Tags:
    """Read what a song in any format says about itself, a file or at a URL."""
    name = path_in(str(source)).stem
    try:
        tags = _read(source)
    except Exception as error:  # a parser given arbitrary bytes: mutagen's own errors and all that Python has
        return Tags(name=name, trouble=f"tags could not be read: {first_line(error)}")
    return replace(tags, name=name)


def _read(source: str | Path) -> Tags:
    if is_url(str(source)):
        with open_song(str(source)) as song:
            return _read_any(song)
    return _read_any(source)


def _read_any(source: str | Path | BinaryIO) -> Tags:
    try:
        file = mutagen.File(source)
    except mutagen.MutagenError:
        if (tags := _read_ffmpeg(source)).values or _magic(source) in (b"RF64", b"BW64"):  # which mutagen does not know
            return tags
        raise
    if file is None or not file.tags:
        tags = _read_ffmpeg(source)
        tags.covers = _vorbis_covers(file) if file is not None else []
        return tags
    if isinstance(file.tags, id3.ID3):
        tags = _read_id3(file.tags)
        if isinstance(file, WAVE):  # may have RIFF's own tags, and ID3 for what those have no room for
            tags.values = _read_ffmpeg(source).values | tags.values
        return tags
    if isinstance(file.tags, MP4Tags):
        return _read_mp4(file.tags)
    if isinstance(file, FLAC | OggFileType):
        return Tags(_read_vorbis(file.tags), _vorbis_covers(file))
    tags = _read_ffmpeg(source)
    if isinstance(file.tags, APEv2):
        tags.values |= _read_ape(file.tags)
        tags.covers = _ape_covers(file.tags)
    elif isinstance(file, ASF):
        found = {row.name: map(_plain, file.tags[row.asf]) for row in FIELDS if row.asf in file.tags}
        tags.values |= {name: list(dict.fromkeys(texts)) for name, texts in found.items()}  # FFmpeg writes some twice
        tags.covers = _wma_covers(file.tags)
    return tags


def _magic(source: str | Path | BinaryIO) -> bytes:
    if isinstance(source, str | Path):
        with open(source, "rb") as file:
            return file.read(4)
    source.seek(0)
    return source.read(4)


def _plain(attribute: Any) -> str:
    return str(int(attribute.value)) if isinstance(attribute.value, bool) else str(attribute)


def _read_id3(tags: Any) -> Tags:
    values: dict[str, list[str]] = {}
    for row in FIELDS:
        frames = tags.getall(row.id3)
        if row.id3 == "COMM":  # loudness and gapless playback are none, and ID3v1's is the same again, cut short
            frames = [frame for frame in frames if not frame.desc.startswith("iTun")]
            frames = [frame for frame in frames if frame.desc != "ID3v1 Comment"] or frames
        for frame in frames:
            texts = frame.genres if row.id3 == "TCON" else [frame.text] if row.id3 == "USLT" else frame.text
            values.setdefault(row.name, []).extend(map(str, texts))
    covers = [Cover(f.data, f.mime, int(f.type), f.desc) for f in tags.getall("APIC") if f.mime != "-->"]
    return Tags(values, covers)


def _read_ape(tags: Any) -> dict[str, list[str]]:
    values = {}
    for row in FIELDS:
        key = next((key for key in (APE.get(row.name, row.name), row.name) if key in tags), None)
        if key and isinstance(tags[key], APETextValue):
            values[row.name] = list(tags[key])
    return values


def _read_vorbis(tags: Any) -> dict[str, list[str]]:
    values = {row.name: list(tags[row.name]) for row in FIELDS if row.name in tags}
    values |= {name: list(tags[key]) for name, key in OTHERWISE.items() if name not in values and key in tags}
    for name, totals in TOTALS.items():
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
    kinds = {"Cover Art (Front)": FRONT, "Cover Art (Back)": FRONT + 1}
    found = {kind: tags[key].value for key, kind in kinds.items() if key in tags}
    pictures = {kind: value.partition(b"\0")[2] for kind, value in found.items() if isinstance(value, bytes)}
    return [Cover(data, mime_of(data), kind) for kind, data in pictures.items()]


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
        elif row.mp4.startswith(FREE):
            keys = [key for key in tags if key.lower() == row.mp4.lower()]
            texts = [bytes(value).decode("utf-8", "replace") for key in keys for value in tags[key]]
        else:
            texts = [str(value) for value in tags.get(row.mp4, [])]
        if texts:
            values[row.name] = texts
    return Tags(values, [Cover(bytes(data), mime_of(bytes(data))) for data in tags.get("covr", [])])


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
