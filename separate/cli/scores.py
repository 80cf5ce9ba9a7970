"""What the user sees of scores: a line a song while it goes on, and a table at the end."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from separate.cli.progress import Reporter
from separate.cli.text import one_line
from separate.evaluation.results import Results, summary, write
from separate.metrics.score import Scores, decibels, median, summarise, table

if TYPE_CHECKING:
    from separate.evaluation.run import Outcome

__all__ = ["Tally", "present"]


class Tally:
    """Counts songs as they are scored, and says how long the rest will take."""

    def __init__(self, reporter: Reporter, songs: int) -> None:
        self.reporter = reporter
        self.songs = songs
        self.before = 0  # scored in an earlier run
        self.done = 0
        self.begun = time.monotonic()
        self.update()

    def update(self) -> None:
        """Move the bar."""
        bar = self.reporter.bar
        if bar:
            total = self.songs - self.before
            bar.update(self.reporter.task, description="scoring", completed=self.done, total=total, visible=True)

    def add(self, outcome: Outcome) -> None:
        """Say what became of a song. Failures are said even when quiet."""
        self.before += outcome.before
        self.done += not outcome.before
        self.update()
        if outcome.error:
            self.reporter.print(f"separate: {outcome.error}")
        for note in outcome.notes:
            self.reporter.notice(note)
        if not outcome.error and not outcome.before:
            self.reporter.notice(f"{outcome.track}: {in_short(outcome.scores)}{self.left()}")

    def left(self) -> str:
        """Say how far it is, where no bar does."""
        total = self.songs - self.before
        if self.reporter.bar:
            return ""
        seconds = (time.monotonic() - self.begun) / self.done * (total - self.done)
        rest = f", {duration(seconds)} left" if self.done < total else ""
        return f" ({self.done} of {total}{rest})"

    def close(self) -> None:
        """Say what had been scored before."""
        if self.before:
            self.reporter.notice(f"{self.before} of {self.songs} songs were scored in an earlier run, and are kept")


def duration(seconds: float) -> str:
    """Write a time that nobody knows exactly."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def in_short(scores: Scores) -> str:
    """Write the first metric of each stem."""
    metric = next(iter(next(iter(scores.values()))))
    return f"{metric} " + ", ".join(f"{stem} {decibels(median(frames[metric]))}" for stem, frames in scores.items())


def present(runs: Mapping[Path, Results], *, json_lines: bool, html: Path | None, quiet: bool) -> None:
    """Show results side by side: on stdout a table, or a line of JSON each; and on a page of their own."""
    results = named(runs)
    if html and results:
        from separate.evaluation.report import page

        write(html, page(results))
    if json_lines:
        for result in results:
            print(json.dumps(summary(result)))
    elif results and not quiet:
        show_table(results)


def named(runs: Mapping[Path, Results]) -> list[Results]:
    """Call results what their folder is called, or by its path where several are called so."""
    labels = {folder: one_line(folder.resolve().name) for folder in runs}
    count = Counter(labels.values())
    return [
        replace(result, name=labels[folder] if count[labels[folder]] == 1 else one_line(str(folder)))
        for folder, result in runs.items()
    ]


def show_table(results: list[Results]) -> None:
    """Print medians as papers do, and what they do not count."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heads, rows = table({result.name: result.tracks for result in results})
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        grid.add_column(Text(head), justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        if row[0] and grid.row_count:
            grid.add_row()
        grid.add_row(Text(row[0], "bold"), *map(Text, row[1:]))
    console = Console()
    console.print(grid)
    console.print("\nMedians in dB over songs, of medians over the frames of each song.", highlight=False)
    for result in results:
        console.print(Text(uncounted(result)), soft_wrap=True)


def uncounted(result: Results) -> str:
    """Say what a system's medians are of, and what has no value."""
    first = {stem: next(iter(metrics.values())) for stem, metrics in summarise(result.tracks).items() if metrics}
    empty = ", ".join(f"{stem} {facts.nan}" for stem, facts in first.items() if facts.nan)
    failed = f"; {len(result.failed)} failed" if result.failed else ""
    songs = f"{len(result.tracks)} song{'' if len(result.tracks) == 1 else 's'}"
    return f"{result.name}: {songs}{failed}" + (f"; without a value: {empty}" if empty else "")
