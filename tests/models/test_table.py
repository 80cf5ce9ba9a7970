"""What every architecture keeps to: any length, mono and stereo, gradients, checkpoints, float64, silence, chunks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError
from separate.models import MODELS, build
from separate.separator import choose_chunking
from separate.stream import stream
from tests.conftest import music

# Each architecture as small as it gets, with all that it is made of.
TINY: dict[str, dict[str, Any]] = {
    "d2-gru": {"n_fft": 512, "hop": 128, "width": 16, "groups": 4, "bands": 32, "sides": True, "output": "mask"},
    "open-unmix": {"n_fft": 512, "hop": 128, "hidden": 16, "bins": 185, "layers": 2},
    "spleeter": {"n_fft": 512, "hop": 128, "bins": 128, "frames": 64, "widths": (4, 6, 8)},
    "blstm": {"n_fft": 512, "hop": 128, "hidden": 8, "layers": 2},
    "mad": {"n_fft": 512, "window": 257, "hop": 64, "bins": 24, "hidden": 16, "iterations": 2, "griffin_lim": 2},
    "demucs": {"channels": 4},
    "wdemucs": {"channels": 4, "depth": 5},
    "hdemucs": {"channels": 8, "depth": 5, "n_fft": 1024},
    "htdemucs": {"channels": 8, "bottom": 16, "heads": 2, "layers": 2, "segment": 1.0},
    "bag": {"segment": 1.0, "models": ({"architecture": "htdemucs"}, {"architecture": "wdemucs"})},
    "wave-u-net": {"levels": 6, "filters": 4},
    "cws-mdensenet": {"first": 4, "growth": (3, 4, 3), "layers": 2, "last": (4, 2), "n_fft": 512, "hop": 128},
    "cws-unet": {"widths": (4, 6, 8), "n_fft": 512, "hop": 128},
    "roformer": {"n_fft": 512, "hop": 128, "mel": 10, "width": 16, "depth": 2, "heads": 1, "head_width": 8},
}
TINY["cws-mmdensenet"] = {"n_fft": 256, "hop": 64, "first": 4, "layers": (2, 1, 1), "last": (4, 2)}
TINY["cws-mmdensenet"] |= {"low": (3, 4, 3), "high": (2, 2, 3), "full": (2, 2, 2)}
TINY["mmdenselstm"] = {"n_fft": 256, "hop": 64, "bands": (24, 40, 65), "first": (3, 2, 2, 2), "growth": (2, 2, 2, 2)}
TINY["mmdenselstm"] |= {"low": (2, 2, 2), "middle": (1, 1, 1), "high": (1, 1, 1), "full": (1, 1, 1), "last": (3, 1)}
TINY["mmdenselstm"] |= {"low_units": (0, 4, 2), "middle_units": (0, 4, 0), "high_units": (0, 2, 0)}
TINY["mmdenselstm"] |= {"full_units": (0, 4, 0), "sources": ("voice", "rest")}
for part in TINY["bag"]["models"]:
    part["config"] = TINY[part["architecture"]]
ALL = sorted(MODELS)


@cache
def tiny(architecture: str) -> Any:
    """Build one whose weights are random."""
    return awake(architecture, TINY[architecture]).eval().requires_grad_(False)


def awake(architecture: str, config: dict[str, Any]) -> Any:
    """Build a model, give its statistics values, and its last layers biases, so that no ReLU says nothing at all."""
    torch.manual_seed(1)
    model = build(architecture, config)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name in ("mask.bias", "denoiser_enc.bias", "denoiser_dec.bias") or name.endswith(".output.bias"):
                value.add_(0.5)
    return model


@cache
def song(seconds: float, channels: int = 2) -> Tensor:
    return torch.from_numpy(music(seconds, 44100, channels))


def decibels(reference: Tensor, estimate: Tensor) -> float:
    """Say how far an estimate is off, at the worst source: 0 is all wrong."""
    error = (estimate - reference).square().sum((1, 2))
    return float((10 * torch.log10(reference.square().sum((1, 2)) / error.clamp_min(1e-30))).min())


def rows() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Find the variants that the files of the architectures list."""
    for architecture, place in MODELS.items():
        module = import_module(place.partition(":")[0])
        for table in ("PRESETS", "ABLATIONS"):
            for name, changes in getattr(module, table, {}).items():
                if architecture != "cws-mmdensenet":  # the table beside it is that of its neighbour
                    yield architecture, name, changes


def test_every_architecture_has_its_tiny_one() -> None:
    assert TINY.keys() == MODELS.keys()


@pytest.mark.parametrize(("architecture", "name", "changes"), [*rows(), *((a, "defaults", {}) for a in ALL)])
def test_a_variant_is_a_row_of_settings(architecture: str, name: str, changes: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = build(architecture, changes)
        again = build(architecture, json.loads(json.dumps(dataclasses.asdict(model.config))))
    assert again.config == model.config
    assert (model.sources, model.sample_rate) == (model.config.sources, model.config.sample_rate)
    assert 0 <= 2 * model.context < model.segment
    assert isinstance(model.sums, bool)
    assert sum(parameter.numel() for parameter in model.parameters()) > 10_000


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100, 441001])
@pytest.mark.parametrize("architecture", ALL)
def test_any_length_in_mono_and_stereo(architecture: str, length: int, channels: int) -> None:
    model, mix = tiny(architecture), song(10.2, channels)[None, :, 5000 : 5000 + length]
    with torch.inference_mode():
        stems = model(mix)
    assert stems.shape == (1, len(model.sources), channels, length)
    assert stems.dtype == torch.float32
    assert stems.isfinite().all()
    if model.sums:
        torch.testing.assert_close(stems.sum(1), mix, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ALL)
