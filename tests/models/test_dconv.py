"""Convolutions over time: those of torch, in training and in every way in which inference computes them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from separate.models import dconv
from separate.models.dconv import TimeConv, TimeTransposed, channels_last
from separate.models.inference import Product


class Counted(Product):
    """A product that says that it was made."""

    made = 0

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, rows: int) -> None:
        super().__init__(weight, bias, dtype, rows)
        type(self).made += 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr(dconv, "Product", Counted)
    monkeypatch.setattr(Counted, "made", 0)
    return Counted


CASES = [  # kernel, stride, inputs, time, whether it is a product
    (8, 4, 32, 40, True),
    (3, 1, 32, 24, True),
    (1, 1, 32, 8, True),
    (8, 4, 2, 400, False),
    (3, 1, 4, 100, False),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("kernel", "stride", "inputs", "time", "product"), CASES)
def test_convolutions_with_more_weight_than_song_are_products(
    kernel: int, stride: int, inputs: int, time: int, product: bool, dtype: torch.dtype, counted: type[Counted]
) -> None:
    torch.manual_seed(0)
    layer, x = TimeConv(inputs, 24, kernel, stride), torch.randn(3, inputs, time)
    with torch.no_grad():
        expected = torch.conv1d(x, layer.weight, layer.bias, stride)
        found = layer.to(dtype)(channels_last(x.to(dtype)))
    assert counted.made == product
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.squeeze(2).float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("settings", [{"padding": 1}, {"dilation": 2}, {"bias": False}])
def test_convolutions_that_are_no_products_of_windows_are_left_to_torch(
    settings: dict[str, int], counted: type[Counted]
) -> None:
    torch.manual_seed(0)
    layer, x = TimeConv(32, 24, 3, **settings), torch.randn(1, 32, 9)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = nn.Conv1d._conv_forward(layer, x, layer.weight, layer.bias)
        torch.testing.assert_close(layer(channels_last(x)).squeeze(2), expected, rtol=1e-5, atol=1e-5)
    assert not counted.made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "product"), [(32, 2, 8, True), (32, 16, 8, False), (32, 2, 6, False)]
)
@pytest.mark.parametrize("time", [1, 2, 300])
def test_the_way_up_to_few_channels_is_a_product(
    inputs: int, outputs: int, kernel: int, product: bool, time: int, dtype: torch.dtype, counted: type[Counted]
) -> None:
    torch.manual_seed(0)
    layer, x = TimeTransposed(inputs, outputs, kernel, 4), torch.randn(3, inputs, time)
    with torch.no_grad():
        expected = torch.conv_transpose1d(x, layer.weight, layer.bias, 4)
        found = layer.to(dtype)(channels_last(x.to(dtype)))
    assert counted.made == product
    assert found.dtype == dtype
    tolerance = 3e-2 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.squeeze(2).float(), expected, rtol=tolerance, atol=tolerance)


def test_training_has_gradients_either_way(counted: type[Counted]) -> None:
    down, up = TimeConv(32, 32, 8, 4), TimeTransposed(32, 2, 8, 4)
    up(down(channels_last(torch.randn(1, 32, 40)))).square().sum().backward()
    assert not counted.made
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (*down.parameters(), *up.parameters()))
