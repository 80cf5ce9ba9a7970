"""The MMDenseLSTM: its tables, its blocks by hand, and the whole of a small one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.mmdenselstm import BandNet, LSTMBlock, MMDenseLSTM, MMDenseLSTMConfig
from separate.stream import Chunking, stream
from tests.conftest import music

SMALL: dict[str, Any] = {
    "sources": ("voice", "rest"),
    "n_fft": 256,
    "hop": 64,
    "segment": 1.0,
    "context": 0.1,
    "bands": (30, 40, 59),
    "first": (4, 4, 4, 3),
    "growth": (4, 3, 2, 3),
    "low": (2, 2, 2, 2, 2),
    "low_units": (0, 0, 8, 6, 0),
    "middle": (1, 2, 1),
    "middle_units": (0, 4, 0),
    "high": (1, 1, 1),
    "high_units": (0, 2, 0),
    "full": (1, 1, 2, 1, 1),
    "full_units": (0, 0, 4, 0, 0),
    "last": (3, 2),
}


def small(**changes: Any) -> MMDenseLSTM:
    torch.manual_seed(0)
    model = MMDenseLSTM(MMDenseLSTMConfig(**(SMALL | changes))).eval()
    for net in model.nets:
        torch.nn.init.constant_(net.output.bias, 0.05)  # type: ignore[union-attr, arg-type]
    return model


def audio(length: int, channels: int = 2, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(1)) * 0.2


def test_the_default_is_the_published_model() -> None:
    with torch.device("meta"):
        model = build("mmdenselstm", {})
        net = model.nets[0]
        bands = [*net.parts, net.full]
    assert [[len(block[0].layers) for block in band.blocks] for band in bands] == [
        [5] * 7,
        [4] * 7,
        [1] * 5,
        [3, 3, 4, 5, 5, 5, 4, 3, 3],
    ]
    assert [band.blocks[0][0].layers[0].conv.out_channels for band in bands] == [14, 4, 2, 7]
    units = [[2 * block[1].lstm.hidden_size if len(block) > 1 else 0 for block in band.blocks] for band in bands]
    assert [max(row) for row in units] == [128, 32, 8, 128]
    # Published as 1.22 M: what is open of the model differs by so much.
    assert [sum(p.numel() for p in net.parameters()) for net in model.nets] == [1_363_186] * 4


def test_a_recurrent_block_by_hand() -> None:
    torch.manual_seed(0)
    block = LSTMBlock(3, bins=5, units=4).eval()
    x = torch.randn(2, 3, 5, 7)
    y = block(x)
    assert torch.equal(y[:, :3], x)
    for song in range(2):
        feature = block.conv(F.relu(block.norm(x[song : song + 1])))[0, 0]  # (bin, frame)
        states, _ = block.lstm(feature.T[:, None])
        torch.testing.assert_close(y[song, 3], block.linear(states)[:, 0].T)


def test_two_scales_by_hand() -> None:
    torch.manual_seed(0)
    net = BandNet(7, 3, 2, (1, 2, 1), (0, 4, 0), 0.1).eval()
    x = torch.randn(1, 2, 7, 8)
    top = net.blocks[0](net.first(x))
    up = net.up[0](net.blocks[1](F.max_pool2d(net.down[0](top), 2)))
    assert up.shape == (1, 3, 6, 8)  # growth 2 and the recurrent channel; 7 bins halved are 3
    torch.testing.assert_close(net(x), net.blocks[2](torch.cat([F.pad(up, (0, 0, 0, 1)), top], 1)))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100])
def test_any_length_mono_and_stereo(length: int, channels: int) -> None:
    mix = audio(length, channels, batch=2)
    with torch.inference_mode():
        stems = small()(mix)
    assert stems.shape == (2, 2, channels, length)
    assert float((stems.sum(1) - mix).norm() / mix.norm()) < 1e-5


@pytest.mark.parametrize("post", [{"wiener": 0}, {"wiener": 1}, {"griffin_lim": 2}])
def test_silence_stays_silence_after_any_filter(post: dict[str, int]) -> None:
    with torch.inference_mode():
        assert torch.equal(small(**post)(torch.zeros(1, 2, 500)), torch.zeros(1, 2, 2, 500))


def test_training_reaches_every_weight() -> None:
    model = small().train()
    spectrogram = torch.rand(2, 2, 129, 12) * 64
    estimate = model.estimate(spectrogram)
    assert estimate.min() >= 0
    (estimate - spectrogram[:, None] / 3).square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())
    assert not [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.any() and "bias" not in n]


def test_float64_gives_what_float32_gives() -> None:
    model, mix = small(), audio(4000)
    with torch.inference_mode():
        stems = model(mix)
        torch.testing.assert_close(stems.double(), model.double()(mix.double()), rtol=0, atol=1e-4)


def test_a_checkpoint_gives_the_same_stems(tmp_path: Path) -> None:
    model, mix = small(), audio(3000)
    save(tmp_path / "model.safetensors", model, architecture="mmdenselstm", licence="MIT", training={"data": "none"})
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "model.safetensors")(mix), model(mix))


def test_on_the_grid_chunks_are_nearly_the_whole_song() -> None:
    model = small(wiener=0)  # a Wiener filter's statistics are a chunk's own
    song = torch.from_numpy(music(1.5, 44100))
    grid = model.grid
    assert grid == 64 * 4
    chunking = Chunking(20000 // grid * grid, 3000 // grid * grid, 0.1, grid=grid)
    with torch.inference_mode():
        whole = model(song[None])[0]
        chunked = torch.cat(list(stream(torch.split(song, 10000, 1), model, chunking)), -1)
    assert 20 * math.log10(float((chunked - whole).norm() / whole.norm())) < -70


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"bands": [380, 644, 1024]}, "bands must be three that share 2049 bins"),
        ({"growth": [14, 4, 2]}, "four numbers each"),
        ({"low": [5, 5]}, "low must be an odd number of blocks"),
        ({"high": [1] * 23}, "high must be .* that 1025 bins allow"),
        ({"full_units": [0, 128]}, "full_units must be even, one number for each"),
        ({"middle_units": [0, 0, 0, 31, 0, 0, 0]}, "middle_units must be even"),
        ({"context": 7.0}, "fills a segment"),
        ({"wiener": -1}, "count iterations"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        build("mmdenselstm", config)
