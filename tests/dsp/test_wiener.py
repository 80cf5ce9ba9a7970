from __future__ import annotations

import math
import statistics
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from separate.dsp.masks import apply_masks, ratio_mask
from separate.dsp.stft import STFT
from separate.dsp.wiener import _to_rows, initial_estimates, initial_model, model, share_residual, wiener

EPS = 1e-10


def reference(mixture: Tensor, magnitudes: Tensor, iterations: int) -> Tensor:
    """Filter one item as the equations say it: bin by bin, frame by frame, with the matrices that they name."""
    scale = max(1.0, mixture.abs().max().item() / 10)
    sources, channels, bins, frames = magnitudes.shape
    y = torch.polar(magnitudes, mixture.angle().expand_as(magnitudes)) / scale
    x = mixture / scale
    noise = math.sqrt(EPS) * torch.eye(channels, dtype=y.dtype)
    for _ in range(iterations):
        v = y.abs().square().mean(1)  # (source, bin, frame)
        for f in range(bins):
            R = []
            for j in range(sources):
                products = [torch.outer(y[j, :, f, t], y[j, :, f, t].conj()) for t in range(frames)]
                R.append(torch.stack(products).sum(0) / (EPS + v[j, f].sum()))
            for t in range(frames):
                C = torch.stack([v[j, f, t] * R[j] for j in range(sources)]).sum(0) + noise
                for j in range(sources):
                    y[j, :, f, t] = v[j, f, t] * R[j] @ torch.linalg.inv(C) @ x[:, f, t]
    return y * scale


def random_input(
    channels: int = 2, bins: int = 5, frames: int = 12, sources: int = 4, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(channels if seed is None else seed)
    mixture = 20 * torch.randn(channels, bins, frames, dtype=torch.complex128, generator=generator)
    return mixture, 15 * torch.rand(sources, channels, bins, frames, dtype=torch.float64, generator=generator)


def panned_sources(stft: STFT, length: int) -> Tensor:
    """Make four stereo sources: a vibrato voice in the middle, decaying beats, a bass and a chord, panned."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(length, dtype=torch.float64) / 22050
    noise = torch.randn(length, dtype=torch.float64, generator=generator)
    overtones = torch.arange(1, 12)[:, None]
    voice = (torch.sin(overtones * (2 * math.pi * 220 * time + torch.sin(30 * time))) / overtones).sum(0)
    beats = noise * torch.exp(-(time % 0.25) * 30)
    bass = (torch.sin(2 * math.pi * 55 * overtones * time) / overtones**2).sum(0)
    chord = torch.sin(2 * math.pi * torch.tensor([220, 277.2, 329.6, 440])[:, None] * time).sum(0)
    angles = torch.tensor([0.5, 0.3, 0.52, 0.8], dtype=torch.float64) * math.pi / 2
    gains = torch.stack([angles.cos(), angles.sin()], dim=1)  # (source, channel)
    spec: Tensor = stft(gains[:, :, None] * 0.2 * torch.stack([voice, beats, bass, chord])[:, None])
    return spec


def music_like_input() -> tuple[Tensor, Tensor]:
    sources = panned_sources(STFT(n_fft=512, hop=128), length=8000)
    errors = torch.randn(sources.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return sources.sum(0), sources.abs() * torch.exp(0.3 * errors)


def relative_error(estimate: Tensor, wanted: Tensor) -> float:
    return float((estimate - wanted).norm() / wanted.norm())


def peer(name: str) -> Any:
    """Import a peer, which is not a dependency, whatever it warns of at import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_agrees_with_the_equations(channels: int, iterations: int) -> None:
    mixture, magnitudes = random_input(channels, bins=2)
    assert relative_error(wiener(mixture, magnitudes, iterations), reference(mixture, magnitudes, iterations)) < 1e-9


@pytest.mark.parametrize("make_input", [random_input, music_like_input])
@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64])
@pytest.mark.parametrize("iterations", [1, 2])
def test_agrees_with_norbert(make_input: Any, dtype: torch.dtype, iterations: int) -> None:
    norbert = peer("norbert")
    mixture, magnitudes = make_input()
    mixture, magnitudes = mixture.to(dtype), magnitudes.to(dtype.to_real())
    x = mixture.to(torch.complex128).permute(2, 1, 0).resolve_conj().numpy().copy()
    theirs = norbert.wiener(magnitudes.double().permute(3, 2, 1, 0).numpy(), x, iterations, use_softmask=False, eps=EPS)
    ours = wiener(mixture, magnitudes, iterations)
    assert ours.dtype == dtype
    assert relative_error(ours, torch.from_numpy(theirs).permute(3, 2, 1, 0)) < 1e-6


