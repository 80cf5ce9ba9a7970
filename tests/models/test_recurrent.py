"""GRUs and LSTMs for inference: those of torch, in every precision, with weights laid out or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from separate.models import recurrent
from separate.models.recurrent import recur, remember


@pytest.fixture(params=[True, False], ids=["ordered", "plain"])
def ordered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Be on a processor that gains by an order of weights, or on one that does not."""
    gains = bool(request.param)
    monkeypatch.setattr(recurrent, "orders", lambda: gains)
    return gains


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (7, 2), (40, 5), (3, 70), (9, 300)])
def test_it_is_the_gru_of_torch(steps: int, rows: int, dtype: torch.dtype, ordered: bool) -> None:
    torch.manual_seed(steps)
    gru, x = nn.GRU(12, 20).to(dtype), torch.randn(steps, rows, 12, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(recur(gru, x), gru(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 101])
def test_backwards_is_of_the_song_turned_round(steps: int, ordered: bool) -> None:
    torch.manual_seed(0)
    gru, x = nn.GRU(6, 8), torch.randn(steps, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(recur(gru, x, backwards=True), gru(x.flip(0))[0].flip(0), rtol=1e-5, atol=1e-6)


def test_what_is_fed_back_is_the_next_state() -> None:
    torch.manual_seed(0)
    gru, cell, x = nn.GRU(6, 6), nn.GRUCell(6, 6), torch.randn(5, 3, 6)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in gru.state_dict().items()})
    with torch.no_grad():
        h, y = torch.zeros(3, 6), recur(gru, x, fed_back=True)
        for step, now in enumerate(x):
            h = cell(now, h) + now
            torch.testing.assert_close(y[step], h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("automatic", [True, False])
def test_in_bfloat16_only_the_products_are_coarse(automatic: bool) -> None:
    torch.manual_seed(0)
    check_bfloat16(partial(recur, nn.GRU(64, 64)), automatic)


def check_bfloat16(run: Callable[[Tensor], Tensor], automatic: bool) -> None:
    """Check that a layer of 64 is close to itself in float32, and says so in the precision that it is told in."""
    x = torch.randn(101, 8, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=automatic):
        low = run(x if automatic else x.bfloat16())
    assert low.dtype == (torch.float32 if automatic else torch.bfloat16)
    with torch.no_grad():
        y = run(x)
    assert 0 < (low - y).norm() / y.norm() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (7, 2), (101, 5), (9, 300)])
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True), (3, True)])
def test_a_wide_lstm_is_that_of_torch(
    layers: int, both: bool, steps: int, rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(steps)
    lstm = nn.LSTM(12, 20, layers, bidirectional=both).to(dtype)
    x = torch.randn(rows, steps, 12, dtype=dtype).transpose(0, 1)
    with torch.no_grad():
        expected = remember(lstm, x)
        torch.testing.assert_close(expected, lstm(x)[0], rtol=0, atol=0)
        monkeypatch.setattr(recurrent, "WIDE", 20)
        monkeypatch.setattr(recurrent, "orders", lambda: True)
        monkeypatch.setattr(lstm, "forward", None)
        torch.testing.assert_close(remember(lstm, x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("automatic", [True, False])
def test_a_wide_lstm_keeps_its_state_in_float32(automatic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(recurrent, "WIDE", 64)
    monkeypatch.setattr(recurrent, "orders", lambda: True)
    check_bfloat16(partial(remember, nn.LSTM(64, 64, 2, bidirectional=True)), automatic)


def test_an_lstm_in_bfloat16_needs_no_processor_that_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lstm, x = nn.LSTM(16, 20, 2, bidirectional=True), torch.randn(9, 3, 16)
    with torch.no_grad():
        expected = remember(lstm, x)
        monkeypatch.setattr(recurrent, "worthwhile", lambda dtype, device: torch.float32)
        monkeypatch.setattr(lstm, "forward", None)  # torch's own says "could not create a primitive descriptor"
        with torch.autocast("cpu", torch.bfloat16):
            low = remember(lstm, x)
    assert 0 < (low - expected).norm() / expected.norm() < 0.01


def test_a_wide_lstm_is_trained_as_torch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "WIDE", 4)
    lstm = nn.LSTM(4, 4)
    remember(lstm, torch.randn(5, 1, 4)).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in lstm.parameters())
