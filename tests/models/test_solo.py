"""What holds for every model that has a net for each source."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from separate.models import build

TINY: dict[str, Any] = {"n_fft": 1024, "hop": 256, "hidden": 16, "sample_rate": 8000}
MODELS: dict[str, dict[str, Any]] = {"open-unmix": {"bins": 372}, "blstm": {}}
SOLO = pytest.mark.parametrize("name", list(MODELS))


def tiny(name: str, **post: int) -> Any:
    """A model of random weights, the same at every call, whose nets hear noise at a level that does not saturate."""
    torch.manual_seed(0)
    model = build(name, TINY | MODELS[name] | post).eval()
    for net in model.nets.values():
        torch.nn.init.constant_(net.input_scale, 0.003)
    return model


def noise(length: int, channels: int = 2, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(length))


@SOLO
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100, 441001])
def test_stems_are_as_long_as_the_song_and_sum_to_it(name: str, length: int, channels: int) -> None:
    mix = noise(length, channels)
    with torch.inference_mode():
        stems = tiny(name)(mix)
    assert stems.shape == (1, 4, channels, length)
    assert float((stems.sum(1) - mix).norm() / mix.norm()) < 1e-5


@SOLO
@pytest.mark.parametrize("post", [{"wiener": 0}, {"wiener": 2}, {"griffin_lim": 2}])
def test_any_filter(name: str, post: dict[str, int]) -> None:
    model, mix = tiny(name, **post), noise(5000, batch=2)
    with torch.inference_mode():
        stems = model(mix)
    assert stems.isfinite().all()
    assert model.sums == ("griffin_lim" not in post)
    if model.sums:
        torch.testing.assert_close(stems.sum(1), mix, rtol=1e-4, atol=1e-5)


@SOLO
def test_mono_is_heard_as_two_equal_channels(name: str) -> None:
    model, m = tiny(name), torch.rand(2, 1, 513, 9)
    with torch.inference_mode():
        mono, stereo = model.estimate(m), model.estimate(m.expand(-1, 2, -1, -1))
    torch.testing.assert_close(mono, stereo.mean(2, keepdim=True))


@SOLO
@pytest.mark.parametrize("training", [True, False])
def test_songs_of_a_batch_come_one_by_one(name: str, training: bool) -> None:
    model, m = tiny(name).train(training), torch.rand(3, 2, 513, 9)
    with torch.inference_mode():
        songs = list(model.songs(m))
        assert len(songs) == 3
        if not training:  # where norms hear the whole batch
            for song, alone in zip(songs, m, strict=True):
                torch.testing.assert_close(model.estimate(alone[None])[0], song, rtol=1e-4, atol=1e-5)


@SOLO
@pytest.mark.parametrize("post", [{"wiener": 1}, {"wiener": 0}, {"griffin_lim": 2}])
def test_silence_stays_silence(name: str, post: dict[str, int]) -> None:
    with torch.inference_mode():
        stems = tiny(name, **post)(torch.zeros(1, 2, 5000))
    assert torch.equal(stems, torch.zeros(1, 4, 2, 5000))
