"""Data sets: folders of songs with their true stems, whatever their layout, and a track of them as samples.

    musdb18-hq   {train,test}/TRACK/{mixture,vocals,drums,bass,other}.wav
    musdb18      {train,test}/TRACK.stem.mp4: five sound streams in one file
    dsd100       Mixtures/{Dev,Test}/TRACK/mixture.wav and Sources/{Dev,Test}/TRACK/STEM.wav
    mir-1k       Wavfile/TRACK.wav, accompaniment left and voice right; or TRACK.voice.wav and TRACK.accomp.wav
    folder       any other tree: a folder that holds sound is a track, its files are the stems and maybe the mixture

Names of stems are free. Some have aliases: what is called voice is vocals, what is called instrumental accompaniment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from separate.audio.fileset import shown
from separate.audio.reader import AUDIO_SUFFIXES, AudioReader
from separate.audio.resample import resample
from separate.errors import InputError, UsageError

__all__ = [
    "LAYOUTS",
    "Song",
    "StemFile",
    "Track",
    "accompaniment",
    "audible",
    "find_tracks",
    "read_track",
    "scored_together",
    "stem_name",
]

TRIMMED = 1.0  # seconds by which the files of a track may differ in length
LONGEST = 1e9  # seconds: no song has more

_ORDER = ("vocals", "drums", "bass", "other", "accompaniment")
_ALIASES = {
    "mix": "mixture",
    "voice": "vocals",
    "vocal": "vocals",
    "accomp": "accompaniment",
    "instrumental": "accompaniment",
    "no_vocals": "accompaniment",
}


@dataclass(frozen=True)
class StemFile:
    """Where a recording is: in a file, in a sound stream of a file, or in one channel of it."""

    path: Path
    stream: int | None = None
    channel: int | None = None

    def __str__(self) -> str:
        """Name it in messages."""
        return shown(self.path) if self.stream is None else f"{shown(self.path)}, stream {self.stream}"


@dataclass(frozen=True)
class Track:
    """A song of a data set: the files whose sum is each stem, and the mixture's file if there is one."""

    name: str  # unique in the data set: the path below its folder
    stems: Mapping[str, tuple[StemFile, ...]]
    mixture: StemFile | None = None


@dataclass(frozen=True)
class Song:
    """A track as samples."""

    rate: int
    stems: dict[str, Tensor]  # (channel, time)
    mixture: Tensor  # (channel, time)
    warnings: tuple[str, ...] = ()


Found = Iterator[tuple[Track, set[str]]]  # a track and the subsets it is in


def find_tracks(path: str | Path, *, layout: str = "auto", subset: str | None = None) -> list[Track]:
    """List the tracks below a folder, sorted by name, without opening a file.

    Args:
        path: the folder: a data set, a part of one, or a single track.
        layout: one of `LAYOUTS`, or `auto`: whichever the folder looks like.
        subset: leave out what is not in it: `train` or `test` where the data set says so, else a folder below `path`;
            in MIR-1K a singer too.

    Raises:
        InputError: there is no such folder, or no track in it.
        UsageError: there is no such layout or subset.
    """
    root = Path(path)
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r}: is not known; use auto, {', '.join(LAYOUTS)}")
    _entries(root)  # raises if there is none
    layouts = list(LAYOUTS) if layout == "auto" else [layout]
    found = next((tracks for name in layouts if (tracks := list(LAYOUTS[name](root)))), [])
    if not found:
        form = "no sound files" if layout == "auto" else f"no tracks in the layout of {layout}"
        raise InputError(f"{shown(root)}: {form} in this folder; a track is a folder of its own with a file a stem")
    if subset is not None:
        known = sorted(set().union(*(subsets for _, subsets in found)))
        found = [(track, subsets) for track, subsets in found if subset.lower() in subsets]
        if not found:
            have = f"its subsets are {', '.join(map(shown, known))}" if known else "it has no subsets"
            raise UsageError(f"{shown(root)}: no subset {subset!r} in it; {have}")
    return sorted((track for track, _ in found), key=lambda track: track.name)


