"""`separate player FOLDER`, `--player`, `--report`: pages to listen to stems, and what is measured of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import isclose, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from separate.cli.text import one_line
from separate.errors import UsageError

if TYPE_CHECKING:
    from separate.batch.job import Job, Output, Result
    from separate.cli.options import Options

__all__ = ["player_command", "with_pages"]

ALIKE = 1e-5  # share of a gain by which it may be another when a song is separated again
FOLDER_HELP = "Stems of a song, or folders of them."
SONG_HELP = "The song itself, to compare. [dim]default: original, mixture or mix in FOLDER[/dim]"


def player_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help=FOLDER_HELP)],
    song: Annotated[Path | None, typer.Option(help=SONG_HELP, metavar="FILE")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.", show_default="FOLDER's name")] = None,
    report: Annotated[bool, typer.Option("--report", help="Measure loudness, write report.json and pictures.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an index.html that is not ours.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> int:
    """Write a page to listen to stems: [bold]index.html[/bold] beside them, one file that needs nothing else.

    Volume, solo, mute, pan, loops, tempo, karaoke, spectrograms. It holds the sound: 1 MB a minute and stem, or less.
    """
    from separate.audio.fileset import one_file
    from separate.player.files import write
    from separate.player.folder import songs_in
    from separate.player.index import write_index

    songs = songs_in(folder)
    if len(songs) > 1 and (song or title):
        raise UsageError(f"{folder}: holds {len(songs)} songs; --song and --title are for the folder of one")
    done, failed = [], False
    for found in songs:
        stems = {name: path for name, path in found.stems.items() if not (song and one_file(song, path))}
        chosen = replace(found, stems=stems or found.stems, original=song or found.original, title=title or found.title)
        try:
            with bar(chosen.title, quiet) as progress:
                paths = write(chosen, report_too=report, force=force, progress=progress)
        except Exception as error:
            if len(songs) == 1:
                raise
            from separate.batch.local import explained

            failed = True
            print(f"separate: {one_line(str(explained(str(found.page.parent), error)))}", file=sys.stderr, flush=True)
            continue
        done.append(chosen)
        say(paths[0], quiet)
    if len(songs) > 1 and done:
        say(write_index(folder, done, force=force), quiet)
    return int(failed)


@contextmanager
def bar(title: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Show how far a page is, on a terminal; yields what is to be told."""
    if quiet or not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(one_line(title)), total=1.0)
        yield lambda share: progress.update(task, completed=share)


def say(path: Path, quiet: bool) -> None:
    """Say where a page is, and how large."""
    if not quiet:
        print(one_line(f"{path}: {path.stat().st_size / 1e6:.1f} MB"), flush=True)


def with_pages(results: Iterator[Result], options: Options, output: Output) -> Iterator[Result]:
    """Add the pages and reports that are asked for, song by song, before each song's result is told."""
    if not options.player and not options.report:
        yield from results
        return
    from separate.audio.url import location
    from separate.batch.journal import journal_folder, read_records
    from separate.batch.local import explained

    # How far stems were turned down that are left as they are is known from earlier runs alone.
    out = location(options.out)
    records = read_records(journal_folder(out, options.journal), out)
    gains = {file: record.gain for file, record in records.done.items()}
    for result in results:
        if not result.error:
            try:
                add_page(result, options, output, gains)
            except Exception as error:
                yield replace(result, status="failed", error=explained(result.song, error))
                continue
        yield result


def add_page(result: Result, options: Options, output: Output, gains: Mapping[str, float]) -> None:
    """Write the page and the report of one song, if it was done just now or has none."""
    from separate.audio.fileset import shown
    from separate.audio.url import is_url, name_below, path_in
    from separate.batch.stamp import is_there
    from separate.player.files import write
    from separate.player.folder import Part, Song

    out, page, outputs = places(result.job, options, output)
    stems = {stem: path for stem, path in outputs.items() if is_there(path)}
    turned = [
        result.gain if stem in result.written else gains.get(name_below(path, out), nan) for stem, path in stems.items()
    ]
    gain = turned[0] if all(isclose(each, turned[0], rel_tol=ALIKE) for each in turned) else None
    whole = None if result.song == "-" or is_url(result.song) else Path(result.song)
    title = "stdin" if result.song == "-" else path_in(result.song).stem
    song = Song(shown(title), stems, page, whole, Part(output.start, output.end, gain))
    wanted = [song.page] * options.player + [song.beside("report.json")] * options.report
    if result.status == "skipped" and all(path.exists() for path in wanted):
        return
    extra: dict[str, object] = {"model": options.model, "gain": gain}
    if result.status == "done":
        extra |= {"times_real_time": round(result.audio_seconds / max(result.seconds, 1e-9), 2)}
    write(song, player=options.player, report_too=options.report, extra=extra, force=options.force)


def places(job: Job, options: Options, output: Output) -> tuple[Path, Path, dict[str, Path]]:
    """Name the output folder, a song's page, and the files of all its stems: a job has only those that were missing."""
    from separate.audio.url import location, path_in
    from separate.batch.plan import Planner
    from separate.player.folder import page_name

    out = Path(str(location(options.out)))  # pages are for this machine, where file:// is a path too
    planner = Planner(out, options.template, model=options.model, stems=output.mixdown.names, ext=options.kind)
    outputs = planner.job(job.song, job.track).outputs
    page = page_name(options.template, **planner.fields, track=job.track, suffix=path_in(job.song).suffix[1:])
    return out, out / page, {stem: Path(str(place)) for stem, place in outputs.items()}
