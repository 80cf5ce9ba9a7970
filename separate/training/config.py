"""Recipes: everything a training run is told, as TOML."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from separate.errors import UsageError

__all__ = ["Mixing", "Recipe", "Schedule", "read_recipe"]


@dataclass(frozen=True)
class Mixing:
    """How songs are taken apart and put together again."""

    batch: int = 16  # channels of songs: two of each
    frames: int = 128  # of a crop
    turns: int = 3  # batches made of what was drawn; all but the first shuffle the stems
    together: float = 0.8  # share of mixes of a first turn whose stems come from one song, at one place
    songs: float = 0.3  # share of stems drawn from recorded songs; the others are synthetic
    gain: float = 4.0  # dB, standard deviation of a stem's level
    level: float = -3.0  # dB, of the whole mix; at 0 stems have an RMS of 0.1 where they sound
    master: float = 4.0  # dB, standard deviation of that
    equaliser: float = 3.0  # dB, of a stem's random filter
    varispeed: float = 0.3  # odds that a mix's stems are played faster or slower
    absent: float = 0.1  # odds that a stem is missing
    vocals: float = 1.0  # dB that vocals are louder than the others
    swap: float = 0.5  # odds that a stem's channels are swapped
    width: float = 0.3  # odds that a stem is made narrower or wider
    panned: float = 0.3  # odds that a stem is louder on one side
    pan: float = 2.0  # dB, standard deviation of that, either side
    mono: float = 0.05  # odds that a mix has two channels alike


@dataclass(frozen=True)
class Schedule:
    """How fast and how long."""

    minutes: float = 60.0
    rate: float = 1e-3  # learning rate at its highest
    warmup: float = 0.02  # share of the time in which it rises; then it falls to zero on a cosine
    clip: float = 1.0  # norm of the gradient
    ema: float = 0.999  # of the weights that are kept, a step
    save: float = 4.0  # minutes between two saves
    workers: int = 2  # threads, each with a share of the batch
    agreement: float = 0.0  # weight of what the net says of a part of a mix against what it says of the whole
    surroundings: int = 43  # frames by which that part reaches beyond the middle
    agree_every: int = 2  # batches
    precision: str = "bfloat16"  # of the net's arithmetic; the weights are kept in float32
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A model, its data and its schedule."""

    architecture: str = "d2-gru"
    model: dict[str, Any] = field(default_factory=dict)
    mixing: Mixing = Mixing()
    schedule: Schedule = Schedule()


def read_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe; a key that does not exist is refused by name."""
    try:
        data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    parts = {name: _fill(kind, data.pop(name, {}), f"{path}: [{name}]") for name, kind in _PARTS.items()}
    recipe: Recipe = _fill(Recipe, data | parts, f"{path}:")
    return recipe


_PARTS = {"mixing": Mixing, "schedule": Schedule}


def _fill(kind: Any, values: dict[str, Any], where: str) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"{where} unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return kind(**values)
