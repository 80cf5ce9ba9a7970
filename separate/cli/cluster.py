"""`--cluster`: the songs of a library go to a Ray cluster."""

from __future__ import annotations

import json
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from separate.cli.progress import Reporter, as_json
from separate.cli.run import how_made, resuming, settings_of, warn
from separate.cli.text import clock
from separate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from separate.batch.job import Output, Result
    from separate.batch.run import Doer
    from separate.cli.options import Options

__all__ = ["check_cluster", "cluster_doer", "separate_library"]

PAUSE = 10.0  # seconds between two lines of progress, where there is no terminal


def check_cluster(options: Options) -> None:
    """Refuse options that mean something on one machine only."""
    if not options.cluster:
        raise UsageError('--cluster "": no address; auto finds a cluster that runs here, local is this machine alone')
    if options.out == "-":
        raise UsageError("--out - and --cluster: the stems come from other machines; choose a folder or a URL")
    if options.jobs:
        raise UsageError("--jobs and --cluster: there it is --per-gpu that says how many work at once")
    if options.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {options.device} and --cluster: Ray hands out the devices; auto, cpu or cuda")
    if options.player or options.report:
        raise UsageError("--player, --report and --cluster: make pages later, with `separate player`")


def cluster_doer(
    options: Options,
    output: Output,
    notice: Callable[[str], None],
    working: Callable[[int], None] = lambda workers: None,
) -> Doer:
    """Get those ready who separate, wherever they are."""
    from separate.audio.url import location
    from separate.batch import ray
    from separate.cli.process import settle

    out = location(options.out)
    crew = ray.Crew(
        address=options.cluster or "auto",
        settings=settings_of(options),
        output=output,
        folder=out if isinstance(out, Path) else None,
        checkpoint=how_made(options)["checkpoint"],
        device=options.device,
        per_gpu=options.per_gpu,
        retries=options.retries,
        prepare=settle,
    )
    return partial(ray.run, crew=crew, notice=notice, working=working)


def separate_library(names: Iterable[str], stems: Iterable[str], options: Options, output: Output) -> int:
    """Separate the songs of a library, however many; return the exit code."""
    from separate.audio.url import location
    from separate.batch.existing import Known, sweep
    from separate.batch.inputs import songs
    from separate.batch.journal import Journal, journal_folder
    from separate.batch.library import Library
    from separate.batch.plan import Planner
    from separate.batch.run import run
    from separate.cli.process import interruptible

    names = list(names)
    if "-" in names:
        raise UsageError("- and --cluster: other machines cannot read our standard input; name a file")
    out = location(options.out)
    library = Library(Planner(out, options.template, model=options.model, stems=tuple(stems), ext=options.kind))
    reporter = Overview(quiet=options.quiet, json=options.json, songs=0)
    with interruptible():
        do = cluster_doer(options, output, reporter.notice, reporter.working)
        for name in names:
            library.add(songs(name, out))
        reporter.songs = len(library)
        reporter.notice(f"{len(library)} songs found")
        with Journal(journal_folder(out, options.journal), how_made(options), out) as journal, reporter:
            warn(journal.records, reporter)
            sweep(journal.records, out)
            known = Known(out, journal.records, journal.made, options.existing, options.resume)
            reporter.begin(())
            try:
                with closing(run(library.jobs(known.settle), do, journal)) as results:
                    for result in results:
                        reporter.result(result)
                        journal.forget(result.job)
            except KeyboardInterrupt:
                reporter.notice(f"{reporter.state}; go on with: {resuming()}")
                raise
            reporter.summary()
    return int(reporter.failed)


class Overview(Reporter):
    """Says how all machines together are getting on: a line now and then, or a bar, and no line for every song."""

    workers = 0
    said_at = 0.0

    def working(self, workers: int) -> None:
        """Take in how many workers there are; called again and again."""
        self.workers = workers
        self.overall()
        if not self.bar and time.monotonic() >= self.said_at + PAUSE:
            self.said_at = time.monotonic()
            self.notice(self.state)

    def result(self, result: Result) -> None:
        """Say what became of a song, to those who want to know of each."""
        self.tally.add(result)
        # Lengths are not known before, so songs are counted as alike: those that are work.
        self.tally.total = self.songs - (self.tally.number - self.tally.finished)
        if self.json:
            print(json.dumps(as_json(result)), flush=True)
        if result.error:
            self.print(f"separate: {result.error}")

    def overall(self) -> None:
        """Move the bar."""
        if self.bar:
            self.bar.update(
                self.task, description=self.state, total=self.tally.total, completed=self.tally.completed, visible=True
            )

    @property
    def state(self) -> str:
        """Sum up how far it is."""
        tally = self.tally
        music = f"{clock(tally.audio)} of music, {tally.speed:.1f} x real time"
        failed = f", {len(tally.failures)} failed" if tally.failures else ""
        return f"{tally.number} of {self.songs} songs, {music}{failed}, {self.workers} workers{self.ending}"

    @property
    def ending(self) -> str:
        """Say when it will be done, as far as that can be known."""
        rest = self.tally.total - self.tally.completed
        if not self.tally.completed or rest <= 0:
            return ""
        end = time.time() + rest * self.tally.elapsed / self.tally.completed
        return f"{self.tally.left}, until {time.strftime('%a %H:%M', time.localtime(end))}"
