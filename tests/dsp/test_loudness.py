from __future__ import annotations

from math import inf, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separate.dsp.loudness import Loudness, high_pass, k_weighting, loudness, shelf


def tone(seconds: float, level: float, rate: int = 48000, pitch: float = 1000.0) -> Tensor:
    """A sine (time,) whose peak is at `level` dBFS."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return 10 ** (level / 20) * torch.sin(2 * pi * pitch * time)


def steps(*levels: tuple[float, float]) -> Tensor:
    """A stereo tone that changes its level: (seconds, dBFS), ..."""
    return torch.cat([tone(seconds, level) for seconds, level in levels]).repeat(2, 1)


def test_coefficients_are_the_standards() -> None:
    b, a = shelf(48000)
    assert b == pytest.approx((1.53512485958697, -2.69169618940638, 1.19839281085285), abs=1e-13)
    assert a == pytest.approx((1.0, -1.69065929318241, 0.73248077421585), abs=1e-13)
    b, a = high_pass(48000)
    assert b == (1.0, -2.0, 1.0)
    assert a == pytest.approx((1.0, -1.99004745483398, 0.99007225036621), abs=1e-13)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_full_scale_tone_in_one_front_channel(rate: int, channel: int) -> None:
    """The standard: 997 Hz at 0 dBFS in the left, centre or right channel give -3.01."""
    audio = torch.zeros(3, 2 * rate)
    audio[channel] = tone(2, 0, rate, 997)
    assert loudness(audio, rate) == pytest.approx(-3.01, abs=0.005 if rate in (44100, 48000) else 0.1)


# EBU Tech 3341, table 1: what a meter has to say, within 0.1 LU
@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (steps((20, -23)), -23.0),
        (steps((20, -33)), -33.0),
        (steps((10, -36), (60, -23), (10, -36)), -23.0),
        (steps((10, -72), (10, -36), (60, -23), (10, -36), (10, -72)), -23.0),
        (steps((20, -26), (20.1, -20), (20, -26)), -23.0),
        (torch.stack([tone(20, level) for level in (-28, -28, -24, -30, -30)]), -23.0),
    ],
)
def test_ebu_tech_3341(audio: Tensor, expected: float) -> None:
    assert loudness(audio, 48000) == pytest.approx(expected, abs=0.1)


def test_the_subwoofer_does_not_count_and_the_sides_count_more() -> None:
    quiet = tone(2, -23)
    base = torch.stack([quiet, quiet, quiet, torch.zeros_like(quiet), quiet, quiet])
    loud = base.clone()
    loud[3] = tone(2, 0)
    assert loudness(loud, 48000) == loudness(base, 48000)
    front, side = torch.zeros_like(base), torch.zeros_like(base)
    front[0], side[4] = quiet, quiet
    assert loudness(side, 48000) - loudness(front, 48000) == pytest.approx(1.5, abs=1e-6)


def test_weighting_is_the_recursive_filter() -> None:
    noise = torch.randn(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = noise.tolist()
    for b, a in (shelf(44100), high_pass(44100)):
        out: list[float] = []
        for n in range(len(expected)):
            past = sum(b[k] * expected[n - k] - (a[k] * out[n - k] if k else 0) for k in range(3) if n >= k)
            out.append(past)
        expected = out
    size = 65536
    got = torch.fft.irfft(torch.fft.rfft(noise, size) * k_weighting(44100, size), size)[:3000]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 9), rate=st.sampled_from([8000, 11025, 44099]), size=st.integers(1000, 60_000))
def test_any_blocks_give_the_same(seed: int, rate: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    audio = 0.1 * torch.randn(2, 3 * rate + 17, generator=generator) * torch.linspace(0, 1, 3 * rate + 17)
    meter = Loudness(rate, 2)
    for start in range(0, audio.shape[1], size):
        meter.process(audio[:, start : start + size])
        meter.integrated()  # asking changes nothing
    assert meter.integrated() == pytest.approx(loudness(audio, rate), abs=1e-9)


def test_only_whole_blocks_count_of_what_is_longer_than_one() -> None:
    audio = torch.cat([tone(1, -20), tone(0.09, 0)])[None]
    assert loudness(audio, 48000) == pytest.approx(loudness(audio[:, :48000], 48000), abs=1e-6)


def test_silence_and_short_songs() -> None:
    assert loudness(torch.zeros(2, 48000), 48000) == -inf
    assert loudness(torch.zeros(2, 0), 48000) == -inf
    assert loudness(tone(5, -75)[None], 48000) == -inf
    assert loudness(tone(0.2, 0)[None], 48000) == pytest.approx(-3.0, abs=0.2)
