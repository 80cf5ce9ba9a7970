"""Which files are one song's stems, what they are called on the page, and where the page goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from separate.audio.fileset import shown
from separate.audio.reader import AUDIO_SUFFIXES
from separate.errors import InputError

__all__ = ["Part", "Song", "song_of", "songs_in"]

ORDER = ("vocals", "drums", "bass", "guitar", "piano", "other")
ORIGINALS = ("original", "mixture", "mix")
BETWEEN = " _-.()[]"  # what stands between a song's name and a stem's


@dataclass(frozen=True)
class Part:
    """What the stems are of the song: seconds of it, times a gain."""

    start: float = 0.0
    end: float | None = None
    gain: float = 1.0


@dataclass(frozen=True)
class Song:
    """The files of one page."""

    title: str
    stems: Mapping[str, Path]
    page: Path
    original: Path | None = None
    part: Part = Part()

    def beside(self, name: str) -> Path:
        """Name a file that belongs to the page."""
        alone = self.page.name == "index.html"
        return self.page.with_name(name if alone else f"{self.page.stem} {name}")


def songs_in(folder: Path) -> list[Song]:
    """Find the songs of a folder: the stems in it, or if there are none in it, those of every folder below it.

    Raises:
        InputError: there are none, or this is no folder.
    """
    if not folder.is_dir():
        what = "is a file, not a folder of stems" if folder.exists() else "no such folder"
        raise InputError(f"{shown(folder)}: {what}")
    found = list(stems_below(folder))
    if not found:
        raise InputError(f"{shown(folder)}: no audio files in this folder; give one that separate has written stems to")
    return [gathered(where, files) for where, files in found]


def stems_below(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield folders that have sound in them, with it; what is below such a folder is not looked at."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{shown(folder)}: cannot be read: {error.strerror or error}") from error
    seen = [entry for entry in entries if not entry.name.startswith(".")]
    files = [Path(e.path) for e in seen if e.is_file() and os.path.splitext(e.name)[1].lower() in AUDIO_SUFFIXES]
    if files:
        yield folder, files
        return
    for entry in seen:
        if entry.is_dir(follow_symlinks=False):
            yield from stems_below(Path(entry.path))


def gathered(folder: Path, files: Sequence[Path]) -> Song:
    """Tell the stems of a folder from the song itself, and put them in the order of a score."""
    common = shared(sorted({path.stem for path in files}))
    names: dict[str, Path] = {}
    for path in files:
        name = shown(path.stem[len(common) :])
        names[shown(path.name) if name in names else name] = path  # vocals.wav and vocals.mp3
    original = next((names.pop(name) for name in ORIGINALS if name in names and len(names) > 1), None)
    places = {name: place for place, name in enumerate(ORDER)}
    ordered = dict(sorted(names.items(), key=lambda item: places.get(item[0].lower(), len(ORDER))))
    title = shown(folder.name or folder.resolve().name)
    return Song(title, ordered, folder / "index.html", original)


def shared(names: Sequence[str]) -> str:
    """Find what all names begin with, if it ends before a stem's name: "Song - " of "Song - vocals"."""
    if len(names) < 2:
        return ""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = "".join(letters[0] for letters in same)
    while common and common[-1] not in BETWEEN:
        common = common[:-1]
    return common


def song_of(title: str, stems: Mapping[str, Path], original: Path | None, part: Part) -> Song:
    """Choose where the page of stems goes that were just written: beside them, under a name that is the song's alone.

    That is `index.html` where files are called as their stems, and `song.html` where they are `song_vocals.wav`.
    """
    folder = Path(os.path.commonpath([path.parent for path in stems.values()]))
    rests = Counter(without(path.stem, stem).strip(BETWEEN) for stem, path in stems.items())
    name = rests.most_common(1)[0][0] or "index"  # most: a song may be called like one of its stems
    return Song(shown(title), stems, folder / f"{name}.html", original, part)


def without(name: str, stem: str) -> str:
    """Take a stem's name out of a file's, where it stands last."""
    before, _, after = name.rpartition(stem)
    return before + after
