"""The registry: checkpoints.toml as rows, one a model that has a name.

[d2-gru]
architecture = "d2-gru"
source = "bundled:d2-gru.safetensors"       # or "hf:user/repo/file@revision"
stems = ["vocals", "drums", "bass", "other"]
sample_rate = 44100
licence = "MIT"
summary = "what it is for, in one line"
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from separate.errors import CheckpointError, UnknownModel

__all__ = ["BUNDLED", "Checkpoint", "find", "read_registry", "registry"]

BUNDLED = Path(__file__).parent / "bundled"

# In a wheel the table lies beside this file; in a checkout at the top, where people edit it.
_PLACES = (Path(__file__).parent / "checkpoints.toml", Path(__file__).parents[2] / "checkpoints.toml")


@dataclass(frozen=True)
class Checkpoint:
    """One row of the registry."""

    name: str
    architecture: str
    source: str  # "bundled:FILE" or "hf:user/repo/file@revision"
    stems: tuple[str, ...]
    sample_rate: int
    licence: str
    summary: str

    @property
    def path(self) -> Path | None:
        """The file of a bundled checkpoint."""
        kind, _, rest = self.source.partition(":")
        return BUNDLED / rest if kind == "bundled" else None


@cache
def registry() -> dict[str, Checkpoint]:
    """Read the registry that ships with the package: name -> row."""
    for place in _PLACES:
        if place.is_file():
            return read_registry(place)
    raise CheckpointError("checkpoints.toml is missing from this installation: install the package again")


def read_registry(path: Path) -> dict[str, Checkpoint]:
    """Read a registry file, naming the row and the key that are wrong."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a registry of checkpoints: {error}") from error
    return {name: _row(path, name, values) for name, values in table.items()}


def _row(path: Path, name: str, values: Any) -> Checkpoint:
    wanted = {field.name for field in fields(Checkpoint)} - {"name"}
    if not isinstance(values, dict) or set(values) != wanted:
        raise CheckpointError(f"{path}: [{name}] must have exactly the keys {', '.join(sorted(wanted))}")
    kinds: dict[str, type] = dict.fromkeys(wanted, str) | {"stems": list, "sample_rate": int}
    for key, value in values.items():
        if not isinstance(value, kinds[key]):
            raise CheckpointError(f"{path}: [{name}] {key} must be a {kinds[key].__name__}, not {value!r}")
    return Checkpoint(name, **{**values, "stems": tuple(values["stems"])})


def find(name: str) -> Checkpoint:
    """Look a model up by its name; the nearest names are suggested for one that is not there."""
    rows = registry()
    if name in rows:
        return rows[name]
    near = difflib.get_close_matches(name.lower(), rows, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(rows)}"
    raise UnknownModel(f"unknown model {name!r}: {hint} (a checkpoint file is given by its path, ./{name})")
