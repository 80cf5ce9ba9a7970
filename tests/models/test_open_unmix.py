"""Open-Unmix against its package on the same weights, and what holds for every model of spectrograms."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.inference import ROWS
from separate.models.open_unmix import PRESETS, OpenUnmix, OpenUnmixConfig
from separate.separator import choose_chunking
from separate.stream import stream

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openunmix
    from openunmix.model import OpenUnmix as TheirNet
    from openunmix.model import Separator as TheirSeparator

TINY: dict[str, Any] = {"n_fft": 1024, "hop": 256, "hidden": 16, "bins": 372, "sample_rate": 8000}
VARIANTS: list[dict[str, Any]] = [{}, {"bins": 0}, {"bidirectional": False}, {"layers": 1}]


def shaken(net: Any) -> Any:
    """Give every weight and every statistic of a net a value of its own, as training would."""
    for name, value in net.state_dict().items():
        if "running_var" in name or "scale" in name:
            value.uniform_(0.5, 2)
        elif "running_mean" in name or "mean" in name or name.endswith("bias"):
            value.normal_(0, 0.1)
    return net.eval()


def tiny(**changes: Any) -> OpenUnmix:
    """A model of a few thousand random weights, the same at every call."""
    torch.manual_seed(0)
    model: OpenUnmix = shaken(OpenUnmix(OpenUnmixConfig(**(TINY | changes))))
    return model


def theirs(model: OpenUnmix) -> dict[str, Any]:
    """The package's nets with the weights of `model`, name by name."""
    config = model.config
    nets = {}
    for source, net in model.nets.items():
        nets[source] = TheirNet(
            nb_bins=config.n_fft // 2 + 1,
            hidden_size=config.hidden,
            nb_layers=config.layers,
            unidirectional=not config.bidirectional,
            max_bin=config.bins or None,
        ).eval()
        nets[source].load_state_dict(net.state_dict(), strict=True)
    return nets


def settled(model: OpenUnmix, mix: Tensor) -> OpenUnmix:
    """Give the nets the scales and statistics of a mix, as training does, and masks around one half."""
    m = model.stft(mix).abs()
    nets: Any = model.nets.values()
    with torch.no_grad():
        for net in nets:
            heard = m[:, :, : net.bins]
            net.input_mean.copy_(-heard.mean((0, 1, 3)))
            net.input_scale.copy_(1 / heard.std((0, 1, 3)))
            net.output_mean.fill_(0.5)
            net.output_scale.fill_(0.25)
            net.bn1.momentum = net.bn2.momentum = net.bn3.momentum = None  # statistics of all that is heard
        model.train().estimate(m)
    return model.eval()


