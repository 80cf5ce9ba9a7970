"""A target of fuzzing: valid small files of one kind, which get damaged, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutations import VALUES

__all__ = ["Seed", "Seeds", "Target"]


@dataclass(frozen=True)
class Seed:
    """A valid file: the part of it that is damaged, and what makes the file of that, checksums and lengths right."""

    body: bytes
    wrap: Callable[[bytes], bytes] = bytes


Seeds = dict[str, Seed]  # by the file's name


@dataclass(frozen=True)
class Target:
    """Files of one kind, and what reads them."""

    seeds: Callable[[], Seeds]
    read: Callable[[Path], object]
    tokens: tuple[bytes, ...] = VALUES  # what is put in beside random bytes
