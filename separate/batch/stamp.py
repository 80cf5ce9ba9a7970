"""Which version of a file is meant: its size, its time and a hash of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Stamp", "matches", "stamp", "sync_folder"]


@dataclass(frozen=True)
class Stamp:
    """A version of a file."""

    size: int
    mtime_ns: int
    sha256: str


def stamp(path: str | os.PathLike[str], *, sync: bool = False) -> Stamp:
    """Read a file's version. With `sync` its bytes are on the disk, not only on their way, when this returns."""
    with open(path, "r+b" if sync else "rb", buffering=0) as file:
        if sync:
            os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        status = os.fstat(file.fileno())
    return Stamp(status.st_size, status.st_mtime_ns, digest)


def matches(path: str | os.PathLike[str], known: Stamp) -> bool:
    """Tell whether a file is still the version that is known; its bytes are read only if its time is another."""
    try:
        status = os.stat(path)
        if status.st_size != known.size:
            return False
        return status.st_mtime_ns == known.mtime_ns or stamp(path).sha256 == known.sha256
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system knows such a thing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
