"""What the user sees while songs are separated: bars on a terminal, plain lines anywhere else; all on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from separate.cli.text import clock, one_line

if TYPE_CHECKING:
    from rich.progress import TaskID

    from separate.batch.job import Job, Progress, Result

__all__ = ["Reporter"]

SHOWN = 20  # failures that the summary repeats


class Reporter:
    """A context manager: between its ends there may be bars on the terminal.

    `task` is the bar of all songs; each song that is being separated has one below it.
    """

    def __init__(self, *, quiet: bool, json: bool, songs: int) -> None:
        self.quiet = quiet
        self.json = json  # results as lines of JSON on stdout
        self.songs = songs
        self.tally = Tally()
        self.said: set[str] = set()
        self.bar = None
        self.bars: dict[str, TaskID] = {}  # song -> its bar
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            name, speed = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[speed]}")
            columns = (name, BarColumn(), "{task.percentage:>3.0f}%", speed, TimeRemainingColumn())
            # Lines of JSON that go elsewhere than to the terminal are not written above the bars.
            above, console = sys.stdout.isatty(), Console(stderr=True)
            self.bar = Progress(*columns, console=console, transient=True, redirect_stdout=above)
            self.task: TaskID = self.bar.add_task("", total=None, visible=False, speed="")

    @property
    def failed(self) -> bool:
        """Whether any song failed."""
        return bool(self.tally.failures)

    def __enter__(self) -> Reporter:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def checked(self, songs: int) -> None:
        """Show how many songs have been looked at before the work."""
        if self.bar and self.songs > 1:
            self.bar.update(self.task, description="checking", completed=songs, total=self.songs, visible=True)

    def begin(self, jobs: Sequence[Job]) -> None:
        """Begin the work, of which some may be skipped."""
        self.tally = Tally(jobs)
        if self.bar:
            self.bar.reset(self.task, visible=len(jobs) > 1, total=self.tally.total)
            self.overall()

    def song(self, job: Job) -> Progress:
        """Begin a song; what is returned is told how far it is."""
        bar = self.bar
        if bar is None:
            return lambda done, total: None
        begun, length = time.monotonic(), self.tally.length(job)
        task = self.bars[job.song] = bar.add_task(one_line(os.path.basename(job.song)), total=None, speed="")

        def progress(done: int, total: int | None) -> None:
            share = done / total if total else 0.0
            speed = f"{share * length / max(time.monotonic() - begun, 1e-9):.1f} x" if total else ""
            bar.update(task, completed=done, total=total, speed=speed)
            self.tally.running[job.song] = share * length
            self.overall()

        return progress

    def overall(self) -> None:
        """Move the bar of all songs."""
        if self.bar:
            tally = self.tally
            description = f"{tally.number} of {self.songs} songs"
            self.bar.update(self.task, description=description, completed=tally.completed, speed=f"{tally.speed:.1f} x")

    def result(self, result: Result) -> None:
        """Say what became of a song. Failures are said even when quiet."""
        if self.bar and result.song in self.bars:
            self.bar.remove_task(self.bars.pop(result.song))
        self.tally.add(result)
        self.overall()
        if self.json:
            print(json.dumps(as_json(result)), flush=True)
        if result.error:
            self.print(f"separate: {result.error}")
        elif result.status == "skipped":
            self.notice(f"{result.song}: skipped, its stems are there")
        else:
            speed = result.audio_seconds / max(result.seconds, 1e-9)
            left = f"; {self.tally.number} of {self.songs}{self.tally.left}" if self.songs > 1 else ""
            self.notice(f"{result.song}: done in {result.seconds:.1f} s, {speed:.1f} x real time{where(result)}{left}")

    def summary(self) -> None:
        """Say what became of all songs, if there are several."""
        tally = self.tally
        if self.songs < 2:
            return
        if self.json:
            print(json.dumps(tally.as_json()), flush=True)
        took = f"{clock(tally.audio)} of music in {clock(tally.elapsed)}, {tally.speed:.1f} x real time"
        self.notice(f"done     {tally.done:6}  {took if tally.done else ''}".rstrip())
        self.notice(f"skipped  {tally.skipped:6}  {'their stems are there' if tally.skipped else ''}".rstrip())
        self.notice(f"failed   {len(tally.failures):6}")
        for message in tally.failures[:SHOWN]:
            self.notice(f"    {message}")
        if len(tally.failures) > SHOWN:
            self.notice(f"    and {len(tally.failures) - SHOWN} more: the journal names them")

    def notice(self, message: str) -> None:
        """Say something a user may want to know."""
        if not self.quiet:
            self.print(message)

    def once(self, message: str) -> None:
        """Say what several processes may say, once."""
        if message not in self.said:
            self.said.add(message)
            self.notice(message)

    def print(self, message: str) -> None:
        """Write a line to stderr, above the bars if there are any."""
        if self.bar:
            self.bar.console.print(one_line(message), markup=False, highlight=False, soft_wrap=True)
        else:
            try:
                print(one_line(message), file=sys.stderr, flush=True)
            except BrokenPipeError:
                raise
            except OSError:  # such as a log on a full disk: what cannot be said is not worth a song
                sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (from now on)


class Tally:
    """Counts what is done, in songs and in seconds of music, and foretells how long the rest will take."""

    def __init__(self, jobs: Sequence[Job] = ()) -> None:
        todo = [job for job in jobs if job.todo]
        known = [job.seconds for job in todo if job.seconds is not None]
        self.usual = sum(known) / len(known) if known else 1.0  # length of a song that does not say
        self.total = sum(map(self.length, todo))
        self.begun = time.monotonic()
        self.done = self.skipped = 0
        self.failures: list[str] = []
        self.audio = 0.0  # seconds of music that were separated
        self.finished = 0.0  # seconds of music that are no work any more, in the units of `total`
        self.running: dict[str, float] = {}  # song -> how many seconds of it are separated

    def length(self, job: Job) -> float:
        """Return how long a song is, or songs usually are."""
        return self.usual if job.seconds is None else job.seconds

    def add(self, result: Result) -> None:
        """Count a song."""
        self.running.pop(result.song, None)
        self.done += result.status == "done"
        self.skipped += result.status == "skipped"
        self.audio += result.audio_seconds
        if result.job.todo:
            self.finished += self.length(result.job)
        if result.error:
            self.failures.append(str(result.error))

    @property
    def number(self) -> int:
        """Count the songs of which is known what became of them."""
        return self.done + self.skipped + len(self.failures)

    @property
    def completed(self) -> float:
        """Count the seconds of music behind us, of `total`."""
        return self.finished + sum(self.running.values())

    @property
    def elapsed(self) -> float:
        """Count the seconds since the work began."""
        return time.monotonic() - self.begun

    @property
    def speed(self) -> float:
        """Seconds of music separated in a second."""
        return (self.audio + sum(self.running.values())) / max(self.elapsed, 1e-9)

    @property
    def left(self) -> str:
        """Say how much time the rest will take."""
        rest = self.total - self.completed
        return f", {clock(rest * self.elapsed / self.completed)} left" if self.completed > 0 and rest > 0 else ""

    def as_json(self) -> dict[str, Any]:
        """Sum up in plain data."""
        return {
            "status": "summary",
            "done": self.done,
            "skipped": self.skipped,
            "failed": len(self.failures),
            "audio_seconds": round(self.audio, 6),
            "seconds": round(self.elapsed, 3),
            "x_real_time": round(self.speed, 3),
        }


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
