"""The U-Nets: the paper's sizes and costs, and a small one by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from separate.errors import CheckpointError
from separate.models import build
from separate.models.unet import PRESETS, UNet, UNetConfig

FRAMES = 376  # of 3 s

# Table 2 of the paper: billions of multiplications of one source's net, for 3 s of stereo.
COST = {
    **dict(zip(["unet-5-k1", "unet-5-k2", "unet-5-k4", "unet-5-k8"], [182.81, 91.90, 46.44, 23.71], strict=True)),
    **dict(zip(["unet-6-k1", "unet-6-k2", "unet-6-k4", "unet-6-k8"], [220.73, 110.86, 55.92, 28.46], strict=True)),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_cost_is_the_papers(preset: str) -> None:
    with torch.device("meta"):
        model = build("cws-unet", PRESETS[preset])
        net, bands = model.nets[0].eval(), model.config.bands
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 4 * bands, 1024 // bands + 1, FRAMES))
    assert counter.get_total_flops() / 2e9 == pytest.approx(COST[preset], rel=0.03)


@pytest.mark.parametrize(("preset", "count"), [("unet-5-k1", 13_396_100), ("unet-6-k1", 53_516_420)])
def test_the_size_is_the_papers(preset: str, count: int) -> None:
    with torch.device("meta"):
        model = build("cws-unet", PRESETS[preset])
    assert [sum(p.numel() for p in net.parameters()) for net in model.nets] == [count, count]


def test_two_scales_by_hand() -> None:
    torch.manual_seed(0)
    net = UNet(4, (2, 6), 0.1).eval()
    x = torch.randn(1, 4, 7, 6)
    top = net.first(x)
    bottom = net.down[0](F.max_pool2d(top, 2))  # 3 bins: one is left over
    up = torch.zeros(1, 6, 7, 6)
    for f in range(6):
        for t in range(6):
            a, b = f * 2 / 5, t * 2 / 5  # align_corners: from end to end
            i, j = min(int(a), 1), min(int(b), 1)
            corner = bottom[:, :, i : i + 2, j : j + 2]
            rows = corner[:, :, 0] + (a - i) * (corner[:, :, 1] - corner[:, :, 0])
            up[:, :, f, t] = rows[:, :, 0] + (b - j) * (rows[:, :, 1] - rows[:, :, 0])
    torch.testing.assert_close(net(x), net.last(net.up[0](torch.cat([top, up], 1))))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"widths": [8]}, "widths must be two scales or more"),
        ({"widths": [8, 0]}, "at least 1"),
        ({"dropout": 1.0}, "dropout must be a share"),
        ({"n_fft": 64, "hop": 8, "widths": [4, 4, 4, 4]}, "4 scales need more than the 5 bins"),
        ({"bands": 5}, "bands must be one of"),
        ({"widht": [8, 8]}, "no setting 'widht'"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        build("cws-unet", config)


def test_the_default_is_the_papers_unet_5_with_8_subbands() -> None:
    assert UNetConfig(**PRESETS["unet-5-k8"]) == UNetConfig()


def test_for_inference_norms_are_part_of_the_convolutions_and_say_the_same() -> None:
    torch.manual_seed(0)
    net = UNet(4, (6, 8, 10), 0.1)
    for _ in range(3):
        net(1 + torch.randn(2, 4, 16, 8))  # statistics that are not those of the beginning
    net.eval()
    x = torch.randn(2, 4, 17, 9)
    expected = net(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)
