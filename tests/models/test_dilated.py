"""The layers of a D2-GRU against plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from separate.models.dilated import Conv, DilatedGRU, Taps


def naive(layer: DilatedGRU, x: Tensor, merge: str) -> Tensor:
    """A bidirectional GRU a phase: frames p, p + k, p + 2k, …, no padding anywhere."""
    k = layer.dilation
    both = nn.GRU(layer.ahead.input_size, layer.ahead.hidden_size, bidirectional=True)
    state = {f"{name}": value for name, value in layer.ahead.state_dict().items()}
    state |= {f"{name}_reverse": value for name, value in layer.back.state_dict().items()}
    both.load_state_dict(state)
    hidden = layer.ahead.hidden_size
    y = torch.zeros(*x.shape[:2], hidden * 2)
    for phase in range(min(k, len(x))):
        y[phase::k] = both(x[phase::k])[0]
    return y if merge == "concat" else y[..., :hidden] + y[..., hidden:]


@pytest.mark.parametrize("mode", ["training", "inference"])
@pytest.mark.parametrize("merge", ["sum", "concat"])
@pytest.mark.parametrize("dilation", [1, 2, 3, 4])
@pytest.mark.parametrize("time", [1, 3, 8, 21])
def test_the_dilated_gru_is_a_bidirectional_gru_for_each_phase(time: int, dilation: int, merge: str, mode: str) -> None:
    torch.manual_seed(time)
    layer = DilatedGRU(12, dilation, merge)
    x = torch.randn(time, 3, 12)
    with torch.set_grad_enabled(mode == "training"):
        torch.testing.assert_close(layer(x), naive(layer, x, merge), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_turned_in_time_with_its_directions_swapped_a_dilated_gru_says_the_same(mode: str) -> None:
    layer = DilatedGRU(12, 4, "sum")
    mirror = DilatedGRU(12, 4, "sum")
    mirror.ahead, mirror.back = layer.back, layer.ahead
    x = torch.randn(23, 2, 12)  # not a multiple of 4: the fold is padded
    with torch.set_grad_enabled(mode == "training"):
        torch.testing.assert_close(mirror(x.flip(0)).flip(0), layer(x), rtol=1e-5, atol=1e-6)


def test_inference_in_bfloat16_stays_close() -> None:
    torch.manual_seed(0)
    layer = DilatedGRU(64, 2, "sum")
    x = torch.randn(101, 4, 64)
    with torch.no_grad():
        y = layer(x)
        low = layer(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert (low - y).norm() / y.norm() < 0.01


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_the_grouped_convolution_is_dilated_rectified_and_keeps_the_length(mode: str) -> None:
    torch.manual_seed(0)
    layer = Conv(8, 8, 3, dilation=2, groups=4)
    x = torch.randn(9, 1, 8)
    weight, bias = layer.conv.weight, layer.conv.bias
    assert bias is not None
    y = bias.repeat(9, 1)
    for t in range(9):
        for tap, source in enumerate((t - 2, t, t + 2)):
            if 0 <= source < 9:
                y[t] = y[t] + torch.cat(
                    [weight[2 * g : 2 * g + 2, :, tap] @ x[source, 0, 2 * g : 2 * g + 2] for g in range(4)]
                )
    with torch.set_grad_enabled(mode == "training"):
        torch.testing.assert_close(layer(x)[:, 0], torch.where(y > 0, y, 0.01 * y))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kernel", "dilation", "groups"), [(3, 1, 1), (3, 8, 4), (1, 1, 2), (5, 3, 32)])
def test_taps_are_the_convolution(kernel: int, dilation: int, groups: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = Conv(64, 96, kernel, dilation, groups)
    x = torch.randn(17, 3, 64)
    with torch.inference_mode():
        expected = conv.linear(x)
        found = Taps(conv.conv, x.to(dtype))(x.to(dtype))
    assert found.dtype == dtype
    assert found.is_contiguous()
    error = (found.float() - expected).norm() / expected.norm()
    assert error < (1e-6 if dtype == torch.float32 else 0.01)
