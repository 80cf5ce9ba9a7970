"""Recipes: everything a training run is told, as TOML.

`base = "NAME or FILE"` begins with another recipe, of which only what differs needs to be said.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from separate.errors import UsageError

__all__ = ["Data", "Mixing", "Recipe", "Schedule", "bundled_recipes", "differences", "read_recipe"]

BUNDLED = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Data:
    """What the pool holds. Songs that need no altering are decoded once, copies are altered once."""

    synthetic: int = 0  # songs of 45 s made from the samples and scores of a corpus
    licensed: tuple[str, ...] = ("permissive",)  # which rows of a corpus's manifest count, by their `set`
    held: float = 0.1  # share of the recorded songs that are kept for validation
    clips: int = 16  # of a validation
    copies: int = 0  # of every recorded song, each altered by what follows, with these odds
    pitch: float = 0.5  # higher or lower by up to two semitones, at the same speed
    time: float = 0.5  # slower or faster by up to 12 %, at the same pitch
    formants: float = 0.3  # vocals of a larger or smaller singer
    reverb: float = 0.2  # of a stem
    compress: float = 0.2  # of a stem
    codec: float = 0.2  # MP3 or Opus at a low bit rate, of the whole song


@dataclass(frozen=True)
class Mixing:
    """How songs are taken apart and put together again."""

    batch: int = 8  # mixes, of two channels each
    seconds: float = 3.0  # of a mix
    turns: int = 1  # batches made of what was drawn; all but the first shuffle the stems
    together: float = 0.8  # share of mixes of a first turn whose stems come from one song, at one place
    songs: float = 0.3  # share of stems drawn from recorded songs; the others are synthetic
    natural: bool = False  # stems are as loud as they were recorded; otherwise they have an RMS of 0.1 where they sound
    peak: float = 0.0  # scale every stem to this peak; 0: do not
    scale: tuple[float, float] = (1.0, 1.0)  # a stem's level, drawn evenly
    gain: float = 4.0  # dB, standard deviation of a stem's level
    level: float = -3.0  # dB, of the whole mix
    master: float = 4.0  # dB, standard deviation of that
    equaliser: float = 3.0  # dB, of a stem's random filter
    varispeed: float = 0.3  # odds that a mix's stems are played faster or slower
    absent: float = 0.1  # odds that a stem is missing
    vocals: float = 1.0  # dB that vocals are louder than the others
    sign: float = 0.5  # odds that a stem is turned upside down
    swap: float = 0.5  # odds that a stem's channels are swapped
    width: float = 0.3  # odds that a stem is made narrower or wider
    panned: float = 0.3  # odds that a stem is louder on one side
    pan: float = 2.0  # dB, standard deviation of that, either side
    mono: float = 0.05  # odds that a mix has two channels alike
    clip: float = 0.0  # odds that the whole mix is clipped softly; needs an objective that mixes waveforms


@dataclass(frozen=True)
class Schedule:
    """How fast and how long."""

    minutes: float = 0.0  # when to stop; 0: never
    steps: int = 0  # likewise
    epochs: float = 0.0  # likewise: how often all songs have been heard
    optimiser: str = "adam"  # or "muon", which is Muon for the matrices and Adam for the rest
    rate: float = 1e-3  # learning rate at its highest
    warmup: float = 0.0  # share of the time in which it rises
    cosine: bool = False  # then it falls to zero on a cosine
    decay: float = 1.0  # factor of the learning rate ...
    decay_hours: float = 30.0  # ... after so many hours of audio heard
    clip: float = 0.0  # norm of the gradient; 0: any
    ema: float = 0.0  # how much of the kept weights, a running average, stays at a step
    weight_norm: bool = False  # convolutions learn length and direction of their weights apart
    accumulate: int = 1  # pieces that a batch is computed in, one after the other, where memory is short
    workers: int = 0  # on a CPU: copies of the net in `precision`, each on a thread, with a share of the batch
    precision: str = "bfloat16"  # of the net's products, on devices that have them; weights are float32
    save: float = 4.0  # minutes between two saves
    validate: float = 2.0  # hours of audio between two validations
    patience: int = 0  # stop after so many validations without progress; 0: do not
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """A model, its objective, its data and its schedule."""

    architecture: str = "d2-gru"
    licence: str = "unknown"  # of the weights that come out
    half: bool = False  # they are kept in half precision
    model: dict[str, Any] = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=dict)  # its `name` and its settings: see objectives.py
    data: Data = Data()
    mixing: Mixing = Mixing()
    schedule: Schedule = Schedule()


_PARTS = {"data": Data, "mixing": Mixing, "schedule": Schedule}
_CHOICES = {"optimiser": ("adam", "muon"), "precision": ("bfloat16", "float32")}
# What may change while a run goes on: how long it lasts, and what is kept of it.
_FREE = {"licence", "half", "data.clips"} | {
    f"schedule.{name}" for name in ("minutes", "steps", "epochs", "save", "validate", "patience")
}


def bundled_recipes() -> list[str]:
    """List the names of the recipes that come with the package; those with a `_` are only there to be based on."""
    return sorted(path.stem for path in BUNDLED.glob("[!_]*.toml"))


def read_recipe(recipe: str | os.PathLike[str]) -> Recipe:
    """Read a recipe, by its file or by the name of a bundled one; a key that does not exist is refused by name."""
    data = _read(_find(recipe, Path()), ())
    parts = {name: _fill(kind, data.pop(name, {}), f"{recipe}: [{name}]") for name, kind in _PARTS.items()}
    filled: Recipe = _fill(Recipe, data | parts, f"{recipe}:")
    return filled


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name what differs between two recipes, given as plain data, that one run cannot follow one after the other."""
    was, now = (dict(_flat(recipe)) for recipe in (old, new))
    missing = "nothing"
    return [
        f"{key} was {was.get(key, missing)!r} and is {now.get(key, missing)!r}"
        for key in sorted(was.keys() | now.keys())
        if key not in _FREE and _plain(was.get(key, missing)) != _plain(now.get(key, missing))
    ]


