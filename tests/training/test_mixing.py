from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from separate.dsp.stft import STFT
from separate.errors import InputError
from separate.models.layers import Bands
from separate.training.config import Mixing
from separate.training.mixing import Mixer, prefetched
from separate.training.pool import Pool, add_song, main

SOURCES = ("vocals", "drums", "bass", "other")
PLAIN = Mixing(
    batch=4, frames=16, turns=2, gain=0, master=0, equaliser=0, absent=0, vocals=0, varispeed=0, together=1,
    swap=0, width=0, panned=0, mono=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = {s: torch.from_numpy(0.1 * rng.standard_normal((2, 44100)).astype(np.float32)) for s in SOURCES}
        add_song(folder / "synth" / str(i), noise)
    return Pool(folder)


def mixer(pool: Pool, mixing: Mixing, sides: bool = False, seed: int = 0) -> Mixer:
    return Mixer(pool, mixing, SOURCES, STFT(1024, 256), Bands(513, 400, 64), sides, seed)


def test_shapes_and_repeatability(pool: Pool) -> None:
    batches, again = (iter(mixer(pool, PLAIN)) for _ in range(2))
    for _ in range(3):
        batch, same = next(batches), next(again)
        assert batch.mixture.shape == (16, 4, 64)
        assert batch.targets.shape == (16, 4, 4, 64)
        assert torch.equal(batch.mixture, same.mixture)
        assert torch.equal(batch.targets, same.targets)


def test_powers_of_the_stems_add_up_to_that_of_the_mixture(pool: Pool) -> None:
    batch = next(iter(mixer(pool, PLAIN)))
    # Averages of magnitudes of noise grow as the root of the sum of squares.
    total = batch.targets.square().sum(2).sqrt().mean()
    assert float(batch.mixture.mean() / total) == pytest.approx(1, abs=0.1)


def test_a_lone_source_is_the_mixture(pool: Pool) -> None:
    # Whatever its gain and equaliser, what is asked of the net and what it hears then agree.
    wild = dataclasses.replace(PLAIN, gain=6, master=6, equaliser=4, absent=0.75, batch=32)
    batch = next(iter(mixer(pool, wild)))
    sounding = (batch.targets.sum((0, 3)) > 0).sum(1)  # (item)
    alone = sounding == 1
    assert bool(alone.any())
    ratio = batch.targets.sum(2)[:, alone].sum(0) / batch.mixture[:, alone].sum(0)
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=0.05)  # over wide bands the curve is not quite flat
    assert batch.mixture[:, sounding == 0].abs().sum() == 0


def test_shuffling_deals_the_same_stems_out_anew(pool: Pool) -> None:
    batches = iter(mixer(pool, PLAIN))
    first, second = next(batches), next(batches)
    for source in range(4):
        loud, anew = (batch.targets[:, :, source].sum((0, 2)) for batch in (first, second))
        assert torch.allclose(loud.sort().values, anew.sort().values, rtol=0.01)
    assert not torch.equal(first.mixture, second.mixture)


def test_what_is_at_the_sides(pool: Pool) -> None:
    batch = next(iter(mixer(pool, PLAIN, sides=True)))
    assert batch.mixture.shape == (16, 4, 128)
    # Independent channels of noise: half of their power is in what they share, half in what they do not.
    heard, aside = (x.square().mean((0, 2)) for x in (batch.mixture[..., :64], batch.mixture[..., 64:]))
    assert torch.allclose(batch.mixture[:, ::2, 64:], batch.mixture[:, 1::2, 64:])  # the same seen from both channels
    assert torch.allclose(aside / heard, torch.full((4,), 0.5), atol=0.1)
    mono = next(iter(mixer(pool, dataclasses.replace(PLAIN, mono=1), sides=True)))
    assert float(mono.mixture[..., 64:].max()) < 1e-3 * float(mono.mixture[..., :64].mean())


def test_places_between_left_and_right(pool: Pool) -> None:
    panned = next(iter(mixer(pool, dataclasses.replace(PLAIN, panned=1, pan=6, turns=1))))
    left, right = panned.targets[:, ::2].mean((0, 3)), panned.targets[:, 1::2].mean((0, 3))  # (song, source)
    assert float((left / right).log2().abs().max()) > 0.5
    wide = next(iter(mixer(pool, dataclasses.replace(PLAIN, width=1, batch=32), sides=True)))
    shares = wide.mixture[..., 64:].mean((0, 2)) / wide.mixture[..., :64].mean((0, 2))  # of items
    plain = next(iter(mixer(pool, dataclasses.replace(PLAIN, batch=32), sides=True)))
    usual = plain.mixture[..., 64:].mean((0, 2)) / plain.mixture[..., :64].mean((0, 2))
    assert float(shares.std()) > 3 * float(usual.std())  # some narrower, some wider


def test_a_song_without_bass_is_marked(tmp_path: Path) -> None:
    x = 0.1 * torch.randn(2, 44100)
    add_song(tmp_path / "songs" / "a", {"vocals": x, "drums": x, "other": x})
    batch = next(iter(mixer(Pool(tmp_path), PLAIN)))
    assert batch.merged.tolist() == [1, 1, 1, 1]
    assert batch.targets[:, :, SOURCES.index("bass")].sum() == 0


def test_the_thread_ends_with_its_iterator(pool: Pool) -> None:
    with closing(prefetched(mixer(pool, PLAIN))) as batches:
        assert next(batches).mixture.shape == (16, 4, 64)


def test_an_error_in_the_thread_arrives(pool: Pool) -> None:
    class Broken(Mixer):
        def __iter__(self) -> Iterator[object]:  # type: ignore[override]
            raise OSError("the disk is gone")

    broken = Broken(pool, PLAIN, SOURCES, STFT(1024, 256), Bands(513, 400, 64), False, 0)
    with closing(prefetched(broken)) as batches, pytest.raises(OSError, match="the disk is gone"):
        next(batches)


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no songs"):
        Pool(tmp_path)


def test_filling_a_pool_from_a_corpus(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("separate.training.pool.SECONDS", 6.0)
    assert main([str(corpus), str(tmp_path), "--songs", "2", "--first", "7"]) == 0
    found = Pool(tmp_path).songs
    assert [path.name for path in found["songs"]] == ["one"]
    assert [path.name for path in found["synth"]] == ["00007", "00008"]
    for song in found["songs"] + found["synth"]:
        assert {path.stem for path in song.iterdir()} == set(SOURCES)
    made = np.load(found["synth"][0] / "drums.npy")
    assert made.dtype == np.float16
    assert main([str(corpus), str(tmp_path), "--songs", "1", "--first", "7"]) == 0  # nothing left to do
    assert main([str(tmp_path), str(tmp_path)]) == InputError.exit_code
