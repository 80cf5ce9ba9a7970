"""Which version of a file is meant: its size, its time and a hash of its bytes; at a URL, what its store says."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from separate.audio import remote
from separate.audio.url import Location, Url, is_url

__all__ = ["Stamp", "is_there", "matches", "peek", "stamp", "sync_folder"]


@dataclass(frozen=True)
class Stamp:
    """A version of a file. At a URL it has no time and no hash of ours, which would mean to read it all again."""

    size: int
    mtime_ns: int
    sha256: str
    tag: str = ""  # what its store calls the version: an ETag, most often


def peek(path: str | Location) -> Stamp | None:
    """Look at a file's version without reading its bytes; None if there is no plain file.

    Raises:
        InputError, OutputError: the store of a URL says nothing about it.
    """
    if is_url(str(path)):
        version = remote.look(path if isinstance(path, Url) else str(path))
        return None if version is None or version.folder else Stamp(version.size or 0, 0, "", version.tag)
    try:
        status = os.stat(str(path))
    except (OSError, ValueError):
        return None
    return Stamp(status.st_size, status.st_mtime_ns, "") if stat.S_ISREG(status.st_mode) else None


def stamp(path: str | Location) -> Stamp:
    """Read a file's version."""
    if is_url(str(path)):
        version = peek(path)
        if version is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return version
    with open(str(path), "rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns, digest)


def matches(path: str | Location, known: Stamp) -> bool:
    """Tell whether a file is still the version that is known; its bytes are read only if its time is another."""
    now = peek(path)
    if now is None or now.size != known.size:
        return False
    if is_url(str(path)):
        return now.tag == known.tag
    try:
        return now.mtime_ns == known.mtime_ns or stamp(path).sha256 == known.sha256
    except OSError:
        return False


def is_there(path: Location) -> bool:
    """Tell whether something has a name, if only a link to nothing."""
    return peek(path) is not None if isinstance(path, Url) else os.path.lexists(path)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system knows such a thing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
