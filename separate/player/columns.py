"""What a song does over time, in as many columns as a picture can show, whatever its length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Columns"]


class Columns:
    """Rows of values over time: `add(columns) ... all()`; neighbours are joined in pairs whenever they are too many.

    Args:
        join: numpy's `max` or `mean`: what two columns become.
        step: samples that a column is about, at first.
        most: columns, an even number; there are at least half as many at the end, of a song that is long enough.
    """

    def __init__(self, join: Callable[..., Any], step: int, most: int) -> None:
        self.join = join
        self.step = step
        self.most = most
        self._factor = 1
        self._joined: list[NDArray[np.float32]] = []  # each (row,)
        self._fine: list[NDArray[np.float32]] = []

    def add(self, columns: NDArray[np.float32]) -> None:
        """Take the next columns, (column, row), of the first step."""
        for column in columns:
            self._fine.append(column)
            if len(self._fine) == self._factor:
                self._close()

    def _close(self) -> None:
        self._joined.append(self.join(np.stack(self._fine), axis=0))
        self._fine = []
        if len(self._joined) == self.most:
            pairs = np.stack(self._joined).reshape(self.most // 2, 2, -1)
            self._joined = list(self.join(pairs, axis=1))
            self._factor *= 2
            self.step *= 2

    def all(self) -> NDArray[np.float32]:
        """Return (column, row). A column is about `step` samples, the last one perhaps about fewer."""
        if self._fine:
            self._close()
        return np.stack(self._joined)
