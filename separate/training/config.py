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
from typing import Annotated, Any, get_type_hints

from separate.errors import UsageError

__all__ = ["Data", "Mixing", "Recipe", "Schedule", "bundled_recipes", "differences", "read_recipe"]

BUNDLED = Path(__file__).parent / "recipes"

# From what to what a number may be; where it is not said, from zero to a thousand million.
Share = Annotated[float, 0, 1]
Decibels = Annotated[float, -100, 100]
Count = Annotated[int, 1, 10_000]
Copies = Annotated[int, 0, 1000]


@dataclass(frozen=True)
class Data:
    """What the pool holds. Songs that need no altering are decoded once, copies are altered once."""

    synthetic: Annotated[int, 0, 1_000_000] = 0  # songs of 45 s made from the samples and scores of a corpus
    licensed: tuple[str, ...] = ("permissive",)  # which rows of a corpus's manifest count, by their `set`
    held: Share = 0.1  # share of the recorded songs that are kept for validation
    clips: Count = 16  # of a validation
    copies: Copies = 0  # of every recorded song, each altered by what follows, with these odds
    pitch: Share = 0.5  # higher or lower by up to two semitones, at the same speed
    time: Share = 0.5  # slower or faster by up to 12 %, at the same pitch
    formants: Share = 0.3  # vocals of a larger or smaller singer
    reverb: Share = 0.2  # of a stem
    compress: Share = 0.2  # of a stem
    codec: Share = 0.2  # MP3 or Opus at a low bit rate, of the whole song


@dataclass(frozen=True)
class Mixing:
    """How songs are taken apart and put together again."""

    batch: Count = 8  # mixes, of two channels each
    seconds: Annotated[float, 0.1, 3600] = 3.0  # of a mix
    turns: Count = 1  # batches made of what was drawn; all but the first shuffle the stems
    together: Share = 0.8  # share of mixes of a first turn whose stems come from one song, at one place
    songs: Share = 0.3  # share of stems drawn from recorded songs; the others are synthetic
    natural: bool = False  # stems are as loud as they were recorded; otherwise they have an RMS of 0.1 where they sound
    peak: float = 0.0  # scale every stem to this peak; 0: do not; needs an objective that mixes waveforms
    scale: tuple[float, float] = (1.0, 1.0)  # a stem's level, drawn evenly
    gain: float = 4.0  # dB, standard deviation of a stem's level
    level: Decibels = -3.0  # dB, of the whole mix
    master: float = 4.0  # dB, standard deviation of that
    equaliser: float = 3.0  # dB, of a stem's random filter; for the objective "bands"
    varispeed: Share = 0.3  # odds that a mix's stems are played faster or slower
    absent: Share = 0.1  # odds that a stem is missing
    vocals: Decibels = 1.0  # dB that vocals are louder than the others
    sign: Share = 0.5  # odds that a stem is turned upside down
    swap: Share = 0.5  # odds that a stem's channels are swapped
    width: Share = 0.3  # odds that a stem is made narrower or wider
    panned: Share = 0.3  # odds that a stem is louder on one side
    pan: float = 2.0  # dB, standard deviation of that, either side
    mono: Share = 0.05  # odds that a mix has two channels alike
    clip: Share = 0.0  # odds that the whole mix is clipped softly; needs an objective that mixes waveforms


@dataclass(frozen=True)
class Schedule:
    """How fast and how long."""

    minutes: float = 0.0  # when to stop; 0: never
    steps: int = 0  # likewise
    epochs: float = 0.0  # likewise: how often all songs have been heard
    optimiser: str = "adam"  # or "muon", which is Muon for the matrices and Adam for the rest
    rate: float = 1e-3  # learning rate at its highest
    warmup: Share = 0.0  # share of the time in which it rises
    cosine: bool = False  # then it falls to zero on a cosine
    decay: Share = 1.0  # factor of the learning rate ...
    decay_hours: Annotated[float, 0.001, 1e9] = 30.0  # ... after so many hours of audio heard
    clip: float = 0.0  # norm of the gradient; 0: any
    ema: Share = 0.0  # how much of the kept weights, a running average, stays at a step
    weight_norm: bool = False  # convolutions learn length and direction of their weights apart
    accumulate: Count = 1  # pieces that a batch is computed in, one after the other, where memory is short
    workers: Copies = 0  # on a CPU: copies of the net in `precision`, each on a thread, with a share of the batch
    precision: str = "bfloat16"  # of the net's products, on devices that have them; weights are float32
    save: float = 4.0  # minutes between two saves
    validate: float = 2.0  # hours of audio between two validations
    patience: int = 0  # stop after so many validations without progress; 0: do not
    seed: Annotated[int, 0, 2**32 - 1] = 0


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
    hints = get_type_hints(kind, include_extras=True)
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    for key, value in made.items():
        default = {} if known[key].default is dataclasses.MISSING else known[key].default
        least, most = getattr(hints[key], "__metadata__", (0, 1e9))
        if not _alike(value, default):
            raise UsageError(f"{where} {key} = {values[key]!r} is not of the kind of its default, {default!r}")
        if value not in _CHOICES.get(key, (value,)):
            raise UsageError(f"{where} {key} must be one of {', '.join(_CHOICES[key])}, got {value!r}")
        if isinstance(value, int | float) and not least <= value <= most:  # which nan is not either
            raise UsageError(f"{where} {key} must be from {least} to {most:.10g}, got {value!r}")
        if key == "scale" and not (len(value) == 2 and least <= value[0] <= value[1] <= most):
            raise UsageError(f"{where} scale must be two numbers, the second at least the first, got {values[key]!r}")
    return kind(**made)


def _alike(value: Any, default: Any) -> bool:
    """Say whether a value is of its default's kind, where any number will do for a float."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_alike(item, default[0]) for item in value)
    allowed = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, allowed) and isinstance(value, bool) == isinstance(default, bool)


def _flat(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", v) for inner, v in value.items())
        else:
            yield key, value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
