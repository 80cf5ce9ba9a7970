"""GRUs for inference: those of torch, in every precision, with weights laid out or not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from separate.models import recurrent
from separate.models.recurrent import Product, recur


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (7, 2), (40, 5), (3, 70), (9, 300)])
def test_it_is_the_gru_of_torch(steps: int, rows: int, dtype: torch.dtype) -> None:
    torch.manual_seed(steps)
    gru, x = nn.GRU(12, 20).to(dtype), torch.randn(steps, rows, 12, dtype=dtype)
    with torch.no_grad():
        torch.testing.assert_close(recur(gru, x), gru(x)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 101])
def test_backwards_is_of_the_song_turned_round(steps: int) -> None:
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
    gru, x = nn.GRU(64, 64), torch.randn(101, 8, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=automatic):
        low = recur(gru, x if automatic else x.bfloat16())
    assert low.dtype == (torch.float32 if automatic else torch.bfloat16)
    with torch.no_grad():
        y = recur(gru, x)
    assert 0 < (low - y).norm() / y.norm() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_a_product_is_a_linear_layer_with_and_without_an_order(
    rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 40), torch.randn(24), torch.randn(2, rows, 40)
    fast = Product(weight, bias, dtype, rows)(x.to(dtype))
    monkeypatch.setattr(recurrent, "ordered", lambda weight, rows: None)
    plain = Product(weight, bias, dtype, rows)(x.to(dtype))
    assert fast.dtype == plain.dtype == dtype
    for found in (fast, plain):
        torch.testing.assert_close(found.float(), F.linear(x, weight, bias), rtol=2e-2, atol=2e-1)
    torch.testing.assert_close(fast, plain, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")  # type: ignore[no-untyped-call]
def test_weights_are_laid_out_where_that_is_known_to_be_fast() -> None:
    weight = torch.randn(24, 40)
    assert recurrent.ordered(weight, 8) is not None
    assert recurrent.ordered(weight.half(), 8) is None
    assert recurrent.ordered(weight.double(), 8) is None
