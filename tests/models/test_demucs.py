"""Demucs: equal to its authors' package, the paper's sizes and Table 2, and any song at all."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import build
from separate.models.demucs import ABLATIONS, PRESETS, Demucs, DemucsConfig
from tests.conftest import music


def tiny(**changes: Any) -> Demucs:
    """A model of a few thousand random weights, the same at every call."""
    torch.manual_seed(0)
    return Demucs(DemucsConfig(**({"channels": 4} | changes))).eval()


def valid_length(length: int) -> int:
    """What the authors' version 1 pads a mixture to, by the paper's kernels and strides."""
    for _ in range(6):
        length = max(1, math.ceil((length - 8) / 4) + 1) + 2
    for _ in range(6):
        length = (length - 1) * 4 + 8
    return length


def peer(model: Demucs) -> Any:
    """The authors' own code with the weights of `model`, and with the settings that it had in version 1."""
    from demucs.demucs import Demucs as Package

    config = model.config
    package = Package(
        list(config.sources),
        channels=config.channels,
        lstm_layers=config.lstm_layers,
        gelu=False,
        norm_starts=config.depth,
        dconv_mode=0,
        normalize=config.normalize,
        resample=False,
    )
    package.load_state_dict(model.state_dict())
    for layer in package.decoder:
        layer[0].padding = (0,)  # later versions pad this convolution, and leave the valid length as it comes
    package.valid_length = valid_length
    for name in ("sources", "sample_rate", "segment", "context", "sums"):
        setattr(package, name, getattr(model, name))
    return package.eval()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("length", [6827, 6828, 19116, 441004])
