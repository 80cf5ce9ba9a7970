"""What to do: inputs as the user named them -> one job a song, with the files that it will write.

Nothing is read or written here but names. What is wrong with one song is kept in its job and fails when its turn
comes, so that the others are still done.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from separate.batch.inputs import Found, songs
from separate.batch.job import Job
from separate.errors import InputError, OutputError, SeparateError, UsageError

__all__ = ["FIELDS", "Planner", "check_template", "model_label", "plan"]

FIELDS = ("model", "track", "stem", "ext", "suffix")


def check_template(template: str, stems: Sequence[str]) -> None:
    """Refuse a name template that has unknown fields, leaves the output folder, or gives two stems one name."""
    try:
        found = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        template.format(**dict.fromkeys(FIELDS, "x"))
    except (ValueError, KeyError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise UsageError(f"--name {template!r}: use only {known} as fields") from error
    if PurePath(template).is_absolute() or ".." in PurePath(template).parts:
        raise UsageError(f"--name {template!r}: must stay below the output folder; choose the folder with --out")
    if "stem" not in found and len(stems) > 1:
        raise UsageError(f"--name {template!r}: needs {{stem}}, or {' and '.join(stems)} would be one file")


def model_label(model: str) -> str:
    """Name a model in a path: the name of the registry, or the file's without its suffix."""
    return PurePath(model.partition("@")[0]).name.removesuffix(".safetensors")


def plan(inputs: Sequence[str], out: Path, template: str, *, model: str, stems: Sequence[str], ext: str) -> list[Job]:
    """List a job for every song in `inputs`: files, folders (their tree is kept), patterns and "-"."""
    planner = Planner(out, template, model=model, stems=stems, ext=ext)
    return planner.jobs([found for name in inputs for found in songs(name, out)])


class Planner:
    """Makes jobs of songs, and remembers which files they write."""

    def __init__(self, out: Path, template: str, *, model: str, stems: Sequence[str], ext: str) -> None:
        check_template(template, stems)
        self.out = out
        self.template = template
        self.stems = stems
        self.fields = {"model": model_label(model), "ext": ext}
        self.taken: dict[str, str] = {}  # output -> the song that writes it
        self.sources: dict[str, str] = {}  # a song's real path -> as the user named it

    def jobs(self, found: Iterable[Found]) -> list[Job]:
        """List a job for every song; one that is named twice is done once."""
        once: dict[str, Found] = {}
        for song, track in found:
            once.setdefault(os.path.abspath(song), (song, track))
        self.sources |= {os.path.realpath(song): song for song, _ in once.values() if song != "-"}
        return [self.job(song, track) for song, track in once.values()]

    def job(self, song: str, track: str | InputError) -> Job:
        """Name the files of a song."""
        if isinstance(track, InputError):
            return Job(song, {}, track)
        fields = self.fields | {"track": track, "suffix": PurePath(song).suffix[1:]}
        outputs = {stem: self.out / self.template.format(stem=stem, **fields) for stem in self.stems}
        folders = {folder: os.path.realpath(folder) for folder in {path.parent for path in outputs.values()}}
        real = {os.path.join(folders[path.parent], path.name): path for path in outputs.values()}
        error = self.clash(song, real)
        self.taken |= dict.fromkeys(real, song)
        return Job(song, outputs, error)

    def clash(self, song: str, outputs: dict[str, Path]) -> SeparateError | None:
        """Find the first output that another song of the batch writes too, or that is a song of the batch itself."""
        for real, path in outputs.items():
            if real in self.sources:
                whose = "itself" if self.sources[real] == song else self.sources[real]
                return OutputError(f"{song}: its output {path} would overwrite {whose}; choose another --out or --name")
            if (other := self.taken.get(real, song)) != song:
                return OutputError(
                    f"{song}: its output {path} is that of {other} too; add {{suffix}} or more to --name"
                )
        return None
