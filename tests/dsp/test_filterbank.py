"""The filter banks: nothing is lost, bands keep apart, and levels stay what they were."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from separate.dsp.filterbank import ANGLES, FilterBank, filters, prototype
from tests.conftest import music

BANDS = [1, 2, 4, 8]
ERROR = {1: -200, 2: -112, 4: -103, 8: -69}  # dB: of the bank that the paper's authors released
STOP = {2: -80, 4: -60, 8: -43}  # dB


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def decibel(ratio: Tensor | float) -> float:
    return 20 * math.log10(max(float(ratio), 1e-20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["noise", "music", "click at the end"])
@pytest.mark.parametrize("bands", BANDS)
def test_the_song_comes_back(bands: int, kind: str, dtype: torch.dtype) -> None:
    audio = {
        "noise": noise(2, 30001),
        "music": torch.from_numpy(music(1.0, 44100)),
        "click at the end": torch.eye(1, 1000).flip(1),
    }[kind].to(dtype)
    bank = FilterBank(bands)
    back = bank.inverse(bank(audio), audio.shape[-1])
    assert back.dtype == dtype
    error = decibel((back - audio).norm() / audio.norm())
    assert error < min(ERROR[bands], -130)  # that of float32: the bank itself has none


@pytest.mark.parametrize("bands", ANGLES)
def test_the_filters_are_orthonormal_whatever_the_angles(bands: int) -> None:
    designed = torch.tensor(ANGLES[bands], dtype=torch.float64)
    for angles in (designed, torch.rand_like(designed) * 6):
        q = filters(angles)
        for shift in range(0, 64, bands):  # a band against all bands, moved by multiples of K
            products = q[:, shift:] @ q[:, : 64 - shift].T
            torch.testing.assert_close(products, torch.eye(bands).double() * (shift == 0), rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 300), bands=st.sampled_from(BANDS))
def test_any_length_and_any_leading_dimensions(length: int, bands: int) -> None:
    bank = FilterBank(bands)
    audio = noise(2, 3, length)
    subbands = bank(audio)
    assert subbands.shape == (2, 3, bands, bank.samples(length))
    assert bank.samples(length) == math.ceil(length / bands) + (64 // bands - 1 if bands > 1 else 0)
    assert (bank.inverse(subbands, length) - audio).abs().max() < 1e-5
    torch.testing.assert_close(bank(audio[1, 2]), subbands[1, 2])


@pytest.mark.parametrize("bands", ANGLES)
def test_both_directions_are_the_sums_of_the_docstring(bands: int) -> None:
    bank = FilterBank(bands).double()
    f, h, taps = bank.analysis, bank.synthesis, 64
    audio = noise(50, dtype=torch.float64)
    subbands = bank(audio)
    for m in range(subbands.shape[1]):
        for k in range(bands):
            total = sum(
                float(f[k, i] * audio[m * bands + bands - 1 - i])
                for i in range(taps)
                if 0 <= m * bands + bands - 1 - i < 50
            )
            assert float(subbands[k, m]) == pytest.approx(total / bands, abs=1e-12)
    back = bank.inverse(subbands, 50)
    for n in range(50):
        t, p = divmod(n, bands)
        later = subbands[:, t : t + taps // bands].flip(1)  # (band, j)
        assert float(back[n]) == pytest.approx(float(bands * (h[:, p::bands] * later).sum()), abs=1e-12)


@pytest.mark.parametrize("bands", ANGLES)
def test_beyond_its_neighbours_a_band_hears_next_to_nothing(bands: int) -> None:
    response = torch.fft.rfft(FilterBank(bands).analysis.double() / bands, 2 * 64 * 64).abs()  # (band, frequency)
    frequency = torch.linspace(0, bands, response.shape[1])  # in widths of a band
    for k in range(bands):
        inside = (frequency - (k + 0.5)).abs() < 0.1
        outside = (frequency - (k + 0.5)).abs() >= 1.001  # from the middle of the next band on
        assert response[k, inside].min() > 0.95
        # More than the prototype's stop band: its copies at positive and at negative frequencies add up.
        assert decibel(response[k, outside].max()) < STOP[bands] + 3


@pytest.mark.parametrize("bands", ANGLES)
def test_the_prototypes_stop_band(bands: int) -> None:
    power = torch.fft.rfft(prototype(torch.tensor(ANGLES[bands], dtype=torch.float64)), 1 << 15).abs()
    stop = math.ceil((len(power) - 1) / bands)
    assert decibel(power[stop:].max() / power[0]) < STOP[bands]


@pytest.mark.parametrize("bands", ANGLES)
def test_a_tone_is_in_its_band_at_its_level(bands: int) -> None:
    time = torch.arange(20000, dtype=torch.float64)
    for k in range(bands):
        tone = torch.sin(math.pi * (k + 0.5) / bands * time)
        level = FilterBank(bands)(tone)[:, 100:-100].square().mean(1).sqrt() * math.sqrt(2)
        assert float(level[k]) == pytest.approx(1, abs=0.03)
        assert decibel(level[[i for i in range(bands) if i != k]].max()) < (-40 if bands > 2 else -30)


@pytest.mark.parametrize("bands", BANDS)
def test_energy_is_shared_out(bands: int) -> None:
    audio = noise(10000, dtype=torch.float64)
    energy = FilterBank(bands)(audio).square().sum() * bands
    assert float(energy / audio.square().sum()) == pytest.approx(1, abs=1e-6)


def test_half_precision_and_autocast_compute_in_float32() -> None:
    bank, audio = FilterBank(4), noise(2, 500)
    wanted = bank(audio)
    with torch.autocast("cpu", torch.bfloat16):
        subbands = bank(audio)
        back = bank.inverse(subbands, 500)
    assert torch.equal(subbands, wanted)
    assert (back - audio).abs().max() < 1e-5


def test_gradients_flow_both_ways() -> None:
    bank = FilterBank(2).double()
    audio = noise(100, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(bank.inverse(bank(audio), 100).square().sum(), audio)
    torch.testing.assert_close(gradient, 2 * audio.detach(), rtol=0, atol=1e-5)


def test_the_filters_are_in_the_checkpoint() -> None:
    shapes = {name: tuple(value.shape) for name, value in FilterBank(8).state_dict().items()}
    assert shapes == {"analysis": (8, 64), "synthesis": (8, 64)}


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="banks of 1, 2, 4, 8 bands, not 3"):
        FilterBank(3)
    with pytest.raises(ValueError, match="100 samples have 4 subbands of 40 samples, but these are 4 of 25"):
        FilterBank(4).inverse(torch.zeros(4, 25), 100)
