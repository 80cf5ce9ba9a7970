"""Pieces side by side: all done, errors come out, and torch's threads are as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from separate.dsp.parallel import side_by_side


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_every_piece_is_worked_on_with_one_thread_an_operation() -> None:
    out = torch.zeros(20)
    seen = []

    def work(piece: int) -> int:
        seen.append((threading.current_thread().name, torch.get_num_threads(), torch.is_grad_enabled()))
        out[piece] += piece + 1
        return piece

    assert side_by_side(work, list(range(20))) == list(range(20))
    assert out.tolist() == list(range(1, 21))
    assert {count for _, count, _ in seen} == {1}
    assert not any(gradients for _, _, gradients in seen)
    assert not any(name == threading.main_thread().name for name, _, _ in seen)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("inference", [False, True])
def test_the_modes_are_the_callers(inference: bool, pieces: int) -> None:
    def work(piece: int) -> tuple[bool, torch.dtype]:
        return torch.is_inference_mode_enabled(), (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    with torch.inference_mode(inference):
        assert side_by_side(work, range(pieces)) == [(inference, torch.float32)] * pieces
        with torch.autocast("cpu", torch.bfloat16):
            assert side_by_side(work, range(pieces)) == [(inference, torch.bfloat16)] * pieces


def test_few_pieces_share_all_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    counts = side_by_side(lambda piece: torch.get_num_threads(), [1, 2])
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert (counts, after) == ([3, 3], 6)


@pytest.mark.usefixtures("three_threads")
def test_an_error_in_a_piece_comes_out() -> None:
    def work(piece: int) -> None:
        if piece == 3:
            raise ValueError("the third")

    with pytest.raises(ValueError, match="the third"):
        side_by_side(work, [1, 2, 3, 4])
    assert torch.get_num_threads() == 3


def test_new_threads_get_all_threads_again() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    side_by_side(lambda piece: None, [1, 2, 3])
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert found == [2]


def test_a_single_piece_stays_in_its_thread() -> None:
    names = []
    side_by_side(lambda piece: names.append(threading.current_thread().name), ["only"])
    assert names == [threading.current_thread().name]