def read_track(track: Track, *, start: float = 0.0, end: float | None = None, rate: int | None = None) -> Song:
    """Read all files of a track from `start` to `end` seconds, resampled to `rate` if one is given.

    A track without a mixture gets the sum of its stems. Files that differ in length by up to a second are trimmed to
    the shortest, and `warnings` says so.

    Raises:
        InputError: there is no file, one cannot be read, or they do not fit together: their lengths, rates or channels.
        UsageError: `start` or `end` is no time in a song, or `end` does not come after `start`.
    """
    if not 0 <= start < (LONGEST if end is None else end) <= LONGEST:  # nothing at all is so of NaN
        raise UsageError(f"start {start} s, end {end} s: end must come after start, both from 0 to {LONGEST:g} s")
    files = [file for files in track.stems.values() for file in files] + ([track.mixture] if track.mixture else [])
    if not files:
        raise InputError(f"{shown(track.name)}: has no stems; a track is a folder with a file a stem")
    own_rate = 0
    read: dict[StemFile, Tensor] = {}
    for file in files:
        read[file], its_rate = _samples(file, start, end)
        own_rate = own_rate or its_rate
        if its_rate != own_rate:
            raise InputError(f"{file}: has {its_rate} Hz, {files[0]} {own_rate} Hz; the files of a track must agree")
        if len(read[file]) != len(read[files[0]]):
            channels = f"has {len(read[file])} channels, {files[0]} {len(read[files[0]])}"
            raise InputError(f"{file}: {channels}; the files of a track must agree")
    length, warnings = _common_length(track.name, read, own_rate)
    new_rate = rate or own_rate

    def cut(file: StemFile) -> Tensor:
        return resample(read[file][:, :length], own_rate, new_rate)

    stems = {stem: reduce(torch.add, map(cut, files)) for stem, files in track.stems.items()}
    return Song(new_rate, stems, cut(track.mixture) if track.mixture else _sum(stems), warnings)


def _samples(file: StemFile, start: float, end: float | None) -> tuple[Tensor, int]:
    """Read (channel, time) and the rate of it."""
    with AudioReader(file.path, str(file), file.stream) as song:
        first = round(start * song.rate)
        last = None if end is None else round(end * song.rate)
        blocks = [torch.from_numpy(block) for block in song.blocks(first, last)]
        if not blocks:
            raise InputError(f"{file}: holds no samples{f' after {start:g} s' if start else ''}")
        samples = torch.cat(blocks, dim=1)
        if file.channel is None:
            return samples, song.rate
        if file.channel >= len(samples):
            raise InputError(f"{file}: has {len(samples)} channels, but channel {file.channel + 1} is a stem here")
        return samples[file.channel : file.channel + 1], song.rate


def _common_length(track: str, read: Mapping[StemFile, Tensor], rate: int) -> tuple[int, tuple[str, ...]]:
    """Find the samples that all files have, and a warning if some have more."""
    shortest, longest = (choose(read, key=lambda file: read[file].shape[1]) for choose in (min, max))
    length = read[shortest].shape[1]
    surplus = (read[longest].shape[1] - length) / rate
    if surplus > TRIMMED:
        raise InputError(f"{shortest}: is {surplus:.2f} s shorter than {longest}; they cannot be of one song")
    if not surplus:
        return length, ()
    how = f"{surplus * 1000:.0f} ms" if surplus >= 1e-3 else f"{read[longest].shape[1] - length} samples"
    return length, (f"{shown(track)}: {shortest} is {how} shorter than {longest}; all were trimmed to it",)


def stem_name(name: str) -> str:
    """Give a stem the name that this package knows it by.

    >>> stem_name("Voice"), stem_name("instrumental"), stem_name("kazoo")
    ('vocals', 'accompaniment', 'kazoo')
    """
    return _ALIASES.get(name.lower(), name.lower())


def accompaniment(stems: Mapping[str, Tensor], mixture: Tensor) -> Tensor:
    """Return everything but the vocals: the stem of that name, the sum of the others, or the mixture without vocals."""
    if "accompaniment" in stems:
        return stems["accompaniment"]
    others = [stem for name, stem in stems.items() if name != "vocals"]
    if others:
        return reduce(torch.add, others)
    return mixture - stems["vocals"] if "vocals" in stems else mixture


