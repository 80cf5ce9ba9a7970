"""Who does it: workers anywhere in a Ray cluster, each with a model of its own.

Ray knows the machines, starts processes on them, and says which have died. Songs are handed out one by one, of a small
window the longest first, so that nobody waits for a long one at the end. For the next song is asked when there is room
in the window: there may be millions.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from separate import __version__
from separate.audio.fileset import output_error, shown
from separate.batch.cluster import (
    PATIENCE,
    RayError,
    Share,
    choose_share,
    connected,
    connection_stands,
    machines,
    metrics,
    ray,
    reason,
)
from separate.batch.existing import clean, drop_parts
from separate.batch.job import Job, Notice, Output, Result
from separate.batch.journal import Interrupted
from separate.errors import CheckpointError, OutputError, SeparateError, UsageError

__all__ = ["Crew", "run"]

LOOK = 5.0  # seconds between two looks at what machines there are
BEAT = 1.0  # seconds to wait for results at a time
FAILED = 3  # workers that cannot begin, until we give up


@dataclass(frozen=True)
class Crew:
    """Who works, and how."""

    address: str  # "local": a cluster of this machine alone; "auto": the one that RAY_ADDRESS names, or runs here
    settings: dict[str, Any]  # of each worker's Separator, but for the device
    output: Output
    folder: Path | None = None  # where stems go, if all machines have to see it
    checkpoint: str = ""  # its hash, which it must have everywhere; "" if nobody cares
    device: str = "auto"  # "cuda" or "cpu"
    per_gpu: int = 1
    retries: int = 2  # how often a song is tried again whose worker was lost
    # Is called in each worker first, and what it returns is told how much of a song is done; a function of a module.
    prepare: Callable[[], Callable[[int], None]] = lambda: lambda done: None
    version: str = __version__


class Worker:
    """A Separator in a process somewhere, as it is there. Ray calls its methods from elsewhere."""

    def __init__(self, crew: Crew, share: Share, home: str, probe: Path | None) -> None:
        self.crew, self.share, self.home, self.probe = crew, share, home, probe
        self.said: list[str] = []

    def begin(self) -> tuple[SeparateError | None, list[str]]:
        """Make the Separator; return why there is none, and what there is to say. What is raised Ray would wrap."""
        with contextlib.suppress(OSError):
            os.chdir(self.home)  # names may begin where the command was typed
        try:
            self.check(socket.gethostname())
            self.tidy = self.crew.prepare()
            self.make()
        except SeparateError as error:
            return error, self.heard()
        return None, self.heard()

    def check(self, host: str) -> None:
        """Refuse a machine that would do something else than the others, or elsewhere."""
        if self.crew.version != __version__:
            raise UsageError(f"{host} has separate {__version__}, not {self.crew.version}: install the same everywhere")
        if self.probe and not self.probe.exists():
            raise OutputError(
                f"{shown(self.probe.parent)}: is not the same folder on {host}: with --cluster all machines "
                "have to see it; choose one that they share, or a URL"
            )

    def make(self) -> None:
        """Make the Separator."""
        import torch

        from separate.audio.uploads import remove_leftovers
        from separate.checkpoints.resolve import resolve
        from separate.checkpoints.weights import fingerprint
        from separate.separator import Separator

        model = self.crew.settings["model"]
        if self.crew.checkpoint and fingerprint(resolve(model)) != self.crew.checkpoint:
            raise CheckpointError(f"{model}: is another checkpoint on {socket.gethostname()}; copy ours there")
        remove_leftovers()  # of workers that were lost on this machine
        torch.set_num_threads(self.share.threads)
        device = "cuda" if self.share.gpus else "cpu"
        self.separator = Separator(**self.crew.settings, device=device, say=self.said.append)
        self.songs = metrics.Counter("separate_songs", "Songs that are done")
        self.failures = metrics.Counter("separate_failures", "Songs that failed")
        self.music = metrics.Counter("separate_audio_seconds", "Seconds of music that are separated")
        self.seconds = metrics.Histogram(
            "separate_song_seconds", "Seconds that a song takes", [1, 3, 10, 30, 100, 300, 1000]
        )

    def do(self, job: Job) -> tuple[Result, list[str]]:
        """Do a job; return what became of it, and what there is to say."""
        from separate.batch.local import attempt

        result = attempt(job, self.separator, self.crew.output, self.said.append, lambda done, total: self.tidy(done))
        (self.failures if result.error else self.songs).inc()
        if result.audio_seconds:
            self.music.inc(result.audio_seconds)
        self.seconds.observe(result.seconds)
        return result, self.heard()

    def heard(self) -> list[str]:
        """Hand over what was said since the last time."""
        said, self.said = self.said, []
        return said


@dataclass
class Task:
    """A job, and how often its worker was lost."""

    job: Job
    lost: int = 0


class Team:
    """All workers, as seen from the one who hands out the songs."""

    def __init__(self, crew: Crew, notice: Notice, probe: Path | None) -> None:
        self.crew = crew
        self.notice = notice
        self.share = choose_share(machines(), crew.device, crew.per_gpu, os.environ.get("OMP_NUM_THREADS", ""))
        self.hire = partial(
            ray.remote(Worker).options(num_cpus=self.share.cpus, num_gpus=self.share.gpus).remote,
            crew, self.share, os.getcwd(), probe,
        )  # fmt: skip
        self.starting: dict[Any, Any] = {}  # what Ray will say -> the worker
        self.busy: dict[Any, tuple[Any, Task]] = {}
        self.idle: list[Any] = []
        self.unfit: list[Any] = []  # they keep their places, or others would begin there
        self.waiting: list[tuple[float, int, Task]] = []  # a heap, the longest song first
        self.numbers = count()
        self.said: set[str] = set()
        self.left: set[Path] = set()  # folders in which a worker may have left something
        self.room, self.looked = 0, -LOOK
        self.failed, self.again = 0, 0.0  # workers that could not begin; when to try the next
        self.since = time.monotonic()

    @property
    def ready(self) -> int:
        """Count the workers that can do something."""
        return len(self.idle) + len(self.busy)

    @property
    def eager(self) -> bool:
        """Tell whether the window has room for more songs."""
        return len(self.waiting) < 8 + 2 * (self.ready + len(self.starting)) and not (self.waiting and self.idle)

    def add(self, task: Task) -> None:
        """Take a song into the window."""
        heapq.heappush(self.waiting, (-size(task.job), next(self.numbers), task))

    def give(self) -> None:
        """Hand out songs, and hire for those that are left."""
        while self.waiting and self.idle:
            worker, (_, _, task) = self.idle.pop(), heapq.heappop(self.waiting)
            self.busy[worker.do.remote(task.job)] = (worker, task)
        now = time.monotonic()
        if now >= self.looked + LOOK:
            self.room, self.looked = sum(map(self.share.fits, machines())), now
            if self.crew.address == "local" and not (self.room or self.starting or self.busy):
                raise no_room(self.share)
        # More than there is room for makes Ray start machines, where it may.
        ahead = 0 if self.crew.address == "local" else max(1, self.ready)
        wanted = min(len(self.waiting), self.room + ahead - self.ready - len(self.unfit)) - len(self.starting)
        if now >= self.again:
            for _ in range(wanted):
                hired: Any = self.hire()
                self.starting[hired.begin.remote()] = hired
        if not self.ready and now > self.since + 3 * PATIENCE:
            self.since = math.inf
            self.notice(f"no worker has begun yet; each needs {self.share}, and the cluster has room for {self.room}")

    def hear(self, seconds: float) -> Iterator[Result]:
        """Take in what workers say, waiting for the first one; yield what became of songs."""
        if not self.starting and not self.busy:
            time.sleep(seconds)
            return
        refs = [*self.starting, *self.busy]
        if ray.wait(refs, timeout=seconds)[0]:
            for ref in ray.wait(refs, num_returns=len(refs), timeout=0)[0]:
                if ref in self.starting:
                    self.begun(self.starting.pop(ref), ref)
                elif result := self.ended(*self.busy.pop(ref), ref):
                    yield result

    def begun(self, worker: Any, ref: Any) -> None:
        """Take a worker in, if it could begin."""
        try:
            problem, said = ray.get(ref)
        except RayError as error:
            dismiss(worker)
            problem = SeparateError(f"a worker of the cluster ended before it could begin ({reason(error)})")
        else:
            for message in said:
                if message not in self.said:  # all workers say the same of a checkpoint
                    self.said.add(message)
                    self.notice(message)
            if not problem:
                self.failed = 0
                self.idle.append(worker)
                return
            self.unfit.append(worker)
        self.failed += 1
        if not self.ready and self.failed >= min(FAILED, self.room):
            raise problem
        self.notice(f"{problem}; others go on")
        self.again = time.monotonic() + PATIENCE

    def ended(self, worker: Any, task: Task, ref: Any) -> Result | None:
        """Hear what became of a song. If its worker was lost, another one gets it, but not again and again."""
        try:
            result, said = ray.get(ref)
        except RayError as error:
            dismiss(worker)
            return self.lost(task, reason(error))
        self.idle.append(worker)
        for message in said:
            self.notice(message)
        return result  # type: ignore[no-any-return]

    def lost(self, task: Task, why: str) -> Result | None:
        """Have a song tried again, or give it up."""
        task.lost += 1
        song = shown(task.job.song)
        self.tidy(task.job)
        if task.lost > self.crew.retries:
            times = f"{task.lost} workers ended over it" if task.lost > 1 else "its worker ended"
            error = Interrupted(f"{song}: given up, {times} ({why}); --resume tries it once more")
            return Result(task.job, "failed", error)
        self.notice(f"{song}: its worker was lost ({why}), another one tries")
        task.job = replace(task.job, replace=True)  # some of its stems may be there
        self.add(task)
        return None

    def tidy(self, job: Job) -> None:
        """Remove what a lost worker had not completed: now, or, where others have such files too, at the end."""
        shared = {self.crew.folder, *(folder for _, task in self.busy.values() for folder in folders(task.job))}
        for folder in folders(job):
            if folder in shared:
                self.left.add(folder)
            else:
                with contextlib.suppress(OSError):
                    drop_parts(folder)

    def send_home(self) -> None:
        """Do without the workers that have not begun."""
        for worker in self.starting.values():
            dismiss(worker)
        self.starting.clear()

    def end(self) -> None:
        """Have all workers end, and remove what they had not completed."""
        workers = [*self.starting.values(), *self.idle, *self.unfit, *(worker for worker, _ in self.busy.values())]
        for worker in workers if connection_stands() else ():
            dismiss(worker)
        if self.busy and connection_stands():
            ray.wait([*self.busy], num_returns=len(self.busy), timeout=PATIENCE)  # then they write no more
        for _, task in self.busy.values():
            self.left |= folders(task.job)
        clean(self.left, self.crew.folder)


def run(
    jobs: Iterator[Job | None], crew: Crew, *, notice: Notice, working: Callable[[int], None] = lambda workers: None
) -> Generator[Result | None]:
    """Do the jobs in a cluster, yielding what became of each as it is done. `working` is told how many work at it.

    A job that is None stands for "nothing at the moment"; so does a result. What keeps all workers from beginning is
    raised.
    """
    with connected(crew.address), probing(crew.folder) as probe:
        team, more = Team(crew, notice, probe), True
        try:
            while more or team.waiting or team.busy:
                pause = False
                while more and not pause and team.eager:
                    try:
                        job = next(jobs)
                    except StopIteration:
                        more = False
                        break
                    if job:
                        team.add(Task(job))
                    else:
                        pause = True
                        yield None
                if not connection_stands():
                    raise ConnectionError("it does not answer any more")
                team.give()
                if not more and not team.waiting:
                    team.send_home()
                yield from team.hear(0 if pause else BEAT)
                working(team.ready)
        finally:
            team.end()


@contextlib.contextmanager
def probing(folder: Path | None) -> Iterator[Path | None]:
    """Have a file in the output folder by which others can tell that theirs is the same."""
    if folder is None:
        yield None
        return
    probe = folder.absolute() / f".{secrets.token_hex(6)}.part"  # is removed like all that was left, if we are killed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        yield probe
    finally:
        probe.unlink(missing_ok=True)


def no_room(share: Share) -> UsageError:
    """Say that this machine alone cannot hold a worker: no other will ever join it."""
    here = " and ".join(f"{each[kind]:g} {kind}" for each in machines() for kind in ("GPU", "CPU") if kind in each)
    remedy = "choose --device cpu" if share.gpus else "set OMP_NUM_THREADS to less"
    return UsageError(f"--cluster local: a worker needs {share}, and this machine has {here or 'neither'}; {remedy}")


def dismiss(worker: Any) -> None:
    """Have a worker end at once."""
    with contextlib.suppress(RayError):
        ray.kill(worker)


def folders(job: Job) -> set[Path]:
    """List the folders that a song's stems go to, if that is not at URLs."""
    return {path.parent for path in job.outputs.values() if isinstance(path, Path)}


def size(job: Job) -> float:
    """Guess how long a song takes."""
    try:
        return job.seconds or os.path.getsize(job.song)
    except (OSError, ValueError):  # whoever gets it says why
        return 0
