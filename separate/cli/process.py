"""Settings of the whole process: a program may choose them, a library may not."""

from __future__ import annotations

import contextlib
import ctypes
import signal
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["interruptible", "tune"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's mallopt
KEPT = 2**28  # bytes


def tune() -> None:
    """Keep the memory of freed tensors for the next ones.

    glibc hands every large block back to the system, which clears it again for the next chunk: a fifth of the time of
    a compact model. All threads share what is kept. Elsewhere than on glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
        libc.mallopt(M_ARENA_MAX, 1)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Turn Ctrl-C, and what asks a service to stop, into KeyboardInterrupt.

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

    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
