"""Settings of the whole process, which a program may choose and a library may not; to be made before torch is loaded."""

from __future__ import annotations

import contextlib
import ctypes
import os

__all__ = ["tune"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's mallopt
KEPT = 2**28  # bytes


def tune() -> None:
    """Make waiting threads sleep, and keep the memory of freed tensors for the next ones.

    By default the threads of a matrix product spin while they wait for each other: with anything else running, such
    as our own decoding, that made the Wiener filter ten times slower. And glibc hands every large block back to the
    system, which clears it again for the next chunk: a fifth of the time of a compact model. All threads share what is
    kept. Elsewhere than on glibc nothing happens.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
        libc.mallopt(M_ARENA_MAX, 1)
