"""Hybrid Demucs, the one on waveforms alone, and the hybrid of transformers: equal to their author's package."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from separate.checkpoints.weights import load
from separate.errors import CheckpointError
from separate.models import build
from separate.models.dconv import DConv, RowNorm, TimeConv, gated
from separate.models.hdemucs import PRESETS as HYBRID_PRESETS
from separate.models.hdemucs import HDemucs, HDemucsConfig
from separate.models.htdemucs import PRESETS as TRANSFORMER_PRESETS
from separate.models.htdemucs import HTDemucs, HTDemucsConfig, Linear
from separate.models.wdemucs import Resampler, WDemucs, WDemucsConfig
from tests.models.peers import HYBRID, TRANSFORMER, WAVES, noise, publish, theirs

pytestmark = pytest.mark.filterwarnings("default")  # the package's own are not ours


def difference(package: Any, path: Path, length: int) -> float:
    """Publish a model of the package, read it, and say how far apart the two are on a chunk."""
    model, mix = load(publish(package, path / "model.safetensors")), noise(length)
    with torch.inference_mode():
        stems, expected = model(mix), package(mix)
    assert stems.shape == expected.shape == (1, 4, 2, length)
    assert expected.std() > 1e-4
    return float((stems - expected).abs().max())


M = TypeVar("M", bound=torch.nn.Module)

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("HDemucs", HYBRID),
    ("HDemucs", HYBRID | {"hybrid_old": True, "dconv_mode": 3, "freq_emb": 0.0}),
    (
        "HDemucs",
        HYBRID
        | {"rewrite": False, "dconv_mode": 2, "norm_starts": 9, "dconv_attn": 9, "context_enc": 1, "growth": 1.5},
    ),
    ("HTDemucs", TRANSFORMER | {"dconv_mode": 3, "segment": Fraction(39, 50)}),
    ("HTDemucs", TRANSFORMER | {"bottom_channels": 0, "t_heads": 2, "t_cross_first": True, "segment": 0.5}),
    ("Demucs", WAVES),
    ("Demucs", WAVES | {"gelu": False, "glu": False, "dconv_mode": 2, "resample": False, "lstm_layers": 2}),
    ("Demucs", WAVES | {"rewrite": False, "dconv_mode": 0, "normalize": False, "context": 2}),
]


@pytest.mark.parametrize("length", [100, 20001])
@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_the_package_says_the_same(kind: str, settings: dict[str, Any], length: int, tmp_path: Path) -> None:
    assert difference(theirs(kind, **settings), tmp_path, length) < 5e-5


def test_an_lstm_that_hears_stretches_says_the_same(tmp_path: Path) -> None:
    # Three and a half of them in the time that this is long.
    assert difference(theirs("HDemucs", **HYBRID, time_stride=2), tmp_path, 128 * 370 + 5) < 5e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("HTDemucs", {"bottom_channels": 512, "dconv_mode": 3, "segment": Fraction(3, 2)}),
        ("HDemucs", {"hybrid_old": True, "segment": 44}),
        ("Demucs", {"segment": 44}),
    ],
)
def test_the_package_says_the_same_at_the_published_sizes(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    assert difference(theirs(kind, **settings), tmp_path, 66150) < 1e-4


@pytest.mark.parametrize(
    ("architecture", "config", "parameters"),
    [
        ("htdemucs", TRANSFORMER_PRESETS["htdemucs"], 41_984_456),
        ("htdemucs", TRANSFORMER_PRESETS["htdemucs_6s"], 27_414_996),
        ("hdemucs", HYBRID_PRESETS["hdemucs_mmi"], 83_637_832),
        ("wdemucs", {}, 133_753_064),
    ],
)
def test_the_published_sizes(architecture: str, config: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        model = build(architecture, config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_twice_the_rate_and_back_is_the_song_below_the_cutoff() -> None:
    tone = torch.sin(torch.arange(4000) / 3).expand(1, 2, -1)
    up = Resampler(2, 1)(tone)
    assert up.shape == (1, 2, 8000)
    torch.testing.assert_close(up[..., 200:-200:2], tone[..., 100:-100], rtol=0, atol=1e-3)
    torch.testing.assert_close(Resampler(1, 2)(up)[..., 100:-100], tone[..., 100:-100], rtol=0, atol=1e-3)


def shaken(module: M) -> M:
    """Give all weights and biases something to do."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def features(rows: int, channels: int, time: int) -> torch.Tensor:
    """Draw some, of a mean and a deviation that are not 0 and 1, with channels next to each other in memory."""
    x = 3 * torch.randn(rows, channels, 1, time, generator=torch.Generator().manual_seed(0)) + 2
    return x.contiguous(memory_format=torch.channels_last)


