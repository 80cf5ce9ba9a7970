"""Spleeter's U-Net: its convolutions by hand, its published shapes, its masks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.spleeter import PRESETS, Down, Spleeter, SpleeterConfig, UNet, Up
from separate.separator import choose_chunking
from separate.stream import stream

TINY: dict[str, Any] = {
    "n_fft": 1024,
    "hop": 256,
    "bins": 256,
    "frames": 64,
    "widths": (4, 6, 8, 8, 8, 8),
    "sample_rate": 8000,
    "segment": 2.0,
    "context": 0.25,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"above": "average"},
    {"activation": "elu", "sources": ("vocals", "drums", "bass", "other")},
    {"activation": "elu", "masks": "softmax", "sources": ("vocals", "piano", "drums"), "above": "average"},
]


def tiny(**changes: Any) -> Spleeter:
    """A model of a few thousand random weights and statistics, the same at every call."""
    torch.manual_seed(0)
    model = Spleeter(SpleeterConfig(**(TINY | changes)))
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    return model.eval()


def noise(length: int, channels: int = 2, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(length))


def test_a_step_down_is_padded_as_tensorflow_does_it() -> None:
    torch.manual_seed(0)
    down, x = Down(1, 1), torch.randn(1, 1, 8, 6)
    assert down.bias is not None
    expected = torch.zeros(4, 3)
    for i in range(4):
        for j in range(3):  # rows 2i − 1 to 2i + 3 of those there are
            for a in range(5):
                for b in range(5):
                    row, column = 2 * i - 1 + a, 2 * j - 1 + b
                    if 0 <= row < 8 and 0 <= column < 6:
                        expected[i, j] += down.weight[0, 0, a, b] * x[0, 0, row, column]
    torch.testing.assert_close(down(x)[0, 0], expected + down.bias)


def test_a_step_up_is_the_transpose_of_a_step_down() -> None:
    torch.manual_seed(0)
    down, up = Down(3, 4).double(), Up(4, 3).double()
    for step in (down, up):
        assert step.bias is not None
        nn.init.zeros_(step.bias)
    up.weight = down.weight
    x, y = torch.randn(2, 3, 8, 6).double(), torch.randn(2, 4, 4, 3).double()
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())


def test_a_net_is_its_layers_in_their_order() -> None:
    net = tiny(widths=(3, 5)).nets["vocals"]
    assert isinstance(net, UNet)
    x = torch.rand(2, 2, 8, 4)
    c1 = net.down[0](x)
    c2 = net.down[1](F.leaky_relu(net.down_norm[0](c1), 0.2))
    u1 = net.up_norm[0](net.up[0](c2).relu())
    u2 = net.up_norm[1](net.up[1](torch.cat([c1, u1], 1)).relu())
    expected = F.conv2d(F.pad(u2, (3, 3, 3, 3)), net.mask.weight, net.mask.bias, dilation=2)
    torch.testing.assert_close(net(x), expected)
    assert expected.shape == x.shape


@pytest.mark.parametrize(
    ("name", "sources", "bins", "count"),
    [("2stems", 2, 1024, 9_822_725), ("4stems", 4, 1024, 9_822_725), ("5stems-16khz", 5, 1536, 9_822_725)],
)
def test_the_published_shapes(name: str, sources: int, bins: int, count: int) -> None:
    with torch.device("meta"):
        model = build("spleeter", PRESETS[name])
    assert (len(model.sources), model.config.bins, model.config.frames) == (sources, bins, 512)
    widths = (2, 16, 32, 64, 128, 256, 512)
    for net in model.nets.values():
        assert [tuple(step.weight.shape) for step in net.down] == [(b, a, 5, 5) for a, b in pairwise(widths)]
        ups = [(512, 256), (512, 128), (256, 64), (128, 32), (64, 16), (32, 1)]  # but for the first with a skip
        assert [tuple(step.weight.shape) for step in net.up] == [(a, b, 5, 5) for a, b in ups]
        assert sum(p.numel() for p in net.parameters()) == count
    assert (model.stft.n_fft, model.stft.hop, model.sample_rate) == (4096, 1024, 44100)


@pytest.mark.parametrize("changes", VARIANTS)
def test_sources_get_their_share_of_the_power(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    x = torch.randn(1, 2, 513, 70, dtype=torch.complex64)  # more than one segment
    with torch.inference_mode():
        m = model.estimate(x.abs())[0]
        y = model.shares(x[0], m)
    assert m.shape == (len(model.sources), 2, 256, 70)
    torch.testing.assert_close(y[:, :, :256], m.square() / m.square().sum(0) * x[0, :, :256])
    if model.config.masks == "softmax":
        torch.testing.assert_close(m.sum(0), x[0, :, :256].abs())
    if model.config.above == "zeros":
        assert not y[:, :, 256:].any()
    else:
        mean = (m.square() / m.square().sum(0)).mean(2, keepdim=True)
        torch.testing.assert_close(y[:, :, 256:], mean * x[0, :, 256:])


def test_segments_are_heard_one_by_one_and_the_last_is_filled_with_silence() -> None:
    model, m = tiny(), torch.rand(2, 2, 513, 150)
    with torch.inference_mode():
        whole = model.estimate(m)
        first, last = model.estimate(m[..., :64]), model.estimate(F.pad(m[..., 128:], (0, 42)))
    torch.testing.assert_close(whole[..., :64], first)
    torch.testing.assert_close(whole[..., 128:], last[..., :22])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100, 441001])
def test_stems_are_as_long_as_the_song(length: int, channels: int) -> None:
    mix = noise(length, channels)
    with torch.inference_mode():
        stems = tiny()(mix)
    assert stems.shape == (1, 2, channels, length)
    assert stems.isfinite().all()


@pytest.mark.parametrize("post", [{}, {"wiener": 1}, {"griffin_lim": 2}])
@pytest.mark.parametrize("above", ["zeros", "average"])
def test_any_filter_and_when_stems_sum_to_the_song(above: str, post: dict[str, int]) -> None:
    model, mix = tiny(above=above, **post), noise(5000, batch=2)
    with torch.inference_mode():
        stems = model(mix)
    rest = float((stems.sum(1) - mix).norm() / mix.norm())
    assert model.sums == (above == "average" and "griffin_lim" not in post)
    assert (rest < 1e-5) == model.sums


def test_mono_is_heard_as_two_equal_channels() -> None:
    model, m = tiny(), torch.rand(2, 1, 513, 9)
    with torch.inference_mode():
        mono, stereo = model.estimate(m), model.estimate(m.expand(-1, 2, -1, -1))
    torch.testing.assert_close(mono, stereo.mean(2, keepdim=True))


@pytest.mark.parametrize("post", [{}, {"wiener": 1}, {"griffin_lim": 2}, {"above": "average"}])
def test_silence_stays_silence(post: dict[str, Any]) -> None:
    with torch.inference_mode():
        stems = tiny(**post)(torch.zeros(1, 2, 5000))
    assert torch.equal(stems, torch.zeros(1, 2, 2, 5000))


@pytest.mark.parametrize("changes", VARIANTS)
def test_training_reaches_every_weight(changes: dict[str, Any]) -> None:
    model = tiny(**changes).train()
    m = torch.rand(3, 2, 513, 128)
    (model.estimate(m) - m[:, None, :, :256] / 3).square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("changes", VARIANTS)
def test_float32_agrees_with_float64_and_bfloat16_nearly(changes: dict[str, Any]) -> None:
    model, mix = tiny(**changes), noise(20000)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
        torch.testing.assert_close(stems.double(), model.double()(mix.double()), rtol=0, atol=1e-4)
    assert 0 < float((low - stems).norm() / stems.norm()) < 0.01


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    model, mix = tiny(), noise(5000)
    save(tmp_path / "spleeter.safetensors", model, architecture="spleeter", licence="MIT", training={})
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "spleeter.safetensors")(mix), model(mix))


def test_chunks_are_close_to_the_whole_song() -> None:
    model, mix = tiny(), noise(100_000)[0]
    with torch.inference_mode():
        whole = model(mix[None])[0]
        chunks = torch.cat(list(stream([mix], model, choose_chunking(model, None, 0.1, 1, 2))), -1)
    assert float((chunks - whole).norm() / whole.norm()) < 0.1  # its strides of 64 frames begin elsewhere


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"bins": 1000}, "bins = 1000 and frames = 512 must be multiples of 64"),
        ({"frames": 500}, "bins = 1024 and frames = 500 must be multiples of 64"),
        ({"bins": 2112}, "bins = 2112 must fit 2049 bins"),
        ({"widths": [16, 0]}, "widths must be at least 1"),
        ({"activation": "tanh"}, "activation must be one of leaky, elu, got 'tanh'"),
        ({"masks": "some"}, "masks must be one of sigmoid, softmax, got 'some'"),
        ({"above": "ones"}, "above must be one of zeros, average, got 'ones'"),
        ({"dropout": -0.1}, "dropout must be a share from 0 to below 1, got -0.1"),
        ({"griffin_lim": -1}, "wiener and griffin_lim count iterations, got 0 and -1"),
    ],
)
def test_settings_that_cannot_be_are_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"spleeter: {says}"):
        build("spleeter", config)
