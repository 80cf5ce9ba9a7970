"""What all models of subbands have in common: spectra there and back, levels, masks, and what a chunk knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from separate.checkpoints.weights import load, save
from separate.models import build, densenet, unet
from separate.models.subband import Subband, SubbandConfig
from separate.separator import choose_chunking
from separate.stream import Chunking, stream
from tests.conftest import music

SMALL: dict[str, Any] = {"n_fft": 512, "hop": 88, "segment": 1.0, "context": 0.1, "level": 0.05}
# Compact forms of every architecture.
COMPACT: dict[str, tuple[str, dict[str, Any]]] = {
    "unet-k1": ("cws-unet", {"bands": 1, "widths": [4, 8, 8]}),
    "unet-k8": ("cws-unet", {"bands": 8, "widths": [16, 16, 8]}),
    "mdensenet-k2": ("cws-mdensenet", {"bands": 2, "first": 8, "growth": [3, 4, 4], "layers": 2, "last": [5, 2]}),
    "mdensenet-k4": ("cws-mdensenet", {"bands": 4, "first": 8, "growth": [3, 4, 5, 6, 7], "layers": 2, "last": [5, 1]}),
    "mdensenet-k8": ("cws-mdensenet", {"bands": 8, "first": 8, "growth": [4, 4, 4], "layers": 3, "last": [4, 2]}),
    "mmdensenet": (
        "cws-mmdensenet",
        {"first": 4, "low": [3, 4, 3], "high": [2, 2, 3], "full": [2, 2, 2], "layers": [2, 2, 1], "last": [3, 2]},
    ),
}


def compact(name: str, **changes: Any) -> Any:
    """A small model with random weights, the same at every call; its masks are lively, not all near a half."""
    torch.manual_seed(0)
    architecture, config = COMPACT[name]
    model = build(architecture, SMALL | config | changes)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.7, 1.5)
                layer.bias.uniform_(-0.3, 0.3)
                layer.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
    return model.eval()


def audio(length: int, channels: int = 2, batch: int = 1) -> Tensor:
    return torch.randn(batch, channels, length, generator=torch.Generator().manual_seed(1)) * 0.2


class Same(nn.Module):
    """A net that wants everything, whatever it hears; it remembers what that was."""

    def forward(self, x: Tensor) -> Tensor:
        self.heard = x
        return torch.full_like(x, 30)


def plain(**changes: Any) -> Subband:
    config = SubbandConfig(**(SMALL | changes))
    return Subband(config, (Same() for _ in config.sources), 0).eval()


@pytest.mark.parametrize("bands", [1, 2, 4, 8])
@pytest.mark.parametrize("length", [1, 2, 100, 4411])
def test_a_net_that_wants_everything_gets_the_song(length: int, bands: int) -> None:
    mix = audio(length)
    stems = plain(bands=bands)(mix)
    assert stems.shape == (1, 2, 2, length)
    for stem in stems[0]:
        torch.testing.assert_close(stem, mix[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bands", [1, 2, 4, 8])
def test_the_paper_has_these_frames_and_bins(bands: int) -> None:
    model = Subband(SubbandConfig(bands=bands), iter(()), 0)
    assert (model.stft.n_fft, model.stft.hop) == {1: (2048, 352), 2: (1024, 176), 4: (512, 88), 8: (256, 44)}[bands]
    torch.testing.assert_close(model.stft.window, torch.hann_window(2048 // bands).sqrt())
    spectra = model.spectra(audio(132300))
    assert spectra.shape[:3] == (1, 4 * bands, 1024 // bands + 1)
    assert abs(spectra.shape[3] - 376) <= 1  # 3 s; the bank rings a little longer


def test_channels_are_ordered_by_channel_band_and_part() -> None:
    model = plain(bands=4)
    spectra = model.spectra(audio(3000))
    subbands = model.stft(model.bank(audio(3000)))  # (batch, channel, band, bin, frame)
    for c in range(2):
        for k in range(4):
            torch.testing.assert_close(spectra[:, (c * 4 + k) * 2], subbands[:, c, k].real)
            torch.testing.assert_close(spectra[:, (c * 4 + k) * 2 + 1], subbands[:, c, k].imag)


def test_real_and_imaginary_parts_have_masks_of_their_own() -> None:
    class Real(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.full_like(x, -30)
            y[:, ::2] = 30
            return y

    model = Subband(SubbandConfig(**SMALL, sources=("real",)), iter([Real()]), 0)
    mix = audio(2000)
    spectra = model.spectra(mix)
    spectra[:, 1::2] = 0
    torch.testing.assert_close(model(mix)[:, 0], model.audio(spectra, 2000), rtol=1e-4, atol=1e-6)


def test_a_net_hears_a_peak_of_nearly_point_eight_whatever_the_level() -> None:
    model = plain(bands=1, sources=("all",))
    mix = audio(8000)
    heard: list[Tensor] = []
    for gain in (1, 0.5, 1e-3):
        model(mix * gain)
        heard.append(model.nets[0].heard)  # type: ignore[arg-type]
        torch.testing.assert_close(heard[-1], heard[0], rtol=1e-4, atol=1e-4)
    loud = model.audio(heard[0], 8000).abs().max()
    assert 0.5 < float(loud) < 0.81


@pytest.mark.parametrize("name", COMPACT)
def test_stems_follow_the_level_of_the_song(name: str) -> None:
    model, mix = compact(name), audio(6000)
    with torch.inference_mode():
        torch.testing.assert_close(model(mix / 4), model(mix) / 4, rtol=1e-3, atol=1e-6)


def test_a_quiet_end_is_not_made_loud_by_a_loud_beginning() -> None:
    model = plain(bands=1)
    mix = torch.cat([audio(20000), audio(20000) / 100], -1)
    gain = model.gain(mix, 1 + 40000 // 88)[0, 0, 0]
    assert float(gain[-100:].mean() / gain[:100].mean()) == pytest.approx(100, rel=0.2)
    steps = (gain[1:] / gain[:-1]).log().abs()
    assert float(steps.max()) < 2 * math.log(100) / (0.05 * 44100 / 88)  # it glides, it does not jump


@pytest.mark.parametrize("name", COMPACT)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [1, 100, 44100])
def test_any_length_mono_and_stereo(length: int, channels: int, name: str) -> None:
    with torch.inference_mode():
        stems = compact(name)(audio(length, channels, batch=2))
    assert stems.shape == (2, 2, channels, length)
    assert stems.isfinite().all()


@pytest.mark.parametrize("name", ["unet-k8", "mdensenet-k8"])
def test_ten_seconds_and_a_sample(name: str) -> None:
    with torch.inference_mode():
        assert compact(name)(audio(441001)).shape == (1, 2, 2, 441001)


@pytest.mark.parametrize("name", COMPACT)
def test_songs_of_a_batch_do_not_meet_and_mono_is_the_same_on_both_sides(name: str) -> None:
    model, mix = compact(name), audio(3000, 1, batch=2)
    with torch.inference_mode():
        both = model(mix)
        torch.testing.assert_close(model(mix[1:]), both[1:], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(model(mix.expand(-1, 2, -1)).mean(2, keepdim=True), both, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", COMPACT)
def test_silence_stays_silence(name: str) -> None:
    with torch.inference_mode():
        assert not compact(name)(torch.zeros(1, 2, 3000)).any()
        mix = audio(6000)
        mix[..., 3000:] = 0
        stems = compact(name)(mix)
    assert stems.isfinite().all()
    assert float(stems[..., 4000:].abs().max()) < 1e-6


@pytest.mark.parametrize("name", COMPACT)
def test_training_reaches_every_weight(name: str) -> None:
    model = compact(name).train()
    model(audio(3000)).square().sum().backward()
    missed = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A convolution's offset before a batch normalisation is taken out again: its gradient is rounding, or nothing.
    assert not [n for n in missed if not n.endswith(".bias")]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", COMPACT)
def test_float64_gives_what_float32_gives(name: str) -> None:
    model, mix = compact(name), audio(5000)
    with torch.inference_mode():
        stems = model(mix)
        exact = model.double()(mix.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(stems.double(), exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", COMPACT)
def test_bfloat16_changes_the_stems_little(name: str) -> None:
    model, mix = compact(name), audio(5000)
    with torch.inference_mode():
        stems = model(mix)
        with torch.autocast("cpu", torch.bfloat16):
            low = model(mix)
    assert low.dtype == torch.float32
    assert float((low - stems).norm() / stems.norm()) < 0.03


@pytest.mark.parametrize("name", COMPACT)
def test_a_checkpoint_gives_the_same_stems(name: str, tmp_path: Path) -> None:
    model, mix = compact(name), audio(3000)
    path = tmp_path / "model.safetensors"
    save(path, model, architecture=COMPACT[name][0], licence="MIT", training={"data": "none"})
    with torch.inference_mode():
        torch.testing.assert_close(load(path)(mix), model(mix), rtol=0, atol=0)


def chunks_against_whole(name: str, grid: int | None = None) -> float:
    """Separate music in chunks and at once, and say how far apart the stems are, in dB."""
    model = compact(name)
    grid = grid or model.grid
    song = torch.from_numpy(music(1.2, 44100))

    def blocks() -> Iterator[Tensor]:
        yield from torch.split(song, 10000, 1)

    segment, context = 24000 // grid * grid, -(-6000 // grid) * grid
    with torch.inference_mode():
        whole = model(song[None])[0]
        chunked = torch.cat(list(stream(blocks(), model, Chunking(segment, context, 0.1, batch=2, grid=grid))), -1)
    return 20 * math.log10(float((chunked - whole).norm() / whole.norm()))


@pytest.mark.parametrize("name", COMPACT)
def test_on_the_grid_chunks_are_the_whole_song(name: str) -> None:
    # A U-Net's upsampling is stretched from end to end: there, every place depends a little on how long the chunk is.
    assert chunks_against_whole(name) < (-70 if "unet" in name else -120)


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        *[("cws-unet", config) for config in unet.PRESETS.values()],
        *[("cws-mdensenet", config) for config in densenet.PRESETS.values()],
        ("cws-mmdensenet", {}),
        ("mmdenselstm", {}),
    ],
)
def test_at_the_defaults_chunks_are_on_the_grid(architecture: str, config: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = build(architecture, config)
    chunking = choose_chunking(model, None, overlap=0.1, shifts=1, batch=1)
    assert chunking.hop % model.grid == 0


@pytest.mark.parametrize("name", ["unet-k8", "mdensenet-k4"])
def test_off_the_grid_chunks_are_near_the_whole_song(name: str) -> None:
    assert chunks_against_whole(name, grid=1) < -15


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bands": 3}, "bands must be one of 1, 2, 4, 8, got 3"),
        ({"hop": 90, "bands": 4}, "hop = 90 must split into 4 bands"),
        ({"n_fft": 256, "hop": 88}, "hop be at most a quarter"),
        ({"sources": ()}, "at least one, got none"),
        ({"context": 0.5}, "fills a segment of 1.0 s"),
        ({"level": -1.0}, "level must be .*-1.0"),
        ({"sample_rate": 0}, "sample_rate must be .*0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SubbandConfig(**(SMALL | changes))


def test_three_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot hear 3"):
        plain()(audio(1000, 3))
