"""Several files that are sent to a store together: for URLs what FileSet is for folders.

Until then they are in a temporary folder of this machine, $TMPDIR, for codecs and tags go back and forth in a file. The
folder is locked while its process lives, so whoever finds one without a lock can remove it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from separate.audio.fileset import FileSet, check_names, output_error
from separate.audio.remote import upload
from separate.audio.url import Location, Url

__all__ = ["Uploads", "file_set", "remove_leftovers"]

_PREFIX = "separate-stems-"


class Uploads:
    """Files that are written in a temporary folder, and then sent to their URLs all or none.

    Args:
        paths: where the files shall be.
        force: replace what is there.

    Raises:
        OutputError: there is no room for them here.
        UsageError: two files would be one.
    """

    elsewhere = "set TMPDIR to a folder with more room"

    def __init__(self, paths: Mapping[str, Url], *, force: bool = False) -> None:
        check_names(paths)
        self._paths = dict(paths)
        self._force = force
        try:
            self._folder, self._lock = _locked_folder()
        except OSError as error:
            raise output_error(next(iter(paths.values())), error) from error
        self.temporary = {name: self._folder / f"{number}.part" for number, name in enumerate(paths)}

    def commit(self) -> None:
        """Give every file its URL. If one cannot have it, none has, and OutputError or OutputExists is raised."""
        try:
            upload({url: self.temporary[name] for name, url in self._paths.items()}, force=self._force)
        finally:
            self.remove()

    def remove(self) -> None:
        """Remove the temporary files."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def file_set(paths: Mapping[str, Location], *, force: bool = False) -> FileSet | Uploads:
    """Choose how files come to where they shall be, by the first of them."""
    urls = {name: path for name, path in paths.items() if isinstance(path, Url)}
    if urls:
        return Uploads(urls, force=force)
    return FileSet({name: path for name, path in paths.items() if isinstance(path, Path)}, force=force)


def remove_leftovers() -> None:
    """Remove what processes that were killed had not sent."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _locked_folder() -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = None
        with contextlib.suppress(OSError):  # a file system without locks
            lock = _lock(folder)
        if folder.exists():  # somebody may have taken it for a leftover before it was locked
            return folder, lock


def _lock(folder: Path) -> int | None:
    """Lock a folder; None if somebody has it, or the system has no such locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
