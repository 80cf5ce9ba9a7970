"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from separate.training.config import Data, Mixing, Recipe, Schedule
from separate.training.pool import Pool, add_song, find_songs, open_song
from tests.training.corpora import registers, write_corpus, write_song

SOURCES = ("vocals", "drums", "bass", "other")

TINY = Recipe(
    model={
        "n_fft": 512,
        "hop": 128,
        "bands": 32,
        "bins": 200,
        "width": 32,
        "groups": 4,
        "merge": "concat",
        "output": "mask",
    },
    objective={"name": "bands"},
    data=Data(clips=2),
    mixing=Mixing(batch=2, seconds=0.1, together=1, gain=0, equaliser=0, absent=0, varispeed=0),
    schedule=Schedule(
        steps=10, optimiser="muon", rate=5e-3, clip=1, ema=0.9, precision="float32", workers=2, validate=0
    ),
)
"""A net of some thousand weights that learns in seconds."""


def open_pool(folder: Path, sources: tuple[str, ...] = SOURCES) -> Pool:
    """Open a folder as a pool."""
    return Pool([open_song(*found) for found in find_songs(folder)], sources)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that the tests made themselves."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two songs of a second each, their four stems in four registers."""
    folder = tmp_path_factory.mktemp("songs")
    for number in range(2):
        write_song(folder / f"song {number}", registers(1.0, number))
    return folder


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of one such song."""
    folder = tmp_path_factory.mktemp("pool")
    add_song(folder / "synth/0", {name: torch.from_numpy(x).float() for name, x in registers(2.0).items()})
    return folder
