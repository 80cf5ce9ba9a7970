"""Wave-U-Net: the paper's sizes and models, every convolution at its place, and any song at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.wave_unet import PRESETS, Up, WaveUNet, WaveUNetConfig
from separate.separator import ArraySong, Separator
from tests.conftest import music

VARIANTS: list[dict[str, Any]] = [
    {},
    {"up": "learned"},
    {"padding": "same"},
    {"output": "direct"},
    {"stereo": False},
    {"stereo": False, "padding": "same", "output": "direct", "up": "learned"},
]


def tiny(**changes: Any) -> WaveUNet:
    """A model of a few thousand random weights, the same at every call."""
    torch.manual_seed(0)
    return WaveUNet(WaveUNetConfig(**({"filters": 2} | changes))).eval()


def test_the_papers_models_have_its_sizes() -> None:
    sizes = {}
    for name, changes in PRESETS.items():
        with torch.device("meta"):
            model = build("wave-u-net", changes)
        sizes[name] = (sum(parameter.numel() for parameter in model.parameters()), model.sources, model.sample_rate)
    # 15 · 24² · Σ i (i − 1) + 5 · 24² · Σ i (2 i + 1), the biases, and the ends, which differ from model to model.
    voice = ("accompaniment", "vocals")
    assert sizes == {
        "m1": (10_263_028, voice, 22050),
        "m2": (10_263_002, voice, 22050),
        "m3": (10_263_002, voice, 22050),
        "m4": (10_263_390, voice, 22050),
        "m5": (10_265_550, voice, 22050),
        "m5-high-rate": (10_265_550, voice, 44100),
        "m6": (10_263_498, ("bass", "drums", "other", "vocals"), 22050),
    }


def test_16389_samples_take_the_papers_147443() -> None:
    model = build("wave-u-net", {"filters": 2})
    before, after = model.surroundings(16389)
    assert before + 16389 + after == 147_443
    assert before == after == 65527
    assert model.context * model.sample_rate >= before
    heard = []
    model.down[-1].register_forward_hook(lambda layer, inputs, output: heard.append(output.shape[2]))
    with torch.inference_mode():
        model(torch.zeros(1, 2, 16389))
    assert heard == [9]  # of the paper's Table 1


@pytest.mark.parametrize("learned", [False, True])
def test_a_sample_is_put_between_each_two(learned: bool) -> None:
    up = Up(3, learned)
    if up.weight is not None:
        up.weight.data.copy_(torch.tensor([[0.0], [100.0], [-100.0]]))  # the mean, the one before, the one after
    x = torch.randn(2, 3, 5)
    y = up(x)
    assert y.shape == (2, 3, 9)
    assert torch.equal(y[..., ::2], x)
    means = (x[..., 1:] + x[..., :-1]) / 2
    between = torch.stack([means[:, 0], x[:, 1, :-1], x[:, 2, 1:]], 1) if learned else means
    torch.testing.assert_close(y[..., 1::2], between)


def by_hand(model: WaveUNet, mix: Tensor) -> Tensor:
    """The two levels of a net with padding, straight down the paper's Table 1."""
    conv = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv1d)}

    def run(name: str, x: Tensor) -> Tensor:
        return F.leaky_relu(F.conv1d(x, conv[name].weight, conv[name].bias, padding="same"), 0.2)

    first = run("down.0", mix)
    second = run("down.1", first[..., ::2])
    bottom = run("down.2", second[..., ::2])
    x = run(
        "merge.0", torch.cat([F.interpolate(bottom, second.shape[2], mode="linear", align_corners=True), second], 1)
    )
    x = run("merge.1", torch.cat([F.interpolate(x, first.shape[2], mode="linear", align_corners=True), first], 1))
    out = conv["output"]
    stems = F.conv1d(torch.cat([x, mix], 1), out.weight, out.bias).tanh().view(len(mix), 3, 2, -1)
    return torch.cat([stems, mix[:, None] - stems.sum(1, keepdim=True)], 1)


