"""The BLSTM of the blend: its layers written out, its size, and what holds for every model of spectrograms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.blstm import BLSTM, PRESETS, BLSTMConfig, Net
from separate.separator import choose_chunking
from separate.stream import stream

TINY: dict[str, Any] = {"n_fft": 1024, "hop": 256, "hidden": 8, "sample_rate": 8000, "segment": 4.0, "context": 0.5}


def tiny(**changes: Any) -> BLSTM:
    """A model of random weights, the same at every call, that hears noise at a level that does not saturate it."""
    torch.manual_seed(0)
    model = BLSTM(BLSTMConfig(**(TINY | changes)))
    for net in model.nets.values():
        assert isinstance(net, Net)
        torch.nn.init.constant_(net.input_scale, 0.003)
    return model.eval()


def noise(length: int, channels: int = 2, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(length))


def run_lstm(net: Net, x: Tensor) -> Tensor:
    """The gates of every layer and direction, step by step: (frame, width) -> (frame, 2 · hidden)."""
    hidden = net.lstm.hidden_size
    for layer in range(net.lstm.num_layers):
        both = torch.zeros(len(x), 2 * hidden)
        for direction, frames in enumerate((range(len(x)), reversed(range(len(x))))):
            weight_x, weight_h, bias_x, bias_h = net.lstm.all_weights[2 * layer + direction]
            h, c = torch.zeros(hidden), torch.zeros(hidden)
            for t in frames:
                i, f, g, o = (weight_x @ x[t] + bias_x + weight_h @ h + bias_h).chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                both[t, direction * hidden : (direction + 1) * hidden] = h
        x = both
    return x


def test_a_net_is_its_layers_in_their_order() -> None:
    net = Net(BLSTMConfig(n_fft=16, hop=4, hidden=3))
    with torch.no_grad():
        for scale in (net.input_mean, net.input_scale, net.output_scale):
            scale.uniform_(0.5, 2)
        m = torch.rand(1, 2, 9, 5)
        heard = (m[0] - net.input_mean[:, None]) * net.input_scale[:, None]  # (2, bin, frame)
        y = net.linear(run_lstm(net, heard.flatten(0, 1).T)).T.reshape(2, 9, 5)
        expected = (y * net.output_scale[:, None]).relu()
        torch.testing.assert_close(net(m)[0], expected)
    assert expected.any()


@pytest.mark.parametrize(("name", "hidden"), [("250", 250), ("500", 500)])
def test_sizes(name: str, hidden: int) -> None:
    with torch.device("meta"):
        model = build("blstm", PRESETS[name])
    gates = 4 * hidden
    first = 2 * gates * (4098 + hidden + 2)
    others = 2 * 2 * gates * (2 * hidden + hidden + 2)
    expected = first + others + (2 * hidden + 1) * 4098 + 3 * 2049
    assert {sum(p.numel() for p in net.parameters()) for net in model.nets.values()} == {expected}
    assert list(model.nets) == ["vocals", "drums", "bass", "other"]


def test_training_reaches_every_weight() -> None:
    model = tiny(dropout=0.1).train()
    model.estimate(torch.rand(2, 2, 513, 11)).square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_float32_agrees_with_float64_and_bfloat16_nearly() -> None:
    model, mix = tiny(), noise(20000)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
        torch.testing.assert_close(stems.double(), model.double()(mix.double()), rtol=0, atol=1e-4)
    assert 0 < float((low - stems).norm() / stems.norm()) < 0.02


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    model, mix = tiny(), noise(5000)
    save(tmp_path / "blstm.safetensors", model, architecture="blstm", licence="MIT", training={})
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "blstm.safetensors")(mix), model(mix))


def test_chunks_agree_with_the_whole_song() -> None:
    model, mix = tiny(wiener=0), noise(100_000)[0]
    with torch.inference_mode():
        whole = model(mix[None])[0]
        chunks = torch.cat(list(stream([mix], model, choose_chunking(model, None, 0.1, 1, 2))), -1)
    assert float((chunks - whole).norm() / whole.norm()) < 1e-3


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"dropout": 1.5}, "dropout must be a share from 0 to below 1, got 1.5"),
        ({"hop": 2000}, "n_fft = 4096 must be even, and hop = 2000 from 1 to a quarter of it"),
        ({"sources": []}, "sources must name at least one, and each once, got none"),
    ],
)
def test_settings_that_cannot_be_are_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"blstm: {says}"):
        build("blstm", config)
