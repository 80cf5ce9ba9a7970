"""Small data sets: songs of noise, their stems, and estimates that are nearly right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 8000
STEMS = ("vocals", "drums", "bass", "other")


def stems(
    seed: int, names: Sequence[str] = STEMS, seconds: float = 2.0, rate: int = RATE, channels: int = 2
) -> dict[str, NDArray[np.float32]]:
    """Make stems (channel, time), each of a colour of its own."""
    rng = np.random.default_rng(seed)
    made = {}
    for number, name in enumerate(names):
        noise = rng.standard_normal((channels, round(seconds * rate)))
        smooth = np.apply_along_axis(np.convolve, 1, noise, np.ones(1 + 3 * number) / (1 + 3 * number), "same")
        made[name] = (0.1 * smooth).astype(np.float32)
    return made


def spoilt(true: dict[str, NDArray[np.float32]], leak: float = 0.2) -> dict[str, NDArray[np.float32]]:
    """Make estimates: each stem holds a little of all others."""
    mixture = sum(true.values(), np.float32(0))
    return {name: (samples + leak * (mixture - samples)).astype(np.float32) for name, samples in true.items()}


def write(folder: Path, samples: dict[str, NDArray[np.float32]], rate: int = RATE) -> None:
    """Write stems as files of floats."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, stem in samples.items():
        soundfile.write(folder / f"{name}.wav", stem.T, rate, "FLOAT")


def data_set(folder: Path, tracks: Sequence[str], seconds: float = 2.0) -> Path:
    """Write a data set and, beside it, estimates; all of one channel, for which BSS Eval is fastest."""
    for seed, track in enumerate(tracks):
        true = stems(seed, seconds=seconds, channels=1)
        write(folder / "true" / track, true)
        write(folder / "made" / track, spoilt(true))
    return folder
