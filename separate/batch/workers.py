"""Who does it: several processes, each with a model of its own. A song that brings one down fails, the others go on.

A process gets one job after the other through a pipe, and answers with notices, progress and results. When this
process is gone, however that happens, the others end at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from separate.audio.fileset import shown
from separate.audio.url import Location
from separate.batch.existing import clean
from separate.batch.job import Job, Notice, Output, Progress, Result
from separate.batch.journal import Interrupted
from separate.errors import SeparateError

__all__ = ["Crew", "run"]


class NeverReady(SeparateError):
    """A process ended before it could begin."""


@dataclass(frozen=True)
class Crew:
    """Who works, and how: one process on each of `devices`, which share the processors."""

    devices: Sequence[str]
    settings: dict[str, Any]  # of each one's Separator, but for the device
    output: Output
    folder: Location  # that stems go to
    # Is called in each process first, and what it returns is told how much of a song is done; a function of a module.
    prepare: Callable[[], Callable[[int], None]] = lambda: lambda done: None


class Worker:
    """A process, as seen from the one that started it."""

    def __init__(self, crew: Crew, device: str) -> None:
        context = get_context("spawn")  # after a fork neither CUDA nor the threads of libraries go on
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, crew, device), daemon=True)
        self.process.start()
        theirs.close()
        self.device = device
        self.ready = False  # whether its Separator stands
        self.job: Job | None = None
        self.progress: Progress = lambda done, total: None

    def give(self, job: Job, progress: Progress) -> None:
        """Have it do a job."""
        self.job, self.progress = job, progress
        with contextlib.suppress(OSError):  # it is dead: `hear` will tell
            self.pipe.send(job)

    def hear(self, notice: Notice) -> Result | None:
        """Take in all that it has said; return what became of its job, if that is among it."""
        while True:
            try:
                kind, value = self.pipe.recv()
            except (EOFError, OSError):
                return self.died()
            if kind == "notice":
                notice(value)
            elif kind == "progress":
                self.progress(*value)
            elif kind == "refused":
                raise value
            elif kind == "ready":
                self.ready = True
            else:
                self.job = None
                return value  # type: ignore[no-any-return]
            if not self.pipe.poll():
                return None

    def died(self) -> Result:
        """Blame its job for its end."""
        assert self.job is not None
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        how = signal.strsignal(-code) if code < 0 else f"exit code {code}"
        if not self.ready:
            raise NeverReady(f"a process of --jobs ended before it could begin ({how}); try fewer")
        memory = "; if memory ran out, try fewer --jobs" if code == -signal.SIGKILL else ""
        song = shown(self.job.song)
        return Result(self.job, "failed", Interrupted(f"{song}: its process ended unexpectedly ({how}){memory}"))


def run(
    jobs: Iterator[Job | None], crew: Crew, *, notice: Notice, progress: Callable[[Job], Progress]
) -> Generator[Result | None]:
    """Do the jobs, one in each process, yielding what became of each as it is done.

    A job that is None stands for "nothing at the moment"; so does a result. What keeps a process from making its
    Separator is raised. If one ends before that, it is done without, as long as there are others.
    """
    workers: list[Worker] = []
    devices = list(crew.devices)  # on which no process works yet
    left: set[Location] = set()  # folders in which a process may have left something
    again: dict[str, Progress] = {}  # of songs whose processes ended before they could begin
    more, able = True, False  # whether there may be more jobs; whether a process could begin
    try:
        while more or any(worker.job for worker in workers):
            idle = False
            while more and not idle and (devices or not all(worker.job for worker in workers)):
                try:
                    job = next(jobs)
                except StopIteration:
                    more = False
                    break
                if not job:
                    idle = True
                    yield None
                    continue
                show = again.pop(job.song) if job.song in again else progress(job)
                free(workers, devices, crew).give(job, show)
            busy = [worker.pipe for worker in workers if worker.job]
            for pipe in wait(busy, 0 if idle or not busy else None):  # for nobody it would wait for ever
                worker = next(each for each in workers if each.pipe is pipe)
                try:
                    result = worker.hear(notice)
                except NeverReady as error:
                    workers.remove(worker)
                    if not able or not (workers or devices):
                        raise
                    notice(f"{error}; the others go on")
                    assert worker.job
                    again[worker.job.song] = worker.progress
                    jobs, more = chain([worker.job], jobs), True
                    continue
                able |= worker.ready
                if result and worker.job:  # it is dead
                    left |= {path.parent for path in result.job.outputs.values()}
                    workers.remove(worker)
                    devices.append(worker.device)
                if result:
                    yield result
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            left |= {path.parent for path in worker.job.outputs.values()} if worker.job else set()
        clean(left, crew.folder)


def free(workers: list[Worker], devices: list[str], crew: Crew) -> Worker:
    """Find a process that has nothing to do, or start one. Those that were ended while they had nothing to do go."""
    for worker in [each for each in workers if not each.job and not each.process.is_alive()]:
        workers.remove(worker)
        devices.append(worker.device)
    if all(worker.job for worker in workers):
        workers.append(Worker(crew, devices.pop(0)))
    return next(worker for worker in workers if not worker.job)


def work(pipe: Connection, crew: Crew, device: str) -> None:
    """Be a worker: make a Separator, then do what comes through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody: the one who started us decides
    threading.Thread(target=end_with_parent, daemon=True).start()
    tidy = crew.prepare()

    import torch

    from separate.batch.local import attempt
    from separate.separator import Separator

    speaking = threading.Lock()  # what the separator says comes from a thread of its own

    def say(kind: str, *value: Any) -> None:
        with speaking:
            pipe.send((kind, value[0] if len(value) == 1 else value))

    def progress(done: int, total: int | None) -> None:
        tidy(done)
        say("progress", done, total)

    torch.set_num_threads(max(1, torch.get_num_threads() // len(crew.devices)))
    try:
        separator = Separator(**crew.settings, device=device, say=lambda message: say("notice", message))
    except SeparateError as error:
        say("refused", error)
        return
    say("ready", None)
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        result = attempt(job, separator, crew.output, lambda message: say("notice", message), progress)
        say("result", result)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, even if it was killed."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
