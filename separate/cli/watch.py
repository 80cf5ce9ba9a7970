"""`separate watch FOLDER`: songs that are dropped into a folder are separated."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from separate.cli.options import MANY, Options, option, with_options
from separate.cli.run import check, doer, how_made, mixdown_of, output_of, warn
from separate.errors import InputError, UsageError

if TYPE_CHECKING:
    from separate.batch.job import Job

__all__ = ["watch_command"]

PAUSE = 0.5  # seconds between two looks at the folder
REST_HELP = "A song is complete when nobody has changed it for so long."


@with_options
def watch_command(
    options: Options,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="Where songs will be.", show_default=False)],
    rest: Annotated[float, option(MANY, REST_HELP, metavar="SECONDS", min=0.1)] = 3.0,
) -> int:
    """Separate every song that is in a folder, or is [bold]dropped into it[/bold] later, until Ctrl-C.

    Songs that are done already are left alone, also after a new start; if it or a stem changes, a song is done again.
    """
    check(options)
    if options.out == "-":
        raise UsageError("--out -: what is watched becomes files; choose a folder")
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no such folder to watch")
    if os.path.realpath(options.out) == os.path.realpath(folder):
        raise UsageError(f"--out {options.out}: is the folder that is watched; choose another, in it or elsewhere")

    from separate.audio.url import location
    from separate.batch.existing import Known, sweep
    from separate.batch.journal import Journal, journal_folder
    from separate.batch.plan import Planner
    from separate.batch.preflight import look
    from separate.batch.run import run
    from separate.batch.watch import Arrivals
    from separate.cli.player import with_pages
    from separate.cli.process import interruptible
    from separate.cli.progress import Reporter

    mixdown = mixdown_of(options)
    out, output = location(options.out), output_of(options, mixdown, None)
    planner = Planner(out, options.template, model=options.model, stems=mixdown.names, ext=options.kind)
    arrivals, at_work = Arrivals(folder, out, rest), 0
    reporter = Reporter(quiet=options.quiet, json=options.json, songs=1)

    def arriving(known: Known) -> Iterator[Job | None]:
        nonlocal at_work
        while True:
            arrived = list(arrivals.look())
            planner.forget(arrivals.gone)
            for job in planner.jobs(arrived):
                settled = look(known.settle(job), output)[0]
                if not settled.skip:
                    at_work += 1
                    yield settled
            yield None
            if not os.path.isdir(folder):
                raise InputError(f"{folder}: is gone; there is nothing to watch any more")
            time.sleep(PAUSE)

    with interruptible() as interrupted:
        do = doer(options, output, reporter, interrupted)
        with Journal(journal_folder(out, options.journal), how_made(options), out) as journal, reporter:
            warn(journal.records, reporter)
            sweep(journal.records, out)
            known = Known(out, journal.records, journal.made, options.existing, resume=not options.skip_existing)
            reporter.notice(f"watching {folder}; Ctrl-C ends it")
            try:
                with closing(run(arriving(known), do, journal)) as results:
                    for result in with_pages(results, options, output):
                        reporter.result(result)
                        at_work -= 1
            except KeyboardInterrupt:
                if at_work:
                    raise
    return int(reporter.failed)
