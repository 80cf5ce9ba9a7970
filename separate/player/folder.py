"""Which files are one song's stems, what they are called on the page, and where the page goes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from separate.audio.fileset import shown
from separate.audio.reader import AUDIO_SUFFIXES
from separate.errors import InputError

__all__ = ["Part", "Song", "page_name", "songs_in"]

ORDER = ("vocals", "drums", "bass", "guitar", "piano", "other")
ORIGINALS = ("original", "mixture", "mix")
BETWEEN = " _-.()[]"  # what stands between a song's name and a stem's
STEM = "\3"  # stands for any stem in a path


@dataclass(frozen=True)
class Part:
    """What the stems are of the song: seconds of it, times a gain, which is None if it is not the same for all."""

    start: float = 0.0
    end: float | None = None
    gain: float | None = 1.0


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
    closing = {"(": ")", "[": "]"}.get(common[-1:], "")  # "Song (vocals)"
    for path in files:
        name = shown(path.stem[len(common) :].removesuffix(closing))
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
    return re.sub(r"(?i)(?<![a-z])no[ _-]$", "", common)  # what is without drums is not the drums


def page_name(template: str, *, model: str, ext: str, track: str, suffix: str) -> str:
    """Choose where the page of stems goes that were just written: beside them, under a name that is the song's alone.

    That is `index.html` where files are called as their stems, and `song.html` where they are `song_vocals.wav`.
    """
    name = template.format(model=model, ext=ext, track=Own(track), suffix=Own(suffix), stem=STEM)
    *folders, last = map(without_stem, re.sub(r"\.\w+$", "", name).split("/"))
    parts = [*filter(None, folders), last or "index"]
    return f"{'/'.join(parts)}.html".translate({1: None, 2: None})


class Own(str):
    """What a song is called, in a template: between marks, so that nothing of it is taken away with the stem."""

    def __format__(self, spec: str) -> str:
        return f"\1{super().__format__(spec)}\2"

    def __getitem__(self, key: Any) -> Own:
        return Own(super().__getitem__(key))


def without_stem(part: str) -> str:
    """Take the stem out of a part of a path, and what stands between it and the rest."""
    between = f"[{re.escape(BETWEEN)}]*"
    return re.sub(between + STEM + between, " ", part).strip() if STEM in part else part
