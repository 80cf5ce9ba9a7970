from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from separate.dsp import stretches
from separate.dsp.stft import STFT
from separate.evaluation.oracle import irm, mwf

LENGTH = 30_000
Oracle = Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def band(low: float, high: float, channels: int = 2) -> Tensor:
    """Make noise between two frequencies, in cycles a sample."""
    spectrum = torch.fft.rfft(noise(channels, LENGTH))
    frequencies = torch.fft.rfftfreq(LENGTH)
    filtered: Tensor = torch.fft.irfft(spectrum * ((frequencies > low) & (frequencies < high)), LENGTH)
    return filtered


def overlapping() -> dict[str, Tensor]:
    return {
        "vocals": band(0.01, 0.2) * torch.linspace(0, 1, LENGTH),
        "drums": band(0.1, 0.4) * torch.linspace(1, 0, LENGTH),
        "kazoo": 0.3 * band(0.05, 0.3)[:, torch.randperm(LENGTH, generator=torch.Generator().manual_seed(0))],
    }


def total(stems: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(stems.values())).sum(0)


def sdr(reference: Tensor, estimate: Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum()))


@pytest.mark.parametrize("separate", [irm, mwf])
@pytest.mark.parametrize("channels", [1, 2])
def test_stems_that_share_no_bin_come_back(separate: Oracle, channels: int) -> None:
    stems = {"bass": band(0.01, 0.1, channels), "vocals": band(0.15, 0.25, channels), "other": band(0.3, 0.4, channels)}
    estimates = separate(total(stems), stems)
    assert list(estimates) == list(stems)
    for name, stem in stems.items():
        assert estimates[name].shape == stem.shape
        assert sdr(stem, estimates[name]) > 25


@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_the_ratio_mask_is_the_formula(exponent: float) -> None:
    stems = overlapping()
    stft = STFT()
    powers = {name: stft(stem).abs() ** exponent for name, stem in stems.items()}
    estimates = irm(total(stems), stems, exponent=exponent)
    for name, estimate in estimates.items():
        masked = stft(total(stems)) * powers[name] / total(powers)
        torch.testing.assert_close(estimate, stft.inverse(masked, LENGTH), atol=1e-5, rtol=1e-4)


def test_the_wiener_filter_is_the_formula() -> None:
    stems = overlapping()
    stft = STFT()
    S = torch.stack([stft(stem.double()) for stem in stems.values()]).permute(2, 3, 0, 1)  # bin, frame, source, channel
    X = stft(total(stems).double()).permute(1, 2, 0)  # bin, frame, channel
    v = S.abs().square().mean(-1)  # bin, frame, source
    R = torch.einsum("kmjc,kmjd->kjcd", S, S.conj()) / v.sum(1)[..., None, None]
    images = torch.einsum("kmj,kjcd->kmjcd", v.to(R.dtype), R)
    C = images.sum(2) + 1e-5 * max(1.0, X.abs().max().item() ** 2 / 100) * torch.eye(2)
    expected = torch.einsum("kmjcd,kmd->jckm", images, torch.linalg.solve(C, X))
    estimates = mwf(total(stems), stems)
    for j, (name, estimate) in enumerate(estimates.items()):
        true = stft.inverse(expected[j], LENGTH).float()
        assert (estimate - true).abs().max() < 1e-5, name


def test_the_wiener_filter_hears_where_a_stem_is() -> None:
    left, right = noise(2, LENGTH)
    stems = {"vocals": torch.stack([left, 0.2 * left]), "other": torch.stack([0.3 * right, right])}
    mixture = total(stems)
    assert (
        sdr(stems["vocals"], mwf(mixture, stems)["vocals"]) > sdr(stems["vocals"], irm(mixture, stems)["vocals"]) + 20
    )


@pytest.mark.parametrize("separate", [irm, mwf])
@pytest.mark.parametrize("stretch", [1, 7])
def test_the_result_does_not_depend_on_the_stretches(
    separate: Oracle, stretch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stems = overlapping()
    whole = separate(total(stems), stems)
    monkeypatch.setattr(stretches, "FRAMES", stretch)
    torch.testing.assert_close(separate(total(stems), stems), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("separate", [irm, mwf])
def test_estimates_sum_to_the_mixture(separate: Oracle) -> None:
    stems = overlapping()
    torch.testing.assert_close(total(separate(total(stems), stems)), total(stems), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("separate", [irm, mwf])
@pytest.mark.parametrize("length", [1, 1000, 4096])
def test_silence_and_short_songs(separate: Oracle, length: int) -> None:
    silence = {"vocals": torch.zeros(2, length), "other": torch.zeros(2, length)}
    assert not any(estimate.any() for estimate in separate(total(silence), silence).values())
    stems = {"vocals": noise(2, length), "other": torch.zeros(2, length)}
    estimates = separate(stems["vocals"], stems)
    torch.testing.assert_close(estimates["vocals"], stems["vocals"], atol=1e-3, rtol=1e-3)
    assert not estimates["other"].any()
