"""Hits that are computed: they are where a drum's belong, as the seed says, and no two machines sound alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from separate.training.augment import RATE
from separate.training.drum_machine import machine_hits
from separate.training.drums import _ROLES
from separate.training.instruments import Shot

ROLES = sorted({names[0] for names in _ROLES.values()})


def middle(shot: Shot) -> float:
    """Find the frequency, in Hz, that half of the power is below."""
    power = torch.fft.rfft(shot.audio.float()[0]).abs().square().cumsum(0)
    return float((power < power[-1] / 2).sum() * RATE / shot.audio.shape[1])


@pytest.mark.parametrize("role", ROLES)
def test_a_hit_begins_at_once_and_dies_away(role: str) -> None:
    for seed in range(12):
        for shot in machine_hits(role, np.random.default_rng(seed)):
            x = shot.audio.float()
            assert x.shape[0] == 1
            assert bool(x.isfinite().all())
            assert 0.5 < x.abs().amax() <= 1.0
            assert x[0, : RATE // 8].square().sum() > 0.1 * x.square().sum()
            assert x[0, -RATE // 100 :].abs().amax() < 0.1
            assert shot.loudness == pytest.approx(float(x[:, : RATE // 2].square().mean().sqrt()), rel=0.01)


def test_kicks_are_low_and_hats_are_high() -> None:
    for seed in range(20):
        kick, snare, hat = (machine_hits(r, np.random.default_rng(seed))[-1] for r in ("kick", "snare", "hihat-closed"))
        assert 25 < middle(kick) < 300
        assert middle(kick) < middle(snare) < middle(hat)
        assert middle(hat) > 3000


def test_a_seed_is_a_machine() -> None:
    first, again, other = (machine_hits("kick", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a.audio, b.audio) for a, b in zip(first, again, strict=True))
    assert first[0].audio.shape != other[0].audio.shape or not torch.equal(first[0].audio, other[0].audio)


def test_strengths_are_of_one_drum_but_not_the_same() -> None:
    soft, _, hard = machine_hits("snare", np.random.default_rng(3))
    assert soft.audio.shape == hard.audio.shape
    assert not torch.equal(soft.audio, hard.audio)
    assert middle(soft) == pytest.approx(middle(hard), rel=1.0)
