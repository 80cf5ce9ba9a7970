"""Several files that appear together, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from separate.errors import OutputError, OutputExists, UsageError

__all__ = ["FileSet", "output_error", "shown"]

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


def shown(path: Path | str) -> str:
    """Return a path as the user gave it, on one line whatever its name."""
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], str(path))


def output_error(path: Path, error: OSError) -> OutputError:
    """Translate what the system says about a file that cannot be written."""
    advice = _ADVICE.get(error.errno or 0, "choose another folder with --out")
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

    def __init__(self, paths: Mapping[str, Path], *, force: bool = False) -> None:
        self.temporary = {name: path.with_name(f".{secrets.token_hex(6)}.part") for name, path in paths.items()}
        self._paths = dict(paths)
        self._force = force
        self._made: list[Path] = []
        first: dict[Path, str] = {}
        for name, path in self._paths.items():
            if (other := first.setdefault(path, name)) != name:
                raise UsageError(f"{shown(path)}: would be both {other} and {name}; --name needs {{stem}}")
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
            raise OutputExists(f"{shown(path)}: is there already; --force overwrites it, --skip-existing leaves it")

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
        """Give every file its name. If one cannot have it, none has, and OutputError or OutputExists is raised."""
        placed: list[Path] = []
        replaced: list[Path] = []
        try:
            for name, path in self._paths.items():
                there = os.path.lexists(path)
                self._place(self.temporary[name], path)
                (replaced if there else placed).append(path)
        except BaseException as error:
            for path in placed:
                with contextlib.suppress(OSError):
                    path.unlink()
            self.remove()
            if replaced and isinstance(error, OutputError):
                names = ", ".join(map(shown, replaced))
                raise OutputError(f"{error} (replaced before that, as --force asks: {names})") from error
            raise

    def _place(self, temporary: Path, path: Path) -> None:
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
            else:
                temporary.unlink()
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
