"""Processes side by side: what happens when one of them dies, and when."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from multiprocessing import active_children
from pathlib import Path

import pytest

from separate.batch.job import Job, Output
from separate.batch.journal import Interrupted
from separate.batch.workers import Crew, run
from separate.errors import SeparateError
from tests.batch.songs import write_song


def prepare(folder: Path, stillborn: int, dying: int = -1) -> Callable[[int], None]:
    """End a process before it can begin if it is the one of that number, and another one in its song."""
    for number in count():
        try:
            (folder / str(number)).mkdir()
            break
        except FileExistsError:
            continue
    if number == stillborn:
        os.kill(os.getpid(), signal.SIGKILL)
    return lambda done: os.kill(os.getpid(), signal.SIGKILL) if number == dying else None


def crew(tiny: Path, folder: Path, processes: int, stillborn: int, dying: int = -1) -> Crew:
    (folder / "processes").mkdir()
    return Crew(
        ["cpu"] * processes, {"model": str(tiny)}, Output(), folder / "out",
        partial(prepare, folder / "processes", stillborn, dying),
    )  # fmt: skip


def jobs(folder: Path, number: int) -> Iterator[Job]:
    for i in range(number):
        song = write_song(folder / f"{i}.wav")
        yield Job(str(song), {"vocals": folder / "out" / f"{i}.wav"})


@pytest.mark.slow
def test_a_process_that_dies_before_it_can_begin_is_done_without(tiny: Path, tmp_path: Path) -> None:
    """The first one dies in its song, and the third, which takes its place, as it starts: the second does the rest."""
    said: list[str] = []
    given: list[str] = []

    def as_long_as_it_takes() -> Iterator[Job]:
        for job in jobs(tmp_path, 2000):
            if len(given) > 4 and said:
                return
            given.append(job.song)
            yield job

    results = run(
        as_long_as_it_takes(), crew(tiny, tmp_path, 2, stillborn=2, dying=0), notice=said.append,
        progress=lambda job: lambda done, total: None,
    )  # fmt: skip
    done = [result for result in results if result]
    assert sorted(result.song for result in done) == sorted(given)
    (failed,) = [result for result in done if result.error]
    assert isinstance(failed.error, Interrupted)
    assert said == ["a process of --jobs ended before it could begin (Killed); try fewer; the others go on"]


@pytest.mark.slow
def test_without_a_process_that_can_begin_there_is_nothing_to_go_on_with(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SeparateError, match=r"ended before it could begin \(Killed\); try fewer$"):
        list(run(
            jobs(tmp_path, 5), crew(tiny, tmp_path, 1, stillborn=0), notice=print,
            progress=lambda job: lambda done, total: None,
        ))  # fmt: skip


@pytest.mark.slow
def test_a_process_that_was_ended_while_it_had_nothing_to_do_costs_no_song(tiny: Path, tmp_path: Path) -> None:
    first, second = jobs(tmp_path, 2)

    def arriving() -> Iterator[Job]:
        yield first
        (idle,) = active_children()
        idle.kill()
        idle.join()
        yield second

    results = run(
        arriving(), crew(tiny, tmp_path, 1, stillborn=-1), notice=print, progress=lambda job: lambda done, total: None
    )
    assert [result.status for result in results if result] == ["done", "done"]
