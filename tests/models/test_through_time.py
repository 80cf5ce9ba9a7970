"""Gradients of GRUs and LSTMs, step by step and of all steps at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.models import recurrent
from separate.models.through_time import GRU, WIDE, remember_through_time, through_time


def gradients(gru: nn.RNNBase, run: Any, *inputs: Tensor) -> list[Tensor]:
    """Run, and find the gradient of some sum of what comes out, in the weights and in what went in."""
    leaves = [*gru.parameters(), *(x.requires_grad_() for x in inputs)]
    y = run(*inputs)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), leaves)]


@pytest.mark.parametrize("steps", [1, 9])
def test_what_torch_says(steps: int) -> None:
    torch.manual_seed(0)
    gru = nn.GRU(5, 7).double()
    x, start = torch.randn(steps, 3, 5).double(), torch.randn(3, 7).double()
    ours = gradients(gru, lambda x, start: through_time(gru, x, start), x, start)
    theirs = gradients(gru, lambda x, start: gru(x, start[None])[0], x, start)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_an_input_that_is_fed_back() -> None:
    torch.manual_seed(0)
    gru = nn.GRU(4, 4).double()

    def run(x: Tensor, start: Tensor, *_: Tensor) -> Tensor:
        return through_time(gru, x, start, fed_back=True)

    inputs = torch.randn(5, 2, 4).double().requires_grad_(), torch.randn(2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(run, (*inputs, *gru.parameters()))
    x, start = inputs
    state, expected = start, []
    for now in x:
        state = gru(now[None], state[None])[0][0] + now
        expected.append(state)
    torch.testing.assert_close(run(x, start), torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_what_comes_out_may_be_changed() -> None:
    gru, x = nn.GRU(4, 6).double(), torch.randn(5, 2, 4).double()
    plain = gradients(gru, lambda x: F.leaky_relu(through_time(gru, x), 0.1), x)
    changed = gradients(gru, lambda x: F.leaky_relu_(through_time(gru, x), 0.1), x)
    for one, other in zip(plain, changed, strict=True):
        assert torch.equal(one, other)


def test_wide_layers_learn_as_narrow_ones_do() -> None:
    torch.manual_seed(0)
    ours, theirs = GRU(8, WIDE), nn.GRU(8, WIDE)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, start = torch.randn(6, 2, 8), torch.randn(1, 2, WIDE)
    mine, other = (gradients(gru, lambda *given, gru=gru: gru(*given)[0], x, start) for gru in (ours, theirs))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert "Recurrence" in named(ours(x, start)[0].grad_fn)
    assert "Recurrence" not in named(theirs(x, start)[0].grad_fn)
    for narrow_or_not in (GRU(8, WIDE - 1), ours):
        y, last = narrow_or_not(x)
        assert torch.equal(y[-1:], last)
    with torch.no_grad():
        torch.testing.assert_close(ours(x, start)[0], theirs(x, start)[0], rtol=0, atol=0)


def named(function: Any) -> str:
    """List the names of the functions that a result came of."""
    below = [named(of) for of, _ in function.next_functions if of is not None] if function else []
    return " ".join([function.name() if function else "", *below])


@pytest.mark.parametrize(
    ("layers", "run"), [(nn.GRU(16, 32), through_time), (nn.LSTM(16, 32, 2, bidirectional=True), remember_through_time)]
)
def test_in_lower_precision_the_state_is_not(layers: nn.RNNBase, run: Any) -> None:
    torch.manual_seed(0)
    layers.reset_parameters()
    x = torch.randn(20, 2, 16)
    exact = gradients(layers, lambda x: run(layers, x), x)

    def coarse(x: Tensor) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return run(layers, x)

    rough = gradients(layers, coarse, x)
    assert {x.dtype for x in rough} == {torch.float32}
    for one, other in zip(exact, rough, strict=True):
        assert 0 < float((one - other).norm() / one.norm()) < 0.03


@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
@pytest.mark.parametrize("steps", [1, 9])
def test_an_lstm_as_torch_has_it(steps: int, layers: int, both: bool) -> None:
    torch.manual_seed(0)
    lstm, x = nn.LSTM(5, 7, layers, bidirectional=both).double(), torch.randn(steps, 3, 5).double()
    ours = gradients(lstm, lambda x: remember_through_time(lstm, x), x)
    theirs = gradients(lstm, lambda x: lstm(x)[0], x)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_wide_lstms_learn_so_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "LEARNS", 16)
    x = torch.randn(4, 2, 8)
    assert "Memory" in named(recurrent.remember(nn.LSTM(8, 16), x).grad_fn)
    for plain in (nn.LSTM(8, 15), nn.LSTM(8, 16, 2, dropout=0.5)):
        assert "Memory" not in named(recurrent.remember(plain, x).grad_fn)
    with torch.no_grad():
        assert recurrent.remember(nn.LSTM(8, 16), x).grad_fn is None
