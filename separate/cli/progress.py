"""What the user sees while songs are separated: a bar on a terminal, plain lines anywhere else; all on stderr."""

from __future__ import annotations

import json
import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from separate.cli.text import one_line

if TYPE_CHECKING:
    from rich.progress import TaskID

    from separate.batch.local import Progress, Result
    from separate.batch.plan import Job

__all__ = ["Reporter"]


class Reporter:
    """A context manager: between its ends there may be a bar on the terminal."""

    def __init__(self, *, quiet: bool, json: bool, songs: int) -> None:
        self.quiet = quiet
        self.json = json  # results as lines of JSON on stdout
        self.failed = False
        self.songs = songs
        self.number = 0
        self.bar = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), "{task.percentage:>3.0f}%")
            self.bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
            self.task: TaskID = self.bar.add_task("", total=None, visible=False)

    def __enter__(self) -> Reporter:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def song(self, job: Job) -> Progress:
        """Begin a song; what is returned is told how far it is."""
        self.number += 1
        bar = self.bar
        if bar is None:
            return lambda done, total: None
        count = f"[{self.number}/{self.songs}] " if self.songs > 1 else ""
        bar.reset(self.task, description=count + one_line(os.path.basename(job.song)), total=None, visible=True)
        return lambda done, total: bar.update(self.task, completed=done, total=total)

    def result(self, result: Result) -> None:
        """Say what became of a song. Failures are said even when quiet."""
        if self.json:
            print(json.dumps(as_json(result)), flush=True)
        if result.error:
            self.failed = True
            self.print(f"separate: {result.error}")
        elif result.status == "skipped":
            self.notice(f"{result.song}: skipped, its stems are there")
        else:
            speed = result.audio_seconds / max(result.seconds, 1e-9)
            self.notice(f"{result.song}: done in {result.seconds:.1f} s, {speed:.1f} x real time{where(result)}")

    def notice(self, message: str) -> None:
        """Say something a user may want to know."""
        if not self.quiet:
            self.print(message)

    def print(self, message: str) -> None:
        """Write a line to stderr, above the bar if there is one."""
        if self.bar:
            self.bar.console.print(one_line(message), markup=False, highlight=False, soft_wrap=True)
        else:
            print(one_line(message), file=sys.stderr, flush=True)


def where(result: Result) -> str:
    """Say where a song's stems are."""
    folders = {str(path.parent) for path in result.outputs.values()}
    return f" -> {folders.pop()}" if len(folders) == 1 else ""


def as_json(result: Result) -> dict[str, Any]:
    """Say in plain data what became of a song."""
    return {
        "song": result.song,
        "status": result.status,
        "outputs": {stem: str(path) for stem, path in result.outputs.items()},
        "error": None if result.error is None else str(result.error),
        "audio_seconds": round(result.audio_seconds, 6),
        "seconds": round(result.seconds, 3),
        "gain": result.gain,
    }
