"""Work on independent pieces side by side, each on one processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["side_by_side"]

T = TypeVar("T")


def side_by_side(work: Callable[[T], None], pieces: Sequence[T]) -> None:
    """Call `work` on every piece, on as many threads as torch would use for one operation.

    torch splits every operation over its threads, which then wait for each other after each. For many small operations
    that costs more than it brings, above all on a machine with other work. Pieces that are independent need to wait
    for nobody: here each thread does whole pieces, with operations that are not split. `work` runs in inference mode.
    """
    threads = torch.get_num_threads()

    def infer(piece: T) -> None:
        with torch.inference_mode():
            work(piece)

    if threads == 1 or len(pieces) == 1:
        for piece in pieces:
            infer(piece)
        return
    try:
        # The number of threads is the calling thread's own, but new threads start with what was set last.
        with ThreadPoolExecutor(threads, "separate-piece", torch.set_num_threads, (1,)) as pool:
            for _ in pool.map(infer, pieces):
                pass
    finally:
        torch.set_num_threads(threads)
