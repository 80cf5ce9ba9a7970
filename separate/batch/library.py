"""A plan too long for memory: the songs of a library, and whose their files are, in a temporary file on disk."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from separate.audio.fileset import shown
from separate.batch.inputs import Found
from separate.batch.job import Job
from separate.batch.plan import Planner, real
from separate.errors import InputError, OutputError

__all__ = ["Library", "Shelf"]

LOOKERS = 16  # songs whose stems are looked for at once: stores take their time


class Library:
    """The songs of a batch, each once. Its planner keeps nothing in memory any more."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.disk = Disk()
        self.disk.execute("PRAGMA synchronous = OFF")
        self.disk.execute("PRAGMA journal_mode = OFF")
        self.disk.execute("CREATE TABLE songs (place BLOB UNIQUE, song BLOB, track BLOB, error BLOB)")
        planner.sources, planner.taken = Shelf(self.disk, "sources"), Shelf(self.disk, "taken")

    def __len__(self) -> int:
        return count(self.disk, "songs")

    def add(self, found: Iterable[Found]) -> None:
        """Take in songs; one that is named twice is done once."""
        for song, track in found:
            place = real(song)
            words = ("", str(track)) if isinstance(track, InputError) else (track, "")
            row = [os.fsencode(word) for word in (place, song, *words)]
            if self.disk.execute("INSERT OR IGNORE INTO songs VALUES (?, ?, ?, ?)", row).rowcount:
                self.planner.sources[place] = song

    def jobs(self, settle: Callable[[Job], Job]) -> Iterator[Job]:
        """Yield a job for every song as it is wanted, `settle`d by threads that are a few songs ahead."""
        ahead: deque[Future[Job]] = deque()
        with ThreadPoolExecutor(LOOKERS, "separate-settle") as pool:
            for row in self.disk.rows("SELECT song, track, error FROM songs ORDER BY rowid"):
                song, track, error = map(os.fsdecode, row)
                ahead.append(pool.submit(settle, self.planner.job(song, InputError(error) if error else track)))
                if len(ahead) > LOOKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


class Shelf(MutableMapping[str, str]):
    """A dict on disk."""

    def __init__(self, disk: Disk, name: str) -> None:
        self.disk = disk
        self.name = name
        disk.execute(f"CREATE TABLE {name} (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def __getitem__(self, key: str) -> str:
        row = self.disk.execute(f"SELECT value FROM {self.name} WHERE key = ?", [os.fsencode(key)]).fetchone()
        if row is None:
            raise KeyError(key)
        return os.fsdecode(row[0])

    def __setitem__(self, key: str, value: str) -> None:
        self.disk.execute(f"INSERT OR REPLACE INTO {self.name} VALUES (?, ?)", [os.fsencode(key), os.fsencode(value)])

    def __delitem__(self, key: str) -> None:
        if not self.disk.execute(f"DELETE FROM {self.name} WHERE key = ?", [os.fsencode(key)]).rowcount:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        for (key,) in self.disk.rows(f"SELECT key FROM {self.name}"):
            yield os.fsdecode(key)

    def __len__(self) -> int:
        return count(self.disk, self.name)


class Disk:
    """A file of SQLite without a name, gone when it is closed."""

    def __init__(self) -> None:
        self.file = sqlite3.connect("", isolation_level=None)

    def execute(self, command: str, values: Sequence[bytes] = ()) -> sqlite3.Cursor:
        """Do a command that gives one row or none."""
        with kept():
            return self.file.execute(command, values)

    def rows(self, command: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that a command gives. To read one, others may have to be written that were in memory."""
        with kept():
            yield from self.file.execute(command)


@contextmanager
def kept() -> Iterator[None]:
    """Translate what SQLite says about its file."""
    try:
        yield
    except sqlite3.Error as error:
        # It takes the first of these that it can write to.
        places = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp", "/usr/tmp", "/tmp")
        folder = next((each for each in places if each and os.access(each, os.W_OK | os.X_OK)), tempfile.gettempdir())
        raise OutputError(
            f"the list of songs cannot be kept in {shown(folder)}: {error}; make room there, or set TMPDIR "
            "(SQLITE_TMPDIR counts first)"
        ) from error


def count(disk: Disk, table: str) -> int:
    """Count the rows of a table."""
    return int(disk.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
