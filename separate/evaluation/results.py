"""A folder of results: `test/TRACK.json` for each track, in museval's form, and `summary.json`.

A track's file holds beside its scores with what options and from which files they were made: by that a later run knows
whether it can be kept. museval looks for tracks in a folder called `test`, so all are in it, but for those of a data
set's part called `train`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from separate.audio.fileset import FileSet, output_error, shown
from separate.errors import InputError, OutputExists
from separate.metrics.score import Scores, decode, encode, summarise

__all__ = ["Made", "Results", "kept", "load", "save_summary", "save_track", "summary", "title", "write"]

Made = Mapping[str, Any]
"""Options that decide what comes out, as JSON has them."""

BROKEN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)  # JSON of some other form


@dataclass(frozen=True)
class Results:
    """What a system scored on some tracks."""

    name: str
    tracks: Mapping[str, Scores]
    made: Made = field(default_factory=dict)  # empty: by another program
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # track -> what was odd about it
    failed: Mapping[str, str] = field(default_factory=dict)  # track -> why it has no scores
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


def title(name: str) -> str:
    """Call a track the same whoever scored it: museval leaves the `test/` of a data set out.

    >>> title("test/Song"), title("train/Song"), title("Song")
    ('Song', 'train/Song', 'Song')
    """
    return name.removeprefix("test/")


def track_file(folder: Path, track: str) -> Path:
    """Say where the scores of a track of this title are."""
    return (folder if track.startswith("train/") else folder / "test") / f"{track}.json"


def save_track(folder: Path, track: str, scores: Scores, duration: float, about: Mapping[str, Any]) -> None:
    """Write a track's scores, and under "separate" how they were made: `made`, `files`, `notes`."""
    write(track_file(folder, track), encode(scores, duration, separate=about))


def kept(folder: Path, track: str, made: Made, files: list[list[Any]], force: bool) -> tuple[Scores, list[str]] | None:
    """Read what a track scored in an earlier run with the same options and files, and its notes; None: there is none.

    Raises:
        OutputExists: there are scores made with other options, or by another program, and not `force`.
    """
    path = track_file(folder, track)
    try:
        document = json.loads(path.read_text("utf-8"))
        scores, about = decode(document), document.get("separate", {})
        before, notes = dict(about.get("made", {})), list(map(str, about.get("notes", [])))
    except (OSError, *BROKEN):
        return None
    if force:
        return None
    if before != made:
        names = sorted(name for name in {*before, *made} if before.get(name) != made.get(name))
        what = f"with another {' and '.join(names)}" if before else "by another program"
        raise OutputExists(f"{shown(path)}: was made {what}; choose another --out, or --force to replace it")
    return (scores, notes) if about.get("files") == files else None


def load(folder: Path) -> Results:
    """Read a folder of results, of this program or of museval. If there is a summary, it says which tracks count."""
    facts: dict[str, Any] = {}
    if (folder / "summary.json").is_file():
        names, facts = read_summary(folder / "summary.json")
        paths = {track: track_file(folder, track) for track in names}
    else:
        found = [path for part in ("test", "train") for path in sorted((folder / part).rglob("*.json"))]
        paths = {title(path.relative_to(folder).as_posix().removesuffix(".json")): path for path in found}
    if not paths:
        raise InputError(f"{shown(folder)}: no results in this folder (test/TRACK.json)")
    tracks = {}
    for track, path in paths.items():
        try:
            tracks[track] = decode(read(path))
        except BROKEN as error:
            raise InputError(f"{shown(path)}: holds no scores in museval's form; remove it, or score again") from error
    return Results(folder.name or str(folder), tracks, **facts)


def read_summary(path: Path) -> tuple[list[str], dict[str, Any]]:
    """Read which tracks count, and the facts of Results about them; those that it does not say are empty."""
    about = read(path)
    try:
        return [str(track) for track in about.get("tracks", [])], {
            "made": dict(about.get("made", {})),
            "notes": {track: tuple(map(str, notes)) for track, notes in about.get("notes", {}).items()},
            "failed": {track: str(reason) for track, reason in about.get("failed", {}).items()},
            "command": str(about.get("command", "")),
            "versions": {name: str(version) for name, version in about.get("versions", {}).items()},
        }
    except BROKEN as error:
        raise InputError(f"{shown(path)}: is no summary of results; remove it, or score again") from error


def read(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise InputError(f"{shown(path)}: cannot be read: {reason}") from error
    if not isinstance(document, dict):
        raise InputError(f"{shown(path)}: cannot be read: it is not a JSON object")
    return document


def summary(results: Results) -> dict[str, Any]:
    """Summarise a run in plain data: how it was made, which tracks, and statistics; None is for what has no value."""
    scores = {
        stem: {metric: plain(asdict(facts)) for metric, facts in metrics.items()}
        for stem, metrics in summarise(results.tracks).items()
    }
    return {
        "name": results.name,
        "scores": scores,
        "tracks": list(results.tracks),
        "failed": dict(results.failed),
        "notes": {track: list(notes) for track, notes in results.notes.items() if notes},
        "made": dict(results.made),
        "command": results.command,
        "versions": dict(results.versions),
    }


def plain(value: Any) -> Any:
    """Turn numbers into what every reader of JSON knows."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value if math.isfinite(value) else None


def save_summary(folder: Path, results: Results) -> None:
    """Write the summary of a run."""
    write(folder / "summary.json", json.dumps(summary(results), indent=2))


def write(path: Path, text: str) -> None:
    """Write a file that is there when it is complete; it replaces one that is there."""
    files = FileSet({"text": path}, force=True)
    try:
        files.temporary["text"].write_text(text + "\n", "utf-8", "replace")  # names on disks may be no text
        files.commit()
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        files.remove()
