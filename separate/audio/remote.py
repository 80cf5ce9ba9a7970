"""Songs and stems at URLs: s3://, gs://, hf://, https:// and all else that fsspec knows. Only this file knows fsspec.

A song is read in pieces, as decoders ask for them. Stems are sent when all of a song's are complete, and appear
together, as far as the store can do that.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from separate.audio.fileset import exists_already, shown
from separate.audio.url import Url, path_in
from separate.errors import DependencyError, InputError, OutputError, SeparateError

__all__ = ["Version", "look", "open_song", "remove", "upload", "walk"]

_FIRST, _MOST, _KEPT = 2**18, 2**22, 4  # bytes asked for at first and at most; pieces kept
_PART = 2**23  # bytes sent at once: stores take ten thousand parts
# What stores call a version, the most certain first.
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "generation", "LastModified", "last_modified")
_TIMES = ("Last-Modified", "updated", "mtime", "created")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}  # of ours
_REAL_FOLDERS = {"ftp", "hdfs", "sftp", "smb", "ssh", "webdav", "webhdfs"}  # elsewhere a folder is a part of a name

_CHANGED = "was changed while it was read; separate it again when it is complete"


class Version(NamedTuple):
    """What a store says of a file."""

    size: int | None
    tag: str  # another one means another content
    folder: bool


def look(where: str | Url) -> Version | None:
    """Ask a store for a file's or folder's version; None if nothing is there."""
    with _translated(where):
        store, path = _store(where)
        try:
            info = store.info(path)
        except FileNotFoundError as error:
            if error.__cause__ and "Connect" in type(error.__cause__).__name__:  # what is said of web servers
                raise
            return None
        tag = next((str(info[key]) for key in (*_TAGS, *_TIMES) if info.get(key) is not None), "")
        return Version(info.get("size"), tag, info.get("type") == "directory")


def walk(folder: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder at a URL, as a path from there on, with the names in it, as os.walk does from the top."""
    with _translated(folder):
        store, path = _store(folder)
        for at, folders, files in store.walk(path, on_error="raise"):
            folders.sort()
            yield at.removeprefix(path.rstrip("/")).strip("/"), folders, sorted(filter(None, files))


def open_song(song: str) -> BinaryIO:
    """Open a song for reading. What its store cannot hand out in pieces is copied to a temporary file."""
    with _translated(song):
        store, path = _store(song)
        file = store.open(path, "rb", cache_type="none")
        if getattr(file, "details", {}).get("type") == "directory":
            raise IsADirectoryError(song)
        if file.seekable() and getattr(file, "size", None) is not None:
            pieces = Pieces(file, file.size, song)
            if _has_pieces(pieces, song):
                return cast(BinaryIO, pieces)
        file.close()
        with store.open(path, "rb", **({"block_size": 0} if song.startswith("http") else {})) as stream:
            copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (the reader closes it)
            shutil.copyfileobj(stream, copy, _MOST)
        copy.name = path_in(song).name
        return cast(BinaryIO, copy)


def _has_pieces(pieces: Pieces, song: str) -> bool:
    """Try a web server, which may not be able to begin in the middle."""
    if not song.startswith("http") or not pieces.size:
        return True
    try:
        pieces.seek(-1, io.SEEK_END)
        pieces.read(1)
        pieces.seek(0)
    except InputError as error:
        if isinstance(error.__cause__, ValueError):
            return False
        raise
    return True