def plainly(branches: DConv, x: torch.Tensor) -> torch.Tensor:
    """Run the layers of residual branches one by one, as written in their docstring."""
    rows = x.transpose(1, 2).flatten(0, 1).unsqueeze(2)  # (row, channel, 1, time)
    for layer in branches.layers:
        rows = rows + layer(rows)
    return torch.unflatten(rows.squeeze(2), 0, (len(x), -1)).transpose(1, 2)


@pytest.mark.parametrize("batch", [1, 3])
def test_residual_branches_are_what_their_layers_say_one_after_the_other(batch: int) -> None:
    torch.manual_seed(0)
    branches = shaken(DConv(16, depth=2, compress=4, init=1.0, lstm=False, attention=False)).double()
    x = features(batch, 16, 4 * 50).double().view(batch, 16, 4, 50)
    x.requires_grad_()
    torch.testing.assert_close(branches(x), plainly(branches, x))
    (slope,) = torch.autograd.grad(branches(x).sin().sum(), x)
    (expected,) = torch.autograd.grad(plainly(branches, x).sin().sum(), x)
    torch.testing.assert_close(slope, expected)


def test_a_row_is_normed_as_one_group() -> None:
    norm, x = shaken(RowNorm(6)), features(5, 6, 40)
    torch.testing.assert_close(norm(x), torch.nn.GroupNorm.forward(norm, x))


@pytest.mark.parametrize("conv", [TimeConv(6, 8, 3, padding=1), torch.nn.Conv2d(6, 8, 3, padding=1)])
def test_a_gate_of_two_halves_is_a_gate(conv: TimeConv | torch.nn.Conv2d) -> None:
    x = features(2, 6, 40)
    torch.testing.assert_close(gated(conv, x), torch.nn.functional.glu(conv(x), 1))


def tiny_transformer() -> HTDemucs:
    config = HTDemucsConfig(channels=8, depth=3, n_fft=512, bottom=32, heads=4, layers=2, segment=0.5)
    torch.manual_seed(0)
    return HTDemucs(config).eval()


def test_a_shorter_chunk_is_heard_at_the_length_of_training() -> None:
    model, mix = tiny_transformer(), noise(50000)
    assert (model.heard(100), model.heard(22050), model.heard(30000)) == (22050, 22050, 30000)
    with torch.inference_mode():
        # 9050 samples in the middle of the 22050 that it is trained on.
        stems = model(mix[..., 20000 - 11025 : 29050 + 11025], 11025)
        whole = model(mix[..., 20000 - 6500 : 29050 + 6500])
    torch.testing.assert_close(stems, whole[..., 6500:-6500])


def test_surroundings_that_are_not_asked_for_change_nothing() -> None:
    torch.manual_seed(0)
    model, mix = HDemucs(HDemucsConfig(channels=8, depth=3, n_fft=256)).eval(), noise(9000)
    with torch.inference_mode():
        assert torch.equal(model(mix, 1000), model(mix[..., 1000:-1000]))


