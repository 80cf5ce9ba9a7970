"""The pool: songs as stems, decoded once, ready to be read anywhere at once.

A pool is a folder of songs, each a folder of `<stem>.npy`: float16 (channel, time), memory-mapped. Songs under `songs/`
are recordings, those under `synth/` were made. Every stem is at the same level, mixing decides how loud it will be;
`song.json` remembers how loud it was, and what else there is to know. On a GPU the pool is on the card if it fits.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from separate.audio.fileset import shown
from separate.errors import InputError, OutputError, UsageError
from separate.training.augment import level

__all__ = ["Part", "Pool", "Song", "add_song", "find_songs", "open_song", "parts"]

RATE = 44100
CARD = 0.5  # share of a GPU's free memory that a pool may take


@dataclass(frozen=True)
class Part:
    """Stems on file whose sum is the sum of some of a model's sources; without files, those sources are silent."""

    files: tuple[str, ...]
    sources: tuple[str, ...]


def parts(files: Collection[str], sources: Sequence[str]) -> tuple[Part, ...]:
    """Match the stems that a song has on file with what a model separates.

    A stem that the model does not know is part of `other`, or of `accompaniment` if that is what the model separates;
    a source without a file is part of the song's `accompaniment` or `other`. Vocals and drums without a file are
    silent, unless there is an accompaniment, which holds the drums.

    >>> parts(["vocals", "accompaniment"], ["vocals", "drums", "other"])[1]
    Part(files=('accompaniment',), sources=('drums', 'other'))
    """
    here = set(files)
    here -= {"accompaniment"} if "other" in here else set()
    here = here & {"vocals", "accompaniment"} if "accompaniment" in here else here
    rest = "accompaniment" if "accompaniment" in sources else "other"
    if rest not in sources:
        raise UsageError(f"a model of {', '.join(sources)} cannot be trained: it needs `other` or `accompaniment`")
    unknown = sorted(here - set(sources))
    found = [Part((source,), (source,)) for source in sources if source in here and source != rest]
    missing = [source for source in sources if source not in here and source != rest]
    left = [rest] * (rest in here) + unknown  # the files of what is left of the song
    merged = [s for s in missing if left and s != "vocals" and (s != "drums" or "accompaniment" in unknown)]
    held = tuple(source for source in sources if source == rest or source in merged)
    silent = [Part((), (source,)) for source in missing if source not in merged]
    return (*found, Part(tuple(left), held), *silent)


@dataclass(frozen=True)
class Song:
    """A song of a pool."""

    folder: Path
    name: str
    recorded: bool
    rate: int
    limit: float  # Hz: nothing is known of what is above
    levels: Mapping[str, float]  # of every stem on file: what it was turned up by is undone by this factor
    length: int  # samples
    altered: bool = False  # a copy that is not as it was recorded

    @cached_property
    def stems(self) -> dict[str, Tensor]:
        """The stems: (channel, time), float16, as good as on the disk."""
        return {stem: _mapped(self.folder / f"{stem}.npy") for stem in self.levels}


def _mapped(path: Path) -> Tensor:
    """Map a file into memory. numpy's own maps keep the file open, and a pool has thousands: more than may be open."""
    facts = np.load(path, mmap_mode="r")  # as if it were: its header alone is read
    if facts.dtype != np.float16 or not facts.flags.c_contiguous or facts.ndim != 2:
        raise ValueError(f"{path.name}: is not (channel, time) in float16")
    first = facts.offset // 2
    with path.open("rb") as file:
        # torch takes names in UTF-8 only.
        name = f"/dev/fd/{file.fileno()}" if os.path.exists("/dev/fd") else str(path)
        whole = torch.from_file(name, shared=False, size=first + facts.size, dtype=torch.float16)
    return whole[first:].view(facts.shape)


