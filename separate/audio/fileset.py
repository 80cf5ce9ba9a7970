"""Several files that appear together, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from separate.audio.url import Location, Url, redacted
from separate.errors import OutputError, OutputExists, UsageError

__all__ = ["FileSet", "check_names", "exists_already", "lock", "one_file", "output_error", "shown"]

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # control, line ends, undecodable bytes
_ROOM = "make room, or choose another folder with --out"
_RIGHTS = "choose a folder that you may write to with --out"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "the folder's file system or your limits allow no longer file: choose another folder with --out",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.ENAMETOOLONG: "choose shorter names with --name",
    errno.ENOTDIR: "a part of this path is a file: choose another folder with --out",
    errno.EISDIR: "a folder has this name: choose another with --name or --out",
}
# What a file system answers that has no hard links.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EINVAL}


def shown(path: Location | str) -> str:
    """Return a path as the user gave it, on one line whatever its name; of a URL without passwords and signatures."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], redacted(str(path)))


def exists_already(path: Location) -> OutputExists:
    """Say that a file may not be overwritten."""
    return OutputExists(f"{shown(path)}: is there already; --force overwrites it, --skip-existing leaves it")


def check_names(paths: Mapping[str, Location]) -> None:
    """Raise UsageError if two files would be one."""
    first: dict[Location, str] = {}
    for name, path in paths.items():
        if (other := first.setdefault(path, name)) != name:
            raise UsageError(f"{shown(path)}: would be both {other} and {name}; --name needs {{stem}}")


def output_error(path: Location, error: OSError) -> OutputError:
    """Translate what the system says about a file that cannot be written."""
    advice = _ADVICE.get(error.errno or 0, "choose another folder with --out")
    if isinstance(path, Url):
        advice = f"until it is sent it is in {tempfile.gettempdir()}: make room there, or set TMPDIR"
    return OutputError(f"{shown(path)}: cannot be written: {error.strerror or error}; {advice}")


class FileSet:
    """Files that are written under temporary names in their final folders, and then renamed all or none.

    Args:
        paths: where the files shall be. Folders are made as needed.
        force: replace what is there.

    Raises:
        OutputExists: a file is there already.
        OutputError: a file cannot be there.
        UsageError: two files would be one.
    """

    elsewhere = "choose another --out"

    def __init__(self, paths: Mapping[str, Path], *, force: bool = False) -> None:
        self.temporary = {name: path.with_name(f".{secrets.token_hex(6)}.part") for name, path in paths.items()}
        self._paths = dict(paths)
        self._force = force
        self._made: list[Path] = []
        check_names(paths)
        for path in self._paths.values():
            self._check_free(path)
        try:
            for path in self._paths.values():
                self._make_folder(path.parent)
        except BaseException:
            self.remove()
            raise

    def _check_free(self, path: Path) -> None:
        try:
            os.lstat(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise output_error(path, error) from error
        if not self._force:
            raise exists_already(path)

    def _make_folder(self, folder: Path) -> None:
        try:
            missing = [each for each in (folder, *folder.parents) if not each.exists()]
            for each in reversed(missing):
                with contextlib.suppress(FileExistsError):  # somebody else made it just now
                    each.mkdir()
                    self._made.append(each)
        except OSError as error:
            raise output_error(folder, error) from error

    def commit(self) -> None:
        """Give every file its name. If one cannot have it, none has, and OutputError or OutputExists is raised.

        All bytes are on the disk before that: not even a power cut leaves half a file under its name.
        """
        placed: list[Path] = []
        replaced: list[Path] = []
        try:
            for name, path in self._paths.items():
                self._sync(self.temporary[name], path)
            for name, path in self._paths.items():
                there = os.path.lexists(path)
                self._place(self.temporary[name], path)
                (replaced if there else placed).append(path)
        except BaseException as error:
            for name, path in self._paths.items():
                if path in placed or one_file(self.temporary[name], path):
                    with contextlib.suppress(OSError):
                        path.unlink()
            if replaced and isinstance(error, OutputError):
                names = ", ".join(map(shown, replaced))
                raise OutputError(f"{error} (replaced before that, as --force asks: {names})") from error
            raise
        finally:
            self.remove()

    def _sync(self, temporary: Path, path: Path) -> None:
        try:
            with open(temporary, "r+b", buffering=0) as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(path, error) from error

    def _place(self, temporary: Path, path: Path) -> None:
        """Give a file its name. Where files can have two, it keeps the temporary one until `remove`."""
        try:
            if self._force:
                temporary.replace(path)
                return
            try:
                os.link(temporary, path)  # unlike a rename, this never replaces a file that somebody made meanwhile
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._check_free(path)
                temporary.rename(path)
        except FileExistsError:
            self._check_free(path)
            raise
        except OSError as error:
            raise output_error(path, error) from error

    def remove(self) -> None:
        """Remove the temporary files, and the folders made for them if nothing is in them."""
        for temporary in self.temporary.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                folder.rmdir()


def one_file(one: Path, other: Path) -> bool:
    """Tell whether two names are those of one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def lock(file: IO[bytes] | int) -> bool:
    """Lock an open file against other processes; False if one of them has it. Some file systems know no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            assert not isinstance(file, int)
            file.seek(2**30)  # far behind the text, which others may then still read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
