"""Work on independent pieces side by side, each on one processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["side_by_side"]

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], pieces: Sequence[T]) -> list[R]:
    """Call `work` on every piece, on as many threads as torch would use for one operation, and return the results.

    torch splits every operation over its threads, which then wait for each other after each. For many small operations
    that costs more than it brings, above all on a machine with other work. Pieces that are independent need to wait
    for nobody: here each thread does whole pieces, with operations that are split only where there are fewer pieces
    than threads. `work` runs without gradients, in the caller's inference mode and automatic precision.
    """
    threads = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def infer(piece: T) -> R:
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", low, enabled=low is not None):
            return work(piece)

    if threads == 1 or len(pieces) <= 1:
        return [infer(piece) for piece in pieces]
    workers = min(threads, len(pieces))
    try:
        # The number of threads is the calling thread's own, but new threads start with what was set last.
        with ThreadPoolExecutor(workers, "separate-piece", torch.set_num_threads, (threads // workers,)) as pool:
            return list(pool.map(infer, pieces))
    finally:
        torch.set_num_threads(threads)