def audible(stems: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the stems that are digital silence: nothing can be said of how well they were separated."""
    return {name: stem for name, stem in stems.items() if stem.any()}


def scored_together(song: Song) -> list[dict[str, Tensor]]:
    """List the groups of stems that share out a song and are not silent, each to be scored by itself.

    First all stems of their own, as far as there are more than the vocals; then the vocals and everything else. Vocals
    that have no file are the mixture without the accompaniment, if that has one.
    """
    stems = {name: stem for name, stem in song.stems.items() if name != "accompaniment"}
    rest = accompaniment(song.stems, song.mixture)
    pair = {"vocals": stems["vocals"] if "vocals" in stems else song.mixture - rest, "accompaniment": rest}
    stems, pair = audible(stems), audible(pair)
    return [group for group in (stems if set(stems) - {"vocals"} else {}, pair) if group]


def _sum(stems: Mapping[str, Tensor]) -> Tensor:
    """Add up the stems that share out a song: an accompaniment holds all others but the vocals."""
    whole = [name for name in ("vocals", "accompaniment") if name in stems] if "accompaniment" in stems else list(stems)
    return reduce(torch.add, (stems[name] for name in whole))


def _musdb18_hq(root: Path) -> Found:
    for folder in _entries(root)[0]:
        if folder.name in ("train", "test"):
            yield from _walk(root, folder)


def _musdb18(root: Path) -> Found:
    for folder in (root, *_entries(root)[0]):
        for path in _entries(folder)[1]:
            if path.name.endswith(".stem.mp4"):
                mixture, *files = (StemFile(path, stream) for stream in range(5))
                stems = dict(zip(("drums", "bass", "other", "vocals"), files, strict=True))
                name = path.relative_to(root).as_posix().removesuffix(".stem.mp4")
                yield Track(name, _ordered(stems), mixture), _first_folder(name)


def _dsd100(root: Path) -> Found:
    if not (root / "Sources").is_dir():
        return
    for part in _entries(root / "Sources")[0]:
        for folder in _entries(part)[0]:
            name = f"{part.name}/{folder.name}"
            mixture = root / "Mixtures" / name / "mixture.wav"
            stems = {stem_name(file.stem): StemFile(file) for file in _sounds(folder)}
            subsets = {part.name.lower(), "train" if part.name == "Dev" else "test"}
            if stems:
                yield Track(name, _ordered(stems), StemFile(mixture) if mixture.is_file() else None), subsets


def _mir1k(root: Path) -> Found:
    pairs: dict[str, dict[str, StemFile]] = {}
    for file in _sounds(root):
        if half := re.fullmatch(r"(.+)[._-](voice|vocals?|accomp|accompaniment)", file.stem):
            pairs.setdefault(half[1], {})[stem_name(half[2])] = StemFile(file)
    tracks = {name: stems for name, stems in pairs.items() if len(stems) == 2}
    folder = root if root.name == "Wavfile" else root / "Wavfile"
    if folder.is_dir():
        for file in _sounds(folder):
            tracks[file.stem] = {"vocals": StemFile(file, channel=1), "accompaniment": StemFile(file, channel=0)}
    for name, stems in tracks.items():
        singer = name.partition("_")[0].lower()
        yield Track(name, _ordered(stems)), {singer, "train" if singer in ("abjones", "amy") else "test"}


def _folder(root: Path) -> Found:
    return _walk(root, root)


def _walk(root: Path, folder: Path) -> Found:
    """Find the tracks in a folder: itself, if stems lie in it, or those below it."""
    files = _sounds(folder)
    below: list[tuple[Track, set[str]]] = []
    # Below a folder of stems lie takes, cuts and the like.
    if not {"mixture", *_ORDER} & {stem_name(file.stem) for file in files}:
        below = [found for inner in _entries(folder)[0] for found in _walk(root, inner)]
    if below or not files:  # Single songs above the folders of the tracks are no stems.
        yield from below
        return
    stems: dict[str, StemFile] = {}
    for file in files:
        other = stems.setdefault(stem_name(file.stem), StemFile(file))
        if other.path != file:
            raise InputError(f"{shown(file)}: is {stem_name(file.stem)}, but so is {other}; keep one of them")
    name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
    mixture = stems.pop("mixture", None)
    yield Track(name, _ordered(stems), mixture), _first_folder(name)


LAYOUTS: Mapping[str, Callable[[Path], Found]] = {
    "dsd100": _dsd100,
    "musdb18": _musdb18,
    "mir-1k": _mir1k,
    "musdb18-hq": _musdb18_hq,
    "folder": _folder,
}
"""How tracks are found, by name. `auto` takes the first that finds any: what only one data set has comes first."""


def _ordered(stems: Mapping[str, StemFile]) -> dict[str, tuple[StemFile, ...]]:
    known = [name for name in _ORDER if name in stems]
    return {name: (stems[name],) for name in [*known, *sorted(set(stems) - set(_ORDER))]}


def _first_folder(name: str) -> set[str]:
    """Return the first folder of a track's name, which is the subset that it is in."""
    return {name.partition("/")[0].lower()} if "/" in name else set()


def _sounds(folder: Path) -> list[Path]:
    return [file for file in _entries(folder)[1] if file.suffix.lower() in AUDIO_SUFFIXES]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the folders and the files in a folder that are not hidden."""
    try:
        with os.scandir(folder) as found:
            entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
        folders = [folder / entry.name for entry in entries if entry.is_dir()]
        return folders, [folder / entry.name for entry in entries if entry.is_file()]
    except FileNotFoundError as error:
        raise InputError(f"{shown(folder)}: no such folder") from error
    except NotADirectoryError as error:
        raise InputError(f"{shown(folder)}: is a file, not a folder of tracks") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{shown(folder)}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
