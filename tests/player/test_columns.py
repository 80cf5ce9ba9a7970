"""Columns are what the whole song at once would give, however it comes and however long it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from separate.player.columns import Columns


@given(st.lists(st.integers(0, 70), min_size=1, max_size=20), st.sampled_from([2, 8, 32]))
def test_any_pieces_of_any_length(sizes: list[int], most: int) -> None:
    values = np.random.default_rng(0).random((sum(sizes), 3), np.float32)
    if not len(values):
        return
    columns = Columns(np.max, 256, most)
    for piece in np.split(values, np.cumsum(sizes)):
        columns.add(piece)
    found = columns.all()
    factor = columns.step // 256
    wanted = [values[start : start + factor].max(axis=0) for start in range(0, len(values), factor)]
    assert found == pytest.approx(np.array(wanted))
    assert len(found) <= most
    assert factor == 1 or len(found) >= most // 2


def test_means_count_all_alike() -> None:
    values = np.random.default_rng(0).random((64, 1), np.float32)
    columns = Columns(np.mean, 256, 8)
    columns.add(values)
    assert columns.all() == pytest.approx(values.reshape(4, 16).mean(axis=1, keepdims=True), rel=1e-5)
