from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from separate.training.config import Mixing
from separate.training.mixing import Mixer, WaveMixer, Waves, prefetched, soft_clipped
from separate.training.pool import Pool, add_song
from tests.training.conftest import SOURCES, open_pool

PLAIN = Mixing(
    batch=2, seconds=0.1, turns=1, together=1, gain=0, level=0, master=0, equaliser=0, varispeed=0, absent=0, vocals=0,
    sign=0, swap=0, width=0, panned=0, mono=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Three songs of noise; the stems of song i are 1, 2, 4 and 8 times as loud as 0.1 · 1.5ⁱ."""
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    for i in range(3):
        stems = {
            source: torch.from_numpy(rng.standard_normal((2, 22050))).float() * 0.1 * 1.5**i * 2**j
            for j, source in enumerate(SOURCES)
        }
        add_song(folder / "songs" / str(i), stems)
    return open_pool(folder)


def mix(pool: Pool, step: int = 0, seed: int = 0, **changes: Any) -> Waves:
    return WaveMixer(Mixer(pool, dataclasses.replace(PLAIN, **changes), seed))(step)


def loudness(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean((-2, -1)).sqrt()


@pytest.mark.parametrize("changes", [{}, {"together": 0, "turns": 3, "sign": 0.5, "gain": 4, "mono": 0.5}])
def test_a_batch_depends_on_seed_and_step_alone(noises: Pool, changes: dict[str, Any]) -> None:
    mixing = dataclasses.replace(PLAIN, **changes)
    one = WaveMixer(Mixer(noises, mixing, 5))
    forwards = [one(step) for step in range(4)]
    for step in (3, 1, 2, 0):
        again = WaveMixer(Mixer(noises, mixing, 5))(step)
        assert torch.equal(again.mixture, forwards[step].mixture)
        assert torch.equal(again.stems, forwards[step].stems)
    assert not torch.equal(forwards[0].stems, forwards[3].stems)
    assert not torch.equal(WaveMixer(Mixer(noises, mixing, 6))(0).stems, forwards[0].stems)


def test_ranks_share_out_the_batch(noises: Pool) -> None:
    mixing = dataclasses.replace(PLAIN, batch=5, gain=4, sign=0.5, panned=0.5, absent=0.2, clip=0.5, together=0)
    whole = WaveMixer(Mixer(noises, mixing, 1))(2)
    for rank in range(2):
        part = WaveMixer(Mixer(noises, mixing, 1, rank, 2))(2)
        assert torch.equal(part.stems, whole.stems[rank::2])


def test_stems_sum_to_the_mixture(noises: Pool) -> None:
    batch = mix(noises, together=0, gain=6, sign=0.5, swap=0.5, width=1, panned=1, varispeed=1, clip=1, batch=6)
    assert batch.stems.shape == (6, 4, 2, 4410)
    assert torch.allclose(batch.stems.sum(1), batch.mixture, atol=1e-5)


def test_stems_are_as_loud_as_recorded_or_alike(noises: Pool) -> None:
    natural, levelled = (mix(noises, natural=natural, batch=8) for natural in (True, False))
    for stems in natural.stems:
        ratios = loudness(stems) / loudness(stems)[0]
        assert torch.allclose(ratios, torch.tensor([1.0, 2, 4, 8]), rtol=0.05)
    assert torch.allclose(loudness(levelled.stems), torch.full((8, 4), 0.1), rtol=0.05)


def test_what_gains_do(noises: Pool) -> None:
    assert torch.allclose(mix(noises, peak=0.4).stems.abs().amax((2, 3)), torch.full((2, 4), 0.4))
    scaled = mix(noises, peak=0.4, scale=(0.6, 1.0), batch=8).stems.abs().amax((2, 3))
    assert 0.24 <= float(scaled.min()) < float(scaled.max()) <= 0.4
    assert float(mix(noises, absent=1).mixture.abs().max()) == 0
    vocals = mix(noises, vocals=6.02).stems
    assert torch.allclose(loudness(vocals[:, 0]) / loudness(vocals[:, 1]), torch.tensor(2.0), rtol=0.05)
    mono = mix(noises, mono=1).mixture
    assert torch.equal(mono[:, 0], mono[:, 1])
    assert torch.equal(mix(noises, sign=1).stems, -mix(noises).stems)
    assert torch.equal(mix(noises, swap=1).stems, mix(noises).stems.flip(2))
    panned = mix(noises, panned=1, pan=6, batch=8).stems.square().mean(3).sqrt()  # (song, source, channel)
    assert float((panned[..., 0] / panned[..., 1]).log2().abs().max()) > 0.5


def test_turns_deal_the_same_stems_out_anew(noises: Pool) -> None:
    first, second = (mix(noises, step, turns=2, batch=6, natural=True) for step in (0, 1))
    for source in range(4):
        before, after = (loudness(batch.stems[:, source]).sort().values for batch in (first, second))
        assert torch.allclose(before, after)
    assert not torch.equal(first.stems, second.stems)


def test_soft_clipping_bounds_the_mix_and_keeps_the_sum() -> None:
    waves = torch.randn(2, 3, 2, 1000)
    mixture = waves.sum(1)
    clipped = soft_clipped(waves, torch.tensor([3.0, 0.0]))
    x = 3 * mixture[0] / mixture[0].abs().max()
    assert torch.allclose(clipped.sum(1)[0] / mixture[0], x.tanh() / x, atol=1e-3)
    assert torch.allclose(clipped[1], waves[1])


def test_songs_of_which_less_is_known(tmp_path: Path) -> None:
    def song(name: str, *stems: str) -> None:
        add_song(tmp_path / "songs" / name, {stem: 0.1 * torch.randn(2, 8000) for stem in stems}, limit=0.0)

    song("all", *SOURCES)
    song("no bass", "vocals", "drums", "other")
    song("two", "vocals", "accompaniment")
    pool = open_pool(tmp_path)
    for together in (0, 1):
        batch = mix(pool, together=together, batch=12, turns=2, step=1)
        seen = set()
        for groups, stems in zip(batch.groups, batch.stems, strict=True):
            # Every source is in one group; what a group holds is filed under one of its sources.
            assert torch.equal(groups.sum(0), torch.ones(4))
            for members in groups:
                assert sum(bool(stems[source].any()) for source in members.nonzero()[:, 0]) <= 1
            seen.add(int((groups.sum(1) > 0).sum()))
        assert seen == {2, 3, 4}


def test_nothing_is_known_above_the_lowest_limit(tmp_path: Path) -> None:
    add_song(tmp_path / "songs/a", {source: torch.randn(2, 8000) for source in SOURCES}, limit=8000)
    assert mix(open_pool(tmp_path)).limit.tolist() == [8000, 8000]
    slower = mix(open_pool(tmp_path), varispeed=1, batch=20).limit
    assert float(slower.max()) == 8000
    assert float(slower.min()) < 7500


def test_the_thread_ends_with_its_iterator(noises: Pool) -> None:
    before = threading.active_count()
    with closing(prefetched(WaveMixer(Mixer(noises, PLAIN, 0)), 3)) as batches:
        assert [next(batches).step for _ in range(3)] == [3, 4, 5]
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_error_in_the_thread_arrives() -> None:
    def broken(step: int) -> int:
        if step == 2:
            raise OSError("the disk is gone")
        return step

    make: Callable[[int], int] = broken
    with closing(prefetched(make, 1)) as batches:
        assert next(batches) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)
