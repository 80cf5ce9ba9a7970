from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from separate.errors import InputError, OutputError, UsageError
from separate.training.pool import Part, Pool, add_song, find_songs, open_song, parts
from tests.training.conftest import SOURCES, open_pool

REST = ("bass", "other")
ACCOMPANIED = ("vocals", "accompaniment")


@pytest.mark.parametrize(
    ("files", "sources", "expected"),
    [
        (SOURCES, SOURCES, [((s,), (s,)) for s in SOURCES]),
        ((*SOURCES, "accompaniment"), SOURCES, [((s,), (s,)) for s in SOURCES]),
        (
            ("vocals", "drums", "other"),
            SOURCES,
            [(("vocals",), ("vocals",)), (("drums",), ("drums",)), (("other",), REST)],
        ),
        (ACCOMPANIED, SOURCES, [(("vocals",), ("vocals",)), (("accompaniment",), ("drums", *REST))]),
        (ACCOMPANIED, ACCOMPANIED, [(("vocals",), ("vocals",)), (("accompaniment",), ("accompaniment",))]),
        (SOURCES, ACCOMPANIED, [(("vocals",), ("vocals",)), (("bass", "drums", "other"), ("accompaniment",))]),
        (("vocals",), ACCOMPANIED, [(("vocals",), ("vocals",)), ((), ("accompaniment",))]),
        (("guitar", *SOURCES), SOURCES, [((s,), (s,)) for s in SOURCES[:3]] + [(("other", "guitar"), ("other",))]),
        (
            ("bass", "other"),
            SOURCES,
            [(("bass",), ("bass",)), (("other",), ("other",)), ((), ("vocals",)), ((), ("drums",))],
        ),
    ],
)
def test_what_files_know_of_sources(
    files: tuple[str, ...], sources: tuple[str, ...], expected: list[tuple[tuple[str, ...], tuple[str, ...]]]
) -> None:
    assert set(parts(files, sources)) == {Part(*part) for part in expected}


def test_a_model_has_room_for_all_of_the_song() -> None:
    with pytest.raises(UsageError, match="needs `other` or `accompaniment`"):
        parts(SOURCES, ["vocals"])


def test_songs_come_back_as_they_were(tmp_path: Path) -> None:
    stems = {name: torch.randn(2, 5000) * 0.01 * 2**i for i, name in enumerate(SOURCES)}
    add_song(tmp_path / "songs/a", stems, name="A/b")
    pool = open_pool(tmp_path)
    [song] = pool.songs
    assert (song.name, song.recorded, song.limit, song.length) == ("A/b", True, 22050, 5000)
    for name, stem in stems.items():
        error = pool.read(song, [name], 100, 800, natural=True) - stem[:, 100:900]
        assert float(error.abs().max() / stem.abs().max()) < 1e-3
        levelled = pool.read(song, [name], 0, 5000, natural=False)
        assert float(levelled.square().mean().sqrt()) == pytest.approx(0.1, rel=0.05)
    both = pool.read(song, ["vocals", "other"], 0, 5000, natural=True)
    assert torch.allclose(both, stems["vocals"] + stems["other"], atol=1e-3)
    assert not [path for path in (tmp_path / "songs").iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no other system lists what is open")
def test_stems_leave_no_files_open(tmp_path: Path) -> None:
    """A pool has thousands, and systems let a process have 1024 or 256."""
    for number in range(20):
        add_song(tmp_path / f"songs/{number}", {"vocals": torch.rand(2, 100), "other": torch.rand(2, 100)})
    before = len(os.listdir("/proc/self/fd"))
    pool = open_pool(tmp_path)
    assert all(stem.shape == (2, 100) for song in pool.songs for stem in song.stems.values())
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pool_in_a_folder_that_is_called_by_no_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    add_song(folder / "songs/0", {"vocals": torch.ones(2, 10), "other": torch.rand(2, 10)})
    [song] = open_pool(folder).songs
    assert song.stems["vocals"].float().std() == 0


def test_stems_of_another_kind_are_refused(tmp_path: Path) -> None:
    add_song(tmp_path / "songs/0", {"vocals": torch.ones(2, 10), "other": torch.rand(2, 10)})
    np.save(tmp_path / "songs/0/vocals.npy", np.ones((2, 10)))
    with pytest.raises(InputError, match=r"vocals\.npy: is not \(channel, time\) in float16"):
        open_pool(tmp_path)


def test_whoever_adds_a_song_second_goes_on(tmp_path: Path) -> None:
    for level in (0.1, 0.2):
        add_song(tmp_path / "songs/a", {"vocals": torch.full((2, 100), level)})
    [song] = open_pool(tmp_path).songs
    assert song.levels["vocals"] == pytest.approx(1.0)
    assert [path.name for path in (tmp_path / "songs").iterdir()] == ["a"]
    (tmp_path / "synth").write_text("")
    with pytest.raises(OutputError, match="b: cannot be written: "):
        add_song(tmp_path / "synth/b", {"vocals": torch.ones(2, 100)})


def test_a_song_without_facts_is_a_song(pool: Path) -> None:
    (copy := pool.parent / "plain" / "synth" / "0").mkdir(parents=True)
    for path in (pool / "synth/0").glob("*.npy"):
        (copy / path.name).write_bytes(path.read_bytes())
    assert open_pool(copy.parents[1]).seconds == 2


def test_damaged_songs_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "songs/a"
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="without stems"):
        open_song(folder, True)
    assert find_songs(tmp_path) == []
    np.save(folder / "vocals.npy", np.zeros((2, 100), np.float16))
    np.save(folder / "drums.npy", np.zeros((2, 90), np.float16))
    with pytest.raises(InputError, match="unequal lengths, in samples: drums 90, vocals 100"):
        open_song(folder, True)
    data = (folder / "vocals.npy").read_bytes()
    (folder / "vocals.npy").write_bytes(data[:200])
    with pytest.raises(InputError, match=r"songs/a: a damaged song of the pool; delete it"):
        open_song(folder, True)


