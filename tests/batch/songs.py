"""Songs and a command for the tests of batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import soundfile

from separate.batch.journal import NAME
from tests.conftest import music


def write_song(path: Path, seconds: float = 0.1, seed: int = 0) -> Path:
    """Write a mono song of 8 kHz, which takes no time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, music(seconds, 8000, 1, seed).T, 8000, "PCM_16")
    return path


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    """Read the events of a kind from a journal, but for lines that were cut off."""
    lines = [line for line in (out / NAME).read_text().splitlines() if line.endswith("}")]
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def files(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder but the journal."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }
