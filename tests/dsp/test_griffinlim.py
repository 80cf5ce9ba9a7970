from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torchaudio
from torch import Tensor

from separate.dsp.griffinlim import griffin_lim, spectral_convergence
from separate.dsp.stft import STFT

LENGTH = 6000
STFT_256 = STFT(n_fft=256, hop=64)


def chirp_and_accompaniment(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(LENGTH, dtype=torch.float64)
    voice = torch.sin(0.1 * time * (1 + time / LENGTH)) + 0.3 * torch.sin(0.3 * time)
    return voice, 0.4 * torch.randn(LENGTH, dtype=torch.float64, generator=generator)


def torchaudio_griffin_lim(magnitudes: Tensor, iterations: int, rand_init: bool) -> Tensor:
    window = torch.hann_window(256, dtype=magnitudes.dtype)
    waveforms: Tensor = torchaudio.functional.griffinlim(
        magnitudes, window, 256, 64, 256, 1.0, iterations, 0.0, LENGTH, rand_init
    )
    return waveforms


@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_agrees_with_torchaudio_from_zero_phase(iterations: int) -> None:
    voice, _ = chirp_and_accompaniment()
    magnitudes = STFT_256(voice).abs()
    ours = griffin_lim(magnitudes, torch.ones_like(magnitudes).to(torch.complex128), STFT_256, LENGTH, iterations)
    torch.testing.assert_close(ours, torchaudio_griffin_lim(magnitudes, iterations, rand_init=False))


@pytest.mark.parametrize("iterations", [1, 10])
def test_agrees_with_torchaudio_from_the_mixtures_phase(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    voice, rest = chirp_and_accompaniment()
    magnitudes, mixture = STFT_256(voice).abs(), STFT_256(voice + rest)
    # torchaudio starts from any phase but by its own choice: from random numbers. These are the ones it draws.
    phase = torch.polar(torch.ones_like(magnitudes), mixture.angle())
    monkeypatch.setattr(torch, "rand", lambda *_args, **_options: phase[None])
    theirs = torchaudio_griffin_lim(magnitudes, iterations, rand_init=True)
    torch.testing.assert_close(griffin_lim(magnitudes, mixture, STFT_256, LENGTH, iterations), theirs)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("from_mixture", [True, False])
def test_every_iteration_comes_closer(seed: int, from_mixture: bool) -> None:
    voice, rest = chirp_and_accompaniment(seed)
    magnitudes, mixture = STFT_256(voice).abs(), STFT_256(voice + rest)
    start = mixture if from_mixture else torch.ones_like(mixture)
    values = [
        spectral_convergence(griffin_lim(magnitudes, start, STFT_256, LENGTH, iterations), magnitudes, STFT_256).item()
        for iterations in range(10)
    ]
    assert all(after < before for before, after in pairwise(values))
    assert values[-1] < 0.8 * values[0]


def test_the_right_phase_is_kept() -> None:
    voice, _ = chirp_and_accompaniment()
    spec = STFT_256(voice)
    back = griffin_lim(spec.abs(), 3 * spec, STFT_256, LENGTH, iterations=5)
    torch.testing.assert_close(back, voice)
    assert spectral_convergence(back, spec.abs(), STFT_256) < 1e-12


def test_batches_are_items_and_the_start_is_broadcast() -> None:
    voice, rest = (signal.float() for signal in chirp_and_accompaniment())
    sources = torch.stack([voice, rest]).reshape(2, 1, LENGTH)
    magnitudes, mixture = STFT_256(sources).abs(), STFT_256(voice + rest)
    waveforms = griffin_lim(magnitudes, mixture, STFT_256, LENGTH, iterations=2)
    assert waveforms.shape == (2, 1, LENGTH)
    assert waveforms.dtype == torch.float32
    alone = griffin_lim(magnitudes[1, 0], mixture, STFT_256, LENGTH, iterations=2)
    torch.testing.assert_close(waveforms[1, 0], alone)
    assert spectral_convergence(waveforms, magnitudes, STFT_256).shape == (2, 1)


@pytest.mark.parametrize("length", [1, 63, 64])
def test_one_frame_and_silence(length: int) -> None:
    silence = torch.zeros(2, length)
    spec = STFT_256(silence)
    back = griffin_lim(spec.abs(), spec, STFT_256, length, iterations=3)
    assert torch.equal(back, silence)
    assert torch.equal(spectral_convergence(back, spec.abs(), STFT_256), torch.zeros(2))
    ones = STFT_256(torch.ones(length))
    back = griffin_lim(ones.abs(), ones, STFT_256, length, iterations=3)
    torch.testing.assert_close(back, torch.ones(length))
