"""How weights of another program become a model of ours, and what helps in finding that out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from separate.checkpoints.foreign import Foreign, Weights
from separate.errors import CheckpointError, UsageError

__all__ = ["Plan", "check_stems", "count", "only", "size"]


@dataclass(frozen=True)
class Plan:
    """How weights become a model of ours."""

    config: dict[str, Any]
    weights: Weights
    theirs: Callable[[str], str]  # our name of a weight -> theirs
    spare: str = r"(?!)"  # the names of those that are expected and not needed
    own: Weights = field(default_factory=dict)  # what they do not have


def size(weights: Weights, name: str, axis: int) -> int:
    """Look up how large a weight is along an axis."""
    if name not in weights:
        raise CheckpointError(f"{name} is missing")
    shape = weights[name].shape
    if axis >= len(shape) or not shape[axis]:
        raise CheckpointError(f"{name} is {tuple(shape)}, which is no shape of that weight")
    return shape[axis]


def count(weights: Weights, name: str) -> int:
    """Count the weights whose whole name is this expression."""
    return sum(re.fullmatch(name, other) is not None for other in weights)


def only(files: Sequence[Foreign]) -> Foreign:
    """Take the one file that a format has."""
    if len(files) != 1:
        raise CheckpointError(f"its weights are in one file, but these are {len(files)}")
    return files[0]


def check_stems(names: Sequence[str], number: int) -> None:
    """Refuse more or fewer names than there are stems."""
    if len(names) != number:
        raise UsageError(
            f"these weights separate {number} stems, not {', '.join(map(str, names))}: name all by --sources"
        )