class Pieces(io.RawIOBase):
    """A song at a URL as a file: pieces are asked for as they are read, larger ones if one after the other is."""

    def __init__(self, file: Any, size: int, song: str) -> None:
        self.name = path_in(song).name
        self.size = size
        self._file, self._song = file, song
        self._at, self._step = 0, _FIRST
        self._pieces: list[tuple[int, memoryview]] = []  # (where it begins, its bytes), the one used last at the end

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; nothing is asked for before it is read."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if at < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = at
        return at

    def tell(self) -> int:
        """Return where it is."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or as much of it as the song has bytes left."""
        wanted, done = memoryview(buffer).cast("B"), 0
        while done < len(wanted) and self._at < self.size:
            start, data = self._piece()
            part = data[self._at - start :][: len(wanted) - done]
            wanted[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return done

    def _piece(self) -> tuple[int, memoryview]:
        """Find the piece with the next byte, or ask for it."""
        for i, (start, data) in enumerate(self._pieces):
            if start <= self._at < start + len(data):
                self._pieces.append(self._pieces.pop(i))
                return self._pieces[-1]
        goes_on = any(start + len(data) == self._at for start, data in self._pieces)
        self._step = min(2 * self._step, _MOST) if goes_on else _FIRST
        with _translated(self._song):
            self._file.seek(self._at)
            found = memoryview(self._file.read(min(self._step, self.size - self._at)))
        if not found:
            raise InputError(f"{shown(self._song)}: {_CHANGED}")
        self._pieces = [*self._pieces[1 - _KEPT :], (self._at, found)]
        return self._pieces[-1]

    def close(self) -> None:
        """Let go of the song."""
        if not self.closed:
            self._pieces.clear()
            self._file.close()
        super().close()


def upload(files: Mapping[Url, Path], *, force: bool) -> None:
    """Give files of this machine their URLs: all are sent, and then appear one right after the other; or none does.

    Args:
        files: where each shall be to where it is. They all go to one store.
        force: replace what is there.

    Raises:
        OutputExists: a file is there already.
        OutputError: a file cannot be sent.
    """
    first = next(iter(files))
    with _translated(first), ThreadPoolExecutor(len(files), "separate-upload") as pool:
        there = {url for url, version in zip(files, pool.map(look, files), strict=True) if version}
        if there and not force:
            raise exists_already(next(url for url in files if url in there))
        store, _ = _store(first)
        ending = _Ending(store, there)
        stopped = threading.Event()
        try:
            for sent in [pool.submit(_send, store, url, path, ending, stopped) for url, path in files.items()]:
                sent.result()
            ending.complete()
        except BaseException as error:
            stopped.set()
            pool.shutdown()  # so that no more is being sent
            replaced = ", ".join(map(shown, ending.remove()))
            if replaced and isinstance(error, Exception):
                said = error if isinstance(error, SeparateError) else _trouble(first, error)
                raise OutputError(f"{said} (replaced before that, as --force asks: {replaced})") from error
            raise
        finally:
            ending.close()


def remove(url: Url) -> None:
    """Remove a file, if that is allowed."""
    with contextlib.suppress(Exception):
        _store(url)[0].rm_file(str(url))


def _send(store: Any, url: Url, path: Path, ending: _Ending, stopped: threading.Event) -> None:
    """Send a file, which then waits to be completed."""
    if str(url).partition(":")[0] in _REAL_FOLDERS:
        store.makedirs(str(url.parent), exist_ok=True)
    file = store.open(str(url), "wb", block_size=_PART)
    ending.waiting[url] = file
    with path.open("rb") as source:
        while data := source.read(_PART):
            if stopped.is_set():
                return
            file.write(data)
    file.close()
    if ending.at_once(file):
        del ending.waiting[url]
        ending.placed.append(url)


class _Ending:
    """Files that were sent and are not there before they are completed: fsspec calls it a transaction."""

    def __init__(self, store: Any, there: set[Url]) -> None:
        self._store, self._there = store, there
        self._transaction = store.start_transaction()
        self.waiting: dict[Url, Any] = {}
        self.placed: list[Url] = []

    def at_once(self, file: Any) -> bool:
        """Tell whether a file was complete when it was closed, as on hubs, whose stores cannot wait."""
        from fsspec.spec import AbstractBufferedFile

        return getattr(type(file), "commit", None) in (None, AbstractBufferedFile.commit)

    def complete(self) -> None:
        """Have all files appear."""
        while self.waiting:
            url = next(iter(self.waiting))
            self.waiting[url].commit()
            self.placed.append(url)
            del self.waiting[url]

    def remove(self) -> list[Url]:
        """Have none of them; return those that were replaced already."""
        for file in self.waiting.values():
            with contextlib.suppress(Exception):
                file.discard()
            with contextlib.suppress(Exception):
                file.closed = True  # or its end would send the rest
        for url in set(self.placed) - self._there:
            with contextlib.suppress(Exception):
                self._store.rm_file(str(url))
        return [url for url in self.placed if url in self._there]

    def close(self) -> None:
        """End the transaction, in which nothing is left."""
        self._transaction.files.clear()
        self._store.end_transaction()


def _store(where: str | Url) -> tuple[Any, str]:
    """Find who keeps a URL, and what it is called there. What a store has remembered of itself is forgotten."""
    import fsspec

    protocol = str(where).partition(":")[0]
    theirs = fsspec.config.conf.get(protocol, {})
    # s3fs tries five times, botocore would do each five times again: six minutes of a server that says nothing.
    patience = {"config_kwargs": {"retries": {"max_attempts": 1}}} if protocol in {"s3", "s3a"} else {}
    try:
        store, path = fsspec.url_to_fs(str(where), **{**patience, **theirs})
    except ImportError as error:
        raise DependencyError(f"{shown(str(where))}: {_install(str(where))}") from error
    store.invalidate_cache()
    return store, path


def _install(url: str) -> str:
    from fsspec.registry import known_implementations

    protocol = url.partition(":")[0]
    known = known_implementations.get(protocol, {"class": "", "err": ""})
    package = known["class"].partition(".")[0]
    if protocol in _EXTRAS:
        advice = f'pip install "separate-music[{_EXTRAS[protocol]}]"'
    else:
        advice = known["err"] if package == "fsspec" else f"pip install {package}"
    return f"{protocol}:// needs one more package: {advice}"


@contextlib.contextmanager
def _translated(where: str | Url) -> Iterator[None]:
    try:
        yield
    except SeparateError:
        raise
    except Exception as error:  # each store has errors of its own
        raise _trouble(where, error) from error


def _trouble(where: str | Url, error: Exception) -> SeparateError:
    """Say what a store's error means. Outputs are a Url, songs are text."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    names = " ".join(type(each).__name__ for each in chain)
    states = {getattr(each, "status", None) for each in chain}
    if "Credentials" in names:
        said = "its store wants credentials and finds none: set them up as for the store's own tools (AWS_PROFILE, ...)"
    elif "NoSuchBucket" in names:
        said = "there is no such bucket"
    elif "PermissionError" in names or states & {401, 403}:
        said = "its store does not permit it: check your credentials, and what they are allowed to do"
    elif "Connect" in names or "gaierror" in names:
        said = "its store cannot be reached: check the address (AWS_ENDPOINT_URL for S3) and the network"
    elif "Timeout" in names:
        said = "its store does not answer in time: check the network, and try again"
    elif "FileExpired" in names:
        said = _CHANGED
    elif "Protocol not known" in str(error):
        said = "nobody knows how to get there: fsspec has no such protocol"
    elif "IsADirectoryError" in names:
        said = "is a folder, not a song"
    elif "FileNotFoundError" in names:
        said = "no such file"
    else:
        said = f"its store says: {_first_line(error)}"
    kind = OutputError if isinstance(where, Url) else InputError
    return kind(f"{shown(str(where))}: {said}")


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [type(error).__name__])[0])