def test_the_authors_package_says_the_same(length: int, normalize: bool) -> None:
    """At lengths that need the least padding: of more, the package puts half in front, and ours goes behind."""
    model = tiny(normalize=normalize)
    mix = 0.3 * torch.randn(2, 2, length, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        stems, expected = model(mix), peer(model)(mix)
    assert expected.std() > 1e-3
    assert (stems - expected).abs().max() < 1e-5


@pytest.mark.parametrize("changes", [{}, {"up": "linear"}, {"kernel": 5}, {"decoder_kernel": 1}])
@pytest.mark.parametrize("length", [1, 2, 100, 5001])
def test_silence_after_a_song_changes_nothing(changes: dict[str, Any], length: int) -> None:
    """So the frames of a song of any length lie where those of a longer one do; without an LSTM, that hears the end."""
    model = tiny(normalize=False, lstm_layers=0, **changes)
    mix = torch.randn(1, 2, length, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        short, long = model(mix), model(torch.nn.functional.pad(mix, (0, 9001)))
    assert short.std() > 1e-4
    assert (short - long[..., :length]).abs().max() < 1e-5


@pytest.mark.parametrize(("length", "valid"), [(441000, 451924), (44100, 58708), (1, 17748)])
def test_valid_lengths_are_the_papers(length: int, valid: int) -> None:
    assert tiny().valid_length(length) == valid == valid_length(length)


@pytest.mark.parametrize("changes", [{}, {"up": "linear"}, {"depth": 3, "kernel": 4, "stride": 2}, {"kernel": 5}])
def test_a_valid_length_leaves_nothing_over_and_is_enough(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    kernel, stride, linear = model.config.kernel, model.config.stride, model.config.up == "linear"
    for wanted in (1, 2, 1000, 44101):
        length = model.valid_length(wanted)
        for _ in range(model.config.depth):
            assert (length - kernel) % stride == 0
            length = (length - kernel) // stride + 1
        for _ in range(model.config.depth):
            length = (length - 1) * stride + 1 - 2 - (kernel - 1) if linear else (length - 3) * stride + kernel
        assert wanted <= length


@pytest.mark.parametrize(
    ("preset", "channels", "parameters"), [("demucs", 64, 265_679_496), ("demucs-100", 100, 648_548_208)]
)
def test_the_released_models_have_the_papers_sizes(preset: str, channels: int, parameters: int) -> None:
    with torch.device("meta"):
        model = build("demucs", PRESETS[preset])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    widths = [channels << level for level in range(6)]
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for level, width in enumerate(widths):
        inputs, outputs = (widths[level - 1],) * 2 if level else (2, 8)
        assert shapes[f"encoder.{level}.0.weight"] == (width, inputs, 8)
        assert shapes[f"encoder.{level}.2.weight"] == (2 * width, width, 1)
        assert shapes[f"decoder.{5 - level}.0.weight"] == (2 * width, width, 3)
        assert shapes[f"decoder.{5 - level}.2.weight"] == (width, outputs, 8)
    assert shapes["lstm.lstm.weight_hh_l1_reverse"] == (4 * widths[-1], widths[-1])
    assert shapes["lstm.linear.weight"] == (widths[-1], 2 * widths[-1])
    assert model.sources == ("drums", "bass", "other", "vocals")
    assert not model.sums


def test_table_2_changes_what_it_says() -> None:
    def sizes(changes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            return {name: tuple(value.shape) for name, value in build("demucs", changes).state_dict().items()}

    reference = sizes(ABLATIONS["reference"])
    assert reference == sizes({}) == sizes(ABLATIONS["no-rescaling"])
    changed = {
        name: sorted(key for key in reference | state if reference.get(key) != state.get(key))
        for name, state in ((name, sizes(ABLATIONS[name])) for name in ABLATIONS)
    }
    assert all(key.startswith("lstm.") for key in changed["no-lstm"])
    assert changed["no-encoder-convolution"] == sorted(
        f"encoder.{i}.2.{kind}" for i in range(6) for kind in ("weight", "bias")
    )
    assert changed["decoder-kernel-1"] == [f"decoder.{i}.0.weight" for i in range(6)]
    assert changed["relu"] == sorted(
        [f"encoder.{i}.2.{kind}" for i in range(6) for kind in ("weight", "bias")]
        + [f"decoder.{i}.0.{kind}" for i in range(6) for kind in ("weight", "bias")]
    )
    assert changed["upsample-convolution"] == [f"decoder.{i}.2.weight" for i in range(6)]
    assert sizes(ABLATIONS["upsample-convolution"])["decoder.5.2.weight"] == (8, 64, 8)
    deep = sizes(ABLATIONS["depth-12"])
    widths = [deep[f"encoder.{i}.0.weight"][0] for i in range(12)]
    assert widths[:5] == [64, 90, 127, 179, 253]
    assert all(wide == int(2**0.5 * narrow) for narrow, wide in itertools.pairwise(widths))
    assert deep["encoder.3.0.weight"] == (179, 127, 4)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_a_row_of_table_2_separates_and_learns_with_every_weight(name: str) -> None:
    model = tiny(**ABLATIONS[name])
    mix = torch.randn(2, 2, 30000)
    stems = model(mix)
    assert stems.shape == (2, 4, 2, 30000)
    stems.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_linear_interpolation_keeps_skips_in_their_place() -> None:
    """With convolutions that hand on one sample, a ramp comes out as the sum of three ramps: the deepest and two skips.

    Half a sample off the middle of each even kernel, which is two of the song on the second level, is all they stray.
    """
    changes = {"up": "linear", "lstm_layers": 0, "channels": 2, "depth": 2, "growth": 1.0, "activation": "relu"}
    model = tiny(**changes, normalize=False)
    for layer in model.modules():
        if isinstance(layer, nn.Conv1d) and layer.bias is not None:
            layer.weight.data.zero_()
            layer.bias.data.zero_()
            layer.weight.data[:, 0, layer.kernel_size[0] // 2] = 1
    ramp = torch.arange(5000.0).expand(1, 2, -1)
    with torch.inference_mode():
        stem = model(ramp)[0, 0, 0, 1000:4000]
    torch.testing.assert_close(stem.diff(), torch.full((2999,), 3.0), rtol=0, atol=5e-3)
    assert float((stem / 3 - ramp[0, 0, 1000:4000]).abs().max()) < 4


def test_rescaling_halves_the_distance_to_the_reference_in_decibels() -> None:
    plain, scaled = tiny(rescale=0.0, channels=16), tiny(rescale=0.1, channels=16)
    for name, weight in plain.state_dict().items():
        rescaled = scaled.state_dict()[name]
        if name.startswith("lstm"):
            assert torch.equal(rescaled, weight)
        elif name.endswith("weight"):
            torch.testing.assert_close(rescaled.std(), (weight.std() * 0.1).sqrt())
            bias = name.removesuffix("weight") + "bias"
            ratio = rescaled.std() / weight.std()
            torch.testing.assert_close(scaled.state_dict()[bias], plain.state_dict()[bias] * ratio)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100, 441001])
def test_any_length_in_mono_and_stereo(length: int, channels: int) -> None:
    with torch.inference_mode():
        stems = tiny()(torch.randn(1, channels, length))
    assert stems.shape == (1, 4, channels, length)
    assert stems.isfinite().all()


def test_mono_is_heard_as_two_equal_channels() -> None:
    model, mix = tiny(), torch.randn(2, 1, 5000)
    with torch.inference_mode():
        twice = model(mix.repeat(1, 2, 1))
        torch.testing.assert_close(model(mix), twice.mean(2, keepdim=True))


def test_silence_stays_silence_beside_a_song_in_the_same_batch() -> None:
    mix = torch.stack([torch.zeros(2, 9000), torch.randn(2, 9000)])
    with torch.inference_mode():
        stems = tiny()(mix)
    assert torch.equal(stems[0], torch.zeros(4, 2, 9000))
    assert stems[1].std() > 1e-2


def test_the_level_of_a_song_changes_the_level_of_its_stems_only() -> None:
    model, mix = tiny(), torch.randn(1, 2, 9000)
    with torch.inference_mode():
        torch.testing.assert_close(model(mix * 0.01) * 100, model(mix), rtol=2e-3, atol=2e-3)


def test_songs_of_a_batch_do_not_meet() -> None:
    model, mix = tiny(), torch.randn(3, 2, 9000)
    with torch.inference_mode():
        torch.testing.assert_close(torch.cat([model(mix[i : i + 1]) for i in range(3)]), model(mix))


def test_float64_says_the_same() -> None:
    model, mix = tiny(), torch.randn(1, 2, 44100)
    with torch.inference_mode():
        stems = model(mix)
        exact = model.double()(mix.double())
    assert exact.dtype == torch.float64
    assert (stems - exact).abs().max() < 1e-4


def test_bfloat16_is_40_db_below() -> None:
    model, mix = tiny(channels=16), torch.from_numpy(music(2.0, 44100))[None]
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
    assert low.dtype == torch.float32
    assert (low - stems).norm() / stems.norm() < 0.01


def test_a_checkpoint_brings_the_model_back(tmp_path: Path) -> None:
    model, mix = tiny(sources=("voice", "rest"), decoder_kernel=5), torch.randn(1, 2, 3000)
    save(tmp_path / "demucs.safetensors", model, architecture="demucs", licence="MIT", training={})
    again = load(tmp_path / "demucs.safetensors")
    assert again.config == model.config
    with torch.inference_mode():
        assert torch.equal(again(mix), model(mix))


def decibels(reference: Tensor, estimate: Tensor) -> float:
    return float(20 * torch.log10(reference.norm() / (reference - estimate).norm()))


def test_chunks_of_a_song_without_an_lstm_are_parts_of_the_whole() -> None:
    """Everything that a net of convolutions hears is in the context, as its frames lie on the same grid."""
    mix = torch.from_numpy(music(6.0, 44100))
    model = tiny(lstm_layers=0, depth=3, normalize=False)
    chunk = 81920
    with torch.inference_mode():
        whole = model(mix[None])[0]
        part = model(mix[None, :, 64 * 1000 : 64 * 1000 + chunk])[0]
    assert decibels(whole[..., 68000:120000], part[..., 4000:56000]) > 100


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"channels": 1}, "channels must be at least 2, got 1"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"kernel": 3}, "kernel of 3 .* stride of 4"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"sources": []}, "sources .*got none"),
        ({"lstm_layers": -1}, "lstm_layers must be at least 0, got -1"),
        ({"rescale": float("nan")}, "rescale = nan"),
        ({"growth": 0.5}, "growth must be at least 1, got 0.5"),
        ({"activation": "gelu"}, "activation must be one of glu, relu, got 'gelu'"),
        ({"up": "nearest"}, "up must be one of transposed, linear, got 'nearest'"),
        ({"segment": 1.0}, "context of 0.5 s .* of 1.0 s"),
        ({"rewrite": 1}, "rewrite = 1 is not of the kind"),
    ],
)
def test_settings_that_make_no_model_are_refused_by_name_and_value(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"^demucs: .*{says}"):
        build("demucs", config)