@pytest.mark.parametrize(
    "facts",
    [
        '{"rate": "abc"}',
        '{"rate": NaN}',
        '{"rate": Infinity}',
        '{"limit": "x"}',
        '{"limit": NaN}',
        '{"levels": {"vocals": "loud"}}',
        '{"levels": {"vocals": null}}',
        '{"levels": {"vocals": NaN}}',
        "[]",
    ],
)
def test_what_a_song_is_said_to_be_may_be_damaged(tmp_path: Path, facts: str) -> None:
    add_song(tmp_path / "songs/a", {"vocals": torch.randn(2, 100)})
    (tmp_path / "songs/a/song.json").write_text(facts)
    with pytest.raises(InputError, match=r"songs/a: a damaged song of the pool; delete it"):
        open_song(tmp_path / "songs/a", True)


def test_an_empty_stem_is_damaged(tmp_path: Path) -> None:
    add_song(tmp_path / "songs/a", {"vocals": torch.randn(2, 100)})
    (tmp_path / "songs/a/vocals.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"songs/a: a damaged song of the pool; delete it"):
        open_song(tmp_path / "songs/a", True)


@pytest.mark.parametrize("sample", [3e38, 1e25, float("inf"), float("nan")])
def test_samples_beyond_all_measure_are_refused(tmp_path: Path, sample: float) -> None:
    stem = torch.randn(2, 50000)
    stem[0, 7] = sample
    with pytest.raises(InputError, match=r"^A/b: samples of its drums are too large; export it again$"):
        add_song(tmp_path / "songs/a", {"vocals": torch.randn(2, 50000), "drums": stem}, name="A/b")
    assert not list((tmp_path / "songs").iterdir())


def test_pools_that_do_not_fit_are_refused(pool: Path) -> None:
    songs = [open_song(*found) for found in find_songs(pool)]
    with pytest.raises(InputError, match="no songs"):
        Pool([], SOURCES)
    with pytest.raises(InputError, match="44100 Hz for a model of 16000 Hz"):
        Pool(songs, SOURCES, 16000)


def test_recorded_songs_are_drawn_as_often_as_asked(tmp_path: Path) -> None:
    for folder in ("songs/a", "synth/b", "synth/c"):
        add_song(tmp_path / folder, {source: torch.randn(2, 100) for source in SOURCES})
    add_song(tmp_path / "songs/d", {"vocals": torch.randn(2, 100), "accompaniment": torch.randn(2, 100)})
    pool, rng = open_pool(tmp_path), np.random.default_rng(0)
    drawn = [pool.draw(rng, 0.3) for _ in range(2000)]
    assert sum(song.recorded for song in drawn) / 2000 == pytest.approx(0.3, abs=0.04)
    known = {pool.draw(rng, 0.5, ("drums", *REST)).folder.name for _ in range(20)}
    assert known == {"d"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_the_pool_is_on_the_card(pool: Path) -> None:
    songs = [open_song(*found) for found in find_songs(pool)]
    there, here = Pool(songs, SOURCES, device="cuda"), Pool(songs, SOURCES)
    assert there.files
    on_card = there.read(songs[0], ["drums"], 5, 100, False)
    assert on_card.device.type == "cuda"
    assert torch.allclose(on_card.cpu(), here.read(songs[0], ["drums"], 5, 100, False), atol=1e-6)
