"""MDenseNet and MMDenseNet: the paper's sizes and costs, a block by hand, what a chunk's length may not change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from separate.errors import CheckpointError
from separate.models import build
from separate.models.densenet import PRESETS, DenseBlock, DenseUNet

FRAMES = 376  # of 3 s
COST = {"mdensenet-k1": 37.42, "mdensenet-k2": 19.03, "mdensenet-k4": 9.67, "mdensenet-k8": 5.07}  # Table 2


def cost(net: nn.Module, bands: int) -> float:
    """Count a net's multiplications for 3 s of stereo, in billions."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(1, 4 * bands, 1024 // bands + 1, FRAMES))
    return float(counter.get_total_flops()) / 2e9


def size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("preset", PRESETS)
def test_the_cost_is_the_papers(preset: str) -> None:
    with torch.device("meta"):
        model = build("cws-mdensenet", PRESETS[preset])
    assert cost(model.nets[0], model.config.bands) == pytest.approx(COST[preset], rel=0.02)


def test_the_size_is_that_of_the_released_net_but_for_a_layer_that_it_does_not_use() -> None:
    with torch.device("meta"):
        model = build("cws-mdensenet", {})
    unused = 16 * 16 + 16  # a fifth 1×1 convolution before halving: there are four halvings
    assert [size(net) for net in model.nets] == [283_378 - unused] * 2


def test_mmdensenet_is_table_1() -> None:
    # Table 1, but for the full band's first kernel. Table 2 says 0.33 M, which is what Table 3 has for the model of
    # 2017, and 27.63 billions.
    with torch.device("meta"):
        net = build("cws-mmdensenet", {}).nets[0]
    growths = [[block.layers[0].conv.out_channels for block in part.blocks] for part in (net.low, net.high, net.full)]
    assert growths == [[14, *[16] * 6], [*[10] * 6, 16], [6] * 7]
    assert [{len(block.layers) for block in part.blocks} for part in (net.low, net.high, net.full)] == [{4}, {3}, {2}]
    assert [part.first.kernel_size for part in (net.low, net.high, net.full)] == [(4, 3), (3, 3), (4, 3)]
    assert size(net) == 297_958
    assert cost(net, 1) == pytest.approx(32.56, abs=0.01)


def test_a_block_by_hand() -> None:
    torch.manual_seed(0)
    block = DenseBlock(3, 2, 3, 0.1).eval()
    x = torch.randn(1, 3, 5, 6)
    a, b, c = block.layers

    def run(layer: Any, *inputs: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.relu(layer.norm(torch.cat(inputs, 1))), layer.conv.weight, padding=1)

    one = run(a, x)
    two = run(b, x, one)
    torch.testing.assert_close(block(x), run(c, x, one, two))


def test_two_scales_by_hand() -> None:
    torch.manual_seed(0)
    net = DenseUNet(4, 3, (3, 3), (2, 2, 2), 1, 0.1).eval()
    x = torch.randn(1, 4, 9, 8)  # 7 bins and 6 frames after the first convolution: halved, 3 and 3
    top = net.blocks[0](net.first(x))
    up = net.up[0](net.blocks[1](F.max_pool2d(net.down[0](top), 2)))
    assert up.shape == (1, 2, 6, 6)
    up = torch.cat([up[:, :, :1], up], 2)  # the lowest bin twice
    y = net.blocks[2](torch.cat([up, top], 1))
    y = torch.cat([y[:, :, :1], y[:, :, :1], y], 2)
    y = torch.cat([y[..., :1], y[..., :1], y], 3)
    torch.testing.assert_close(net(x), y)


@pytest.mark.parametrize("frames", [60, 61, 62, 63, 64])
def test_how_long_a_chunk_is_moves_nothing(frames: int) -> None:
    # As in the paper's code, a frame left over at some scale would shift everything.
    torch.manual_seed(0)
    net = DenseUNet(4, 3, (3, 3), (2, 2, 2, 2, 2), 1, 0.1).eval()
    x = torch.randn(1, 4, 20, 100)
    torch.testing.assert_close(net(x[..., :frames])[..., :30], net(x)[..., :30])


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 18])
def test_any_number_of_frames(frames: int) -> None:
    net = DenseUNet(4, 3, (3, 3), (2, 2, 2, 2, 2), 1, 0.1).eval()
    assert net(torch.randn(1, 4, 20, frames)).shape == (1, 2, 20, frames)


@pytest.mark.parametrize(
    ("architecture", "config", "says"),
    [
        ("cws-mdensenet", {"growth": [4, 4]}, "growth must be an odd number of blocks"),
        ("cws-mdensenet", {"growth": [4, 0, 4]}, "at least 1 in each"),
        ("cws-mdensenet", {"n_fft": 256, "hop": 32}, "halves too often: there are 17 bins"),
        ("cws-mdensenet", {"layers": 0}, "must be at least 1"),
        ("cws-mdensenet", {"dropout": -0.1}, "dropout must be a share"),
        ("cws-mmdensenet", {"high": [10, 10, 10]}, "last growth must be one"),
        ("cws-mmdensenet", {"layers": [4, 3]}, "layers must be three numbers"),
    ],
)
def test_settings_out_of_range_are_refused(architecture: str, config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        build(architecture, config)
