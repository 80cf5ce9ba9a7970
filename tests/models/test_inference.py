"""Inference on a processor: products in every precision, laid out or not, and what is overwritten."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from separate.models import inference
from separate.models.inference import Product, Room, gelu, plus, tanh


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rows", [1, 3, 4, 100])
def test_a_product_is_a_linear_layer_with_and_without_an_order(
    rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 40), torch.randn(24), torch.randn(2, rows, 40)
    fast = Product(weight, bias, dtype, rows)(x.to(dtype))
    monkeypatch.setattr(inference, "ordered", lambda weight, rows: None)
    plain = Product(weight, bias, dtype, rows)(x.to(dtype))
    assert fast.dtype == plain.dtype == dtype
    for found in (fast, plain):
        torch.testing.assert_close(found.float(), F.linear(x, weight, bias), rtol=2e-2, atol=2e-1)
    torch.testing.assert_close(fast, plain, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")  # type: ignore[no-untyped-call]
@pytest.mark.parametrize("wide", [True, False])
def test_weights_are_laid_out_where_that_is_known_to_be_fast(wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": wide})
    weight = torch.randn(24, 40)
    assert (inference.ordered(weight, 8) is not None) == wide
    assert inference.ordered(weight.half(), 8) is None
    assert inference.ordered(weight.double(), 8) is None


def test_few_rows_come_out_as_among_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ordered", lambda weight, rows: None)
    product, x = Product(torch.randn(24, 40), torch.randn(24), torch.float32, 4), torch.randn(2, 2, 40)
    whole = product(x)
    assert torch.equal(product(x[:1]), whole[:1])
    assert torch.equal(product(x[0, :1]), whole[0, :1])
    assert product(x[:0]).shape == (0, 2, 24)


def test_plus_changes_nothing_that_gradients_need() -> None:
    x = torch.ones(3)
    assert plus(x, x) is not x
    with torch.no_grad():
        assert plus(x, torch.ones(3)) is x
        assert plus(x.bfloat16(), torch.ones(3)).dtype == torch.float32
    assert x.tolist() == [2, 2, 2]


def test_gelu_is_in_its_place_only_without_gradients() -> None:
    x = torch.randn(5, requires_grad=True)
    y = gelu(x)
    assert y is not x
    torch.testing.assert_close(y, F.gelu(x), rtol=0, atol=0)
    with torch.no_grad():
        z = x.clone()
        assert gelu(z).data_ptr() == z.data_ptr()
        torch.testing.assert_close(z, y, rtol=0, atol=0)


@pytest.mark.parametrize("width", [32, 96, 8, 33])
def test_tanh_does_not_depend_on_other_rows(width: int) -> None:
    x = torch.randn(7, width, generator=torch.Generator().manual_seed(0)) * 3
    y = tanh(x.clone())
    torch.testing.assert_close(y, x.double().tanh().float(), rtol=0, atol=3e-7)
    for rows in range(1, 7) if width % 32 == 0 else (2, 4):
        assert torch.equal(tanh(x[:rows].clone()), y[:rows])
    assert tanh(torch.tensor([-200.0, 200.0] * 16)).tolist() == [-1, 1] * 16


def test_a_room_gives_the_places_that_were_left() -> None:
    room = Room(12, torch.zeros(1))
    x, y = room.take(3, 4), room.take(2, 5)
    assert x.shape == (3, 4)
    assert y.shape == (2, 5)
    assert x.data_ptr() != y.data_ptr()
    room.leave(x[1:], y)  # a part of it is as good
    again = room.take(12)
    assert again.data_ptr() == x.data_ptr()
    room.leave(again, again.view(4, 3))  # somebody else looks at it still
    room.leave(torch.zeros(12))  # none of ours
    assert len({x.data_ptr(), y.data_ptr(), room.take(1).data_ptr()}) == 3
    room.leave(y)
    room.leave(y)  # once is enough
    assert room.take(1).data_ptr() == y.data_ptr()
    assert room.take(1).data_ptr() != y.data_ptr()