def noise(length: int, channels: int = 2, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_nets_are_those_of_the_package(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    m = noise(3000, batch=3).view(3, 2, -1, 30)[:, :, :1].abs() + torch.rand(3, 2, 513, 30)
    with torch.inference_mode():
        ours = model.estimate(m)
        for i, net in enumerate(theirs(model).values()):
            torch.testing.assert_close(ours[:, i], net(m.clone()), rtol=0, atol=1e-5)
    assert 0.1 < float((ours > 0).float().mean()) <= 1


@pytest.mark.parametrize("automatic", [False, True])
@pytest.mark.parametrize("changes", VARIANTS)
def test_for_inference_nets_are_written_otherwise_but_say_the_same(changes: dict[str, Any], automatic: bool) -> None:
    model = tiny(**changes)
    m = torch.rand(3, 2, 513, ROWS + 9)  # more than a block of frames
    with torch.autocast("cpu", torch.bfloat16, enabled=automatic):
        expected = model.estimate(m).detach()
        with torch.inference_mode():
            ours = model.estimate(m)
            alone = torch.cat([model.estimate(song[None]) for song in m])
            turned = model.estimate(m.mT.contiguous().mT)  # as `STFT` lays it out
    error = float((ours - expected).norm() / expected.norm())
    assert error < (1e-2 if automatic else 1e-6)
    assert float((alone - ours).norm() / ours.norm()) < 1e-6  # the LSTM of torch rounds otherwise for one row
    assert torch.equal(turned, ours)


def test_weights_that_change_are_heard_at_once() -> None:
    model, m = tiny(), torch.rand(1, 2, 513, 9)
    with torch.inference_mode():
        before = model.estimate(m)
    nets: Any = model.nets.values()
    with torch.no_grad():
        for net in nets:
            net.output_mean.add_(1)
            net.bn2.running_mean.add_(1)
    expected = model.estimate(m).detach()
    with torch.inference_mode():
        after = model.estimate(m)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_with_its_filter_it_is_the_package_too(iterations: int) -> None:
    model = tiny(wiener=iterations)
    package = TheirSeparator(
        theirs(model), niter=iterations, softmask=iterations == 0, n_fft=1024, n_hop=256, wiener_win_len=None
    )
    mix = noise(20000, batch=2)
    with torch.inference_mode():
        expected = package.eval()(mix)
        rest = mix - expected.sum(1)  # in bins that no source claims; ours is shared out, so that stems sum to the song
        torch.testing.assert_close(model(mix), expected + rest[:, None] / 4, rtol=0, atol=1e-4)
    assert float(expected.norm()) > 3 * float(rest.norm())


def test_where_sources_claim_everything_it_is_the_package_to_the_last_digit() -> None:
    model, mix = tiny(), noise(20000)
    nets: Any = model.nets.values()
    for net in nets:
        nn.init.constant_(net.output_mean, 3)
    package = TheirSeparator(theirs(model), niter=1, n_fft=1024, n_hop=256, wiener_win_len=None).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(mix), package(mix), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_published_shapes_are_those_of_the_package(name: str) -> None:
    with torch.device("meta"):
        model = build("open-unmix", PRESETS[name])
    published = getattr(openunmix, f"{name}_spec")(pretrained=False)
    assert tuple(published) == model.sources
    for source, net in published.items():
        shapes = {key: value.shape for key, value in net.state_dict().items()}
        assert {key: value.shape for key, value in model.nets[source].state_dict().items()} == shapes
    count = sum(p.numel() for p in model.nets["vocals"].parameters())
    assert count == sum(p.numel() for p in published["vocals"].parameters())
    assert round(count / 1e6, 1) == {"umx": 8.9, "umxhq": 8.9, "umxl": 28.3}[name]
    assert (model.stft.n_fft, model.stft.hop, model.sample_rate) == (4096, 1024, 44100)


def test_songs_of_a_batch_do_not_meet() -> None:
    model, mix = tiny(), noise(6000, batch=3)
    with torch.inference_mode():
        alone = torch.cat([model(song[None]) for song in mix])
        torch.testing.assert_close(model(mix), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS)
def test_training_reaches_every_weight(changes: dict[str, Any]) -> None:
    model = tiny(**changes).train()
    model.estimate(torch.rand(2, 2, 513, 11)).square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_float32_agrees_with_float64() -> None:
    mix = noise(20000)
    with torch.inference_mode():
        torch.testing.assert_close(tiny()(mix).double(), tiny().double()(mix.double()), rtol=0, atol=1e-4)


def test_bfloat16_changes_the_stems_by_less_than_40_decibels() -> None:
    mix = noise(20000)
    model = settled(tiny(hidden=64), mix)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
    assert low.dtype == torch.float32
    assert 0 < float((low - stems).norm() / stems.norm()) < 0.01


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    model, mix = tiny(), noise(5000)
    save(tmp_path / "umx.safetensors", model, architecture="open-unmix", licence="MIT", training={})
    with torch.inference_mode():
        assert torch.equal(load(tmp_path / "umx.safetensors")(mix), model(mix))


def test_chunks_agree_with_the_whole_song() -> None:
    model, mix = tiny(wiener=0, segment=4.0, context=0.5), noise(100_000)[0]
    with torch.inference_mode():
        whole = model(mix[None])[0]
        chunks = torch.cat(list(stream([mix], model, choose_chunking(model, None, 0.1, 1, 2))), -1)
    assert float((chunks - whole).norm() / whole.norm()) < 1e-3


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"hidden": 5}, "a width of 5 does not split into two directions"),
        ({"bins": 2050}, "bins = 2050 must fit 2049 bins"),
        ({"dropout": 1.0}, "dropout must be a share from 0 to below 1, got 1.0"),
        ({"context": 15.0}, "a context of 15.0 s at either end fills a segment of 30.0 s"),
        ({"n_fft": 4095}, "n_fft = 4095 must be even, and hop = 1024"),
        ({"sample_rate": 0}, "sample_rate must be at least 1, got 0"),
        ({"wiener": -1}, "wiener and griffin_lim count iterations, got -1 and 0"),
        ({"sources": []}, "sources must name at least one, and each once, got none"),
        ({"sources": ["vocals", "vocals"]}, "sources must name .* each once, got vocals, vocals"),
        ({"sources": ["keys"]}, "a stem cannot be called 'keys'"),
        ({"sources": ["a.b"]}, "a stem cannot be called 'a.b'"),
    ],
)
def test_settings_that_cannot_be_are_named(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"open-unmix: {says}"):
        build("open-unmix", config)