def test_the_waveforms_surroundings_are_heard_as_far_as_its_layers_reach() -> None:
    torch.manual_seed(0)
    model = WDemucs(WDemucsConfig(channels=8, depth=3, dconv="none")).eval()
    mix = noise(9000)
    more = model.heard(7000) - 7000
    assert 0 < more <= model.around
    with torch.inference_mode():
        around = model(mix, 1000)
        heard = model(mix[..., 1000 - more // 2 : 8000 + more - more // 2])
    torch.testing.assert_close(around, heard[..., more // 2 : more // 2 + 7000])


def test_bfloat16_is_40_db_below() -> None:
    torch.manual_seed(0)
    config = HTDemucsConfig(channels=16, depth=3, n_fft=512, bottom=64, segment=0.5)
    model, mix = HTDemucs(config).eval(), noise(22050)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
    assert low.dtype == torch.float32
    assert (low - stems).norm() / stems.norm() < 0.01


@pytest.mark.parametrize(
    ("architecture", "config", "says"),
    [
        ("hdemucs", {"n_fft": 2048}, "n_fft = 2048 must be 4096, or the two branches do not meet"),
        ("hdemucs", {"n_fft": 4100}, "n_fft = 4100 gives 2050 frequencies"),
        ("hdemucs", {"edges": "wrap"}, "edges must be one of reflect, silence, got 'wrap'"),
        ("hdemucs", {"dconv": "all"}, "dconv must be one of .*'all'"),
        ("hdemucs", {"kernel": 6}, "kernel = 6 twice the stride"),
        ("hdemucs", {"time_stride": 3}, "time_stride = 3 must be even"),
        ("hdemucs", {"decoder_kernel": 2}, "decoder_kernel = 2 must be odd"),
        ("hdemucs", {"norm_groups": 7}, "norm_groups = 7 do not divide the 768 channels"),
        ("hdemucs", {"dconv_compress": 1000}, "dconv_compress = 1000 leaves 0 of 48"),
        ("hdemucs", {"dconv_attention": 0, "channels": 24}, "dconv_compress = 4.0 leaves 6 of 24 .* 4 heads"),
        ("hdemucs", {"sources": []}, "sources .*got none"),
        ("hdemucs", {"segment": 2.0, "context": 1.0}, "context of 1.0 s .* of 2.0 s"),
        ("htdemucs", {"heads": 7}, "heads = 7.* do not divide 512"),
        ("htdemucs", {"depth": 6}, "depth = 6 leaves one frequency of n_fft = 4096"),
        ("htdemucs", {"dropout": 1.0}, "dropout must be a share .* 1.0"),
        ("wdemucs", {"kernel": 2}, "kernel = 2 must be at least stride = 4"),
        ("wdemucs", {"decoder_kernel": 4}, "decoder_kernel = 4 odd"),
        ("wdemucs", {"dconv": "all"}, "dconv must be one of .*'all'"),
        ("wdemucs", {"norm_groups": 7}, "norm_groups = 7 do not divide"),
        ("wdemucs", {"dconv_compress": 100}, "dconv_compress = 100 leaves 0 of 64"),
    ],
)
def test_settings_that_make_no_model_are_refused_by_name_and_value(
    architecture: str, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(CheckpointError, match=f"^{architecture}: .*{says}"):
        build(architecture, config)


def test_linear_layers_stay_laid_out_until_their_weights_change() -> None:
    layer, linear, x = torch.nn.Linear(40, 24), Linear(), torch.randn(1, 9, 40)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))
        kept = linear.kept
        linear(x, layer.weight, layer.bias)
        assert linear.kept is kept
        assert copy.deepcopy(linear).kept is None
        layer.weight.mul_(2)
        torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))
        few = layer.weight[:8], layer.bias[:8]  # they begin at the same place
        torch.testing.assert_close(linear(x, *few), layer(x)[..., :8])
        layer.load_state_dict({"weight": torch.ones(24, 40), "bias": torch.zeros(24)}, assign=True)
        torch.testing.assert_close(linear(x, layer.weight, layer.bias), layer(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(x, layer.weight, layer.bias).dtype == torch.bfloat16
