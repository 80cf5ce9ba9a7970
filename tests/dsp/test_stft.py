from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from separate.dsp.stft import STFT, magnitude

SMALL = STFT(n_fft=64, hop=16)


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 400), hop=st.integers(1, 16), seed=st.integers(0, 99))
def test_inverse_gives_back_any_length(length: int, hop: int, seed: int) -> None:
    stft = STFT(n_fft=64, hop=hop)
    audio = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    spec = stft(audio)
    assert spec.shape == (2, 33, 1 + length // hop) == (2, 33, stft.frames(length))
    assert (stft.inverse(spec, length) - audio).abs().max() < 1e-6


@pytest.mark.parametrize("length", [1, 2, 1023, 2048, 2049, 4096, 44101])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_inverse_gives_back_default_sizes(length: int, dtype: torch.dtype, tolerance: float) -> None:
    stft = STFT()
    audio = torch.rand(length, dtype=dtype) * 2 - 1
    back = stft.inverse(stft(audio), length)
    assert back.dtype == dtype
    assert (back - audio).abs().max() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_torch(dtype: torch.dtype) -> None:
    audio = torch.randn(3, 2, 1000, dtype=dtype)
    window = torch.hann_window(64, dtype=dtype)
    wanted = torch.stft(audio.flatten(0, 1), 64, 16, window=window, return_complex=True).view(3, 2, 33, -1)
    torch.testing.assert_close(SMALL(audio), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 2, 3, 10, 32, 33])
def test_short_signals_are_reflected_repeatedly(length: int) -> None:
    audio = torch.randn(length, dtype=torch.float64)
    padded = torch.from_numpy(np.pad(audio.numpy(), 32, mode="reflect"))
    window = torch.hann_window(64, dtype=torch.float64)
    wanted = torch.stft(padded, 64, 16, window=window, center=False, return_complex=True)
    torch.testing.assert_close(SMALL(audio), wanted)


def test_a_sinusoid_is_a_peak_of_half_the_windows_sum() -> None:
    audio = torch.cos(2 * math.pi * 8 / 64 * torch.arange(640, dtype=torch.float64))
    frame = SMALL(audio)[:, 20].abs()
    assert frame.argmax() == 8
    assert frame[8] == pytest.approx(64 / 2 / 2)  # A Hann window sums to n_fft / 2; a cosine has half its level here.
    assert frame[7] == pytest.approx(frame[8] / 2)
    assert frame[10:].max() < 1e-12


def test_a_delay_of_one_hop_is_one_frame() -> None:
    audio = torch.randn(640)
    spec, later = SMALL(audio), SMALL(torch.cat([torch.zeros(16), audio]))
    torch.testing.assert_close(spec[:, 4:-4], later[:, 5:-4])


def test_leading_dimensions_are_kept() -> None:
    audio = torch.randn(2, 3, 4, 200)
    spec = SMALL(audio)
    assert spec.shape == (2, 3, 4, 33, 13)
    torch.testing.assert_close(spec[1, 2, 3], SMALL(audio[1, 2, 3]))
    assert SMALL.inverse(spec, 200).shape == audio.shape


def test_autocast_and_half_precision_compute_in_float32() -> None:
    audio = torch.randn(2, 500)
    wanted = SMALL(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spec = SMALL(audio)
        back = SMALL.inverse(spec, 500)
    assert spec.dtype == torch.complex64
    assert torch.equal(spec, wanted)
    assert back.dtype == torch.float32
    cast = STFT(n_fft=64, hop=16).to(torch.bfloat16)
    assert torch.equal(cast(audio), wanted)
    assert torch.equal(cast(audio.half()), SMALL(audio.half().float()))


def test_the_window_is_in_no_checkpoint() -> None:
    assert not STFT().state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_window_may_be_a_power_of_hann(dtype: torch.dtype) -> None:
    audio = torch.randn(1000, dtype=dtype)
    stft = STFT(n_fft=64, hop=16, power=0.5)
    window = torch.hann_window(64, dtype=dtype).sqrt()
    torch.testing.assert_close(stft(audio), torch.stft(audio, 64, 16, window=window, return_complex=True))
    assert (stft.inverse(stft(audio), 1000) - audio).abs().max() < (1e-6 if dtype == torch.float32 else 1e-14)


def test_gradients_flow_both_ways() -> None:
    audio = torch.randn(100, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(SMALL.inverse(SMALL(audio), 100).square().sum(), audio)
    torch.testing.assert_close(gradient, 2 * audio.detach())


@pytest.mark.parametrize(("n_fft", "hop"), [(63, 8), (2, 1), (64, 17), (64, 0)])
def test_sizes_that_cannot_be_inverted_are_refused(n_fft: int, hop: int) -> None:
    with pytest.raises(ValueError, match="must"):
        STFT(n_fft=n_fft, hop=hop)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        SMALL(torch.zeros(2, 0))
    with pytest.raises(ValueError, match=r"200 samples have 13 frames of 33 bins, but .* 12 frames of 33 bins"):
        SMALL.inverse(torch.zeros(33, 12, dtype=torch.complex64), 200)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_cpu() -> None:
    audio = torch.randn(2, 5000)
    stft = STFT().to("cuda")
    torch.testing.assert_close(stft(audio.cuda()).cpu(), STFT()(audio), atol=1e-4, rtol=1e-4)
    assert (stft.inverse(stft(audio.cuda()), 5000).cpu() - audio).abs().max() < 1e-6


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e25])
def test_magnitudes_are_those_of_torch(scale: float) -> None:
    spec = torch.randn(3, 4, 5, dtype=torch.complex64) * scale
    torch.testing.assert_close(magnitude(spec), spec.abs(), rtol=1e-6, atol=0)
    torch.testing.assert_close(magnitude(spec.mT), spec.mT.abs(), rtol=1e-6, atol=0)
    assert torch.equal(magnitude(spec.real), spec.real.abs())
    assert magnitude(spec[:0]).shape == (0, 4, 5)


def test_magnitudes_have_gradients() -> None:
    spec = torch.randn(3, 4, dtype=torch.complex64, requires_grad=True)
    magnitude(spec).sum().backward()  # type: ignore[no-untyped-call]
    assert spec.grad is not None
