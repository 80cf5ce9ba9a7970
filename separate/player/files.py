"""The files of a page and a report: which ones, and that they replace nothing but their own kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from separate.audio.fileset import FileSet, output_error, shown
from separate.errors import OutputExists
from separate.player.folder import Song
from separate.player.page import page
from separate.player.report import GENERATOR, encoded, pictures, report
from separate.player.tracks import listen

__all__ = ["write"]

HEAD = 1000  # bytes of a file in which ours say whose they are


def write(
    song: Song,
    *,
    player: bool = True,
    report_too: bool = False,
    extra: dict[str, Any] | None = None,
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Path]:
    """Write the page of a song, or its report and pictures, or all of them, and return the paths, the first one first.

    What an earlier call wrote is replaced.

    Raises:
        InputError: a file is no stem of this song.
        OutputExists: a file is there that is not ours, and `force` is not given.
        OutputError: a file cannot be written.
    """
    names = [*song.stems, *(["original"] if song.original else [])]
    paths = {"page": song.page} if player else {}
    if report_too:
        paths |= {"report": song.beside("report.json")}
        paths |= {f"picture of {name}": song.beside(f"{name}.png") for name in names}
    if not force:
        for path in paths.values():
            check_ours(path)
    heard = listen(song, sound=player, loudness=report_too, progress=progress)
    facts = report(song, heard, extra or {}) if report_too else None
    contents: dict[str, bytes] = {}
    if player:
        contents["page"] = page(song, heard, facts)
    if facts:
        contents["report"] = encoded(facts)
        contents |= {f"picture of {name}": picture for name, picture in pictures(heard).items()}
    store(paths, contents)
    return list(paths.values())


def check_ours(path: Path) -> None:
    """Refuse to replace what somebody else made."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise output_error(path, error) from error
    if GENERATOR.encode() not in head:
        raise OutputExists(f"{shown(path)}: is there already, and separate did not make it; --force replaces it")


def store(paths: dict[str, Path], contents: dict[str, bytes]) -> None:
    """Write files, all or none."""
    files = FileSet(paths, force=True)
    try:
        for name, content in contents.items():
            try:
                files.temporary[name].write_bytes(content)
            except OSError as error:
                raise output_error(paths[name], error) from error
        files.commit()
    except BaseException:
        files.remove()
        raise
