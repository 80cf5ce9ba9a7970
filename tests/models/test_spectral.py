"""What surrounds a net of magnitudes: the filters, silence, any length, and stems that sum to the mixture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from separate.dsp.stft import STFT
from separate.models.spectral import separate_magnitudes

FFT = STFT(256, 64)
SHARES = torch.tensor([0.5, 0.3, 0.2]).reshape(1, 3, 1, 1, 1)


def shares(magnitudes: Tensor) -> Tensor:
    """The simplest net: each of three sources claims a fixed share."""
    return magnitudes.unsqueeze(1) * SHARES


def noisy(magnitudes: Tensor) -> Tensor:
    """A net that is wrong everywhere, differently in every source."""
    generator = torch.Generator().manual_seed(7)
    return shares(magnitudes) * torch.rand(shares(magnitudes).shape, generator=generator) * 3


def decibels(error: Tensor, reference: Tensor) -> float:
    return float(20 * torch.log10(error.norm() / reference.norm()))


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("iterations", [0, 1, 2])
def test_stems_sum_to_the_mixture_whatever_the_net_says(channels: int, iterations: int) -> None:
    torch.manual_seed(0)
    mix = torch.randn(2, channels, 5000)
    stems = separate_magnitudes(mix, FFT, noisy, iterations, 0)
    assert stems.shape == (2, 3, channels, 5000)
    assert decibels(stems.sum(1) - mix, mix) < -100


@pytest.mark.parametrize(("iterations", "griffin_lim"), [(0, 0), (1, 0), (0, 3)])
@pytest.mark.parametrize("length", [1, 2, 100, 4410])
def test_any_length_comes_out_as_long_as_it_went_in(length: int, iterations: int, griffin_lim: int) -> None:
    mix = torch.randn(1, 2, length)
    stems = separate_magnitudes(mix, FFT, noisy, iterations, griffin_lim)
    assert stems.shape == (1, 3, 2, length)
    assert stems.isfinite().all()


@pytest.mark.parametrize(("iterations", "griffin_lim"), [(0, 0), (1, 0), (2, 0), (0, 2)])
def test_silence_separates_into_silence(iterations: int, griffin_lim: int) -> None:
    stems = separate_magnitudes(torch.zeros(1, 2, 3000), FFT, noisy, iterations, griffin_lim)
    assert torch.equal(stems, torch.zeros(1, 3, 2, 3000))


@pytest.mark.parametrize(("iterations", "griffin_lim"), [(0, 0), (1, 0), (2, 0), (0, 2)])
def test_a_silent_channel_stays_silent_whatever_the_net_claims(iterations: int, griffin_lim: int) -> None:
    torch.manual_seed(0)
    mix = torch.randn(1, 2, 3000)
    mix[:, 1] = 0
    stems = separate_magnitudes(mix, FFT, lambda magnitudes: noisy(magnitudes + 1), iterations, griffin_lim)
    assert stems[:, :, 0].any()
    assert not stems[:, :, 1].any()


def test_ratio_masks_give_each_source_its_share() -> None:
    mix = torch.randn(2, 2, 5000)
    stems = separate_magnitudes(mix, FFT, shares, 0, 0)
    torch.testing.assert_close(stems, mix.unsqueeze(1) * SHARES[..., 0], rtol=0, atol=1e-5)


def test_griffin_lim_keeps_the_magnitudes_that_the_net_asked_for() -> None:
    mix = torch.randn(1, 1, 5000)
    stems = separate_magnitudes(mix, FFT, shares, 0, 5)
    torch.testing.assert_close(stems, mix.unsqueeze(1) * SHARES[..., 0], rtol=0, atol=1e-4)


def test_songs_of_a_batch_do_not_meet() -> None:
    mix = torch.randn(3, 2, 5000) * torch.tensor([1.0, 30.0, 0.01]).reshape(3, 1, 1)
    together = separate_magnitudes(mix, FFT, shares, 1, 0)
    for song, stems in zip(mix, together, strict=True):
        alone = separate_magnitudes(song[None], FFT, shares, 1, 0)[0]
        assert decibels(stems - alone, alone) < -100


@pytest.mark.parametrize("used", [range(1000, 3000), range(2000), range(1500, 5000), range(2111, 2112), range(5000)])
def test_what_is_used_is_what_it_would_be_of_the_whole(used: range) -> None:
    torch.manual_seed(0)
    mix = torch.randn(2, 2, 5000)
    everything = separate_magnitudes(mix, FFT, noisy, 0, 0)
    stems = separate_magnitudes(mix, FFT, noisy, 0, 0, [used, range(700, 900)])
    for i, part in enumerate([used, range(700, 900)]):
        inside = slice(part.start, part.stop)
        torch.testing.assert_close(stems[i, ..., inside], everything[i, ..., inside], rtol=0, atol=1e-5)
        assert not stems[i, ..., : part.start].any()
        assert not stems[i, ..., part.stop :].any()


def test_the_wiener_filter_measures_what_is_used() -> None:
    """It is that of the part's own frames: of a song whose ends differ, it is not that of the whole."""
    torch.manual_seed(0)
    mix = torch.randn(1, 2, 8000)
    mix[..., :4000, 1] = 0
    used = range(5000, 7000)
    inside = slice(5000, 7000)
    stems = separate_magnitudes(mix, FFT, noisy, 1, 0, [used])
    assert decibels(stems.sum(1)[..., inside] - mix[..., inside], mix[..., inside]) < -100
    assert decibels((stems - separate_magnitudes(mix, FFT, noisy, 1, 0))[..., inside], stems) > -60


def test_griffin_lim_hears_the_whole_chunk() -> None:
    torch.manual_seed(0)
    mix = torch.randn(1, 2, 5000)
    everything = separate_magnitudes(mix, FFT, noisy, 0, 3)
    stems = separate_magnitudes(mix, FFT, noisy, 0, 3, [range(1000, 3000)])
    assert torch.equal(stems, everything)