def test_two_levels_are_what_the_table_says() -> None:
    model = tiny(levels=2, filters=4, padding="same")
    mix = torch.randn(2, 2, 101)
    with torch.inference_mode():
        torch.testing.assert_close(model(mix), by_hand(model, mix))


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_without_padding_the_net_says_of_the_middle_what_it_says_with(levels: int) -> None:
    """Away from the ends, where zeros come in, padding changes nothing: so what is cut off is cut off evenly."""
    padded, valid = tiny(levels=levels, padding="same"), tiny(levels=levels)
    mix = torch.randn(1, 2, 5000)
    reach = valid.surroundings(1)[0]
    late = (reach + 15 // 2) % 2**levels  # so that both leave out the same samples
    with torch.inference_mode():
        a, b = padded(F.pad(mix, (late, 0)))[..., late:], valid(mix)
    torch.testing.assert_close(a[..., reach:-reach], b[..., reach:-reach])
    assert not torch.allclose(a, b)


def test_chunks_say_what_the_whole_song_says() -> None:
    """The context is all that the net hears, and chunks start where no level leaves out other samples."""
    samples = music(9.0, 44100)
    model = tiny(segment=5.0, context=1.5)
    chunked = Separator(model, device="cpu", precision="float32", batch=2).separate(ArraySong(samples, 44100))
    with torch.inference_mode():
        whole = model(torch.from_numpy(samples)[None])[0]
    for stem, name in zip(whole, model.sources, strict=True):
        assert (torch.from_numpy(chunked[name]) - stem).norm() / stem.norm() < 1e-5


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("length", "changes"),
    [(length, changes) for length in (1, 100, 44100) for changes in VARIANTS] + [(441001, VARIANTS[0])],
)
def test_any_length_in_mono_and_stereo(length: int, channels: int, changes: dict[str, Any]) -> None:
    mix = torch.randn(1, channels, length)
    model = tiny(**changes)
    with torch.inference_mode():
        stems = model(mix)
    assert stems.shape == (1, 4, channels, length)
    assert stems.isfinite().all()
    assert model.sums == (model.config.output == "difference")
    if model.sums:
        torch.testing.assert_close(stems.sum(1), mix, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS)
def test_training_reaches_every_weight(changes: dict[str, Any]) -> None:
    model = tiny(**changes, levels=4)
    model(torch.randn(2, 2, 3000)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("changes", VARIANTS)
def test_silence_stays_silence_beside_a_song_in_the_same_batch(changes: dict[str, Any]) -> None:
    mix = torch.stack([torch.zeros(2, 3000), torch.randn(2, 3000)])
    with torch.inference_mode():
        stems = tiny(**changes)(mix)
    assert torch.equal(stems[0], torch.zeros(4, 2, 3000))
    assert stems[1].std() > 1e-2


def test_mono_is_heard_as_two_equal_channels() -> None:
    model, mix = tiny(), torch.randn(2, 1, 500)
    with torch.inference_mode():
        torch.testing.assert_close(model(mix), model(mix.repeat(1, 2, 1)).mean(2, keepdim=True))


def test_a_net_of_one_channel_hears_channels_one_by_one() -> None:
    model, mix = tiny(stereo=False), torch.randn(2, 2, 500)
    with torch.inference_mode():
        stems = model(mix)
        for channel in range(2):
            torch.testing.assert_close(model(mix[:, channel : channel + 1])[:, :, 0], stems[:, :, channel])


@pytest.mark.parametrize("changes", VARIANTS)
def test_float64_and_bfloat16_say_nearly_the_same(changes: dict[str, Any]) -> None:
    model, mix = tiny(**changes), torch.randn(1, 2, 20000)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
        exact = model.double()(mix.double())
    assert exact.dtype == torch.float64
    assert (stems - exact).abs().max() < 1e-4
    assert low.dtype == torch.float32
    assert (low - stems).norm() / stems.norm() < 0.01


def test_a_checkpoint_brings_the_model_back(tmp_path: Path) -> None:
    model, mix = tiny(levels=3, up="learned", sources=("voice", "rest")), torch.randn(1, 2, 300)
    save(tmp_path / "wave.safetensors", model, architecture="wave-u-net", licence="MIT", training={})
    again = load(tmp_path / "wave.safetensors")
    assert again.config == model.config
    with torch.inference_mode():
        assert torch.equal(again(mix), model(mix))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"filters": 0}, "filters must be at least 1, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"down_kernel": 4}, "down_kernel = 4 .* must be odd"),
        ({"up_kernel": 2}, "up_kernel = 2 must be odd"),
        ({"padding": "reflect"}, "padding must be one of valid, same, got 'reflect'"),
        ({"up": "nearest"}, "up must be one of linear, learned, got 'nearest'"),
        ({"output": "mask"}, "output must be one of difference, direct, got 'mask'"),
        ({"sources": ["vocals"]}, "too few .*difference.*vocals"),
        ({"sources": [], "output": "direct"}, "too few .*direct"),
        ({"segment": 2.0, "context": 1.0}, "context of 1.0 s .* of 2.0 s"),
    ],
)
def test_settings_that_make_no_model_are_refused_by_name_and_value(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"^wave-u-net: .*{says}"):
        build("wave-u-net", config)
