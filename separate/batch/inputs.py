"""Which songs are meant: files, folders, patterns, lists and "-", as the user names them."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PurePosixPath

from separate.audio import remote
from separate.audio.fileset import shown
from separate.audio.reader import AUDIO_SUFFIXES
from separate.audio.url import Location, below, is_url, path_in, plain
from separate.errors import InputError, UsageError

__all__ = ["Found", "read_list", "songs"]

Found = tuple[str, str | InputError]
"""A song, and what it is called in templates (its track) or why there is none."""

WILD = frozenset("*?[")


def read_list(name: str) -> list[str]:
    """Read inputs from a file, or from standard input if it is called "-": one a line, or with zero bytes between."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--list {shown(name)}: cannot be read: {error.strerror or error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell writes with >
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    lines = list(filter(None, data.split(b"\0"))) if b"\0" in data else data.splitlines()
    # The zero bytes of UTF-16 are no ends of names: its full stops would be the folder that we are in.
    if b"\0" in data and b"." in lines and sum(len(line) == 1 for line in lines) > 2:
        raise UsageError(f"--list {shown(name)}: seems to be UTF-16 without a mark that says so; save it as UTF-8")
    # A line "-" is a file of that name: standard input is the list's, or somebody else's.
    return ["./-" if line == b"-" else os.fsdecode(line) for line in lines if line.strip()]


def songs(name: str, out: Location) -> Iterator[Found]:
    """Yield the songs of an input. Of folders and patterns these are the files that are named like sound."""
    name = plain(name)
    if name == "-":
        yield "-", "stdin"
    elif is_url(name):
        yield from songs_at(name, out)
    elif os.path.isdir(name):
        yield from _some(name, "no audio files in this folder", search(name, out))
    elif not WILD.isdisjoint(name) and not os.path.lexists(name):
        yield from _some(name, "no audio files are called so", match(name, out))
    else:
        path = PurePath(name)
        yield name, path.name if path.stem == "." else path.stem  # "..wav" needs a folder of its own too


def songs_at(url: str, out: Location) -> Iterator[Found]:
    """Yield the songs at a URL. What is named like sound is a song: a million of them are not looked at one by one."""
    try:
        if is_pattern(url):
            yield from _some(url, "no audio files are called so", match_at(url, out))
        elif url.endswith("/") or (not is_sound(path_in(url).name) and is_folder(url)):
            yield from _some(url, "no audio files in this folder", search_at(url, out))
        else:
            yield url, path_in(url).stem
    except InputError as error:
        yield url, error


def is_folder(url: str) -> bool:
    """Ask a store whether a URL means a folder."""
    version = remote.look(url)
    return version is not None and version.folder


def is_pattern(url: str) -> bool:
    """Tell whether a URL means several songs; on the web a question mark is no wildcard."""
    return not (WILD - {"?"} if url.startswith("http") else WILD).isdisjoint(url)


def _some(name: str, otherwise: str, found: Iterator[Found]) -> Iterator[Found]:
    first = next(found, (name, InputError(f"{name}: {otherwise}")))
    yield first
    yield from found


def search(top: str, out: Location, pattern: Sequence[str] = ()) -> Iterator[Found]:
    """Yield the songs in a folder and all below it that may have something that fits a pattern.

    Links to folders come after what is in this one, and no folder is searched twice. At the end are the folders that
    cannot be read.
    """
    seen = {os.path.realpath(out)} if isinstance(out, Path) else set()  # stems of an earlier run are no songs of this
    if os.path.realpath(top) in seen:
        yield top, InputError(f"{shown(top)}: is the output folder itself; choose another --out")
    unread: list[OSError] = []
    waiting = [top]
    for start in waiting:
        for folder, folders, files in os.walk(start, onerror=unread.append):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            at = PurePath(os.path.relpath(folder, top)).parts
            names = [name for name in sorted(folders) if not name.startswith(".") and _may_hold((*at, name), pattern)]
            folders[:] = [name for name in names if not os.path.islink(os.path.join(folder, name))]
            waiting += [os.path.join(folder, name) for name in names if name not in folders]
            for file in filter(is_sound, sorted(files)):
                path = os.path.join(folder, file)
                if os.path.isfile(path) or not os.path.exists(path):  # a pipe would be waited for; the reader says more
                    yield path, os.path.splitext(os.path.relpath(path, top))[0]
    for error in unread:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            folder = error.filename or top
            yield folder, InputError(f"{shown(folder)}: this folder cannot be read: {error.strerror or error}")


def search_at(top: str, out: Location, pattern: Sequence[str] = ()) -> Iterator[Found]:
    """Yield the songs in a folder at a URL and all below it that may have something that fits, a folder at a time."""
    for folder, folders, files in remote.walk(top):
        at = below(top, folder) if folder else top
        parts = PurePosixPath(folder).parts
        names = [name for name in folders if not name.startswith(".") and below(at, name) != str(out)]
        folders[:] = [name for name in names if _may_hold((*parts, name), pattern)]
        for file in filter(is_sound, sorted(files)):
            yield below(at, file), str(PurePosixPath(folder) / PurePosixPath(file).stem)


def is_sound(file: str) -> bool:
    """Tell whether a file is named like sound."""
    return os.path.splitext(file)[1].lower() in AUDIO_SUFFIXES and not file.startswith(".")


def match(pattern: str, out: Location) -> Iterator[Found]:
    """Yield the songs that a pattern means: * and ? within a name, ** for any folders. A folder means all in it."""
    parts = PurePath(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if not WILD.isdisjoint(part))
    top = str(PurePath(*parts[:fixed]))  # "." if the pattern begins at once
    for song, track in search(top, out, parts[fixed:]):
        below = PurePath(os.path.relpath(song, top)).parts
        if isinstance(track, InputError) or any(_fits(below[:i], parts[fixed:]) for i in range(1, len(below) + 1)):
            yield (song if fixed else os.path.relpath(song)), track


def match_at(pattern: str, out: Location) -> Iterator[Found]:
    """Yield the songs that a pattern at a URL means."""
    protocol, _, path = pattern.partition("://")
    parts = path.split("/")
    fixed = next(i for i, part in enumerate(parts) if is_pattern(part))
    top = f"{protocol}://{'/'.join(parts[:fixed])}"
    for song, track in search_at(top, out, parts[fixed:]):
        names = song.removeprefix(top).strip("/").split("/")
        if any(_fits(names[:i], parts[fixed:]) for i in range(1, len(names) + 1)):
            yield song, track


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[i:], pattern[1:]) for i in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])


def _may_hold(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Tell whether a folder fits, or one that it is in, or perhaps something in it."""
    if not names or not pattern or pattern[0] == "**":
        return True
    return fnmatchcase(names[0], pattern[0]) and _may_hold(names[1:], pattern[1:])
