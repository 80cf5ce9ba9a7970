from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from separate.dsp import stretches as module
from separate.dsp.stft import STFT
from separate.dsp.stretches import stretches

HOP = 64


@pytest.mark.parametrize("length", [1, 63, 64, 640, 641, 5000])
def test_every_sample_is_kept_once(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAMES", 10)
    parts = list(stretches(length, HOP))
    assert parts[0].kept.start == 0
    assert parts[-1].kept.stop == length
    assert all(before.kept.stop == after.kept.start for before, after in pairwise(parts))
    assert all(part.heard.start >= 0 and part.heard.stop <= length for part in parts)


@pytest.mark.parametrize("length", [1, 640, 641, 5000])
def test_frames_and_samples_are_those_of_the_whole_song(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAMES", 10)
    stft = STFT(4 * HOP, HOP)
    audio = torch.randn(length, generator=torch.Generator().manual_seed(0))
    whole = stft(audio)
    own, back = [], []
    for part in stretches(length, HOP):
        heard = audio[part.heard]
        spec = stft(heard)
        own.append(spec[:, part.frames])
        within = whole[:, part.first :][:, part.frames]
        torch.testing.assert_close(own[-1], within[:, : own[-1].shape[1]])
        back.append(stft.inverse(spec, len(heard))[part.samples])
    torch.testing.assert_close(torch.cat(own, dim=1), whole)
    torch.testing.assert_close(torch.cat(back), audio)