@pytest.mark.parametrize("make_input", [random_input, music_like_input])
@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64])
@pytest.mark.parametrize("iterations", [1, 2])
def test_agrees_with_openunmix(make_input: Any, dtype: torch.dtype, iterations: int) -> None:
    filtering = peer("openunmix.filtering")
    mixture, magnitudes = make_input()
    mixture, magnitudes = mixture.to(dtype), magnitudes.to(dtype.to_real())
    x = torch.view_as_real(mixture.to(torch.complex128).permute(2, 1, 0).contiguous())
    theirs = filtering.wiener(magnitudes.double().permute(3, 2, 1, 0), x, iterations).permute(4, 2, 1, 0, 3)
    assert relative_error(wiener(mixture, magnitudes, iterations), torch.view_as_complex(theirs.contiguous())) < 1e-6


@pytest.mark.parametrize("width", [0, 1e-6, 1e-3, 1])
def test_float32_in_is_as_good_as_float64(width: float) -> None:
    mixture, magnitudes = random_input(bins=20, frames=30)
    mixture[1] = mixture[0] + width * mixture[1]  # From mono to wide: C is from nearly singular to well conditioned.
    mixture, magnitudes = mixture.to(torch.complex64), magnitudes.float()
    exact = wiener(mixture.to(torch.complex128), magnitudes.double())
    assert relative_error(wiener(mixture, magnitudes), exact) < 1e-7


def test_knows_sources_by_their_place() -> None:
    sources = panned_sources(STFT(n_fft=2048, hop=512), length=22050)
    mixture = sources.sum(0)
    blurred = sources.abs() * torch.exp(0.5 * torch.randn(sources.shape, generator=torch.Generator().manual_seed(2)))
    masked = apply_masks(ratio_mask(blurred), mixture)
    filtered = wiener(mixture, blurred)
    errors = [(estimates - sources).abs().square().sum((1, 2, 3)) for estimates in (masked, filtered)]
    assert (errors[1] < errors[0]).all()
    assert errors[1].sum() < 0.8 * errors[0].sum()  # 1 dB


def test_estimates_sum_to_the_mixture_but_for_the_noise() -> None:
    mixture, magnitudes = random_input(bins=20, frames=30)
    assert relative_error(wiener(mixture, magnitudes).sum(0), mixture) < 1e-5


def test_loud_mixtures_are_quiet_ones_amplified() -> None:
    mixture, magnitudes = random_input()
    assert mixture.abs().max() > 10
    torch.testing.assert_close(wiener(1e4 * mixture, 1e4 * magnitudes), 1e4 * wiener(mixture, magnitudes))


def test_the_order_of_sources_and_channels_does_not_matter() -> None:
    mixture, magnitudes = random_input(channels=3)
    estimates = wiener(mixture, magnitudes)
    torch.testing.assert_close(wiener(mixture, magnitudes[[2, 0, 3, 1]]), estimates[[2, 0, 3, 1]])
    torch.testing.assert_close(wiener(mixture[[2, 0, 1]], magnitudes[:, [2, 0, 1]]), estimates[:, [2, 0, 1]])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_silence_stays_silent(channels: int) -> None:
    mixture, magnitudes = random_input(channels)
    assert not wiener(torch.zeros_like(mixture), magnitudes).any()
    assert not wiener(torch.zeros_like(mixture), torch.zeros_like(magnitudes)).any()
    assert not wiener(mixture, torch.zeros_like(magnitudes)).any()
    magnitudes[2] = 0
    estimates = wiener(mixture, magnitudes, iterations=2)
    assert not estimates[2].any()
    assert estimates[[0, 1, 3]].all()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_silent_moments_and_a_dead_channel(channels: int) -> None:
    mixture, magnitudes = random_input(channels)
    mixture[0] = 0
    mixture[:, :, 4:7] = 0
    magnitudes[:, 0] = 0
    estimates = wiener(mixture, magnitudes, iterations=2)
    assert not estimates[:, 0].any()
    assert not estimates[:, :, :, 4:7].any()
    assert estimates[:, 1:, :, :4].all()
    assert relative_error(estimates, reference(mixture, magnitudes, 2)) < 1e-9 or channels == 1


@pytest.mark.parametrize("level", [1e-20, 1e12, 1e25])
def test_stays_finite_for_absurd_estimates(level: float) -> None:
    mixture, magnitudes = random_input()
    mixture[1] = mixture[0]
    magnitudes[:, 1] = magnitudes[:, 0]
    assert wiener(mixture, level * magnitudes, iterations=2).isfinite().all()


