"""The same song, checkpoint and options make the same bytes, however the work is cut up. See docs/design.md."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from separate.separator import ArraySong, Separator
from tests.conftest import Outcome, music

SECONDS = 4.3  # of song: five chunks of the tiny model
STEMS = ("vocals", "drums", "bass", "other")


@pytest.fixture(scope="module")
def long_song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song of some chunks, at another rate than the model's."""
    path = tmp_path_factory.mktemp("songs") / "song.wav"
    soundfile.write(path, music(SECONDS, 48000).T, 48000, "PCM_16")
    return path


def hashes(folder: Path) -> dict[str, str]:
    """Hash the stems of the song called `song`."""
    found = sorted(folder.rglob("song/*.wav"))
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def separated(cli: Callable[..., Outcome], tiny: Path, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Run the command in this process, and hash what it made."""

    def run(*args: object) -> dict[str, str]:
        folder = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        outcome = cli(*args, "-m", tiny, "-o", folder, "--bits", "float", "-q")
        assert outcome.code == 0, outcome.err
        return hashes(folder)

    return run


def test_the_command_writes_the_same_bytes(separated: Callable[..., dict[str, str]], long_song: Path) -> None:
    first = separated(long_song)
    assert tuple(sorted(first)) == tuple(sorted(STEMS))
    assert separated(long_song) == first
    for batch in (1, 3):
        assert separated(long_song, "--batch", batch) == first, f"--batch {batch}"
    some = separated(long_song, "--stems", "bass,vocals")
    assert some == {name: first[name] for name in ("bass", "vocals")}


def test_songs_before_it_change_nothing(
    separated: Callable[..., dict[str, str]], long_song: Path, tmp_path: Path
) -> None:
    other = tmp_path / "another.wav"
    soundfile.write(other, music(2, 44100, 1, seed=3).T, 44100)
    assert separated(other, long_song) == separated(long_song)


def in_a_process(folder: Path, *args: object, threads: int = 1) -> None:
    command = [sys.executable, "-m", "separate", *map(str, args), "-o", str(folder), "--bits", "float", "-q"]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})


def test_other_processes_write_the_same_bytes(
    separated: Callable[..., dict[str, str]], tiny: Path, long_song: Path, tmp_path: Path
) -> None:
    other = tmp_path / "another.wav"
    soundfile.write(other, music(2, 44100, 1, seed=3).T, 44100)
    in_a_process(tmp_path / "jobs", other, long_song, "-m", tiny, "--jobs", 2)
    assert hashes(tmp_path / "jobs") == separated(long_song)


def test_three_threads_change_no_more_than_the_last_bit(tiny: Path, long_song: Path, tmp_path: Path) -> None:
    """Vectors do not divide evenly among them, and what is left over is computed one by one, and rounded otherwise."""
    expected = Separator(tiny).separate(long_song)
    in_a_process(tmp_path, long_song, "-m", tiny, threads=3)
    for path in tmp_path.rglob("song/*.wav"):
        stem, found = expected[path.stem], soundfile.read(path, dtype="float32")[0].T
        assert np.square(found - stem).sum() <= 1e-14 * np.square(stem).sum()


@dataclass
class Blocks:
    """A song that comes in blocks of its own sizes, whatever is asked for."""

    samples: NDArray[np.float32]
    sizes: tuple[int, ...]
    rate: int = 48000
    name: str = "blocks"
    channels: int = 2

    def blocks(self, start: int = 0, stop: int | None = None, size: int = 65536) -> Iterator[NDArray[np.float32]]:
        """Yield the samples from `start` to `stop`, in turn as many as `sizes` say."""
        samples, at, turn = self.samples[:, start:stop], 0, 0
        while at < samples.shape[1]:
            size = self.sizes[turn % len(self.sizes)]
            yield samples[:, at : at + size]
            at, turn = at + size, turn + 1


def test_blocks_change_nothing(tiny: Path) -> None:
    separator, samples = Separator(tiny), music(SECONDS, 48000)
    expected = separator.separate(ArraySong(samples, 48000))
    for sizes in ((10**9,), (1009,), (1, 65536, 77, 5000)):
        found = separator.separate(Blocks(samples, sizes))
        assert all(np.array_equal(found[name], expected[name]) for name in STEMS), sizes