def add_song(
    folder: Path,
    stems: Mapping[str, Tensor],
    *,
    name: str = "",
    rate: int = RATE,
    limit: float = 0.0,
    altered: bool = False,
) -> None:
    """Write the stems of a song, which appears in the pool when it is complete."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    levels: dict[str, float] = {}
    try:
        part.mkdir(parents=True, exist_ok=True)
        for stem, x in stems.items():
            levelled = level(x)
            loud = levelled.square().sum()
            levels[stem] = float((x.square().sum() / loud).sqrt()) if loud else 1.0
            kept = levelled.half()
            if not (kept.isfinite().all() and math.isfinite(levels[stem])):
                raise InputError(f"{shown(name or folder.name)}: samples of its {stem} are too large; export it again")
            np.save(part / f"{stem}.npy", kept.numpy())
        facts = {"name": name or folder.name, "rate": rate, "limit": limit or rate / 2}
        facts |= {"altered": altered, "levels": levels}
        (part / "song.json").write_text(json.dumps(facts), "utf-8")
        part.rename(folder)
    except OSError as error:
        if not folder.exists():  # or else another run that shares the pool was faster
            raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def open_song(folder: Path, recorded: bool) -> Song:
    """Read what there is to know of a song in a pool, and check that it is whole."""
    facts: dict[str, Any] = {}
    try:
        if (folder / "song.json").exists():
            facts = json.loads((folder / "song.json").read_text("utf-8"))
        levels = facts.get("levels") or dict.fromkeys((path.stem for path in sorted(folder.glob("*.npy"))), 1.0)
        levels = {stem: float(level) for stem, level in levels.items()}
        rate, name = int(facts.get("rate", RATE)), str(facts.get("name", folder.name))
        limit, altered = float(facts.get("limit", rate / 2)), bool(facts.get("altered", False))
        if not all(map(math.isfinite, (limit, *levels.values()))):
            raise ValueError("limit and levels must be finite")
        lengths = {stem: _mapped(folder / f"{stem}.npy").shape[1] for stem in levels}
    except (OSError, EOFError, ValueError, OverflowError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{folder}: a damaged song of the pool; delete it: {error}") from error
    if not lengths:
        raise InputError(f"{folder}: a song of the pool without stems; delete it")
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{stem} {length}" for stem, length in lengths.items())
        raise InputError(f"{folder}: its stems have unequal lengths, in samples: {said}; delete it")
    return Song(folder, name, recorded, rate, limit, levels, min(lengths.values()), altered)


def find_songs(folder: Path) -> list[tuple[Path, bool]]:
    """List the songs of a pool, and whether they were recorded."""
    return [
        (song, kind == "songs")
        for kind in ("songs", "synth")
        for song in sorted(folder.glob(f"{kind}/[!.]*"))
        if next(song.glob("*.npy"), None)
    ]


class Pool:
    """Songs to draw from, for a model that separates `sources` at `rate`."""

    def __init__(
        self, songs: Sequence[Song], sources: Sequence[str], rate: int = RATE, device: torch.device | str = "cpu"
    ) -> None:
        if not songs:
            raise InputError("there are no songs to train with; name folders of them with --data")
        if strange := [song for song in songs if song.rate != rate]:
            raise InputError(f"{strange[0].folder}: a song of {strange[0].rate} Hz for a model of {rate} Hz")
        self.songs, self.sources, self.rate, self.device = songs, tuple(sources), rate, torch.device(device)
        self.parts = {song.folder: parts(song.levels, self.sources) for song in songs}
        # Songs that know the sum of these sources, recorded and made ones.
        self.knowing: dict[tuple[str, ...], tuple[list[Song], list[Song]]] = {(): ([], [])}
        for song in songs:
            for known in [(), *(part.sources for part in self.parts[song.folder] if part.files)]:
                self.knowing.setdefault(known, ([], []))[not song.recorded].append(song)
        self.files: dict[tuple[Path, str], Tensor] = {}
        if self.device.type == "cuda":
            self._to_card()

    @property
    def seconds(self) -> float:
        """How long all songs are together."""
        return sum(song.length for song in self.songs) / self.rate

    def draw(self, rng: np.random.Generator, recorded: float, known: tuple[str, ...] = ()) -> Song:
        """Draw a song in which the sum of the sources `known` is: a recorded one with these odds, if there are both."""
        real, made = self.knowing[known]
        songs = real if (rng.random() < recorded and real) or not made else made
        return songs[int(rng.integers(len(songs)))]

    def part(self, song: Song, known: tuple[str, ...]) -> Part:
        """Find the part of a song that is the sum of these sources."""
        return next(part for part in self.parts[song.folder] if part.sources == known)

    def read(self, song: Song, files: Sequence[str], start: int, count: int, natural: bool) -> Tensor:
        """Read the sum of stems, (channel, time) on the pool's device, as loud as recorded or at the pool's level."""
        weights = np.array([song.levels[stem] for stem in files])
        if not natural:
            weights = weights / np.sqrt(np.square(weights).sum()).clip(1e-9)
        total = torch.zeros((), device=self.device)
        for stem, weight in zip(files, weights, strict=True):
            whole = self.files.get((song.folder, stem))
            x = (song.stems[stem] if whole is None else whole)[:, start : start + count]
            total = total + x.to(self.device, torch.float32) * float(weight)
        return total

    def _to_card(self) -> None:
        free, _ = torch.cuda.mem_get_info(self.device)
        if sum(2 * stem.numel() for song in self.songs for stem in song.stems.values()) < CARD * free:
            for song in self.songs:
                self.files |= {(song.folder, name): stem.to(self.device) for name, stem in song.stems.items()}
