"""A browser for all tests of the page, and folders of stems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from tests.player.browser import Browser

RATE = 44100


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as running:
        yield running


def tone(hertz: float, seconds: float, rate: int = RATE, level: float = 0.2) -> NDArray[np.float32]:
    """Make a tone, (channel, time)."""
    time = np.arange(round(seconds * rate)) / rate
    return np.tile((level * np.sin(2 * np.pi * hertz * time)).astype(np.float32), (2, 1))


def write_stems(folder: Path, stems: Mapping[str, NDArray[np.float32]], rate: int = RATE) -> Path:
    """Write stems as WAV, and their sum as original.wav."""
    folder.mkdir(parents=True, exist_ok=True)
    total = np.sum(list(stems.values()), axis=0)
    for name, samples in {**stems, "original": total}.items():
        soundfile.write(folder / f"{name}.wav", samples.T, rate, "FLOAT")
    return folder
