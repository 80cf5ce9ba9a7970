"""What to do: inputs as the user named them -> one job a song, with the files that it will write.

Nothing is read or written here but names. What is wrong with one song is kept in its job and fails when its turn
comes, so that the others are still done.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from pathlib import PurePath

from separate.audio.url import Location, is_url, path_in, redacted
from separate.batch.inputs import Found, songs
from separate.batch.job import Job
from separate.errors import InputError, OutputError, SeparateError, UsageError

__all__ = ["FIELDS", "Planner", "check_template", "full_names", "leaves", "model_label", "plan"]

FIELDS = ("model", "track", "stem", "ext", "suffix")


def check_template(template: str, stems: Sequence[str]) -> None:
    """Refuse a name template that has unknown fields, leaves the output folder, or gives two stems one name."""
    fields = dict.fromkeys(FIELDS, "x")
    try:
        names = {template.format(**fields | {"stem": stem}) for stem in stems}
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise UsageError(f"--name {template!r}: use only {known} as fields") from error
    if leaves(template):
        raise UsageError(f"--name {template!r}: must stay below the output folder; choose the folder with --out")
    if len(names) < len(stems):
        raise UsageError(f"--name {template!r}: needs {{stem}}, or {' and '.join(stems)} would be one file")


def leaves(name: str) -> bool:
    """Tell whether a file of that name would not be in the output folder."""
    return PurePath(name).is_absolute() or ".." in PurePath(name).parts


def model_label(model: str) -> str:
    """Name a model in a path: the name of the registry, or the file's without its suffix."""
    name = model.partition("@")[0] if model.startswith("hf:") else model  # without the revision
    return PurePath(name).name.removesuffix(".safetensors")


def plan(
    inputs: Sequence[str], out: Location, template: str, *, model: str, stems: Sequence[str], ext: str
) -> list[Job]:
    """List a job for every song in `inputs`: files, folders (their tree is kept), patterns and "-"."""
    planner = Planner(out, template, model=model, stems=stems, ext=ext)
    return planner.jobs([found for name in inputs for found in songs(name, out)])


class Planner:
    """Makes jobs of songs, and remembers which files they write."""

    def __init__(self, out: Location, template: str, *, model: str, stems: Sequence[str], ext: str) -> None:
        check_template(template, stems)
        self.out = out
        self.template = template
        self.stems = stems
        self.fields = {"model": model_label(model), "ext": ext}
        self.taken: MutableMapping[str, str] = {}  # output -> the song that writes it
        self.sources: MutableMapping[str, str] = {}  # a song's real path -> as the user named it

    def jobs(self, found: Iterable[Found]) -> list[Job]:
        """List a job for every song; one that is named twice is done once."""
        once: dict[str, Found] = {}
        for song, track in found:
            once.setdefault(real(song), (song, track))
        self.sources.update({place: song for place, (song, _) in once.items() if song != "-"})
        return [self.job(song, track) for song, track in once.values()]

    def forget(self, songs: Collection[str]) -> None:
        """Let others have the outputs of songs that are there no more."""
        for known in (self.taken, self.sources):
            for place in [place for place, song in known.items() if song in songs]:
                del known[place]

    def job(self, song: str, track: str | InputError) -> Job:
        """Name the files of a song."""
        if isinstance(track, InputError):
            return Job(song, {}, track)
        fields = self.fields | {"track": track, "suffix": path_in(song).suffix[1:]}
        names = {stem: self.template.format(stem=stem, **fields) for stem in self.stems}
        if outside := next((name for name in names.values() if leaves(name)), None):
            return Job(song, {}, OutputError(f"{song}: its output {outside} is outside of the output folder"))
        outputs = {stem: self.out / name for stem, name in names.items()}
        folders = {folder: real(folder) for folder in {path.parent for path in outputs.values()}}
        places = {os.path.join(folders[path.parent], path.name): path for path in outputs.values()}
        error = self.clash(song, places)
        self.taken.update(dict.fromkeys(places, song))
        return Job(song, outputs, error, track=track)

    def clash(self, song: str, outputs: Mapping[str, Location]) -> SeparateError | None:
        """Find the first output that another song of the batch writes too, or that is a song of the batch itself."""
        for place, path in outputs.items():
            if place in self.sources:
                whose = "itself" if self.sources[place] == song else self.sources[place]
                return OutputError(f"{song}: its output {path} would overwrite {whose}; choose another --out or --name")
            if (other := self.taken.get(place, song)) != song:
                return OutputError(f"{song}: its output {path} is that of {other} too; {self.remedy(song, other)}")
        return None

    def remedy(self, song: str, other: str) -> str:
        """Say how two songs get outputs of their own."""
        if "{track" not in self.template:
            return "add {track} to --name"
        if path_in(song).suffix != path_in(other).suffix and "{suffix" not in self.template:
            return "add {suffix} or more to --name"
        return "separate the folder that both are in, or give one of them another --out"


def real(place: str | Location) -> str:
    """Name a file or folder so that it has one name only, as far as that can be known; "-" is standard input."""
    return str(place) if place == "-" or is_url(str(place)) else os.path.realpath(str(place))


def full_names(song: str) -> list[str]:
    """Name a song as from anywhere: as the user did, and, if links lead elsewhere, by its real path."""
    return list(dict.fromkeys(redacted(name) for name in (absolute(song), real(song))))


def absolute(song: str) -> str:
    """Name a song from the root on; links stay what they are."""
    return song if song == "-" or is_url(song) else os.path.abspath(song)