def _find(recipe: str | os.PathLike[str], beside: Path) -> Path:
    text = os.fspath(recipe)
    if text.endswith(".toml") or "/" in text or os.sep in text:
        return beside / text
    if not (BUNDLED / f"{text}.toml").exists():
        raise UsageError(f"no recipe {text!r}: give a .toml file or one of {', '.join(bundled_recipes())}")
    return BUNDLED / f"{text}.toml"


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe and what it is based on."""
    if path.resolve() in above:
        raise UsageError(f"{path}: is, in the end, based on itself")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # the first are those of TOML, of UTF-8 and of endless numbers
        raise UsageError(f"{path}: not TOML: {error}") from error
    base = data.pop("base", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise UsageError(f"{path}: base must name a recipe, got {base!r}")
    merged = _read(_find(base, path.parent), (*above, path.resolve()))
    for key, value in data.items():
        under = merged.get(key)
        merged[key] = under | value if isinstance(value, dict) and isinstance(under, dict) else value
    return merged


def _fill(kind: Any, values: Any, where: str) -> Any:
    """Make the dataclass `kind` of plain data, naming what does not fit."""
    if not isinstance(values, dict):
        raise UsageError(f"{where} is a table, got {values!r}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - set(known)):
        raise UsageError(f"{where} unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in made.items():
        default = {} if known[key].default is dataclasses.MISSING else known[key].default
        allowed = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, allowed) or isinstance(value, bool) != isinstance(default, bool):
            raise UsageError(f"{where} {key} = {values[key]!r} is not of the kind of its default, {default!r}")
        if value not in _CHOICES.get(key, (value,)):
            raise UsageError(f"{where} {key} must be one of {', '.join(_CHOICES[key])}, got {value!r}")
        if isinstance(value, int | float) and value < 0 and key not in ("level", "vocals", "seed"):
            raise UsageError(f"{where} {key} must not be negative, got {value!r}")
    return kind(**made)


def _flat(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", v) for inner, v in value.items())
        else:
            yield key, value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
