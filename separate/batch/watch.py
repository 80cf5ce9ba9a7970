"""What arrives in a folder: songs, as soon as they are complete."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator

from separate.audio.url import Location
from separate.batch.inputs import Found, search
from separate.errors import InputError

__all__ = ["Arrivals"]

PATIENCE = 20  # rests after which a song is complete though it seems to be open: on shares of networks all may seem so

Version = tuple[int, int]  # size and time


class Arrivals:
    """Looks at a folder again and again for songs that nobody is writing any more.

    Args:
        folder: what is looked at, with all folders in it.
        out: the output folder, which may be in it.
        rest: seconds in which neither size nor time of a song has changed when it is complete.
    """

    def __init__(self, folder: str, out: Location, rest: float) -> None:
        self.folder = folder
        self.out = out
        self.rest = rest
        self.seen: dict[str, tuple[Version, float]] = {}  # song -> its version, and since when it is that
        self.taken: dict[str, Version] = {}  # song -> the version that was handed out
        self.unread: Collection[str] = ()  # folders that could not be read
        self.gone: set[str] = set()  # songs that were there when somebody looked before, and are no more

    def look(self) -> Iterator[Found]:
        """Yield the songs that are complete now, and were not when somebody looked before."""
        found = list(search(self.folder, self.out))
        unread = {folder: error for folder, error in found if isinstance(error, InputError)}
        yield from ((folder, error) for folder, error in unread.items() if folder not in self.unread)
        self.unread = unread.keys()
        there = [(song, track) for song, track in found if not isinstance(track, InputError)]
        self.gone = self.seen.keys() - {song for song, _ in there}
        for gone in self.gone:
            del self.seen[gone]
            self.taken.pop(gone, None)
        for song, track in there:
            version = version_of(song)
            if version is None or self.taken.get(song) == version:
                continue
            before, since = self.seen.get(song, (None, 0.0))
            if before != version:
                self.seen[song] = (version, time.monotonic())
                continue
            quiet = time.monotonic() - since
            if quiet >= PATIENCE * self.rest or (quiet >= self.rest and not being_written(song)):
                self.taken[song] = version
                yield song, track


def version_of(song: str) -> Version | None:
    """Look at a song; None if it has no bytes yet, or is gone."""
    try:
        status = os.stat(song)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None


def being_written(song: str) -> bool:
    """Tell whether somebody seems to keep a file open for writing, or locked, as far as the system says."""
    try:
        file = open(song, "rb")  # noqa: SIM115 (closed below)
    except PermissionError:
        return sys.platform == "win32"  # there, whoever copies keeps everybody else out
    except OSError:
        return False
    with file:
        if sys.platform != "linux":
            return False
        import fcntl

        try:
            # Who opens it for writing meanwhile has the system send a signal: SIGIO ends a process, this one does not.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)  # to be had while nobody has it open for writing
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
    return False
