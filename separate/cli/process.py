"""Settings of the whole process: a program may choose them, a library may not."""

from __future__ import annotations

import _thread
import contextlib
import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TypeVar

__all__ = ["beside", "hush", "importing", "interruptible", "open_streams", "settle", "tune"]

T = TypeVar("T")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's mallopt
KEPT = 2**28  # bytes: larger tensors are given back
SETTLED, LOOK = 32, 4  # blocks of stems: after so many memory has found its size; how often to look


def hush() -> None:
    """Keep what libraries warn each other's programmers of to ourselves: what a user should know we say in a line.

    With `python -W` or PYTHONWARNINGS all is shown as asked for.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def open_streams() -> None:
    """Have all three standard streams, whoever closed one, and write names that an encoding lacks all the same."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # or the next file that is opened would have its number
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (until the end)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import what is large without looking for garbage on the way: a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def beside(work: Callable[[], T]) -> Callable[[], T]:
    """Begin some work in a thread; return what waits for its result, or works itself if the thread did not.

    Python's `Thread` is waited for until it runs: for ever, if memory runs out at that very moment.
    """
    lock = _thread.allocate_lock()
    found: list[T] = []

    def once() -> T:
        with lock:
            if not found:
                found.append(work())
            return found[0]

    def quietly() -> None:
        with contextlib.suppress(Exception):  # whoever waits meets it again
            once()

    with contextlib.suppress(RuntimeError):  # no thread to be had
        _thread.start_new_thread(quietly, ())
    return once


def settle() -> Callable[[int], None]:
    """Hush and tune a process that is not the command's own; return what `tune` does."""
    hush()
    return tune()


def tune() -> Callable[[int], None]:
    """Keep the memory of freed tensors for the next ones; return what is to be told how much of a song is done.

    glibc hands every large block back to the system, which clears it again for the next chunk: a fifth of the time of
    a compact model. What threads allocate has a place apart from the model's, where blocks of a song that are read
    ahead would leave holes between tensors. Elsewhere than on glibc nothing happens.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never: the peak is the same
        libc.mallopt(M_ARENA_MAX, 2)
        return Tidy(libc.malloc_trim)
    return lambda done: None


class Tidy:
    """Hands all freed memory back when it has become more than that of a song's first blocks.

    Tensors find slightly other places in every chunk, and what was touched once stays: over hours that adds up.
    """

    def __init__(self, trim: Callable[[int], object], statm: Path = Path("/proc/self/statm")) -> None:
        self.trim, self.statm = trim, statm
        self.done, self.blocks, self.most = 0, 0, 0

    def __call__(self, done: int) -> None:
        """Look from time to time, with so many samples of a song `done`."""
        if done <= self.done:
            self.blocks, self.most = 0, 0  # another song
        self.done = done
        self.blocks += 1
        if self.blocks % LOOK:
            return
        try:
            held = int(self.statm.read_text(encoding="ascii").split()[1])  # pages
        except OSError:  # a system without it
            return
        if self.blocks <= SETTLED:
            self.most = max(self.most, held)
        elif held > 1.01 * self.most:
            self.trim(0)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Turn Ctrl-C, a terminal that is closed, and what asks a service to stop, into KeyboardInterrupt.

    A codec that calls back into Python swallows it. So who works in blocks calls what this yields after each: it raises
    KeyboardInterrupt again once there has been one.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    ends = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has no SIGHUP
    numbers = [n for n in ends if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
