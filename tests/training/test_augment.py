from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from separate.training import augment as fx

RATE = 44100


def tone(f: float, seconds: float = 1.0, amplitude: float = 0.5) -> torch.Tensor:
    return amplitude * torch.sin(2 * math.pi * f * torch.arange(int(seconds * RATE)) / RATE)[None]


def db(x: torch.Tensor) -> float:
    return float(10 * torch.log10(x.square().mean() + 1e-20))


def peak_frequency(x: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(x[0] * torch.hann_window(x.shape[1])).abs()
    return float(spectrum.argmax()) * RATE / x.shape[1]


def test_level_counts_only_what_sounds() -> None:
    x = torch.cat([tone(440), torch.zeros(1, 5 * RATE)], 1)
    assert db(fx.level(x)[:, :RATE]) == pytest.approx(-20, abs=0.2)
    assert torch.equal(fx.level(torch.zeros(2, 100)), torch.zeros(2, 100))


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.5])
def test_speed_moves_the_pitch_and_the_length(ratio: float) -> None:
    y = fx.speed(tone(440), ratio)
    assert y.shape[1] == pytest.approx(RATE / ratio, abs=1)
    assert peak_frequency(y) == pytest.approx(440 * ratio, abs=2)


def test_speed_one_changes_nothing() -> None:
    x = torch.randn(2, 1000)
    assert torch.allclose(fx.speed(x, 1.0), x)


@pytest.mark.parametrize("position", [-1.0, -0.3, 0.0, 1.0])
def test_pan_keeps_the_power(position: float) -> None:
    x = tone(440)
    y = fx.pan(x, position)
    assert y.shape[0] == 2
    assert db(y) == pytest.approx(db(x), abs=0.01)
    if abs(position) == 1:
        assert db(y[[int(position < 0)]]) < -100


def test_drive_adds_odd_harmonics_and_keeps_the_peak() -> None:
    x = tone(1000)
    y = fx.drive(x, 10.0)
    spectrum = torch.fft.rfft(y[0]).abs()
    assert spectrum[3000] > 0.1 * spectrum[1000]
    assert spectrum[2000] < 1e-3 * spectrum[1000]
    assert float(y.abs().max()) == pytest.approx(0.5, abs=0.01)


def test_compress_turns_down_what_is_loud_by_the_ratio() -> None:
    loud, soft = tone(440, amplitude=0.8), tone(440, amplitude=0.02)
    assert torch.allclose(fx.compress(soft, -18, 4), soft)
    before = db(loud)
    assert db(fx.compress(loud, -18, 4)) == pytest.approx(-18 + (before + 18) / 4, abs=0.3)


def test_equaliser_goes_through_its_points() -> None:
    frequencies, gains = [100.0, 1000.0, 8000.0], [6.0, -12.0, 0.0]
    for f, gain in zip(frequencies, gains, strict=True):
        x = tone(f)
        assert db(fx.equalise(x, frequencies, gains)) - db(x) == pytest.approx(gain, abs=0.3)


def test_reverb_dies_by_sixty_decibels_in_its_time() -> None:
    x = torch.zeros(1, 3 * RATE)
    x[:, 100] = 1.0
    y = fx.reverb(x, np.random.default_rng(0), seconds=1.0, wet=1.0)
    early, late = y[:, RATE // 10 : RATE // 5], y[:, 6 * RATE // 10 : 7 * RATE // 10]
    assert y.shape == (2, 3 * RATE)
    assert db(early) - db(late) == pytest.approx(30, abs=4)  # half a second apart
    assert db(y[:, 2 * RATE :]) < -100


def test_reverb_is_as_loud_as_asked() -> None:
    x = torch.randn(1, 4 * RATE) * 0.1
    y = fx.reverb(x, np.random.default_rng(0), seconds=0.3, wet=0.25)
    assert db(y - x) - db(x) == pytest.approx(-6, abs=0.3)


def test_echo_repeats() -> None:
    x = torch.zeros(1, RATE)
    x[:, 0] = 1.0
    y = fx.echo(x, delay=0.1, feedback=0.5, wet=0.4)
    assert y[0, [0, 4410, 8820, 13230]].tolist() == pytest.approx([1.0, 0.4, 0.2, 0.1])


def test_chorus_makes_two_different_sides() -> None:
    y = fx.chorus(tone(440), np.random.default_rng(0))
    assert y.shape == (2, RATE)
    assert db(y[:1] - y[1:]) > -30


def test_random_effects_are_repeatable_and_finite() -> None:
    x = torch.randn(2, RATE)
    for effect in (fx.random_equaliser, fx.sometimes_room):
        first, again = (effect(x, np.random.default_rng(7)) for _ in range(2))
        assert torch.equal(first, again)
        assert first.shape == (2, RATE)
        assert bool(first.isfinite().all())
