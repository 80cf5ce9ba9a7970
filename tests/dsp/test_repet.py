from __future__ import annotations

import pytest
import torch
from torch import Tensor

from separate.dsp import stretches
from separate.dsp.repet import repet, similar_frames
from separate.dsp.stft import STFT

RATE = 8000
SECONDS = 8


def looped(seed: int = 0) -> Tensor:
    """Repeat a second of notes and hits."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(RATE) / RATE
    bar = torch.zeros(2, RATE)
    for start in range(0, RATE, RATE // 4):
        note = 110 * 2 ** (torch.randint(24, (2, 1), generator=generator) / 12)
        length = RATE // 4
        bar[:, start : start + length] += torch.sin(2 * torch.pi * note * time[:length]) * torch.exp(-8 * time[:length])
        bar[:, start : start + length] += torch.randn(2, length, generator=generator) * torch.exp(-60 * time[:length])
    return 0.3 * bar.repeat(1, SECONDS)


def gliding() -> Tensor:
    """Make a voice that never comes back to where it was: eleven harmonics of a rising, trembling pitch."""
    time = torch.arange(RATE * SECONDS, dtype=torch.float64) / RATE
    phase = 2 * torch.pi * (180 * time + 6 * time**2 + 2 * torch.sin(2 * torch.pi * 0.37 * time))
    return 0.1 * sum((torch.sin(k * phase) / k for k in range(1, 12)), torch.zeros(()))[None].repeat(2, 1).float()


def noise(length: int, channels: int = 2) -> Tensor:
    return torch.randn(channels, length, generator=torch.Generator().manual_seed(length))


def sdr(reference: Tensor, estimate: Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum()))


@pytest.mark.parametrize("seed", [0, 1])
def test_what_does_not_repeat_is_the_voice(seed: int) -> None:
    loop, voice = looped(seed), gliding()
    mix = loop + voice
    background, foreground = repet(mix, RATE)
    assert sdr(voice, foreground) > sdr(voice, mix) + 3
    assert sdr(loop, background) > sdr(loop, mix) + 1.5


def test_a_loop_alone_is_all_background() -> None:
    loop = looped()
    background, foreground = repet(loop, RATE)
    assert sdr(loop, background) > 15
    assert foreground.square().sum() < 0.03 * loop.square().sum()


def test_low_notes_are_background() -> None:
    bass = torch.sin(2 * torch.pi * 60 * torch.arange(4 * RATE) / RATE)[None] * torch.linspace(0, 1, 4 * RATE)
    _, foreground = repet(bass, RATE)
    assert foreground.square().sum() < 1e-3 * bass.square().sum()
    _, foreground = repet(bass, RATE, lowest=10.0)
    assert foreground.square().sum() > 1e-2 * bass.square().sum()


def test_it_is_the_method() -> None:
    mix, similar, apart = noise(16_000), 7, 0.16
    stft = STFT(1024, 256)
    X = stft(mix)
    V, frames, gap = X.abs(), X.shape[2], 5  # frames
    mean = V.mean(0)
    mask = torch.ones_like(V)
    for m in range(frames):
        alike = torch.cosine_similarity(mean[:, m : m + 1], mean, dim=0).tolist()
        peaks = [j for j in range(frames) if alike[j] == max(alike[max(0, j - gap) : j + gap + 1])]
        best = sorted(peaks, key=lambda j: -alike[j])[:similar]
        best = best[: len(best) - 1 + len(best) % 2]
        assert best[0] == m
        mask[..., m] = torch.minimum(V[..., best].median(-1).values, V[..., m]) / V[..., m]
    mask[:, : 1 + 100 * 1024 // RATE] = 1
    expected = stft.inverse(X * mask, mix.shape[1])
    torch.testing.assert_close(repet(mix, RATE, similar=similar, apart=apart)[0], expected)


def test_similar_frames_are_a_period_apart() -> None:
    bar = torch.rand(10, 40, generator=torch.Generator().manual_seed(0))
    index, count = similar_frames(bar.repeat(30, 1), similar=9, apart=3)
    assert index.shape == (300, 9)
    assert (count == 9).all()
    assert ((index - torch.arange(300)[:, None]) % 10 == 0).all()


@pytest.mark.parametrize("stretch", [1, 16])
def test_the_result_does_not_depend_on_the_stretches(stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mix = (looped() + gliding())[:, : 4 * RATE]
    whole, _ = repet(mix, RATE)
    monkeypatch.setattr(stretches, "FRAMES", stretch)
    torch.testing.assert_close(repet(mix, RATE)[0], whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 700, 5000, 30_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_parts_sum_to_the_mixture(length: int, channels: int) -> None:
    mix = noise(length, channels)
    background, foreground = repet(mix, RATE)
    assert background.shape == foreground.shape == mix.shape
    torch.testing.assert_close(background + foreground, mix)


def test_silence_stays_silent_and_does_no_harm() -> None:
    mix = looped()
    mix[:, : 3 * RATE] = 0
    background, foreground = repet(mix, RATE)
    assert background.isfinite().all()
    assert not background[:, : 2 * RATE].any()
    assert not foreground[:, : 2 * RATE].any()
    assert sdr(mix, background) > 10
    background, foreground = repet(torch.zeros(2, 20_000), RATE)
    assert not background.any()
    assert not foreground.any()
