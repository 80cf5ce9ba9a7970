from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from separate.dsp import stretches
from separate.dsp.hpss import hpss
from separate.dsp.stft import STFT

RATE = 8000


def tones(seconds: float = 3.0, rate: int = RATE) -> Tensor:
    time = torch.arange(round(seconds * rate)) / rate
    return sum((torch.sin(2 * torch.pi * pitch * time) for pitch in (220, 660, 1234)), torch.zeros(()))[None] / 10


def clicks(seconds: float = 3.0, rate: int = RATE) -> Tensor:
    audio = torch.zeros(1, round(seconds * rate))
    audio[:, rate // 5 :: rate // 2] = 1
    return audio


def noise(length: int, channels: int = 2) -> Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(length))


def share(part: Tensor, of: Tensor) -> float:
    return float((part.square().sum() / of.square().sum()).item())


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_tone_is_harmonic_and_a_click_percussive(rate: int) -> None:
    harmonic, percussive = hpss(tones(rate=rate), rate)
    assert share(harmonic, tones(rate=rate)) > 0.95
    assert share(percussive, tones(rate=rate)) < 0.02
    harmonic, percussive = hpss(clicks(rate=rate), rate)
    assert share(harmonic, clicks(rate=rate)) < 0.02
    assert share(percussive, clicks(rate=rate)) > 0.95


def test_both_at_once_are_told_apart() -> None:
    mix = tones() + clicks()
    harmonic, percussive = hpss(mix, RATE)
    assert share(harmonic - tones(), tones()) < 0.05
    assert share(percussive - clicks(), clicks()) < 0.25  # in the mixture the tones are 60 times as strong


def test_it_is_the_formula() -> None:
    mix, window = noise(20_000), 5
    X = STFT(1024, 256)(mix)
    magnitudes = X.abs()
    H = F.pad(magnitudes, (2, 2), "reflect").unfold(2, window, 1).median(-1).values
    P = F.pad(magnitudes.mT, (2, 2), "reflect").unfold(2, window, 1).median(-1).values.mT
    expected = STFT(1024, 256).inverse(X * H**3 / (H**3 + P**3), mix.shape[1])
    torch.testing.assert_close(hpss(mix, 11025, window=window, power=3)[0], expected)


@pytest.mark.parametrize("length", [1, 2, 300, 4096, 30_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_parts_sum_to_the_mixture(length: int, channels: int) -> None:
    mix = noise(length, channels)
    harmonic, percussive = hpss(mix, RATE)
    assert harmonic.shape == percussive.shape == mix.shape
    torch.testing.assert_close(harmonic + percussive, mix)


@pytest.mark.parametrize("stretch", [1, 16, 50])
def test_the_result_does_not_depend_on_the_stretches(stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = noise(20_000, channels=1)
    whole, _ = hpss(mix, RATE)
    monkeypatch.setattr(stretches, "FRAMES", stretch)
    torch.testing.assert_close(hpss(mix, RATE)[0], whole)


def test_silence_stays_silent() -> None:
    harmonic, percussive = hpss(torch.zeros(2, 5000), RATE)
    assert not harmonic.any()
    assert not percussive.any()
