"""The registry: checkpoints.toml as rows, one a model that has a name.

[d2-gru]
architecture = "d2-gru"
source = "bundled:d2-gru.safetensors"       # or "hf:user/repo/file@revision", or "file:PATH" from this file's folder
stems = ["vocals", "drums", "bass", "other"]
sample_rate = 44100
licence = "MIT"                             # an SPDX name, or "unknown"
summary = "what it is for, in one line"

And, where they are known:

sha256 = "9f86d0..."                        # of a file that is here anyway; the hub's are in the lock
megabytes = 84                              # to fetch
sdr = { vocals = 8.9, drums = 10.1 }        # dB; or { mean = 9.0 }
measured = "on what, how, and who says so"  # goes with sdr

A user's own rows come on top of ours: those of checkpoints.toml in the folder of settings, and those of the file that
`--registry` or SEPARATE_REGISTRY names. A name that is there already is replaced.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from separate.audio.fileset import shown
from separate.checkpoints.place import read_place
from separate.errors import CheckpointError, UnknownModel

__all__ = ["BUNDLED", "VARIABLE", "Checkpoint", "find", "read_registry", "registry", "settings_folder"]

BUNDLED = Path(__file__).parent / "bundled"
VARIABLE = "SEPARATE_REGISTRY"

# In a wheel the table lies beside this file; in a checkout at the top, where people edit it.
_PLACES = (Path(__file__).parent / "checkpoints.toml", Path(__file__).parents[2] / "checkpoints.toml")

NAME = re.compile(r"(?!.*\.(safetensors|yaml)$)[^/\\:\s][^/\\:]{0,99}")  # what is no path and no place on the hub

FREE = ("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT")


@dataclass(frozen=True)
class Checkpoint:
    """One row of the registry."""

    name: str
    architecture: str
    source: str  # "bundled:FILE", "file:PATH" or "hf:user/repo/file@revision"
    stems: tuple[str, ...]
    sample_rate: int
    licence: str
    summary: str
    sha256: str = ""
    megabytes: float | None = None
    sdr: dict[str, float] = field(default_factory=dict)  # stem -> dB
    measured: str = ""  # where sdr is from
    folder: Path = BUNDLED.parent  # of the registry that it is in

    @property
    def path(self) -> Path | None:
        """The file of a checkpoint that is on this machine anyway."""
        kind, _, rest = self.source.partition(":")
        return {"bundled": BUNDLED / rest, "file": self.folder / rest}.get(kind)

    @property
    def free(self) -> bool:
        """Whether it may be used for anything, commerce included."""
        return self.licence in FREE

    @property
    def mean_sdr(self) -> float | None:
        """The mean SDR of its stems, where it was measured."""
        single = [value for stem, value in self.sdr.items() if stem in self.stems]
        return self.sdr.get("mean", sum(single) / len(single) if single else None)


def registry() -> dict[str, Checkpoint]:
    """Read the registry that ships with the package, and the user's own: name -> row."""
    ours = next((place for place in _PLACES if place.is_file()), None)
    if ours is None:
        raise CheckpointError("checkpoints.toml is missing from this installation: install the package again")
    own = settings_folder() / "checkpoints.toml"
    named = os.environ.get(VARIABLE)
    places = [ours, *([own] if os.path.isfile(own) else []), *([Path(named)] if named else [])]
    return {name: row for place in places for name, row in _rows(place).items()}


def settings_folder() -> Path:
    """Say where the user's settings are."""
    home = os.path.expanduser("~")  # "~" of a user whom nobody knows: nothing is there
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or home) / "separate"
    if sys.platform == "darwin":
        return Path(home, "Library/Application Support/separate")
    return Path(os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config") / "separate"


def read_registry(path: Path) -> dict[str, Checkpoint]:
    """Read a registry file, naming the row and the key that are wrong."""
    try:
        table = tomllib.loads(path.read_text("utf-8-sig"))  # some editors begin a file with a mark
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a registry of checkpoints: {error}") from error
    return {name: _row(path, name, values) for name, values in table.items()}


_rows = cache(read_registry)


def _row(path: Path, name: str, values: Any) -> Checkpoint:
    if not NAME.fullmatch(name) or not name.isprintable():
        raise CheckpointError(f"{path}: [{shown(name)}]: no model can be called so: a path or a place is")
    known = {entry.name: entry for entry in fields(Checkpoint) if entry.name not in ("name", "folder")}
    needed = {key for key, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING}
    if not isinstance(values, dict) or not needed <= set(values) <= set(known):
        may = ", ".join(key for key in known if key not in needed)
        raise CheckpointError(f"{path}: [{name}] must have the keys {', '.join(sorted(needed))}, and may have {may}")
    for key, value in values.items():
        if wrong := _wrong(key, value):
            raise CheckpointError(f"{path}: [{name}] {key} must be {wrong}, not {value!r}")
    ours = {"stems": tuple(values["stems"]), "sha256": values.get("sha256", "").lower()}
    return Checkpoint(name, **{**values, **ours}, folder=path.parent)


def _wrong(key: str, value: Any) -> str:
    """Say what the value of a key should be, if it is not."""
    return next((called for called, fits in RULES.get(key, TEXT).items() if not fits(value)), "")


def _is_source(text: str) -> bool:
    kind, _, rest = text.partition(":")
    if kind == "hf":
        try:
            return bool(read_place(text))
        except CheckpointError:
            return False
    return kind in ("bundled", "file") and 0 < len(rest) < 4000 and max(map(len, rest.split("/"))) < 256


# What values must be, one after the other, and what is said otherwise.
TEXT: dict[str, Callable[[Any], bool]] = {"text": lambda value: isinstance(value, str)}
RULES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "source": TEXT | {"bundled:FILE, file:PATH or hf:user/repo/file@revision": _is_source},
    "sha256": TEXT | {"64 hexadecimal digits": lambda text: bool(re.fullmatch("([0-9a-fA-F]{64})?", text))},
    "sample_rate": {
        "a whole number": lambda hertz: type(hertz) is int,  # a bool is an int too
        "a number above 0": lambda hertz: hertz > 0,
    },
    "megabytes": {"a number from 0 on": lambda size: type(size) in (int, float) and 0 <= size < 1e9},
    "stems": {
        "a list": lambda stems: isinstance(stems, list),
        "a list of names": lambda stems: bool(stems) and all(isinstance(stem, str) for stem in stems),
    },
    "sdr": {
        "a table": lambda sdr: isinstance(sdr, dict),
        "a table of numbers": lambda sdr: all(type(db) in (int, float) and -1e3 < db < 1e3 for db in sdr.values()),
    },
}


def find(name: str) -> Checkpoint:
    """Look a model up by its name; the nearest names are suggested for one that is not there."""
    rows = registry()
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name.lower(), rows, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(rows)}"
    raise UnknownModel(f"unknown model {name!r}: {hint} (a checkpoint file is given by its path, ./{name})")
