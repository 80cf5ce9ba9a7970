"""Damage valid files, many of them, and have them read: nothing but a SeparateError may come out, soon and small.

    python -m benchmarks.fuzz [TARGET ...] [--inputs 100000] [--seed 0] [--keep FOLDER]

The targets are those of tests/fuzz, which the tests try with a few inputs each; here they get so many in all, a share
for each of their kinds of file. Every target is read in a process of its own. An input that raises anything else, ends
the process, takes longer than 5 s or more than 1 GB of memory in all is kept in FOLDER, named by what it did.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from pathlib import Path

LONGEST, LARGEST = 5.0, 2**30  # seconds, bytes
CEILING = 6 * 2**30  # bytes: where the process is stopped, not the machine


@dataclass
class Tally:
    """What became of the inputs of a target."""

    inputs: int = 0
    read: int = 0  # though damaged
    refused: int = 0  # by a SeparateError
    seconds: float = 0.0
    slowest: float = 0.0  # seconds
    memory: int = 0  # bytes, of the process
    found: dict[str, int] = field(default_factory=dict)  # what went wrong -> how often

    def add(self, other: Tally) -> None:
        """Take in what another process found."""
        for name in ("inputs", "read", "refused", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest, self.memory = max(self.slowest, other.slowest), max(self.memory, other.memory)
        for what, count in other.found.items():
            self.found[what] = self.found.get(what, 0) + count


def damaged(target: str, name: str, body: bytes, seed: int, number: int) -> bytes:
    """Make the input of that number, the same every time."""
    from tests.fuzz.mutations import edits, mutated
    from tests.fuzz.targets import TARGETS

    return mutated(body, edits(random.Random(f"{target} {name} {seed} {number}"), TARGETS[target].tokens))


def work(target: str, first: int, count: int, seed: int, folder: Path, keep: Path) -> None:
    """Read the inputs of a target from number `first` on, `count` of them for every kind of file."""
    from separate.errors import SeparateError
    from tests.fuzz.targets import TARGETS

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (CEILING, CEILING))
    faulthandler.enable((folder / "trace").open("w"))
    kinds = list(TARGETS[target].seeds().items())
    for name, seed_ in kinds:  # once as they are: what they import and build first is no input's fault
        path = folder / name
        path.write_bytes(seed_.wrap(seed_.body))
        with contextlib.suppress(SeparateError):
            TARGETS[target].read(path)
    tally, begun = Tally(), time.monotonic()
    for number in range(first, count * len(kinds)):
        name, body = kinds[number % len(kinds)]
        path = folder / name
        path.write_bytes(body.wrap(damaged(target, name, body.body, seed, number)))
        (folder / "number").write_text(f"{number} {name}")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.monotonic()
        try:
            TARGETS[target].read(path)
            tally.read += 1
        except SeparateError:
            tally.refused += 1
        except BaseException as error:
            note(tally, keep, path, target, number, described(error))
        tally.inputs += 1
        tally.slowest = max(tally.slowest, took := time.monotonic() - start)
        if took > LONGEST:
            note(tally, keep, path, target, number, f"time: {took:.1f} s")
        tally.memory = max(tally.memory, peak := peak_memory())
        if peak > LARGEST:
            note(tally, keep, path, target, number, f"memory: {peak / 2**30:.1f} GB")
        tally.seconds = time.monotonic() - begun
        if number % 20 == 0 or peak > LARGEST or number == count * len(kinds) - 1:
            (folder / "tally").write_text(json.dumps(vars(tally)))
        if peak > LARGEST:
            sys.exit(9)


def described(error: BaseException) -> str:
    """Say what was raised, and where in the house."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/separate/" in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:100]}"


def note(tally: Tally, keep: Path, path: Path, target: str, number: int, what: str) -> None:
    """Count what went wrong, and keep the first input that did it."""
    kind = re.sub(r"\d+", "0", what)
    if kind not in tally.found:
        keep.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, keep / f"{target}-{number}-{path.name}")
        print(f"  {target} {number} {path.name}: {what}", flush=True)
    tally.found[kind] = tally.found.get(kind, 0) + 1


def peak_memory() -> int:
    """Read the peak of this process since it was last reset, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def fuzz(target: str, count: int, seed: int, keep: Path) -> Tally:
    """Give a target `count` inputs of every kind of file; begin anew behind each that ends the process."""
    total, first = Tally(), 0
    while True:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            process = multiprocessing.get_context("spawn").Process(
                target=work, args=(target, first, count, seed, folder, keep)
            )
            process.start()
            watch(process, folder / "number")
            if (folder / "tally").exists():
                total.add(Tally(**json.loads((folder / "tally").read_text())))
            if process.exitcode == 0:
                return total
            number, kind = (folder / "number").read_text().split(maxsplit=1)
            if process.exitcode != 9:
                trace = (folder / "trace").read_text().strip()
                what = f"exit code {process.exitcode}" + (f": {trace[:600]}" if trace else "")
                note(total, keep, folder / kind, target, int(number), what)
            first = int(number) + 1


def watch(process: SpawnProcess, number: Path) -> None:
    """Wait for a process, and end it when it has been at one input for too long; then it says where it was."""
    while process.is_alive():
        process.join(1)
        if process.pid and number.exists() and time.time() - number.stat().st_mtime > 2 * LONGEST:
            os.kill(process.pid, signal.SIGABRT)
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), metavar="FOLDER")
    options = parser.parse_args()
    from tests.fuzz.targets import TARGETS

    names = options.targets or list(TARGETS)
    kinds = sum(len(TARGETS[name].seeds()) for name in names)
    print(
        f"{'':10}{'inputs':>8}{'read':>8}{'refused':>9}{'wrong':>7}{'minutes':>9}{'slowest':>10}{'memory':>9}",
        flush=True,
    )
    total = Tally()
    for name in names:
        tally = fuzz(name, -(-options.inputs // kinds), options.seed, options.keep)
        row(name, tally)
        total.add(tally)
    row("all", total)
    sys.exit(bool(total.found))


def row(name: str, tally: Tally) -> None:
    """Print a line of the table."""
    print(
        f"{name:10}{tally.inputs:8}{tally.read:8}{tally.refused:9}{sum(tally.found.values()):7}"
        f"{tally.seconds / 60:9.1f}{tally.slowest:8.2f} s{tally.memory / 2**20:6.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
