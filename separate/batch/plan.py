"""What to do: inputs as the user named them -> one job a song, with the files that it will write.

Nothing is read or written here but names. What is wrong with one song is kept in its job and fails when its turn
comes, so that the others are still done.
"""

from __future__ import annotations

import os
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from separate.audio.reader import AUDIO_SUFFIXES
from separate.errors import InputError, OutputError, SeparateError, UsageError

__all__ = ["FIELDS", "Job", "check_template", "model_label", "plan"]

FIELDS = ("model", "track", "stem", "ext", "suffix")


@dataclass(frozen=True)
class Job:
    """One song and where its stems go."""

    song: str  # as the user named it; "-" is standard input
    outputs: dict[str, Path]  # stem -> file
    error: SeparateError | None = None  # why it cannot be done


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
    """List a job for every song in `inputs`: files, folders (searched for audio, their tree kept) and "-"."""
    check_template(template, stems)
    jobs: list[Job] = []
    taken: dict[Path, str] = {}  # output -> the song that writes it
    found = [(song, track) for name in inputs for song, track in songs(name, out)]
    sources = {_real(song): song for song, _ in found if song != "-"}
    for song, track in found:
        if track is None:
            jobs.append(Job(song, {}, InputError(f"{song}: no audio files in this folder")))
            continue
        fields = {"model": model_label(model), "track": track, "ext": ext, "suffix": PurePath(song).suffix[1:]}
        outputs = {stem: out / template.format(stem=stem, **fields) for stem in stems}
        jobs.append(Job(song, outputs, clash(song, outputs, taken, sources)))
        taken |= dict.fromkeys((_real(path) for path in outputs.values()), song)
    return jobs


def clash(
    song: str, outputs: dict[str, Path], taken: dict[Path, str], sources: dict[Path, str]
) -> SeparateError | None:
    """Find the first output that another song of the batch writes too, or that is a song of the batch itself."""
    for path in outputs.values():
        if _real(path) in sources:
            whose = "itself" if sources[_real(path)] == song else sources[_real(path)]
            return OutputError(f"{song}: its output {path} would overwrite {whose}; choose another --out or --name")
        if _real(path) in taken:
            other = taken[_real(path)]
            return OutputError(f"{song}: its output {path} is that of {other} too; add {{suffix}} or more to --name")
    return None


def songs(name: str, out: Path) -> Iterator[tuple[str, str | None]]:
    """Yield (song, track) for an input; the track is for templates. A folder without songs yields (name, None)."""
    if name == "-":
        yield "-", "stdin"
        return
    if not os.path.isdir(name):
        yield name, PurePath(name).stem
        return
    empty = True
    own = _real(out)
    for folder, folders, files in os.walk(name):
        # Stems of an earlier run are no songs of this one.
        folders[:] = sorted(f for f in folders if not f.startswith(".") and _real(Path(folder, f)) != own)
        for file in sorted(files):
            if PurePath(file).suffix.lower() in AUDIO_SUFFIXES and not file.startswith("."):
                empty = False
                path = Path(folder, file)
                yield str(path), str(path.relative_to(name).with_suffix(""))
    if empty:
        yield name, None


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))
