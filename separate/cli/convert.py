"""`separate convert SRC... DEST`: weights of other programs become a checkpoint of ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from separate.errors import CheckpointError, OutputError, OutputExists, UsageError

__all__ = ["convert_command"]

FILES_HELP = "Files of weights, and of settings if there are any, then the .safetensors to write."
FROM_HELP = "Refuse weights of any other architecture."
SOURCES_HELP = "The stems, in the order of the files, or of the nets in them: vocals,drums."
LICENCE_HELP = "What the weights may be used for: MIT, CC-BY-NC-SA-4.0."


class Architecture(StrEnum):
    """Whose weights can be converted: the keys of FORMATS, here so that a typing mistake costs no import of torch."""

    open_unmix = "open-unmix"
    demucs = "demucs"
    mad = "mad"
    cws_mdensenet = "cws-mdensenet"
    spleeter = "spleeter"
    roformer = "roformer"


def convert_command(
    files: Annotated[list[Path], typer.Argument(metavar="SRC... DEST", help=FILES_HELP, show_default=False)],
    from_: Annotated[
        Architecture | None, typer.Option("--from", help=FROM_HELP, show_default="what the weights look like")
    ] = None,
    sources: Annotated[
        str | None, typer.Option(help=SOURCES_HELP, metavar="A,B", show_default="the published model's")
    ] = None,
    licence: Annotated[str, typer.Option(help=LICENCE_HELP, metavar="TEXT")] = "unknown",
    force: Annotated[bool, typer.Option("--force", help="Overwrite DEST.")] = False,
) -> None:
    """Convert weights of other programs: Open-Unmix, Demucs 1 and 2, MaD, the subband MDenseNet, Spleeter, RoFormers.

    Nothing in a file is executed, and a model with a weight too few, too many or of a wrong shape is not made.
    """
    *paths, target = files
    check(paths, target, force)
    stems = [name.strip() for name in sources.split(",")] if sources is not None else None
    if stems is not None and (not all(stems) or len(set(stems)) < len(stems)):
        raise UsageError(f"--sources {sources!r}: name every stem once, as in vocals,drums")

    from separate.checkpoints.convert import convert
    from separate.checkpoints.weights import read_header

    convert(paths, target, format=from_ and from_.value, sources=stems, licence=licence, force=force)
    header = read_header(target)
    megabytes = target.stat().st_size / 1e6
    print(f"{target}: {header.architecture}, {', '.join(header.sources)}, {megabytes:.1f} MB")


def check(paths: list[Path], target: Path, force: bool) -> None:
    """Refuse what cannot be meant, before torch is imported."""
    if not paths:
        raise UsageError(f"{target}: there must be two names at least, of what to convert and of what to write")
    if target.suffix != ".safetensors":
        raise UsageError(f"{target}: the last name is that of the file to write, and must end in .safetensors")
    for path in paths:
        if not path.exists():
            raise CheckpointError(f"{path}: cannot be read: No such file or directory")
    if target.is_dir() or not target.parent.is_dir():
        raise OutputError(
            f"{target}: cannot be written: {'a folder is there' if target.is_dir() else 'no such folder'}"
        )
    if target.exists() and not force:
        raise OutputExists(f"{target}: exists already; choose another name, or overwrite it by --force")
