from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from separate.training import augment as fx
from separate.training.config import Data

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


def loudest(x: torch.Tensor) -> float:
    """Find the loudest frequency where a sound does not begin or end."""
    return peak_frequency(x[:, 8192:-8192])


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.25])
def test_stretch_changes_the_time_alone(ratio: float) -> None:
    x = torch.cat([tone(440), tone(660)])
    y = fx.stretch(x, ratio)
    assert y.shape == (2, round(RATE / ratio))
    assert loudest(y[:1]) == pytest.approx(440, abs=3)
    assert loudest(y[1:]) == pytest.approx(660, abs=3)
    assert db(y) == pytest.approx(db(x), abs=1.5)
    if ratio == 1:
        assert db(y - x) < -50


@pytest.mark.parametrize("samples", [1, 88, 511, 512])
def test_the_shortest_sounds_can_be_altered(samples: int) -> None:
    x = 0.1 * torch.randn(2, samples)
    assert bool(fx.stretch(x, 0.9).isfinite().all())
    assert fx.pitch(x, 2.0).shape == x.shape


def test_stretch_keeps_what_the_channels_share() -> None:
    mono = torch.randn(1, RATE).expand(2, -1) * torch.tensor([[1.0], [-0.5]])
    y = fx.stretch(mono, 1.1)
    assert db(y[:1] + 2 * y[1:]) - db(y) < -40


@pytest.mark.parametrize("semitones", [-2.0, 1.5])
def test_pitch_changes_the_pitch_alone(semitones: float) -> None:
    y = fx.pitch(tone(440), semitones)
    assert y.shape == (1, RATE)
    assert loudest(y) == pytest.approx(440 * 2 ** (semitones / 12), abs=3)


@pytest.mark.parametrize("ratio", [0.85, 1.18])
def test_formants_move_and_the_pitch_stays(ratio: float) -> None:
    # A voice at 150 Hz with one formant at 1000 Hz.
    x = sum((tone(150 * k) * math.exp(-(((150 * k - 1000) / 300) ** 2)) for k in range(1, 20)), torch.zeros(1, RATE))
    y = fx.formants(x, ratio)
    before, after = (torch.fft.rfft(z[0] * torch.hann_window(RATE)).abs().square() for z in (x, y))
    f = torch.arange(len(before))
    centre = [float((spectrum * f).sum() / spectrum.sum()) for spectrum in (before, after)]
    assert centre[1] / centre[0] == pytest.approx(ratio, abs=0.08)
    near = (f % 150 < 8) | (f % 150 > 142)  # of the harmonics
    assert float(after[near].sum() / after.sum()) > 0.98


@pytest.mark.parametrize("kind", ["mp3", "opus"])
def test_a_codec_loses_more_at_a_lower_quality(kind: str) -> None:
    noise = 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    x = fx.equalise(noise, [500, 4000, 12000], [0, -20, -60])
    errors = []
    for quality in (0.0, 0.8):
        y = fx.codec(x, kind, quality)
        assert y.shape == x.shape
        errors.append(db((y - x)[:, 4096:-4096]) - db(x))
    assert -45 < errors[1] < errors[0] - 3 < -8  # in time with the original, or else it would be above 0


def test_varied_stems_stay_together() -> None:
    beat = torch.zeros(2, 2 * RATE)
    for i in range(8):
        beat[:, i * RATE // 4 : i * RATE // 4 + 200] = 0.5
    stems = {"vocals": beat * torch.randn(2, 2 * RATE), "drums": beat * torch.randn(2, 2 * RATE)}
    odds = Data(pitch=1, time=1, formants=1, reverb=0, compress=1, codec=1)
    varied, again = (fx.vary(stems, np.random.default_rng(3), odds) for _ in range(2))
    assert len({stem.shape for stem in varied.values()}) == 1
    assert all(torch.equal(varied[name], again[name]) for name in stems)
    envelopes = [stem.square().mean(0).unfold(0, 2000, 2000).mean(1) for stem in varied.values()]
    assert float(torch.corrcoef(torch.stack(envelopes))[0, 1]) > 0.6
    plain = fx.vary(stems, np.random.default_rng(3), Data(pitch=0, time=0, formants=0, reverb=0, compress=0, codec=0))
    assert all(torch.equal(plain[name], stems[name]) for name in stems)
