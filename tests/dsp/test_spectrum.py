"""One frame a hop, and back."""

from __future__ import annotations

import pytest
import torch

from separate.dsp.spectrum import Spectrum


@pytest.mark.parametrize("reflect", [True, False])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 1000])
def test_there_is_one_frame_a_hop_whatever_the_length(length: int, reflect: bool) -> None:
    spectrum = Spectrum(256, reflect)
    parts = spectrum(torch.randn(2, 2, length))
    assert parts.shape == (2, 4, 128, -(-length // 64))
    assert spectrum.inverse(parts.repeat(1, 2, 1, 1), length).shape == (2, 4, length)


def test_a_tone_in_the_middle_comes_back() -> None:
    tone = torch.sin(torch.arange(2000) / 9).expand(1, 2, -1)
    spectrum = Spectrum(256, reflect=True)
    back = spectrum.inverse(spectrum(tone), 2000)
    torch.testing.assert_close(back[..., 256:-256], tone[..., 256:-256], rtol=0, atol=1e-5)


def test_its_frames_are_those_of_torch_at_odd_multiples_of_half_a_hop() -> None:
    song = torch.randn(1, 1, 1024)
    parts = Spectrum(256, reflect=True)(song)
    padded = torch.nn.functional.pad(song, (96, 96), "reflect")
    spec = torch.stft(padded[0], 256, 64, window=torch.hann_window(256), center=False, return_complex=True) / 16
    torch.testing.assert_close(torch.complex(parts[:, 0], parts[:, 1]), spec[:, :-1], rtol=0, atol=1e-5)
