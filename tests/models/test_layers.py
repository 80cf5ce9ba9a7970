"""Weight norm there and back, and bins to bands and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from separate.models.layers import Bands, band_centres, fold_weight_norm, in_stereo, normed, weight_norm_


def convolutions(kind: str) -> tuple[nn.Module, Tensor]:
    """Two convolutions, one of them grouped, with a layer between them that has no weight norm."""
    if kind == "1d":
        return nn.Sequential(nn.Conv1d(6, 8, 3), nn.BatchNorm1d(8), nn.Conv1d(8, 4, 3, groups=2)), torch.randn(2, 6, 20)
    net = nn.Sequential(nn.Conv2d(6, 8, (3, 5)), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, groups=2, bias=False))
    return net, torch.randn(2, 6, 20, 20)


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_weight_norm_changes_no_output_and_folds_back_into_a_plain_model(kind: str) -> None:
    torch.manual_seed(1)
    net, x = convolutions(kind)
    net.eval()
    before = net(x)
    weight_norm_(net)
    torch.testing.assert_close(net(x), before, rtol=1e-6, atol=1e-6)
    with torch.no_grad():  # as training would, move every parameter
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    assert (net(x) - before).abs().max() > 0.01

    plain = convolutions(kind)[0].eval()
    plain.load_state_dict(fold_weight_norm(net.state_dict()), strict=True)
    torch.testing.assert_close(plain(x), net(x), rtol=1e-6, atol=1e-6)


def test_weight_norm_splits_convolutions_into_one_length_an_output_and_a_direction() -> None:
    net = nn.Sequential(nn.Conv1d(6, 8, 3), nn.Linear(8, 8))
    weight_norm_(net)
    shapes = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert shapes["0.parametrizations.weight.original0"] == (8, 1, 1)
    assert shapes["0.parametrizations.weight.original1"] == (8, 6, 3)
    assert shapes["1.weight"] == (8, 8)


def test_folding_leaves_a_plain_state_dict_alone_and_keeps_half_precision() -> None:
    net = nn.Conv1d(6, 8, 3)
    state = net.state_dict()
    folded = fold_weight_norm(state)
    assert folded.keys() == state.keys()
    assert all(folded[name] is state[name] for name in state)
    weight_norm_(net)
    assert {value.dtype for value in fold_weight_norm(net.half().state_dict()).values()} == {torch.float16}


@settings(deadline=None, max_examples=50)
@given(total=st.integers(2, 300), share=st.floats(0.1, 1), density=st.floats(0.02, 1))
def test_bands_divide_every_bin_and_turn_a_constant_into_itself(total: int, share: float, density: float) -> None:
    bins = max(2, round(total * share))
    count = max(2, round(bins * density))
    bands = Bands(total, bins, count)
    assert bands.weight.shape == (count, total)
    assert bands.weight.min() >= 0
    torch.testing.assert_close(bands.weight.sum(0), torch.ones(total))
    torch.testing.assert_close(bands.compress(torch.full((total, 3), 2.5)), torch.full((count, 3), 2.5))
    torch.testing.assert_close(bands.expand(torch.full((count, 3), 2.5)), torch.full((total, 3), 2.5))


@pytest.mark.parametrize(("bins", "bands"), [(1487, 384), (2049, 256), (2049, 1000), (100, 99), (50, 50)])
def test_centres_rise_from_bin_to_bin_at_the_bottom_and_ever_faster_above(bins: int, bands: int) -> None:
    centres = torch.tensor(band_centres(bins, bands), dtype=torch.float64)
    steps = centres.diff()
    assert len(centres) == bands
    assert centres[[0, -1]].tolist() == [0, bins - 1]
    assert steps.min() > 1 - 1e-6
    assert steps.diff().min() > -1e-6


def test_the_first_bands_are_one_bin_each() -> None:
    bands = Bands(total=2049, bins=1487, bands=384)
    alone = (bands.weight[:, :100] - torch.eye(384, 100)).abs()
    assert alone.max() == 0
    x = torch.rand(2049, 7)
    torch.testing.assert_close(bands.compress(x)[:99], x[:99])


def test_as_many_bands_as_bins_are_the_bins() -> None:
    bands = Bands(total=40, bins=40, bands=40)
    x = torch.rand(3, 40, 5)
    torch.testing.assert_close(bands.compress(x), x)
    torch.testing.assert_close(bands.expand(x), x)


def test_bins_above_the_band_limit_are_not_heard_and_take_the_last_band() -> None:
    bands = Bands(total=200, bins=120, bands=30)
    x = torch.rand(200, 4)
    loud = x.clone()
    loud[120:] += 100
    assert torch.equal(bands.compress(x), bands.compress(loud))
    y = torch.rand(30, 4)
    torch.testing.assert_close(bands.expand(y)[119:], y[-1:].expand(81, 4))


def test_expanding_is_the_interpolation_that_the_weights_say() -> None:
    bands = Bands(total=200, bins=150, bands=40)
    y = torch.rand(2, 40, 9)
    torch.testing.assert_close(bands.expand(y), bands.weight.T @ y)


def test_bands_stay_precise_where_the_net_is_in_half_precision() -> None:
    bands = Bands(total=200, bins=150, bands=40)
    x, y = torch.rand(200, 9), torch.rand(40, 9)
    plain = bands.compress(x), bands.expand(y)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bands.compress(x), plain[0])
        assert torch.equal(bands.expand(y), plain[1])


def test_bands_have_gradients() -> None:
    bands = Bands(total=20, bins=15, bands=6)
    y = torch.rand(2, 6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(bands.double().expand, y)


@pytest.mark.parametrize("settings_", [{}, {"bias": False}, {"padding": 2, "dilation": 2}, {"groups": 2, "stride": 2}])
def test_a_normed_convolution_is_a_convolution_and_its_norm(settings_: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 6, 3, **settings_), nn.BatchNorm2d(6)
    for _ in range(3):
        norm(2 + 3 * torch.randn(8, 6, 5, 5))  # statistics of its own
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
        x = torch.randn(2, 4, 9, 11)
        torch.testing.assert_close(normed(conv, norm, x), norm.eval()(conv(x)), rtol=1e-5, atol=1e-5)


def test_mono_is_two_equal_channels_to_a_net_of_stereo() -> None:
    heard = []

    def net(x: Tensor) -> Tensor:
        heard.append(x)
        return torch.stack([x * torch.tensor([[1.0], [3.0]]), -x], 1)  # (batch, source, 2, time)

    song = torch.randn(2, 2, 5)
    assert torch.equal(in_stereo(net, song), net(song))
    mono = song[:, :1]
    stems = in_stereo(net, mono)
    assert torch.equal(heard[-1], torch.cat([mono, mono], 1))
    torch.testing.assert_close(stems, torch.stack([2 * mono, -mono], 1))
    with pytest.raises(ValueError, match="cannot hear 3"):
        in_stereo(net, torch.randn(2, 3, 5))
