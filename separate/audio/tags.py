"""What a song says about itself (title, artist, cover art, ...): which of it is copied, and what formats call it.

Only what is listed in FIELDS is copied. What describes the signal of the input alone is not: ReplayGain and R128
loudness, encoder, gapless playback, length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["FIELDS", "FREE", "FRONT", "TOTALS", "Cover", "Tags", "first_line", "mime_of"]

FREE = "----:com.apple.iTunes:"


class Field(NamedTuple):
    """What one tag is called in each family of formats, "" where it has no name."""

    name: str  # Vorbis comments and ours: FLAC, Ogg
    id3: str  # MP3, WAV, AIFF
    mp4: str  # M4A
    asf: str  # WMA
    ffmpeg: str = ""  # anything else that ffmpeg's libraries read: WebM, RIFF's own tags


FIELDS = (
    Field("TITLE", "TIT2", "©nam", "Title", "title"),
    Field("SUBTITLE", "TIT3", FREE + "SUBTITLE", "WM/SubTitle", "subtitle"),
    Field("ARTIST", "TPE1", "©ART", "Author", "artist"),
    Field("ALBUM", "TALB", "©alb", "WM/AlbumTitle", "album"),
    Field("ALBUMARTIST", "TPE2", "aART", "WM/AlbumArtist", "album_artist"),
    Field("TRACKNUMBER", "TRCK", "trkn", "WM/TrackNumber", "track"),
    Field("DISCNUMBER", "TPOS", "disk", "WM/PartOfSet", "disc"),
    Field("DATE", "TDRC", "©day", "WM/Year", "date"),
    Field("ORIGINALDATE", "TDOR", FREE + "ORIGINALDATE", "WM/OriginalReleaseYear"),
    Field("GENRE", "TCON", "©gen", "WM/Genre", "genre"),
    Field("COMPOSER", "TCOM", "©wrt", "WM/Composer", "composer"),
    Field("LYRICIST", "TEXT", FREE + "LYRICIST", "WM/Writer", "lyricist"),
    Field("CONDUCTOR", "TPE3", FREE + "CONDUCTOR", "WM/Conductor", "conductor"),
    Field("REMIXER", "TPE4", FREE + "REMIXER", "WM/ModifiedBy"),
    Field("GROUPING", "TIT1", "©grp", "WM/ContentGroupDescription", "grouping"),
    Field("COMMENT", "COMM", "©cmt", "Description", "comment"),
    Field("LYRICS", "USLT", "©lyr", "WM/Lyrics", "lyrics"),
    Field("COPYRIGHT", "TCOP", "cprt", "Copyright", "copyright"),
    Field("LABEL", "TPUB", FREE + "LABEL", "WM/Publisher", "publisher"),
    Field("BPM", "TBPM", "tmpo", "WM/BeatsPerMinute", "tbpm"),
    Field("INITIALKEY", "TKEY", FREE + "INITIALKEY", "WM/InitialKey"),
    Field("MOOD", "TMOO", FREE + "MOOD", "WM/Mood"),
    Field("LANGUAGE", "TLAN", FREE + "LANGUAGE", "WM/Language", "language"),
    Field("ISRC", "TSRC", FREE + "ISRC", "WM/ISRC"),
    Field("COMPILATION", "TCMP", "cpil", "WM/IsCompilation", "compilation"),
    Field("TITLESORT", "TSOT", "sonm", "WM/TitleSortOrder"),
    Field("ARTISTSORT", "TSOP", "soar", "WM/ArtistSortOrder"),
    Field("ALBUMSORT", "TSOA", "soal", "WM/AlbumSortOrder"),
    Field("ALBUMARTISTSORT", "TSO2", "soaa", "WM/AlbumArtistSortOrder"),
)
TOTALS = {"TRACKNUMBER": ("TRACKTOTAL", "TOTALTRACKS"), "DISCNUMBER": ("DISCTOTAL", "TOTALDISCS")}
FRONT = 3  # the type of picture that is a front cover


@dataclass
class Cover:
    """One picture."""

    data: bytes
    mime: str
    kind: int = FRONT
    description: str = ""


@dataclass
class Tags:
    """What a song says about itself: Vorbis names to values; numbers as "3/12"."""

    values: dict[str, list[str]] = field(default_factory=dict)
    covers: list[Cover] = field(default_factory=list)
    name: str = ""  # of the song's file, without its suffix
    trouble: str = ""  # one line about what could not be read


def mime_of(data: bytes) -> str:
    """Tell by its first bytes what a picture is; "" if that is not known."""
    kinds = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"RIFF": "image/webp"}
    return next((mime for magic, mime in kinds.items() if data.startswith(magic)), "")


def first_line(error: Exception) -> str:
    """Say what went wrong, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0]
