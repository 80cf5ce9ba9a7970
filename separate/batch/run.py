"""A batch: jobs in, results out, and the journal kept between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing

from separate.batch.job import Job, Result
from separate.batch.journal import Journal
from separate.errors import OutputError

__all__ = ["Doer", "run"]

Doer = Callable[[Iterator[Job | None]], Generator[Result | None]]
"""Who does it: `local.run` or `workers.run` with all but the jobs given. None is "nothing at the moment"."""


def run(jobs: Iterable[Job | None], doer: Doer, journal: Journal | None) -> Generator[Result]:
    """Do what is to be done, and yield what became of every job. Jobs are asked for as they can be begun."""
    ready: deque[Result] = deque()  # of jobs that nobody needs to do

    def todo() -> Iterator[Job | None]:
        for job in jobs:
            if job is None or begin(job):
                yield job
            else:
                yield None  # so that what is ready goes out before the next song is done

    def begin(job: Job) -> bool:
        error = job.error
        if job.todo and journal:
            try:
                journal.begin(job)
            except OutputError as problem:
                error = problem
        if error or job.skip:
            ready.append(Result(job, "failed" if error else "skipped", error))
        return not error and not job.skip

    with closing(doer(todo())) as results:
        for result in results:
            if result:
                yield noted(result, journal)
            while ready:
                yield ready.popleft()


def noted(result: Result, journal: Journal | None) -> Result:
    """Write a result into the journal. What cannot be written there cannot be relied on: it failed."""
    if journal:
        try:
            journal.end(result)
        except OutputError as error:
            return Result(result.job, "failed", result.error or error, seconds=result.seconds)
    return result
