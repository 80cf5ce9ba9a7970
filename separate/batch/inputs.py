"""Which songs are meant: files, folders, patterns, lists and "-", as the user names them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from separate.audio.fileset import shown
from separate.audio.reader import AUDIO_SUFFIXES
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
    lines = data.split(b"\0") if b"\0" in data else data.removeprefix(b"\xef\xbb\xbf").splitlines()
    # A line "-" is a file of that name: standard input is the list's, or somebody else's.
    return ["./-" if line == b"-" else os.fsdecode(line) for line in lines if line.strip()]


def songs(name: str, out: Path) -> Iterator[Found]:
    """Yield the songs of an input. Of folders and patterns these are the files that are named like sound."""
    if name == "-":
        yield "-", "stdin"
    elif os.path.isdir(name):
        yield from _some(name, "no audio files in this folder", search(name, out))
    elif not WILD.isdisjoint(name) and not os.path.lexists(name):
        yield from _some(name, "no audio files are called so", match(name, out))
    else:
        yield name, PurePath(name).stem


def _some(name: str, otherwise: str, found: Iterator[Found]) -> Iterator[Found]:
    first = next(found, (name, InputError(f"{name}: {otherwise}")))
    yield first
    yield from found


def search(top: str, out: Path) -> Iterator[Found]:
    """Yield the songs in a folder and all below it; links to folders come last. No folder is searched twice."""
    seen = {os.path.realpath(out)}  # stems of an earlier run are no songs of this one
    waiting = [top]
    for start in waiting:
        for folder, folders, files in os.walk(start):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            names = [name for name in sorted(folders) if not name.startswith(".")]
            folders[:] = [name for name in names if not os.path.islink(os.path.join(folder, name))]
            waiting += [os.path.join(folder, name) for name in names if name not in folders]
            for file in sorted(files):
                if os.path.splitext(file)[1].lower() in AUDIO_SUFFIXES and not file.startswith("."):
                    path = os.path.join(folder, file)
                    yield path, os.path.splitext(os.path.relpath(path, top))[0]


def match(pattern: str, out: Path) -> Iterator[Found]:
    """Yield the songs that a pattern means: * and ? within a name, ** for any folders. A folder means all in it."""
    parts = PurePath(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if not WILD.isdisjoint(part))
    top = str(PurePath(*parts[:fixed]))  # "." if the pattern begins at once
    for song, track in search(top, out):
        below = PurePath(os.path.relpath(song, top)).parts
        if any(_fits(below[:i], parts[fixed:]) for i in range(1, len(below) + 1)):
            yield (song if fixed else os.path.relpath(song)), track


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[i:], pattern[1:]) for i in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
