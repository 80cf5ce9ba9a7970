"""The D2-GRU: its table, its ablations, its compact forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from separate.checkpoints.resolve import resolve
from separate.checkpoints.weights import load
from separate.models import build
from separate.models.d2gru import ABLATIONS, D2GRU, Block, D2GRUConfig
from separate.models.dilated import Conv, DilatedGRU
from separate.models.layers import fold_weight_norm, weight_norm_
from separate.models.spectral import spans
from tests.conftest import music

TINY: dict[str, Any] = {"n_fft": 64, "hop": 16, "width": 32, "groups": 4, "sample_rate": 8000}
COMPACT: list[dict[str, Any]] = [
    {"bins": 20},
    {"bins": 20, "output": "mask"},
    {"bins": 20, "bands": 9, "output": "mask"},
    {"bands": 12, "output": "mask", "merge": "concat"},
    {"merge": "concat", "gru_dilation": (1, 2, 3)},
]


def tiny(**changes: Any) -> D2GRU:
    """A model of a few thousand random weights, the same at every call."""
    torch.manual_seed(0)
    config = TINY | changes
    if config["groups"] > config["width"]:
        config["groups"] = 1
    return D2GRU(D2GRUConfig(**config)).eval()


def spectrogram(batch: int = 2, channels: int = 2, frames: int = 11) -> Tensor:
    return torch.rand(batch, channels, 33, frames, generator=torch.Generator().manual_seed(1)) * 4


def test_the_paper_model_is_table_1() -> None:
    with torch.device("meta"):
        model = build("d2-gru", {})
    assert sum(parameter.numel() for parameter in model.parameters()) == 215_209_988
    convolutions = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv1d)}
    table = {
        name: (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.dilation[0], conv.groups)
        for name, conv in convolutions.items()
    }
    assert table == {
        "input.conv": (2049, 2048, 3, 1, 1),
        "blocks.0.second.conv": (2048, 2048, 3, 2, 32),
        "blocks.1.second.conv": (2048, 2048, 3, 4, 32),
        "blocks.2.second.conv": (2048, 2048, 3, 8, 32),
        "output.conv": (2048, 4 * 2049, 3, 1, 1),
    }
    grus = [layer for layer in model.modules() if isinstance(layer, nn.GRU)]
    assert [(gru.input_size, gru.hidden_size) for gru in grus] == [(2048, 2048)] * 6
    assert (model.stft.n_fft, model.stft.hop) == (4096, 1024)
    assert model.sources == ("vocals", "drums", "bass", "other")


def test_training_reaches_every_weight() -> None:
    model = tiny(gru_dilation=(1, 2, 3))
    weight_norm_(model)
    model.estimate(spectrogram()).square().mean().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("skip", ["d2", "dense", "residual", "none"])
@pytest.mark.parametrize("layers", [("gru", "conv"), ("conv", "gru"), ("pointwise", "conv"), ("none", "conv")])
def test_a_block_is_the_sum_its_skip_says(skip: str, layers: tuple[str, str]) -> None:
    torch.manual_seed(0)
    block = Block(D2GRUConfig(**TINY, layers=layers, skip=skip), 1)
    x = torch.randn(15, 2, 32)
    first, second = block.first, block.second
    by_hand = {
        "d2": x + first(x) + second(first(x)),
        "dense": x + (first(x) + x) + second(first(x) + x),
        "residual": (first(x) + x) + second(first(x) + x),
        "none": second(first(x)),
    }
    torch.testing.assert_close(block(x), by_hand[skip])


# name: (blocks, layers, skip, dilations of the GRUs, of the convolutions, groups, blocks that run)
PAPER: dict[str, tuple[int, tuple[str, str], str, tuple[int, ...], tuple[int, ...], int, int]] = {
    "dilation-1": (3, ("gru", "conv"), "d2", (1, 1, 1), (2, 4, 8), 32, 3),
    "dilation-2": (3, ("gru", "conv"), "d2", (2, 2, 2), (2, 4, 8), 32, 3),
    "dilation-4": (3, ("gru", "conv"), "d2", (4, 4, 4), (2, 4, 8), 32, 3),
    "dilation-2-4-8": (3, ("gru", "conv"), "d2", (2, 4, 8), (2, 4, 8), 32, 3),
    "stacked": (3, ("none", "conv"), "none", (), (2, 4, 8), 1, 3),
    "dense": (3, ("gru", "conv"), "dense", (2, 2, 2), (2, 4, 8), 32, 3),
    "residual": (3, ("gru", "conv"), "residual", (2, 2, 2), (2, 4, 8), 32, 3),
    "conv-gru": (3, ("conv", "gru"), "d2", (2, 2, 2), (2, 4, 8), 32, 3),
    "conv-conv": (3, ("pointwise", "conv"), "d2", (), (2, 4, 8), 32, 3),
    "blocks-2": (2, ("gru", "conv"), "d2", (2, 2), (2, 4), 32, 2),
    "blocks-4": (4, ("gru", "conv"), "d2", (2, 2, 2, 2), (2, 4, 8, 16), 32, 4),
    "active-0": (3, ("gru", "conv"), "d2", (2, 2, 2), (2, 4, 8), 32, 0),
    "active-1": (3, ("gru", "conv"), "d2", (2, 2, 2), (2, 4, 8), 32, 1),
    "active-2": (3, ("gru", "conv"), "d2", (2, 2, 2), (2, 4, 8), 32, 2),
}


def kind(layer: nn.Module) -> str:
    if isinstance(layer, Conv):
        return "pointwise" if layer.conv.kernel_size == (1,) else "conv"
    return "gru" if isinstance(layer, DilatedGRU) else "none"


@pytest.mark.parametrize("name", sorted(PAPER | ABLATIONS))
def test_an_ablation_is_what_the_paper_says_and_runs(name: str) -> None:
    blocks, layers, skip, gru_dilations, conv_dilations, groups, runs = PAPER[name]
    with torch.device("meta"):
        model = build("d2-gru", ABLATIONS[name])
    assert len(model.blocks) == blocks
    assert {(kind(block.first), kind(block.second), block.skip) for block in model.blocks} == {(*layers, skip)}
    assert tuple(layer.dilation for layer in model.modules() if isinstance(layer, DilatedGRU)) == gru_dilations
    dilated = [layer for layer in model.blocks.modules() if isinstance(layer, nn.Conv1d) and layer.kernel_size == (3,)]
    assert tuple(conv.dilation[0] for conv in dilated) == conv_dilations
    assert {conv.groups for conv in dilated} == {groups}

    small = tiny(**ABLATIONS[name])
    called: list[int] = []
    for i, block in enumerate(small.blocks):
        block.register_forward_hook(lambda *_, i=i: called.append(i))
    with torch.inference_mode():
        stems = small(torch.randn(1, 2, 500))
    assert stems.shape == (1, 4, 2, 500)
    assert stems.isfinite().all()
    assert called == list(range(runs))


def test_active_runs_a_trained_model_without_its_top_blocks() -> None:
    model = tiny()
    m = spectrogram(1, 1)
    x = model.blocks[0](model.input(m[0].log1p().permute(2, 0, 1)))
    said = model.output.linear(x).unflatten(2, (4, 33))  # type: ignore[no-untyped-call]  # (frame, channel, source, bin)
    by_hand = said.permute(1, 2, 3, 0).clamp(min=0).expm1()
    cut = D2GRU(replace(model.config, active=1))
    cut.load_state_dict(model.state_dict())
    torch.testing.assert_close(cut.estimate(m)[:, :, 0], by_hand)
    assert not torch.allclose(model.estimate(m)[:, :, 0], by_hand)


@pytest.mark.parametrize("changes", [{}, *COMPACT])
def test_weight_norm_folds_into_a_plain_model_of_the_same_output(changes: dict[str, Any]) -> None:
    trained = tiny(**changes)
    weight_norm_(trained)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    plain = tiny(**changes)
    plain.load_state_dict(fold_weight_norm(trained.state_dict()), strict=True)
    m = spectrogram()
    with torch.inference_mode():
        expected = trained.estimate(m)
        torch.testing.assert_close(plain.estimate(m), expected, rtol=1e-6, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize("changes", [{}, *COMPACT])
def test_inference_gives_what_training_gives(changes: dict[str, Any]) -> None:
    model, m = tiny(**changes), spectrogram()
    trained = model.estimate(m)
    with torch.inference_mode():
        torch.testing.assert_close(model.estimate(m), trained, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, *COMPACT])
def test_estimates_are_magnitudes_and_masks_stay_below_the_mixture(changes: dict[str, Any]) -> None:
    m = spectrogram()
    with torch.inference_mode():
        y = tiny(**changes).estimate(m)
    assert y.shape == (2, 4, 2, 33, 11)
    assert y.min() >= 0
    assert y.std() > 0
    if changes.get("output") == "mask":
        assert (y <= m.unsqueeze(1)).all()


@pytest.mark.parametrize("changes", [{}, *COMPACT])
def test_channels_and_songs_do_not_meet_in_the_net(changes: dict[str, Any]) -> None:
    model, m = tiny(**changes), spectrogram()
    with torch.inference_mode():
        stereo = model.estimate(m)
        for song in range(2):
            for channel in range(2):
                mono = model.estimate(m[song : song + 1, channel : channel + 1])
                torch.testing.assert_close(mono[0, :, 0], stereo[song, :, channel], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bins", [1, 20])
def test_bins_beyond_the_limit_are_not_heard(bins: int) -> None:
    model, m = tiny(bins=bins), spectrogram()
    loud = m.clone()
    loud[:, :, bins:] += 5
    with torch.inference_mode():
        assert torch.equal(model.estimate(m), model.estimate(loud))


@pytest.mark.parametrize("channels", range(1, 9))
def test_one_to_eight_channels(channels: int) -> None:
    mix = torch.randn(1, channels, 300)
    with torch.inference_mode():
        stems = tiny(output="mask")(mix)
    assert stems.shape == (1, 4, channels, 300)
    assert float((stems.sum(1) - mix).norm() / mix.norm()) < 1e-5


@pytest.mark.parametrize("post", [{"wiener": 0}, {"wiener": 1}, {"wiener": 2}, {"griffin_lim": 2}])
@pytest.mark.parametrize("length", [1, 2, 100, 44100])
def test_any_length_and_any_filter(length: int, post: dict[str, int]) -> None:
    model = tiny(n_fft=1024, hop=256, **post)
    mix = torch.randn(1, 2, length)
    with torch.inference_mode():
        stems = model(mix)
    assert stems.shape == (1, 4, 2, length)
    assert stems.isfinite().all()
    assert model.sums == ("griffin_lim" not in post)
    if model.sums:
        assert float((stems.sum(1) - mix).norm() / mix.norm()) < 1e-5


@pytest.mark.parametrize("post", [{"wiener": 0}, {"wiener": 1}, {"griffin_lim": 2}])
def test_masks_count_beside_each_other(post: dict[str, int]) -> None:
    mix = torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(1))
    loud, faint = (tiny(output="mask", bands=12, **post) for _ in range(2))
    loud.state_dict()["output.conv.bias"].sub_(8)  # where a sigmoid is exp
    faint.state_dict()["output.conv.bias"].sub_(16)
    with torch.inference_mode():
        wanted, stems = loud(mix), faint(mix)
    assert float((stems - wanted).norm() / wanted.norm()) < 1e-2
    assert float((wanted - mix[:, None] / 4).norm() / mix.norm()) > 0.1


@pytest.mark.parametrize("changes", [{}, *COMPACT, {"griffin_lim": 2}, {"wiener": 0}])
def test_silence_stays_silence(changes: dict[str, Any]) -> None:
    with torch.inference_mode():
        stems = tiny(**changes)(torch.zeros(1, 2, 500))
    assert torch.equal(stems, torch.zeros(1, 4, 2, 500))


@pytest.mark.parametrize("changes", [{}, *COMPACT])
def test_bfloat16_changes_the_stems_little(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    mix = torch.randn(1, 2, 500)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
    assert low.dtype == torch.float32
    assert float((low - stems).norm() / stems.norm()) < 0.05


def test_sides_are_what_the_channels_do_not_share() -> None:
    model = tiny(bins=20, bands=9, output="mask", sides=True)
    plain = tiny(bins=20, bands=9, output="mask")
    state = model.state_dict()
    state["input.conv.weight"] = state["input.conv.weight"][:, :9]
    plain.load_state_dict(state)
    phases = torch.polar(spectrogram(), torch.rand(2, 2, 33, 11, generator=torch.Generator().manual_seed(2)) * 6)
    alike = phases[:, :1].expand(-1, 2, -1, -1)
    for mono in (phases[:, :1], alike):  # nothing at the sides: the rest of the net is all there is
        assert torch.allclose(model.estimate(mono), plain.estimate(mono), atol=1e-5)
    assert not torch.allclose(model.estimate(phases), plain.estimate(phases), atol=1e-3)
    swapped = model.estimate(phases.flip(1)).flip(2)
    assert torch.allclose(swapped, model.estimate(phases), atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"bands": 9}])
@torch.no_grad()
def test_a_wiener_filter_of_gains_cuts_out_what_they_do_where_channels_are_alike(changes: dict[str, Any]) -> None:
    mix = torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(3)).expand(1, 2, -1)
    settings: dict[str, Any] = {"output": "mask", **changes}
    by_masks = tiny(wiener=0, **settings)(mix)
    for gains, near in ((True, True), (False, False)):
        stems = tiny(wiener=1, gains=gains, **settings)(mix)
        assert torch.allclose(stems, by_masks, atol=1e-3) is near
    assert torch.equal(tiny(wiener=0, gains=True, **settings)(mix), by_masks)


def test_gains_are_masks() -> None:
    with pytest.raises(ValueError, match='gains needs output = "mask"'):
        tiny(gains=True)


def bursts(seconds: float = 12.0) -> Tensor:
    """Noise whose loudness changes by 30 dB within seconds: (1, 2, time)."""
    random = torch.Generator().manual_seed(0)
    swell = torch.linspace(0, 5, round(seconds * 8000)).cos() * 0.75 - 2.25  # of 10: from 0.001 to 0.03
    return torch.randn(1, 2, round(seconds * 8000), generator=random) * 10**swell


@pytest.mark.parametrize("changes", [{"bands": 9}, {"bins": 20, "sides": True}, {"bands": 9, "sides": True}])
@torch.no_grad()
def test_a_song_at_any_level_gives_the_same_stems_at_that_level(changes: dict[str, Any]) -> None:
    mix = bursts()
    settings: dict[str, Any] = {"output": "mask", "wiener": 0, **changes}
    model, plain = tiny(level=1.0, context=1.0, **settings), tiny(**settings)
    stems = model(mix)
    for gain in (0.03, 0.3, 20.0):
        torch.testing.assert_close(model(gain * mix) / gain, stems, rtol=1e-4, atol=1e-7)
        assert not torch.allclose(plain(gain * mix) / gain, plain(mix), rtol=1e-2, atol=1e-6)


@torch.no_grad()
def test_what_is_heard_has_one_level_whatever_comes_around_the_context() -> None:
    model, mix = tiny(bands=9, output="mask", level=1.0, context=1.0), bursts()
    spec = model.stft(mix)
    heard = model.heard(spec)
    gain = model.gain(heard)
    frames = slice(1000, 3000)
    around = slice(1000 - 500, 3000 + 500)  # of 16 samples: a second
    torch.testing.assert_close(model.gain(heard[..., around])[..., 500:-500], gain[..., frames])
    loud = (model.power(heard * gain) / 32 / model.stft.window.square().sum()).mean(1).sqrt()  # (batch, frame)
    seconds = loud.unfold(1, 500, 500).square().mean(2).sqrt()[0, 1:-1]
    assert 0.08 < seconds.min() < seconds.max() < 0.2  # RMS = 0.14, less what averages of magnitudes lack
    silence = torch.zeros(1, 2, 9, 50)
    torch.testing.assert_close(model.gain(silence), torch.full((1, 1, 1, 50), 1e4))


def test_a_level_has_bounds() -> None:
    with pytest.raises(ValueError, match=r"level must be from 0 to the context of 0\.5 s, got 1\.5"):
        tiny(output="mask", level=1.5)
    with pytest.raises(ValueError, match='level needs output = "mask"'):
        tiny(level=0.5)


@pytest.mark.parametrize("name", ["d2-gru", "d2-gru-research"])
@torch.no_grad()
def test_what_is_bundled_separates_quiet_songs_as_it_does_loud_ones(name: str) -> None:
    model, song = load(resolve(name)), torch.from_numpy(music(3.0, 44100))[None]
    loud, quiet = model(song), 1000 * model(0.001 * song)
    error = (quiet - loud).square().sum((2, 3)) / loud.square().sum((2, 3))
    assert (10 * error.log10()).amax() < -40  # dB


@pytest.mark.parametrize("name", [*ABLATIONS, "concat"])
@torch.no_grad()
def test_songs_one_after_the_other_are_those_of_the_whole_batch(name: str) -> None:
    """On a processor songs come and go one by one, in places that others left: nobody may find another's numbers."""
    changes = {"merge": "concat", "gru_dilation": (3, 2, 1)} if name == "concat" else ABLATIONS[name]
    model, mix = tiny(**changes), torch.randn(3, 2, 4000)
    mixture = model.stft(mix)
    with torch.enable_grad():  # as in training: all at once, and nothing in a place that was left
        wanted = model.estimate(mixture).detach()
    songs = model.songs(mix, spans(mix, model.stft, None, 0))
    for (x, magnitudes), heard, want in zip(songs, mixture, wanted, strict=True):
        torch.testing.assert_close(x, heard)
        torch.testing.assert_close(magnitudes, want, rtol=1e-4, atol=1e-5)
    for stem, want in zip(model.each(mix), model(mix), strict=True):
        assert torch.equal(stem, want)
