"""Settings of the whole process: a program may choose them, a library may not."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["tune"]

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
