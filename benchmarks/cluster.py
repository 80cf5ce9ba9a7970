"""What handing songs to a Ray cluster costs, against doing them here.

    python -m benchmarks.cluster [CHECKPOINT] [--songs 8] [--length 20] [--rounds 2] [--tasks 10000]

First the same songs with the same number of threads: here, and by one worker of a local cluster, in turns. The time
between two results is compared, so that neither the start of Ray nor the loading of the model counts; what a worker
does not spend on a song itself is the overhead.

Then tiny songs for workers whose separator does nothing: what remains is the command's own work for each song, that is
the plan on disk, the journal, and Ray. Its memory must not grow. Last, how long Ray takes to look at many workers.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.memory import synthesise
from separate.batch import ray
from separate.batch.cluster import ray as engine
from separate.batch.existing import Known
from separate.batch.inputs import songs
from separate.batch.job import Job, Output, Result
from separate.batch.journal import Journal
from separate.batch.library import Library
from separate.batch.local import run as run_here
from separate.batch.plan import Planner
from separate.batch.run import Doer, run
from separate.batch.stamp import stamp

MADE = {"checkpoint": "", "options": {}}


@contextmanager
def machine(processors: int) -> Iterator[str]:
    """Start a cluster of one machine; yield its address."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    memory = 80 * 2**20
    cluster: Any = Cluster(
        True, head_node_args={"num_cpus": processors, "object_store_memory": memory, "include_dashboard": False}
    )
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def batch(music: Path, out: Path, stems: tuple[str, ...], doer: Doer) -> Iterator[tuple[float, Result]]:
    """Separate a folder as the command does; yield when each song was done, and what became of it."""
    library = Library(Planner(out, "{track}/{stem}.{ext}", model="x", stems=stems, ext="wav"))
    library.add(songs(str(music), out))
    with Journal(out, MADE) as journal:
        known = Known(out, journal.records, journal.made, "refuse")
        with closing(run(library.jobs(known.settle), doer, journal)) as results:
            for result in results:
                assert not result.error, result.error
                yield time.monotonic(), result
                journal.forget(result.job)
    shutil.rmtree(out)


def compare(model: str, length: float, number: int, rounds: int, threads: int) -> None:
    """Do the same songs here and in a cluster, in turns."""
    import torch

    from separate.cli.process import tune
    from separate.separator import Separator

    tune()
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    separator = Separator(model, device="cpu", precision="float32")
    between: dict[str, list[float]] = {"here": [], "cluster": []}
    itself: dict[str, list[float]] = {"here": [], "cluster": []}
    with tempfile.TemporaryDirectory() as folder, machine(threads) as address:
        music, out = Path(folder, "music"), Path(folder, "out")
        music.mkdir()
        for song in range(number):
            synthesise(music / f"{song}.wav", length / 60)
        settings = {"model": model, "precision": "float32"}
        crew = ray.Crew(address, settings, Output(), out, device="cpu", prepare=tune)
        doers: dict[str, Doer] = {
            "here": lambda jobs: run_here(jobs, separator, Output()),
            "cluster": lambda jobs: ray.run(jobs, crew, notice=lambda message: None),
        }
        for _ in range(rounds):
            for name, doer in doers.items():
                done = list(batch(music, out, separator.sources, doer))
                between[name] += [after - before for (before, _), (after, _) in pairwise(done)]
                itself[name] += [result.seconds for _, result in done[1:]]
    print(f"{number} songs of {length:g} s, {threads} threads, {rounds} rounds\n")
    print(f"{'':10} {'seconds a song':>15} {'of which overhead':>18} {'x real time':>12}")
    for name, times in between.items():
        lost = mean(times) - mean(itself[name])
        print(f"{name:10} {median(times):15.3f} {lost:18.4f} {length / median(times):12.1f}")
    ratio = median(between["here"]) / median(between["cluster"])
    share = mean(itself["cluster"]) / mean(between["cluster"])
    print(f"songs a second, cluster against here: {ratio:.3f}")
    print(f"share of its time that the worker spends on songs: {share:.4f}\n", flush=True)


class Idler(ray.Worker):
    """A worker that separates nothing: it says of the song itself that it were its stems."""

    def make(self) -> None:
        """Do without a Separator."""

    def do(self, job: Job) -> tuple[Result, list[str]]:
        """Say that it is done."""
        version = stamp(job.song)
        return Result(job, "done", audio_seconds=1.0, input=version, written=dict.fromkeys(job.outputs, version)), []


def idle(tasks: int) -> None:
    """Hand out songs to workers that do nothing; print time and memory of the one who hands them out."""
    ray.Worker = Idler  # type: ignore[misc]
    stems = ("vocals", "drums", "bass", "other")
    with tempfile.TemporaryDirectory() as folder, machine(2) as address:
        music, out = Path(folder, "music"), Path(folder, "out")
        for number in range(tasks):
            song = music / f"artist {number % 100}" / f"song {number}.wav"
            song.parent.mkdir(parents=True, exist_ok=True)
            song.write_bytes(b"RIFF%d" % number)
        crew = ray.Crew(address, {}, Output(), out, device="cpu")
        print(f"{'songs':>8} {'songs a second':>15} {'CPU ms a song':>14} {'now MB':>8} {'peak MB':>8}")
        begun, used = time.monotonic(), time.process_time()
        results = batch(music, out, stems, lambda jobs: ray.run(jobs, crew, notice=lambda message: None))
        for done, _ in enumerate(results, 1):
            if done in (1, 100) or done % (tasks // 10) == 0:
                took, cpu = time.monotonic() - begun, time.process_time() - used
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
                print(
                    f"{done:8} {done / took:15.1f} {1000 * cpu / done:14.2f} {memory_now():8.1f} {peak:8.1f}",
                    flush=True,
                )


def memory_now() -> float:
    """Read this process's resident memory, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def look(numbers: tuple[int, ...] = (10, 100, 1000)) -> None:
    """Time one look at so many workers that are at work."""

    class Sleeper:
        def sleep(self) -> None:
            time.sleep(1000)

    with machine(1) as address:
        engine.init(address, log_to_driver=False, logging_level=logging.ERROR)
        print(f"\n{'workers':>8} {'ms to look at them':>19}")
        sleeper: Any = engine.remote(Sleeper).remote()
        for number in numbers:
            refs = [sleeper.sleep.remote() for _ in range(number)]
            begun = time.monotonic()
            for _ in range(20):
                engine.wait(refs, timeout=0)
            print(f"{number:8} {(time.monotonic() - begun) / 20 * 1000:19.2f}")
        engine.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="d2-gru")
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--length", type=float, default=20, help="seconds of a song")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=10000)
    options = parser.parse_args()
    if options.songs:
        compare(options.model, options.length, options.songs, options.rounds, options.threads)
    if options.tasks:
        idle(options.tasks)
        look()


if __name__ == "__main__":
    main()
