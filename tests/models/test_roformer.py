"""RoFormers against a second one, written out number by number, and what holds for them alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.errors import CheckpointError
from separate.models import build, roformer
from separate.models.roformer import PRESETS, RoFormer, RoFormerConfig, mel_bands
from separate.separator import choose_chunking
from tests.conftest import music

TINY: dict[str, Any] = {"n_fft": 256, "hop": 64, "width": 12, "depth": 2, "heads": 3, "head_width": 4}
TABLE: dict[str, Any] = TINY | {"bands": (2, 3, 4, 8, 16, 32, 64)}
MEL: dict[str, Any] = TINY | {"mel": 6, "norm": "each", "mask_layers": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "bs-roformer": TABLE,
    "mel-band-roformer": MEL,
    "linear attention": MEL | {"linear_layers": 1},
    "layers": TABLE | {"time_layers": 2, "band_layers": 3, "mask_layers": 0},
    "each channel alone": TABLE | {"stereo": False, "mask_expansion": 2},
    "four masks": MEL | {"sources": ("a", "b", "c", "d"), "rest": False},
    "three masks and the rest": TABLE | {"sources": ("a", "b", "c", "d")},
}


def awake(config: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """Build a model whose weights are larger than those at the start, so that attention looks at something."""
    torch.manual_seed(0)
    model: RoFormer = build("roformer", config)
    for name, value in model.named_parameters():
        with torch.no_grad():
            value.mul_(2).add_(0.2 * torch.randn_like(value) if value.ndim == 1 or "temperature" in name else 0)
    return model.eval().requires_grad_(False).to(dtype)


def song(seconds: float, channels: int = 2, rate: int = 44100) -> Tensor:
    return torch.from_numpy(music(seconds, rate, channels))[None]


# The second one: a frame, a band and a head at a time, from the weights by their names.


def unit(x: Tensor, gamma: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt() * math.sqrt(x.shape[-1]) * gamma


def turned(x: Tensor) -> Tensor:
    """Turn numbers 2k and 2k + 1 of the vector at position t by t / 10000^(2k / width)."""
    out = x.clone()
    for t in range(x.shape[0]):
        for k in range(x.shape[1] // 2):
            angle = t / 10000 ** (2 * k / x.shape[1])
            a, b = x[t, 2 * k], x[t, 2 * k + 1]
            out[t, 2 * k] = a * math.cos(angle) - b * math.sin(angle)
            out[t, 2 * k + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def attended(x: Tensor, w: dict[str, Tensor], heads: int) -> Tensor:
    """(token, width) -> (token, width)."""
    if "temperature" in w:
        return attended_linearly(x, w, heads)
    x = unit(x, w["norm.gamma"])
    parts = (x @ w["to_qkv.weight"].T).chunk(3, 1)
    gates = torch.sigmoid(x @ w["to_gates.weight"].T + w["to_gates.bias"])
    outs = []
    for head in range(heads):
        q, k, v = (part.chunk(heads, 1)[head] for part in parts)
        likeness = turned(q) @ turned(k).T / math.sqrt(q.shape[1])
        outs.append(likeness.softmax(1) @ v * gates[:, head : head + 1])
    return torch.cat(outs, 1) @ w["to_out.0.weight"].T


def attended_linearly(x: Tensor, w: dict[str, Tensor], heads: int) -> Tensor:
    """Attend among numbers: (token, width) -> (token, width)."""
    parts = (unit(x, w["norm.gamma"]) @ w["to_qkv.0.weight"].T).chunk(3, 1)
    outs = []
    for head in range(heads):
        q, k, v = (part.chunk(heads, 1)[head].T for part in parts)  # (number, token)
        q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
        outs.append(((8 * torch.exp(w["temperature"][head]) * (q @ k.T)).softmax(1) @ v).T)
    return torch.cat(outs, 1) @ w["to_out.1.weight"].T


def inside(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def transformed(x: Tensor, w: dict[str, Tensor], heads: int) -> Tensor:
    """(token, width) -> (token, width)."""
    for layer in range(len({name.split(".")[1] for name in w if name.startswith("layers.")})):
        x = x + attended(x, inside(w, f"layers.{layer}.0."), heads)
        net = inside(w, f"layers.{layer}.1.net.")
        wide = F.gelu(unit(x, net["0.gamma"]) @ net["1.weight"].T + net["1.bias"])
        x = x + wide @ net["4.weight"].T + net["4.bias"]
    return unit(x, w["norm.gamma"]) if "norm.gamma" in w else x


def plain(model: RoFormer, mix: Tensor) -> Tensor:
    """What the masks cut out of a song: (channel, time) -> (mask, channel, time)."""
    w, config = dict(model.state_dict()), model.config
    hann = torch.hann_window(config.n_fft).to(mix.dtype)
    how: dict[str, Any] = {"n_fft": config.n_fft, "hop_length": config.hop, "window": hann}
    spectrum = torch.stft(mix, **how, return_complex=True)  # (channel, bin, frame)
    bands = [list(band) for band in config.table()]
    frames = []
    for t in range(spectrum.shape[2]):
        vectors = []
        for i, band in enumerate(bands):
            numbers = [part for bin_ in band for z in spectrum[:, bin_, t] for part in (z.real, z.imag)]
            part = inside(w, f"band_split.to_features.{i}.")
            vectors.append(unit(torch.stack(numbers), part["0.gamma"]) @ part["1.weight"].T + part["1.bias"])
        frames.append(torch.stack(vectors))
    x = torch.stack(frames)  # (frame, band, width)
    for block in range(config.depth):
        axis = 0
        if config.linear_layers:
            x = transformed(x.flatten(0, 1), inside(w, f"layers.{block}.0."), config.heads).view(x.shape)
            axis = 1
        time, along = (inside(w, f"layers.{block}.{axis + i}.") for i in (0, 1))
        x = torch.stack([transformed(x[:, b], time, config.heads) for b in range(len(bands))], 1)
        x = torch.stack([transformed(frame, along, config.heads) for frame in x])
    if "final_norm.gamma" in w:
        x = unit(x, w["final_norm.gamma"])
    stems = []
    for source in range(len(config.sources) - config.rest):
        total, count = torch.zeros_like(spectrum), torch.zeros(spectrum.shape[1])
        for i, band in enumerate(bands):
            net = inside(w, f"mask_estimators.{source}.to_freqs.{i}.0.")
            y = x[:, i]
            for layer in range(0, 2 * config.mask_layers + 1, 2):
                y = (torch.tanh(y) if layer else y) @ net[f"{layer}.weight"].T + net[f"{layer}.bias"]
            value, gate = y.chunk(2, 1)
            mask = (value * torch.sigmoid(gate)).view(len(x), len(band), len(mix), 2)
            for j, bin_ in enumerate(band):
                count[bin_] += 1
                total[:, bin_] += torch.complex(mask[:, j, :, 0], mask[:, j, :, 1]).T
        stems.append(torch.istft(spectrum * total / count[:, None], **how, length=mix.shape[1]))
    return torch.stack(stems)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_is_what_is_written_out_number_by_number(variant: str) -> None:
    model = awake(VARIANTS[variant], torch.float64)
    mix = song(0.018).double()
    with torch.inference_mode():
        stems = model(mix)[0]
        pieces = [mix[0]] if model.config.stereo else [mix[0, :1], mix[0, 1:]]
        expected = torch.cat([plain(model, piece) for piece in pieces], 1)
    if model.config.rest:
        expected = torch.cat([expected, (mix[0] - expected.sum(0))[None]])
    torch.testing.assert_close(stems, expected, rtol=0, atol=1e-10)
    assert stems[0].std() > 0.01


@pytest.mark.parametrize("variant", ["bs-roformer", "linear attention"])
def test_every_weight_counts(variant: str) -> None:
    """A weight too small to matter would make the test above say nothing."""
    model, mix = awake(VARIANTS[variant]), song(0.05)
    before = model(mix)
    for name, value in model.named_parameters():
        if value.numel() > 1:
            kept = value.clone()
            value.copy_(value.flip(-1) + 0.5)
            assert (model(mix) - before).abs().max() > 1e-6, name
            value.copy_(kept)


# Bands.


@pytest.mark.parametrize(
    ("count", "n_fft", "rate"), [(60, 2048, 44100), (60, 4096, 48000), (32, 1024, 22050), (8, 512, 8000)]
)
def test_bands_of_a_mel_scale_are_where_its_triangles_are_above_zero(count: int, n_fft: int, rate: int) -> None:
    def mel(hertz: Any) -> Any:
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * np.log(np.maximum(hertz, 1) / 1000) / np.log(6.4))

    grid = np.linspace(0, rate / 2, 4_000_001)
    edges = np.interp(np.linspace(0, mel(np.array(rate / 2)), count + 2), mel(grid), grid)
    hertz = np.arange(n_fft // 2 + 1) * rate / n_fft
    for i, band in enumerate(mel_bands(count, n_fft, rate)):
        low, centre, high = edges[i : i + 3]
        triangle = np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre))
        ends = {0} if i == 0 else {n_fft // 2} if i == count - 1 else set()
        assert set(band) == {*np.flatnonzero(triangle > 1e-9).tolist(), *ends}


def test_most_bins_are_in_two_mel_bands_and_their_masks_are_averaged() -> None:
    model = build("roformer", PRESETS["mel-band-roformer"] | {"width": 4, "depth": 1, "heads": 1, "head_width": 2})
    assert model.count.min() == 1
    assert 1.5 < model.count.double().mean() < 2
    assert model.count.max() == 2
    assert model.band_split.numbers[0] == 4 * len(mel_bands(60, 2048, 44100)[0])


# What is published.

# Of the models that have these shapes: what others count, and what their files of float32 weigh.
PUBLISHED = {
    "bs-roformer": (159_758_028, 675),
    "bs-roformer-384": (98_194_764, 675),
    "bs-roformer-four": (131_704_100, 1339),  # 527 MB
    "mel-band-roformer": (228_202_788, 672),  # 913 MB
    "mel-band-roformer-12": (251_869_572, 804),
}


@pytest.mark.parametrize("name", PRESETS)
def test_published_shapes_have_their_numbers_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = build("roformer", PRESETS[name])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters, len(model.state_dict())) == PUBLISHED[name]


def test_weights_have_their_published_names() -> None:
    attention = ["norm.gamma", "to_qkv.weight", "to_gates.weight", "to_gates.bias", "to_out.0.weight"]
    forward = ["net.0.gamma", "net.1.weight", "net.1.bias", "net.4.weight", "net.4.bias"]
    layers = [f"layers.1.{axis}.layers.0.{kind}" for axis in (0, 1) for kind in (0, 1)]
    mask = [f"mask_estimators.0.to_freqs.5.0.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
    names = [f"{layer}.{name}" for layer in layers for name in (forward if layer.endswith("1") else attention)]
    names += [f"band_split.to_features.5.{name}" for name in ("0.gamma", "1.weight", "1.bias")]
    each = ["layers.1.0.norm.gamma", "layers.1.1.norm.gamma"]
    for variant, norms, masks in (
        ("bs-roformer", ["final_norm.gamma"], mask[:4]),
        ("mel-band-roformer", each, mask),
    ):
        chosen = ("layers.1.", "final_norm", "band_split.to_features.5.", "mask_estimators.0.to_freqs.5.")
        there = {name for name in awake(VARIANTS[variant]).state_dict() if name.startswith(chosen)}
        assert there == {*names, *norms, *masks}


# How it is used.


@pytest.mark.parametrize("variant", ["bs-roformer", "mel-band-roformer"])
def test_a_song_at_another_level_gets_the_same_masks(variant: str) -> None:
    model, mix = awake(VARIANTS[variant]), song(0.5)
    assert torch.equal(model(mix / 1024) * 1024, model(mix))
    assert not model(torch.zeros_like(mix)).any()


def test_mono_is_two_equal_channels() -> None:
    model, mix = awake(TABLE), song(0.3, channels=1)
    torch.testing.assert_close(model(mix), model(mix.expand(-1, 2, -1)).mean(2, keepdim=True))


def test_channels_that_are_heard_alone_do_not_meet() -> None:
    model, mix = awake(VARIANTS["each channel alone"]), song(0.3)
    torch.testing.assert_close(model(mix)[:, :, :1], model(mix[:, :1]), rtol=0, atol=1e-6)
    both = awake(TABLE)
    assert (both(mix)[:, :, :1] - both(mix[:, :1])).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_few_tokens_at_once_say_the_same(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, mix = awake(VARIANTS[variant]), song(0.3).repeat(2, 1, 1)
    at_once = model(mix)
    with torch.inference_mode():
        monkeypatch.setattr(roformer, "TOKENS", 64)
        torch.testing.assert_close(model(mix), at_once, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", ["bs-roformer", "mel-band-roformer", "linear attention"])
def test_in_bfloat16_it_says_nearly_the_same(variant: str) -> None:
    model, mix = awake(VARIANTS[variant]), song(1.0)
    with torch.inference_mode():
        full = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(mix)
    assert half.dtype == torch.float32
    error = (half - full)[:, :-1].square().sum() / full[:, :-1].square().sum()
    assert -60 < 10 * math.log10(float(error)) < -20


def test_what_transformers_add_to_keeps_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    model = awake(MEL)
    for layer in model.modules():
        if isinstance(layer, roformer.Attention | roformer.FeedForward):
            layer.register_forward_hook(lambda _, inputs, out: seen.extend((inputs[0].dtype, out.dtype)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model(song(0.1))
    assert set(seen[::2]) == {torch.float32}
    assert set(seen[1::2]) == {torch.bfloat16}


def test_chunks_are_those_it_was_trained_on_and_start_where_frames_do() -> None:
    for name, config in PRESETS.items():
        with torch.device("meta"):
            model = build("roformer", config)
        chunking = choose_chunking(model, None, 0.1, 1, 1)
        assert chunking.segment == round(model.segment * 44100) // model.config.hop * model.config.hop, name
        assert chunking.grid == model.config.hop
        assert chunking.context % chunking.grid == chunking.hop % chunking.grid == 0


def test_every_weight_learns_and_dropout_is_for_learning_only() -> None:
    torch.manual_seed(0)
    model = build("roformer", MEL | {"linear_layers": 1, "dropout": 0.5})
    mix = song(0.2)
    model(mix)[:, 0].square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
    assert not torch.equal(model(mix), model(mix))
    assert torch.equal(model.eval()(mix), model(mix))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"sources": ("vocals",)}, r"sources are too few for rest = True: \('vocals',\)"),
        ({"sources": (), "rest": False}, "sources are too few"),
        ({"head_width": 5}, "head_width must be even, .* got 5"),
        ({"norm": "first"}, "norm must be last or each, got 'first'"),
        ({"dropout": 1.0}, "dropout must be a share .* got 1.0"),
        ({"mel": 0}, r"bands = \(2, 2, .*, 129\) must have a bin each, and together the 129 of n_fft = 256"),
        ({"mel": 0, "bands": (64, 64)}, r"bands = \(64, 64\) must have .* together the 129"),
        ({"mel": 0, "bands": (64, 0, 65)}, r"bands = \(64, 0, 65\) must have a bin each"),
        ({"mel": 60}, "mel = 60 bands must have a bin each, and together the 129"),
        ({"context": 4.0}, "a context of 4.0 s .* of 8.0 s"),
    ],
)
def test_settings_that_make_no_model_are_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(CheckpointError, match=f"^roformer: .*{says}"):
        build("roformer", MEL | config)


def test_the_defaults_are_the_published_bs_roformer() -> None:
    config = RoFormerConfig()
    assert (len(config.bands), sum(config.bands), len(config.table())) == (62, 1025, 62)
    assert [band.start for band in config.table()][:3] == [0, 2, 4]
    assert config.table()[-1] == range(896, 1025)
