"""The corpus: folders of recordings with a `manifest.csv` that says what each file is."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from separate.datasets import StemFile, Track, read_track
from separate.dsp.parallel import side_by_side
from separate.errors import InputError

__all__ = ["Clip", "decode", "decode_all", "read_manifest"]

RATE = 44100

T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """A row of a manifest: one file and what sounds in it."""

    path: Path
    stem: str  # vocals, drums, bass, other, or mix for a score of several
    kind: str  # stem, voice-stem, one-shot, phrase, loop, beat, fill, song; sung, speech, singing
    instrument: str
    pitch: int | None  # MIDI, where known
    collection: str  # which source it came from: the files of one belong together
    licensed: str  # "permissive" or "research"
    seconds: float
    rate: int = 0  # Hz, of the recording, which that of its file may exceed; 0: not known


def read_manifest(
    folder: str | os.PathLike[str], stem: str = "", kind: str = "phrase", licensed: str = "permissive"
) -> list[Clip]:
    """Read `folder`/manifest.csv, leaving out what is not licensed as asked.

    Columns that count: path, stem, kind, instrument, pitch_midi, attribution_id, set, seconds, rate. A manifest
    without them lists clips of one `stem` and `kind`, all `licensed` alike.
    """
    table = Path(folder, "manifest.csv")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin it with a mark
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{table}: cannot be read: {error.strerror}") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{table}: is not a table in UTF-8, with commas: {error}") from error
    clips = []
    for line, row in enumerate(rows, 2):
        try:
            pitch = row.get("pitch_midi")
            clip = Clip(
                path=Path(folder, row["path"]),
                stem=row.get("stem") or stem,
                kind=row.get("kind") or kind,
                instrument=row.get("instrument") or "",
                pitch=int(pitch) if pitch else None,
                collection=row.get("attribution_id") or Path(row["path"]).parts[0],
                licensed=row.get("set") or licensed,
                seconds=float(row.get("seconds") or 0),
                rate=int(row.get("rate") or 0),
            )
        except KeyError as error:
            raise InputError(f"{table}, line {line}: lacks {error}") from error
        except (ValueError, TypeError, IndexError) as error:
            raise InputError(f"{table}, line {line}: {error}") from error
        if clip.licensed == licensed:
            clips.append(clip)
    return clips


def decode(path: Path) -> Tensor:
    """Read a recording at 44.1 kHz, with the channels that it has: (channel, time)."""
    return read_track(Track(path.name, {"sound": (StemFile(path),)}), rate=RATE).mixture


def decode_all(clips: Sequence[Clip], use: Callable[[Clip], T], say: Callable[[str], None]) -> list[tuple[Clip, T]]:
    """Decode clips, as many at a time as there are processors, and keep what `use` makes of each.

    One that cannot be decoded is named and left out.
    """

    def attempt(clip: Clip) -> T | None:
        try:
            return use(clip)
        except InputError as error:
            say(f"skipped {error}")
            return None

    used = zip(clips, side_by_side(attempt, clips), strict=True)
    return [(clip, result) for clip, result in used if result is not None]
