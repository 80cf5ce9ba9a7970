import numpy as np
import pytest
import torch

from separate.training.augment import RATE, equalise, level
from separate.training.tone import octaves, toned


def noise(seed: int) -> torch.Tensor:
    return torch.randn(2, 5 * RATE, generator=torch.Generator().manual_seed(seed))


def test_octaves_add_up_and_tell_where_a_tone_is() -> None:
    t = torch.arange(RATE) / RATE
    tones = torch.sin(2 * np.pi * 80 * t) + 0.1 * torch.sin(2 * np.pi * 3000 * t)
    said = octaves(tones[None])
    assert said[1] == pytest.approx(0, abs=0.1)
    assert said[6] == pytest.approx(-20, abs=0.1)
    assert (10 ** (said / 10)).sum() == pytest.approx(1)
    assert np.delete(said, [1, 6]).max() < -60


@pytest.mark.parametrize("stem", ["vocals", "drums", "bass", "other"])
def test_what_was_recorded_otherwise_comes_out_alike(stem: str) -> None:
    """A tilt of more than 10 dB is gone, but for 2, once both are toned."""
    x = toned(toned(noise(0), stem, np.random.default_rng(0)), stem, np.random.default_rng(0))
    tilted = [equalise(x, [60, 8000], [gain, -gain]) for gain in (6, -6)]
    before = np.abs(np.subtract(*map(octaves, tilted)))
    after = np.abs(np.subtract(*(octaves(toned(y, stem, np.random.default_rng(1))) for y in tilted)))
    assert before.max() > 10
    assert after.max() < 2


def test_a_kick_without_a_bottom_gets_one() -> None:
    drums = toned(noise(2), "drums", np.random.default_rng(0))
    thin = equalise(toned(drums, "drums", np.random.default_rng(0)), [100, 160], [-12, 0])
    bottoms = [octaves(toned(thin, "drums", np.random.default_rng(seed)))[:2] for seed in range(20)]
    assert octaves(thin)[:2].max() < -13
    assert np.mean(bottoms, 0) == pytest.approx([-7, -5.3], abs=1.5)
    assert np.std(bottoms, 0).min() > 0.5  # no two songs are the same


def test_silence_stays_silent_and_a_seed_says_it_all() -> None:
    silence = torch.zeros(2, RATE)
    assert torch.equal(toned(silence, "bass", np.random.default_rng(0)), silence)
    x = level(noise(3))
    first, again, other = (toned(x, "bass", np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == x.shape