def test_two_equal_channels_stay_equal() -> None:
    mixture, magnitudes = random_input()
    mixture[1] = mixture[0]
    magnitudes[:, 1] = magnitudes[:, 0]
    estimates = wiener(mixture, magnitudes)
    torch.testing.assert_close(estimates[:, 0], estimates[:, 1])
    torch.testing.assert_close(estimates[:, :1], wiener(mixture[:1], magnitudes[:, :1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_one_of_everything(channels: int) -> None:
    """The matrices of one frame are singular but for the noise: what rounding leaves is luck, at times."""
    errors = []
    for seed in range(25):
        mixture, magnitudes = random_input(channels, bins=1, frames=1, sources=1, seed=seed)
        estimates = wiener(mixture, magnitudes)
        assert estimates.shape == magnitudes.shape
        errors.append(relative_error(estimates, reference(mixture, magnitudes, 1)))
    assert statistics.median(errors) < 3e-10
    assert max(errors) < 1e-6


def test_what_two_channels_need_no_estimates_for_is_what_is_measured_on_estimates() -> None:
    mixture, magnitudes = random_input(frames=40)
    mixture[:, 1, :3], mixture[0, 2, 5:9], mixture[1, 3] = 0, 0, mixture[0, 3]  # silence, in one channel too, and mono
    x, m = _to_rows(mixture), magnitudes.movedim(2, 0).contiguous()
    measured, found = model(initial_estimates(m, x), torch.tensor(1e-10)), initial_model(m, x, torch.tensor(1e-10))
    for wanted, got in zip(measured, found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)


def test_items_of_a_batch_do_not_know_each_other() -> None:
    mixture, magnitudes = random_input()
    mixtures = torch.stack([mixture, 100 * mixture.flip(-1), torch.zeros_like(mixture)]).unsqueeze(1)
    batch = magnitudes.expand(3, 1, *magnitudes.shape)
    estimates = wiener(mixtures, batch)
    assert estimates.shape == (3, 1, 4, 2, 5, 12)
    for item in range(3):
        torch.testing.assert_close(estimates[item, 0], wiener(mixtures[item, 0], magnitudes), rtol=0, atol=0)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_blocks_of_bins_leave_no_seam(channels: int) -> None:
    mixture, magnitudes = random_input(channels, bins=40, frames=6000, sources=2)
    mixture /= mixture.abs().amax((0, 2), keepdim=True)  # how loud a bin is counts, so all are alike
    estimates = wiener(mixture, magnitudes)
    for f in (0, 4, 5, 9, 10, 28, 29, 39):
        alone = wiener(mixture[:, f : f + 1], magnitudes[:, :, f : f + 1])
        torch.testing.assert_close(estimates[:, :, f : f + 1], alone)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("gain", [1e-9, 1e-4, 1e5])
def test_a_song_at_any_level_is_filtered_alike(channels: int, gain: float) -> None:
    mixture, magnitudes = random_input(channels)
    assert relative_error(wiener(gain * mixture, gain * magnitudes) / gain, wiener(mixture, magnitudes)) < 1e-8


def test_any_layout_in_memory_and_inputs_unchanged() -> None:
    mixture, magnitudes = random_input()
    estimates = wiener(mixture, magnitudes)
    turned = mixture.mT.contiguous().mT, magnitudes.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    copies = [tensor.clone() for tensor in turned]
    torch.testing.assert_close(wiener(*turned), estimates, rtol=0, atol=0)
    assert torch.equal(turned[0], copies[0])
    assert torch.equal(turned[1], copies[1])


@pytest.mark.parametrize("shape", [(2, 5, 12), (4, 1, 5, 12), (3, 4, 2, 5, 12)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    mixture, _ = random_input()
    with pytest.raises(ValueError, match="does not fit"):
        wiener(mixture, torch.ones(shape))


def test_shared_residual_makes_the_sum_exact() -> None:
    mixture, magnitudes = random_input()
    estimates = wiener(mixture, 0.1 * magnitudes, iterations=0)
    before = estimates.clone()
    after = share_residual(mixture, estimates)
    assert after.data_ptr() == estimates.data_ptr()
    torch.testing.assert_close(after.sum(0), mixture, rtol=0, atol=1e-13)
    torch.testing.assert_close(after - before, ((mixture - before.sum(0)) / 4).expand_as(before))


def test_residual_of_waveforms() -> None:
    mixture, estimates = torch.randn(3, 2, 100), torch.randn(3, 4, 2, 100)
    torch.testing.assert_close(share_residual(mixture, estimates, source_dim=-3).sum(1), mixture)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_cuda_agrees_with_cpu(channels: int) -> None:
    mixture, magnitudes = random_input(channels)
    torch.testing.assert_close(wiener(mixture.cuda(), magnitudes.cuda()).cpu(), wiener(mixture, magnitudes))
