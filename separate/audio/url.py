"""Names of songs and folders that may be URLs: what can be said of them without asking anybody.

A song is text, as the user named it. Where stems go is a `Location`: a Path, or a Url, which is like one as far as
names go. `file://` is a path like any other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote

__all__ = ["Location", "Url", "below", "is_url", "location", "name_below", "path_in", "plain", "redacted"]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+(://|::.*://)", re.DOTALL)  # two letters at least: C:\\ is a disk
_PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]*(?=@)")
_QUERY = re.compile(r"(https?://[^\s?]*\?)[^\s,;]*[^\s,;:]")  # signatures, tokens; in a bucket ? is a letter of a name
_FILE = re.compile(r"(?:file|local)://(?:localhost(?=/))?", re.IGNORECASE)


@dataclass(frozen=True)
class Url:
    """A folder or a file at a URL; it can do with names what a Path can."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> Url:
        return Url(f"{self.text}{'' if self.text.endswith('/') else '/'}{PurePosixPath(name)}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> Url:
        """The folder it is in."""
        return Url(self.text.rpartition("/")[0])


Location = Path | Url


def is_url(name: str) -> bool:
    """Tell whether a name is a URL, of other things than files of this machine."""
    return _URL.match(name) is not None and not _FILE.match(name)


def plain(name: str) -> str:
    """Turn a file:// URL into a path; everything else stays as it is."""
    return _FILE.sub("", name, count=1) if _FILE.match(name) else name


def location(name: str) -> Location:
    """Read where stems shall go."""
    if not is_url(name):
        return Path(plain(name))
    return Url(name if name.endswith("://") else name.rstrip("/"))


def name_below(place: Location, folder: Location) -> str:
    """Name a file from a folder on that it is in."""
    return PurePosixPath(str(place) if isinstance(place, Url) else place.as_posix()).relative_to(str(folder)).as_posix()


def path_in(song: str) -> PurePath:
    """Return the path in a song's name, which has its stem and suffix: of a URL what comes after the host or bucket."""
    if not is_url(song):
        return PurePath(song)
    first = song.partition("::")[0] if "://" in song.partition("::")[0] else song.partition("::")[2]
    path = first.partition("://")[2]
    if first.lower().startswith("http"):
        path = unquote(re.split("[?#]", path, maxsplit=1)[0])
    return PurePosixPath(path)


def below(folder: str, name: str) -> str:
    """Name a file in a folder at a URL; an archive's URL goes on after it, as in zip://folder/name::s3://bucket/x.zip."""
    top, colons, archive = folder.partition("::")
    return f"{top}{'' if top.endswith('/') else '/'}{name}{colons}{archive}"


def redacted(text: str) -> str:
    """Leave passwords and signatures out of URLs in a text."""
    return _QUERY.sub(r"\1...", _PASSWORD.sub("***", text)) if "://" in text else text