def test_songs_of_a_batch_do_not_meet_and_silence_stays_silence(architecture: str) -> None:
    model = tiny(architecture)
    songs = torch.stack([song(0.5), torch.zeros(2, 22050), song(0.5).flip(1) / 8])
    with torch.inference_mode():
        stems = model(songs)
        alone = model(songs[2:])
    assert torch.equal(stems[1], torch.zeros_like(stems[1]))
    assert decibels(alone[0], stems[2]) > 80
    assert all(stem.std() > 1e-4 for stem in stems[0])


@pytest.mark.parametrize("architecture", ALL)
def test_a_gradient_reaches_every_weight(architecture: str) -> None:
    known = {field.name for field in dataclasses.fields(tiny(architecture).config)}
    through = {"wiener": 0, "griffin_lim": 0}  # what comes after the net is not trained with it
    model = awake(architecture, TINY[architecture] | {name: n for name, n in through.items() if name in known})
    mix = torch.stack([song(0.5), song(0.5).flip(0, 1)])
    # The voice of MaD goes through Griffin-Lim, of no iterations here, and no gradient does.
    stems = model.estimate(model.stft(mix).abs())[:, None] if architecture == "mad" else model(mix)
    # Where stems sum to the song, the gradient of all of them alike would be none.
    weights = torch.arange(1.0, 1 + stems.shape[1]).reshape(-1, *[1] * (stems.ndim - 2))
    (weights * stems.square()).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.any() or not g.isfinite().all()] == []


@pytest.mark.parametrize("architecture", ALL)
def test_a_checkpoint_brings_it_back(architecture: str, tmp_path: Path) -> None:
    model, mix = tiny(architecture), song(0.5)[None]
    path = tmp_path / "model.safetensors"
    save(path, model, architecture=architecture, licence="MIT", training={})
    again = load(path)
    assert again.config == model.config
    found, state = again.state_dict(), model.state_dict()
    assert list(found) == list(state)
    assert all(torch.equal(found[name], value) for name, value in state.items())
    with torch.inference_mode():  # where weights lie in memory, which is mapped, may decide on a last bit
        torch.testing.assert_close(again(mix), model(mix), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ALL)
def test_float64_says_the_same(architecture: str) -> None:
    model, mix = tiny(architecture), song(1.0)[None]
    exact = build(architecture, TINY[architecture]).eval()
    exact.load_state_dict(model.state_dict())
    with torch.inference_mode():
        stems, expected = model(mix), exact.double()(mix.double())
    assert expected.dtype == torch.float64
    assert (stems - expected).abs().max() < 1e-4


# How close chunks of two seconds must come to the whole song, in decibels, with random weights: as close as float32
# does, but for nets that are recurrent, or hear the level of a chunk.
CHUNKED = {
    "d2-gru": 40,
    "open-unmix": 35,
    "spleeter": 140,
    "blstm": 25,
    "mad": 140,
    "demucs": 34,
    "wdemucs": 20,
    "hdemucs": 8,
    "htdemucs": 0,
    "bag": 0,
    "wave-u-net": 140,
    "cws-mdensenet": 95,
    "cws-mmdensenet": 80,
    "cws-unet": 95,
    "mmdenselstm": 30,
    "roformer": 25,
}


@pytest.mark.parametrize("architecture", ALL)
def test_chunks_say_what_the_whole_song_says(architecture: str) -> None:
    model, mix = tiny(architecture), song(4.0)
    chunking = choose_chunking(model, 2.0, 0.1, 1, 3)
    with torch.inference_mode():
        whole = model(mix[None])[0]
        chunked = torch.cat(list(stream(torch.split(mix, 70000, 1), model, chunking)), 2)
    assert chunked.shape == whole.shape
    assert decibels(whole, chunked) > CHUNKED[architecture]


def settings(kind: type) -> Iterator[tuple[str, str]]:
    for architecture in ALL:
        for field in dataclasses.fields(tiny(architecture).config):
            if isinstance(field.default, kind) and not isinstance(field.default, bool):
                yield architecture, field.name


@pytest.mark.parametrize(("architecture", "name"), [*settings(int), *settings(float)])
def test_a_number_that_cannot_be_is_refused_by_its_name(architecture: str, name: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^{architecture}: .*\b{name}\b.*-7"):
        build(architecture, TINY[architecture] | {name: -7})


@pytest.mark.parametrize("architecture", ALL)
def test_a_word_where_a_number_should_be_is_refused_by_name(architecture: str) -> None:
    for field in dataclasses.fields(tiny(architecture).config):
        if not isinstance(field.default, str):
            with pytest.raises(CheckpointError, match=f"^{architecture}: {field.name} = 'wide' is not of the kind"):
                build(architecture, TINY[architecture] | {field.name: "wide"})
    with pytest.raises(CheckpointError, match=f"{architecture} has no setting 'widht'"):
        build(architecture, {"widht": 3})
