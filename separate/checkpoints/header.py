"""What a checkpoint says of itself: the metadata that a safetensors file begins with, read without its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separate.errors import CheckpointError
from separate.models import check_stems

__all__ = ["Header", "has_weight", "read_metadata"]

HEADER_LIMIT = 16 * 2**20  # bytes; the largest real headers are under one MiB


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself."""

    architecture: str
    config: dict[str, Any]
    sources: tuple[str, ...]
    sample_rate: int
    licence: str
    training: dict[str, Any]
    parts: tuple[Path, ...]  # the files that its weights are in

    def __post_init__(self) -> None:
        """Refuse names of stems that no checkpoint may have."""
        check_stems(self.sources, self.parts[0])


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file, none if it has none; its values are text."""
    try:
        metadata = _table(path).get("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("text in its metadata")
        return dict(metadata)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of separate, its header is damaged or lacks {error}"
        ) from error


def has_weight(path: Path, name: str) -> bool:
    """Tell whether a safetensors file, whose metadata could be read, has a weight of that name."""
    return name in _table(path)


def _table(path: Path) -> Any:
    """Read the table that a safetensors file begins with."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(HEADER_LIMIT, path.stat().st_size - 8):
            raise CheckpointError(f"{path}: not a safetensors file; give a checkpoint that separate made")
        return json.loads(file.read(size))
