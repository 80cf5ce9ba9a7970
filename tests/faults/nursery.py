"""Runs of the command in which something goes wrong at a given place: a process that forks into them, and its reins.

A run is a fork of one process that has imported everything already: each would else take seconds to start. Python tells
a process of everything that it does with files before it does it. There a run counts, and at the n-th time its fault
happens: the operation fails, or the run gets a signal, or a folder vanishes.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPERATIONS = {"open"} | {
    f"os.{name}"
    for name in ("chmod", "link", "listdir", "mkdir", "remove", "rename", "rmdir", "scandir", "symlink", "truncate")
}
ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    """What a run left behind: its exit code, or minus the signal's number; what it said; what it did with files."""

    code: int
    said: list[str]
    operations: list[str]


class Nursery:
    """Starts runs, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery", str(folder)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")},
        )  # fmt: skip

    def run(self, *words: object, below: Path | None = None, at: int = 0, **fault: Any) -> Run:
        """Run `separate WORDS...`; before operation `at` on files in the folder `below` the fault happens."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"words": [str(word) for word in words], "below": str(below or self.folder), "at": at, **fault}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        code, said = json.loads(self.process.stdout.readline())
        return Run(code, said.splitlines(), (self.folder / "operations").read_text().splitlines())


@contextmanager
def nursery_in(folder: Path, *words: object) -> Iterator[Nursery]:
    """Have a nursery until the end of the block; `separate WORDS...` is what it does itself first."""
    nursery = Nursery(folder)
    try:
        nursery.run(*words)
        yield nursery
    finally:
        nursery.process.kill()
        nursery.process.communicate()


def watch(below: str, at: int, log: int, fault: dict[str, Any]) -> None:
    """Write down every operation on files in a folder, and let the fault happen before the one numbered `at`."""
    lock, count = threading.Lock(), 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in OPERATIONS or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(args[0])
        if not path.startswith(below):
            return
        with lock:
            count += 1
            now = count == at
        os.write(log, f"{event} {path.removeprefix(below)}\n".encode())
        if now:
            happen(fault, path)

    sys.addaudithook(hook)


def happen(fault: dict[str, Any], path: str) -> None:
    """Let a fault happen."""
    if "error" in fault:
        raise OSError(getattr(errno, fault["error"]), os.strerror(getattr(errno, fault["error"])), path)
    if "signal" in fault:
        os.kill(os.getpid(), getattr(signal, fault["signal"]))
    if "vanishes" in fault:
        shutil.rmtree(fault["vanishes"], ignore_errors=True)


def child(folder: Path, saying: int, words: list[str], below: str, at: int, **fault: Any) -> None:
    """Be a run."""
    from separate.cli import main

    os.dup2(os.open(fault.get("stdout", os.devnull), os.O_WRONLY), 1)
    os.dup2(os.open(fault["stderr"], os.O_WRONLY) if "stderr" in fault else saying, 2)
    log = os.open(folder / "operations", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name in ("RLIMIT_FSIZE", "RLIMIT_AS"):
        if name in fault:
            resource.setrlimit(getattr(resource, name), (fault[name], fault[name]))
    watch(below, at, log, fault)
    if "after" in fault:
        threading.Timer(fault["after"], os.kill, (os.getpid(), getattr(signal, fault["signal"]))).start()
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as left:
        sys.stderr.flush()
        os._exit(int(left.code or 0))  # cleaning up all that was imported takes longer than the run


def tend(folder: Path) -> None:
    """Do the first run here, so that all is imported; then fork into runs as they are ordered, one a line."""
    import huggingface_hub.file_download  # noqa: F401

    from separate.cli import main

    sys.argv[1:] = json.loads(sys.stdin.readline())["words"]
    with suppress(SystemExit):
        main()
    gc.freeze()  # so that runs share its memory
    (folder / "operations").touch()
    print(json.dumps([0, ""]), flush=True)
    for line in sys.stdin:
        heard, saying = os.pipe()  # not a file, to which limits would apply
        pid = os.fork()
        if not pid:
            child(folder, saying, **json.loads(line))
        os.close(saying)
        with open(heard, encoding="utf-8", errors="replace") as said:
            text = said.read()
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text]), flush=True)


if __name__ == "__main__":
    tend(Path(sys.argv[1]))
